package bptt

import (
	"math"
	"testing"
)

// By hand from keras/src/callbacks/reduce_lr_on_plateau.py. The first rate is 1.
func TestReduceLRAsKeras(t *testing.T) {
	for _, c := range []struct {
		name   string
		r      ReduceLR
		losses []float64
		rates  []float64 // after each epoch
	}{
		{"off", ReduceLR{}, []float64{1, 2, 3}, []float64{1, 1, 1}},
		{"waits for patience epochs", ReduceLR{Patience: 2}, []float64{5, 4, 4, 4, 4, 4}, []float64{1, 1, 1, 0.1, 0.1, 0.01}},
		{"an improvement resets the wait", ReduceLR{Patience: 2}, []float64{5, 6, 4, 6, 3, 6, 6}, []float64{1, 1, 1, 1, 1, 1, 0.1}},
		{"one within min delta does not", ReduceLR{Patience: 1}, []float64{5, 4.99995, 4.9998}, []float64{1, 0.1, 0.1}},
		{"another min delta", ReduceLR{Patience: 1, MinDelta: 0.5}, []float64{5, 4.6, 4.4, 4}, []float64{1, 0.1, 0.1, 0.01}},
		{"another factor", ReduceLR{Patience: 1, Factor: 0.5}, []float64{5, 5, 5}, []float64{1, 0.5, 0.25}},
		{"no rate below the least", ReduceLR{Patience: 1, MinLR: 0.05}, []float64{5, 5, 5, 5}, []float64{1, 0.1, 0.05, 0.05}},
		// Reduced in the second epoch, which leaves a cooldown of two: the third
		// is one of it, at the fourth it is over.
		{"a cooldown does not count", ReduceLR{Patience: 1, Cooldown: 2}, []float64{5, 5, 5, 5, 5, 5}, []float64{1, 0.1, 0.1, 0.01, 0.01, 0.001}},
		{"an improvement in it does", ReduceLR{Patience: 2, Cooldown: 2}, []float64{5, 5, 5, 4, 4.5, 4.5, 4.5}, []float64{1, 1, 0.1, 0.1, 0.1, 0.01, 0.01}},
	} {
		cfg, err := Config{ReduceLR: c.r}.withDefaults(graph(1, lstmLayer(1)))
		if err != nil {
			t.Fatal(err)
		}
		p, rate := plateau{ReduceLR: cfg.ReduceLR}, 1.0
		for i, loss := range c.losses {
			if rate = p.observe(loss, rate); math.Abs(rate-c.rates[i]) > 1e-15 {
				t.Errorf("%s: rate after epoch %d = %v, want %v", c.name, i+1, rate, c.rates[i])
				break
			}
		}
	}
}
