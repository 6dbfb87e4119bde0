package kernel

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestGraphRefuses(t *testing.T) {
	lstm := Layer{Kind: LSTM, Units: 4}
	seq := Layer{Kind: LSTM, Units: 4, Sequences: true}
	out := Layer{Kind: Dense, Units: 1}
	with := func(l Layer, change func(*Layer)) Layer {
		change(&l)
		return l
	}
	for _, c := range []struct {
		name string
		g    Graph
		want string // part of the error
	}{
		{"no features", Graph{0, []Layer{lstm}}, "0 features, want 1 to 256"},
		{"too many features", Graph{257, []Layer{lstm}}, "257 features"},
		{"no layers", Graph{1, nil}, "0 layers, want 1 to 8"},
		{"nine layers", Graph{1, []Layer{seq, seq, seq, seq, seq, seq, seq, seq, lstm}}, "9 layers"},
		{"no units", Graph{1, []Layer{with(lstm, func(l *Layer) { l.Units = 0 })}}, "layer 0: 0 units, want 1 to 1024"},
		{"negative units", Graph{1, []Layer{with(lstm, func(l *Layer) { l.Units = -1 })}}, "-1 units"},
		{"units that wrap 32 bits", Graph{1, []Layer{with(lstm, func(l *Layer) { l.Units = 1 << 30 })}}, "units, want 1 to 1024"},
		{"recurrent kernel of 2^32 values", Graph{1, []Layer{with(lstm, func(l *Layer) { l.Units = 1 << 15 })}}, "32768 units, want 1 to 1024"},
		{"units of which 4 are 2^32", Graph{1, []Layer{with(lstm, func(l *Layer) { l.Units = math.MaxInt32 })}}, "units, want 1 to 1024"},
		{"features of which 4 units are 2^32", Graph{1 << 28, []Layer{lstm}}, "features, want 1 to 256"},
		{"features up to the sign", Graph{math.MinInt32, []Layer{lstm}}, "features, want 1 to 256"},
		{"dense of 2^32 values", Graph{1, []Layer{lstm, with(out, func(l *Layer) { l.Units = 1 << 30 })}}, "layer 1: 1073741824 units"},
		{"dense of 1025", Graph{1, []Layer{lstm, with(out, func(l *Layer) { l.Units = 1025 })}}, "layer 1: 1025 units"},
		{"no kind", Graph{1, []Layer{{Units: 1}}}, "Kind(0)"},
		{"unknown activation", Graph{1, []Layer{lstm, with(out, func(l *Layer) { l.Activation = 9 })}}, "Activation(9) is unknown"},
		{"lstm activation", Graph{1, []Layer{with(lstm, func(l *Layer) { l.Activation = ReLU })}}, "activation relu on lstm"},
		{"gru activation", Graph{1, []Layer{{Kind: GRU, Units: 4, Activation: Sigmoid}}}, "activation sigmoid on gru"},
		{"gru after dense", Graph{1, []Layer{seq, out, {Kind: GRU, Units: 4}}}, "gru after a dense"},
		{"gru after a last state", Graph{1, []Layer{lstm, {Kind: GRU, Units: 4}}}, "last state only"},
		{"lstm after a gru's last state", Graph{1, []Layer{{Kind: GRU, Units: 4}, lstm}}, "last state only"},
		{"dense sequences", Graph{1, []Layer{lstm, with(out, func(l *Layer) { l.Sequences = true })}}, "sequences on a dense"},
		{"dense first", Graph{1, []Layer{out}}, "first layer is dense"},
		{"lstm after dense", Graph{1, []Layer{seq, out, lstm}}, "lstm after a dense"},
		{"lstm after a last state", Graph{1, []Layer{lstm, lstm}}, "last state only"},
	} {
		if err := c.g.Validate(); !errors.Is(err, ErrShape) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrShape with %q", c.name, err, c.want)
		}
		if _, err := NewInt8(&QuantWeights{Graph: c.g}); !errors.Is(err, ErrShape) {
			t.Errorf("%s: NewInt8 = %v, want ErrShape", c.name, err)
		}
		if _, err := NewFloat32(&Weights{Graph: c.g}); !errors.Is(err, ErrShape) {
			t.Errorf("%s: NewFloat32 = %v, want ErrShape", c.name, err)
		}
	}
}

func TestNamesOfKindsAndActivations(t *testing.T) {
	for _, k := range []Kind{LSTM, Dense, GRU} {
		if got, err := ParseKind(k.String()); err != nil || got != k {
			t.Errorf("ParseKind(%q) = %v, %v", k, got, err)
		}
	}
	for a := Linear; a <= Softmax; a++ {
		if got, err := ParseActivation(a.String()); err != nil || got != a {
			t.Errorf("ParseActivation(%q) = %v, %v", a, got, err)
		}
	}
	if a, err := ParseActivation(""); err != nil || a != Linear {
		t.Errorf("ParseActivation(\"\") = %v, %v", a, err)
	}
	if _, err := ParseKind("rnn"); !errors.Is(err, ErrShape) {
		t.Errorf("ParseKind(rnn) = %v, want ErrShape", err)
	}
	if _, err := ParseActivation("tanh"); !errors.Is(err, ErrShape) {
		t.Errorf("ParseActivation(tanh) = %v, want ErrShape", err)
	}
}

