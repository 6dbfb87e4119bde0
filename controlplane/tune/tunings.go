package tune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

const (
	folder    = "tunings"
	studyFile = "study.json"
	dataDir   = "data"
	idInfix   = "-tune-"
)

// Tunings are the studies of a control plane. It is safe for concurrent use.
type Tunings struct {
	dir string

	mu     sync.Mutex
	active map[string]bool
}

// Open returns the studies in the data folder dir.
func Open(dir string) *Tunings {
	return &Tunings{dir: filepath.Join(dir, folder), active: map[string]bool{}}
}

func (t *Tunings) path(elem ...string) string {
	return filepath.Join(append([]string{t.dir}, elem...)...)
}

// A Job is what a study trains.
type Job struct {
	// Options are Train as the caller of the control plane wrote them.
	Options json.RawMessage
	Train   train.Options
	Space   Space
	Trials  int           // default 18; fewer if the space has no more
	Budget  time.Duration // of training; 0: no limit
	Tier    string        // that predictions are measured on; default the best of this machine
}

// Create keeps a new study and its data, and trains nothing. The number of the
// seed draws the trials too. ErrSpace, ErrNoValidation, train.ErrOptions or
// kernel.ErrTier.
func (t *Tunings) Create(j Job, data dataset.Files) (Study, error) {
	if j.Trials == 0 {
		j.Trials = 18
	}
	if j.Trials < 1 || j.Trials > MaxTrials {
		return Study{}, fmt.Errorf("%w: %d trials; use 1 to %d", ErrSpace, j.Trials, MaxTrials)
	}
	if j.Budget < 0 {
		return Study{}, fmt.Errorf("%w: a budget of %v; use a time above 0, or 0 for no limit", ErrSpace, j.Budget)
	}
	if err := j.Space.Check(); err != nil {
		return Study{}, err
	}
	if j.Tier == "" {
		j.Tier = kernel.Tier()
	}
	if !slices.Contains(kernel.Tiers(), j.Tier) {
		return Study{}, fmt.Errorf("measure predictions: %q: this build and CPU have %s: %w", j.Tier, strings.Join(kernel.Tiers(), ", "), kernel.ErrTier)
	}
	epochs := j.Train.Epochs
	if epochs == 0 {
		epochs = 20 // Options' default
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	s := Study{
		Model: j.Train.Model, State: Stopped, Reason: "it has not begun", Created: at, Updated: at, Options: j.Options, Space: j.Space,
		Seed: j.Train.Seed, Tier: j.Tier, Budget: j.Budget.Seconds(), Rungs: rungsOf(epochs),
	}
	for i, c := range j.Space.Draw(j.Trials, j.Train, j.Train.Seed) {
		if err := c.apply(j.Train).Check(); err != nil {
			return Study{}, fmt.Errorf("trial %d: %w", i+1, err)
		}
		s.Trials = append(s.Trials, Trial{N: i + 1, Config: c, State: Waiting})
	}
	return s, t.create(&s, data)
}

// create makes the study's folder, which exists once all of it is on disk.
func (t *Tunings) create(s *Study, data dataset.Files) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	ids, err := t.ids()
	if err != nil {
		return err
	}
	n := 0
	for _, id := range ids {
		n = max(n, number(id))
	}
	s.ID = s.Model + idInfix + strconv.Itoa(n+1)
	unfinished := t.path("." + s.ID)
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(unfinished, dataDir), 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(unfinished))
		}
	}()
	for f, err := range data {
		if err != nil {
			return err
		}
		if err := copyFile(filepath.Join(unfinished, dataDir, strconv.Itoa(len(s.Files))), f.Reader); err != nil {
			return fmt.Errorf("keep the data: %w", err)
		}
		s.Files = append(s.Files, File{f.Name, f.Part})
	}
	if err := write(unfinished, s); err != nil {
		return err
	}
	return store.Rename(unfinished, t.path(s.ID))
}

func copyFile(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

func write(dir string, s *Study) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return store.WriteFile(filepath.Join(dir, studyFile), append(b, '\n'), 0o600)
}

func (t *Tunings) save(s *Study) error {
	s.Updated = time.Now().UTC().Truncate(time.Millisecond)
	s.markPareto()
	return write(t.path(s.ID), s)
}

// ids returns the studies there are, oldest first.
func (t *Tunings) ids() ([]string, error) {
	entries, err := os.ReadDir(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && number(e.Name()) > 0 {
			ids = append(ids, e.Name())
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return number(a) - number(b) })
	return ids, err
}

// number is that of a study's id, 0 of what is none.
func number(id string) int {
	i := strings.LastIndex(id, idInfix)
	if i < 1 {
		return 0
	}
	n, err := strconv.Atoi(id[i+len(idInfix):])
	if err != nil {
		return 0
	}
	return n
}

