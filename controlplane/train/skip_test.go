package train

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// skipOptions forecast two sines of different kind, and a column that has no path.
var skipOptions = Options{
	Model: "m", Task: Forecast, Time: "t", Targets: []string{"load", "heat"}, Features: []string{"load", "heat"}, Window: 24, Horizon: 3,
	Anchor: "last", Skip: true, Split: "400,100,100", Units: []int{4}, Epochs: 2, Seed: 1,
}

// Of sums of sines a weighted sum of the past is all there is to know: with the
// path a network that hardly learned is right, without it is not.
func TestSkipPathTakesWhatIsLinear(t *testing.T) {
	data := seasons(0, 600)
	o := skipOptions
	with := trained(t, o, data).Report
	o.Skip = false
	without := trained(t, o, data).Report
	a, b := with.Metrics.Int8["mse_scaled"], without.Metrics.Int8["mse_scaled"]
	if !(a < 0.01 && a < b/10) {
		t.Errorf("mse_scaled %v with a path, %v without", a, b)
	}
	if s := with.Baselines["skip"]["mse_scaled"]; !(s > 0 && s < 0.01) {
		t.Errorf("the path alone has mse_scaled %v", s)
	}
	if _, ok := without.Baselines["skip"]; ok {
		t.Error("a baseline of a path that there is not")
	}
	if n := len(with.Training.SkipRidge); n != 2 {
		t.Errorf("%d penalties reported, want one for each target", n)
	}
}

// The first validation loss of a network that learns nothing is the path's own
// error: the head begins at nothing.
func TestNetworkBeginsAsItsSkipPath(t *testing.T) {
	o := skipOptions
	o.Epochs, o.LearningRate = 1, 1e-9
	r := trained(t, o, seasons(0, 600)).Report
	if a, b := r.Metrics.Float32["mse"], r.Baselines["skip"]["mse"]; math.Abs(a-b) > 1e-4*b {
		t.Errorf("mse %v of the untrained network beside its path, %v of the path alone", a, b)
	}
}

func TestErrorOfAMapIsThatOfItsPredictions(t *testing.T) {
	var x []float64
	for i := range 300 {
		x = append(x, math.Sin(float64(i)/5)+0.3*math.Sin(float64(i)*1.7)+0.01*float64(i))
	}
	src := source(t, 8, 3, x)
	m, err := fitLinear(t.Context(), src, 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.weights {
		m.weights[i] += 0.1 * float32(math.Cos(float64(i))) // no longer the best
	}
	s, err := sumsOf(t.Context(), src, 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := 0.0
	in, y, got := make([]float32, 8), make([]float32, 3), make([]float32, 3)
	for i := range src.Len() {
		src.Window(i, in, y)
		m.predict(got, in)
		for o := range y {
			d := float64(got[o] - y[o])
			want += d * d / float64(3*src.Len())
		}
	}
	if e := s.errorOf(m); math.Abs(e-want) > 1e-5*want {
		t.Errorf("errorOf = %v, want %v", e, want)
	}
}

// A run that goes on keeps the path, which its weights belong to.
func TestGoingOnKeepsTheSkipPath(t *testing.T) {
	first := trained(t, skipOptions, seasons(0, 600))
	next := Options{Time: "t", Split: "400,100,100", Epochs: 1, LearningRate: 1e-4, From: base(first)}
	second := trained(t, next, seasons(100, 600))
	for i := range 3 {
		if !bytes.Equal(second.Model.Tensors[i].Data, first.Model.Tensors[i].Data) {
			t.Errorf("tensor %s is another", second.Model.Tensors[i].Name)
		}
	}
	head := next
	head.HeadOnly = true
	if _, err := artifact.PackHead(trained(t, head, seasons(100, 600)).Model, first.Model); err != nil {
		t.Errorf("the last layer alone: %v", err)
	}
	plain := skipOptions
	plain.Skip = false
	next.From, next.Skip = base(trained(t, plain, seasons(0, 600))), true
	if _, err := Run(t.Context(), next, strings.NewReader(seasons(100, 600)), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "skip path") {
		t.Errorf("a path on a version without: %v", err)
	}
}

// Evaluated later, the version and its float32 weights answer as they did.
func TestSkipPathIsEvaluatedAsItWasTrained(t *testing.T) {
	data := seasons(0, 600)
	r := trained(t, skipOptions, data)
	e, err := Evaluate(t.Context(), r.Model, r.Weights, dataset.One(strings.NewReader(data)), nil, EvalOptions{Setup: r.Report.Setup})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"mse", "mae_scaled"} {
		if e.Metrics.Int8[f] != r.Report.Metrics.Int8[f] || e.Metrics.Float32[f] != r.Report.Metrics.Float32[f] || e.Baselines["skip"][f] != r.Report.Baselines["skip"][f] {
			t.Errorf("%s: evaluated %v, trained %v", f, e.Metrics, r.Report.Metrics)
		}
	}
	if s := predictor.Skip(r.Model); s.Rows != 24 || !slices.Equal(s.Features, []int{0, 1, 0, 1, 0, 1}) {
		t.Errorf("the path has %d rows, features %v", s.Rows, s.Features)
	}
}

func TestSkipPathWhereItCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"rul":    {func(o *Options) { *o = rulOptions; o.Time, o.Group, o.Skip = "t", "", true }, "for the task forecast"},
		"stream": {func(o *Options) { o.State, o.Anchor = Stream, "none" }, "is for windows"},
		"other":  {func(o *Options) { o.Targets, o.Features, o.Anchor = []string{"load"}, []string{"heat"}, "none" }, "needs a target among the features"},
		"large":  {func(o *Options) { o.Window, o.Split = maxLinearInputs+1, "3000,10,10" }, "at most 2048"},
	} {
		o := skipOptions
		c.change(&o)
		rows := 600
		if name == "large" {
			rows = 3100
		}
		if _, err := Run(t.Context(), o, strings.NewReader(seasons(0, rows)), nil); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrOptions with %q", name, err, c.want)
		}
	}
}

// Of two targets one of which is no feature, the other has a path.
func TestTargetWithoutAFeatureHasNoSkipPath(t *testing.T) {
	o := skipOptions
	o.Features = []string{"load"}
	r := trained(t, o, seasons(0, 600))
	if s := predictor.Skip(r.Model); !slices.Equal(s.Features, []int{0, -1, 0, -1, 0, -1}) {
		t.Errorf("features of the path %v", s.Features)
	}
	if !slices.ContainsFunc(r.Report.Warnings, func(w string) bool { return strings.Contains(w, `"heat" is not a feature and has no skip path`) }) {
		t.Errorf("warnings %q", r.Report.Warnings)
	}
}
