package bptt

import "math"

// epsilon is how far from 0 and 1 Keras keeps a probability before the logarithm
// (keras.config.epsilon).
const epsilon = 1e-7

// loss adds up the loss of outputs y against targets, undivided, and leaves
// scale times its gradient in dy, unless dy is nil. width is the length of one
// output row.
//
// The gradient of a cross-entropy is that by the logits: of sigmoid and softmax
// together with their loss it is y − target.
func loss(kind string, y, target, dy []float32, width int, scale float32) float64 {
	switch kind {
	case BinaryCrossentropy:
		return binaryCrossentropy(y, target, dy, scale)
	case CategoricalCrossentropy:
		return categoricalCrossentropy(y, target, dy, width, scale)
	}
	return squaredError(y, target, dy, scale)
}

// lossTerms is how many terms the mean is over, for windows of outLen values in
// rows of width: Keras averages squared errors and binary cross-entropy over
// every value, categorical cross-entropy over rows.
func lossTerms(kind string, outLen, width int) int {
	if kind == CategoricalCrossentropy {
		return outLen / width
	}
	return outLen
}

func squaredError(y, target, dy []float32, scale float32) float64 {
	var sum float64
	for k, v := range y {
		d := v - target[k]
		sum += float64(d) * float64(d)
		if dy != nil {
			dy[k] = 2 * d * scale
		}
	}
	return sum
}

func binaryCrossentropy(y, target, dy []float32, scale float32) float64 {
	var sum float64
	for k, v := range y {
		p, t := probability(v), float64(target[k])
		sum -= t*math.Log(p) + (1-t)*math.Log1p(-p)
		if dy != nil {
			dy[k] = (v - target[k]) * scale
		}
	}
	return sum
}

func categoricalCrossentropy(y, target, dy []float32, width int, scale float32) float64 {
	var sum float64
	for lo := 0; lo < len(y); lo += width {
		var total float32 // 1 for a one-hot target
		for k := lo; k < lo+width; k++ {
			sum -= float64(target[k]) * math.Log(probability(y[k]))
			total += target[k]
		}
		if dy == nil {
			continue
		}
		for k := lo; k < lo+width; k++ {
			dy[k] = (total*y[k] - target[k]) * scale
		}
	}
	return sum
}

// probability keeps p where its logarithm, and that of 1−p, are finite.
func probability(p float32) float64 { return min(max(float64(p), epsilon), 1-epsilon) }
