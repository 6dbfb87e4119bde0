package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
)

// engines is a run-to-failure file: the wear w rises to 1 in the last row; a
// shows it, b is noise, c is constant.
func engines(n int, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	b.WriteString("unit,cycle,a,b,c\n")
	for u := range n {
		life := 20 + rng.IntN(20)
		for i := range life {
			left := float64(life - 1 - i)
			fmt.Fprintf(&b, "u%d,%d,%.4f,%.4f,21.61\n", u+1, i+1, 100-min(left, 15)+0.1*rng.NormFloat64(), rng.NormFloat64())
		}
	}
	return b.String()
}

// hours is an hourly file with a daily wave and a slow drift.
func hours(n int) string {
	rng := rand.New(rand.NewPCG(7, 7))
	var b strings.Builder
	b.WriteString("date,load,ot\n")
	for i := range n {
		v := 10*math.Sin(2*math.Pi*float64(i)/24) + 0.01*float64(i) + rng.NormFloat64()
		fmt.Fprintf(&b, "2020-01-%02d %02d:00:00,%.3f,%.3f\n", 1+i/24, i%24, v/2, v)
	}
	return b.String()
}

var rulOptions = Options{
	Model: "turbofan", Task: RUL, Time: "cycle", Group: "unit", Window: 5, Cap: 12, Units: []int{8}, Epochs: 4, LearningRate: 0.01, Seed: 3, Validation: 0.25,
}

var forecastOptions = Options{
	Model: "power", Task: Forecast, Time: "date", Targets: []string{"ot"}, Features: []string{"ot"}, Window: 24, Horizon: 6, Anchor: "last",
	Split: "400,100,120", Units: []int{6}, Epochs: 3, LearningRate: 0.01, Seed: 1,
}

func run1(t *testing.T, o Options, data string) *Result {
	t.Helper()
	res, err := Run(context.Background(), o, strings.NewReader(data), nil)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return res
}

func TestRunRUL(t *testing.T) {
	data := engines(12, 1)
	var stages []Stage
	o := rulOptions
	o.Predictions = true
	res, err := Run(context.Background(), o, strings.NewReader(data), func(p Progress) { stages = append(stages, p.Stage) })
	if err != nil {
		t.Fatal(err)
	}
	r := res.Report
	if want := []Stage{Reading, Baselines, Fitting, Fitting, Fitting, Fitting, Evaluating}; !slices.Equal(stages, want) {
		t.Errorf("stages %v, want %v", stages, want)
	}
	if r.Evaluated != "validation" || r.Items != r.Training.Validation || r.Items != len(r.Predictions) {
		t.Errorf("evaluated %q, %d items, %d validation windows, %d predictions", r.Evaluated, r.Items, r.Training.Validation, len(r.Predictions))
	}
	groups := map[string]bool{}
	for _, p := range r.Predictions {
		groups[p.Group] = true
	}
	if len(groups) != 3 {
		t.Errorf("predictions of %d groups, want the 3 held out", len(groups))
	}
	if d := math.Abs(r.Metrics.Float32["rmse"] - r.Metrics.Int8["rmse"]); !(d < 0.5) {
		t.Errorf("int8 rmse %v, float32 %v", r.Metrics.Int8["rmse"], r.Metrics.Float32["rmse"])
	}
	if m, b := r.Metrics.Int8["rmse"], r.Baselines["mean"]["rmse"]; !(m < b) {
		t.Errorf("rmse %v is not below the mean's %v", m, b)
	}
	if b := r.Baselines["linear"]["rmse"]; !(b < r.Baselines["mean"]["rmse"]) {
		t.Errorf("linear rmse %v", b)
	}
	if len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], `"c" is constant`) {
		t.Errorf("warnings %q", r.Warnings)
	}
	if len(r.Training.History) != 4 || r.Training.History[3].ValLoss == nil {
		t.Errorf("history %+v", r.Training.History)
	}
	best := slices.MinFunc(r.Training.History, func(a, b Epoch) int { return int(math.Copysign(1, *a.ValLoss-*b.ValLoss)) })
	if r.Training.BestEpoch != best.Epoch {
		t.Errorf("best epoch %d, want %d", r.Training.BestEpoch, best.Epoch)
	}
	// The figures are those of the predictions.
	sum := 0.0
	for _, p := range r.Predictions {
		d := float64(p.Int8[0]) - min(float64(p.Truth[0]), 12)
		sum += d * d
	}
	almost(t, "rmse from the predictions", r.Metrics.Int8["rmse"], math.Sqrt(sum/float64(r.Items)))
	if res.Model.Scaler.Inv[2] != 0 || res.Model.Schema.Window != 5 || res.Model.Task != RUL {
		t.Errorf("model %+v of task %q, inverse of the constant column %v", res.Model.Schema, res.Model.Task, res.Model.Scaler.Inv[2])
	}
}

