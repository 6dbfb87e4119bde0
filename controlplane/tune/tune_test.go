package tune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/kernel"
)

// wave is 160 rows of a sine.
func wave() dataset.Files {
	var b strings.Builder
	b.WriteString("time,y\n")
	for i := range 160 {
		fmt.Fprintf(&b, "%d,%.4f\n", i, math.Sin(float64(i)/5)+0.1*math.Sin(float64(i*i)))
	}
	return dataset.One(strings.NewReader(b.String()))
}

func job() Job {
	return Job{
		Options: []byte(`{}`), Trials: 7, Tier: "generic",
		Train: train.Options{Model: "wave", Task: train.Forecast, Time: "time", Targets: []string{"y"}, Horizon: 2, Window: 6, Epochs: 9, Units: []int{3}, Seed: 5},
		Space: Space{Units: []int{1, 2, 4}, Window: []int{4, 8}, LearningRate: []float64{1e-3, 3e-2}, Dropout: []float64{0, 0.2}},
	}
}

// facts leave out what the clock says.
func facts(s Study) []Trial {
	out := slices.Clone(s.Trials)
	for i := range out {
		out[i].Seconds, out[i].US, out[i].Pareto = 0, 0, false
	}
	return out
}

func TestSearch(t *testing.T) {
	ts := Open(t.TempDir())
	s, err := ts.Create(job(), wave())
	if err != nil {
		t.Fatal(err)
	}
	if s, err = ts.Run(t.Context(), s.ID, job().Train, nil); err != nil || s.State != Done {
		t.Fatalf("%s %s, %v", s.State, s.Reason, err)
	}
	epochs := map[int]int{}
	for _, tr := range s.Trials {
		epochs[tr.Epochs]++
		if tr.ValLoss <= 0 || tr.Bytes < 400 || tr.US <= 0 || (tr.State == Finished) != (tr.Epochs == 9) {
			t.Errorf("trial %+v", tr)
		}
	}
	if want := map[int]int{1: 4, 3: 2, 9: 1}; !reflect.DeepEqual(epochs, want) {
		t.Errorf("trials by epochs %v, want %v", epochs, want)
	}
	for _, a := range s.Trials { // the better ones went on
		for _, b := range s.Trials {
			if a.Epochs == 1 && b.Epochs > 1 && a.ValLoss < first(t, ts, s.ID, b) {
				t.Errorf("trial %d was dropped with %v, trial %d went on with %v", a.N, a.ValLoss, b.N, first(t, ts, s.ID, b))
			}
		}
	}
	c, err := s.Chart()
	if err != nil {
		t.Fatal(err)
	}
	var svg strings.Builder
	if err := c.WriteSVG(&svg); err != nil || !strings.Contains(svg.String(), "KB to ship") {
		t.Errorf("chart: %v", err)
	}

	// Publishing evaluates on the test rows; a dropped trial is first trained to its end.
	dropped := slices.IndexFunc(s.Trials, func(t Trial) bool { return t.Epochs == 1 }) + 1
	for _, n := range []int{0, dropped} {
		got, err := ts.Publish(t.Context(), s.ID, n, job().Train, nil, func(_ context.Context, tr Trial, r *train.Result) (string, error) {
			if r.Report.Evaluated != "test" || r.Report.Metrics.Int8["mse"] == 0 || r.Report.Training.Epochs != 9 || tr.Epochs != 9 {
				t.Errorf("trial %d: report %+v", tr.N, r.Report)
			}
			return fmt.Sprint("wave:v", tr.N), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			n = s.Best().N
		}
		if again, err := ts.Show(s.ID); err != nil || again.Trials[n-1].Version != fmt.Sprint("wave:v", n) || !reflect.DeepEqual(again.Trials, got.Trials) {
			t.Errorf("trial %d is kept as %+v, %v", n, again.Trials[n-1], err)
		}
	}
}

// first is the validation loss of a trial's first epoch.
func first(t *testing.T, ts *Tunings, id string, tr Trial) float64 {
	t.Helper()
	c, err := readCheckpoint(ts.path(id, fmt.Sprint(tr.N, ".checkpoint")))
	if err != nil {
		t.Fatal(err)
	}
	return c.Epochs()[0].ValLoss
}

// TestInterruptedSearch stops a search after each epoch, with a new process going on:
// the trials are those of a search that was not interrupted.
func TestInterruptedSearch(t *testing.T) {
	whole, cut := Open(t.TempDir()), t.TempDir()
	s, err := whole.Create(job(), wave())
	if err != nil {
		t.Fatal(err)
	}
	if s, err = whole.Run(t.Context(), s.ID, job().Train, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cut).Create(job(), wave()); err != nil {
		t.Fatal(err)
	}
	stops := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		got, err := Open(cut).Run(ctx, s.ID, job().Train, func(_ int, p train.Progress) {
			if p.Stage == train.Fitting {
				cancel()
			}
		})
		cancel()
		if err == nil {
			if d := fmt.Sprint(facts(got)); d != fmt.Sprint(facts(s)) {
				t.Errorf("trials\n%s\nwant\n%v", d, facts(s))
			}
			break
		}
		if !errors.Is(err, context.Canceled) || got.State != Stopped {
			t.Fatalf("%s, %v", got.State, err)
		}
		stops++
	}
	if stops < 10 {
		t.Errorf("stopped %d times", stops)
	}
}

