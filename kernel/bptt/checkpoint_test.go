package bptt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// encoded returns c's bytes, which outlive the run.
func encoded(t testing.TB, c *Checkpoint) []byte {
	t.Helper()
	b, err := c.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decoded(t testing.TB, b []byte) *Checkpoint {
	t.Helper()
	var c Checkpoint
	if err := c.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	return &c
}

// A story is a run that is cut again and again.
type story struct {
	cfg        Config
	graph      kernel.Graph
	train, val Source
}

// uninterrupted trains at once.
func (s story) uninterrupted(t *testing.T) (*kernel.Weights, []Epoch) {
	return fitted(t, s.graph, s.train, s.val, s.cfg)
}

// cutAndResumed trains with a cut after a random number of windows, training
// and validation ones, until it comes to its end. Each cut is either the end of
// the context or a kill, after which the last checkpoint but one is what is
// there. Each process has one or two cores and new weights.
func (s story) cutAndResumed(t *testing.T, rng *rand.Rand) (w *kernel.Weights, epochs []Epoch, cuts int) {
	t.Helper()
	var last, before []byte
	for cuts = 0; cuts < 1000; cuts++ {
		ctx, cancel := context.WithCancel(t.Context())
		run := Run{Config: s.cfg, Data: "d", OnCheckpoint: func(c *Checkpoint) error {
			before, last = last, encoded(t, c)
			return nil
		}}
		train, val := &cancelling{Source: s.train, cancel: cancel}, s.val
		train.count.Store(1 + rng.Int64N(2*int64(s.train.Len())))
		if val != nil && rng.IntN(3) == 0 {
			train.count.Store(math.MaxInt64)
			cut := &cancelling{Source: val, cancel: cancel}
			cut.count.Store(1 + rng.Int64N(int64(val.Len())))
			val = cut
		}
		epochs, w = s.process(ctx, t, run, train, val, last, 1+rng.IntN(2))
		cancel()
		if w != nil {
			return w, epochs, cuts
		}
		if rng.IntN(2) == 0 {
			last = before
		}
	}
	t.Fatal("the run does not come to its end")
	return nil, nil, 0
}

// process trains on from a checkpoint, or from the start; nil if it was cut.
func (s story) process(ctx context.Context, t *testing.T, run Run, train, val Source, from []byte, cores int) ([]Epoch, *kernel.Weights) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	w, err := Init(s.graph, 3)
	if err != nil {
		t.Fatal(err)
	}
	if from != nil {
		run.Resume = decoded(t, from)
		for _, l := range w.Layers { // what is in w before does not matter
			clear(l.Kernel)
		}
	}
	epochs, err := run.Fit(ctx, w, train, val)
	if errors.Is(err, context.Canceled) {
		return nil, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return epochs, w
}

func TestResumedRunsEqualUninterrupted(t *testing.T) {
	g := graph(3, seqLayer(5), kernel.Layer{Kind: kernel.GRU, Units: 7}, denseLayer(2, kernel.Linear))
	for _, c := range []struct {
		name string
		cfg  Config
		val  bool
	}{
		{"adam", Config{Epochs: 4}, false},
		{"adamw, on a schedule", Config{Epochs: 4, Optimizer: AdamW, Schedule: Schedule{Kind: CosineDecay, DecaySteps: 20}}, true},
		{"sgd with momentum", Config{Epochs: 4, Optimizer: SGD, Momentum: 0.9, Nesterov: true}, false},
		{"rmsprop with all its slots", Config{Epochs: 4, Optimizer: RMSprop, Momentum: 0.5, Centered: true}, false},
		{"reduced on a plateau", Config{Epochs: 16, LearningRate: 0.1, ReduceLR: ReduceLR{Patience: 2, Factor: 0.5, Cooldown: 2}}, true},
		{"early stopping with the best weights", Config{Epochs: 12, LearningRate: 0.1, Patience: 2, RestoreBest: true}, true},
		{"best weights of all epochs", Config{Epochs: 4, LearningRate: 0.1, RestoreBest: true}, true},
		{"averaged weights", Config{Epochs: 4, LearningRate: 0.1, UseEMA: true, EMAMomentum: 0.7, EMAOverwriteFrequency: 5, RestoreBest: true}, true},
		{"dropout", Config{Epochs: 3, Dropout: []float64{0.3, 0.2}}, true},
		{"stateful, with dropout", Config{Epochs: 3, Stateful: true, Dropout: []float64{0, 0.2}}, true},
		{"clipped, ordered", Config{Epochs: 3, GlobalClipNorm: 0.1, Ordered: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.BatchSize, c.cfg.Seed = 8, 9
			s := story{cfg: c.cfg, graph: g, train: chains{randomWindows(g, MSE, 45, 4, 1), 6}}
			if c.val {
				s.val = chains{randomWindows(g, MSE, 19, 4, 2), 4}
			}
			want, history := s.uninterrupted(t)
			cuts := 0
			for seed := range uint64(8) {
				got, epochs, n := s.cutAndResumed(t, rand.New(rand.NewPCG(seed, 0)))
				cuts += n
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("seed %d: weights after %d cuts differ: %.300s", seed, n, diff)
				}
				if diff := cmp.Diff(history, epochs, ignoreTook); diff != "" {
					t.Fatalf("seed %d: history after %d cuts differs: %s", seed, n, diff)
				}
			}
			if cuts < 8 {
				t.Errorf("%d cuts in 8 runs, want more", cuts)
			}
		})
	}
}

