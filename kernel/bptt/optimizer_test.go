package bptt

import (
	"math"
	"testing"
)

// Updates of one parameter, by hand from keras/src/optimizers/adam.py:
//
//	m += (g−m)·0.1   v += (g²−v)·0.001   p −= 0.001·√(1−0.999ᵗ)/(1−0.9ᵗ)·m/(√v + 1e-7)
//
// The corrections of t = 1, 2, 3 are 0.000316227766, 0.000235316725,
// 0.000202010597. The tiny gradients show where epsilon is added: after a
// corrected root, as in the paper, p would be −0.000909 and −0.001818.
func TestAdamFollowsHandDerivedValues(t *testing.T) {
	type update struct{ gradient, m, v, p float64 }
	for name, c := range map[string]struct {
		start   float32
		updates []update
	}{
		"changing gradients": {1, []update{
			{0.5, 0.05, 0.00025, 0.9990000063},
			{-0.25, 0.02, 0.00031225, 0.9987336708},
			{2, 0.218, 0.00431193775, 0.9980630242},
		}},
		"tiny gradients": {0, []update{
			{1e-6, 1e-7, 1e-15, -0.00024025307},
			{1e-6, 1.9e-7, 1.999e-15, -0.00054921668},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Config{}.withDefaults(graph(1, lstmLayer(1)))
			if err != nil {
				t.Fatal(err)
			}
			a := newOptimizer(cfg, 3)
			p := []float32{c.start, c.start, c.start}
			for i, u := range c.updates {
				a.begin()
				a.update(span{1, 2}, p, []float32{9, float32(u.gradient), 9})
				for what, pair := range map[string][2]float64{
					"m": {float64(a.slots[0].values[1]), u.m}, "v": {float64(a.slots[1].values[1]), u.v}, "p": {float64(p[1]), u.p},
				} {
					if got, want := pair[0], pair[1]; math.Abs(got-want) > 5e-7*math.Abs(want) {
						t.Errorf("update %d: %s = %v, want %v", i+1, what, got, want)
					}
				}
			}
			if p[0] != c.start || p[2] != c.start {
				t.Error("update wrote outside its span")
			}
		})
	}
}