func TestBudget(t *testing.T) {
	ts := Open(t.TempDir())
	j := job()
	j.Budget = time.Nanosecond
	s, err := ts.Create(j, wave())
	if err != nil {
		t.Fatal(err)
	}
	s, err = ts.Run(t.Context(), s.ID, j.Train, nil)
	if err != nil || s.State != Stopped || !strings.Contains(s.Reason, "budget") {
		t.Fatalf("%s: %s, %v", s.State, s.Reason, err)
	}
	if _, err := ts.Publish(t.Context(), s.ID, 0, j.Train, nil, nil); !errors.Is(err, ErrState) {
		t.Errorf("publishing the best of nothing: %v", err)
	}
	if err := ts.Extend(s.ID, 3600); err != nil {
		t.Fatal(err)
	}
	if s, err = ts.Run(t.Context(), s.ID, j.Train, nil); err != nil || s.State != Done {
		t.Errorf("%s: %s, %v", s.State, s.Reason, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	ts := Open(t.TempDir())
	for name, tt := range map[string]struct {
		change func(*Job)
		want   error
	}{
		"nothing to search": {func(j *Job) { j.Space = Space{} }, ErrSpace},
		"units":             {func(j *Job) { j.Space.Units = []int{0} }, ErrSpace},
		"layers":            {func(j *Job) { j.Space.Layers = []int{99} }, ErrSpace},
		"rates":             {func(j *Job) { j.Space.LearningRate = []float64{1e-3} }, ErrSpace},
		"order of rates":    {func(j *Job) { j.Space.LearningRate = []float64{1, 0.1} }, ErrSpace},
		"no rate":           {func(j *Job) { j.Space.LearningRate = []float64{0, 0.1} }, ErrSpace},
		"not a number":      {func(j *Job) { j.Space.Dropout = []float64{0, math.NaN()} }, ErrSpace},
		"dropout":           {func(j *Job) { j.Space.Dropout = []float64{0, 1} }, ErrSpace},
		"trials":            {func(j *Job) { j.Trials = MaxTrials + 1 }, ErrSpace},
		"budget":            {func(j *Job) { j.Budget = -1 }, ErrSpace},
		"tier":              {func(j *Job) { j.Tier = "mmx" }, kernel.ErrTier},
		"training":          {func(j *Job) { j.Train.Horizon = -1 }, train.ErrOptions},
	} {
		j := job()
		tt.change(&j)
		if _, err := ts.Create(j, wave()); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if all, err := ts.List(); err != nil || len(all) != 0 {
		t.Errorf("studies %v, %v, want none", all, err)
	}
}

func TestSearchNeedsValidation(t *testing.T) {
	ts := Open(t.TempDir())
	j := job()
	j.Train.Split = "120,0,40"
	s, err := ts.Create(j, wave())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ts.Run(t.Context(), s.ID, j.Train, nil); !errors.Is(err, ErrNoValidation) {
		t.Errorf("run = %v, want ErrNoValidation", err)
	}
}

func TestDraw(t *testing.T) {
	o := train.Options{Units: []int{5, 5}}
	s := Space{Units: []int{1, 2}, LearningRate: []float64{1e-4, 1e-2}}
	a, b, c := s.Draw(50, o, 1), s.Draw(50, o, 1), s.Draw(50, o, 2)
	if !reflect.DeepEqual(a, b) || reflect.DeepEqual(a, c) || len(a) != 50 {
		t.Error("draws are not a function of the seed")
	}
	low := 0
	for _, c := range a {
		if len(c.Units) != 2 || c.LearningRate < 1e-4 || c.LearningRate > 1e-2 || c.Window != 0 || c.Dropout != 0 {
			t.Errorf("drew %+v", c)
		}
		if c.LearningRate < 1e-3 {
			low++
		}
	}
	if low < 15 || low > 35 {
		t.Errorf("%d of 50 rates are in the lower decade", low)
	}
	if got := (Space{Units: []int{1, 2}}).Draw(50, o, 1); len(got) != 2 {
		t.Errorf("%d configurations of a space of 2", len(got))
	}
}

func TestShowAndRemove(t *testing.T) {
	dir := t.TempDir()
	ts := Open(dir)
	s, err := ts.Create(job(), wave())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ts.Show("wave-tune-2"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"wave-tune-1"`) {
		t.Errorf("Show = %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, folder, s.ID, studyFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ts.Show(s.ID); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Show of a damaged record = %v", err)
	}
	if err := ts.Remove(s.ID); err != nil {
		t.Fatal(err)
	}
	if err := ts.Remove(s.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove twice = %v", err)
	}
}
