package bptt

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt/gemm"
)

// BenchmarkReferenceEpoch trains the model that DESIGN §4 compares: LSTM(128)
// and Dense(1) on 4,000 windows of 50×8 in batches of 32. An FMA loop, a batch
// on one core and a batch on two take turns, so that what else the machine does
// meets all three; the figures are of medians.
func BenchmarkReferenceEpoch(b *testing.B) {
	const windows, steps, features, units, batch = 4000, 50, 8, 128, 32
	g := graph(features, lstmLayer(units), denseLayer(1, kernel.Linear))
	src := randomWindows(g, MSE, windows, steps, 1)
	engineOn := func(cores int) *engine {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		return start(b, Config{}, mustInit(g), src)
	}
	one, two := engineOn(1), engineOn(2)
	order := ascending(make([]int, windows))
	var operations float64
	loop := func() { operations = gemm.FMALoop(1 << 15) }
	lo := 0
	train := func(e *engine) func() { return func() { e.train(src, order[lo:lo+batch]) } }
	tasks := []func(){loop, train(one), train(two)}
	took := make([][]float64, len(tasks))
	for b.Loop() {
		for k, task := range tasks {
			start := time.Now()
			task()
			took[k] = append(took[k], time.Since(start).Seconds())
		}
		lo = (lo + batch) % windows
	}
	median := func(k int) float64 {
		slices.Sort(took[k])
		return took[k][len(took[k])/2]
	}
	// Of matrix products alone.
	const flop = batch * steps * 2 * (3*units + 2*features) * gates * units
	b.ReportMetric(batch/median(2), "samples/s")
	b.ReportMetric(median(1)*windows/batch, "s/epoch-1core")
	b.ReportMetric(median(2)*windows/batch, "s/epoch-2cores")
	b.ReportMetric(median(1)/median(2), "speedup")
	b.ReportMetric(flop/median(1)/1e9, "GFLOP/s-1core")
	b.ReportMetric(100*flop/median(1)*median(0)/operations, "%-of-FMA-loop")
	b.ReportMetric(took[1][0]*windows/batch, "best-s/epoch-1core")
	b.ReportMetric(took[2][0]*windows/batch, "best-s/epoch-2cores")
}

// BenchmarkGRUEpoch trains the reference model and one with a GRU in place of
// its LSTM, turn by turn.
func BenchmarkGRUEpoch(b *testing.B) {
	const windows, steps, features, units, batch = 4000, 50, 8, 128, 32
	lstm, gru := graph(features, lstmLayer(units), denseLayer(1, kernel.Linear)), graph(features, gruLayer(units), denseLayer(1, kernel.Linear))
	src := randomWindows(lstm, MSE, windows, steps, 1)
	engines := []*engine{start(b, Config{}, mustInit(lstm), src), start(b, Config{}, mustInit(gru), src)}
	order := ascending(make([]int, windows))
	took := make([][]float64, len(engines))
	lo := 0
	for b.Loop() {
		for k, e := range engines {
			start := time.Now()
			e.train(src, order[lo:lo+batch])
			took[k] = append(took[k], time.Since(start).Seconds())
		}
		lo = (lo + batch) % windows
	}
	for k, kind := range []string{"lstm", "gru"} {
		slices.Sort(took[k])
		b.ReportMetric(took[k][len(took[k])/2]*windows/batch, "s/epoch-"+kind)
		b.ReportMetric(took[k][0]*windows/batch, "best-s/epoch-"+kind)
	}
}

// BenchmarkUpdate updates the 70,273 parameters of the reference model on one
// core.
func BenchmarkUpdate(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"adam", Config{}},
		{"adamw", Config{Optimizer: AdamW}},
		{"sgd", Config{Optimizer: SGD}},
		{"nesterov", Config{Optimizer: SGD, Momentum: 0.9, Nesterov: true}},
		{"rmsprop", Config{Optimizer: RMSprop}},
		{"centered", Config{Optimizer: RMSprop, Centered: true, Momentum: 0.9}},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg, err := c.cfg.withDefaults(graph(8, lstmLayer(128), denseLayer(1, kernel.Linear)))
			if err != nil {
				b.Fatal(err)
			}
			const size = 4*128*(8+128+1) + 129
			o, p, g := newOptimizer(cfg, size), make([]float32, size), make([]float32, size)
			for k := range g {
				g[k] = float32(k%7) - 3
			}
			for b.Loop() {
				o.begin()
				for lo := 0; lo < size; lo += rangeSize {
					o.update(span{lo, min(lo+rangeSize, size)}, p, g)
				}
			}
		})
	}
}
