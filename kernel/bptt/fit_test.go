package bptt

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

var ignoreTook = cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Took" }, cmp.Ignore())

func fitted(t testing.TB, g kernel.Graph, train, val Source, cfg Config) (*kernel.Weights, []Epoch) {
	t.Helper()
	w, err := Init(g, 3)
	if err != nil {
		t.Fatal(err)
	}
	epochs, err := Fit(t.Context(), w, train, val, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w, epochs
}

func TestFitIsTheSameOnOneAndTwoCores(t *testing.T) {
	eachTier(t, testFitIsTheSameOnOneAndTwoCores)
}

func testFitIsTheSameOnOneAndTwoCores(t *testing.T) {
	g := graph(3, seqLayer(9), lstmLayer(70), denseLayer(3, kernel.Softmax), denseLayer(2, kernel.Linear))
	train, val := randomWindows(g, MSE, 45, 5, 1), randomWindows(g, MSE, 11, 5, 2)
	cfg := Config{Epochs: 3, BatchSize: 16, Seed: 4, GlobalClipNorm: 0.1}
	run := func(cores int) (*kernel.Weights, []Epoch) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		return fitted(t, g, train, val, cfg)
	}
	one, epochs := run(1)
	for range 3 {
		two, same := run(2)
		if diff := cmp.Diff(one, two); diff != "" {
			t.Fatalf("weights on two cores differ: %.300s", diff)
		}
		if diff := cmp.Diff(epochs, same, ignoreTook); diff != "" {
			t.Fatalf("history on two cores differs: %s", diff)
		}
	}
	cfg.Seed = 5
	if other, _ := run(2); cmp.Equal(one, other) {
		t.Error("another seed gave the same weights")
	}
}

// Everything that has to do with updates, over parameters of several ranges.
func TestEveryOptimizerIsTheSameOnOneAndTwoCores(t *testing.T) {
	g := graph(3, lstmLayer(60), denseLayer(2, kernel.Linear))
	train, val := randomWindows(g, MSE, 21, 3, 1), randomWindows(g, MSE, 5, 3, 2)
	weights := make([]float32, 21)
	for i := range weights {
		weights[i] = float32(i%4) / 2
	}
	for _, cfg := range updating {
		cfg.Epochs, cfg.BatchSize = 2, 8
		run := func(cores int) (*kernel.Weights, []Epoch) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			return fitted(t, g, weighted{train, weights}, val, cfg)
		}
		one, epochs := run(1)
		two, same := run(2)
		if diff := cmp.Diff(one, two); diff != "" {
			t.Errorf("%s: weights on two cores differ: %.300s", cfg.Optimizer, diff)
		}
		if diff := cmp.Diff(epochs, same, ignoreTook); diff != "" {
			t.Errorf("%s: history on two cores differs: %s", cfg.Optimizer, diff)
		}
	}
}

// updating are configurations in which every kind of update is made.
var updating = []Config{
	{Optimizer: SGD, Schedule: Schedule{Kind: StepDecay, Boundaries: []int{1}, Values: []float64{0.1, 0.01}}},
	{Optimizer: SGD, Momentum: 0.9, Nesterov: true, KernelL2: 0.01, BiasL2: 0.1},
	{Optimizer: RMSprop, WeightDecay: 0.1, ClipNorm: 0.5, Schedule: Schedule{Kind: ExponentialDecay, DecaySteps: 2, DecayRate: 0.5}},
	{Optimizer: RMSprop, Centered: true, Momentum: 0.5, Loss: MAE},
	{Optimizer: AdamW, Loss: Huber, RecurrentL2: 0.01, Schedule: Schedule{Kind: CosineDecay, DecaySteps: 8, WarmupSteps: 2, WarmupTarget: 0.01}},
	{Optimizer: Adam, ClipValue: 0.01},
	{Optimizer: SGD, UseEMA: true, EMAMomentum: 0.8, EMAOverwriteFrequency: 3},
}

