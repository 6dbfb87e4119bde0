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
	p, g := s.of(parameters), s.of(gradients)
	m, v := s.of(a.m)[:len(p)], s.of(a.v)[:len(p)]
	b1, b2 := float32(1-a.beta1), float32(1-a.beta2)
	for k, d := range g[:len(p)] {
		m[k] += (d - m[k]) * b1
		v[k] += (d*d - v[k]) * b2
		p[k] -= m[k] * a.step / (float32(math.Sqrt(float64(v[k]))) + a.epsilon)
	}
}
