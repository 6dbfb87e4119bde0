package bptt

import (
	"math"
	"testing"
)

// The parameter of epoch n is n, so that what is restored says when it was best.
func TestEarlyStoppingAsKeras(t *testing.T) {
	for _, c := range []struct {
		name     string
		stopping earlyStopping
		losses   []float64
		epochs   int // trained
		best     float32
	}{
		{"waits for patience epochs", earlyStopping{patience: 2}, []float64{5, 4, 4.5, 4.2, 1}, 4, 2},
		{"an improvement resets the wait", earlyStopping{patience: 2}, []float64{5, 6, 4, 5, 3, 4, 4, 1}, 7, 5},
		{"an equal loss is none", earlyStopping{patience: 1}, []float64{5, 5, 1}, 2, 1},
		{"nor is one within min delta", earlyStopping{patience: 2, minDelta: 0.5}, []float64{5, 4.6, 4.5, 1}, 3, 1},
		{"small steps add up beyond min delta", earlyStopping{patience: 2, minDelta: 0.5}, []float64{5, 4.6, 4.4, 4.3, 1}, 5, 5},
		{"no patience trains all", earlyStopping{}, []float64{1, 2, 3, 4}, 4, 1},
	} {
		e := c.stopping
		e.restore = true
		n := 0
		for _, loss := range c.losses {
			n++
			if e.observe(loss, []float32{float32(n)}) {
				break
			}
		}
		if n != c.epochs || e.saved[0] != c.best {
			t.Errorf("%s: %d epochs, best %v, want %d and %v", c.name, n, e.saved[0], c.epochs, c.best)
		}
	}
}

func TestLossesOfKnownValues(t *testing.T) {
	for _, c := range []struct {
		kind      string
		y, target []float32
		want      float64
		gradient  []float32 // at scale 1; of a cross-entropy by the logits
	}{
		{MSE, []float32{1, -2}, []float32{0.5, 1}, 9.25, []float32{1, -6}},
		{BinaryCrossentropy, []float32{0.25, 0.5}, []float32{0, 1}, math.Log(4.0/3) + math.Ln2, []float32{0.25, -0.5}},
		{BinaryCrossentropy, []float32{0, 1}, []float32{1, 0}, -2 * math.Log(1e-7), []float32{-1, 1}}, // Keras clips at 1e-7
		{CategoricalCrossentropy, []float32{0.25, 0.75, 0.5, 0.5}, []float32{0, 1, 1, 0}, math.Log(4.0/3) + math.Ln2, []float32{0.25, -0.25, -0.5, 0.5}},
	} {
		dy := make([]float32, len(c.y))
		got := loss(c.kind, c.y, c.target, dy, 2, 1)
		if math.Abs(got-c.want) > 1e-6*c.want {
			t.Errorf("%s(%v, %v) = %v, want %v", c.kind, c.y, c.target, got, c.want)
		}
		for k, v := range c.gradient {
			if dy[k] != v {
				t.Errorf("%s(%v, %v) has gradient %v, want %v", c.kind, c.y, c.target, dy, c.gradient)
				break
			}
		}
	}
}
