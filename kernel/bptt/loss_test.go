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
		{MAE, []float32{1, -2, 3}, []float32{0.5, 1, 3}, 3.5, []float32{1, -1, 0}},
		// Quadratic to a distance of 1: 0.125, 0.5, 3 − 0.5 and 2 − 0.5.
		{Huber, []float32{1, -1, 3, -2}, []float32{0.5, 0, 0, 0}, 0.125 + 0.5 + 2.5 + 1.5, []float32{0.5, -1, 1, -1}},
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

func TestHuberDelta(t *testing.T) {
	dy := make([]float32, 2)
	got := loss(&Config{Loss: Huber, HuberDelta: 0.5}, []float32{0.5, 1}, []float32{0, 0}, dy, 1, 3)
	if want := 0.125 + 0.5*(1-0.25); got != want || dy[0] != 1.5 || dy[1] != 1.5 {
		t.Errorf("huber(0.5 and 1, delta 0.5) = %v with gradient %v, want %v and 1.5 times 2", got, dy, want)
	}
}

// Two windows of two rows each, which take turns: row 0 of both, then row 1.
func TestWeightsCountForTheRowsOfTheirWindow(t *testing.T) {
	y, target := []float32{1, 2, 3, 4}, []float32{0, 0, 0, 0}
	dy := make([]float32, 4)
	got := weightedLoss(&Config{Loss: MSE}, y, target, dy, 1, []float32{0.5, 2}, 10)
	if want := 0.5*1 + 2*4 + 0.5*9 + 2*16; got != want {
		t.Errorf("loss = %v, want %v", got, want)
	}
	for k, want := range []float32{10, 80, 30, 160} {
		if dy[k] != want {
			t.Errorf("gradient = %v, want %v in place %d", dy, want, k)
		}
	}
	if without := weightedLoss(&Config{Loss: MSE}, y, target, nil, 1, []float32{0.5, 2}, 10); without != got {
		t.Errorf("loss without a gradient = %v, want %v", without, got)
	}
}
