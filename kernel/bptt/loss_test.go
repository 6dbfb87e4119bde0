package bptt

import (
	"math"
	"testing"
)

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
		{CategoricalCrossentropy, []float32{0.25, 0.75}, []float32{0, 2}, 2 * math.Log(4.0/3), []float32{0.5, -0.5}},
	} {
		dy := make([]float32, len(c.y))
		got := loss(&Config{Loss: c.kind, HuberDelta: 1}, c.y, c.target, dy, 2, 1)
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
