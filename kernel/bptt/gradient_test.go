package bptt

import (
	"fmt"
	"math"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

func lstmLayer(units int) kernel.Layer { return kernel.Layer{Kind: kernel.LSTM, Units: units} }
func seqLayer(units int) kernel.Layer {
	return kernel.Layer{Kind: kernel.LSTM, Units: units, Sequences: true}
}
func denseLayer(units int, a kernel.Activation) kernel.Layer {
	return kernel.Layer{Kind: kernel.Dense, Units: units, Activation: a}
}
func graph(features int, layers ...kernel.Layer) kernel.Graph {
	return kernel.Graph{Features: features, Layers: layers}
}

// stirred returns Init's weights with biases that are neither 0 nor 1, so that
// no error in them hides.
func stirred(t testing.TB, g kernel.Graph, seed uint64) *kernel.Weights {
	t.Helper()
	w, err := Init(g, seed)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range w.Layers {
		for k := range l.Bias {
			l.Bias[k] += 0.3 * float32(math.Sin(float64(7*i+3*k+1)))
		}
	}
	return w
}

// start makes an engine that ends with the test.
func start(t testing.TB, cfg Config, w *kernel.Weights, src Source) *engine {
	t.Helper()
	cfg, err := cfg.withDefaults(w.Graph)
	if err != nil {
		t.Fatal(err)
	}
	e, err := startEngine(cfg, w, src.Steps(), src.Len())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.pool.stop)
	return e
}

func TestGradientsMatchCentralDifferences(t *testing.T) {
	for _, c := range []struct {
		name  string
		g     kernel.Graph
		loss  string
		steps int
	}{
		{"lstm last state", graph(3, lstmLayer(5)), MSE, 6},
		{"lstm one unit one feature", graph(1, lstmLayer(1), denseLayer(1, kernel.Linear)), MSE, 4},
		{"lstm one step", graph(3, lstmLayer(4), denseLayer(2, kernel.Linear)), MSE, 1},
		{"lstm sequences", graph(2, seqLayer(4)), MSE, 5},
		{"dense linear", graph(3, lstmLayer(6), denseLayer(2, kernel.Linear)), MSE, 7},
		{"lstm over one register", graph(2, seqLayer(3), lstmLayer(17)), MSE, 2},
		{"dense relu", graph(3, lstmLayer(6), denseLayer(5, kernel.ReLU), denseLayer(1, kernel.Linear)), MSE, 5},
		{"dense sigmoid", graph(3, lstmLayer(4), denseLayer(3, kernel.Sigmoid)), MSE, 5},
		{"dense softmax", graph(3, lstmLayer(4), denseLayer(3, kernel.Softmax)), MSE, 5},
		{"dense stack", graph(2, lstmLayer(4), denseLayer(4, kernel.Softmax), denseLayer(3, kernel.Sigmoid), denseLayer(2, kernel.Linear)), MSE, 4},
		{"dense on sequences", graph(2, seqLayer(4), denseLayer(3, kernel.ReLU), denseLayer(2, kernel.Softmax)), MSE, 5},
		{"stacked last state", graph(3, seqLayer(5), lstmLayer(4), denseLayer(2, kernel.Linear)), MSE, 5},
		{"stacked three", graph(2, seqLayer(3), seqLayer(5), lstmLayer(4), denseLayer(1, kernel.Linear)), MSE, 4},
		{"stacked sequences", graph(2, seqLayer(3), seqLayer(4), denseLayer(2, kernel.Sigmoid)), MSE, 4},
		{"mae", graph(3, lstmLayer(4), denseLayer(2, kernel.Linear)), MAE, 5},
		{"huber", graph(3, lstmLayer(4), denseLayer(2, kernel.Sigmoid)), Huber, 5},
		{"binary crossentropy", graph(3, lstmLayer(4), denseLayer(2, kernel.Sigmoid)), BinaryCrossentropy, 5},
		{"categorical crossentropy", graph(3, lstmLayer(4), denseLayer(4, kernel.Softmax)), CategoricalCrossentropy, 5},
		{"binary crossentropy on sequences", graph(2, seqLayer(3), denseLayer(1, kernel.Sigmoid)), BinaryCrossentropy, 5},
		{"categorical crossentropy on sequences", graph(2, seqLayer(3), denseLayer(3, kernel.Softmax)), CategoricalCrossentropy, 4},
		{"gru last state", graph(3, gruLayer(5)), MSE, 6},
		{"gru one unit one feature one step", graph(1, gruLayer(1)), MSE, 1},
		{"gru sequences", graph(2, gruSeqLayer(4), denseLayer(2, kernel.Linear)), MSE, 5},
		{"gru over one register", graph(2, gruSeqLayer(3), gruLayer(17)), MSE, 4},
		{"gru on lstm on gru", graph(2, gruSeqLayer(3), seqLayer(5), gruLayer(4), denseLayer(2, kernel.Sigmoid)), BinaryCrossentropy, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := stirred(t, c.g, 5)
			src := randomWindows(c.g, c.loss, 7, c.steps, 9)
			indices := []int{6, 0, 3, 1, 5}
			wantLoss := referenceLoss(c.loss, c.g, toParams64(w), src, indices)
			want := referenceGradient(c.loss, w, src, indices)
			eachTier(t, func(t *testing.T) {
				cfg := Config{Loss: c.loss, Shards: 4, BatchSize: 8}
				if c.loss == Huber {
					cfg.HuberDelta = referenceDelta
				}
				e := start(t, cfg, w, src)
				// A full batch leaves something in every buffer. The one that counts is
				// cut into 2, 2 and 1 windows, and the fourth shard has none.
				e.run(src, ascending(make([]int, 7)), 7)
				mean := e.train(src, indices)
				if math.Abs(mean-wantLoss) > 1e-6*(1+wantLoss) {
					t.Errorf("loss = %v, want %v", mean, wantLoss)
				}
				for i, l := range e.layers {
					for k, s := range l.each() {
						compareGradient(t, fmt.Sprintf("layer %d %s", i, [...]string{"kernel", "recurrent", "bias"}[k]), s.of(e.gradient()), want[i][k])
					}
				}
			})
		})
	}
}