func TestRunForecastWithAnchor(t *testing.T) {
	res := run1(t, forecastOptions, hours(640))
	r := res.Report
	if r.Evaluated != "test" || r.Items != 120-6+1 || r.Training.Windows != 400-24-6+1 || r.Training.Validation != 100-6+1 {
		t.Errorf("evaluated %q: %d items, %d and %d windows", r.Evaluated, r.Items, r.Training.Windows, r.Training.Validation)
	}
	for _, b := range []string{"repeat_last", "repeat_season", "linear"} {
		for _, name := range []string{"mse", "mae", "rmse", "mse_scaled", "mae_scaled"} {
			if v, ok := r.Baselines[b][name]; !ok || !(v > 0) {
				t.Errorf("baseline %s has %s %v", b, name, v)
			}
		}
	}
	// A wave of amplitude 10 moves much in 6 hours, and is where it was a day ago.
	if s, l := r.Baselines["repeat_season"]["mse"], r.Baselines["repeat_last"]["mse"]; !(s < 5 && l > 20) {
		t.Errorf("mse: repeat_season %v, repeat_last %v", s, l)
	}
	if diff := cmp.Diff([]int32{0, 0, 0, 0, 0, 0}, res.Model.Scaler.Anchor); diff != "" {
		t.Errorf("anchor: %s", diff)
	}
	if m, l := r.Metrics.Int8["mse"], r.Baselines["repeat_last"]["mse"]; !(m < l) {
		t.Errorf("mse %v is not below repeat_last's %v", m, l)
	}
}

func TestRunIsReproducible(t *testing.T) {
	data := engines(6, 2)
	a, b := run1(t, rulOptions, data), run1(t, rulOptions, data)
	if diff := cmp.Diff(a.Weights, b.Weights); diff != "" {
		t.Error("two runs of one seed gave different weights")
	}
	o := rulOptions
	o.Seed++
	if cmp.Equal(a.Weights, run1(t, o, data).Weights) {
		t.Error("another seed gave the same weights")
	}
}

// Nothing after the training and validation rows changes the model.
func TestTestRowsDoNotReachTheModel(t *testing.T) {
	lines := strings.SplitAfter(hours(640), "\n")
	a := run1(t, forecastOptions, strings.Join(lines, ""))
	for i := 501; i < len(lines)-1; i++ {
		lines[i] = strings.Replace(lines[i], ":00,", ":00,77", 1)
		lines[i] = strings.TrimSuffix(lines[i], "\n") + "9\n"
	}
	b := run1(t, forecastOptions, strings.Join(lines, ""))
	if a.Report.Data == b.Report.Data {
		t.Fatal("the test rows are the same")
	}
	if diff := cmp.Diff(a.Model.Scaler, b.Model.Scaler); diff != "" {
		t.Errorf("scaler: %s", diff)
	}
	if !cmp.Equal(a.Weights, b.Weights) {
		t.Error("weights depend on test rows")
	}
}

// copiedEngine adds the rows of every engine under the name copy, of which a split
// puts one in another part.
func copiedEngine(engines string) string {
	head, rows, _ := strings.Cut(engines, "\n")
	var b strings.Builder
	b.WriteString(head + "\n" + rows)
	for line := range strings.Lines(rows) {
		if rest, ok := strings.CutPrefix(line, "u1,"); ok {
			b.WriteString("copy," + rest)
		}
	}
	return b.String()
}

func TestRunRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		data string
		edit func(*Options)
		want error
		says string
	}{
		{"no task", "", func(o *Options) { o.Task = "" }, ErrOptions, "no task"},
		{"unknown task", "", func(o *Options) { o.Task = "cluster" }, ErrOptions, `"cluster"`},
		{"forecast without target", "", func(o *Options) { *o = forecastOptions; o.Targets = nil }, ErrOptions, "needs a target"},
		{"anchor on rul", "", func(o *Options) { o.Anchor = "last" }, ErrOptions, "anchor"},
		{"unknown anchor", "", func(o *Options) { *o = forecastOptions; o.Anchor = "first" }, ErrOptions, "anchor first"},
		{"anchor without the target", hours(640), func(o *Options) { *o = forecastOptions; o.Features = []string{"load"} }, ErrOptions, "among the features"},
		{"horizon on rul", "", func(o *Options) { o.Horizon = 3 }, ErrOptions, "horizon"},
		{"split and fraction", "", func(o *Options) { o.Split = "1,2,3" }, ErrOptions, "both a split and a validation fraction"},
		{"fraction by time", "", func(o *Options) { o.SplitBy = dataset.ByTime }, ErrOptions, "is of whole groups"},
		{"gap of groups", "", func(o *Options) { o.Gap = new(int) }, ErrOptions, "whole groups need none"},
		{"negative gap", "", func(o *Options) { *o = forecastOptions; o.Gap = new(int); *o.Gap = -1 }, ErrOptions, "a gap of -1 rows"},
		{"unknown way to split", "", func(o *Options) { o.SplitBy = "machine" }, ErrOptions, `"machine"`},
		{"gap shorter than a window", engines(6, 1), func(o *Options) {
			o.Validation, o.Split, o.Gap = 0, "0.5,0.5", new(int)
		}, dataset.ErrLeak, "leave a gap of 4 rows"},
		{"target among the features", engines(6, 1), func(o *Options) {
			o.Targets, o.Features = []string{"a"}, []string{"a", "b"}
		}, dataset.ErrLeak, `feature "a" is the target`},
		{"copied engine", copiedEngine(engines(6, 1)), func(o *Options) {}, dataset.ErrLeak, `in group "copy"`},
		{"padding on forecast", "", func(o *Options) { *o = forecastOptions; o.Pad = true }, ErrOptions, "padding"},
		{"too many outputs", "", func(o *Options) { *o = forecastOptions; o.Horizon = 2000 }, ErrOptions, "1024 outputs"},
		{"no units", "", func(o *Options) { o.Units = []int{0} }, ErrOptions, "units"},
		{"negative window", "", func(o *Options) { o.Window = -1 }, ErrOptions, "window"},
		{"NaN rate", "", func(o *Options) { o.LearningRate = math.NaN() }, ErrOptions, "learning rate"},
		{"negative int8 bound", "", func(o *Options) { o.Int8Bound = new(float64); *o.Int8Bound = -0.01 }, ErrOptions, "int8 bound -0.01, want 0 or more"},
		{"bad split", "", func(o *Options) { *o = forecastOptions; o.Split = "1" }, ErrOptions, "1 numbers"},
		{"split beyond the rows", hours(200), func(o *Options) { *o = forecastOptions }, dataset.ErrSplit, "takes 620 rows"},
		{"too few rows", hours(40), func(o *Options) { *o = forecastOptions; o.Split = "20,10,10" }, dataset.ErrTooFewRows, "training rows"},
		{"window longer than every group", engines(6, 1), func(o *Options) { o.Window = 60 }, dataset.ErrTooFewRows, "needs 60"},
		{"one group", engines(1, 1), func(o *Options) {}, dataset.ErrSplit, "hold out none (validation -1)"},
		{"window beyond a request", engines(6, 1), func(o *Options) { o.Window = 30000 }, ErrOptions, "at most 65536 values"},
		{"long name", strings.Replace(engines(6, 1), ",c\n", ","+strings.Repeat("c", 65)+"\n", 1), func(o *Options) {}, ErrOptions, "rename it"},
		{"missing column", engines(6, 1), func(o *Options) { o.Features = []string{"a", "d"} }, dataset.ErrColumn, `"d"`},
		{"NaN target", strings.Replace(hours(640), ",10.", ",nan,", 1), func(o *Options) { *o = forecastOptions }, dataset.ErrMalformed, "row"},
		{"empty", "", func(o *Options) {}, dataset.ErrEmpty, "empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := rulOptions
			test.edit(&o)
			_, err := Run(context.Background(), o, strings.NewReader(test.data), nil)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Run = %v, want %v saying %q", err, test.want, test.says)
			}
		})
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("enough")
	_, err := Run(ctx, rulOptions, strings.NewReader(engines(8, 1)), func(p Progress) {
		if p.Stage == Fitting {
			cancel(stop)
		}
	})
	if !errors.Is(err, stop) {
		t.Errorf("Run = %v, want the cause", err)
	}
}

