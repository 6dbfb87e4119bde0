package bptt

import "math"

// Gates of an LSTM in Keras's order, as in kernel.LayerWeights.
const (
	gateI = iota
	gateF
	gateC
	gateO
	gates
)

// squash replaces each x of z by scale·tanh(inner·x) + offset.
//
// tanh is the rational that Eigen uses, the one that package kernel runs on
// devices: within 4e-7. NaN stays NaN.
func squash(z []float32, inner, scale, offset float32) {
	for k, x := range z {
		x *= inner
		if x > tanhLimit {
			x = tanhLimit
		} else if x < -tanhLimit {
			x = -tanhLimit
		}
		s := x * x
		p := ((((((tanhP6*s+tanhP5)*s+tanhP4)*s+tanhP3)*s+tanhP2)*s+tanhP1)*s + tanhP0)
		q := ((tanhQ3*s+tanhQ2)*s+tanhQ1)*s + tanhQ0
		z[k] = scale*(x*(p/q)) + offset
	}
}

const (
	tanhLimit float32 = 7.90531110763549805

	tanhP6 float32 = -2.76076847742355e-16
	tanhP5 float32 = 2.00018790482477e-13
	tanhP4 float32 = -8.60467152213735e-11
	tanhP3 float32 = 5.12229709037114e-08
	tanhP2 float32 = 1.48572235717979e-05
	tanhP1 float32 = 6.37261928875436e-04
	tanhP0 float32 = 4.89352455891786e-03

	tanhQ3 float32 = 1.19825839466702e-06
	tanhQ2 float32 = 1.18534705686654e-04
	tanhQ1 float32 = 2.26843463243900e-03
	tanhQ0 float32 = 4.89352518554385e-03
)

func tanh(z []float32)    { squash(z, 1, 1, 0) }
func sigmoid(z []float32) { squash(z, 0.5, 0.5, 0.5) }

func relu(z []float32) {
	for k, x := range z {
		if x < 0 {
			z[k] = 0
		}
	}
}

// softmax replaces one row of logits by probabilities.
func softmax(z []float32) {
	top := z[0]
	for _, x := range z[1:] {
		top = max(top, x)
	}
	var sum float32
	for k, x := range z {
		z[k] = float32(math.Exp(float64(x - top)))
		sum += z[k]
	}
	for k := range z {
		z[k] /= sum
	}
}
