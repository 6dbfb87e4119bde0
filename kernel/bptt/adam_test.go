package bptt

import (
	"math"
	"testing"
)

// Three updates of one parameter at 1 with gradients 0.5, −0.25, 2, by hand
// from keras/src/optimizers/adam.py:
//
//	t  m                     v                           rate·√(1−β₂ᵗ)/(1−β₁ᵗ)
//	1  0.1·0.5 = 0.05        0.001·0.25 = 0.00025        0.000316227766
//	2  0.045−0.025 = 0.02    0.00024975+0.0000625
//	                         = 0.00031225                0.00023531835
//	3  0.018+0.2 = 0.218     0.00031193775+0.004
//	                         = 0.00431193775             0.00020202018
//
// and p −= that·m/(√v + 1e-7).
func TestAdamFollowsHandDerivedValues(t *testing.T) {
	cfg, err := Config{}.withDefaults(graph(1, lstmLayer(1)))
	if err != nil {
		t.Fatal(err)
	}
	a := newAdam(cfg, 1)
	p := []float32{1}
	for i, c := range []struct{ gradient, m, v, p float64 }{
		{0.5, 0.05, 0.00025, 1 - 0.0003162277660*0.05/(0.0158113883+1e-7)},
		{-0.25, 0.02, 0.00031225, 0},
		{2, 0.218, 0.00431193775, 0},
	} {
		a.begin()
		a.update(span{0, 1}, p, []float32{float32(c.gradient)})
		if i > 0 {
			c.p = map[int]float64{1: 0.99873366, 2: 0.99806298}[i]
		}
		if math.Abs(float64(a.m[0])-c.m) > 1e-7 || math.Abs(float64(a.v[0])/c.v-1) > 1e-5 || math.Abs(float64(p[0])-c.p) > 2e-7 {
			t.Errorf("update %d: m, v, p = %v, %v, %v, want %v, %v, %v", i+1, a.m[0], a.v[0], p[0], c.m, c.v, c.p)
		}
	}
}
