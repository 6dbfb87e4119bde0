package bptt

import "math"

// The losses, named as in Keras.
const (
	MSE                     = "mse"
	MAE                     = "mae"
	Huber                   = "huber"                    // Huber 1964
	BinaryCrossentropy      = "binary_crossentropy"      // last activation sigmoid
	CategoricalCrossentropy = "categorical_crossentropy" // last activation softmax, one-hot targets
)

// Losses are the names that Config.Loss can have, the default first.
var Losses = []string{MSE, MAE, Huber, BinaryCrossentropy, CategoricalCrossentropy}

// epsilon is how far from 0 and 1 Keras keeps a probability before the logarithm
// (keras.config.epsilon).
const epsilon = 1e-7

// ofLogits reports whether a loss has its gradient by the logits: that of
// sigmoid and softmax together with their cross-entropy is y − target.
func ofLogits(loss string) bool { return loss == BinaryCrossentropy || loss == CategoricalCrossentropy }

// loss adds up the loss of outputs y against targets, undivided, and leaves
// scale times its gradient in dy, unless dy is nil (keras-team/keras
// keras/src/losses/losses.py). width is the length of one output row.
func loss(c *Config, y, target, dy []float32, width int, scale float32) float64 {
	switch c.Loss {
	case MAE:
		return absoluteError(y, target, dy, scale)
	case Huber:
		return huber(y, target, dy, float32(c.HuberDelta), scale)
	case BinaryCrossentropy:
		return binaryCrossentropy(y, target, dy, scale)
	case CategoricalCrossentropy:
		return categoricalCrossentropy(y, target, dy, width, scale)
	}
	return squaredError(y, target, dy, scale)
}

// weightedLoss is loss with a weight for each of the windows, whose rows take
// turns in y.
func weightedLoss(c *Config, y, target, dy []float32, width int, weights []float32, scale float32) float64 {
	var sum float64
	for r := 0; r*width < len(y); r++ {
		w, row := weights[r%len(weights)], span{r * width, (r + 1) * width}
		var d []float32
		if dy != nil {
			d = row.of(dy)
		}
		sum += float64(w) * loss(c, row.of(y), row.of(target), d, width, w*scale)
	}
	return sum
}

// lossTerms is how many terms the mean is over, for windows of outLen values in
// rows of width: Keras averages categorical cross-entropy over rows, the others
// over every value. Weights do not count.
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

func absoluteError(y, target, dy []float32, scale float32) float64 {
	var sum float64
	for k, v := range y {
		d := v - target[k]
		sum += math.Abs(float64(d))
		if dy != nil {
			dy[k] = sign(d) * scale
		}
	}
	return sum
}

// huber is quadratic up to delta, and goes on as a line of the same slope.
func huber(y, target, dy []float32, delta, scale float32) float64 {
	var sum float64
	for k, v := range y {
		d := v - target[k]
		g := d
		if size := math.Abs(float64(d)); size <= float64(delta) {
			sum += size * size / 2
		} else {
			sum += float64(delta) * (size - float64(delta)/2)
			g = sign(d) * delta
		}
		if dy != nil {
			dy[k] = g * scale
		}
	}
	return sum
}

// sign is −1, 0 or 1, or NaN of NaN.
func sign(x float32) float32 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x
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
