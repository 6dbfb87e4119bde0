package bptt

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// An Epoch is what one pass over the training windows gave.
type Epoch struct {
	N int // from 1
	// Loss is the mean over the training windows, each at the weights its batch
	// met, with penalties, as Keras reports it.
	Loss float64
	// ValLoss is the mean over the validation windows, with penalties, at the end
	// of the epoch; 0 without validation.
	ValLoss      float64
	LearningRate float64 // of the last update
	// Best says that the monitored loss is the lowest so far: RestoreBest would
	// end with these weights. Epochs before StartFromEpoch are never best.
	Best    bool
	Samples int // training windows
	Took    time.Duration
}

// A Run is a training run that can be interrupted and go on later.
type Run struct {
	Config
	// Data names what the windows were made of, such as a digest of it.
	Data string
	// Resume, unless nil, is where the run goes on.
	Resume *Checkpoint
	// OnEpoch, unless nil, is called after each epoch, with the weights up to
	// date.
	OnEpoch func(Epoch)
	// Stop, above 0, ends Fit after so many epochs with what the run has come to by
	// then; its last checkpoint goes on to the end as if Fit had not returned.
	Stop int
	// OnCheckpoint, unless nil, is called after OnEpoch, and when the context
	// ends, with all that is needed to go on from there. c shares the memory of
	// the run: it is valid until OnCheckpoint returns. An error ends the run.
	OnCheckpoint func(c *Checkpoint) error
}

// Fit trains w in place and returns what each epoch gave. onEpoch, unless nil,
// is called after each epoch with w up to date.
//
// The seed, the configuration and the sources determine the bits of w on one
// kind of CPU, whatever the number of cores. Fit uses up to cfg.Shards of them.
//
// Fit stops between two batches when ctx ends and returns its cause, w being as
// the last batch left it. It returns an error that matches ErrDiverged if a
// loss or a weight is not finite, w being as the last whole epoch left it; one
// that matches ErrConfig, kernel.ErrShape or kernel.ErrNonFinite, w untouched,
// if cfg, a size, a window's weight or a weight of w cannot be trained with. The
// epochs finished come with every error.
func Fit(ctx context.Context, w *kernel.Weights, train, val Source, cfg Config, onEpoch func(Epoch)) ([]Epoch, error) {
	return Run{Config: cfg, OnEpoch: onEpoch}.Fit(ctx, w, train, val)
}

// Fit is the function of that name, with checkpoints. Resumed from any of them
// a run ends with the same bits as one that was never interrupted, in w and in
// the epochs it returns, which include those before the checkpoint; the values
// in w are replaced by those of the checkpoint.
//
// Its error matches ErrOtherRun if Resume is a checkpoint of a run with another
// configuration, graph, data or number of windows, and ErrCheckpoint if it
// cannot be used; w is untouched then. An error of OnCheckpoint is wrapped.
func (r Run) Fit(ctx context.Context, w *kernel.Weights, train, val Source) ([]Epoch, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	cfg, err := r.Config.withDefaults(w.Graph)
	if err != nil {
		return nil, err
	}
	if err := checkSources(train, val); err != nil {
		return nil, err
	}
	if err := checkPadding(cfg, w.Graph, train, val); err != nil {
		return nil, err
	}
	if val == nil && cfg.Monitor == ValLoss {
		return nil, fmt.Errorf("monitor %s: there is no validation data, want monitor %s: %w", ValLoss, TrainLoss, ErrConfig)
	}
	origin, err := newOrigin(cfg, w.Graph, r.Data, train, val)
	if err != nil {
		return nil, err
	}
	e, err := startEngine(cfg, w, train.Steps(), train.Len())
	if err != nil {
		return nil, err
	}
	defer e.pool.stop()
	f := fit{
		engine: e, run: r, weights: w, train: train, val: val, origin: origin, plan: newPlan(train, cfg.Stateful),
		stopping: earlyStopping{patience: cfg.Patience, minDelta: cfg.MinDelta, start: cfg.StartFromEpoch, restore: cfg.RestoreBest},
		plateau:  plateau{ReduceLR: cfg.ReduceLR},
	}
	if val != nil {
		f.valPlan = newPlan(val, cfg.Stateful)
		f.valPlan.arrange(e.cfg.BatchSize, nil)
	}
	if r.Resume != nil {
		if err := f.resume(r.Resume); err != nil {
			return nil, err
		}
	}
	err = f.all(ctx)
	return f.epochs, err
}

func checkSources(train, val Source) error {
	if err := checkSource("training data", train); err != nil || val == nil {
		return err
	}
	if err := checkSource("validation data", val); err != nil {
		return err
	}
	if val.Steps() != train.Steps() {
		return fmt.Errorf("validation windows have %d steps, training windows %d: %w", val.Steps(), train.Steps(), kernel.ErrShape)
	}
	return nil
}

// A fit is one call of Fit under way.
type fit struct {
	*engine
	run        Run
	weights    *kernel.Weights
	train, val Source
	origin     origin
	position

	plan    // of the epoch
	valPlan plan

	stopping earlyStopping
	plateau  plateau
}

// state lists what changes from batch to batch and epoch to epoch, but for the
// position.
func (f *fit) state() []field {
	return slices.Concat(f.engine.state(), f.stopping.state(), f.plateau.state())
}

// checkpoint hands the run's state at this point to OnCheckpoint.
func (f *fit) checkpoint() error {
	if f.run.OnCheckpoint == nil {
		return nil
	}
	c := &Checkpoint{origin: f.origin, position: f.position, state: f.state()}
	if err := f.run.OnCheckpoint(c); err != nil {
		if f.batches == 0 {
			return fmt.Errorf("checkpoint after epoch %d: %w", len(f.epochs), err)
		}
		return fmt.Errorf("checkpoint in epoch %d: %w", len(f.epochs)+1, err)
	}
	return nil
}

