package predictor

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A fixture is a small pump model: three features, one of them constant in
// training, two targets, and everything FromQuant takes.
type fixture struct {
	weights *kernel.Weights
	quant   *kernel.QuantWeights
	schema  artifact.Schema
	scaler  kernel.Scaler
}

func newFixture(t testing.TB, g kernel.Graph, window int, state string) *fixture {
	t.Helper()
	w, err := kernel.NewWeights(g)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 0))
	for _, l := range w.Layers {
		for _, v := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for i := range v {
				v[i] = float32(r.Float32()-0.5) / 2
			}
		}
	}
	q, err := kernel.Quantize(w)
	if err != nil {
		t.Fatal(err)
	}
	out := g.OutputLen(window)
	f := &fixture{w, q, artifact.Schema{
		Features: []artifact.Column{{Name: "flow", Unit: "l/min"}, {Name: "pressure", Unit: "bar"}, {Name: "speed"}},
		Targets:  []artifact.Column{{Name: "temperature", Unit: "°C"}, {Name: "wear"}},
		Window:   window, State: state, Horizon: out / 2,
	}, kernel.Scaler{
		Mean: []float32{100, 5, 3000}, Std: []float32{20, 0.5, 0}, Inv: []float32{0.05, 2, 0},
		OutMean: make([]float32, out), OutStd: make([]float32, out),
	}}
	for i := range out {
		f.scaler.OutMean[i], f.scaler.OutStd[i] = float32(40+i), 8
	}
	return f
}

func lastState() kernel.Graph {
	return kernel.Graph{Features: 3, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: 12, Sequences: true}, {Kind: kernel.GRU, Units: 9},
		{Kind: kernel.Dense, Units: 6, Activation: kernel.Sigmoid}, {Kind: kernel.Dense, Units: 4},
	}}
}

func sequences() kernel.Graph {
	g := lastState()
	g.Layers[0].Kind, g.Layers[1].Kind = kernel.GRU, kernel.LSTM
	g.Layers[1].Sequences = true
	g.Layers[3].Units = 2
	return g
}

func (f *fixture) artifact(t testing.TB) *artifact.Model {
	t.Helper()
	m, err := FromQuant(f.quant, f.schema, artifact.TaskForecast, f.scaler)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func open(t testing.TB, m *artifact.Model) *Predictor {
	t.Helper()
	p, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rawRows are plausible sensor rows.
func rawRows(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	rows := make([]float32, 0, 3*n)
	for range n {
		rows = append(rows, 60+80*r.Float32(), 4+2*r.Float32(), 3000)
	}
	return rows
}

func predict(t testing.TB, p *Predictor, rows []float32) []float32 {
	t.Helper()
	y := make([]float32, p.Outputs())
	if err := p.Predict(y, rows); err != nil {
		t.Fatal(err)
	}
	return y
}

// TestPredictIsScaleRunScale holds Predict to its three parts done by hand.
func TestPredictIsScaleRunScale(t *testing.T) {
	for _, anchor := range [][]int{nil, {0, 1, 0, -1}} {
		f := newFixture(t, lastState(), 5, artifact.StateWindow)
		f.scaler.Anchor = anchor
		p, rows := open(t, f.artifact(t)), rawRows(1, 5)
		last := rows[12:]

		m, err := kernel.NewInt8(f.quant)
		if err != nil {
			t.Fatal(err)
		}
		x, want := make([]float32, 15), make([]float32, 4)
		for i, raw := range rows {
			mean := f.scaler.Mean[i%3]
			if anchor != nil && i%3 < 2 {
				mean = last[i%3]
			}
			x[i] = float32(raw-mean) * f.scaler.Inv[i%3]
		}
		if err := m.Predict(m.NewState(), want, x); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			mean := f.scaler.OutMean[i]
			if anchor != nil && anchor[i] >= 0 {
				mean = last[anchor[i]]
			}
			want[i] = float32(want[i]*f.scaler.OutStd[i]) + mean
		}
		if got := predict(t, p, rows); !reflect.DeepEqual(got, want) {
			t.Errorf("anchor %v: Predict = %v, want %v", anchor, got, want)
		}
		got, err := p.PredictAppend([]float32{1}, rows)
		if err != nil || !reflect.DeepEqual(got, append([]float32{1}, want...)) {
			t.Errorf("anchor %v: PredictAppend = %v, %v, want 1 and %v", anchor, got, err, want)
		}
	}
}

func TestBatchEqualsOneByOne(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateWindow)
	f.scaler.Anchor = []int{0, 0, 1, -1}
	p := open(t, f.artifact(t))
	for _, n := range []int{1, batch - 1, batch, 2*batch + 3} {
		rows, got := rawRows(3, 5*n), make([]float32, 4*n)
		if err := p.PredictBatch(got, rows, n); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if want := predict(t, p, rows[15*i:][:15]); !reflect.DeepEqual(got[4*i:][:4], want) {
				t.Fatalf("window %d of %d: %v, want %v", i, n, got[4*i:][:4], want)
			}
		}
	}
}

