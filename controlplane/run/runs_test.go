package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// engines is a small run-to-failure file.
func engines() string {
	rng := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	b.WriteString("unit,cycle,a,b\n")
	for u := range 8 {
		for i := range 20 + u {
			fmt.Fprintf(&b, "%d,%d,%.3f,%.3f\n", u, i, float64(i*i)/400+0.1*rng.NormFloat64(), rng.NormFloat64())
		}
	}
	return b.String()
}

var options = train.Options{
	Model: "pump", Task: train.RUL, Group: "unit", Time: "cycle", Window: 5, Units: []int{4}, Epochs: 5, LearningRate: 0.02, Seed: 3,
}

// A world is the runs of one folder, and what they made.
type world struct {
	t      *testing.T
	dir    string
	runs   *Runs
	log    bytes.Buffer
	epochs int           // that were trained
	result *train.Result // of the last run that was finished
	// progress is called with that of every run.
	progress func(id string, p train.Progress)
}

func newWorld(t *testing.T) *world { return openWorld(t, t.TempDir()) }

// openWorld opens dir as a new process would.
func openWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{t: t, dir: dir}
	var err error
	if w.runs, err = Open(dir, slog.New(slog.NewTextHandler(&w.log, nil))); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) job() Job {
	return Job{
		Options: json.RawMessage(`{"model":"pump"}`), Train: options,
		Progress: func(id string, p train.Progress) {
			if p.Stage == train.Fitting {
				w.epochs++
			}
			if w.progress != nil {
				w.progress(id, p)
			}
		},
		Finish: func(_ context.Context, _ Run, r *train.Result) (string, error) {
			w.result = r
			return "pump:v1", nil
		},
	}
}

func (w *world) train() error {
	return w.runs.Train(w.t.Context(), w.job(), dataset.One(strings.NewReader(engines())))
}

func (w *world) resume(id string) error {
	return w.runs.Resume(w.t.Context(), id, w.job(), dataset.One(strings.NewReader(engines())))
}

func (w *world) show(id string) Run {
	w.t.Helper()
	r, err := w.runs.Show(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// made returns the digest of the model that was made last, and its history.
func (w *world) made() (digest string, history []train.Epoch) {
	w.t.Helper()
	d, err := w.result.Model.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	return d.String(), w.result.Report.Training.History
}

var ignoreSeconds = cmpopts.IgnoreFields(train.Epoch{}, "Seconds")

// sameAs fails unless both worlds made the same model in the same epochs.
func (w *world) sameAs(other *world, how string) {
	w.t.Helper()
	got, history := w.made()
	want, wanted := other.made()
	if diff := cmp.Diff(wanted, history, ignoreSeconds); got != want || diff != "" {
		w.t.Fatalf("%s: model %s, want %s; history differs by %s", how, got, want, diff)
	}
}

func uninterrupted(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if err := w.train(); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestARunIsKept(t *testing.T) {
	w := uninterrupted(t)
	r := w.show("pump-1")
	_, history := w.made()
	if r.State != Done || r.Version != "pump:v1" || r.Epoch != 5 || r.Epochs != 5 || r.Model != "pump" || len(r.Data) != 64 || r.Created.IsZero() {
		t.Errorf("run = %+v, want it done in 5 epochs", r)
	}
	if diff := cmp.Diff(history, r.History); diff != "" {
		t.Errorf("history differs from the report's: %s", diff)
	}
	if best := r.Best(); best == nil || best.Epoch != w.result.Report.Training.BestEpoch {
		t.Errorf("best = %+v, want epoch %d", best, w.result.Report.Training.BestEpoch)
	}
	var o map[string]string
	if err := json.Unmarshal(r.Options, &o); err != nil || o["model"] != "pump" {
		t.Errorf("options %s are not those it was given", r.Options)
	}
	files, err := os.ReadDir(filepath.Join(w.dir, "runs", "pump-1"))
	if err != nil || len(files) != 1 {
		t.Errorf("a run that is done has files %v, want the record alone", files)
	}
}

// Stop ends the run between any two batches, here and there; each process goes
// on from where the one before came to.
func TestResumedRunsEqualUninterrupted(t *testing.T) {
	want := uninterrupted(t)
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		var err error
		w := openWorld(t, dir)
		for stops := 0; ; stops++ {
			left := 1 + rng.IntN(3)
			stopped := make(chan error, 1)
			w.progress = func(id string, p train.Progress) {
				if p.Stage != train.Fitting && p.Stage != train.Baselines {
					return
				}
				if left--; left == 0 {
					go func() {
						_, err := w.runs.Stop(t.Context(), id)
						stopped <- err
					}()
				}
			}
			if stops == 0 {
				err = w.train()
			} else {
				err = w.resume("pump-1")
			}
			if left <= 0 {
				if err := <-stopped; err != nil && !errors.Is(err, ErrState) { // it was quicker
					t.Fatal(err)
				}
			}
			if err == nil {
				if r := w.show("pump-1"); r.State != Done || r.Resumed != stops {
					t.Errorf("seed %d: %s and resumed %d times, want done and %d", seed, r.State, r.Resumed, stops)
				}
				break
			}
			if r := w.show("pump-1"); !errors.Is(err, ErrStopped) || r.State != Stopped || r.Reason != "stopped on request" {
				t.Fatalf("seed %d: %v, run %+v; want it stopped on request", seed, err, r)
			}
			w = openWorld(t, dir)
		}
		w.sameAs(want, fmt.Sprintf("seed %d", seed))
	}
}

// A copy of the folder, made while the run is under way, is what a process that
// was killed at that moment leaves.
func TestKilledRunsGoOn(t *testing.T) {
	want := uninterrupted(t)
	w := newWorld(t)
	var copies []string
	w.progress = func(_ string, p train.Progress) {
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(w.dir)); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, copied)
	}
	if err := w.train(); err != nil {
		t.Fatal(err)
	}
	if len(copies) != 8 { // read, baselines, 5 epochs, evaluate
		t.Fatalf("%d copies, want 8", len(copies))
	}
	for i, dir := range copies {
		// A write that was cut.
		cut := filepath.Join(dir, "runs", "pump-1", ".tmp-1")
		if err := os.WriteFile(cut, []byte("SPK1"), 0o600); err != nil {
			t.Fatal(err)
		}
		w := openWorld(t, dir)
		if _, err := os.Stat(cut); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("killed at %d: the unfinished file is still there", i)
		}
		r := w.show("pump-1")
		if r.State != Interrupted || r.Reason == "" {
			t.Errorf("killed at %d: %s, want interrupted with a reason", i, r.State)
		}
		if err := w.resume("pump-1"); err != nil {
			t.Fatalf("killed at %d: %v", i, err)
		}
		if w.epochs != 5-r.Epoch || r.Epoch < i-2 {
			t.Errorf("killed at %d: %d epochs after %d, want what was left", i, w.epochs, r.Epoch)
		}
		w.sameAs(want, fmt.Sprintf("killed at %d", i))
	}
}

