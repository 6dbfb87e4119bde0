package bptt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// The golden vectors are those of testdata/golden/golden.py, which computes
// them in float64 with numpy and torch and says how to run it.

// golden reads testdata/golden/name.json.
func golden[T any](t *testing.T, name string) T {
	t.Helper()
	b, err := os.ReadFile("testdata/golden/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var v T
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

type goldenLayer struct {
	Kind       string
	Units      int
	Sequences  bool
	Activation string
}

func (l goldenLayer) layer(t *testing.T) kernel.Layer {
	t.Helper()
	if l.Kind == "dense" {
		for _, a := range []kernel.Activation{kernel.Linear, kernel.ReLU, kernel.Sigmoid, kernel.Softmax} {
			if a.String() == l.Activation {
				return denseLayer(l.Units, a)
			}
		}
	}
	kinds := map[string]kernel.Kind{"lstm": kernel.LSTM, "gru": kernel.GRU}
	kind, ok := kinds[l.Kind]
	if !ok {
		t.Fatalf("unknown layer %+v", l)
	}
	return kernel.Layer{Kind: kind, Units: l.Units, Sequences: l.Sequences}
}

// goldenModel is a network with its windows.
type goldenModel struct {
	Features      int
	Steps         int
	Layers        []goldenLayer
	Weights       [][3][]float32
	X, Target     []float32
	SampleWeights []float32 `json:"sample_weights"` // none: every window counts 1
	Config        Config
}

func (m goldenModel) weights(t *testing.T) *kernel.Weights {
	t.Helper()
	g := kernel.Graph{Features: m.Features}
	for _, l := range m.Layers {
		g.Layers = append(g.Layers, l.layer(t))
	}
	w, err := kernel.NewWeights(g)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range w.Layers {
		for k, tensor := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			if copy(tensor, m.Weights[i][k]) != len(tensor) || len(tensor) != len(m.Weights[i][k]) {
				t.Fatalf("layer %d tensor %d has %d golden values, want %d", i, k, len(m.Weights[i][k]), len(tensor))
			}
		}
	}
	return w
}

func (m goldenModel) source(g kernel.Graph) Source {
	src := &windows{steps: m.Steps, features: m.Features, outLen: g.OutputLen(m.Steps), x: m.X, y: m.Target}
	if m.SampleWeights == nil {
		return src
	}
	return weighted{src, m.SampleWeights}
}

// compareGolden bounds the error relative to the largest golden value.
func compareGolden(t *testing.T, name string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", name, len(got), len(want))
		return
	}
	var scale float64
	for _, v := range want {
		scale = max(scale, math.Abs(v))
	}
	for k, v := range want {
		if !(math.Abs(float64(got[k])-v) <= tolerance*scale) {
			t.Errorf("%s: value %d = %g, want %g", name, k, got[k], v)
			return
		}
	}
}

var tensorNames = [...]string{"kernel", "recurrent kernel", "bias"}

func TestGoldenGradients(t *testing.T) {
	type network struct {
		Name string
		goldenModel
		Output    []float64 // [window][row][output]
		Loss      float64
		Gradients [][3][]float64
	}
	for _, c := range golden[[]network](t, "networks") {
		t.Run(c.Name, func(t *testing.T) {
			w := c.weights(t)
			src := c.source(w.Graph)
			order := ascending(make([]int, src.Len()))
			m, err := kernel.NewFloat32(w)
			if err != nil {
				t.Fatal(err)
			}
			y := make([]float32, len(c.Output))
			if err := m.PredictBatch(m.NewState(), y, c.X, len(order)); err != nil {
				t.Fatal(err)
			}
			compareGolden(t, "output of package kernel", y, c.Output, 1e-5)
			eachTier(t, func(t *testing.T) {
				e := start(t, c.Config, w, src)
				compareGolden(t, "output", e.output(src, order), c.Output, 1e-5)
				if got := e.train(src, order); !(math.Abs(got-c.Loss) <= 1e-6*c.Loss) {
					t.Errorf("loss = %v, want %v", got, c.Loss)
				}
				for i, l := range e.layers {
					for k, s := range l.each() {
						compareGolden(t, fmt.Sprintf("gradient of layer %d %s", i, tensorNames[k]), s.of(e.gradient()), c.Gradients[i][k], 1e-5)
					}
				}
			})
		})
	}
}

// output runs windows one by one and returns what the last layer gives.
func (e *engine) output(src Source, order []int) []float32 {
	var y []float32
	for _, i := range order {
		e.run(src, []int{i}, 0) // packs the weights, too
		k := e.workers[0]
		k.read(src, []int{i})
		v := k.x[:len(k.window)]
		for _, l := range k.layers {
			v = l.forward(&e.w, v, 1)
		}
		y = append(y, v...)
	}
	return y
}

