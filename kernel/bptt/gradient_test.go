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
				e := start(t, Config{Loss: c.loss, Shards: 4, BatchSize: 8}, w, src)
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
