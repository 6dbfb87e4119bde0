package bptt

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// chains is a Source whose windows form chains of a length, the last one shorter.
type chains struct {
	*windows
	length int
}

func (c chains) Continues(i int) bool { return i%c.length != 0 }

// marked is a Source of which the named windows begin chains.
type marked struct {
	Source
	begins []int
}

func (m marked) Continues(i int) bool { return !slices.Contains(m.begins, i) }

func TestPlanDealsChainsToLanes(t *testing.T) {
	p := newPlan(marked{sized{9, 1}, []int{0, 3, 4, 8}}, true) // of 3, 1, 4 and 1 windows
	p.arrange(2, nil)
	want := [][]int{{0, 3}, {1, 4}, {2, 5}, {8, 6}, {7}}
	var got [][]int
	for b := range p.ends {
		got = append(got, p.batch(b))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batches: %s", diff)
	}
	if want := []int{0, 0, 0, 1, 1, 1, 1, 1, 0}; !cmp.Equal(p.lane, want) {
		t.Errorf("lanes %v, want %v", p.lane, want)
	}
}

func TestPlanKeepsChainsInOrderAndLane(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		n, size := 1+rng.IntN(40), 1+rng.IntN(9)
		var begins []int
		for i := range n {
			if i == 0 || rng.IntN(4) == 0 {
				begins = append(begins, i)
			}
		}
		src := marked{sized{n, 1}, begins}
		p := newPlan(src, true)
		p.arrange(size, rng)
		batchOf := make([]int, n)
		seen := map[int]bool{}
		for b := range p.ends {
			lanes := map[int]bool{}
			for _, i := range p.batch(b) {
				if seen[i] || lanes[p.lane[i]] || p.lane[i] >= size {
					t.Fatalf("window %d of batch %d: again, or its lane %d of %d is taken", i, b, p.lane[i], size)
				}
				seen[i], lanes[p.lane[i]], batchOf[i] = true, true, b
			}
			if b > 0 && len(p.batch(b)) > len(p.batch(b-1)) {
				t.Fatalf("batch %d has %d windows, the one before %d", b, len(p.batch(b)), len(p.batch(b-1)))
			}
		}
		for i := range n {
			if !seen[i] || continues(src, i) && (batchOf[i] != batchOf[i-1]+1 || p.lane[i] != p.lane[i-1]) {
				t.Fatalf("window %d is not in the lane and the batch after that of window %d", i, i-1)
			}
		}
	}
}

func TestPlanShufflesChainsByEpoch(t *testing.T) {
	f := fit{engine: &engine{cfg: Config{Seed: 8, BatchSize: 4}}, plan: newPlan(chains{&windows{steps: 1, outLen: 1, y: make([]float32, 60)}, 3}, true)}
	orders := map[string]bool{}
	for n := 1; n <= 3; n++ {
		f.shuffle(n)
		orders[fmt.Sprint(f.order)] = true
	}
	if len(orders) != 3 {
		t.Errorf("%d different orders in 3 epochs, want 3", len(orders))
	}
	f.shuffle(1)
	if again := fmt.Sprint(f.order); !orders[again] || len(orders) != 3 {
		t.Errorf("epoch 1 has another order when asked again: %v", again)
	}
}

// series cuts chains out of long series, so that both can be trained on: long is
// the series, windows of length·steps rows.
func series(g kernel.Graph, n, length, steps int) (long *windows, cut chains) {
	long = randomWindows(g, MSE, n, length*steps, 3)
	short := *long
	short.steps, short.outLen = steps, g.OutputLen(steps)
	return long, chains{&short, length}
}

var statefulGraphs = []kernel.Graph{
	graph(2, seqLayer(5), denseLayer(2, kernel.Linear)),
	graph(2, gruSeqLayer(5), denseLayer(2, kernel.Linear)),
	graph(2, gruSeqLayer(3), seqLayer(17), gruSeqLayer(4), denseLayer(1, kernel.Linear)),
}

// Windows that carry on the state of those before are one long window.
func TestStatefulForwardIsThatOfTheWholeSeries(t *testing.T) {
	for i, g := range statefulGraphs {
		long, cut := series(g, 5, 4, 3)
		w := stirred(t, g, 5)
		want := referenceLoss(MSE, g, toParams64(w), long, ascending(make([]int, 5)))
		eachTier(t, func(t *testing.T) {
			e := start(t, Config{Stateful: true, BatchSize: 3}, w, cut)
			p := newPlan(cut, true)
			for range 2 { // the second time from states that were left
				p.arrange(3, rand.New(rand.NewPCG(1, 1)))
				got, err := e.loss(t.Context(), cut, &p)
				if err != nil || math.Abs(got-want) > 1e-6*want {
					t.Errorf("graph %d: loss %v, %v, want %v", i, got, err, want)
				}
			}
			q := newPlan(cut, false)
			q.arrange(3, nil)
			e.lanes = nil
			if got, err := e.loss(t.Context(), cut, &q); err != nil || math.Abs(got-want) < 1e-3*want {
				t.Errorf("graph %d: loss %v, %v from zero states, want another than %v", i, got, err, want)
			}
		})
	}
}