func TestGoldenLosses(t *testing.T) {
	type value struct {
		Config        Config
		Width         int
		Y, Target     []float32
		SampleWeights []float32 `json:"sample_weights"`
		Loss          float64
	}
	for _, c := range golden[[]value](t, "losses") {
		rows := len(c.Y) / c.Width
		weights := c.SampleWeights
		if weights == nil {
			weights = slices.Repeat([]float32{1}, rows)
		}
		got := weightedLoss(&c.Config, c.Y, c.Target, nil, c.Width, weights, 0) / float64(rows*lossTerms(c.Config.Loss, c.Width, c.Width))
		// 1−1e-7, where Keras clips, is not a float32.
		if !(math.Abs(got-c.Loss) <= 1e-6*c.Loss) {
			t.Errorf("%s of %v and %v, weights %v = %v, want %v", c.Config.Loss, c.Y, c.Target, c.SampleWeights, got, c.Loss)
		}
	}
}

func TestGoldenOptimizers(t *testing.T) {
	type steps struct {
		Sizes     []int // kernel, recurrent kernel and bias of each layer
		Start     []float32
		Gradients [][]float32
		Cases     []struct {
			Config   Config
			AfterOne []float64 `json:"after_one"`
			AfterTen []float64 `json:"after_ten"`
		}
	}
	all := golden[steps](t, "optimizers")
	var spans []span
	for lo, i := 0, 0; i < len(all.Sizes); i++ {
		spans = append(spans, span{lo, lo + all.Sizes[i]})
		lo += all.Sizes[i]
	}
	layers := []tensors{{spans[0], spans[1], spans[2]}, {spans[3], spans[4], spans[5]}}
	for _, c := range all.Cases {
		cfg, err := c.Config.withDefaults(graph(1, lstmLayer(1)))
		if err != nil {
			t.Fatal(err)
		}
		eachTier(t, func(t *testing.T) {
			p := slices.Clone(all.Start)
			o := newOptimizer(cfg, len(p))
			for step, g := range all.Gradients {
				g = slices.Clone(g)
				clipGradients(cfg, layers, g)
				o.begin()
				o.update(span{0, len(p)}, p, g)
				want := map[int][]float64{0: c.AfterOne, len(all.Gradients) - 1: c.AfterTen}[step]
				if want == nil {
					continue
				}
				for i, s := range spans {
					compareGolden(t, fmt.Sprintf("%s %+v: tensor %d after step %d", cfg.Optimizer, c.Config, i, step+1), s.of(p), want[s.lo:s.hi], 1e-6)
				}
			}
		})
	}
}

func TestGoldenSchedules(t *testing.T) {
	type schedule struct {
		Config  Config
		Updates []int
		Rates   []float64
	}
	for _, c := range golden[[]schedule](t, "schedules") {
		cfg, err := c.Config.withDefaults(graph(1, lstmLayer(1)))
		if err != nil {
			t.Fatal(err)
		}
		o := newOptimizer(cfg, 0)
		for i, update := range c.Updates {
			o.updates = update
			if o.begin(); math.Abs(o.current-c.Rates[i]) > 1e-9*slices.Max(c.Rates) {
				t.Errorf("%+v: rate of update %d = %v, want %v", c.Config.Schedule, update, o.current, c.Rates[i])
			}
		}
	}
}

func TestGoldenCallbacks(t *testing.T) {
	type series struct {
		EarlyStopping []struct {
			Config       Config
			Losses       []float64
			Epochs, Best int
		} `json:"early_stopping"`
		ReduceLR []struct {
			Config Config
			Losses []float64
			Rates  []float64 // after each epoch
		} `json:"reduce_lr"`
	}
	all := golden[series](t, "callbacks")
	for _, c := range all.EarlyStopping {
		e := earlyStopping{patience: c.Config.Patience, minDelta: c.Config.MinDelta, start: c.Config.StartFromEpoch, restore: true}
		epochs := 0
		for stop := false; !stop && epochs < len(c.Losses); {
			epochs++
			_, stop = e.observe(epochs, c.Losses[epochs-1], []float32{float32(epochs)})
		}
		best := 0
		if e.saved != nil {
			best = int(e.saved[0])
		}
		if epochs != c.Epochs || best != c.Best {
			t.Errorf("patience %d, min delta %v, start %d over %v: %d epochs, best %d, want %d and %d",
				c.Config.Patience, c.Config.MinDelta, c.Config.StartFromEpoch, c.Losses, epochs, best, c.Epochs, c.Best)
		}
	}
	for _, c := range all.ReduceLR {
		cfg, err := c.Config.withDefaults(graph(1, lstmLayer(1)))
		if err != nil {
			t.Fatal(err)
		}
		p, rate := plateau{ReduceLR: cfg.ReduceLR}, cfg.LearningRate
		for i, loss := range c.Losses {
			if rate = p.observe(loss, rate); math.Abs(rate-c.Rates[i]) > 1e-9*c.Rates[i] {
				t.Errorf("%+v over %v: rate after epoch %d = %v, want %v", c.Config.ReduceLR, c.Losses, i+1, rate, c.Rates[i])
				break
			}
		}
	}
}