// stoppedAt trains until epoch n has ended.
func stoppedAt(t *testing.T, n int) *world {
	t.Helper()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.progress = func(_ string, p train.Progress) {
		if p.Stage == train.Fitting && p.Epoch == n {
			cancel()
		}
	}
	err := w.runs.Train(ctx, w.job(), dataset.One(strings.NewReader(engines())))
	if !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), "sandpiper run resume pump-1") {
		t.Fatalf("Train = %v, want ErrStopped and how to go on", err)
	}
	if r := w.show("pump-1"); r.State != Stopped || r.Epoch != n || r.Batch != 0 || r.Reason != "its client went away" {
		t.Fatalf("run = %+v, want it stopped after epoch %d", r, n)
	}
	w.progress = nil
	return w
}

func TestADamagedCheckpointCostsNoRun(t *testing.T) {
	want := uninterrupted(t)
	for epochs, damaged := range map[int][]string{0: {checkpointFile, bestFile}, 1: {checkpointFile}} {
		w := stoppedAt(t, 3)
		w.epochs = 0
		if epochs > 0 {
			r := w.show("pump-1")
			epochs = r.Best().Epoch
		}
		for _, name := range damaged {
			path := filepath.Join(w.dir, "runs", "pump-1", name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.resume("pump-1"); err != nil {
			t.Fatal(err)
		}
		w.sameAs(want, fmt.Sprint(damaged))
		if w.epochs != 5-epochs {
			t.Errorf("%v damaged: %d epochs after %d, want what was left", damaged, w.epochs, epochs)
		}
		if log := w.log.String(); !strings.Contains(log, "checkpoint of a run cannot be used") || !strings.Contains(log, bptt.ErrCheckpoint.Error()) {
			t.Errorf("log %q does not tell of it", log)
		}
	}
}

func TestResumeTakesOnlyWhatTheRunBeganWith(t *testing.T) {
	w := stoppedAt(t, 2)
	before := w.show("pump-1")
	err := w.runs.Resume(t.Context(), "pump-1", w.job(), dataset.One(strings.NewReader(engines()+"9,1,1,1\n")))
	if !errors.Is(err, train.ErrOtherData) || !strings.Contains(err.Error(), before.Data) {
		t.Errorf("other data: %v, want ErrOtherData with the digest", err)
	}
	other := w.job()
	other.Train.LearningRate = 0.5
	err = w.runs.Resume(t.Context(), "pump-1", other, dataset.One(strings.NewReader(engines())))
	if !errors.Is(err, bptt.ErrOtherRun) || !strings.Contains(err.Error(), "LearningRate is 0.5 and was 0.02") {
		t.Errorf("other options: %v, want ErrOtherRun that names the learning rate", err)
	}
	if err := w.resume("pump-1"); err != nil {
		t.Fatalf("the right data afterwards: %v", err)
	}
	w.sameAs(uninterrupted(t), "after refusals")
}

func TestWhatAStateForbids(t *testing.T) {
	w := newWorld(t)
	w.progress = func(id string, p train.Progress) {
		if p.Stage != train.Fitting || p.Epoch != 1 {
			return
		}
		if r := w.show(id); r.State != Running {
			t.Errorf("state %s, want running", r.State)
		}
		impatient, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.runs.Resume(impatient, id, w.job(), dataset.One(strings.NewReader(engines()))); !errors.Is(err, ErrState) {
			t.Errorf("resume of a running run = %v, want ErrState", err)
		}
		if err := w.runs.Remove(id); !errors.Is(err, ErrState) {
			t.Errorf("removal of a running run = %v, want ErrState", err)
		}
	}
	if err := w.train(); err != nil {
		t.Fatal(err)
	}
	if err := w.resume("pump-1"); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "pump:v1") {
		t.Errorf("resume of a run that is done = %v, want ErrState and its version", err)
	}
	if _, err := w.runs.Stop(t.Context(), "pump-1"); !errors.Is(err, ErrState) {
		t.Errorf("stop of a run that is done = %v, want ErrState", err)
	}
	w = stoppedAt(t, 1)
	if r, err := w.runs.Stop(t.Context(), "pump-1"); err != nil || r.State != Stopped {
		t.Errorf("second stop = %v, %v, want it stopped", r.State, err)
	}
}

// TestResumeWaitsForTheEndOfARunWhoseClientWent resumes a run before this
// process has noticed that its client is gone.
func TestResumeWaitsForTheEndOfARunWhoseClientWent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := openWorld(t, dir)
		ctx, gone := context.WithCancel(t.Context())
		resumed := make(chan error, 1)
		w.progress = func(id string, p train.Progress) {
			if p.Stage != train.Fitting || p.Epoch != 2 || ctx.Err() != nil {
				return
			}
			go func() { resumed <- w.resume(id) }()
			synctest.Wait() // it waits for the run, which waits here
			gone()
		}
		if err := w.runs.Train(ctx, w.job(), dataset.One(strings.NewReader(engines()))); !errors.Is(err, ErrStopped) {
			t.Errorf("Train = %v, want ErrStopped", err)
		}
		if err := <-resumed; err != nil {
			t.Errorf("Resume = %v", err)
		}
		if r := w.show("pump-1"); r.State != Done || r.Resumed != 1 {
			t.Errorf("run %+v, want done and resumed once", r)
		}
	})
}

