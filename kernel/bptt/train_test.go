package bptt

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt/internal/simd"
)

// reference is the model that speeds are quoted for: 14 sensors, 30 steps.
var reference = graph(14, lstmLayer(128), denseLayer(1, kernel.Linear))

// eachTier runs test for every tier of this build and in plain Go.
func eachTier(t *testing.T, test func(t *testing.T)) {
	for _, tier := range append(simd.Tiers, simd.Tier{Name: "generic"}) {
		t.Run(tier.Name, func(t *testing.T) {
			restore, ok := simd.Only(tier.Name)
			defer restore()
			if !ok && tier.Used != nil {
				t.Skip("this CPU lacks it")
			}
			test(t)
		})
	}
}

func TestBatchAllocatesNothing(t *testing.T) {
	g := graph(14, seqLayer(128), gruSeqLayer(24), lstmLayer(40), denseLayer(1, kernel.Linear))
	src := randomWindows(g, MSE, 40, 5, 1)
	eachTier(t, func(t *testing.T) {
		e := start(t, Config{ClipNorm: 1}, mustInit(g), src)
		order := ascending(make([]int, 40))
		for _, n := range []int{32, 7} {
			if got := testing.AllocsPerRun(3, func() { e.train(src, order[:n]) }); got != 0 {
				t.Errorf("a batch of %d allocates %v times, want 0", n, got)
			}
		}
	})
}

func TestNoUpdateAllocates(t *testing.T) {
	g := graph(3, lstmLayer(50), denseLayer(1, kernel.Linear)) // two ranges of parameters
	var src Source = weighted{randomWindows(g, MSE, 8, 3, 1), []float32{1, 1, 1, 2, 1, 1, 0, 1}}
	order := ascending(make([]int, 8))
	for _, cfg := range updating {
		e := start(t, cfg, mustInit(g), src)
		if got := testing.AllocsPerRun(3, func() { e.train(src, order) }); got != 0 {
			t.Errorf("a batch with %s and %s allocates %v times, want 0", cfg.Optimizer, cfg.Schedule.Kind, got)
		}
	}
}

// plain is another implementation to gonum's eyes, so it is given whole products.
type plain struct{ gonum.Implementation }

// Whole products run in gonum's goroutines where they are large; the bits must
// be those of the tiles.
func TestProductsAreTheSameWholeAndInTiles(t *testing.T) {
	restore, _ := simd.Only("") // the other tiers do not use blas32
	defer restore()
	g := graph(14, seqLayer(130), lstmLayer(70), denseLayer(3, kernel.Linear))
	src := randomWindows(g, MSE, 32, 9, 1)
	run := func() []float32 {
		e := start(t, Config{Shards: 2}, mustInit(g), src)
		for range 3 {
			e.train(src, ascending(make([]int, 32)))
		}
		return e.w.flat
	}
	tiles := run()
	blas32.Use(plain{})
	defer blas32.Use(gonum.Implementation{})
	for k, v := range run() {
		if math.Float32bits(v) != math.Float32bits(tiles[k]) {
			t.Fatalf("weight %d = %v whole, %v in tiles", k, v, tiles[k])
		}
	}
}

func TestSquashIsTanhAndSigmoid(t *testing.T) {
	for x := -20.0; x <= 20; x += 1.0 / 128 {
		v := []float32{float32(x)}
		if tanh(v); math.Abs(float64(v[0])-math.Tanh(x)) > 5e-7 {
			t.Fatalf("tanh(%v) = %v, want %v", x, v[0], math.Tanh(x))
		}
		v[0] = float32(x)
		if sigmoid(v); math.Abs(float64(v[0])-1/(1+math.Exp(-x))) > 5e-7 {
			t.Fatalf("sigmoid(%v) = %v", x, v[0])
		}
	}
	v := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}
	if tanh(v); !math.IsNaN(float64(v[0])) || math.Abs(float64(v[1])-1) > 5e-7 || math.Abs(float64(v[2])+1) > 5e-7 {
		t.Errorf("tanh(NaN, ∞, −∞) = %v, want NaN, 1, −1", v)
	}
}

// An epoch of the FD001 training set is 17,631 windows.
func BenchmarkReferenceModel(b *testing.B) {
	src := randomWindows(reference, MSE, 256, 30, 1)
	e := start(b, Config{}, mustInit(reference), src)
	order := ascending(make([]int, 256))
	n := 0
	for b.Loop() {
		lo := n * 32 % 256
		e.train(src, order[lo:lo+32])
		n++
	}
	rate := float64(32*n) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "samples/s")
	b.ReportMetric(17631/rate, "s/epoch")
}

func BenchmarkEvaluate(b *testing.B) {
	src := randomWindows(reference, MSE, 256, 30, 1)
	w := mustInit(reference)
	for b.Loop() {
		if _, err := Evaluate(w, src); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(256*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}
