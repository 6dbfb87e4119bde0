package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
)

// gaits is a file of n series of 4 to 12 rows each: of those that rise in the end the
// label is up, of those that fall down, and of others, if there are to be any, flat.
func gaits(n, classes int, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	b.WriteString("s,t,x,noise,gait\n")
	for s := range n {
		class := s % classes
		v := 10 + rng.NormFloat64()
		for i := range 4 + rng.IntN(9) {
			v += []float64{1, -1, 0}[class]
			fmt.Fprintf(&b, "%d,%d,%.3f,%.3f,%s\n", s, i, v+0.1*rng.NormFloat64(), rng.NormFloat64(), []string{"up", "down", "flat"}[class])
		}
	}
	return b.String()
}

var classifyOptions = Options{
	Model: "gait", Task: Classify, Time: "t", Group: "s", Units: []int{8}, Epochs: 30, LearningRate: 0.02, Seed: 1,
	TaskSettings: TaskSettings{Label: "gait"},
}

func TestClassifySeriesOfDifferentLength(t *testing.T) {
	o := classifyOptions
	o.Split, o.Predictions = "0.6,0.2,0.2", true
	res := run1(t, o, gaits(90, 3, 1))
	r := res.Report
	if r.Evaluated != "test" || r.Items != 18 || len(r.Predictions) != 18 {
		t.Errorf("evaluated %q, %d series, %d predictions, want 18 of the test part", r.Evaluated, r.Items, len(r.Predictions))
	}
	if a := r.Metrics.Int8["accuracy"]; !(a >= 0.9) || math.Abs(a-r.Metrics.Float32["accuracy"]) > 0.06 {
		t.Errorf("accuracy %v, float32 %v", a, r.Metrics.Float32["accuracy"])
	}
	if m := r.Baselines["majority"]["accuracy"]; !(m > 0.2 && m < 0.6) {
		t.Errorf("accuracy of the majority %v", m)
	}
	if l := r.Baselines["linear"]["accuracy"]; !(l > 0.6) {
		t.Errorf("accuracy of the linear map %v", l)
	}
	s := res.Model.Schema
	if s.Window != 12 || s.MinWindow != 1 || fmt.Sprint(s.Labels) != "[down flat up]" || s.Targets[1].Name != "flat" {
		t.Errorf("schema %+v, want 1 to 12 rows and three labels", s)
	}
	hits := 0
	for _, p := range r.Predictions {
		if p.Label == p.Told {
			hits++
		}
	}
	if want := float64(hits) / 18; want != r.Metrics.Int8["accuracy"] {
		t.Errorf("%d of the predictions are right, accuracy %v", hits, r.Metrics.Int8["accuracy"])
	}
	c := r.Classification
	if c.Float32 == nil || len(c.Int8.Confusion) != 3 || c.Int8.Support[0]+c.Int8.Support[1]+c.Int8.Support[2] != 18 {
		t.Errorf("classification %+v", c)
	}
	if i := r.Intervals["accuracy"]; !(float64(i[0]) <= r.Metrics.Int8["accuracy"] && float64(i[0]) > 0.6 && i[1] <= 1) {
		t.Errorf("accuracy %v in %v", r.Metrics.Int8["accuracy"], i)
	}
	// Of what the majority lacks to 1 the model has a part only.
	if v := r.Verdict; v.Metric != "accuracy" || v.Against[1].Baseline != "majority" || !(v.Against[1].Better > 0.7) {
		t.Errorf("verdict %+v", v)
	}
	if g := r.Quantization.Gate; g.Metric != "error" || !g.Passed || !closeTo(g.Absolute, 1./18) {
		t.Errorf("gate %+v, want one series of 18 allowed", g)
	}
}

// What the report says of a series is what a device says of its rows.
func TestClassifierPredictsAsEvaluated(t *testing.T) {
	o := classifyOptions
	o.Validation, o.Predictions, o.Epochs = NoValidation, true, 5
	data := gaits(12, 3, 2)
	res := run1(t, o, data)
	p, err := predictor.Open(res.Model)
	if err != nil {
		t.Fatal(err)
	}
	table, err := dataset.Read(strings.NewReader(data), dataset.Columns{Time: "t", Group: "s", Label: "gait"})
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range table.Groups {
		y, err := p.PredictAppend(nil, table.X[g.Start*2:g.End*2])
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(y, res.Report.Predictions[i].Int8) || p.Label(y) != res.Report.Predictions[i].Told {
			t.Errorf("series %s: %v %s, the report %+v", g.Name, y, p.Label(y), res.Report.Predictions[i])
		}
	}
}

func TestClassifyTwoClassesWithOneSigmoid(t *testing.T) {
	o := classifyOptions
	o.Loss, o.ClassWeight = bptt.BinaryCrossentropy, []string{Balanced}
	res := run1(t, o, gaits(60, 2, 3))
	s := res.Model.Schema
	if len(s.Targets) != 1 || s.Targets[0].Name != "up" || fmt.Sprint(s.Labels) != "[down up]" {
		t.Errorf("schema %+v, want the probability of up alone", s)
	}
	if a := res.Report.Metrics.Int8["accuracy"]; !(a >= 0.85) {
		t.Errorf("accuracy %v", a)
	}
	if r := res.Report; r.Evaluated != "validation" || r.Items != 9 {
		t.Errorf("evaluated %q, %d series, want 15 %% of the groups", r.Evaluated, r.Items)
	}
}

