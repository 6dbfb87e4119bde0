package kernel

import (
	"errors"
	"fmt"
	"math"
	"testing"
)

// skipOracle is the sum of output o as the format has it.
func skipOracle(w *SkipWeights, features, o int, window []float32) float32 {
	if w.Features[o] < 0 {
		return w.Bias[o]
	}
	var lane [16]float32
	for r := range w.Rows {
		v := float32(w.Kernel[r*len(w.Features)+o]) * w.Scale[o]
		lane[r%16] += float32(v * window[r*features+w.Features[o]])
	}
	sum := w.Bias[o]
	for _, l := range lane {
		sum += l
	}
	return sum
}

func randomSkip(t *testing.T, rows int, features []int, seed uint64) *SkipWeights {
	t.Helper()
	r := newRand(seed)
	kernel, bias := make([]float32, rows*len(features)), make([]float32, len(features))
	uniform(r, kernel, 0.3)
	uniform(r, bias, 1)
	w, err := QuantizeSkip(kernel, bias, features)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestSkipHasTheSameBitsOnEveryTier(t *testing.T) {
	for _, rows := range []int{1, 2, 15, 16, 17, 33, 96} {
		for n, features := range map[int][]int{1: {0}, 3: {2, 0, -1, 2, 0, -1, 2}} {
			w := randomSkip(t, rows, features, uint64(rows))
			window := make([]float32, rows*n)
			uniform(newRand(7), window, 4)
			want := make([]float32, len(features))
			for o := range want {
				want[o] = float32(o) + skipOracle(w, n, o, window)
			}
			for _, tier := range everyTier() {
				s, err := newSkip(tier, w, n)
				if err != nil {
					t.Fatal(err)
				}
				space, y := s.NewSpace(), make([]float32, len(features))
				for range 2 { // also in memory that was used
					for o := range y {
						y[o] = float32(o)
					}
					if err := s.Add(space, y, window); err != nil {
						t.Fatal(err)
					}
					equalBits(t, fmt.Sprintf("%v, %d rows of %d", tier, rows, n), y, want)
				}
				if allocs := testing.AllocsPerRun(10, func() { _ = s.Add(space, y, window) }); allocs != 0 {
					t.Errorf("%v: %v allocations", tier, allocs)
				}
			}
		}
	}
}

func TestQuantizedSkipIsClose(t *testing.T) {
	kernel, bias := []float32{0.5, -2, 0.25, 1, 0.003, 0}, []float32{1, 2}
	w, err := QuantizeSkip(kernel, bias, []int{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range kernel {
		got := float32(w.Kernel[i]) * w.Scale[i%2]
		if d := math.Abs(float64(got - v)); d > 2.0/127 {
			t.Errorf("weight %d is %v, want %v", i, got, v)
		}
	}
	if w.Rows != 3 || w.Bias[1] != 2 || w.Features[1] != 1 {
		t.Errorf("QuantizeSkip = %+v", w)
	}
}

func TestSkipRefusesBadWeights(t *testing.T) {
	inf := float32(math.Inf(1))
	for name, c := range map[string]struct {
		change func(w *SkipWeights)
		want   error
	}{
		"no rows":        {func(w *SkipWeights) { w.Rows = 0 }, ErrShape},
		"no outputs":     {func(w *SkipWeights) { w.Features = nil }, ErrShape},
		"feature":        {func(w *SkipWeights) { w.Features[1] = 2 }, ErrShape},
		"negative":       {func(w *SkipWeights) { w.Features[1] = -2 }, ErrShape},
		"kernel":         {func(w *SkipWeights) { w.Kernel = w.Kernel[1:] }, ErrShape},
		"rows":           {func(w *SkipWeights) { w.Rows = math.MaxInt }, ErrShape},
		"scales":         {func(w *SkipWeights) { w.Scale = w.Scale[1:] }, ErrShape},
		"biases":         {func(w *SkipWeights) { w.Bias = append(w.Bias, 1) }, ErrShape},
		"-128":           {func(w *SkipWeights) { w.Kernel[3] = -128 }, ErrRange},
		"scale of 0":     {func(w *SkipWeights) { w.Scale[0] = 0 }, ErrRange},
		"infinite scale": {func(w *SkipWeights) { w.Scale[0] = inf }, ErrNonFinite},
		"infinite bias":  {func(w *SkipWeights) { w.Bias[0] = inf }, ErrNonFinite},
		"sum":            {func(w *SkipWeights) { w.Scale[0] = 1e31 }, ErrRange},
	} {
		w := randomSkip(t, 5, []int{0, 1}, 1)
		c.change(w)
		if _, err := NewSkip(w, 2); !errors.Is(err, c.want) {
			t.Errorf("%s: NewSkip = %v, want %v", name, err, c.want)
		}
	}
	if _, err := QuantizeSkip([]float32{1, 2, 3}, []float32{0, 0}, []int{0, 0}); !errors.Is(err, ErrShape) {
		t.Errorf("QuantizeSkip of 3 weights for 2 outputs = %v", err)
	}
	if _, err := QuantizeSkip([]float32{1, inf}, []float32{0, 0}, []int{0, 0}); !errors.Is(err, ErrNonFinite) {
		t.Errorf("QuantizeSkip of an infinity = %v", err)
	}
}

func TestSkipRefusesOtherLengths(t *testing.T) {
	s, err := NewSkip(randomSkip(t, 5, []int{0, 1}, 1), 2)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSkip(randomSkip(t, 40, []int{0, 1}, 1), 2)
	if err != nil {
		t.Fatal(err)
	}
	y, window := make([]float32, 2), make([]float32, 10)
	for name, c := range map[string]struct {
		space     *SkipSpace
		y, window []float32
		want      error
	}{
		"window":  {s.NewSpace(), y, window[:8], ErrShape},
		"outputs": {s.NewSpace(), y[:1], window, ErrShape},
		"space":   {other.NewSpace(), y, window, ErrState},
	} {
		if err := s.Add(c.space, c.y, c.window); !errors.Is(err, c.want) {
			t.Errorf("%s: Add = %v, want %v", name, err, c.want)
		}
	}
}