// midEpoch returns a checkpoint with every part in use: finished epochs, an
// epoch under way and saved weights.
func midEpoch(t testing.TB) (Run, *windows, []byte) {
	t.Helper()
	g := graph(2, lstmLayer(3), denseLayer(1, kernel.Linear))
	train := randomWindows(g, MSE, 20, 4, 51)
	ctx, cancel := context.WithCancel(t.Context())
	src := &cancelling{Source: train, cancel: cancel}
	src.count.Store(2*20 + 9)
	var b []byte
	r := Run{Config: Config{Epochs: 3, BatchSize: 4, RestoreBest: true}, Data: "sha256"}
	stopped := r
	stopped.OnCheckpoint = func(c *Checkpoint) error { b = encoded(t, c); return nil }
	if _, err := stopped.Fit(ctx, mustInit(g), src, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return r, train, b
}

func TestCheckpointTellsHowFarItIs(t *testing.T) {
	_, _, b := midEpoch(t)
	c := decoded(t, b)
	if len(c.Epochs()) != 2 || c.Batches() != 3 || c.Epochs()[1].N != 2 || c.Epochs()[1].Samples != 20 || c.Epochs()[1].LearningRate != 0.001 {
		t.Errorf("%d batches after epochs %+v, want 3 after 2 of 20 windows", c.Batches(), c.Epochs())
	}
	if again := encoded(t, c); !bytes.Equal(again, b) {
		t.Error("what it decodes to encodes to other bytes")
	}
}

// A run at its end trains no more, and ends with the weights it would have.
func TestResumeAtTheEnd(t *testing.T) {
	r, train, b := midEpoch(t)
	g := graph(2, lstmLayer(3), denseLayer(1, kernel.Linear))
	r.Resume = decoded(t, b)
	r.OnCheckpoint = func(c *Checkpoint) error { b = encoded(t, c); return nil }
	want := mustInit(g)
	epochs, err := r.Fit(t.Context(), want, train, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Resume = decoded(t, b)
	r.OnEpoch = func(e Epoch) { t.Errorf("epoch %d after the end", e.N) }
	got := mustInit(g)
	again, err := r.Fit(t.Context(), got, train, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()) + cmp.Diff(epochs, again); diff != "" {
		t.Errorf("resumed at the end: %.300s", diff)
	}
}

func TestResumeRefusesAnotherRun(t *testing.T) {
	r, train, b := midEpoch(t)
	same := graph(2, lstmLayer(3), denseLayer(1, kernel.Linear))
	r.Resume = decoded(t, b)
	for _, c := range []struct {
		name   string
		change func(r *Run)
		graph  kernel.Graph
		train  Source
		val    Source
		text   string
	}{
		{"learning rate", func(r *Run) { r.LearningRate = 0.01 }, same, train, nil, "LearningRate is 0.01 and was 0.001"},
		{"seed and clipping", func(r *Run) { r.Seed, r.ClipNorm = 7, 1 }, same, train, nil, "Seed is 7 and was 0, ClipNorm is 1 and was 0"},
		{"data", func(r *Run) { r.Data = "other" }, same, train, nil, "the data is other and was sha256"},
		{"units", func(*Run) {}, graph(2, lstmLayer(4), denseLayer(1, kernel.Linear)), train, nil, "lstm(4 linear)"},
		{"windows", func(*Run) {}, same, sized{21, 4}, nil, "the number of training windows is 21 and was 20"},
		{"validation", func(*Run) {}, same, train, train, "the number of validation windows is 20 and was 0"},
		{"steps", func(*Run) {}, same, sized{20, 5}, nil, "the steps of a window is 5 and was 4"},
	} {
		r, w := r, mustInit(c.graph)
		c.change(&r)
		_, err := r.Fit(t.Context(), w, c.train, c.val)
		if !errors.Is(err, ErrOtherRun) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want ErrOtherRun with %q", c.name, err, c.text)
		}
		if diff := cmp.Diff(mustInit(c.graph), w); diff != "" {
			t.Errorf("%s: the refused run changed the weights", c.name)
		}
	}
}

// A setting that the program which wrote the checkpoint did not know counts as
// its default.
func TestResumeAfterAnUpgrade(t *testing.T) {
	r, train, b := midEpoch(t)
	g := graph(2, lstmLayer(3), denseLayer(1, kernel.Linear))
	for config, want := range map[string]error{
		`{"Epochs":3,"BatchSize":4,"RestoreBest":true}`:             nil,
		`{"Epochs":3,"BatchSize":4,"RestoreBest":true,"Beta1":0.5}`: ErrOtherRun,
		`{"Epochs":3,"BatchSize":4}`:                                ErrOtherRun,
	} {
		r.Resume = decoded(t, b)
		r.Resume.config = []byte(config)
		if _, err := r.Fit(t.Context(), mustInit(g), train, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", config, err, want)
		}
	}
}

func TestResumeRefusesOtherState(t *testing.T) {
	r, train, b := midEpoch(t)
	g := graph(2, lstmLayer(3), denseLayer(1, kernel.Linear))
	for name, change := range map[string]func(c *Checkpoint){
		"fewer values": func(c *Checkpoint) { c.state = c.state[1:] },
		"another name": func(c *Checkpoint) { c.state[1].name = "other" },
		"another size": func(c *Checkpoint) { *c.state[0].value.(*[]float32) = make([]float32, 3) },
		"another kind": func(c *Checkpoint) { c.state[0].value = new(int) },
		"past its end": func(c *Checkpoint) { c.batches = 6 },
		"no JSON":      func(c *Checkpoint) { c.config = []byte("{") },
	} {
		r.Resume = decoded(t, b)
		change(r.Resume)
		if _, err := r.Fit(t.Context(), mustInit(g), train, nil); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v, want ErrCheckpoint", name, err)
		}
	}
}

