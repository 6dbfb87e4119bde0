package dataset

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSortValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 10, 5000, 70000} {
		v := make([]float32, n)
		for i := range v {
			switch v[i] = float32(rng.NormFloat64() * math.Pow(10, float64(rng.IntN(60)-30))); rng.IntN(8) {
			case 0:
				v[i] = float32(rng.IntN(3) - 1)
			case 1:
				v[i] = math.MaxFloat32
			case 2:
				v[i] = -math.SmallestNonzeroFloat32
			}
		}
		want := slices.Clone(v)
		slices.Sort(want)
		if sortValues(v); !slices.Equal(v, want) {
			t.Errorf("%d values are not sorted", n)
		}
	}
}