func TestEvaluateRULAgainstTruth(t *testing.T) {
	res := run1(t, rulOptions, engines(12, 1))
	// Cut four fresh engines before failure.
	var cut, truth strings.Builder
	cut.WriteString("unit,cycle,a,b,c\n")
	truth.WriteString("unit,rul\n")
	byUnit := map[string][]string{}
	for _, l := range strings.Split(strings.TrimSpace(engines(4, 9)), "\n")[1:] {
		u, _, _ := strings.Cut(l, ",")
		byUnit[u] = append(byUnit[u], l)
	}
	for i, u := range []string{"u1", "u2", "u3", "u4"} {
		left := 3 + 4*i
		fmt.Fprintf(&truth, "%s,%d\n", u, left)
		for _, l := range byUnit[u][:len(byUnit[u])-left] {
			fmt.Fprintln(&cut, l)
		}
	}
	// The report goes through the registry's JSON.
	b, err := json.Marshal(res.Report)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	o := EvalOptions{Model: "turbofan", Version: "turbofan:v1", Setup: stored.Setup, Predictions: true}
	r, err := Evaluate(context.Background(), res.Model, res.Weights, dataset.One(strings.NewReader(cut.String())), strings.NewReader(truth.String()), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Evaluated != "truth" || r.Items != 4 || len(r.Predictions) != 4 || r.Version != "turbofan:v1" || r.Seed != 3 {
		t.Errorf("report %+v", r)
	}
	for i, p := range r.Predictions {
		if want := float32(3 + 4*i); p.Truth[0] != want || p.Group != fmt.Sprintf("u%d", i+1) {
			t.Errorf("prediction %d: group %s truth %v, want %v", i, p.Group, p.Truth, want)
		}
	}
	// Truth 15 is capped at 12 for rmse alone.
	p := r.Predictions[3]
	if r.Metrics.Int8["rmse"] >= r.Metrics.Int8["rmse_uncapped"] && float64(p.Int8[0]) < 13.5 {
		t.Errorf("rmse %v, uncapped %v", r.Metrics.Int8["rmse"], r.Metrics.Int8["rmse_uncapped"])
	}
	if len(r.Baselines["linear"]) == 0 || len(r.Baselines["mean"]) == 0 {
		t.Errorf("baselines %v", r.Baselines)
	}

	// After an import there are no float32 weights and no setup.
	o = EvalOptions{Model: "turbofan", Group: "unit", Time: "cycle", Cap: 12, Predictions: true}
	i, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(cut.String())), strings.NewReader(truth.String()), o)
	if err != nil {
		t.Fatal(err)
	}
	delete(r.Metrics.Int8, "skill") // there is no mean to be relative to
	if diff := cmp.Diff(r.Metrics.Int8, i.Metrics.Int8); diff != "" || i.Metrics.Float32 != nil || len(i.Baselines) != 0 {
		t.Errorf("imported: float32 %v, baselines %v, int8 %s", i.Metrics.Float32, i.Baselines, diff)
	}
	out, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out, []byte(`"float32":null`)) {
		t.Errorf("JSON %s", out)
	}

	if _, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(cut.String())), strings.NewReader("unit,rul\nu1,3\n"), o); !errors.Is(err, dataset.ErrTruth) {
		t.Errorf("truth of one group: %v", err)
	}
	if _, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader("unit,cycle,a,b\nu1,1,2,3\n")), nil, o); !errors.Is(err, dataset.ErrColumn) {
		t.Errorf("data without a feature: %v", err)
	}
}

// TestEvaluateNamesTheWindowItCannotPredict has one value in 600 rows that no
// scaling brings into range.
func TestEvaluateNamesTheWindowItCannotPredict(t *testing.T) {
	res := run1(t, forecastOptions, hours(640))
	lines := strings.Split(hours(640), "\n")
	const row = 1 + 24*10 + 5 // behind the header
	lines[row] = "2020-01-11 05:00:00,0,1e30"
	o := EvalOptions{Time: "date"} // every row
	_, err := Evaluate(context.Background(), res.Model, res.Weights, dataset.One(strings.NewReader(strings.Join(lines, "\n"))), nil, o)
	if !errors.Is(err, kernel.ErrRange) || !strings.Contains(err.Error(), "window ending at 2020-01-11 05:00:00") {
		t.Errorf("Evaluate = %v, want an error that names the first window with the value", err)
	}
}