// List returns all studies, oldest first.
func (t *Tunings) List() ([]Study, error) {
	ids, err := t.ids()
	if err != nil {
		return nil, err
	}
	studies := []Study{}
	for _, id := range ids {
		s, err := t.Show(id)
		if err != nil {
			return nil, err
		}
		studies = append(studies, s)
	}
	return studies, nil
}

// Show returns a study, or ErrNotFound with a suggestion.
func (t *Tunings) Show(id string) (Study, error) {
	ids, err := t.ids()
	if err != nil {
		return Study{}, err
	}
	if !slices.Contains(ids, id) {
		hint := "there are none yet; `sandpiper tune` begins one"
		if m := near.Match(id, ids); m != "" {
			hint = fmt.Sprintf("did you mean %q?", m)
		} else if len(ids) > 0 {
			hint = "the latest is " + ids[len(ids)-1]
		}
		return Study{}, fmt.Errorf("tuning %.120q: %w; %s", id, ErrNotFound, hint)
	}
	b, err := os.ReadFile(t.path(id, studyFile))
	if err != nil {
		return Study{}, err
	}
	var s Study
	if err := json.Unmarshal(b, &s); err != nil {
		return Study{}, fmt.Errorf("the record of tuning %s is damaged: %w; remove it with `sandpiper tuning rm %s`", id, err, id)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.State == Running && !t.active[id] {
		s.State, s.Reason = Stopped, "its process ended"
	}
	return s, nil
}

// Remove removes a study that is not under way, with its data.
func (t *Tunings) Remove(id string) error {
	if _, err := t.Show(id); errors.Is(err, ErrNotFound) {
		return err
	}
	done, err := t.begin(id)
	if err != nil {
		return err
	}
	defer done()
	if err := store.Rename(t.path(id), t.path("."+id)); err != nil {
		return err
	}
	return os.RemoveAll(t.path("." + id))
}

// begin keeps everybody else from a study until done is called.
func (t *Tunings) begin(id string) (done func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active[id] {
		return nil, fmt.Errorf("%w %s is under way already", ErrState, id)
	}
	t.active[id] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.active, id)
	}, nil
}

// files opens the data of a study, one file after the other.
func (t *Tunings) files(s *Study) dataset.Files {
	return func(yield func(dataset.File, error) bool) {
		for i, f := range s.Files {
			r, err := os.Open(t.path(s.ID, dataDir, strconv.Itoa(i)))
			if err != nil {
				yield(dataset.File{}, err)
				return
			}
			more := yield(dataset.File{Name: f.Name, Part: f.Part, Reader: r}, nil)
			r.Close()
			if !more {
				return
			}
		}
	}
}

// Run trains what is left of a study until its end, the end of its budget, or that
// of ctx: the study says which. options are Study.Options as training takes them.
// progress may be nil.
func (t *Tunings) Run(ctx context.Context, id string, options train.Options, progress func(trial int, p train.Progress)) (Study, error) {
	s, err := t.Show(id)
	if err != nil {
		return Study{}, err
	}
	done, err := t.begin(id)
	if err != nil {
		return Study{}, err
	}
	defer done()
	s.State, s.Reason = Running, ""
	if err := t.save(&s); err != nil {
		return s, err
	}
	end := t.search(ctx, &s, options, progress)
	switch {
	case end == nil:
		s.State = Done
	case errors.Is(end, errBudget):
		s.State, s.Reason, end = Stopped, end.Error(), nil
	case ctx.Err() != nil:
		s.State, s.Reason = Stopped, "it was interrupted"
	default:
		s.State, s.Reason = Stopped, end.Error()
	}
	return s, errors.Join(end, t.save(&s))
}

// Extend gives a study that stopped because its budget was spent more seconds: 0
// stands for as many as it had.
func (t *Tunings) Extend(id string, seconds float64) error {
	s, err := t.Show(id)
	if err != nil {
		return err
	}
	done, err := t.begin(id)
	if err != nil {
		return err
	}
	defer done()
	switch {
	case seconds > 0:
		s.Budget = s.Spent + seconds
	case s.Budget > 0 && s.Spent >= s.Budget:
		s.Budget += s.Spent
	}
	return t.save(&s)
}

var errBudget = errors.New("its budget is spent")

