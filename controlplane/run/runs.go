package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// Runs are the runs of one data folder, which belongs to this process. It is
// safe for concurrent use.
type Runs struct {
	folder folder
	log    *slog.Logger

	mu     sync.Mutex
	active map[string]*active // under way in this process, by ID
}

// An active run is one that this process trains, or reads the data of.
type active struct {
	stop context.CancelCauseFunc
	done chan struct{} // closed once its end is kept
}

// Open opens the runs in the data folder dir. log receives what an operator
// should know of.
func Open(dir string, log *slog.Logger) (*Runs, error) {
	f := folder(filepath.Join(dir, "runs"))
	if err := f.clean(); err != nil {
		return nil, fmt.Errorf("open runs: %w", err)
	}
	return &Runs{folder: f, log: log, active: map[string]*active{}}, nil
}

// List returns up to limit runs with numbers above that of the ID after, oldest
// first, without their histories.
func (r *Runs) List(after string, limit int) ([]Run, error) {
	ids, err := r.folder.ids()
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	var runs []Run
	for _, id := range ids {
		if number(id) <= number(after) || len(runs) == limit {
			continue
		}
		one, err := r.Show(id)
		if errors.Is(err, ErrNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		one.History = nil
		runs = append(runs, one)
	}
	return runs, nil
}

// Show returns a run, or ErrNotFound.
func (r *Runs) Show(id string) (Run, error) {
	r.mu.Lock()
	_, active := r.active[id]
	r.mu.Unlock()
	one, err := r.folder.read(id)
	switch {
	case err != nil:
		return Run{}, err
	case active:
		one.State, one.Reason = Running, ""
	case one.State == Running:
		one.State, one.Reason = Interrupted, "its process died, or could not keep how it ended"
	}
	return one, nil
}

// Stop ends a run that is under way and returns once what it has done is kept.
// ErrState if it is not under way.
func (r *Runs) Stop(ctx context.Context, id string) (Run, error) {
	r.mu.Lock()
	a := r.active[id]
	r.mu.Unlock()
	if a == nil {
		one, err := r.Show(id)
		if err == nil && one.State != Stopped { // stopping twice is no mistake
			err = stateErrorf("run %s is %s: there is nothing to stop", id, one.State)
		}
		return one, err
	}
	a.stop(errors.New("stopped on request"))
	select {
	case <-a.done:
		return r.Show(id)
	case <-ctx.Done():
		return Run{}, context.Cause(ctx)
	}
}

// StopAll ends every run that is under way, giving the reason, and waits until
// what they have done is kept.
func (r *Runs) StopAll(reason error) {
	r.mu.Lock()
	var all []*active
	for _, a := range r.active {
		all = append(all, a)
	}
	r.mu.Unlock()
	for _, a := range all {
		a.stop(reason)
	}
	for _, a := range all {
		<-a.done
	}
}

// Remove removes a run and its checkpoints. ErrState if it is under way. A
// version that it made stays.
func (r *Runs) Remove(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.folder.find(id); err != nil {
		return err
	}
	if r.active[id] != nil {
		return stateErrorf("run %s is under way: stop it before you remove it", id)
	}
	if err := r.folder.remove(id); err != nil {
		return fmt.Errorf("remove run %s: %w", id, err)
	}
	return nil
}

// A Job is what to train.
type Job struct {
	// Options are Train as the caller of the control plane wrote them: they are
	// kept, and Resume's caller makes Train from them again.
	Options json.RawMessage
	Train   train.Options
	// Progress may be nil. id is "" until the data has been read.
	Progress func(id string, p train.Progress)
	// Finish makes the result a version and returns its name, NAME:vN.
	Finish func(ctx context.Context, r Run, result *train.Result) (version string, err error)
}

// Train begins a run, which exists once the data has been read and the options
// have turned out to fit it, and trains it to its end. Its error says how the
// run can go on; it matches ErrStopped if ctx ended or Stop was called.
func (r *Runs) Train(ctx context.Context, j Job, data dataset.Files) error {
	x := execution{runs: r, job: j, run: Run{Model: j.Train.Model, Options: j.Options}}
	return x.train(ctx, data, train.Job{Begin: x.create})
}

// leaving is how long Resumable waits for a run to end.
const leaving = time.Second

// Resumable returns a run that can be resumed, or ErrState: it is under way, or
// done. One that is under way gets a moment to end: its client may have been
// killed just now, and the same person be back.
func (r *Runs) Resumable(ctx context.Context, id string) (Run, error) {
	r.mu.Lock()
	a := r.active[id]
	r.mu.Unlock()
	if a != nil {
		ctx, cancel := context.WithTimeout(ctx, leaving)
		defer cancel()
		select {
		case <-a.done:
		case <-ctx.Done():
		}
	}
	one, err := r.Show(id)
	switch {
	case err != nil:
		return Run{}, err
	case one.State == Running:
		return Run{}, stateErrorf("run %s is under way already", id)
	case one.State == Done:
		return Run{}, stateErrorf("run %s is done and made %s: nothing is left to train", id, one.Version)
	case one.Data == "":
		return Run{}, stateErrorf("run %s cannot be resumed: %s", id, one.Reason)
	}
	return one, nil
}

// Resume trains a run that is Resumable from its latest checkpoint to its end,
// as if it had never been interrupted. train.ErrOtherData if data is not what
// it began with.
func (r *Runs) Resume(ctx context.Context, id string, j Job, data dataset.Files) error {
	one, err := r.Resumable(ctx, id)
	if err != nil {
		return err
	}
	c, damaged := r.folder.checkpoint(id)
	if damaged != nil {
		r.log.Warn("checkpoint of a run cannot be used; going on from an earlier one", "run", id, "err", damaged)
	}
	x := execution{runs: r, job: j, run: one}
	return x.train(ctx, data, train.Job{Data: one.Data, Resume: c, Begin: x.goOn})
}

// An execution is one process's part of a run.
type execution struct {
	runs *Runs
	job  Job
	run  Run
	self *active
	// begun is set once the run on disk is this one.
	begun bool
}

// train trains what is left of the run and keeps how that ended.
func (x *execution) train(ctx context.Context, data dataset.Files, j train.Job) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	x.self = &active{stop: stop, done: make(chan struct{})}
	j.Options, j.Save = x.job.Train, x.save
	if x.job.Progress != nil {
		j.Progress = func(p train.Progress) { x.job.Progress(x.run.ID, p) }
	}
	result, err := j.Run(ctx, data)
	if err == nil {
		var version string
		if version, err = x.job.Finish(ctx, x.run, result); err == nil {
			x.run.Version = version
		}
	}
	if !x.begun {
		return err
	}
	err = x.end(ctx, err)
	x.runs.mu.Lock()
	delete(x.runs.active, x.run.ID)
	x.runs.mu.Unlock()
	close(x.self.done)
	return err
}

