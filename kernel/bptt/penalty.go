package bptt

// A penalty is λ·Σw² over one tensor (keras-team/keras
// keras/src/regularizers/regularizers.py, L2).
type penalty struct {
	span
	lambda float64
}

// penalties are those of c that are not 0.
func penalties(c Config, layers []tensors) []penalty {
	var all []penalty
	for _, l := range layers {
		for _, p := range []penalty{{l.kernel, c.KernelL2}, {l.recurrent, c.RecurrentL2}, {l.bias, c.BiasL2}} {
			if p.lambda > 0 && p.lo < p.hi {
				all = append(all, p)
			}
		}
	}
	return all
}

func (p penalty) of(parameters []float32) float64 {
	var sum float64
	for _, w := range p.span.of(parameters) {
		sum += float64(w) * float64(w)
	}
	return p.lambda * sum
}

// addGradient adds 2·λ·w to the gradients of the parameters in r.
func (p penalty) addGradient(r span, parameters, gradients []float32) {
	scale := float32(2 * p.lambda)
	for k := max(p.lo, r.lo); k < min(p.hi, r.hi); k++ {
		gradients[k] += float32(scale * parameters[k])
	}
}
