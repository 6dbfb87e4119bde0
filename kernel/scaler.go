package kernel

import (
	"fmt"
	"slices"
)

// MaxInput bounds the magnitude of a scaled input. Loading a model checks that
// no sum can leave float32 for inputs up to it.
const MaxInput = 1 << 20

// A Scaler turns raw sensor units into a model's inputs and its outputs back
// into raw units. All operations are float32, each rounded separately.
//
//	x = (raw − Mean)·Inv       for each feature
//	y = out·OutStd + OutMean   for each output
//
// Inv is stored, not derived: 1/std, and 0 for a constant column, which then
// scales to 0. With Anchor, the window's last raw row takes the place of the
// mean: x = (raw − last)·Inv for the anchor features, y = out·OutStd + last,
// where last is the raw value of feature Anchor[output].
type Scaler struct {
	Mean, Std, Inv  []float32 // one for each feature; Std documents Inv
	OutMean, OutStd []float32 // one for each output
	Anchor          []int     // feature of each output, -1 for none; empty for no anchors
}

// Validate checks lengths, that every value is finite and no standard
// deviation negative, and that anchors are features.
func (s *Scaler) Validate() error {
	f, o := len(s.Mean), len(s.OutMean)
	if f < 1 || f > MaxFeatures {
		return fmt.Errorf("scaler of %d features, want 1 to %d: %w", f, MaxFeatures, ErrShape)
	}
	if o < 1 {
		return fmt.Errorf("scaler of no outputs: %w", ErrShape)
	}
	for _, t := range []tensor{
		{"mean", f, s.Mean}, {"std", f, s.Std}, {"inv", f, s.Inv}, {"output mean", o, s.OutMean}, {"output std", o, s.OutStd},
	} {
		if len(t.v) != t.want {
			return &ShapeError{"scaler " + t.name, t.want, len(t.v)}
		}
		for i, v := range t.v {
			if !finite(v) {
				return fmt.Errorf("scaler %s %d is %v: %w", t.name, i, v, ErrNonFinite)
			}
			if v < 0 && t.name != "mean" && t.name != "output mean" {
				return fmt.Errorf("scaler %s %d is %v, want 0 or more: %w", t.name, i, v, ErrRange)
			}
		}
	}
	if len(s.Anchor) != 0 && len(s.Anchor) != o {
		return &ShapeError{"scaler anchor", o, len(s.Anchor)}
	}
	for i, a := range s.Anchor {
		if a < -1 || a >= f {
			return fmt.Errorf("scaler anchor of output %d is feature %d of %d: %w", i, a, f, ErrShape)
		}
	}
	return nil
}

// In scales raw, whole rows of features, into dst of the same length, which
// may be raw itself. The last row of raw is the anchor, if there is one. A
// value that is not finite or scales beyond ±MaxInput is a *ValueError, a
// length that is not a number of rows a *ShapeError; dst is then undefined.
func (s *Scaler) In(dst, raw []float32) error {
	n := len(s.Mean)
	if len(raw) == 0 || len(raw)%n != 0 {
		return &ShapeError{"raw rows", (len(raw)/n + 1) * n, len(raw)}
	}
	if len(dst) != len(raw) {
		return &ShapeError{"scaled rows", len(raw), len(dst)}
	}
	for f := range n {
		mean, inv := s.Mean[f], s.Inv[f]
		if slices.Contains(s.Anchor, f) {
			if mean = raw[len(raw)-n+f]; !finite(mean) {
				return valueError(mean, len(raw)-n+f, n)
			}
		}
		for i := f; i < len(raw); i += n {
			x := float32(raw[i]-mean) * inv
			if !(x >= -MaxInput && x <= MaxInput) { // a NaN too, which Inf·0 is
				return valueError(raw[i], i, n)
			}
			dst[i] = x
		}
	}
	return nil
}

// Out turns y, whole rows of outputs, into raw units in dst, which may be y
// itself. last is the last raw row of the window, read only with Anchor.
// Lengths that disagree are a *ShapeError.
func (s *Scaler) Out(dst, y, last []float32) error {
	n := len(s.OutMean)
	if len(y) == 0 || len(y)%n != 0 {
		return &ShapeError{"output rows", (len(y)/n + 1) * n, len(y)}
	}
	if len(dst) != len(y) {
		return &ShapeError{"raw output rows", len(y), len(dst)}
	}
	if len(s.Anchor) > 0 && len(last) != len(s.Mean) {
		return &ShapeError{"last row", len(s.Mean), len(last)}
	}
	for i, v := range y {
		o := i % n
		mean := s.OutMean[o]
		if len(s.Anchor) > 0 && s.Anchor[o] >= 0 {
			mean = last[s.Anchor[o]]
		}
		dst[i] = float32(v*s.OutStd[o]) + mean
	}
	return nil
}