func TestLoadingInt8Refuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for _, c := range []struct {
		name   string
		change func(*QuantWeights)
		want   error
	}{
		{"missing layer", func(q *QuantWeights) { q.Layers = q.Layers[:1] }, ErrShape},
		{"short kernel", func(q *QuantWeights) { q.Layers[0].Kernel = q.Layers[0].Kernel[1:] }, ErrShape},
		{"long recurrent kernel", func(q *QuantWeights) { q.Layers[0].Recurrent = append(q.Layers[0].Recurrent, 1) }, ErrShape},
		{"short scale", func(q *QuantWeights) { q.Layers[0].KernelScale = q.Layers[0].KernelScale[1:] }, ErrShape},
		{"no bias", func(q *QuantWeights) { q.Layers[0].Bias = nil }, ErrShape},
		{"dense kernel on an lstm", func(q *QuantWeights) { q.Layers[0].Dense = []float32{1} }, ErrShape},
		{"int8 kernel on a dense", func(q *QuantWeights) { q.Layers[1].Kernel = []int8{1} }, ErrShape},
		{"short dense kernel", func(q *QuantWeights) { q.Layers[1].Dense = nil }, ErrShape},
		{"-128", func(q *QuantWeights) { q.Layers[0].Kernel[3] = -128 }, ErrRange},
		{"-128 recurrent", func(q *QuantWeights) { q.Layers[0].Recurrent[3] = -128 }, ErrRange},
		{"NaN scale", func(q *QuantWeights) { q.Layers[0].KernelScale[2] = nan }, ErrNonFinite},
		{"infinite scale", func(q *QuantWeights) { q.Layers[0].RecurrentScale[2] = inf }, ErrNonFinite},
		{"zero scale", func(q *QuantWeights) { q.Layers[0].RecurrentScale[2] = 0 }, ErrRange},
		{"negative scale", func(q *QuantWeights) { q.Layers[0].KernelScale[2] = -1 }, ErrRange},
		{"NaN bias", func(q *QuantWeights) { q.Layers[0].Bias[2] = nan }, ErrNonFinite},
		{"infinite dense weight", func(q *QuantWeights) { q.Layers[1].Dense[0] = inf }, ErrNonFinite},
		{"NaN dense bias", func(q *QuantWeights) { q.Layers[1].Bias[0] = nan }, ErrNonFinite},
		{"input sum beyond float32", func(q *QuantWeights) { q.Layers[0].KernelScale[2] = 1e32 }, ErrRange},
		{"recurrent sum beyond float32", func(q *QuantWeights) { q.Layers[0].RecurrentScale[2] = 3e36 }, ErrRange},
		{"dense sum beyond float32", func(q *QuantWeights) { q.Layers[1].Dense[0], q.Layers[1].Dense[1] = 1e38, 1e38 }, ErrRange},
		{"bias beyond", func(q *QuantWeights) { q.Layers[0].Bias[0] = math.MaxFloat32 }, ErrRange},
	} {
		q := quantized(t, randomWeights(t, lstmGraph(4, 2), 1))
		c.change(q)
		if _, err := NewInt8(q); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestLoadingGRUsRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*QuantLayer, *LayerWeights)
		want   error
	}{
		{"one row of bias", func(q *QuantLayer, w *LayerWeights) { q.Bias, w.Bias = q.Bias[:12], w.Bias[:12] }, ErrShape},
		{"four gates", func(q *QuantLayer, w *LayerWeights) {
			q.Kernel, w.Kernel = make([]int8, 2*16), make([]float32, 2*16)
		}, ErrShape},
		{"recurrent kernel of four gates", func(q *QuantLayer, w *LayerWeights) {
			q.Recurrent, w.Recurrent = make([]int8, 4*16), make([]float32, 4*16)
		}, ErrShape},
		{"input sum beyond float32", func(q *QuantLayer, w *LayerWeights) { q.KernelScale[2], w.Kernel[2] = 1e32, 1e33 }, ErrRange},
		{"recurrent sum beyond float32", func(q *QuantLayer, w *LayerWeights) { q.RecurrentScale[2], w.Recurrent[2] = 3e36, 2e38 }, ErrRange},
		{"recurrent bias beyond float32", func(q *QuantLayer, w *LayerWeights) { q.Bias[14], w.Bias[14] = 2e38, 2e38 }, ErrRange},
		{"biases beyond float32 together", func(q *QuantLayer, w *LayerWeights) {
			for _, j := range []int{8, 12 + 8} { // of the candidate, whose sums meet in its tanh
				q.Bias[j], w.Bias[j] = 9e37, 9e37
			}
		}, ErrRange},
	} {
		w := randomWeights(t, gruGraph(4, 2), 1)
		q := quantized(t, w)
		c.change(&q.Layers[0], &w.Layers[0])
		if _, err := NewInt8(q); !errors.Is(err, c.want) {
			t.Errorf("%s: NewInt8 = %v, want %v", c.name, err, c.want)
		}
		if _, err := NewFloat32(w); !errors.Is(err, c.want) {
			t.Errorf("%s: NewFloat32 = %v, want %v", c.name, err, c.want)
		}
	}
	q := quantized(t, randomWeights(t, gruGraph(4, 2), 1))
	for _, scales := range []*[]float32{&q.Layers[0].KernelScale, &q.Layers[0].RecurrentScale} {
		whole := *scales
		*scales = append(whole, whole...) // as long as the bias
		if _, err := NewInt8(q); !errors.Is(err, ErrShape) {
			t.Errorf("%d scales of 12 columns: %v, want ErrShape", len(*scales), err)
		}
		*scales = whole
	}
}