func TestEvaluateTheTrainingFileUsesHeldOutRows(t *testing.T) {
	for name, test := range map[string]struct {
		o    Options
		data string
		part string
	}{
		"rul":      {rulOptions, engines(12, 1), "validation"},
		"forecast": {forecastOptions, hours(640), "test"},
	} {
		res := run1(t, test.o, test.data)
		r, err := Evaluate(context.Background(), res.Model, res.Weights, dataset.One(strings.NewReader(test.data)), nil, EvalOptions{Setup: res.Report.Setup})
		if err != nil {
			t.Fatal(err)
		}
		if r.Evaluated != test.part || r.Items != res.Report.Items {
			t.Errorf("%s: %d items of %q, want %d of %q", name, r.Items, r.Evaluated, res.Report.Items, test.part)
		}
		if diff := cmp.Diff([]any{res.Report.Metrics, res.Report.Baselines}, []any{r.Metrics, r.Baselines}); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		other, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(test.data+"\n")), nil, EvalOptions{Setup: res.Report.Setup})
		if err != nil {
			t.Fatal(err)
		}
		if other.Evaluated != "all" || other.Items <= r.Items {
			t.Errorf("%s, another file: %d items of %q", name, other.Items, other.Evaluated)
		}
	}
}

func TestEvaluateChoosesRows(t *testing.T) {
	power := run1(t, forecastOptions, hours(640))
	o := rulOptions
	o.Validation = NoValidation
	turbofan := run1(t, o, engines(12, 1))
	one := "cycle,a,b,c\n"
	for i := range 9 {
		one += fmt.Sprintf("%d,%d,0,21.61\n", i, 90+i)
	}
	for _, test := range []struct {
		name        string
		model       *Result
		data, truth string
		o           EvalOptions
		part        string
		items       int
		err         error
	}{
		{"split asked for", power, hours(300), "", EvalOptions{Split: "200,0,100"}, "test", 95, nil},
		{"split without test rows", power, hours(300), "", EvalOptions{Split: "200,100,0"}, "validation", 95, nil},
		{"split of training rows", power, hours(300), "", EvalOptions{Split: "1,0,0"}, "training", 271, nil},
		{"bad split", power, hours(300), "", EvalOptions{Split: "1"}, "", 0, dataset.ErrSplit},
		{"truth of a forecast", power, hours(300), "a,b\n1,2\n", EvalOptions{}, "", 0, ErrOptions},
		{"split of rul", turbofan, engines(2, 5), "", EvalOptions{Split: "1,1", SplitBy: dataset.ByGroup, Time: "cycle", Group: "unit"}, "validation", 33, nil},
		{"way to split without a split", turbofan, engines(2, 5), "", EvalOptions{SplitBy: dataset.ByGroup}, "", 0, ErrOptions},
		{"split and truth", turbofan, engines(2, 5), "unit,rul\nu1,4\n", EvalOptions{Split: "1,1"}, "", 0, ErrOptions},
		{"nothing was held out", turbofan, engines(12, 1), "", EvalOptions{Setup: turbofan.Report.Setup}, "training", turbofan.Report.Items, nil},
		{"one machine", turbofan, one, "unit,rul\npump,4\n", EvalOptions{Time: "cycle"}, "truth", 1, nil},
		{"no group column named", turbofan, one, "unit,rul\n1,4\n2,5\n", EvalOptions{Time: "cycle"}, "", 0, ErrOptions},
		{"too few rows", turbofan, "cycle,a,b,c\n1,2,3,4\n", "", EvalOptions{}, "", 0, dataset.ErrTooFewRows},
		{"beyond what a device accepts", turbofan, strings.Replace(one, ",98,", ",1e30,", 1), "", EvalOptions{}, "", 0, kernel.ErrRange},
	} {
		t.Run(test.name, func(t *testing.T) {
			var truth io.Reader
			if test.truth != "" {
				truth = strings.NewReader(test.truth)
			}
			r, err := Evaluate(context.Background(), test.model.Model, nil, dataset.One(strings.NewReader(test.data)), truth, test.o)
			if !errors.Is(err, test.err) {
				t.Fatalf("Evaluate = %v, want %v", err, test.err)
			}
			if err == nil && (r.Evaluated != test.part || r.Items != test.items) {
				t.Errorf("%d items of %q, want %d of %q", r.Items, r.Evaluated, test.items, test.part)
			}
		})
	}
}

