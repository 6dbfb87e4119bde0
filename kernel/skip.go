package kernel

import (
	"fmt"
	"slices"
)

// SkipWeights are those of a skip path: a linear map from the scaled window
// straight to the outputs, past the network. Output o gets
//
//	bias[o] + Σ kernel[r][o]·scale[o]·x[r][Features[o]]   over the rows r of the window
//
// added to what the network gives. Series mostly go on as a weighted sum of
// their own past says; the network is then left with what that misses. Each
// output reads one feature: a map of all of them takes many times the bytes and
// was worse on rows it had not seen (docs/training.md).
type SkipWeights struct {
	Rows     int       // of the window
	Features []int     // read by each output, −1: none, which adds the bias alone
	Kernel   []int8    // [Rows][outputs], each in [−127, 127]
	Scale    []float32 // [outputs], above 0
	Bias     []float32 // [outputs]
}

// QuantizeSkip makes the int8 form of a float32 kernel, [rows][outputs], with a
// scale for each output, as Quantize does.
func QuantizeSkip(kernel, bias []float32, features []int) (*SkipWeights, error) {
	n := len(features)
	if n < 1 || len(kernel) == 0 || len(kernel)%n != 0 {
		return nil, fmt.Errorf("skip path: %d weights for %d outputs: %w", len(kernel), n, ErrShape)
	}
	if err := (tensor{"kernel", len(kernel), kernel}).validate(0); err != nil {
		return nil, fmt.Errorf("skip path: %w", err)
	}
	s := &SkipWeights{Rows: len(kernel) / n, Features: slices.Clone(features), Bias: slices.Clone(bias)}
	s.Kernel, s.Scale = quantizeColumns(kernel, n)
	return s, nil
}

// Validate checks the shapes and values for windows of n features. Its errors
// match ErrShape, ErrNonFinite or ErrRange.
func (w *SkipWeights) Validate(n int) error {
	outputs := len(w.Features)
	if w.Rows < 1 || outputs < 1 || outputs > MaxUnits {
		return fmt.Errorf("skip path of %d rows and %d outputs: %w", w.Rows, outputs, ErrShape)
	}
	for o, f := range w.Features {
		if f < -1 || f >= n {
			return fmt.Errorf("skip path of output %d reads feature %d of %d: %w", o, f, n, ErrShape)
		}
	}
	for _, t := range []tensor{{"skip scale", outputs, w.Scale}, {"skip bias", outputs, w.Bias}} {
		if len(t.v) != t.want {
			return &ShapeError{t.name, t.want, len(t.v)}
		}
		for i, v := range t.v {
			if !finite(v) {
				return fmt.Errorf("%s %d is %v: %w", t.name, i, v, ErrNonFinite)
			}
		}
	}
	for o, s := range w.Scale {
		if s <= 0 {
			return fmt.Errorf("skip scale %d is %v, want above 0: %w", o, s, ErrRange)
		}
	}
	if len(w.Kernel) != product(w.Rows, outputs) {
		return &ShapeError{"skip kernel", product(w.Rows, outputs), len(w.Kernel)}
	}
	if i := slices.Index(w.Kernel, -128); i >= 0 {
		return fmt.Errorf("skip kernel value %d is -128, want -127 to 127: %w", i, ErrRange)
	}
	return nil
}

// A Skip is a skip path packed for one tier. It is immutable and safe for
// concurrent use; each call brings a SkipSpace.
//
// Its numbers are part of the model format, the same bits on every CPU, also
// beside a float32 network: the weights are dequantized once, float32(q)·scale;
// a sum is that of a Dense layer, row r in the place of input r, 16 lanes and
// then the bias; and it is added to the network's output last.
type Skip struct {
	rows, features, outputs int
	columns                 []skipColumn // by feature, in the order of their first output
	fixed                   []skipBias   // outputs that read no feature
}

// A skipColumn is the outputs that read one feature.
type skipColumn struct {
	feature int
	outputs []int
	sums    *dense
}

type skipBias struct {
	output int
	bias   float32
}

// NewSkip packs a skip path for windows of n features. Errors are those of
// SkipWeights.Validate and of selecting a tier, and ErrRange if an input within
// MaxInput could take a sum out of float32.
func NewSkip(w *SkipWeights, n int) (*Skip, error) {
	t, err := selected()
	if err != nil {
		return nil, err
	}
	return newSkip(t, w, n)
}

func newSkip(t tier, w *SkipWeights, n int) (*Skip, error) {
	if err := w.Validate(n); err != nil {
		return nil, err
	}
	sums := newSums(w.Bias, len(w.Bias))
	sums.addInt8(w.Kernel, w.Scale, MaxInput)
	if err := sums.check(); err != nil {
		return nil, fmt.Errorf("skip path: %w", err)
	}
	s := &Skip{rows: w.Rows, features: n, outputs: len(w.Features)}
	for o, f := range w.Features {
		if f < 0 {
			s.fixed = append(s.fixed, skipBias{o, w.Bias[o]})
			continue
		}
		i := slices.IndexFunc(s.columns, func(c skipColumn) bool { return c.feature == f })
		if i < 0 {
			i = len(s.columns)
			s.columns = append(s.columns, skipColumn{feature: f})
		}
		s.columns[i].outputs = append(s.columns[i].outputs, o)
	}
	for i := range s.columns {
		s.columns[i].pack(t, w)
	}
	return s, nil
}

func (c *skipColumn) pack(t tier, w *SkipWeights) {
	units, all := len(c.outputs), len(w.Features)
	kernel, bias := make([]float32, w.Rows*units), make([]float32, units)
	for u, o := range c.outputs {
		bias[u] = w.Bias[o]
		for r := range w.Rows {
			kernel[r*units+u] = float32(w.Kernel[r*all+o]) * w.Scale[o]
		}
	}
	c.sums = packDense(t, kernel, bias, w.Rows, Layer{Kind: Dense, Units: units})
}

// Rows is how many rows a window has.
func (s *Skip) Rows() int { return s.rows }

// A SkipSpace is what adding a skip path needs of memory, for one call at a time.
type SkipSpace struct {
	x lanes // a feature's column
	y []float32
}

// NewSpace returns memory for s.
func (s *Skip) NewSpace() *SkipSpace {
	return &SkipSpace{x: newLanes(s.rows), y: make([]float32, s.outputs)}
}

// Add adds the path's outputs for a scaled window to y. It allocates nothing.
// Lengths that disagree are a *ShapeError.
func (s *Skip) Add(m *SkipSpace, y, window []float32) error {
	if want := s.rows * s.features; len(window) != want {
		return &ShapeError{"window of the skip path", want, len(window)}
	}
	if len(y) != s.outputs {
		return &ShapeError{"outputs of the skip path", s.outputs, len(y)}
	}
	if len(m.y) != s.outputs || len(m.x) != (s.rows+15)/16 {
		return fmt.Errorf("the space of another skip path: %w", ErrState)
	}
	for i := range s.columns {
		c := &s.columns[i]
		for r := range s.rows {
			m.x.put(r, window[r*s.features+c.feature])
		}
		c.sums.apply(m.y[:len(c.outputs)], m.x)
		for u, o := range c.outputs {
			y[o] += m.y[u]
		}
	}
	for _, f := range s.fixed {
		y[f.output] += f.bias
	}
	return nil
}