func TestClassifyWindowsByTheirLastRow(t *testing.T) {
	var b strings.Builder
	b.WriteString("x,state\n")
	rng := rand.New(rand.NewPCG(4, 1))
	for i := range 400 {
		on := i / 20 % 2
		fmt.Fprintf(&b, "%.3f,%d\n", float64(on)*2+0.3*rng.NormFloat64(), on)
	}
	o := Options{
		Model: "m", Task: Classify, Window: 3, Split: "0.7,0.1,0.2", SplitBy: dataset.ByTime, Units: []int{6}, Epochs: 15, LearningRate: 0.02, Seed: 1,
		TaskSettings: TaskSettings{Label: "state"},
	}
	res := run1(t, o, b.String())
	if s := res.Model.Schema; s.Window != 3 || s.MinWindow != 0 {
		t.Errorf("schema %+v, want exactly 3 rows", s)
	}
	if a := res.Report.Metrics.Int8["accuracy"]; !(a > 0.95) || res.Report.Items < 70 {
		t.Errorf("accuracy %v of %d windows", a, res.Report.Items)
	}
}

func TestClassWeightsMoveTheLoss(t *testing.T) {
	o := classifyOptions
	o.Epochs = 1
	plain := run1(t, o, gaits(60, 3, 1)).Report.Training.History[0].Loss
	o.ClassWeight = []string{"up=3", "down=3", "flat=3"}
	if got := run1(t, o, gaits(60, 3, 1)).Report.Training.History[0].Loss; !(got > 2*plain) {
		t.Errorf("loss %v with weights of 3, %v without", got, plain)
	}
}

func TestEvaluateClassifierOnAnotherFile(t *testing.T) {
	o := classifyOptions
	o.Validation = NoValidation
	res := run1(t, o, gaits(60, 3, 1))
	eval := func(data string) (*Report, error) {
		return Evaluate(t.Context(), res.Model, res.Weights, dataset.One(strings.NewReader(data)), nil, EvalOptions{Setup: res.Report.Setup})
	}
	r, err := eval(gaits(30, 3, 9))
	if err != nil || r.Evaluated != "all" || r.Items != 30 || !(r.Metrics.Int8["accuracy"] > 0.85) || r.Baselines["linear"] == nil {
		t.Errorf("%+v, %v", r, err)
	}
	long := "s,t,x,noise,gait\n"
	for i := range 20 {
		long += fmt.Sprintf("1,%d,%d,0,up\n", i, i)
	}
	if r, err = eval(long); err != nil || r.Items != 1 || !slices.ContainsFunc(r.Warnings, func(s string) bool { return strings.Contains(s, "1 series are longer") }) {
		t.Errorf("a longer series: %+v, %v", r, err)
	}
	_, err = eval("s,t,x,noise,gait\n1,0,1,1,up\n2,0,1,1,sideways\n")
	if !errors.Is(err, dataset.ErrLabel) || !strings.Contains(err.Error(), `"sideways"`) || !strings.Contains(err.Error(), `group "2"`) {
		t.Errorf("a label that was never seen: %v", err)
	}
}

func TestClassifyRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		data   string
		text   string
	}{
		"no label":      {func(o *Options) { o.Label = "" }, "", "needs a label column"},
		"a target":      {func(o *Options) { o.Targets = []string{"x"} }, "", "no target column"},
		"a horizon":     {func(o *Options) { o.Horizon = 2 }, "", "a horizon is for"},
		"an anchor":     {func(o *Options) { o.Anchor = "last" }, "", "a class has none"},
		"a stream":      {func(o *Options) { o.State = Stream }, "", "is of windows"},
		"a loss":        {func(o *Options) { o.Loss = "mse" }, "", "of classes there are categorical_crossentropy"},
		"a typo":        {func(o *Options) { o.Loss = "categorical" }, "", `no loss "categorical"`},
		"a weight":      {func(o *Options) { o.ClassWeight = []string{"up"} }, "", "write balanced, or CLASS=WEIGHT"},
		"its number":    {func(o *Options) { o.ClassWeight = []string{"up=-1"} }, "", "0 or more"},
		"its class":     {func(o *Options) { o.ClassWeight = []string{"left=2"} }, "", "no such class"},
		"one class":     {nil, gaits(9, 1, 1), "nothing to tell apart"},
		"three as two":  {func(o *Options) { o.Loss = bptt.BinaryCrossentropy }, "", "has 3"},
		"labels change": {func(o *Options) { o.Time, o.Group, o.SplitBy, o.Split = "", "", "time", "0.5,0,0.5" }, "x,gait\n1,a\n2,b\n3,a\n4,b\n5,a\n6,b\n7,b\n8,a\n", "say how many rows"},
		"an answer in a feature": {nil, "s,t,x,gait\n1,0,5,a\n2,0,6,b\n3,0,5,a\n4,0,6,b\n5,0,5,a\n6,0,6,b\n7,0,5,a\n8,0,6,b\n",
			"it holds the answer"},
		"smoothing": {func(o *Options) { o.Smooth = 3 }, "", "no use with the task classify"},
	} {
		o := classifyOptions
		if c.change != nil {
			c.change(&o)
		}
		if c.data == "" {
			c.data = gaits(9, 3, 1)
		}
		_, err := Run(context.Background(), o, strings.NewReader(c.data), nil)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
	}
	o := forecastOptions
	o.Label = "gait"
	if err := o.Check(); err == nil || !strings.Contains(err.Error(), "a label has no use with the task forecast") {
		t.Errorf("a label of a forecast: %v", err)
	}
}