func TestUnknownRuns(t *testing.T) {
	w := newWorld(t)
	if _, err := w.runs.Show("pump-1"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "there are no runs yet") {
		t.Errorf("Show = %v, want ErrNotFound", err)
	}
	w = uninterrupted(t)
	for _, id := range []string{"pmup-1", "", ".", "..", "../runs/pump-1", "pump-1/", "pump"} {
		_, err := w.runs.Show(id)
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "pump-1") {
			t.Errorf("Show(%q) = %v, want ErrNotFound and the run there is", id, err)
		}
		if _, err := w.runs.Stop(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("Stop(%q) = %v, want ErrNotFound", id, err)
		}
		if err := w.resume(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("Resume(%q) = %v, want ErrNotFound", id, err)
		}
		if err := w.runs.Remove(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("Remove(%q) = %v, want ErrNotFound", id, err)
		}
	}
}

func TestNumbersAreGivenOnce(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		if err := w.train(); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"pump-3", "pump-1"} {
		if err := w.runs.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	w = openWorld(t, w.dir)
	options := options
	options.Model = "a-b"
	j := w.job()
	j.Train = options
	if err := w.runs.Train(t.Context(), j, dataset.One(strings.NewReader(engines()))); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for after := ""; ; after = ids[len(ids)-1] {
		page, err := w.runs.List(after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		if page[0].History != nil {
			t.Error("a listing has histories")
		}
		ids = append(ids, page[0].ID)
	}
	if diff := cmp.Diff([]string{"pump-2", "a-b-4"}, ids); diff != "" {
		t.Errorf("runs (-want +got): %s", diff)
	}
}

func TestADamagedRecordHidesNoOther(t *testing.T) {
	w := uninterrupted(t)
	if err := w.train(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "runs", "pump-1", recordFile), []byte(`{"id":"pump-1"`), 0o600); err != nil {
		t.Fatal(err)
	}
	runs, err := w.runs.List("", 9)
	if err != nil || len(runs) != 2 || runs[0].State != Failed || !strings.Contains(runs[0].Reason, "damaged") || runs[1].State != Done {
		t.Errorf("List = %+v, %v, want a damaged run and one that is done", runs, err)
	}
	if err := w.resume("pump-1"); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Resume = %v, want ErrState and why", err)
	}
	if err := w.runs.Remove("pump-1"); err != nil {
		t.Errorf("Remove = %v", err)
	}
}