// The gradient of a window takes the state it starts from as given.
func TestStatefulGradientEndsAtTheWindowsEdge(t *testing.T) {
	const steps, delta = 3, 1e-5
	for i, g := range statefulGraphs {
		_, cut := series(g, 3, 4, steps)
		w := stirred(t, g, 5)
		window := func(i int) []float32 { return cut.x[i*steps*g.Features : (i+1)*steps*g.Features] }
		nothing := func(int, [][]float64) {}
		// The third windows of all three chains, after the states of two.
		var before []states64
		for chain := range 3 {
			s := zeroStates(g)
			for k := range 2 {
				referenceFrom(g, toParams64(w), s, window(4*chain+k), nothing)
			}
			before = append(before, s)
		}
		loss := func(p params64) float64 {
			var sum float64
			for chain := range 3 {
				third := 4*chain + 2
				var y []float64
				for _, row := range referenceFrom(g, p, slices.Clone(before[chain]), window(third), nothing) {
					y = append(y, row...)
				}
				for k, v := range y {
					d := v - float64(cut.y[third*cut.outLen+k])
					sum += d * d / float64(3*cut.outLen)
				}
			}
			return sum
		}
		p, want := toParams64(w), toParams64(w)
		wantLoss := loss(p)
		for layer := range p {
			for tensor := range p[layer] {
				for k, v := range p[layer][tensor] {
					p[layer][tensor][k] = v + delta
					up := loss(p)
					p[layer][tensor][k] = v - delta
					want[layer][tensor][k] = (up - loss(p)) / (2 * delta)
					p[layer][tensor][k] = v
				}
			}
		}
		eachTier(t, func(t *testing.T) {
			e := start(t, Config{Stateful: true, BatchSize: 3, Shards: 2}, w, cut)
			plan := newPlan(cut, true)
			plan.arrange(3, nil)
			e.follow(&plan)
			e.run(cut, plan.batch(0), 0)
			e.run(cut, plan.batch(1), 0)
			if mean := e.train(cut, plan.batch(2)); math.Abs(mean-wantLoss) > 1e-6*(1+wantLoss) {
				t.Errorf("graph %d: loss = %v, want %v", i, mean, wantLoss)
			}
			for layer, l := range e.layers {
				for k, s := range l.each() {
					compareGradient(t, fmt.Sprintf("graph %d layer %d tensor %d", i, layer, k), s.of(e.gradient()), want[layer][k])
				}
			}
		})
	}
}

func TestStatefulTrainingIsTheSameOnOneAndTwoCores(t *testing.T) {
	g := graph(3, gruSeqLayer(9), seqLayer(7), denseLayer(2, kernel.Linear))
	train, val := marked{randomWindows(g, MSE, 45, 5, 1), []int{0, 2, 3, 11, 30, 31, 40}}, chains{randomWindows(g, MSE, 11, 5, 2), 4}
	eachTier(t, func(t *testing.T) {
		run := func(cores int) (*kernel.Weights, []Epoch) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			return fitted(t, g, train, val, Config{Epochs: 3, BatchSize: 4, Seed: 4, Stateful: true})
		}
		one, epochs := run(1)
		two, same := run(2)
		if diff := cmp.Diff(one, two); diff != "" {
			t.Fatalf("weights on two cores differ: %.300s", diff)
		}
		if diff := cmp.Diff(epochs, same, ignoreTook); diff != "" {
			t.Fatalf("history on two cores differs: %s", diff)
		}
	})
}

// What a series began with is known in its later windows only by the state.
func TestStatefulTrainingRemembersAcrossWindows(t *testing.T) {
	const steps, length = 3, 4
	g := graph(1, gruSeqLayer(8), denseLayer(1, kernel.Linear))
	long, cut := series(g, 64, length, steps)
	for i := range long.Len() {
		x, y := long.x[i*length*steps:][:length*steps], long.y[i*length*steps:][:length*steps]
		for t := range x {
			y[t] = float32(math.Copysign(1, float64(x[0])))
			if t > 0 {
				x[t] *= 0.1
			}
		}
	}
	cfg := Config{Epochs: 20, LearningRate: 0.02, BatchSize: 16, Stateful: true}
	_, epochs := fitted(t, g, cut, cut, cfg)
	cfg.Stateful = false
	_, without := fitted(t, g, cut, cut, cfg)
	if got, other := epochs[19].ValLoss, without[19].ValLoss; got > 0.1 || other < 0.5 {
		t.Errorf("loss %v with the state and %v without, want below 0.1 and above 0.5", got, other)
	}
}
