package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func normal(seed uint64, n int, mean float64) (f32 []float32, f64 []float64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	for range n {
		v := float32(mean + rng.NormFloat64())
		f32 = append(f32, v)
	}
	slices.Sort(f32)
	for _, v := range f32 {
		f64 = append(f64, float64(v))
	}
	return f32, f64
}

func counts(edges, values []float32) []float64 {
	out := make([]float64, len(edges)+1)
	for _, v := range values {
		out[Bin(edges, v)]++
	}
	return out
}

func TestIndexOfShiftedValues(t *testing.T) {
	reference, _ := normal(1, 5000, 0)
	edges := Edges(reference, Bins)
	for _, c := range counts(edges, reference) {
		if c != 500 {
			t.Fatalf("a bin of the reference has %v values, want 500", c)
		}
	}
	for _, test := range []struct {
		mean float64
		want string
	}{{0, Stable}, {0.4, Shifted}, {1, Drifted}} {
		current, _ := normal(2, 3000, test.mean)
		psi := PSI(counts(edges, reference), counts(edges, current))
		if got := Judge(psi, Noise(Bins, 5000, 3000)); got != test.want {
			t.Errorf("mean %v: index %.3f is %s, want %s", test.mean, psi, got, test.want)
		}
	}
	// Of the bins (½, ½) and (¾, ¼): ¼·ln(3/2) − ¼·ln(1/2).
	if got, want := PSI([]float64{10, 10}, []float64{3, 1}), 0.25*math.Log(1.5)-0.25*math.Log(0.5); math.Abs(got-want) > 1e-12 {
		t.Errorf("PSI = %v, want %v", got, want)
	}
	if got := Judge(0.5, Noise(Bins, 50, 50)); got != Unknown {
		t.Errorf("of 50 values: %s", got)
	}
	if got := PSI([]float64{1, 0}, []float64{0, 1}); math.IsInf(got, 0) || got < 1 {
		t.Errorf("of empty bins: %v", got)
	}
}

func TestNoiseIsWhatChanceGives(t *testing.T) {
	total, n := 0.0, 40
	reference, _ := normal(1, 1000, 0)
	edges := Edges(reference, Bins)
	for seed := range n {
		a, _ := normal(uint64(100+seed), 1000, 0)
		b, _ := normal(uint64(500+seed), 500, 0)
		total += PSI(counts(edges, a), counts(edges, b))
	}
	if got, want := total/float64(n), Noise(Bins, 1000, 500); got < 0.7*want || got > 1.3*want {
		t.Errorf("mean index %v of equal distributions, want about %v", got, want)
	}
}

func TestEdgesOfFewValues(t *testing.T) {
	for _, test := range []struct{ values, want []float32 }{
		{[]float32{7, 7, 7}, nil},
		{[]float32{0, 0, 0, 1}, []float32{0}},
		{[]float32{1, 2, 3}, []float32{1, 2}},
	} {
		if got := Edges(test.values, Bins); !slices.Equal(got, test.want) {
			t.Errorf("Edges(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}

func TestKolmogorovSmirnov(t *testing.T) {
	_, a := normal(1, 400, 0)
	_, b := normal(2, 300, 0)
	_, c := normal(3, 300, 0.5)
	if d, p := KS(a, b); d > 0.15 || p < 0.05 {
		t.Errorf("of one distribution: distance %.3f, p %.4f", d, p)
	}
	if d, p := KS(a, c); d < 0.1 || p > 1e-3 {
		t.Errorf("of two: distance %.3f, p %.4f", d, p)
	}
	if d, p := KS(a, a); d != 0 || p != 1 {
		t.Errorf("of the same: distance %v, p %v", d, p)
	}
	// Tables of Kolmogorov's distribution: 5 % at 1.3581, 1 % at 1.6276.
	for x, want := range map[float64]float64{1.3581: 0.05, 1.6276: 0.01} {
		if got := kolmogorov(x); math.Abs(got-want) > 1e-4 {
			t.Errorf("kolmogorov(%v) = %v, want %v", x, got, want)
		}
	}
}