// create makes the run.
func (x *execution) create(data string, epochs int) error {
	x.runs.mu.Lock()
	defer x.runs.mu.Unlock()
	x.run.Data, x.run.Epochs, x.run.State, x.run.Created = data, epochs, Running, now()
	x.run.Updated = x.run.Created
	if err := x.runs.folder.create(&x.run); err != nil {
		return fmt.Errorf("begin a run: %w", err)
	}
	x.runs.active[x.run.ID], x.begun = x.self, true
	return nil
}

// goOn makes a run that was interrupted this process's.
func (x *execution) goOn(string, int) error {
	x.runs.mu.Lock()
	defer x.runs.mu.Unlock()
	if x.runs.active[x.run.ID] != nil {
		return stateErrorf("run %s is under way already", x.run.ID)
	}
	x.run.State, x.run.Reason, x.run.Updated = Running, "", now()
	x.run.Resumed++
	if err := x.runs.folder.write(&x.run); err != nil {
		return fmt.Errorf("resume run %s: %w", x.run.ID, err)
	}
	x.runs.active[x.run.ID], x.begun = x.self, true
	return nil
}

// save keeps a checkpoint, and then what the run is told to have done: a crash
// between the two costs one line of the history until the run goes on.
func (x *execution) save(c *bptt.Checkpoint, history []train.Epoch) error {
	b, err := c.AppendBinary(nil)
	if err != nil {
		return err
	}
	best := c.Batches() == 0 && len(history) > 0 && history[len(history)-1].Best
	if err := x.runs.folder.writeCheckpoint(x.run.ID, b, best); err != nil {
		return err
	}
	x.run.Epoch, x.run.Batch, x.run.History, x.run.Updated = len(history), c.Batches(), history, now()
	return x.runs.folder.write(&x.run)
}

// end keeps how the run ended, and returns err in its terms.
func (x *execution) end(ctx context.Context, err error) error {
	x.run.Updated = now()
	switch {
	case err == nil:
		x.run.State = Done
	case ctx.Err() != nil:
		x.run.State, x.run.Reason = Stopped, reason(ctx)
		err = fmt.Errorf("run %s %w in epoch %d: %w", x.run.ID, ErrStopped, x.run.Epoch+1, err)
	default:
		x.run.State, x.run.Reason = Failed, err.Error()
		err = fmt.Errorf("run %s: %w", x.run.ID, err)
	}
	if kept := x.runs.folder.write(&x.run); kept != nil {
		return errors.Join(err, fmt.Errorf("keep the end of run %s: %w", x.run.ID, kept))
	}
	if err == nil {
		if dropped := x.runs.folder.dropCheckpoints(x.run.ID); dropped != nil {
			x.runs.log.Warn("checkpoints of a run that is done not removed", "run", x.run.ID, "err", dropped)
		}
		return nil
	}
	return x.advise(err)
}

// advise adds how the run can go on to err, which ended it.
func (x *execution) advise(err error) error {
	how := ""
	switch {
	case errors.Is(err, bptt.ErrDiverged), errors.Is(err, store.ErrExists): // it would end so again
		return err
	case errors.Is(err, train.ErrInt8): // likewise, but for
		how = " --force"
	}
	return fmt.Errorf("%w; go on with `sandpiper run resume %s --data FILE%s`", err, x.run.ID, how)
}

// reason says why a run was stopped.
func reason(ctx context.Context) string {
	if cause := context.Cause(ctx); cause != context.Canceled { //nolint:errorlint // a cause that wraps it says more
		return cause.Error()
	}
	return "its client went away"
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
