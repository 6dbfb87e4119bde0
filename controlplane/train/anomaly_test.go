package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// valves is a file of groups of 300 rows: a flow round 30 and a temperature that
// drifts; from row 200 on for 50 rows the flow is 2 lower, which is anomalous.
func valves(groups int, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	b.WriteString("run,flow,temp,fault\n")
	for g := range groups {
		temp := 60.0
		for i := range 300 {
			flow, fault := 30+0.4*rng.NormFloat64(), 0
			if i >= 200 && i < 250 {
				flow, fault = flow-2, 1
			}
			temp += 0.05 * rng.NormFloat64()
			fmt.Fprintf(&b, "r%d,%.3f,%.3f,%d\n", g, flow, temp, fault)
		}
	}
	return b.String()
}

var anomalyOptions = Options{
	Model: "valve", Task: Anomaly, Group: "run", Split: "150,0,rest", Units: []int{8}, Epochs: 5, LearningRate: 0.01, Seed: 1,
	TaskSettings: TaskSettings{Label: "fault"},
}

func TestDetectorFindsAShift(t *testing.T) {
	o := anomalyOptions
	o.Predictions = true
	res := run1(t, o, valves(2, 1))
	r := res.Report
	if r.Evaluated != "test" || r.Items != 300 || len(r.Predictions) != 300 {
		t.Errorf("evaluated %q, %d rows, %d predictions, want 300 of the test part", r.Evaluated, r.Items, len(r.Predictions))
	}
	m := r.Metrics.Int8
	if !(m["f1"] > 0.85) || !(m["far"] < 0.1) || m["events"] != 2 || m["missed"] != 0 || !(m["delay"] < 10) {
		t.Errorf("metrics %v", m)
	}
	if b := r.Baselines; !(b["mean"]["f1"] < m["f1"]) || !(b["repeat_last"]["f1"] < m["f1"]) || b["linear"] == nil {
		t.Errorf("baselines %v", b)
	}
	d := res.Model.Schema.Detector
	if d == nil || d.Residual != artifact.NextStep || d.Smooth != 10 || len(d.Inv) != 2 || res.Model.Schema.Window != 5+10 || res.Model.Skip == nil {
		t.Fatalf("detector %+v, window %d", d, res.Model.Schema.Window)
	}
	if r.Detection.Threshold != d.Threshold || r.Detection.Rows != 2*(150-14) || len(r.Detection.At) != 5 || r.Detection.At[1].Int8["f1"] != m["f1"] {
		t.Errorf("detection %+v", r.Detection)
	}
	if g := r.Detection.Groups; len(g) != 2 || g[1].Group != "r1" || g[0].Metrics["tp"]+g[1].Metrics["tp"] != m["tp"] {
		t.Errorf("groups %+v", g)
	}
	if i := r.Intervals["f1"]; !(float64(i[0]) < m["f1"] && m["f1"] < float64(i[1])) || r.Intervals["tp"] != (Interval{}) {
		t.Errorf("intervals %v about an F1 of %v", r.Intervals, m["f1"])
	}
	if v := r.Verdict; v == nil || v.Metric != "f1" || len(v.Against) != 3 {
		t.Errorf("verdict %+v", v)
	}
	alarms := 0.0
	for _, p := range r.Predictions {
		if *p.Alarm != (p.Int8[0] > d.Threshold) {
			t.Errorf("score %v, threshold %v, alarm %v", p.Int8[0], d.Threshold, *p.Alarm)
		}
		if *p.Alarm {
			alarms++
		}
	}
	if alarms != m["tp"]+m["fp"] {
		t.Errorf("%v alarms, metrics %v", alarms, m)
	}
	if g := r.Quantization.Gate; g.Metric != "differs" || !g.Passed {
		t.Errorf("gate %+v", g)
	}
}

// The threshold is the rule's, of the scores that a device gives to training rows, and
// nothing of the test part is in it.
func TestThresholdIsThatOfTrainingRows(t *testing.T) {
	data := valves(1, 1)
	res := run1(t, anomalyOptions, data)
	d := res.Model.Schema.Detector
	p, err := predictor.Open(res.Model)
	if err != nil {
		t.Fatal(err)
	}
	table, err := dataset.Read(strings.NewReader(data), dataset.Columns{Group: "run", Label: "fault"})
	if err != nil {
		t.Fatal(err)
	}
	var scores []float32
	for end := 15; end <= 150; end++ {
		y, err := p.PredictAppend(nil, table.X[(end-15)*2:end*2])
		if err != nil {
			t.Fatal(err)
		}
		scores = append(scores, y[0])
	}
	slices.Sort(scores)
	at := 0.99 * float64(len(scores)-1)
	want := 2 * (scores[int(at)] + float32(at-math.Floor(at))*(scores[int(at)+1]-scores[int(at)]))
	if math.Abs(float64(d.Threshold-want)) > 1e-6 {
		t.Errorf("threshold %v, want twice the 0.99 quantile of %d scores, %v", d.Threshold, len(scores), want)
	}
	other := strings.Split(data, "\n")
	for i := 151; i < len(other)-1; i++ {
		other[i] = "r0,99,99,1"
	}
	if got := run1(t, anomalyOptions, strings.Join(other, "\n")).Model.Schema.Detector; got.Threshold != d.Threshold || !slices.Equal(got.Inv, d.Inv) {
		t.Errorf("threshold %v with other test rows, was %v", got.Threshold, d.Threshold)
	}
}