func TestAFailureIsKept(t *testing.T) {
	w := newWorld(t)
	j := w.job()
	full := errors.New("no room for the version")
	j.Finish = func(context.Context, Run, *train.Result) (string, error) { return "", full }
	err := w.runs.Train(t.Context(), j, dataset.One(strings.NewReader(engines())))
	if !errors.Is(err, full) || !strings.Contains(err.Error(), "sandpiper run resume pump-1") {
		t.Errorf("Train = %v, want the error and how to go on", err)
	}
	if r := w.show("pump-1"); r.State != Failed || r.Reason != full.Error() || r.Epoch != 5 {
		t.Errorf("run = %+v, want it failed after 5 epochs", r)
	}
	// What is left is to make the version.
	if err := w.resume("pump-1"); err != nil {
		t.Fatal(err)
	}
	w.sameAs(uninterrupted(t), "only the version was missing")
}

// A run that would end the same again is not told to go on.
func TestAdviceIsWorthFollowing(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"no room", store.ErrFull, "`sandpiper run resume pump-1 --data FILE`"},
		{"int8", train.ErrInt8, "`sandpiper run resume pump-1 --data FILE --force`"},
		{"the model is there already", store.ErrExists, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			j := w.job()
			j.Finish = func(context.Context, Run, *train.Result) (string, error) { return ":v0", test.err }
			err := w.runs.Train(t.Context(), j, dataset.One(strings.NewReader(engines())))
			_, got, _ := strings.Cut(fmt.Sprint(err), "go on with ")
			if !errors.Is(err, test.err) || got != test.want {
				t.Errorf("Train = %v, want it to end with %q", err, test.want)
			}
			if r := w.show("pump-1"); r.Version != "" {
				t.Errorf("a run that failed has made version %q", r.Version)
			}
		})
	}
}

func TestWhatNeverBeganIsNoRun(t *testing.T) {
	w := newWorld(t)
	if err := w.runs.Train(t.Context(), w.job(), dataset.One(strings.NewReader("unit,cycle\n1,x\n"))); err == nil {
		t.Error("Train(bad data) = nil")
	}
	if runs, err := w.runs.List("", 9); len(runs) != 0 || err != nil {
		t.Errorf("List = %+v, %v, want none", runs, err)
	}
}

func TestStopAllKeepsEveryRun(t *testing.T) {
	w := newWorld(t)
	closing := errors.New("shut down")
	done := make(chan struct{})
	w.progress = func(_ string, p train.Progress) {
		if p.Stage == train.Fitting && p.Epoch == 1 {
			go func() {
				w.runs.StopAll(closing)
				close(done)
			}()
		}
	}
	err := w.train()
	<-done
	if err == nil { // it was quicker
		return
	}
	if r := w.show("pump-1"); !errors.Is(err, closing) || r.State != Stopped || r.Reason != "shut down" {
		t.Errorf("Train = %v, run %s: %s; want it stopped for the reason given", err, r.State, r.Reason)
	}
}

func TestChartOfARun(t *testing.T) {
	r := &Run{ID: "m-1"}
	if _, err := r.Chart(); !errors.Is(err, ErrState) {
		t.Errorf("before an epoch: %v", err)
	}
	val := 0.5
	r.History = []train.Epoch{{Epoch: 1, Loss: 1, ValLoss: &val, Best: true, LearningRate: 1e-3}}
	if c, err := r.Chart(); err != nil || c.WriteSVG(io.Discard) != nil {
		t.Errorf("of one epoch: %v", err)
	}
}