// TestCheckCatchesFlippedWeightBits flips every bit of a sample of weights of
// one recurrent layer. The model stays well formed, so of what runs here only the golden
// vectors can tell. They prove the kernel, the digest proves the bytes: a
// weight's lowest bits can drown in the rounding of the outputs, and in a
// stacked model in the int8 state between the layers.
func TestCheckCatchesFlippedWeightBits(t *testing.T) {
	for _, k := range []kernel.Kind{kernel.LSTM, kernel.GRU} {
		t.Run(k.String(), func(t *testing.T) { testFlippedWeightBits(t, k) })
	}
}

func testFlippedWeightBits(t *testing.T, k kernel.Kind) {
	f := newFixture(t, kernel.Graph{Features: 3, Layers: []kernel.Layer{
		{Kind: k, Units: 12}, {Kind: kernel.Dense, Units: 4},
	}}, 30, artifact.StateWindow)
	f.scaler.Inv[2], f.scaler.Std[2] = 0.01, 100 // no constant column: its weights do nothing
	m := f.artifact(t)
	flipped, missed := 0, 0
	for _, tensor := range m.Tensors {
		if tensor.Type != artifact.Int8 {
			continue
		}
		for at := 0; at < len(tensor.Data); at += 5 {
			for bit := range 8 {
				old := tensor.Data[at]
				tensor.Data[at] ^= 1 << bit
				if tensor.Data[at] != 0x80 { // which Open refuses
					flipped++
					var golden *GoldenError
					switch err := open(t, m).Check(); {
					case err == nil && bit < 3:
						missed++
					case !errors.Is(err, ErrGolden) || !errors.As(err, &golden):
						t.Errorf("%s weight %d bit %d: Check = %v, want ErrGolden", tensor.Name, at, bit, err)
					}
				}
				tensor.Data[at] = old
			}
		}
	}
	if flipped < 800 || missed > flipped/100 {
		t.Errorf("%d of %d flipped bits missed, want at most 1 in 100", missed, flipped)
	}
	if err := open(t, m).Check(); err != nil {
		t.Errorf("the model as it was: Check = %v", err)
	}
}