func (t *Tunings) search(ctx context.Context, s *Study, options train.Options, progress func(int, train.Progress)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.Budget > 0 {
		left := time.Duration((s.Budget - s.Spent) * float64(time.Second))
		if left <= 0 {
			return errBudget
		}
		defer time.AfterFunc(left, func() { cancel(errBudget) }).Stop()
	}
	for {
		trial, epochs := s.next()
		if trial == nil {
			return nil
		}
		start := time.Now()
		err := t.train(ctx, s, trial, epochs, options, progress)
		s.Spent += time.Since(start).Seconds()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !onlyOfTrial(err) {
			return err
		}
		if err != nil {
			trial.State, trial.Error = Failed, err.Error()
		}
		if err := t.save(s); err != nil {
			return err
		}
	}
}

// onlyOfTrial reports whether err says nothing about other trials.
func onlyOfTrial(err error) bool {
	return errors.Is(err, bptt.ErrDiverged) || errors.Is(err, dataset.ErrTooFewRows) || errors.Is(err, kernel.ErrNonFinite)
}

// train trains a trial on to so many epochs and measures what came of it.
func (t *Tunings) train(ctx context.Context, s *Study, trial *Trial, epochs int, options train.Options, progress func(int, train.Progress)) error {
	file := t.path(s.ID, strconv.Itoa(trial.N)+".checkpoint")
	j := train.Job{Options: trial.Config.apply(options), Data: s.Data, Stop: epochs}
	var err error
	if j.Resume, err = readCheckpoint(file); err != nil {
		return err
	}
	if progress != nil {
		j.Progress = func(p train.Progress) { progress(trial.N, p) }
	}
	j.Begin = func(data string, _ int) error { s.Data = data; return nil }
	j.Save = func(c *bptt.Checkpoint, history []train.Epoch) error {
		if len(history) > 0 && history[0].ValLoss == nil {
			return fmt.Errorf("%w: trials are compared by their validation loss; give a split with a validation part", ErrNoValidation)
		}
		b, err := c.AppendBinary(nil)
		if err != nil {
			return err
		}
		trial.observe(history)
		return store.WriteFile(file, b, 0o600)
	}
	result, err := j.Run(ctx, t.files(s))
	if err != nil {
		return err
	}
	trial.observe(result.Report.Training.History)
	if trial.Epochs < epochs || epochs == s.Rungs[len(s.Rungs)-1] { // or its patience ended it
		trial.State = Finished
	}
	if trial.Bytes, err = installBytes(result.Model); err != nil {
		return err
	}
	rows := 1
	if options.State != train.Stream {
		rows = result.Model.Schema.Window
	}
	trial.US, err = measure(result.Weights, s.Tier, rows)
	return err
}

func readCheckpoint(file string) (*bptt.Checkpoint, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := new(bptt.Checkpoint)
	return c, c.UnmarshalBinary(b)
}

// Publish trains a trial to its end if that is still ahead, evaluates it on the test
// rows, and has finish make it a version, whose name the study keeps. Trial 0 is the
// finished one with the lowest validation loss.
func (t *Tunings) Publish(ctx context.Context, id string, n int, options train.Options, progress func(trial int, p train.Progress),
	finish func(ctx context.Context, trial Trial, result *train.Result) (string, error),
) (Study, error) {
	s, err := t.Show(id)
	if err != nil {
		return s, err
	}
	done, err := t.begin(id)
	if err != nil {
		return s, err
	}
	defer done()
	trial, err := s.trial(n)
	if err != nil {
		return s, err
	}
	file := t.path(s.ID, strconv.Itoa(trial.N)+".checkpoint")
	j := train.Job{Options: trial.Config.apply(options), Data: s.Data}
	if j.Resume, err = readCheckpoint(file); err != nil {
		return s, err
	}
	if progress != nil {
		j.Progress = func(p train.Progress) { progress(trial.N, p) }
	}
	result, err := j.Run(ctx, t.files(&s))
	if err != nil {
		return s, err
	}
	trial.observe(result.Report.Training.History)
	trial.State = Finished
	if trial.Version, err = finish(ctx, *trial, result); err != nil {
		return s, err
	}
	return s, t.save(&s)
}

// trial returns the trial of that number, or with 0 the best one.
func (s *Study) trial(n int) (*Trial, error) {
	switch {
	case n == 0 && s.Best() == nil:
		return nil, fmt.Errorf("%w %s: no trial is trained to its end yet; go on with `sandpiper tuning resume %s`", ErrState, s.ID, s.ID)
	case n == 0:
		return s.Best(), nil
	case n < 0 || n > len(s.Trials):
		return nil, fmt.Errorf("trial %d of %s: %w; it has 1 to %d", n, s.ID, ErrNotFound, len(s.Trials))
	case s.Trials[n-1].State == Failed:
		return nil, fmt.Errorf("%w %s: trial %d failed: %s", ErrState, s.ID, n, s.Trials[n-1].Error)
	}
	return &s.Trials[n-1], nil
}