func TestOnlyNormalRowsAreLearned(t *testing.T) {
	o := anomalyOptions
	o.Split = "280,0,rest"
	r := run1(t, o, valves(1, 1)).Report
	// 280 − 5 windows, of which those that end or look into rows 200 to 249 are out.
	if want := 275 - 55; r.Training.Windows != want {
		t.Errorf("%d training windows, want %d", r.Training.Windows, want)
	}
	if !slices.ContainsFunc(r.Warnings, func(s string) bool { return strings.Contains(s, "55 training windows were left out") }) {
		t.Errorf("warnings %q", r.Warnings)
	}
	if !closeTo(r.Setup.Mean[0], 30) && math.Abs(r.Setup.Mean[0]-30) > 0.1 {
		t.Errorf("the mean flow of normal rows is %v, want about 30", r.Setup.Mean[0])
	}
}

func TestDetectorWithoutLabelsHasFalseAlarmsOnly(t *testing.T) {
	o := anomalyOptions
	o.Label, o.Features = "", []string{"flow", "temp"}
	r := run1(t, o, valves(1, 1)).Report
	if m := r.Metrics.Int8; !(m["far"] > 0.2) || !math.IsNaN(m["mar"]) {
		t.Errorf("metrics %v, want every alarm to be a false one", m)
	}
}

func TestDetectorReconstructs(t *testing.T) {
	o := anomalyOptions
	o.Residual, o.Units, o.Epochs, o.Targets = artifact.Reconstruction, []int{2}, 20, []string{"flow"}
	res := run1(t, o, valves(1, 1))
	s := res.Model.Schema
	if s.Window != 14 || s.NetworkWindow() != 5 || len(s.Detector.Features) != 1 || res.Model.Skip != nil {
		t.Errorf("schema %+v", s)
	}
	if m := res.Report.Metrics.Int8; !(m["roc_auc"] > 0.6) {
		t.Errorf("metrics %v", m)
	}
	if _, ok := res.Report.Baselines["linear"]; ok {
		t.Error("a linear map of a window to its own last row is a baseline")
	}
}

func TestEvaluateDetectorOnAnotherFile(t *testing.T) {
	res := run1(t, anomalyOptions, valves(2, 1))
	r, err := Evaluate(t.Context(), res.Model, res.Weights, dataset.One(strings.NewReader(valves(1, 1))), nil, EvalOptions{Setup: res.Report.Setup})
	if err != nil || r.Evaluated != "all" || r.Items != 300-14 || !(r.Metrics.Int8["f1"] > 0.8) || len(r.Baselines) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestTrainingOfADetectorGoesOn(t *testing.T) {
	first := run1(t, anomalyOptions, valves(2, 1))
	o := Options{
		Model: "valve", Task: Anomaly, Group: "run", Split: "150,0,rest", Epochs: 1, LearningRate: 1e-4, Seed: 1,
		From: &Base{Ref: "valve:v1", Model: first.Model, Weights: first.Weights}, TaskSettings: TaskSettings{Label: "fault"},
	}
	next := run1(t, o, valves(2, 1))
	if a, b := first.Model.Schema.Detector, next.Model.Schema.Detector; math.Abs(float64(a.Threshold/b.Threshold)-1) > 0.2 || a.Smooth != b.Smooth {
		t.Errorf("detector %+v went on as %+v", a, b)
	}
	o.Targets = []string{"flow"}
	if _, err := Run(context.Background(), o, strings.NewReader(valves(2, 1)), nil); err == nil || !strings.Contains(err.Error(), "targets: valve:v1 has") {
		t.Errorf("another target: %v", err)
	}
}

func TestAnomalyRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		text   string
	}{
		"residual":          {func(o *Options) { o.Residual = "last-step" }, `no residual "last-step"`},
		"quantile":          {func(o *Options) { o.ThresholdQuantile = 1.5 }, "at most 1"},
		"factor":            {func(o *Options) { o.ThresholdFactor = -1 }, "above 0"},
		"smoothing":         {func(o *Options) { o.Smooth = -1 }, "smooth over 1 or more"},
		"too much of it":    {func(o *Options) { o.Smooth = 300 }, "rows for the threshold"},
		"horizon":           {func(o *Options) { o.Horizon = 3 }, "a horizon is for"},
		"normal":            {func(o *Options) { o.Normal = "fine" }, `no row has the normal label "fine"`},
		"normal of nothing": {func(o *Options) { o.Label, o.Normal = "", "0" }, "without a label column"},
		"no normal label":   {func(o *Options) { o.Label = "run"; o.Group = "" }, "which label of column"},
		"target":            {func(o *Options) { o.Targets = []string{"fault"} }, "is no feature"},
		"nothing normal":    {func(o *Options) { o.Normal = "1" }, "no window of 6 rows that are 1"},
		"an own anchor":     {func(o *Options) { o.Residual, o.Anchor = artifact.Reconstruction, "last" }, "reconstructed by itself"},
		"a way past":        {func(o *Options) { o.Residual, o.Skip = artifact.Reconstruction, true }, "reconstructed by itself"},
		"class weights":     {func(o *Options) { o.ClassWeight = []string{Balanced} }, "no use with the task anomaly"},
	} {
		o := anomalyOptions
		c.change(&o)
		_, err := Run(context.Background(), o, strings.NewReader(valves(1, 1)), nil)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
	}
}
