package kernel

import "math"

// The functions of this file are part of the model format: every tier computes
// exactly these operations in this order, each rounded to float32.

// tanhMax is where the rational below has reached 1 to within float32.
const tanhMax = 7.90531110763549805

// Coefficients of tanh(t) ≈ t·P(t²)/Q(t²), highest power first, as in Eigen
// (Eigen/src/Core/MathFunctionsImpl.h, generic_fast_tanh_float). The absolute
// error is at most 4e-7.
const (
	tanhP6 = -2.76076847742355e-16
	tanhP5 = 2.00018790482477e-13
	tanhP4 = -8.60467152213735e-11
	tanhP3 = 5.12229709037114e-08
	tanhP2 = 1.48572235717979e-05
	tanhP1 = 6.37261928875436e-04
	tanhP0 = 4.89352455891786e-03

	tanhQ3 = 1.19825839466702e-06
	tanhQ2 = 1.18534705686654e-04
	tanhQ1 = 2.26843463243900e-03
	tanhQ0 = 4.89352518554385e-03
)

// tanh has no branch for small x and one IEEE division.
func tanh(x float32) float32 {
	if x > tanhMax {
		x = tanhMax
	}
	if x < -tanhMax {
		x = -tanhMax
	}
	s := float32(x * x)
	p := float32(tanhP6*s) + tanhP5
	p = float32(p*s) + tanhP4
	p = float32(p*s) + tanhP3
	p = float32(p*s) + tanhP2
	p = float32(p*s) + tanhP1
	p = float32(p*s) + tanhP0
	q := float32(tanhQ3*s) + tanhQ2
	q = float32(q*s) + tanhQ1
	q = float32(q*s) + tanhQ0
	return float32(x * float32(p/q))
}

func sigmoid(x float32) float32 { return float32(0.5*tanh(float32(0.5*x))) + 0.5 }

// expMin is where exp gives 0: below it the result would be too small to
// change a softmax whose largest term is 1.
const expMin = -87

// exp is eˣ for x ≤ 0, at least expMin or else exactly 0, within 2 units in
// the last place. It reduces x to n·ln 2 + r, n rounded half to even, with ln 2
// in two parts (Cody and Waite 1980, §6), and takes Cephes's polynomial for eʳ
// (Moshier, cephes/single/expf.c). math.Exp differs between architectures.
func exp(x float32) float32 {
	const (
		log2e = 1.44269504088896341
		ln2Hi = 0.693359375 // 9 bits: n·ln2Hi is exact
		ln2Lo = -2.12194440e-4
	)
	if x < expMin {
		return 0
	}
	n := roundEven(float32(x * log2e))
	r := x - float32(n*ln2Hi)
	r -= float32(n * ln2Lo)
	p := float32(1.9875691500e-4*r) + 1.3981999507e-3
	p = float32(p*r) + 8.3334519073e-3
	p = float32(p*r) + 4.1665795894e-2
	p = float32(p*r) + 1.6666665459e-1
	p = float32(p*r) + 5.0000001201e-1
	p = float32(p*float32(r*r)) + r
	p += 1
	return float32(p * math.Float32frombits(uint32(int32(n)+127)<<23))
}

// roundEven rounds |x| < 2²² to the nearest integer, ties to even: adding
// 1.5·2²³ leaves no fraction bits, and IEEE addition rounds exactly so.
func roundEven(x float32) float32 {
	const magic = 3 << 22
	return float32(x+magic) - magic
}

// cell advances one LSTM unit: z are its gates' sums in order i, f, c, o, c its
// cell state. It returns the new cell state and the hidden state.
func cell(zi, zf, zc, zo, c float32) (float32, float32) {
	i, f, o := sigmoid(zi), sigmoid(zf), sigmoid(zo)
	c = float32(f*c) + float32(i*tanh(zc))
	return c, float32(o * tanh(c))
}

// gruCell advances one GRU unit: xz, xr and xh are its gates' sums over the
// input, uz, ur and uh those over the hidden state, each with its own bias, and
// h is its hidden state. It returns the next one.
//
// |h| is at most the largest |tanh| and one unit in the last place: it is a
// weighted mean, and from there its roundings lift it no further.
func gruCell(xz, xr, xh, uz, ur, uh, h float32) float32 {
	z, r := sigmoid(xz+uz), sigmoid(xr+ur)
	candidate := tanh(xh + float32(r*uh))
	return float32(z*h) + float32(float32(1-z)*candidate)
}

// quantizeHidden is the hidden state as the recurrent product sees it: an
// integer in [-127, 127] at the fixed scale 1/127.
func quantizeHidden(h float32) float32 { return roundEven(float32(127 * h)) }
