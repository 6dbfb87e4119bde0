package bptt

import "math"

// clipGradients bounds grad as c says; layers are its tensors.
func clipGradients(c Config, layers []tensors, grad []float32) {
	switch {
	case c.ClipValue > 0:
		for k, v := range grad {
			grad[k] = min(max(v, -c.ClipValue), c.ClipValue)
		}
	case c.ClipNorm > 0:
		for _, l := range layers {
			for _, s := range l.each() {
				clipNorm(s.of(grad), c.ClipNorm)
			}
		}
	case c.GlobalClipNorm > 0:
		clipNorm(grad, c.GlobalClipNorm)
	}
}

// clipNorm scales v down to the Euclidean norm bound.
func clipNorm(v []float32, bound float32) {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if norm := math.Sqrt(sum); norm > float64(bound) {
		scale := float32(float64(bound) / norm)
		for k := range v {
			v[k] *= scale
		}
	}
}