// resume takes the run to where c was made.
func (f *fit) resume(c *Checkpoint) error {
	if err := c.check(f.origin, f.graph); err != nil {
		return err
	}
	if f.shuffle(len(c.epochs) + 1); len(c.epochs) > f.cfg.Epochs || c.batches > len(f.ends) {
		return fmt.Errorf("%w: it is at batch %d after %d epochs", ErrCheckpoint, c.batches, len(c.epochs))
	}
	if err := restore(f.state(), c.state); err != nil {
		return err
	}
	f.position = c.position
	f.epochs = slices.Clone(c.epochs)
	save(f.weights, f.layers, f.shown())
	return nil
}

// all trains from the position to the end of the run.
func (f *fit) all(ctx context.Context) error {
	for !f.done && (f.run.Stop == 0 || len(f.epochs) < f.run.Stop) {
		epoch, err := f.epoch(ctx)
		if err != nil {
			return err
		}
		save(f.weights, f.layers, f.shown())
		stop := f.observe(&epoch)
		f.position = position{epochs: append(f.epochs, epoch), done: stop || epoch.N == f.cfg.Epochs}
		if f.run.OnEpoch != nil {
			f.run.OnEpoch(epoch)
		}
		if err := f.checkpoint(); err != nil {
			return err
		}
	}
	if f.stopping.saved != nil {
		save(f.weights, f.layers, f.stopping.saved)
	}
	return nil
}

// observe shows the callbacks an epoch and reports whether to stop after it.
func (f *fit) observe(epoch *Epoch) (stop bool) {
	watched := epoch.Loss
	if f.val != nil && f.cfg.Monitor != TrainLoss {
		watched = epoch.ValLoss
	}
	f.optimizer.rate = f.plateau.observe(watched, f.optimizer.rate)
	epoch.Best, stop = f.stopping.observe(epoch.N, watched, f.shown())
	return stop
}

// epoch trains on the windows of an epoch that have not had their turn.
func (f *fit) epoch(ctx context.Context) (Epoch, error) {
	start := time.Now()
	n := len(f.epochs) + 1
	f.shuffle(n)
	f.follow(&f.plan)
	for ; f.batches < len(f.ends); f.batches++ {
		if ctx.Err() != nil {
			return Epoch{}, f.interrupted(ctx, start)
		}
		batch := f.plan.batch(f.batches)
		mean := f.engine.train(f.train, batch)
		if !isFinite(mean) {
			return Epoch{}, &DivergedError{n, f.batches + 1, mean, f.culprit(f.train, batch)}
		}
		f.sum += mean * float64(len(batch))
	}
	epoch := Epoch{N: n, Loss: f.sum / float64(len(f.order)), Samples: len(f.order)}
	if f.val != nil {
		var err error
		if epoch.ValLoss, err = f.loss(ctx, f.val, &f.valPlan); err != nil {
			return Epoch{}, f.interrupted(ctx, start)
		}
	}
	if !isFinite(epoch.ValLoss) || !finite(f.w.flat) {
		return Epoch{}, &DivergedError{n, 0, epoch.ValLoss, f.culprit(f.val, f.valPlan.order)}
	}
	epoch.LearningRate = f.optimizer.current
	epoch.Took = f.spent + time.Since(start)
	return epoch, nil
}

// interrupted leaves the run as it is between two batches and returns the
// cause of ctx's end.
func (f *fit) interrupted(ctx context.Context, start time.Time) error {
	f.spent += time.Since(start)
	save(f.weights, f.layers, f.shown())
	if err := f.checkpoint(); err != nil {
		return fmt.Errorf("%w; %w", context.Cause(ctx), err)
	}
	return context.Cause(ctx)
}

// culprit names the first weight, or value of the windows of src that indices
// name, that is not finite; nil if all are.
func (f *fit) culprit(src Source, indices []int) error {
	w := f.weights.Clone()
	save(w, f.layers, f.w.flat)
	if err := w.Validate(); err != nil {
		return err
	}
	k := f.workers[0]
	for _, i := range indices {
		src.Window(i, k.window, k.target)
		for j, v := range k.window {
			if !isFinite(float64(v)) {
				return fmt.Errorf("window %d step %d feature %d is %v: %w", i, j/k.features, j%k.features, v, kernel.ErrNonFinite)
			}
		}
		for j, v := range k.target {
			if !isFinite(float64(v)) {
				return fmt.Errorf("window %d target %d is %v: %w", i, j, v, kernel.ErrNonFinite)
			}
		}
	}
	return nil
}

// shuffle plans epoch n, in an order which the seed and n alone
// determine.
func (f *fit) shuffle(n int) {
	var rng *rand.Rand
	if !f.cfg.Ordered {
		rng = rand.New(rand.NewPCG(f.cfg.Seed, uint64(n)))
	}
	f.arrange(f.cfg.BatchSize, rng)
}

// Evaluate returns the mean squared error of w over the windows of src, as
// Epoch.ValLoss of an MSE run without penalties.
func Evaluate(w *kernel.Weights, src Source) (float64, error) {
	if err := w.Validate(); err != nil {
		return 0, err
	}
	cfg, err := Config{}.withDefaults(w.Graph)
	if err != nil {
		return 0, err
	}
	if err := checkSource("data", src); err != nil {
		return 0, err
	}
	e, err := startEngine(cfg, w, src.Steps(), src.Len())
	if err != nil {
		return 0, err
	}
	defer e.pool.stop()
	p := newPlan(src, false)
	p.arrange(e.cfg.BatchSize, nil)
	return e.loss(context.Background(), src, &p)
}