func TestCheckpointThatCannotBeKeptEndsTheRun(t *testing.T) {
	g := graph(2, lstmLayer(3), denseLayer(1, kernel.Linear))
	train := randomWindows(g, MSE, 20, 4, 51)
	full := errors.New("no space left")
	for _, n := range []int{1, 2} {
		calls := 0
		r := Run{Config: Config{Epochs: 3}, OnCheckpoint: func(*Checkpoint) error {
			if calls++; calls == n {
				return full
			}
			return nil
		}}
		epochs, err := r.Fit(t.Context(), mustInit(g), train, nil)
		where := fmt.Sprintf("checkpoint after epoch %d", n)
		if !errors.Is(err, full) || !strings.Contains(err.Error(), where) || len(epochs) != n || calls != n {
			t.Errorf("Fit = %d epochs, %v after %d checkpoints, want %d and the error, %s", len(epochs), err, calls, n, where)
		}
	}
	// When the context ends both causes are told.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := Run{OnCheckpoint: func(*Checkpoint) error { return full }}
	if _, err := r.Fit(ctx, mustInit(g), train, nil); !errors.Is(err, full) || !errors.Is(err, context.Canceled) {
		t.Errorf("Fit = %v, want Canceled and the error", err)
	}
}

func TestCheckpointIsWholeOrRefused(t *testing.T) {
	_, _, b := midEpoch(t)
	for n := range len(b) {
		var c Checkpoint
		if err := c.UnmarshalBinary(b[:n]); !errors.Is(err, ErrCheckpoint) {
			t.Fatalf("first %d of %d bytes: %v, want ErrCheckpoint", n, len(b), err)
		}
		// Cut, and with a checksum that is right.
		if n < len(b)-sha256.Size {
			sum := sha256.Sum256(b[:n])
			if err := c.UnmarshalBinary(append(b[:n:n], sum[:]...)); !errors.Is(err, ErrCheckpoint) {
				t.Fatalf("first %d of %d bytes with their checksum: %v, want ErrCheckpoint", n, len(b), err)
			}
		}
		damaged := bytes.Clone(b)
		damaged[n] ^= 0x10
		if err := c.UnmarshalBinary(damaged); !errors.Is(err, ErrCheckpoint) {
			t.Fatalf("byte %d damaged: %v, want ErrCheckpoint", n, err)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	_, _, b := midEpoch(f)
	f.Add(b[len(checkpointMagic) : len(b)-sha256.Size])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		b := append([]byte(checkpointMagic), content...)
		sum := sha256.Sum256(b)
		b = append(b, sum[:]...)
		var c Checkpoint
		if err := c.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrCheckpoint) {
				t.Errorf("%v, want ErrCheckpoint", err)
			}
			return
		}
		if again := encoded(t, &c); !bytes.Equal(again, b) {
			t.Errorf("%x decodes, and encodes to %x", b, again)
		}
	})
}

