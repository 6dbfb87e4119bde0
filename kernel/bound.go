package kernel

import (
	"fmt"
	"math"
)

// hiddenBound is above any |h|: the rational tanh stays within 1 + 4e-7.
const hiddenBound = 1 + 1e-6

// maxSum is what the magnitudes of a sum's terms may add up to: half the
// largest float32, so that rounding, at most 2¹¹ operations of 2⁻²⁴ each,
// cannot reach infinity.
const maxSum = math.MaxFloat32 / 2

// columnSums are, for each column of a layer, the magnitudes of all the terms
// its sum can have, added up in float64. A GRU's candidate adds to the input's
// sum at most the hidden state's, as the reset gate is at most 1.
type columnSums []float64

// newSums starts with the bias, which may have a row for each of two products.
func newSums(bias []float32, columns int) columnSums {
	s := make(columnSums, columns)
	for j, b := range bias {
		s[j%columns] += math.Abs(float64(b))
	}
	return s
}

// addFloats adds a row-major kernel whose inputs are within ±bound.
func (s columnSums) addFloats(w []float32, bound float64) {
	for i, v := range w {
		s[i%len(s)] += math.Abs(float64(v)) * bound
	}
}

// addInt8 is addFloats for a quantized kernel.
func (s columnSums) addInt8(q []int8, scale []float32, bound float64) {
	for i, v := range q {
		s[i%len(s)] += math.Abs(float64(v)) * float64(scale[i%len(s)]) * bound
	}
}

// outputBound bounds the outputs of a dense layer with activation a.
func (s columnSums) outputBound(a Activation) float64 {
	if a == Sigmoid || a == Softmax {
		return hiddenBound
	}
	top := 0.0
	for _, v := range s {
		top = max(top, v)
	}
	return top * (1 + 1e-3) // the rounding of its own sum
}

// check returns ErrRange if a sum could leave float32.
func (s columnSums) check() error {
	for j, v := range s {
		if v > maxSum {
			return fmt.Errorf("column %d sums to %.3g for the largest input, want at most %.3g: %w", j, v, maxSum, ErrRange)
		}
	}
	return nil
}