func TestGoldenErrorNamesTheVector(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateWindow)
	m := f.artifact(t)
	good := m.Golden.Outputs[3*4+2]
	bad := math.Nextafter32(good, 1e9)
	m.Golden.Outputs[3*4+2] = bad
	err := open(t, m).Check()
	var golden *GoldenError
	if !errors.As(err, &golden) || *golden != (GoldenError{3, 2, bad, good}) {
		t.Fatalf("Check = %v, want vector 3 output 2, want %v, got %v", err, bad, good)
	}
	for _, part := range []string{"vector 3", "output 2", fmt.Sprint(bad), fmt.Sprint(good)} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestStreamEqualsPredictFromZero(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateStream)
	f.schema.Warmup = 9
	m := f.artifact(t)
	if m.Golden.Steps != 9 {
		t.Errorf("golden inputs of %d rows, want the warm-up's 9", m.Golden.Steps)
	}
	p := open(t, m)
	if err := p.Check(); err != nil || !p.Stateful() {
		t.Errorf("Check = %v, stateful %v", err, p.Stateful())
	}
	s, err := p.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	rows, y := rawRows(4, 10), make([]float32, 4)
	for i := range 5 {
		if err := s.Step(y, rows[3*i:][:3]); err != nil {
			t.Fatal(err)
		}
	}
	if want := predict(t, p, rows[:15]); !reflect.DeepEqual(y, want) {
		t.Errorf("after 5 rows the stream gives %v, want %v", y, want)
	}

	// A saved and a replayed stream go on with the same bits.
	saved, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	restored, _ := p.NewStream()
	replayed, _ := p.NewStream()
	if err := errors.Join(restored.UnmarshalBinary(saved), replayed.Step(y, rows[27:]), replayed.Replay(rows[:15])); err != nil {
		t.Fatal(err)
	}
	for i := 5; i < 10; i++ {
		row := rows[3*i:][:3]
		y1, y2 := make([]float32, 4), make([]float32, 4)
		if err := errors.Join(s.Step(y, row), restored.Step(y1, row), replayed.Step(y2, row)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(y, y1) || !reflect.DeepEqual(y, y2) {
			t.Fatalf("row %d: stream %v, restored %v, replayed %v", i, y, y1, y2)
		}
	}

	other := newFixture(t, lastState(), 5, artifact.StateStream)
	other.quant.Layers[0].Bias[0]++
	foreign, _ := open(t, other.artifact(t)).NewStream()
	for _, b := range [][]byte{nil, saved[:31], saved[:32], saved[:len(saved)-1], append(saved, 0)} {
		if err := restored.UnmarshalBinary(b); !errors.Is(err, kernel.ErrState) {
			t.Errorf("state of %d bytes = %v, want kernel.ErrState", len(b), err)
		}
	}
	if err := foreign.UnmarshalBinary(saved); !errors.Is(err, kernel.ErrState) {
		t.Errorf("another model's state = %v, want kernel.ErrState", err)
	}
	if err := s.Replay(rows[:4]); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("Replay(half a row) = %v, want kernel.ErrShape", err)
	}
	if err := s.Step(y, rows[:2]); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("Step(short row) = %v, want kernel.ErrShape", err)
	}
}

func TestWindowModelHasNoStream(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateWindow)
	if _, err := open(t, f.artifact(t)).NewStream(); !errors.Is(err, ErrWindow) {
		t.Errorf("NewStream = %v, want ErrWindow", err)
	}
}

func TestOpenFloat32IsCloseToInt8(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateWindow)
	p, err := OpenFloat32(f.weights, f.schema, f.scaler)
	if err != nil {
		t.Fatal(err)
	}
	rows := rawRows(5, 5)
	a, b := predict(t, p, rows), predict(t, open(t, f.artifact(t)), rows)
	for i := range a {
		if d := math.Abs(float64(a[i] - b[i])); d > 0.1 || d == 0 { // of a deviation of 8
			t.Errorf("output %d: float32 %v, int8 %v", i, a[i], b[i])
		}
	}
	if err := p.Check(); !errors.Is(err, ErrModel) || p.Int8() {
		t.Errorf("Check = %v, int8 %v, want ErrModel, false", err, p.Int8())
	}
}

func TestFloat32ArtifactHasATolerance(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateWindow)
	m := f.artifact(t)
	int8Golden := m.Golden.Outputs
	m.Tensors = nil
	for i, l := range f.weights.Layers {
		in, units := f.weights.Graph.In(i), f.weights.Graph.Layers[i].Units
		columns, bias := units*max(1, f.weights.Graph.Layers[i].Kind.Gates()), []int{len(l.Bias)}
		if f.weights.Graph.Layers[i].Kind == kernel.GRU {
			bias = []int{2, columns}
		}
		m.Tensors = append(m.Tensors, floatTensor(fmt.Sprintf("%d.kernel", i), l.Kernel, in, columns))
		if l.Recurrent != nil {
			m.Tensors = append(m.Tensors, floatTensor(fmt.Sprintf("%d.recurrent", i), l.Recurrent, units, columns))
		}
		m.Tensors = append(m.Tensors, floatTensor(fmt.Sprintf("%d.bias", i), l.Bias, bias...))
	}
	m.Tensors = dropEmpty(m.Tensors)
	m.Golden.Tolerance = 0.1
	p := open(t, m)
	if err := p.Check(); err != nil || p.Int8() {
		t.Errorf("within the tolerance of the int8 outputs: Check = %v, int8 %v", err, p.Int8())
	}
	m.Golden.Tolerance = 0
	if err := open(t, m).Check(); !errors.Is(err, ErrGolden) {
		t.Errorf("with tolerance 0 against int8 outputs %v: Check = %v, want ErrGolden", int8Golden[:1], err)
	}
}

