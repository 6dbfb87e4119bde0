package bptt

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var vectorLengths = []int{1, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 64, 100}

// guarded is n random values with NaNs of their own kind around them.
func guarded(rng *rand.Rand, n int) (all, values []float32) {
	const margin = 19 // misaligns, too
	all = make([]float32, n+2*margin)
	for k := range all {
		all[k] = math.Float32frombits(0x7fc0beef)
	}
	values = all[margin : margin+n : margin+n]
	for k := range values {
		values[k] = float32(3 * rng.NormFloat64())
	}
	return all, values
}

// compareVectors holds every value, those around the vectors included, within
// a relative and absolute tolerance.
func compareVectors(t *testing.T, name string, got, want []float32, tolerance float64) {
	t.Helper()
	for k, w := range want {
		g := got[k]
		if math.Float32bits(g) == math.Float32bits(w) {
			continue
		}
		if d := math.Abs(float64(g) - float64(w)); !(d <= tolerance*max(1, math.Abs(float64(w)))) && !(tolerance > 0 && w != w && g != g) {
			t.Errorf("%s: value %d of %d = %v, want %v", name, k, len(want), g, w)
			return
		}
	}
}

func TestGatesOfEveryTier(t *testing.T) {
	const n = 3
	// Activations, within 1, differ by the few units in the last place that
	// fused multiplications save; ∂h and ∂c are up to 10 and add up.
	const tolerance = 1e-5
	eachTier(t, func(t *testing.T) {
		for _, u := range vectorLengths {
			rng := rand.New(rand.NewPCG(uint64(u), 1))
			zs, hs := gates*u+5, u+2
			run := func(forward, backward func(b [][]float32)) [][]float32 {
				rng = rand.New(rand.NewPCG(uint64(u), 1))
				var all, b [][]float32
				for _, size := range []int{(n-1)*zs + gates*u, n * u, n * u, n * u, (n-1)*hs + u, n * u, n * u} {
					a, v := guarded(rng, size)
					all, b = append(all, a), append(b, v)
				}
				b[0][0], b[0][1] = float32(math.NaN()), float32(math.Inf(1))
				forward(b)
				backward(b)
				return all
			}
			got := run(func(b [][]float32) { forwardGates(b[0], zs, b[1], b[2], b[3], b[4], hs, u, n) },
				func(b [][]float32) { backwardGates(b[0], zs, b[1], b[3], b[5], b[6], u, n) })
			want := run(func(b [][]float32) { forwardGatesGeneric(b[0], zs, b[1], b[2], b[3], b[4], hs, u, n) },
				func(b [][]float32) { backwardGatesGeneric(b[0], zs, b[1], b[3], b[5], b[6], u, n) })
			for k, name := range []string{"z", "c0", "c", "tanh c", "h", "dh", "dc"} {
				compareVectors(t, fmt.Sprintf("%s of %d units", name, u), got[k], want[k], tolerance)
			}
			if !math.IsNaN(float64(got[2][19])) {
				t.Errorf("%d units: cell of a NaN gate = %v", u, got[2][19])
			}
		}
	})
}

func TestAdamAndSumsAreTheSameInEveryTier(t *testing.T) {
	eachTier(t, func(t *testing.T) {
		for _, n := range append(vectorLengths, 1000) {
			rng := rand.New(rand.NewPCG(uint64(n), 2))
			var got, want, a, b [][]float32
			for k := range 5 {
				all, v := guarded(rng, n)
				if k == 3 { // second moments
					for i := range v {
						v[i] *= v[i]
					}
				}
				got, a = append(got, all), append(a, v)
				c := slices.Clone(all)
				want, b = append(want, c), append(b, c[19:19+n:19+n])
			}
			updateAdam(a[0], a[1], a[2], a[3], 0.1, 0.001, 0.01, 1e-7)
			updateAdamGeneric(b[0], b[1], b[2], b[3], 0.1, 0.001, 0.01, 1e-7)
			addTo(a[4], a[1])
			addToGeneric(b[4], b[1])
			for k, name := range []string{"parameters", "gradients", "first moments", "second moments", "sum"} {
				compareVectors(t, name, got[k], want[k], 0)
			}
		}
	})
}
