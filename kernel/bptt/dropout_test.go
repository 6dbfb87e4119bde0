package bptt

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// dropMask is the mask that a run with the seed has for one step of a window.
func dropMask(seed uint64, layer int, rate float64, units, update, window, step int) []float32 {
	mask := make([]float32, units)
	newDropout(seed, layer, rate, nil, 1, units).draw(mask, update, window, step)
	return mask
}

func TestDropoutGradientsMatchCentralDifferences(t *testing.T) {
	const steps, seed = 4, 77
	g := graph(2, seqLayer(5), gruSeqLayer(4), gruLayer(6), denseLayer(5, kernel.Sigmoid), denseLayer(2, kernel.Linear))
	rates := []float64{0.4, 0.3, 0.5, 0.25}
	w := stirred(t, g, 5)
	src := randomWindows(g, MSE, 7, steps, 9)
	indices := []int{6, 0, 3, 1, 5}
	// The loss of the second update, with the masks that it has.
	loss := func(p params64) float64 {
		var sum float64
		for i, index := range indices {
			drop := func(layer int, rows [][]float64) {
				for t, row := range rows {
					if layer == len(rates) {
						return
					}
					for k, m := range dropMask(seed, layer, rates[layer], len(row), 1, i, t) {
						row[k] *= float64(m)
					}
				}
			}
			for k, y := range referenceFrom(g, p, zeroStates(g), src.x[index*steps*2:(index+1)*steps*2], drop)[0] {
				d := y - float64(src.y[2*index+k])
				sum += d * d / float64(2*len(indices))
			}
		}
		return sum
	}
	const delta = 1e-5
	p, want := toParams64(w), toParams64(w)
	wantLoss := loss(p)
	for i := range p {
		for tensor := range p[i] {
			for k, v := range p[i][tensor] {
				p[i][tensor][k] = v + delta
				up := loss(p)
				p[i][tensor][k] = v - delta
				want[i][tensor][k] = (up - loss(p)) / (2 * delta)
				p[i][tensor][k] = v
			}
		}
	}
	eachTier(t, func(t *testing.T) {
		for _, shards := range []int{1, 3} {
			e := start(t, Config{Shards: shards, BatchSize: 7, Seed: seed, Dropout: rates}, w, src)
			e.train(src, ascending(make([]int, 7)))
			load(e.w.flat, e.layers, w)
			if mean := e.train(src, indices); math.Abs(mean-wantLoss) > 1e-6*(1+wantLoss) {
				t.Errorf("%d shards: loss = %v, want %v", shards, mean, wantLoss)
			}
			for i, l := range e.layers {
				for k, s := range l.each() {
					compareGradient(t, fmt.Sprintf("layer %d tensor %d", i, k), s.of(e.gradient()), want[i][k])
				}
			}
		}
	})
}

func TestDropoutDropsTheFractionAndKeepsTheMean(t *testing.T) {
	const n = 100000
	for _, rate := range []float64{0.1, 0.5, 0.9} {
		var dropped float64
		for _, m := range dropMask(1, 0, rate, n, 0, 0, 0) {
			switch m {
			case 0:
				dropped++
			case float32(1 / (1 - rate)):
			default:
				t.Fatalf("rate %v: a value is multiplied by %v", rate, m)
			}
		}
		if limit := 5 * math.Sqrt(rate*(1-rate)/n); math.Abs(dropped/n-rate) > limit {
			t.Errorf("rate %v: dropped %v, want within %v", rate, dropped/n, limit)
		}
	}
}

// Masks that share a counter would drop the same units twice.
func TestDropoutDrawsDifferByEveryCounter(t *testing.T) {
	masks := map[string]bool{}
	n := 0
	for seed := range uint64(3) {
		for layer := range 3 {
			for update := range 3 {
				for window := range 3 {
					for step := range 3 {
						masks[fmt.Sprint(dropMask(seed, layer, 0.5, 64, update, window, step))] = true
						n++
					}
				}
			}
		}
	}
	if len(masks) != n {
		t.Errorf("%d different masks of %d", len(masks), n)
	}
}

func TestDropoutIsOffInEvaluation(t *testing.T) {
	g := graph(2, seqLayer(5), lstmLayer(4), denseLayer(2, kernel.Linear))
	src := randomWindows(g, MSE, 9, 4, 3)
	w := mustInit(g)
	want, err := Evaluate(w, src)
	if err != nil {
		t.Fatal(err)
	}
	epochs, err := Fit(t.Context(), w, src, src, Config{Epochs: 1, LearningRate: 1e-12, Dropout: []float64{0.5, 0.5}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := epochs[0]; math.Abs(e.ValLoss-want) > 1e-6*want || math.Abs(e.Loss-want) < 1e-3*want {
		t.Errorf("loss %v, validation loss %v; want the latter to be %v and the first not", e.Loss, e.ValLoss, want)
	}
}

func TestDropoutIsTheSameOnOneAndTwoCores(t *testing.T) {
	g := graph(3, gruSeqLayer(9), lstmLayer(7), denseLayer(2, kernel.Linear))
	train := randomWindows(g, MSE, 45, 5, 1)
	eachTier(t, func(t *testing.T) {
		run := func(cores int) *kernel.Weights {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			w, _ := fitted(t, g, train, nil, Config{Epochs: 2, BatchSize: 16, Seed: 4, Dropout: []float64{0.5, 0.2}})
			return w
		}
		if diff := cmp.Diff(run(1), run(2)); diff != "" {
			t.Errorf("weights on two cores differ: %.300s", diff)
		}
	})
}

func TestDropoutRefusesRatesThatCannotBe(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(3, kernel.ReLU), denseLayer(1, kernel.Linear))
	for _, c := range []struct {
		rates []float64
		want  string
	}{
		{[]float64{0.1}, "dropout has 1 rates, want 2"},
		{[]float64{0.1, 0.1, 0.1}, "dropout has 3 rates, want 2"},
		{[]float64{0.1, 1}, "dropout 1 after layer 1"},
		{[]float64{-0.1, 0}, "dropout -0.1 after layer 0"},
		{[]float64{math.NaN(), 0}, "dropout NaN after layer 0"},
	} {
		_, err := Fit(t.Context(), mustInit(g), sized{8, 4}, nil, Config{Dropout: slices.Clone(c.rates)}, nil)
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("dropout %v: %v, want ErrConfig with %q", c.rates, err, c.want)
		}
	}
}