func TestEpochShuffleVisitsEveryWindowOnce(t *testing.T) {
	f := fit{engine: &engine{cfg: Config{Seed: 8, BatchSize: 8}}, plan: newPlan(sized{50, 1}, false)}
	orders := map[string]bool{}
	for n := 1; n <= 3; n++ {
		f.shuffle(n)
		seen := map[int]bool{}
		var key strings.Builder
		for _, i := range f.order {
			seen[i] = true
			key.WriteByte(byte(i))
		}
		if len(seen) != 50 || seen[50] {
			t.Fatalf("epoch %d: order %v is no permutation", n, f.order)
		}
		orders[key.String()] = true
	}
	if len(orders) != 3 {
		t.Errorf("%d different orders in 3 epochs, want 3", len(orders))
	}
	f.cfg.Ordered = true
	if f.shuffle(4); !cmp.Equal(f.order, ascending(make([]int, 50))) {
		t.Errorf("ordered: %v", f.order)
	}
}

// With a rate too small to move a weight by much the epoch's loss is that of
// the first weights over all windows: a partial batch counts by its windows.
func TestPartialLastBatchCountsByItsWindows(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(2, kernel.Linear))
	train := randomWindows(g, MSE, 11, 4, 6)
	for k := range train.y[len(train.y)-6:] { // the last batch of 3 differs from the others
		train.y[len(train.y)-6+k] += 5
	}
	w, err := Init(g, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := referenceLoss(MSE, g, toParams64(w), train, ascending(make([]int, 11)))
	got, err := Evaluate(w, train)
	if err != nil || math.Abs(got-want) > 1e-6*want {
		t.Errorf("Evaluate = %v, %v, want %v", got, err, want)
	}
	epochs, err := Fit(t.Context(), w, train, train, Config{Epochs: 1, BatchSize: 4, Ordered: true, LearningRate: 1e-12}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := epochs[0]; math.Abs(e.Loss-want) > 1e-6*want || math.Abs(e.ValLoss-want) > 1e-6*want || e.N != 1 || e.Samples != 11 {
		t.Errorf("epoch = %+v, want losses %v, N 1, 11 samples", e, want)
	}
}

// The weights hardly move, so every epoch has the losses of the first weights:
// the mean over the windows, not over batches, of weighted losses, and the
// penalties.
func TestHistoryHasWeightsAndPenalties(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(2, kernel.Linear))
	src := weighted{randomWindows(g, MSE, 11, 4, 6), []float32{1, 2, 0, 1, 1, 1, 1, 1, 1, 1, 40}}
	w := mustInit(g)
	p, penalty := toParams64(w), 0.0
	for _, l := range p {
		for _, v := range l[0] {
			penalty += 0.1 * v * v
		}
	}
	want := referenceLoss(MSE, g, p, src, ascending(make([]int, 11))) + penalty
	wantVal := referenceLoss(MSE, g, p, src.windows, ascending(make([]int, 11))) + penalty
	epochs, err := Fit(t.Context(), w, src, src.windows, Config{Epochs: 1, BatchSize: 4, Ordered: true, LearningRate: 1e-12, KernelL2: 0.1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := epochs[0]; math.Abs(e.Loss-want) > 1e-6*want || math.Abs(e.ValLoss-wantVal) > 1e-6*want {
		t.Errorf("epoch = %+v, want losses %v and %v", e, want, wantVal)
	}
	epochs, err = Fit(t.Context(), w, src, src, Config{Epochs: 1, LearningRate: 1e-12, KernelL2: 0.1}, nil)
	if err != nil || math.Abs(epochs[0].ValLoss-want) > 1e-6*want {
		t.Errorf("epoch = %+v, %v, want a weighted validation loss %v", epochs, err, want)
	}
}

// The frozen layers stay to the last bit, whatever the optimizer, and their
// gradients are in no norm.
func TestHeadOnly(t *testing.T) {
	g := graph(2, lstmLayer(60), denseLayer(3, kernel.Linear))
	train := randomWindows(g, MSE, 40, 4, 6)
	for _, cfg := range []Config{
		{Epochs: 2}, {Epochs: 2, Optimizer: AdamW, KernelL2: 0.1}, {Epochs: 2, Optimizer: SGD, Momentum: 0.9}, {Epochs: 2, UseEMA: true},
	} {
		first, err := Init(g, 3)
		if err != nil {
			t.Fatal(err)
		}
		cfg.HeadOnly = true
		w, _ := fitted(t, g, train, nil, cfg)
		if !cmp.Equal(w.Layers[0], first.Layers[0]) {
			t.Errorf("%+v: the frozen layer changed", cfg)
		}
		if cmp.Equal(w.Layers[1].Kernel, first.Layers[1].Kernel) || cmp.Equal(w.Layers[1].Bias, first.Layers[1].Bias) {
			t.Errorf("%+v: the last layer did not change", cfg)
		}
	}
	// With a bound far below every gradient a step of SGD has the bound's length.
	before, err := Init(g, 3)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := fitted(t, g, train, nil, Config{Epochs: 1, BatchSize: 40, Optimizer: SGD, LearningRate: 1, GlobalClipNorm: 1e-3, HeadOnly: true})
	var norm float64
	was := slices.Concat(before.Layers[1].Kernel, before.Layers[1].Bias)
	for i, v := range slices.Concat(w.Layers[1].Kernel, w.Layers[1].Bias) {
		norm += float64(v-was[i]) * float64(v-was[i])
	}
	if norm = math.Sqrt(norm); math.Abs(norm-1e-3) > 1e-5 {
		t.Errorf("the head moved by %v, want the bound 0.001", norm)
	}
}

// Three updates an epoch, the third of a smaller batch.
func TestScheduleCountsUpdatesOfAllEpochs(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	_, epochs := fitted(t, g, randomWindows(g, MSE, 11, 4, 6), nil, Config{
		Epochs: 4, BatchSize: 4, Schedule: Schedule{Kind: StepDecay, Boundaries: []int{2, 7}, Values: []float64{0.3, 0.2, 0.1}},
	})
	for i, want := range []float64{0.3, 0.2, 0.1, 0.1} { // the last updates are 2, 5, 8 and 11
		if epochs[i].LearningRate != want {
			t.Errorf("learning rate of epoch %d = %v, want %v", i+1, epochs[i].LearningRate, want)
		}
	}
}

// No epoch improves the loss by as much as the default of min delta.
func TestReducedRateIsThatOfTheNextEpoch(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	_, epochs := fitted(t, g, randomWindows(g, MSE, 8, 4, 6), nil, Config{Epochs: 4, LearningRate: 1e-6, Optimizer: SGD, ReduceLR: ReduceLR{Patience: 1, Factor: 0.5}})
	for i, want := range []float64{1e-6, 1e-6, 0.5e-6, 0.25e-6} {
		if epochs[i].LearningRate != want {
			t.Errorf("learning rate of epoch %d = %v, want %v", i+1, epochs[i].LearningRate, want)
		}
	}
}

// The training loss falls for long after the validation loss was lowest.
func TestMonitorChoosesTheLoss(t *testing.T) {
	g := graph(2, lstmLayer(10), denseLayer(1, kernel.Linear))
	train, val := randomWindows(g, MSE, 24, 4, 31), randomWindows(g, MSE, 24, 4, 32)
	best := func(monitor string, start int) (best, trained int) {
		_, epochs := fitted(t, g, train, val, Config{Epochs: 12, BatchSize: 8, LearningRate: 0.05, Patience: 3, Monitor: monitor, StartFromEpoch: start})
		for _, e := range epochs {
			if e.Best {
				best = e.N
			}
		}
		return best, len(epochs)
	}
	b, n := best("", 0)
	if same, m := best(ValLoss, 0); same != b || m != n || n != b+3 {
		t.Errorf("best epoch %d of %d, and %d of %d with monitor val_loss, want the same and 3 after the best", b, n, same, m)
	}
	if late, m := best(TrainLoss, 0); late <= b || m <= n {
		t.Errorf("best epoch %d of %d with monitor loss, %d of %d with val_loss, want it later", late, m, b, n)
	}
	if never, m := best("", 12); never != 0 || m != 12 {
		t.Errorf("best epoch %d of %d when none is looked at, want 0 of 12", never, m)
	}
}

// Nothing is best, so nothing is restored.
func TestRestoreBestOfNoEpochKeepsTheLast(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	train := randomWindows(g, MSE, 8, 4, 31)
	last, _ := fitted(t, g, train, nil, Config{Epochs: 3})
	w, _ := fitted(t, g, train, nil, Config{Epochs: 3, RestoreBest: true, StartFromEpoch: 3})
	if diff := cmp.Diff(last, w); diff != "" {
		t.Errorf("w is not that of the last epoch: %.300s", diff)
	}
}

// The network learns to tell whether the first of eight values was positive,
// which it has to carry to the end, and to add up the values.
func TestFitLearnsToRemember(t *testing.T) {
	g := graph(1, lstmLayer(12), denseLayer(2, kernel.Linear))
	train, val := randomWindows(g, MSE, 512, 8, 11), randomWindows(g, MSE, 128, 8, 12)
	for _, s := range []*windows{train, val} {
		for i := range s.Len() {
			x := s.x[i*8 : (i+1)*8]
			s.y[2*i] = float32(math.Copysign(1, float64(x[0])))
			s.y[2*i+1] = 0
			for _, v := range x {
				s.y[2*i+1] += v / 3
			}
		}
	}
	w, epochs := fitted(t, g, train, val, Config{Epochs: 30, LearningRate: 0.01, Seed: 1})
	if first, last := epochs[0].ValLoss, epochs[len(epochs)-1].ValLoss; first < 0.3 || last > 0.05 {
		t.Errorf("validation loss went from %v to %v, want from above 0.3 to below 0.05", first, last)
	}
	if got, err := Evaluate(w, val); err != nil || math.Abs(got-epochs[len(epochs)-1].ValLoss) > 1e-6 {
		t.Errorf("Evaluate = %v, %v, want the last ValLoss %v", got, err, epochs[len(epochs)-1].ValLoss)
	}
}

func TestFitLearnsClasses(t *testing.T) {
	g := graph(2, lstmLayer(8), denseLayer(3, kernel.Softmax))
	train := randomWindows(g, CategoricalCrossentropy, 384, 6, 21)
	for i := range train.Len() {
		var a, b float32
		for k := range 6 {
			a += train.x[i*12+2*k]
			b += train.x[i*12+2*k+1]
		}
		clear(train.y[3*i : 3*i+3])
		switch {
		case a < 0:
			train.y[3*i] = 1
		case b < 0:
			train.y[3*i+1] = 1
		default:
			train.y[3*i+2] = 1
		}
	}
	_, epochs := fitted(t, g, train, nil, Config{Epochs: 25, LearningRate: 0.01, Loss: CategoricalCrossentropy})
	if last := epochs[len(epochs)-1].Loss; last > 0.25 { // guessing costs ln 3 = 1.1
		t.Errorf("loss %v after 25 epochs, want below 0.25", last)
	}
}

// A high rate on few windows overfits: validation worsens, the run stops, and w
// is that of the best epoch.
func TestFitStopsEarlyWithTheBestWeights(t *testing.T) {
	g := graph(2, lstmLayer(10), denseLayer(1, kernel.Linear))
	train, val := randomWindows(g, MSE, 24, 4, 31), randomWindows(g, MSE, 24, 4, 32)
	for i := range 24 { // half of the target can be learnt, the rest is noise
		train.y[i] += train.x[i*8+7]
		val.y[i] += val.x[i*8+7]
	}
	w, err := Init(g, 3)
	if err != nil {
		t.Fatal(err)
	}
	var snapshots []*kernel.Weights
	epochs, err := Fit(t.Context(), w, train, val, Config{Epochs: 200, BatchSize: 8, LearningRate: 0.05, Patience: 3, RestoreBest: true},
		func(Epoch) { snapshots = append(snapshots, w.Clone()) })
	if err != nil {
		t.Fatal(err)
	}
	best := 0
	for i, e := range epochs {
		if e.ValLoss < epochs[best].ValLoss {
			best = i
		}
	}
	if best == 0 || len(epochs) != best+1+3 {
		t.Fatalf("stopped after %d epochs with the best at %d, want 3 later and the best not the first", len(epochs), best+1)
	}
	if diff := cmp.Diff(snapshots[best], w, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("w is not that of epoch %d: %.300s", best+1, diff)
	}
	if got, _ := Evaluate(w, val); math.Abs(got-epochs[best].ValLoss) > 1e-6 {
		t.Errorf("Evaluate = %v, want the best ValLoss %v", got, epochs[best].ValLoss)
	}
}

func TestNaNStopsTheRunAndSaysWhere(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	w, err := Init(g, 3)
	if err != nil {
		t.Fatal(err)
	}
	before := w.Clone()
	train := randomWindows(g, MSE, 20, 4, 41)
	train.x[9*8+3] = float32(math.NaN()) // window 9: the third batch of 4
	epochs, err := Fit(t.Context(), w, train, nil, Config{BatchSize: 4, Ordered: true}, nil)
	var diverged *DivergedError
	if !errors.As(err, &diverged) || diverged.Epoch != 1 || diverged.Batch != 3 || !math.IsNaN(diverged.Loss) || !errors.Is(err, ErrDiverged) {
		t.Fatalf("Fit = %v, want DivergedError at epoch 1 batch 3", err)
	}
	if !strings.Contains(err.Error(), "epoch 1 batch 3: loss is NaN") {
		t.Errorf("error %q does not say where", err)
	}
	if len(epochs) != 0 {
		t.Errorf("%d epochs, want 0", len(epochs))
	}
	if diff := cmp.Diff(before, w, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("w is not that of the last whole epoch: %.300s", diff)
	}

	val := randomWindows(g, MSE, 5, 4, 42)
	val.y[2] = float32(math.Inf(1))
	train = randomWindows(g, MSE, 20, 4, 41)
	if _, err = Fit(t.Context(), w, train, val, Config{}, nil); !errors.As(err, &diverged) || diverged.Epoch != 1 || diverged.Batch != 0 {
		t.Errorf("infinite validation target: %v, want DivergedError at the end of epoch 1", err)
	}
	// The loss of the only batch is finite, the update is not.
	if _, err = Fit(t.Context(), w, train, nil, Config{LearningRate: 1e300, Epochs: 1}, nil); !errors.Is(err, ErrDiverged) {
		t.Errorf("infinite update: %v, want ErrDiverged", err)
	}
}

// Plain gradient descent with a rate far too high: each update overshoots by
// more than the one before.
func TestExplodingLossSaysWhereAndWhatToDo(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	for name, cfg := range map[string]Config{
		"rate":    {Optimizer: SGD, LearningRate: 1e4, BatchSize: 4},
		"penalty": {Optimizer: SGD, LearningRate: 1, KernelL2: 1e4, BatchSize: 4},
	} {
		w, before := mustInit(g), mustInit(g)
		epochs, err := Fit(t.Context(), w, randomWindows(g, MSE, 200, 4, 41), nil, cfg, nil)
		var diverged *DivergedError
		if !errors.As(err, &diverged) || diverged.Epoch != 1 || diverged.Batch < 2 || isFinite(diverged.Loss) || len(epochs) != 0 {
			t.Errorf("%s: Fit = %d epochs, %v, want DivergedError in epoch 1 after batch 1", name, len(epochs), err)
			continue
		}
		for _, part := range []string{"epoch 1 batch ", "loss is ", "try a smaller learning rate or clipnorm"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %q has no %q", name, err, part)
			}
		}
		if diff := cmp.Diff(before, w, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: w is not as it was before: %.300s", name, diff)
		}
	}
}

// cancelling ends the context when a window is read for the count-th time.
type cancelling struct {
	Source
	count  atomic.Int64
	cancel func()
}

func (c *cancelling) Window(i int, x, y []float32) {
	c.Source.Window(i, x, y)
	if c.count.Add(-1) == 0 {
		c.cancel()
	}
}

func (c *cancelling) Continues(i int) bool { return continues(c.Source, i) }

func TestFitEndsWithItsContextBetweenBatches(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	train := randomWindows(g, MSE, 20, 4, 51)
	w, err := Init(g, 3)
	if err != nil {
		t.Fatal(err)
	}
	// The third batch of the second epoch is trained to its end; then no more.
	cause := errors.New("stopped by the operator")
	ctx, cancel := context.WithCancelCause(t.Context())
	src := &cancelling{Source: train, cancel: func() { cancel(cause) }}
	src.count.Store(20 + 2*4 + 1)
	epochs, err := Fit(ctx, w, src, nil, Config{BatchSize: 4, Ordered: true}, nil)
	if !errors.Is(err, cause) || len(epochs) != 1 {
		t.Fatalf("Fit = %d epochs, %v, want 1 and the cause", len(epochs), err)
	}
	if left := src.count.Load(); left != -3 {
		t.Errorf("%d windows read after the end, want the batch's last 3", -left)
	}
	want, _ := Init(g, 3)
	e := start(t, Config{BatchSize: 4}, want, train)
	order := ascending(make([]int, 20))
	for _, b := range []int{0, 1, 2, 3, 4, 0, 1, 2} {
		e.train(train, order[4*b:4*b+4])
	}
	save(want, e.layers, e.w.flat)
	if diff := cmp.Diff(want, w, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("w is not that of the last batch: %.300s", diff)
	}
}

func TestFitEndsWithItsContextDuringValidation(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	ctx, cancel := context.WithCancel(t.Context())
	val := &cancelling{Source: randomWindows(g, MSE, 12, 4, 52), cancel: cancel}
	val.count.Store(5) // in the second of three batches
	epochs, err := Fit(ctx, mustInit(g), randomWindows(g, MSE, 4, 4, 51), val, Config{BatchSize: 4}, nil)
	if !errors.Is(err, context.Canceled) || len(epochs) != 0 || val.count.Load() != -3 {
		t.Errorf("Fit = %d epochs, %v after %d more windows, want Canceled after 3", len(epochs), err, -val.count.Load())
	}
}

func TestCompleteSaysWhatFitTrainsWith(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	c, err := Config{Optimizer: SGD, Loss: Huber, ReduceLR: ReduceLR{Patience: 3}}.Complete(g)
	if err != nil {
		t.Fatal(err)
	}
	if c.LearningRate != 0.01 || c.HuberDelta != 1 || c.ReduceLR.Factor != 0.1 || c.BatchSize != 32 || c.Epochs != 10 {
		t.Errorf("complete: %+v", c)
	}
	if _, err := (Config{Optimizer: "adma"}).Complete(g); !errors.Is(err, ErrConfig) {
		t.Errorf("unknown optimizer: %v, want ErrConfig", err)
	}
	if _, err := (Config{}).Complete(kernel.Graph{}); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("no graph: %v, want ErrShape", err)
	}
}

