package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// uniform fills v from [-limit, limit].
func uniform(r *rand.Rand, v []float32, limit float32) {
	for i := range v {
		v[i] = float32((2*r.Float32() - 1) * limit)
	}
}

// lstmGraph is LSTM(hidden) → Dense(1).
func lstmGraph(hidden, features int) Graph {
	return Graph{features, []Layer{{Kind: LSTM, Units: hidden}, {Kind: Dense, Units: 1}}}
}

// gruGraph is GRU(hidden) → Dense(1).
func gruGraph(hidden, features int) Graph {
	return Graph{features, []Layer{{Kind: GRU, Units: hidden}, {Kind: Dense, Units: 1}}}
}

// randomWeights are of the sizes Keras starts from.
func randomWeights(t testing.TB, g Graph, seed uint64) *Weights {
	t.Helper()
	w, err := NewWeights(g)
	if err != nil {
		t.Fatal(err)
	}
	r := newRand(seed)
	for i, l := range w.Layers {
		in, n := float64(g.In(i)), float64(g.Layers[i].Units)
		uniform(r, l.Kernel, float32(math.Sqrt(6/(in+n))))
		uniform(r, l.Recurrent, float32(math.Sqrt(6/(2*n))))
		uniform(r, l.Bias, 0.5)
	}
	return w
}

func quantized(t testing.TB, w *Weights) *QuantWeights {
	t.Helper()
	q, err := Quantize(w)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func int8Model(t testing.TB, q *QuantWeights) *Model {
	t.Helper()
	m, err := NewInt8(q)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func float32Model(t testing.TB, w *Weights) *Model {
	t.Helper()
	m, err := NewFloat32(w)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// everyTier are the tiers this build and CPU have.
func everyTier() []tier {
	var have []tier
	for _, c := range tiers {
		if *c.has {
			have = append(have, c.tier)
		}
	}
	return have
}

// TestTiers says which tiers the other tests run, and fails if the CPU lacks
// one that SANDPIPER_KERNEL_REQUIRE names, separated by commas.
func TestTiers(t *testing.T) {
	require := strings.Split(os.Getenv("SANDPIPER_KERNEL_REQUIRE"), ",")
	for _, c := range tiers {
		t.Run(c.tier.String(), func(t *testing.T) {
			switch {
			case *c.has:
			case slices.Contains(require, c.tier.String()):
				t.Error("this CPU lacks the tier, which is required")
			default:
				t.Skip("this CPU lacks the tier")
			}
		})
	}
}

// everyModel is w as an int8 and a float32 model on every tier.
func everyModel(t testing.TB, w *Weights) []*Model {
	t.Helper()
	q := quantized(t, w)
	var models []*Model
	for _, tier := range everyTier() {
		models = append(models, int8ModelOn(t, tier, q), float32ModelOn(t, tier, w))
	}
	return models
}

func int8ModelOn(t testing.TB, tier tier, q *QuantWeights) *Model {
	t.Helper()
	m, err := newInt8(tier, q)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func float32ModelOn(t testing.TB, tier tier, w *Weights) *Model {
	t.Helper()
	m, err := newFloat32(tier, w)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func randomWindow(seed uint64, steps, features int) []float32 {
	x := make([]float32, steps*features)
	uniform(newRand(seed), x, 3)
	return x
}

// equalBits fails unless got and want are the same float32 bits.
func equalBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %v (%#08x), want %v (%#08x)",
				what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

func BenchmarkStep(b *testing.B) {
	for _, hidden := range []int{32, 64, 128, 256} {
		benchmarkModels(b, hidden, func(b *testing.B, m *Model) {
			s, y, x := m.NewState(), make([]float32, 1), randomWindow(2, 1, 8)
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Step(s, y, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWindow(b *testing.B) {
	benchmarkModels(b, 128, func(b *testing.B, m *Model) {
		s, y, x := m.NewState(), make([]float32, 1), randomWindow(2, 50, 8)
		for b.Loop() {
			if err := m.Predict(s, y, x); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	const n = 32
	benchmarkModels(b, 128, func(b *testing.B, m *Model) {
		s, y, x := m.NewState(), make([]float32, n), randomWindow(2, n*50, 8)
		for b.Loop() {
			if err := m.PredictBatch(s, y, x, n); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// benchmarkModels runs f on an LSTM and a GRU of 8 features, on every tier.
func benchmarkModels(b *testing.B, hidden int, f func(b *testing.B, m *Model)) {
	for _, g := range []Graph{lstmGraph(hidden, 8), gruGraph(hidden, 8)} {
		for _, m := range everyModel(b, randomWeights(b, g, 1)) {
			b.Run(fmt.Sprintf("%v/%s/H=%d", g.Layers[0].Kind, typeName(m), hidden), func(b *testing.B) { f(b, m) })
		}
	}
}

func typeName(m *Model) string {
	if m.Int8() {
		return "int8 " + m.Tier()
	}
	return "float32 " + m.Tier()
}
