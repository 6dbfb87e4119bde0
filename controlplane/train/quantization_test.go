package train

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// By hand: the column scales are 0.5 and 0.25.
func TestTensorError(t *testing.T) {
	w := []float32{3, -0.25, 4.25, 0}
	e := tensorError("lstm/kernel", w, []int8{6, -1, 8, 0}, []float32{0.5, 0.25})
	want := TensorError{Name: "lstm/kernel", Shape: [2]int{2, 2}, Max: 0.25, RMS: math.Sqrt(0.0625 / (9 + 0.0625 + 18.0625))}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	if e := tensorError("zeros", []float32{0, 0}, []int8{0, 0}, []float32{1}); e.Max != 0 || e.RMS != 0 {
		t.Errorf("tensor of zeros: %+v", e)
	}
}

// A weight 1,000 times the others of its column leaves them no steps.
func TestTensorErrorsShowAnOutlier(t *testing.T) {
	g := kernel.Graph{Features: 2, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: 3, Sequences: true}, {Kind: kernel.LSTM, Units: 2, Sequences: true}, {Kind: kernel.GRU, Units: 2}, {Kind: kernel.Dense, Units: 1},
	}}
	w, err := bptt.Init(g, 1)
	if err != nil {
		t.Fatal(err)
	}
	at := func() []TensorError {
		q, err := kernel.Quantize(w)
		if err != nil {
			t.Fatal(err)
		}
		return tensorErrors(w, q)
	}
	before := at()
	names := make([]string, len(before))
	for i, e := range before {
		names[i] = e.Name
		if !(e.RMS > 0 && e.RMS < 0.01 && e.Max > 0 && e.Max < 0.01) {
			t.Errorf("%s: rms %v, largest %v; want above 0 and below 0.01", e.Name, e.RMS, e.Max)
		}
	}
	want := []string{"lstm/kernel", "lstm/recurrent_kernel", "lstm_1/kernel", "lstm_1/recurrent_kernel", "gru/kernel", "gru/recurrent_kernel"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("tensors: %s", diff)
	}
	if want := [2]int{2, 6}; before[4].Shape != want {
		t.Errorf("shape of %s: %v, want %v", before[4].Name, before[4].Shape, want)
	}
	w.Layers[1].Recurrent[0] *= 1000
	after := at()
	for i := range after {
		if changed := after[i].Max > 10*before[i].Max; changed != (i == 3) {
			t.Errorf("%s: largest error %v, before the outlier %v", after[i].Name, after[i].Max, before[i].Max)
		}
	}
}

func TestGate(t *testing.T) {
	twentieth := 0.05
	for _, tt := range []struct {
		name          string
		o             Options
		metric        string
		float32, int8 float64
		want          bool
	}{
		{"rul better", Options{Task: RUL}, "rmse", 16, 15, true},
		{"rul within 1 %", Options{Task: RUL}, "rmse", 16, 16.15, true},
		{"rul beyond 1 %", Options{Task: RUL}, "rmse", 16, 16.17, false},
		{"rul within a tenth of a row", Options{Task: RUL}, "rmse", 1, 1.09, true},
		{"rul beyond a tenth of a row", Options{Task: RUL}, "rmse", 1, 1.11, false},
		{"forecast within 1 %", Options{Task: Forecast}, "mse_scaled", 0.5, 0.504, true},
		{"forecast beyond 1 %", Options{Task: Forecast}, "mse_scaled", 0.5, 0.506, false},
		{"forecast within a thousandth of the variance", Options{Task: Forecast}, "mse_scaled", 1e-6, 9e-4, true},
		{"forecast beyond a thousandth of the variance", Options{Task: Forecast}, "mse_scaled", 1e-6, 1.1e-3, false},
		{"within its own bound", Options{Task: RUL, Int8Bound: &twentieth}, "rmse", 1, 1.04, true},
		{"beyond its own bound", Options{Task: RUL, Int8Bound: &twentieth}, "rmse", 1, 1.06, false},
		{"no bound at all", Options{Task: RUL, Int8Bound: new(float64)}, "rmse", 1, 1.000001, false},
		{"no worse", Options{Task: RUL, Int8Bound: new(float64)}, "rmse", 1, 1, true},
		{"not a number", Options{Task: RUL}, "rmse", 16, math.NaN(), false},
	} {
		r := Report{Metrics: Pair{Float32: Metrics{tt.metric: tt.float32}, Int8: Metrics{tt.metric: tt.int8}}}
		r.Quantization = &Quantization{[]TensorError{{Name: "lstm/kernel", RMS: 0.01}, {Name: "lstm/recurrent_kernel", RMS: 0.2}}, tt.o.gate(100).pass(r.Metrics)}
		err := r.CheckInt8()
		if passed := err == nil; passed != tt.want || !passed && !errors.Is(err, ErrInt8) {
			t.Errorf("%s: %v, want passed %v", tt.name, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), "lstm/recurrent_kernel, 20 % of its weights") {
			t.Errorf("%s: %v does not name the worst tensor", tt.name, err)
		}
	}
	if err := (Report{}).CheckInt8(); err != nil {
		t.Errorf("a report without a training: %v", err)
	}
}

func TestRunReportsWhatInt8Cost(t *testing.T) {
	o := rulOptions
	o.Validation = NoValidation // the gate is of the rows that there are
	r := run1(t, o, engines(6, 1)).Report
	q := r.Quantization
	if q == nil || r.Evaluated != "training" || len(q.Tensors) != 2 || q.Tensors[1].Shape != [2]int{8, 32} || !q.Gate.Passed || q.Gate.Metric != "rmse" {
		t.Errorf("evaluated on %s rows: %+v", r.Evaluated, q)
	}
}