// sized is a Source of nothing but sizes.
type sized struct{ len, steps int }

func (s sized) Len() int                         { return s.len }
func (s sized) Steps() int                       { return s.steps }
func (s sized) Window(int, []float32, []float32) {}

func TestFitRefusesWhatCannotBeTrained(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	softmax := graph(2, lstmLayer(4), denseLayer(3, kernel.Softmax))
	good := sized{8, 4}
	short, _ := Init(g, 1)
	short.Layers[0].Recurrent = short.Layers[0].Recurrent[1:]
	nan, _ := Init(g, 1)
	nan.Layers[1].Kernel[2] = float32(math.NaN())
	for _, c := range []struct {
		name       string
		w          *kernel.Weights // nil: g's
		train, val Source
		cfg        Config
		want       error
		text       string
	}{
		{"short tensor", short, good, nil, Config{}, kernel.ErrShape, "layer 0 recurrent kernel: want 64 values, got 63"},
		{"NaN weight", nan, good, nil, Config{}, kernel.ErrNonFinite, "layer 1 kernel value 2"},
		{"no windows", nil, sized{0, 4}, nil, Config{}, kernel.ErrShape, "training data: 0 windows"},
		{"no steps", nil, sized{8, 0}, nil, Config{}, kernel.ErrShape, "of 0 steps"},
		{"no validation windows", nil, good, sized{0, 4}, Config{}, kernel.ErrShape, "validation data: 0 windows"},
		{"other validation steps", nil, good, sized{8, 5}, Config{}, kernel.ErrShape, "validation windows have 5 steps, training windows 4"},
		{"batch beyond memory", nil, sized{math.MaxInt, math.MaxInt / 8}, nil, Config{}, kernel.ErrShape, "batch of 32 windows"},
		{"negative epochs", nil, good, nil, Config{Epochs: -1}, ErrConfig, "epochs -1"},
		{"negative batch", nil, good, nil, Config{BatchSize: -1}, ErrConfig, "batch size -1"},
		{"negative rate", nil, good, nil, Config{LearningRate: -1}, ErrConfig, "learning rate -1"},
		{"NaN rate", nil, good, nil, Config{LearningRate: math.NaN()}, ErrConfig, "learning rate NaN"},
		{"beta", nil, good, nil, Config{Beta2: 1}, ErrConfig, "beta2 1: want 0 or more, below 1"},
		{"negative clip", nil, good, nil, Config{ClipNorm: -2}, ErrConfig, "clipnorm -2"},
		{"two clips", nil, good, nil, Config{ClipNorm: 1, ClipValue: 1}, ErrConfig, "only one of clipvalue"},
		{"negative patience", nil, good, nil, Config{Patience: -1}, ErrConfig, "patience -1"},
		{"negative shards", nil, good, nil, Config{Shards: -1}, ErrConfig, "shards -1"},
		{"unknown optimizer", nil, good, nil, Config{Optimizer: "adma"}, ErrConfig, `optimizer "adma": want adam or adamw or sgd or rmsprop`},
		{"unknown schedule", nil, good, nil, Config{Schedule: Schedule{Kind: "cosin"}}, ErrConfig, `schedule "cosin": want step or exponential or cosine`},
		{"unknown monitor", nil, good, nil, Config{Monitor: "acc"}, ErrConfig, `monitor "acc": want val_loss or loss`},
		{"monitor without data", nil, good, nil, Config{Monitor: ValLoss}, ErrConfig, "monitor val_loss: there is no validation data"},
		{"another optimizer's setting", nil, good, nil, Config{Momentum: 0.9}, ErrConfig, "momentum needs optimizer sgd or rmsprop, not adam"},
		{"an average's setting", nil, good, nil, Config{EMAMomentum: 0.9}, ErrConfig, "average that is not kept"},
		{"ema momentum", nil, good, nil, Config{UseEMA: true, EMAMomentum: 1.1}, ErrConfig, "ema momentum 1.1: want 0 to 1"},
		{"another loss's setting", nil, good, nil, Config{HuberDelta: 2}, ErrConfig, "huber delta needs loss huber, not mse"},
		{"another schedule's setting", nil, good, nil, Config{Schedule: Schedule{Kind: StepDecay, Alpha: 1}}, ErrConfig, "alpha needs schedule cosine, not step"},
		{"no schedule's setting", nil, good, nil, Config{Schedule: Schedule{DecaySteps: 9}}, ErrConfig, "decay steps needs schedule exponential or cosine, not none"},
		{"reduction without patience", nil, good, nil, Config{ReduceLR: ReduceLR{Factor: 0.5}}, ErrConfig, "reduce LR has settings and no patience"},
		{"schedule and reduction", nil, good, nil, Config{Schedule: Schedule{Kind: CosineDecay, DecaySteps: 9}, ReduceLR: ReduceLR{Patience: 2}}, ErrConfig, "take one of them"},
		{"factor that raises", nil, good, nil, Config{ReduceLR: ReduceLR{Patience: 2, Factor: 1}}, ErrConfig, "reduce LR factor 1"},
		{"negative decay", nil, good, nil, Config{WeightDecay: -0.1}, ErrConfig, "weight decay -0.1"},
		{"momentum above 1", nil, good, nil, Config{Optimizer: SGD, Momentum: 1.5}, ErrConfig, "momentum 1.5"},
		{"rho", nil, good, nil, Config{Optimizer: RMSprop, Rho: 1}, ErrConfig, "rho 1"},
		{"infinite penalty", nil, good, nil, Config{KernelL2: math.Inf(1)}, ErrConfig, "kernel L2 +Inf"},
		{"negative start", nil, good, nil, Config{StartFromEpoch: -1}, ErrConfig, "start from epoch -1"},
		{"no boundaries", nil, good, nil, Config{Schedule: Schedule{Kind: StepDecay, Values: []float64{1}}}, ErrConfig, "0 boundaries and 1 values"},
		{"as many values as boundaries", nil, good, nil, Config{Schedule: Schedule{Kind: StepDecay, Boundaries: []int{1}, Values: []float64{1}}}, ErrConfig, "1 boundaries and 1 values"},
		{"falling boundaries", nil, good, nil, Config{Schedule: Schedule{Kind: StepDecay, Boundaries: []int{5, 5}, Values: []float64{1, 1, 1}}}, ErrConfig, "boundary 5 is out of order"},
		{"no rate in a step", nil, good, nil, Config{Schedule: Schedule{Kind: StepDecay, Boundaries: []int{5}, Values: []float64{1, 0}}}, ErrConfig, "value 0 is no learning rate"},
		{"no decay steps", nil, good, nil, Config{Schedule: Schedule{Kind: CosineDecay}}, ErrConfig, "decay steps 0: want at least 1"},
		{"no decay rate", nil, good, nil, Config{Schedule: Schedule{Kind: ExponentialDecay, DecaySteps: 2}}, ErrConfig, "decay rate 0"},
		{"warm-up to nothing", nil, good, nil, Config{Schedule: Schedule{Kind: CosineDecay, DecaySteps: 2, WarmupSteps: 2}}, ErrConfig, "set both or neither"},
		{"NaN sample weight", nil, weighted{randomWindows(g, MSE, 2, 4, 1), []float32{1, float32(math.NaN())}}, nil, Config{}, ErrConfig, "training data: window 1 has weight NaN"},
		{"negative sample weight", nil, good, weighted{randomWindows(g, MSE, 2, 4, 1), []float32{-1, 1}}, Config{}, ErrConfig, "validation data: window 0 has weight -1"},
		{"unknown loss", nil, good, nil, Config{Loss: "mape"}, ErrConfig, `loss "mape": want mse`},
		{"crossentropy without softmax", nil, good, nil, Config{Loss: CategoricalCrossentropy}, ErrConfig, "after activation linear, want softmax"},
		{"wrong crossentropy", mustInit(softmax), good, nil, Config{Loss: BinaryCrossentropy}, ErrConfig, "after activation softmax, want sigmoid"},
	} {
		if c.w == nil {
			c.w = mustInit(g)
		}
		_, err := Fit(t.Context(), c.w, c.train, c.val, c.cfg, nil)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", c.name, err, c.want, c.text)
		}
	}
	if _, err := Evaluate(mustInit(g), sized{}); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("Evaluate(no data) = %v, want ErrShape", err)
	}
	if _, err := Evaluate(short, good); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("Evaluate(short tensor) = %v, want ErrShape", err)
	}
}