// dropEmpty removes the recurrent kernels that dense layers do not have.
func dropEmpty(ts []artifact.Tensor) []artifact.Tensor {
	var kept []artifact.Tensor
	for _, t := range ts {
		if len(t.Data) > 0 {
			kept = append(kept, t)
		}
	}
	return kept
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(m *artifact.Model)
		want   error
	}{
		{"no tensors", func(m *artifact.Model) { m.Tensors = nil }, artifact.ErrInvalid},
		{"truncated tensor", func(m *artifact.Model) { m.Tensors[0].Data = m.Tensors[0].Data[1:] }, artifact.ErrInvalid},
		{"NaN bias", func(m *artifact.Model) { copy(m.Tensors[4].Data, []byte{0, 0, 0xc0, 0x7f}) }, artifact.ErrNonFinite},
		{"negative scale", func(m *artifact.Model) { m.Tensors[1].Data[3] |= 0x80 }, kernel.ErrRange},
		{"scale whose sums leave float32", func(m *artifact.Model) { copy(m.Tensors[1].Data, []byte{0, 0, 0x7f, 0x7f}) }, kernel.ErrRange},
		{"unknown layer", func(m *artifact.Model) { m.Graph.Layers[0].Kind = "rnn" }, artifact.ErrInvalid},
		{"tolerance of an int8 model", func(m *artifact.Model) { m.Golden.Tolerance = 0.5 }, ErrModel},
		{"negative inverse", func(m *artifact.Model) { m.Scaler.Inv[0] = -1 }, kernel.ErrRange},
		{"int8 and float32 kernels", func(m *artifact.Model) {
			m.Tensors[2] = floatTensor("0.recurrent", make([]float32, 12*48), 12, 48)
			m.Tensors = append(m.Tensors[:3], m.Tensors[4:]...)
		}, ErrModel},
	} {
		f := newFixture(t, lastState(), 5, artifact.StateWindow)
		m := f.artifact(t)
		c.change(m)
		if _, err := Open(m); !errors.Is(err, c.want) {
			t.Errorf("%s: Open = %v, want %v", c.name, err, c.want)
		}
	}
}

func TestBuildingRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f *fixture)
		want   error
	}{
		{"a feature too many", func(f *fixture) { f.schema.Features = append(f.schema.Features, artifact.Column{Name: "x"}) }, ErrModel},
		{"an output too few", func(f *fixture) { f.schema.Horizon = 1 }, ErrModel},
		{"no window", func(f *fixture) { f.schema.Window = 0 }, ErrModel},
		{"no state", func(f *fixture) { f.schema.State = "" }, ErrModel},
		{"short scaler", func(f *fixture) { f.scaler.Inv = f.scaler.Inv[:2] }, kernel.ErrShape},
		{"scaler of other outputs", func(f *fixture) { f.scaler.OutMean, f.scaler.OutStd = []float32{0}, []float32{1} }, ErrModel},
	} {
		f := newFixture(t, lastState(), 5, artifact.StateWindow)
		c.change(f)
		if _, err := FromQuant(f.quant, f.schema, artifact.TaskForecast, f.scaler); !errors.Is(err, c.want) {
			t.Errorf("%s: FromQuant = %v, want %v", c.name, err, c.want)
		}
		if _, err := OpenFloat32(f.weights, f.schema, f.scaler); !errors.Is(err, c.want) {
			t.Errorf("%s: OpenFloat32 = %v, want %v", c.name, err, c.want)
		}
	}
	f := newFixture(t, sequences(), 5, artifact.StateStream)
	if _, err := FromQuant(f.quant, f.schema, artifact.TaskForecast, f.scaler); !errors.Is(err, ErrModel) {
		t.Errorf("stream of sequences: FromQuant = %v, want ErrModel", err)
	}
	f = newFixture(t, lastState(), 5, artifact.StateWindow)
	if _, err := FromQuant(f.quant, f.schema, "dance", f.scaler); !errors.Is(err, artifact.ErrInvalid) {
		t.Errorf("unknown task: FromQuant = %v, want artifact.ErrInvalid", err)
	}
	f.quant.Layers[0].Bias[0] = float32(math.NaN())
	if _, err := FromQuant(f.quant, f.schema, artifact.TaskRUL, f.scaler); !errors.Is(err, kernel.ErrNonFinite) {
		t.Errorf("NaN bias: FromQuant = %v, want kernel.ErrNonFinite", err)
	}
	f = newFixture(t, lastState(), 5, artifact.StateWindow)
	f.scaler.OutStd[1], f.quant.Layers[3].Bias[1] = math.MaxFloat32, 1e9
	if _, err := FromQuant(f.quant, f.schema, artifact.TaskForecast, f.scaler); !errors.Is(err, artifact.ErrNonFinite) {
		t.Errorf("outputs beyond float32: FromQuant = %v, want artifact.ErrNonFinite", err)
	}
}

