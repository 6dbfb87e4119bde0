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
	"github.com/sandpiper-edge/sandpiper/kernel/bptt/internal/simd"
)

func gruLayer(units int) kernel.Layer { return kernel.Layer{Kind: kernel.GRU, Units: units} }
func gruSeqLayer(units int) kernel.Layer {
	return kernel.Layer{Kind: kernel.GRU, Units: units, Sequences: true}
}

// referenceGRU is keras-team/keras keras/src/layers/rnn/gru.py with reset_after,
// gate by gate.
func referenceGRU(l kernel.Layer, p [3][]float64, state *[2][]float64, rows [][]float64) [][]float64 {
	sigma := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	u := l.Units
	h := state[0]
	// sums is v·kernel + the row-th bias of gate g's unit k.
	sums := func(v, kernel []float64, row, g, k int) float64 {
		s := p[2][row*3*u+g*u+k]
		for j, x := range v {
			s += x * kernel[j*3*u+g*u+k]
		}
		return s
	}
	var out [][]float64
	for _, x := range rows {
		next := make([]float64, u)
		for k := range next {
			z := sigma(sums(x, p[0], 0, 0, k) + sums(h, p[1], 1, 0, k))
			r := sigma(sums(x, p[0], 0, 1, k) + sums(h, p[1], 1, 1, k))
			hh := math.Tanh(sums(x, p[0], 0, 2, k) + r*sums(h, p[1], 1, 2, k))
			next[k] = z*h[k] + (1-z)*hh
		}
		h = next
		out = append(out, slices.Clone(h))
	}
	state[0] = h
	if !l.Sequences {
		return out[len(out)-1:]
	}
	return out
}

func TestGRUGatesOfEveryTier(t *testing.T) {
	const n = 3
	const tolerance = 1e-5 // as for the LSTM's
	eachTier(t, func(t *testing.T) {
		for _, u := range vectorLengths {
			zs, hs := gruCols*u+5, u+2
			run := func(pass func(b [][]float32)) [][]float32 {
				rng := rand.New(rand.NewPCG(uint64(u), 1))
				var all, b [][]float32
				for _, size := range []int{(n-1)*zs + gruCols*u, (n-1)*hs + u, (n-1)*hs + u, n * u, n * u} {
					a, v := guarded(rng, size)
					all, b = append(all, a), append(b, v)
				}
				b[0][0], b[0][u] = float32(math.NaN()), float32(math.Inf(1))
				pass(b)
				return all
			}
			got := run(func(b [][]float32) {
				forwardGRU(b[0], zs, b[1], b[2], hs, u, n)
				backwardGRU(b[0], zs, b[1], hs, b[3], b[4], u, n)
			})
			want := run(func(b [][]float32) {
				gruForward(b[0], zs, b[1], b[2], hs, u, n)
				gruBackward(b[0], zs, b[1], hs, b[3], b[4], u, n)
			})
			for k, name := range []string{"z", "h0", "h", "dh", "carry"} {
				compareVectors(t, fmt.Sprintf("%s of %d units", name, u), got[k], want[k], tolerance)
			}
			if !math.IsNaN(float64(got[2][19])) {
				t.Errorf("%d units: h of a NaN gate = %v", u, got[2][19])
			}
		}
	})
}

func TestMixedStackIsTheSameOnOneAndTwoCores(t *testing.T) {
	g := graph(3, gruSeqLayer(33), seqLayer(9), gruLayer(70), denseLayer(2, kernel.Linear))
	train, val := randomWindows(g, MSE, 45, 5, 1), randomWindows(g, MSE, 11, 5, 2)
	eachTier(t, func(t *testing.T) {
		run := func(cores int) (*kernel.Weights, []Epoch) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			return fitted(t, g, train, val, Config{Epochs: 2, BatchSize: 16, Seed: 4, ClipNorm: 0.1})
		}
		one, epochs := run(1)
		two, same := run(2)
		if diff := cmp.Diff(one, two); diff != "" {
			t.Fatalf("weights on two cores differ: %.300s", diff)
		}
		if diff := cmp.Diff(epochs, same, ignoreTook); diff != "" {
			t.Fatalf("history on two cores differs: %s", diff)
		}
		if epochs[1].Loss >= epochs[0].Loss {
			t.Errorf("loss went from %v to %v", epochs[0].Loss, epochs[1].Loss)
		}
	})
}

// Training and package kernel, which runs the model, are two programs.
func TestTrainedGRUPredictsAsTheKernelDoes(t *testing.T) {
	const steps = 6
	g := graph(3, gruSeqLayer(9), gruLayer(17), denseLayer(2, kernel.Linear))
	w := stirred(t, g, 3)
	src := randomWindows(g, MSE, 4, steps, 5)
	m, err := kernel.NewFloat32(w)
	if err != nil {
		t.Fatal(err)
	}
	var want float64
	y := make([]float32, 2)
	for i := range src.Len() {
		if err := m.Predict(m.NewState(), y, src.x[i*steps*3:(i+1)*steps*3]); err != nil {
			t.Fatal(err)
		}
		for k, v := range y {
			d := float64(v - src.y[2*i+k])
			want += d * d / float64(len(src.y))
		}
	}
	if got, err := Evaluate(w, src); err != nil || math.Abs(got-want) > 1e-6*want {
		t.Errorf("Evaluate = %v, %v, want %v", got, err, want)
	}
}

// Long windows have their gradient summed in parts.
func TestGradientInPartsIsThatOfAllSteps(t *testing.T) {
	g := graph(2, gruSeqLayer(9), seqLayer(5), gruLayer(17), denseLayer(1, kernel.Linear))
	src := randomWindows(g, MSE, 8, 70, 3)
	w := stirred(t, g, 3)
	gradient := func() []float32 {
		e := start(t, Config{Shards: 1, BatchSize: 8}, w, src)
		e.train(src, ascending(make([]int, 8))) // 560 rows, gradientRows is 200
		return e.gradient()
	}
	restore, _ := simd.Only("")
	var want []float64
	for _, v := range gradient() {
		want = append(want, float64(v))
	}
	restore()
	layers, _ := layout(w)
	eachTier(t, func(t *testing.T) {
		got := gradient()
		for i, l := range layers {
			for k, s := range l.each() {
				compareGradient(t, fmt.Sprintf("layer %d tensor %d", i, k), s.of(got), want[s.lo:s.hi])
			}
		}
	})
}