func TestLoadingFloat32Refuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Weights)
		want   error
	}{
		{"missing layer", func(w *Weights) { w.Layers = w.Layers[:1] }, ErrShape},
		{"short kernel", func(w *Weights) { w.Layers[0].Kernel = w.Layers[0].Kernel[1:] }, ErrShape},
		{"recurrent kernel on a dense", func(w *Weights) { w.Layers[1].Recurrent = []float32{1} }, ErrShape},
		{"NaN", func(w *Weights) { w.Layers[0].Recurrent[1] = float32(math.NaN()) }, ErrNonFinite},
		{"infinite", func(w *Weights) { w.Layers[1].Kernel[1] = float32(math.Inf(1)) }, ErrNonFinite},
		{"sum beyond float32", func(w *Weights) { w.Layers[0].Kernel[1] = 1e33 }, ErrRange},
		{"dense sum beyond float32", func(w *Weights) { w.Layers[1].Kernel[1] = 2e38 }, ErrRange},
	} {
		w := randomWeights(t, lstmGraph(4, 2), 1)
		c.change(w)
		if _, err := NewFloat32(w); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if !errors.Is(c.want, ErrRange) { // Quantize validates, it does not bound
			if _, err := Quantize(w); !errors.Is(err, c.want) {
				t.Errorf("%s: Quantize = %v, want %v", c.name, err, c.want)
			}
		}
	}
}

// TestLargestInputsStayFinite loads weights just within the bound and gives
// them the largest inputs.
func TestLargestInputsStayFinite(t *testing.T) {
	for _, k := range []Kind{LSTM, GRU} {
		testLargestInputs(t, k)
	}
}

func testLargestInputs(t *testing.T, k Kind) {
	w := randomWeights(t, Graph{2, []Layer{{Kind: k, Units: 3}, {Kind: Dense, Units: 2, Activation: ReLU}, {Kind: Dense, Units: 1}}}, 1)
	for i := range w.Layers[0].Kernel {
		w.Layers[0].Kernel[i] = 8e31 // 2 of them times 2^20: 1.68e38 of 1.70e38
	}
	clear(w.Layers[0].Bias)
	for i := range w.Layers[1].Kernel {
		w.Layers[1].Kernel[i] = 1e19
	}
	for i := range w.Layers[2].Kernel {
		w.Layers[2].Kernel[i] = 1e18
	}
	for _, m := range everyModel(t, w) {
		for _, x := range [][]float32{{MaxInput, MaxInput}, {-MaxInput, -MaxInput}, {MaxInput, -MaxInput}} {
			y := make([]float32, 1)
			if err := m.Predict(m.NewState(), y, x); err != nil || !finite(y[0]) {
				t.Errorf("%v, %s: %v gives %v, %v", k, typeName(m), x, y, err)
			}
		}
	}
}

