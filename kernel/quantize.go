package kernel

import (
	"fmt"
	"math"
)

// QuantLayer are the parameters of one layer of an int8 model, in the layout
// of LayerWeights. A weight's value is float32(q)·scale, the scale being that
// of its column: one for each unit of each gate, for the two kernels apart.
// Biases, and a Dense layer altogether, stay float32. G is the layer's gates, 4
// of an LSTM and 3 of a GRU.
type QuantLayer struct {
	Kernel         []int8    // [in][G·units], each in [-127, 127]
	KernelScale    []float32 // [G·units]
	Recurrent      []int8    // [units][G·units]
	RecurrentScale []float32 // [G·units]
	Bias           []float32 // LSTM [4·units], GRU [2][3·units], Dense [units]
	Dense          []float32 // Dense [in][units]
}

// QuantWeights are the parameters of an int8 model.
type QuantWeights struct {
	Graph  Graph
	Layers []QuantLayer
}

// Validate checks the shapes, that no weight is -128, that every float is
// finite and that scales are positive.
func (w *QuantWeights) Validate() error {
	if err := w.Graph.Validate(); err != nil {
		return err
	}
	if len(w.Layers) != len(w.Graph.Layers) {
		return fmt.Errorf("weights of %d layers for a graph of %d: %w", len(w.Layers), len(w.Graph.Layers), ErrShape)
	}
	for i := range w.Layers {
		if err := w.validateLayer(i); err != nil {
			return err
		}
	}
	return nil
}

func (w *QuantWeights) validateLayer(i int) error {
	l := &w.Layers[i]
	k, r, b := w.Graph.sizes(i)
	dense, scales := 0, w.Graph.Layers[i].columns()
	if w.Graph.Layers[i].Kind == Dense {
		dense, k, scales = k, 0, 0
	}
	floats := []tensor{
		{"kernel scale", scales, l.KernelScale}, {"recurrent scale", scales, l.RecurrentScale},
		{"bias", b, l.Bias}, {"dense kernel", dense, l.Dense},
	}
	for n, t := range floats {
		if err := t.validate(i); err != nil {
			return err
		}
		if n > 1 {
			continue
		}
		for j, s := range t.v {
			if s <= 0 {
				return fmt.Errorf("layer %d %s %d is %v, want above 0: %w", i, t.name, j, s, ErrRange)
			}
		}
	}
	if err := validateInt8(i, "kernel", k, l.Kernel); err != nil {
		return err
	}
	return validateInt8(i, "recurrent kernel", r, l.Recurrent)
}

func validateInt8(layer int, name string, want int, v []int8) error {
	if len(v) != want {
		return &ShapeError{fmt.Sprintf("layer %d %s", layer, name), want, len(v)}
	}
	for i, q := range v {
		if q == -128 {
			return fmt.Errorf("layer %d %s value %d is -128, want -127 to 127: %w", layer, name, i, ErrRange)
		}
	}
	return nil
}

// Quantize returns the int8 model of w: symmetric, rounded half to even, one
// scale a column, its largest magnitude over 127. Scales are rounded to
// float16 before they are used, so that they store in two bytes, except those
// outside float16's normal range, where the rounding would cost accuracy. A
// column of zeros has scale 1. Biases of recurrent layers are rounded to as many
// bits, for the same reason: that is off by 2⁻¹² of the bias, where the weights
// beside it are off by 2⁻⁸ of the largest of their column.
func Quantize(w *Weights) (*QuantWeights, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	q := &QuantWeights{Graph: w.Graph.Clone(), Layers: make([]QuantLayer, len(w.Layers))}
	for i, l := range w.Layers {
		o := &q.Layers[i]
		o.Bias = append([]float32(nil), l.Bias...)
		if w.Graph.Layers[i].Kind == Dense {
			o.Dense = append([]float32(nil), l.Kernel...)
			continue
		}
		roundBiases(o.Bias)
		columns := w.Graph.Layers[i].columns()
		o.Kernel, o.KernelScale = quantizeColumns(l.Kernel, columns)
		o.Recurrent, o.RecurrentScale = quantizeColumns(l.Recurrent, columns)
	}
	return q, nil
}

// roundBiases rounds each bias to 11 significant bits, unless that overflows.
func roundBiases(bias []float32) {
	for i, b := range bias {
		if h := roundFloat16(b); !math.IsInf(float64(h), 0) {
			bias[i] = h
		}
	}
}

// quantizeColumns quantizes a row-major matrix with one scale for each of its
// columns.
func quantizeColumns(w []float32, columns int) ([]int8, []float32) {
	scale := make([]float32, columns)
	for i, v := range w {
		scale[i%columns] = max(scale[i%columns], float32(math.Abs(float64(v))))
	}
	for j, m := range scale {
		scale[j] = quantScale(m)
	}
	q := make([]int8, len(w))
	for i, v := range w {
		r := math.RoundToEven(float64(v / scale[i%columns]))
		q[i] = int8(max(-127, min(127, r)))
	}
	return q, scale
}

// quantScale is the scale of a column whose largest magnitude is m.
func quantScale(m float32) float32 {
	if m == 0 {
		return 1
	}
	s := m / 127
	if h := roundFloat16(s); h >= 0x1p-14 && h <= 65504 {
		return h
	}
	// m itself may be so small that m/127 is 0: then every weight is 0 or 1 in
	// units of the smallest float32.
	return max(s, math.SmallestNonzeroFloat32)
}

// roundFloat16 rounds s to float16's 11 significant bits, half to even,
// without its limits of exponent.
func roundFloat16(s float32) float32 {
	b := math.Float32bits(s)
	return math.Float32frombits((b + 0xfff + b>>13&1) &^ 0x1fff)
}
