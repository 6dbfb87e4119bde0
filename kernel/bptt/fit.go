package bptt

import (
	"context"
	"fmt"
	"math/rand/v2"
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
// if cfg, a size or a weight of w cannot be trained with. The epochs finished
// come with every error.
func Fit(ctx context.Context, w *kernel.Weights, train, val Source, cfg Config, onEpoch func(Epoch)) ([]Epoch, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	cfg, err := cfg.withDefaults(w.Graph)
	if err != nil {
		return nil, err
	}
	if err := checkSources(train, val); err != nil {
		return nil, err
	}
	if val == nil && cfg.Monitor == ValLoss {
		return nil, fmt.Errorf("monitor %s: there is no validation data, want monitor %s: %w", ValLoss, TrainLoss, ErrConfig)
	}
	e, err := startEngine(cfg, w, train.Steps(), train.Len())
	if err != nil {
		return nil, err
	}
	defer e.pool.stop()
	f := fit{
		engine: e, weights: w, train: train, val: val, onEpoch: onEpoch, order: make([]int, train.Len()),
		stopping: earlyStopping{patience: cfg.Patience, minDelta: cfg.MinDelta, start: cfg.StartFromEpoch, restore: cfg.RestoreBest},
		plateau:  plateau{ReduceLR: cfg.ReduceLR},
	}
	if val != nil {
		f.valOrder = ascending(make([]int, val.Len()))
	}
	return f.run(ctx)
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
	weights    *kernel.Weights
	train, val Source
	onEpoch    func(Epoch)

	order, valOrder []int // of the windows

	stopping earlyStopping
	plateau  plateau
}

func (f *fit) run(ctx context.Context) ([]Epoch, error) {
	var epochs []Epoch
	for n := 1; n <= f.cfg.Epochs; n++ {
		epoch, err := f.epoch(ctx, n)
		if err != nil {
			return epochs, err
		}
		save(f.weights, f.layers, f.w.flat)
		stop := f.observe(&epoch)
		epochs = append(epochs, epoch)
		if f.onEpoch != nil {
			f.onEpoch(epoch)
		}
		if stop {
			break
		}
	}
	if f.stopping.saved != nil {
		save(f.weights, f.layers, f.stopping.saved)
	}
	return epochs, nil
}

// observe shows the callbacks an epoch and reports whether to stop after it.
func (f *fit) observe(epoch *Epoch) (stop bool) {
	watched := epoch.Loss
	if f.val != nil && f.cfg.Monitor != TrainLoss {
		watched = epoch.ValLoss
	}
	f.optimizer.rate = f.plateau.observe(watched, f.optimizer.rate)
	epoch.Best, stop = f.stopping.observe(epoch.N, watched, f.w.flat)
	return stop
}

// epoch trains on every window once.
func (f *fit) epoch(ctx context.Context, n int) (Epoch, error) {
	start := time.Now()
	f.shuffle(n)
	var sum float64
	for b, size := 0, f.cfg.BatchSize; b*size < len(f.order); b++ {
		if ctx.Err() != nil {
			save(f.weights, f.layers, f.w.flat)
			return Epoch{}, context.Cause(ctx)
		}
		batch := f.order[b*size : min((b+1)*size, len(f.order))]
		mean := f.engine.train(f.train, batch)
		if !isFinite(mean) {
			return Epoch{}, &DivergedError{n, b + 1, mean}
		}
		sum += mean * float64(len(batch))
	}
	epoch := Epoch{N: n, Loss: sum / float64(len(f.order)), Samples: len(f.order)}
	if f.val != nil {
		var err error
		if epoch.ValLoss, err = f.loss(ctx, f.val, f.valOrder); err != nil {
			save(f.weights, f.layers, f.w.flat)
			return Epoch{}, err
		}
	}
	if !isFinite(epoch.ValLoss) || !finite(f.w.flat) {
		return Epoch{}, &DivergedError{n, 0, epoch.ValLoss}
	}
	epoch.LearningRate = f.optimizer.current
	epoch.Took = time.Since(start)
	return epoch, nil
}

// shuffle sets the order of the windows in epoch n, which the seed and n alone
// determine.
func (f *fit) shuffle(n int) {
	ascending(f.order)
	if f.cfg.Ordered {
		return
	}
	rng := rand.New(rand.NewPCG(f.cfg.Seed, uint64(n)))
	rng.Shuffle(len(f.order), func(i, j int) { f.order[i], f.order[j] = f.order[j], f.order[i] })
}

// ascending sets order to 0, 1, 2 ….
func ascending(order []int) []int {
	for i := range order {
		order[i] = i
	}
	return order
}

// Evaluate returns the mean squared error of w over the windows of src, as
// Epoch.ValLoss of an MSE run.
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
	return e.loss(context.Background(), src, ascending(make([]int, src.Len())))
}