func mustInit(g kernel.Graph) *kernel.Weights {
	w, err := Init(g, 1)
	if err != nil {
		panic(err)
	}
	return w
}

func TestBatchLargerThanTheData(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	for _, n := range []int{1, 2, 5} {
		_, epochs := fitted(t, g, randomWindows(g, MSE, n, 3, 61), nil, Config{Epochs: 2, BatchSize: 64})
		if len(epochs) != 2 || epochs[1].Loss >= epochs[0].Loss {
			t.Errorf("%d windows: %+v, want two epochs with falling loss", n, epochs)
		}
	}
}

// What is odd about data and still can be trained on.
func TestOddDataTrains(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	equal := randomWindows(g, MSE, 9, 4, 1)
	for k := range equal.y {
		equal.y[k] = 0.5
	}
	constant := randomWindows(g, MSE, 9, 4, 1)
	clear(constant.x)
	for _, c := range []struct {
		name string
		src  Source
		cfg  Config
	}{
		{"all targets equal", equal, Config{}},
		{"all targets equal, mae", equal, Config{Loss: MAE}},
		{"all targets equal, huber and rmsprop", equal, Config{Loss: Huber, Optimizer: RMSprop, Centered: true}},
		{"all inputs equal", constant, Config{}},
		{"batches of one window", randomWindows(g, MSE, 9, 4, 1), Config{BatchSize: 1}},
		{"a last batch of one window", randomWindows(g, MSE, 9, 4, 1), Config{BatchSize: 4}},
		{"windows of one step", randomWindows(g, MSE, 9, 1, 1), Config{}},
		{"one window of one step", randomWindows(g, MSE, 1, 1, 1), Config{Optimizer: SGD, Momentum: 0.9}},
		{"a batch without weight", weighted{randomWindows(g, MSE, 9, 4, 1), []float32{0, 0, 0, 0, 1, 1, 1, 1, 1}}, Config{BatchSize: 4, Ordered: true}},
	} {
		c.cfg.Epochs = 5
		_, epochs := fitted(t, g, c.src, nil, c.cfg)
		if first, last := epochs[0].Loss, epochs[4].Loss; !(last < first) || !isFinite(last) {
			t.Errorf("%s: loss went from %v to %v, want it to fall", c.name, first, last)
		}
	}
}