func TestCallsRefuse(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, m := range bothModels(t, lstmGraph(4, 2), 1) {
		for _, c := range []struct {
			name  string
			y, x  int
			value float32
			want  error
		}{
			{"no input", 1, 0, 0, ErrShape},
			{"half a row", 1, 3, 0, ErrShape},
			{"no output", 0, 2, 0, ErrShape},
			{"long output", 2, 2, 0, ErrShape},
			{"NaN", 1, 2, nan, ErrNonFinite},
			{"infinite", 1, 2, inf, ErrNonFinite},
			{"too large", 1, 2, 2 * MaxInput, ErrRange},
			{"too small", 1, 2, -2 * MaxInput, ErrRange},
		} {
			s, y, x := m.NewState(), make([]float32, c.y), make([]float32, c.x)
			for i := range x {
				x[i] = c.value
			}
			for call, err := range map[string]error{
				"Step": m.Step(s, y, x), "Predict": m.Predict(s, y, x), "PredictBatch": m.PredictBatch(s, y, x, 1),
			} {
				if !errors.Is(err, c.want) {
					t.Errorf("%s %s(%s) = %v, want %v", typeName(m), call, c.name, err, c.want)
				}
			}
		}
		s := m.NewState()
		if err := m.Step(s, make([]float32, 1), make([]float32, 4)); !errors.Is(err, ErrShape) {
			t.Errorf("Step(two rows) = %v, want ErrShape", err)
		}
		for _, n := range []int{-1, 0, 3, 4, 8, 9, math.MaxInt} {
			if err := m.PredictBatch(s, make([]float32, 1), make([]float32, 8), n); !errors.Is(err, ErrShape) {
				t.Errorf("PredictBatch(n = %d) = %v, want ErrShape", n, err)
			}
		}
	}
}

// TestSizesThatOverflowAreRefused has the products of lengths that do not fit
// in 32 bits; they must not wrap to one that is there.
func TestSizesThatOverflowAreRefused(t *testing.T) {
	if got, want := (Graph{1, []Layer{{Kind: LSTM, Units: 4, Sequences: true}}}).OutputLen(math.MaxInt/4+1), math.MaxInt; got != want {
		t.Errorf("OutputLen = %d, want %d", got, want)
	}
	if testing.Short() {
		t.Skip("short: packs 1024 units")
	}
	g := Graph{1, []Layer{{Kind: LSTM, Units: MaxUnits, Sequences: true}}}
	x := make([]float32, 1<<22) // 2²² steps of 2¹⁰ outputs: 2³², 0 in 32 bits
	for _, m := range bothModels(t, g, 1) {
		s := m.NewState()
		for _, c := range []struct{ y, x, n int }{
			{0, 1 << 22, 1}, {MaxUnits, 1<<22 - 1, 1}, {2 * MaxUnits, 1 << 22, 1},
			{0, 1 << 22, 2}, {0, 1 << 22, 1 << 22}, {2, 1 << 22, 2}, {4, 1<<22 - 4, 4}, {1, 1 << 22, math.MaxInt32}, {1, 1 << 22, math.MinInt32},
		} {
			y, x := make([]float32, c.y), x[:c.x]
			if err := m.PredictBatch(s, y, x, c.n); !errors.Is(err, ErrShape) {
				t.Errorf("%s PredictBatch(%d outputs, %d inputs, n = %d) = %v, want ErrShape", typeName(m), c.y, c.x, c.n, err)
			}
			if c.n > 1 {
				continue
			}
			if err := m.Predict(s, y, x); !errors.Is(err, ErrShape) {
				t.Errorf("%s Predict(%d outputs, %d inputs) = %v, want ErrShape", typeName(m), c.y, c.x, err)
			}
		}
	}
	var shape *ShapeError
	m := bothModels(t, Graph{3, []Layer{{Kind: LSTM, Units: 1}}}, 1)[0]
	if err := m.PredictBatch(m.NewState(), nil, x, 1<<22); !errors.As(err, &shape) || shape.Want <= 0 {
		t.Errorf("PredictBatch(a third of a row each) = %v, want a ShapeError of a size above 0", err)
	}
}

func TestForcedTier(t *testing.T) {
	names := Tiers()
	if tier, err := selectTier(""); err != nil || tier.String() != names[0] {
		t.Errorf("selectTier() = %v, %v, want %s", tier, err, names[0])
	}
	if last := names[len(names)-1]; last != "generic" {
		t.Errorf("Tiers() = %v, want generic last", names)
	}
	for _, name := range names {
		if tier, err := selectTier(name); err != nil || tier.String() != name {
			t.Errorf("selectTier(%q) = %v, %v", name, tier, err)
		}
	}
	for _, name := range tierNames {
		if slices.Contains(names, name) {
			continue
		}
		if _, err := selectTier(name); !errors.Is(err, ErrTier) || !strings.Contains(err.Error(), "build and CPU have "+names[0]) {
			t.Errorf("selectTier(%q) = %v, want ErrTier naming the tiers there are", name, err)
		}
	}
	for _, name := range []string{"avx9", "Generic", "generic "} {
		_, err := selectTier(name)
		if !errors.Is(err, ErrTier) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "generic") {
			t.Errorf("selectTier(%q) = %v, want ErrTier naming it and the tiers there are", name, err)
		}
	}
	if name, err := Select(); err != nil || name != Tier() {
		t.Errorf("Select() = %q, %v; Tier() = %q", name, err, Tier())
	}
}
