package bptt

import "math"

// adam is the optimizer's state for a flat vector of parameters.
type adam struct {
	rate, beta1, beta2 float64
	epsilon            float32

	m, v []float32 // first and second moments
	t    int       // updates begun
	step float32   // rate of the current update, both corrections in it
}

func newAdam(c Config, size int) *adam {
	return &adam{
		rate: c.LearningRate, beta1: c.Beta1, beta2: c.Beta2, epsilon: float32(c.Epsilon),
		m: make([]float32, size), v: make([]float32, size),
	}
}

// begin starts the next update: rate·√(1−β₂ᵗ)/(1−β₁ᵗ).
func (a *adam) begin() {
	a.t++
	t := float64(a.t)
	a.step = float32(a.rate * math.Sqrt(1-math.Pow(a.beta2, t)) / (1 - math.Pow(a.beta1, t)))
}

// update moves the parameters in s by their gradients.
func (a *adam) update(s span, parameters, gradients []float32) {
	updateAdam(s.of(parameters), s.of(gradients), s.of(a.m), s.of(a.v), float32(1-a.beta1), float32(1-a.beta2), a.step, a.epsilon)
}