func TestPredictRefuses(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateWindow)
	p := open(t, f.artifact(t))
	rows := rawRows(6, 5)
	set := func(i int, v float32) []float32 {
		r := append([]float32(nil), rows...)
		r[i] = v
		return r
	}
	for _, c := range []struct {
		name    string
		outputs int
		rows    []float32
		want    error
		text    string
	}{
		{"no rows", 4, nil, kernel.ErrShape, "window: want 15 values, got 0"},
		{"a row too few", 4, rows[3:], kernel.ErrShape, "window: want 15 values, got 12"},
		{"a value too many", 4, append(rows[:15:15], 1), kernel.ErrShape, "got 16"},
		{"short output", 3, rows, kernel.ErrShape, "outputs: want 4 values, got 3"},
		{"NaN", 4, set(7, float32(math.NaN())), kernel.ErrNonFinite, `feature "pressure": row 3, feature 2 is NaN`},
		{"infinite in the constant column", 4, set(14, float32(math.Inf(1))), kernel.ErrNonFinite, `feature "speed": row 5, feature 3 is`},
		{"too far", 4, set(0, 1e9), kernel.ErrRange, `feature "flow": row 1, feature 1 is 1e+09`},
	} {
		err := p.Predict(make([]float32, c.outputs), c.rows)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: Predict = %v, want %v with %q", c.name, err, c.want, c.text)
		}
	}
	if dst, err := p.PredictAppend([]float32{1}, rows[1:]); err == nil || len(dst) != 1 {
		t.Errorf("PredictAppend(short) = %v, %v, want the slice as it was and an error", dst, err)
	}
	for _, n := range []int{-1, 0, 2} {
		if err := p.PredictBatch(make([]float32, 4), rows, n); !errors.Is(err, kernel.ErrShape) {
			t.Errorf("PredictBatch(n = %d) = %v, want kernel.ErrShape", n, err)
		}
	}
}

func TestOpenKeepsNothingOfTheArtifact(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateWindow)
	m := f.artifact(t)
	p, rows := open(t, m), rawRows(8, 5)
	want := predict(t, p, rows)
	for _, tensor := range m.Tensors {
		clear(tensor.Data)
	}
	for _, v := range [][]float32{m.Scaler.Mean, m.Scaler.Inv, m.Scaler.OutMean, m.Scaler.OutStd, m.Golden.Outputs} {
		clear(v)
	}
	m.Schema.Features[0].Name = "changed"
	if got := predict(t, p, rows); !reflect.DeepEqual(got, want) || p.Check() != nil || p.Features()[0] != "flow" {
		t.Errorf("after changing the artifact: %v, want %v; Check = %v; feature %q", got, want, p.Check(), p.Features()[0])
	}
}

func TestConcurrentPredictionsAreEqual(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateStream)
	p := open(t, f.artifact(t))
	rows := rawRows(9, 5*16)
	want := make([][]float32, 16)
	for i := range want {
		want[i] = predict(t, p, rows[15*i:][:15])
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			y := make([]float32, 4)
			for range 20 {
				for i := range want {
					window := rows[15*i:][:15]
					if err := p.Predict(y, window); err != nil || !reflect.DeepEqual(y, want[i]) {
						t.Errorf("window %d: %v, %v, want %v", i, y, err, want[i])
						return
					}
					s, err := p.NewStream()
					if err == nil {
						err = s.Replay(window[:12])
					}
					if err != nil {
						t.Error(err)
						return
					}
					if err := s.Step(y, window[12:]); err != nil || !reflect.DeepEqual(y, want[i]) {
						t.Errorf("stream %d: %v, %v, want %v", i, y, err, want[i])
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestStreamStepDoesNotAllocate(t *testing.T) {
	f := newFixture(t, lastState(), 5, artifact.StateStream)
	s, err := open(t, f.artifact(t)).NewStream()
	if err != nil {
		t.Fatal(err)
	}
	row, y := rawRows(1, 1), make([]float32, 4)
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Step(y, row); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a step, want 0", n)
	}
}