func TestDivergedSaysWhichValue(t *testing.T) {
	g := graph(2, lstmLayer(4), denseLayer(1, kernel.Linear))
	for _, c := range []struct {
		name   string
		change func(train, val *windows)
		cfg    Config
		text   string
	}{
		{"input", func(train, _ *windows) { train.x[9*8+3] = float32(math.NaN()) }, Config{}, "window 9 step 1 feature 1 is NaN"},
		{"target", func(train, _ *windows) { train.y[9] = float32(math.Inf(1)) }, Config{}, "window 9 target 0 is +Inf"},
		{"validation target", func(_, val *windows) { val.y[2] = float32(math.Inf(-1)) }, Config{}, "window 2 target 0 is -Inf"},
		{"weight", func(_, _ *windows) {}, Config{LearningRate: 1e300, Epochs: 1}, "layer 0 kernel value 0 is"},
	} {
		train, val := randomWindows(g, MSE, 20, 4, 41), randomWindows(g, MSE, 5, 4, 42)
		c.change(train, val)
		_, err := Fit(t.Context(), mustInit(g), train, val, c.cfg, nil)
		var diverged *DivergedError
		if !errors.As(err, &diverged) || diverged.Cause == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want DivergedError with %q", c.name, err, c.text)
		}
	}
	// Finite values whose squared error is not.
	train := randomWindows(g, MSE, 20, 4, 41)
	train.y[3] = math.MaxFloat32
	w := mustInit(g)
	w.Layers[1].Bias[0] = -math.MaxFloat32
	if _, err := Fit(t.Context(), w, train, nil, Config{}, nil); !errors.Is(err, ErrDiverged) || strings.Contains(err.Error(), "(") {
		t.Errorf("overflow: %v, want ErrDiverged without a value", err)
	}
}

// A run that stops at epochs and goes on is the run that did not.
func TestStopIsNoEnd(t *testing.T) {
	g := graph(2, lstmLayer(3), denseLayer(1, kernel.Linear))
	train := randomWindows(g, MSE, 20, 4, 51)
	cfg := Config{Epochs: 5, BatchSize: 4, RestoreBest: true, Schedule: Schedule{Kind: "cosine", DecaySteps: 25}}
	want := mustInit(g)
	if _, err := (Run{Config: cfg}).Fit(t.Context(), want, train, nil); err != nil {
		t.Fatal(err)
	}
	var b []byte
	got := mustInit(g)
	for _, stop := range []int{1, 3, 5} {
		r := Run{Config: cfg, Stop: stop, OnCheckpoint: func(c *Checkpoint) error { b = encoded(t, c); return nil }}
		if b != nil {
			r.Resume = decoded(t, b)
		}
		epochs, err := r.Fit(t.Context(), got, train, nil)
		if err != nil || len(epochs) != stop {
			t.Fatalf("%d epochs, %v, want %d", len(epochs), err, stop)
		}
	}
	if d := cmp.Diff(want.Layers, got.Layers); d != "" {
		t.Errorf("stopping at epochs 1 and 3 changed the weights (-want +got)\n%s", d)
	}
}
