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

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// streamOptions are o for a stream model.
func streamOptions(o Options) Options {
	o.State, o.Anchor, o.Predictions = Stream, "", true
	return o
}

// checkStreamed compares the predictions of a report with a stream that is
// stepped through the groups row by row.
func checkStreamed(t *testing.T, m *artifact.Model, r *Report, table *dataset.Table) {
	t.Helper()
	p, err := predictor.Open(m)
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ group, time string }
	want := map[place][]float32{}
	features := len(table.Features)
	for _, g := range table.Groups {
		s, err := p.NewStream()
		if err != nil {
			t.Fatal(err)
		}
		for row := g.Start; row < g.End; row++ {
			y := make([]float32, p.Outputs())
			if err := s.Step(y, table.X[row*features:][:features]); err != nil {
				t.Fatal(err)
			}
			want[place{g.Name, table.Time(row)}] = y
		}
	}
	for _, got := range r.Predictions {
		if diff := cmp.Diff(want[place{got.Group, got.Time}], got.Int8); diff != "" {
			t.Fatalf("group %q at %s: %s", got.Group, got.Time, diff)
		}
		if got.Float32 == nil || math.Abs(float64(got.Float32[0]-got.Int8[0])) > 1 {
			t.Fatalf("group %q at %s: float32 %v, int8 %v", got.Group, got.Time, got.Float32, got.Int8)
		}
	}
}

func TestRunRULStream(t *testing.T) {
	data := engines(12, 1)
	o := streamOptions(rulOptions)
	res := run1(t, o, data)
	m, r := res.Model, res.Report
	if s := m.Schema; s.State != artifact.StateStream || s.Window != 5 || s.Warmup != 5 || r.State != "stream" {
		t.Errorf("schema %+v, report of state %q", s, r.State)
	}
	window := rulOptions
	window.Predictions = true
	other := run1(t, window, data).Report
	if r.Items != other.Items || !slices.EqualFunc(r.Predictions, other.Predictions, func(a, b Prediction) bool { return a.Group == b.Group && a.Time == b.Time }) {
		t.Errorf("%d rows are evaluated, %d of a window model", r.Items, other.Items)
	}
	if diff := cmp.Diff(other.Baselines, r.Baselines); diff != "" {
		t.Errorf("baselines are not those of the same rows: %s", diff)
	}
	if got, mean := r.Metrics.Int8["rmse"], r.Baselines["mean"]["rmse"]; !(got < mean) {
		t.Errorf("rmse %v is not below the mean's %v", got, mean)
	}
	table, err := dataset.Read(strings.NewReader(data), dataset.Columns{Time: "cycle", Group: "unit"})
	if err != nil {
		t.Fatal(err)
	}
	checkStreamed(t, m, &r, table)

	// The last rows against a truth file come after all rows of their groups.
	truth := "unit,rul\nu1,3\nu2,4\nu3,5\nu4,6\nu5,7\nu6,8\nu7,9\nu8,10\nu9,1\nu10,2\nu11,3\nu12,4\n"
	rep, err := Evaluate(context.Background(), m, res.Weights, dataset.One(strings.NewReader(data)), strings.NewReader(truth),
		EvalOptions{Setup: r.Setup, Predictions: true})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Items != 12 || rep.State != "stream" {
		t.Errorf("%d items of state %q", rep.Items, rep.State)
	}
	checkStreamed(t, m, rep, table)
}

func TestRunForecastStream(t *testing.T) {
	data := hours(640)
	o := streamOptions(forecastOptions)
	res := run1(t, o, data)
	r := res.Report
	// Test rows are those of a window model; training windows those that begin at
	// every row, validation windows one after the other.
	if r.Evaluated != "test" || r.Items != 120-6+1 || r.Training.Windows != 400-24-6+1 || r.Training.Validation != (100-6+1)/24 {
		t.Errorf("evaluated %q: %d items, %d and %d windows", r.Evaluated, r.Items, r.Training.Windows, r.Training.Validation)
	}
	table, err := dataset.Read(strings.NewReader(data), dataset.Columns{Time: "date", Features: []string{"ot"}})
	if err != nil {
		t.Fatal(err)
	}
	checkStreamed(t, res.Model, &r, table)
	again := run1(t, o, data)
	if diff := cmp.Diff(res.Model, again.Model); diff != "" {
		t.Errorf("the same options and data gave another model: %.300s", diff)
	}

	// A device that is asked for a window answers with the state of these rows.
	p, err := predictor.Open(res.Model)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	want, got := make([]float32, 6), make([]float32, 6)
	for _, x := range table.X[100:124] {
		if err := s.Step(want, []float32{x}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Predict(got, table.X[100:124]); err != nil || !cmp.Equal(want, got) {
		t.Errorf("Predict = %v, %v, want %v as of the stream", got, err, want)
	}
}

// The first row of a group tells the level of all, the others mislead: only a state
// that was carried from window to window in training knows which row is first.
func TestStreamModelRemembersBeyondItsWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	b.WriteString("unit,pulse,level\n")
	for unit := range 100 {
		level := 2*rng.IntN(2) - 1
		pulse := level
		for range 12 {
			fmt.Fprintf(&b, "u%d,%d,%d\n", unit, pulse, level)
			pulse = 2*rng.IntN(2) - 1
		}
	}
	o := Options{
		Task: RUL, Group: "unit", Targets: []string{"level"}, Features: []string{"pulse"}, State: Stream,
		Window: 3, Stride: 3, Units: []int{8}, Epochs: 60, LearningRate: 0.03, Seed: 1,
	}
	r := run1(t, o, b.String()).Report
	if got, linear := r.Metrics.Int8["rmse"], r.Baselines["linear"]["rmse"]; !(got < 0.4 && linear > 0.8) {
		t.Errorf("rmse %v, of a map of the window %v; want below 0.4 and above 0.8", got, linear)
	}
}

func TestStreamEvaluationNamesTheRowItCannotTake(t *testing.T) {
	res := run1(t, streamOptions(rulOptions), engines(12, 1))
	lines := strings.Split(engines(12, 1), "\n")
	lines[3] = "u1,3,1e30,0,21.61" // before the first window's end
	_, err := Evaluate(context.Background(), res.Model, nil, dataset.One(strings.NewReader(strings.Join(lines, "\n"))), nil, EvalOptions{Setup: res.Report.Setup})
	if err == nil || !strings.Contains(err.Error(), `row at 3 of group "u1"`) {
		t.Errorf("%v, want the row", err)
	}
}

func TestStreamOptionsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Task: RUL, State: "steam"}, `no state "steam"; did you mean "stream"?`},
		{Options{Task: RUL, State: Stream, Pad: true}, "padding is for windows"},
	} {
		_, err := Run(context.Background(), c.o, strings.NewReader(engines(2, 1)), nil)
		if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want ErrOptions with %q", c.o, err, c.want)
		}
	}
	o := streamOptions(forecastOptions)
	o.Split = "400,20,120" // a window of 24 rows may begin before a validation part of 20, a chain may not
	_, err := Run(context.Background(), o, strings.NewReader(hours(640)), nil)
	if !errors.Is(err, dataset.ErrTooFewRows) || !strings.Contains(err.Error(), "validation rows") {
		t.Errorf("short validation part: %v, want ErrTooFewRows", err)
	}
}