// A model that comes without its training report still scales its errors.
func TestEvaluateForecastWithoutSetup(t *testing.T) {
	res := run1(t, forecastOptions, hours(640))
	with, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(hours(300))), nil, EvalOptions{Setup: res.Report.Setup})
	if err != nil {
		t.Fatal(err)
	}
	without, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(hours(300))), nil, EvalOptions{Time: "date"})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := with.Metrics.Int8["mse_scaled"], without.Metrics.Int8["mse_scaled"]; math.Abs(a-b) > 1e-6*a {
		t.Errorf("mse_scaled %v without the setup, %v with it", b, a)
	}
	if diff := cmp.Diff(with.Baselines["repeat_season"]["mse"], without.Baselines["repeat_season"]["mse"]); diff != "" {
		t.Errorf("repeat_season: %s", diff)
	}
}

func TestTargetColumnOfRUL(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(engines(8, 1)), "\n")
	for i := range lines {
		if i == 0 {
			lines[i] += ",left"
		} else {
			lines[i] += fmt.Sprintf(",%d", i%7)
		}
	}
	data := strings.Join(lines, "\n")
	o := rulOptions
	o.Targets, o.Predictions = []string{"left"}, true
	res := run1(t, o, data)
	if diff := cmp.Diff([]string{"a", "b", "c"}, res.Report.Features); diff != "" {
		t.Errorf("features: %s", diff)
	}
	for _, p := range res.Report.Predictions {
		if p.Truth[0] > 6 {
			t.Fatalf("truth %v is not of the column", p.Truth)
		}
	}
	r, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(data)), nil, EvalOptions{Setup: res.Report.Setup})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(res.Report.Metrics.Int8, r.Metrics.Int8); diff != "" {
		t.Error(diff)
	}
}

func TestNoValidationSaysSo(t *testing.T) {
	o := rulOptions
	o.Validation = NoValidation
	r := run1(t, o, engines(6, 1)).Report
	if r.Evaluated != "training" || !strings.Contains(strings.Join(r.Warnings, "\n"), "flatter") || r.Training.BestEpoch != 4 || r.Training.History[0].ValLoss != nil {
		t.Errorf("evaluated %q, warnings %q, training %+v", r.Evaluated, r.Warnings, r.Training)
	}
}

func TestShortGroupsAreReportedOrPadded(t *testing.T) {
	data := engines(8, 1) + "short,1,90,0,21.61\nshort,2,91,0,21.61\n"
	o := rulOptions
	o.Validation = NoValidation
	left := run1(t, o, data).Report
	o.Pad = true
	padded := run1(t, o, data).Report
	if !strings.Contains(strings.Join(left.Warnings, "\n"), "1 training groups are too short") {
		t.Errorf("warnings %q", left.Warnings)
	}
	res := run1(t, o, data)
	short := strings.NewReader("unit,cycle,a,b,c\nshort,1,90,0,21.61\nshort,2,91,0,21.61\n")
	if r, err := Evaluate(context.Background(), res.Model, nil, dataset.One(short), nil, EvalOptions{Setup: padded.Setup}); err != nil || r.Items != 1 {
		t.Errorf("Evaluate of one short group: %v, want one padded window", err)
	}
	// The short one's two rows, and of the others the first four.
	if padded.Training.Windows != left.Training.Windows+2+8*4 || !strings.Contains(strings.Join(padded.Warnings, "\n"), "repeat their first row") {
		t.Errorf("%d windows padded, %d not; warnings %q", padded.Training.Windows, left.Training.Windows, padded.Warnings)
	}
}

func TestAnchorOnlyWhereTheTargetIsAFeature(t *testing.T) {
	o := forecastOptions
	o.Targets = []string{"load", "ot"}
	res := run1(t, o, hours(640))
	want := []int32{-1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0}
	if diff := cmp.Diff(want, res.Model.Scaler.Anchor); diff != "" {
		t.Errorf("anchor: %s", diff)
	}
	if w := strings.Join(res.Report.Warnings, "\n"); !strings.Contains(w, `"load" is not a feature`) {
		t.Errorf("warnings %q", w)
	}
	if m, l := res.Report.Metrics.Int8["mse"], res.Report.Baselines["repeat_last"]["mse"]; !(m < l) {
		t.Errorf("mse %v is not below repeat_last's %v", m, l)
	}
}

