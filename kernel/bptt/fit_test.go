package bptt

import (
	"context"
	"errors"
	"math"
	"runtime"
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

func TestEpochShuffleVisitsEveryWindowOnce(t *testing.T) {
	f := fit{engine: &engine{cfg: Config{Seed: 8}}, order: make([]int, 50)}
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
		{"beta", nil, good, nil, Config{Beta2: 1}, ErrConfig, "beta2 1"},
		{"negative clip", nil, good, nil, Config{ClipNorm: -2}, ErrConfig, "clipnorm -2"},
		{"two clips", nil, good, nil, Config{ClipNorm: 1, ClipValue: 1}, ErrConfig, "only one of clipvalue"},
		{"negative patience", nil, good, nil, Config{Patience: -1}, ErrConfig, "patience -1"},
		{"negative shards", nil, good, nil, Config{Shards: -1}, ErrConfig, "shards -1"},
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