func TestGoldenInitializers(t *testing.T) {
	type distributions struct {
		Kernels []struct {
			Features int
			Layer    goldenLayer
			Limit    float64   // of a kernel value
			Moments  []float64 // of a kernel value: mean of its first to fourth power
			Bias     []float32
		}
		Recurrents []struct {
			Layer     goldenLayer
			Place     int       // in the recurrent kernel
			Sample    int       // that the quantiles are of
			Quantiles []float64 // 1/n, 2/n … of the value in that place over many layers
		}
	}
	all := golden[distributions](t, "initializers")
	for _, c := range all.Kernels {
		w, err := Init(graph(c.Features, c.Layer.layer(t)), 5)
		if err != nil {
			t.Fatal(err)
		}
		if l := w.Layers[0]; !slices.Equal(l.Bias, c.Bias) {
			t.Errorf("%+v: bias %v, want %v", c.Layer, l.Bias, c.Bias)
		}
		values := toParams64(w)[0][0]
		n := float64(len(values))
		var sums [4]float64
		for _, v := range values {
			for k, p := range [...]float64{v, v * v, v * v * v, v * v * v * v} {
				sums[k] += p
			}
		}
		for k, want := range c.Moments {
			// The standard deviation of a power p of a uniform value is below limitᵖ.
			if got, bound := sums[k]/n, 5*math.Pow(c.Limit, float64(k+1))/math.Sqrt(n); math.Abs(got-want) > bound {
				t.Errorf("%+v: moment %d of the kernel = %g, want %g ± %g", c.Layer, k+1, got, want, bound)
			}
		}
		if lo, hi := slices.Min(values), slices.Max(values); lo < -c.Limit*(1+1e-6) || hi > c.Limit*(1+1e-6) {
			t.Errorf("%+v: kernel goes from %v to %v, want within %v", c.Layer, lo, hi, c.Limit)
		}
		slices.Sort(values)
		uniform := func(q float64) float64 { return (2*q - 1) * c.Limit }
		if got := kolmogorov(values, uniform, 1000); got > ksBound(n, math.Inf(1)) {
			t.Errorf("%+v: kernel is %v from uniform, want at most %v", c.Layer, got, ksBound(n, math.Inf(1)))
		}
	}
	const layers = 2000
	for _, c := range all.Recurrents {
		var values []float64
		for seed := range uint64(layers) {
			w, err := Init(graph(1, c.Layer.layer(t)), seed)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, float64(w.Layers[0].Recurrent[c.Place]))
		}
		slices.Sort(values)
		parts := len(c.Quantiles) + 1
		quantile := func(q float64) float64 { return c.Quantiles[int(math.Round(q*float64(parts)))-1] }
		if got, bound := kolmogorov(values, quantile, parts), ksBound(layers, float64(c.Sample)); got > bound {
			t.Errorf("%+v: recurrent kernel's place %d is %v from numpy's distribution, want at most %v", c.Layer, c.Place, got, bound)
		}
	}
}

// kolmogorov is the largest distance between the sorted values' distribution
// and the one with the given quantiles, at 1/parts, 2/parts ….
func kolmogorov(sorted []float64, quantile func(q float64) float64, parts int) float64 {
	var most float64
	for i := 1; i < parts; i++ {
		q := float64(i) / float64(parts)
		below, _ := slices.BinarySearch(sorted, quantile(q))
		most = max(most, math.Abs(float64(below)/float64(len(sorted))-q))
	}
	return most
}

// ksBound is what the two-sample Kolmogorov–Smirnov statistic of samples of n
// and m stays below but once in a thousand.
func ksBound(n, m float64) float64 { return math.Sqrt(-math.Log(0.001/2) / 2 * (1/n + 1/m)) }

func TestGoldenRuns(t *testing.T) {
	type run struct {
		goldenModel
		Chain     int       // windows of each chain; 0: no chains
		ValChain  int       `json:"val_chain"`
		ValX      []float32 `json:"val_x"`
		ValTarget []float32 `json:"val_target"`
		History   []struct {
			Loss    float64
			ValLoss float64 `json:"val_loss"`
		}
		Trained [][3][]float64
	}
	for _, c := range golden[[]run](t, "runs") {
		eachTier(t, func(t *testing.T) {
			w := c.weights(t)
			train := c.source(w.Graph)
			val := goldenModel{Features: c.Features, Steps: c.Steps, X: c.ValX, Target: c.ValTarget}.source(w.Graph)
			if c.Chain > 0 {
				train, val = chains{train.(*windows), c.Chain}, chains{val.(*windows), c.ValChain}
			}
			epochs, err := Fit(t.Context(), w, train, val, c.Config, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(epochs) != len(c.History) {
				t.Fatalf("%d epochs, want %d", len(epochs), len(c.History))
			}
			for i, want := range c.History {
				if got := epochs[i]; math.Abs(got.Loss-want.Loss) > 1e-5*want.Loss || math.Abs(got.ValLoss-want.ValLoss) > 1e-5*want.ValLoss {
					t.Errorf("epoch %d: loss %v and validation loss %v, want %v and %v", i+1, got.Loss, got.ValLoss, want.Loss, want.ValLoss)
				}
			}
			for i, l := range w.Layers {
				for k, tensor := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
					compareGolden(t, fmt.Sprintf("trained layer %d %s", i, tensorNames[k]), tensor, c.Trained[i][k], 1e-4)
				}
			}
		})
	}
}