func TestWeightedGradientsMatchCentralDifferences(t *testing.T) {
	for _, c := range []struct {
		loss string
		g    kernel.Graph
	}{
		{MSE, graph(2, lstmLayer(4), denseLayer(2, kernel.Linear))},
		{CategoricalCrossentropy, graph(2, seqLayer(3), denseLayer(3, kernel.Softmax))},
	} {
		w := stirred(t, c.g, 5)
		src := weighted{randomWindows(c.g, c.loss, 7, 4, 9), []float32{1, 0.5, 9, 0, 9, 3, 1.5}}
		indices := []int{6, 0, 3, 1, 5}
		wantLoss := referenceLoss(c.loss, c.g, toParams64(w), src, indices)
		want := referenceGradient(c.loss, w, src, indices)
		e := start(t, Config{Loss: c.loss, BatchSize: 8}, w, src)
		e.run(src, ascending(make([]int, 7)), 7)
		if got, err := e.loss(t.Context(), src, &plan{order: indices, ends: []int{len(indices)}}); err != nil || math.Abs(got-wantLoss) > 1e-6*(1+wantLoss) {
			t.Errorf("%s: loss = %v, %v, want %v", c.loss, got, err, wantLoss)
		}
		if mean := e.train(src, indices); math.Abs(mean-wantLoss) > 1e-6*(1+wantLoss) {
			t.Errorf("%s: loss in training = %v, want %v", c.loss, mean, wantLoss)
		}
		for i, l := range e.layers {
			for k, s := range l.each() {
				compareGradient(t, fmt.Sprintf("%s: layer %d tensor %d", c.loss, i, k), s.of(e.gradient()), want[i][k])
			}
		}
	}
}

// Three layers, of which the first tensor alone is more than one range.
func TestPenaltiesAreInLossAndGradient(t *testing.T) {
	g := graph(60, seqLayer(40), lstmLayer(3), denseLayer(2, kernel.Linear))
	w := stirred(t, g, 5)
	src := randomWindows(g, MSE, 6, 2, 9)
	order := ascending(make([]int, 6))
	plain := start(t, Config{}, w, src)
	mse := plain.train(src, order)
	cfg := Config{KernelL2: 0.01, RecurrentL2: 0.02, BiasL2: 0.5}
	e := start(t, cfg, w, src)
	lambda := func(tensor int) float64 { return [...]float64{cfg.KernelL2, cfg.RecurrentL2, cfg.BiasL2}[tensor] }

	want := mse
	for _, l := range toParams64(w) {
		for k, tensor := range l {
			for _, v := range tensor {
				want += lambda(k) * v * v
			}
		}
	}
	if got, err := e.loss(t.Context(), src, &plan{order: order, ends: []int{len(order)}}); err != nil || math.Abs(got-want) > 1e-9*want {
		t.Errorf("loss = %v, %v, want %v", got, err, want)
	}
	before := append([]float32(nil), e.w.flat...)
	if got := e.train(src, order); math.Abs(got-want) > 1e-9*want {
		t.Errorf("loss in training = %v, want %v", got, want)
	}
	for i, l := range e.layers {
		for tensor, s := range l.each() {
			for k := s.lo; k < s.hi; k++ {
				if d := float64(plain.gradient()[k]) + 2*lambda(tensor)*float64(before[k]) - float64(e.gradient()[k]); math.Abs(d) > 1e-7 {
					t.Fatalf("layer %d tensor %d: gradient %d is off by %v", i, tensor, k-s.lo, d)
				}
			}
		}
	}
}

// compareGradient bounds the error relative to the tensor's largest gradient.
func compareGradient(t *testing.T, name string, got []float32, want []float64) {
	t.Helper()
	var scale float64
	for _, v := range want {
		scale = max(scale, math.Abs(v))
	}
	for k, v := range want {
		if math.Abs(float64(got[k])-v) > 1e-5*scale {
			t.Errorf("%s: gradient %d = %g, want %g", name, k, got[k], v)
			return
		}
	}
}