func TestRULTargetsAreScaledByTheCappedTrainingWindows(t *testing.T) {
	o := rulOptions
	o.Validation, o.Epochs, o.Window, o.Cap = NoValidation, 1, 2, 3
	res := run1(t, o, "unit,cycle,a\nx,1,1\nx,2,2\nx,3,3\nx,4,4\nx,5,5\nx,6,6\n")
	// Windows end in rows 2 to 6 with 4, 3, 2, 1, 0 left: 3, 3, 2, 1, 0 after the cap.
	mean, std := res.Model.Scaler.OutMean[0], res.Model.Scaler.OutStd[0]
	almost(t, "mean", float64(mean), float64(float32(9.0/5)))
	almost(t, "std", float64(std), float64(float32(math.Sqrt(23.0/5-81.0/25))))
}

func TestDefaultForecastSplitLeavesAGapOfOneHorizon(t *testing.T) {
	o := forecastOptions
	o.Split = ""
	r := run1(t, o, hours(640)).Report
	// 448, 64 and 128 rows, 6 of them before validation and before test for nobody.
	if r.Training.Windows != 448-24-6+1 || r.Training.Validation != 64-6-6+1 || r.Items != 128-6-6+1 {
		t.Errorf("%d training, %d validation, %d test windows, want 419, 53, 117", r.Training.Windows, r.Training.Validation, r.Items)
	}
}

func TestStrideThinsTrainingWindowsOnly(t *testing.T) {
	o := forecastOptions
	o.Stride = 10
	r := run1(t, o, hours(640)).Report
	if r.Training.Windows != 38 || r.Training.Validation != 95 || r.Items != 115 { // 371 windows, every tenth
		t.Errorf("%d training, %d validation, %d test windows, want 38, 95, 115", r.Training.Windows, r.Training.Validation, r.Items)
	}
}

func TestPredictionJSON(t *testing.T) {
	third := float32(1) / 3
	for _, test := range []struct {
		p    Prediction
		want string
	}{
		{Prediction{Group: "1", Time: "31", Truth: []float32{112}, Float32: []float32{third}, Int8: []float32{0.1}, Scalar: true},
			`{"group":"1","time":"31","truth":112,"float32":0.33333334,"int8":0.1}`},
		{Prediction{Truth: []float32{112}, Int8: []float32{16777216}, Scalar: true}, `{"group":"","time":"","truth":112,"float32":null,"int8":16777216}`},
		{Prediction{Time: "2016-07-01", Truth: []float32{1}, Float32: []float32{third}, Int8: []float32{1e-9}},
			`{"group":"","time":"2016-07-01","truth":[1],"float32":[0.33333334],"int8":[1e-9]}`},
	} {
		b, err := json.Marshal(test.p)
		if err != nil || string(b) != test.want {
			t.Errorf("Marshal = %s, %v, want %s", b, err, test.want)
		}
		var back Prediction
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.p, back); diff != "" {
			t.Error(diff)
		}
	}
}

func TestReportJSONHasTheNamesThatScriptsReadAndNoMore(t *testing.T) {
	o := forecastOptions
	o.Predictions = true
	r := run1(t, o, hours(640)).Report
	r.Version = "power:v1"
	b, err := json.Marshal(r.Brief())
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"model", "version", "task", "items", "seed", "seconds", "metrics", "baselines", "warnings", "features", "window", "training", "predictions"} {
		if _, ok := m[k]; !ok {
			t.Errorf("no %q in %s", k, b)
		}
	}
	if bytes.Contains(b, []byte(`"weights"`)) {
		t.Error("the brief report carries the linear map")
	}
	if r.Setup.Linear == nil {
		t.Error("Brief changed the report it was made from")
	}
	first := m["predictions"].([]any)[0].(map[string]any)
	if n := len(first["int8"].([]any)); n != 6 || first["time"] != "2020-01-21 19:00:00" {
		t.Errorf("first prediction has %d values at %v, want 6 at row 499", n, first["time"])
	}
}
