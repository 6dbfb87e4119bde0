package bptt

import "testing"

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
		{"the first epochs can be left out", earlyStopping{patience: 1, start: 2}, []float64{1, 2, 5, 4, 4.5, 1}, 5, 4},
		{"no patience trains all", earlyStopping{}, []float64{1, 2, 3, 4}, 4, 1},
	} {
		e := c.stopping
		e.restore = true
		n, last := 0, 0
		for _, loss := range c.losses {
			n++
			best, stop := e.observe(n, loss, []float32{float32(n)})
			if best {
				last = n
			}
			if stop {
				break
			}
		}
		if n != c.epochs || e.saved[0] != c.best || float32(last) != c.best {
			t.Errorf("%s: %d epochs, best %v and last called best %d, want %d and %v", c.name, n, e.saved[0], last, c.epochs, c.best)
		}
	}
}
