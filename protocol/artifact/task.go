package artifact

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// What a detector's residuals are of.
const (
	NextStep       = "next-step"      // the row after the network's window, which it forecasts
	Reconstruction = "reconstruction" // the last row of the network's window, through its narrow state
)

// Residuals are the values of Detector.Residual.
var Residuals = []string{NextStep, Reconstruction}

// ScoreName is the one target of a detector.
const ScoreName = "score"

// A Detector turns what a network says about rows into a score, and that into an
// alarm. The network gives a value for each of Features, in raw units; a residual is
// what came less that, times Inv. The score of a window is the root mean square, over
// features, of the mean residual of its last Smooth rows: noise that comes and goes
// averages out in a mean, and a shift that stays does not.
type Detector struct {
	Residual  string  `cbor:"residual" json:"residual"`   // one of Residuals
	Features  []int   `cbor:"features" json:"features"`   // by index, ascending: one for each value of the network
	Inv       Floats  `cbor:"inv" json:"inv"`             // per value: 1 / the residual's deviation in training, 0 of none
	Smooth    int     `cbor:"smooth" json:"smooth"`       // rows; 1 or more
	Threshold float32 `cbor:"threshold" json:"threshold"` // above it a window is an anomaly
}

// NetworkOutputs is the number of values that the graph gives: those of a
// prediction, or of a detector one for each feature it looks at.
func (s *Schema) NetworkOutputs() int {
	if s.Detector != nil {
		return len(s.Detector.Features)
	}
	return s.Outputs()
}

// NetworkWindow is the number of rows that the graph takes at a time: those of a
// request, less what a detector needs to compare it with.
func (s *Schema) NetworkWindow() int {
	switch d := s.Detector; {
	case d == nil:
		return s.Window
	case d.Residual == NextStep:
		return s.Window - d.Smooth
	default:
		return s.Window - d.Smooth + 1
	}
}

func (s *Schema) validateMinWindow(task string) error {
	if s.MinWindow == 0 {
		return nil
	}
	if s.MinWindow < 1 || s.MinWindow > s.Window || s.State != StateWindow || task != TaskClassify {
		return fmt.Errorf("%w: at least %d rows of a window of %d, state %s, task %s; only classifiers of windows take fewer rows",
			ErrInvalid, s.MinWindow, s.Window, s.State, task)
	}
	return nil
}

func (s *Schema) validateLabels(task string) error {
	n := len(s.Labels)
	if n == 0 {
		return nil
	}
	if task != TaskClassify || s.Horizon != 1 || n < 2 || n > protocol.MaxFeatures ||
		n != len(s.Targets) && (n != 2 || len(s.Targets) != 1) {
		return fmt.Errorf("%w: %d labels of %d targets, %d steps ahead, task %s", ErrInvalid, n, len(s.Targets), s.Horizon, task)
	}
	for i, l := range s.Labels {
		if l == "" || len(l) > protocol.MaxName || !utf8.ValidString(l) {
			return fmt.Errorf("%w: label %.80q: want 1 to %d bytes of UTF-8", ErrInvalid, l, protocol.MaxName)
		}
		if slices.Contains(s.Labels[:i], l) {
			return fmt.Errorf("%w: the label %q is there twice", ErrInvalid, l)
		}
	}
	return nil
}

func (s *Schema) validateDetector(task string) error {
	d := s.Detector
	if d == nil {
		return nil
	}
	switch {
	case task != TaskAnomaly || s.State != StateWindow || s.Outputs() != 1:
		return fmt.Errorf("%w: a detector of the task %s, state %s, with %d outputs; it needs anomaly, window and the score alone", ErrInvalid, task, s.State, s.Outputs())
	case !slices.Contains(Residuals, d.Residual):
		return fmt.Errorf("%w: residual %.40q, want %s or %s", ErrInvalid, d.Residual, NextStep, Reconstruction)
	case d.Smooth < 1 || d.Smooth > s.Window || s.NetworkWindow() < 1:
		return fmt.Errorf("%w: residuals of %d rows in a window of %d leave the network none", ErrInvalid, d.Smooth, s.Window)
	case len(d.Features) < 1 || len(d.Features) > len(s.Features) || len(d.Inv) != len(d.Features):
		return fmt.Errorf("%w: a detector looks at %d of %d features, with %d factors", ErrInvalid, len(d.Features), len(s.Features), len(d.Inv))
	case !(d.Threshold >= 0) || !finite(d.Threshold):
		return fmt.Errorf("%w: threshold %v, want a finite number of 0 or more", ErrInvalid, d.Threshold)
	}
	for i, f := range d.Features {
		if f < 0 || f >= len(s.Features) || i > 0 && f <= d.Features[i-1] {
			return fmt.Errorf("%w: the detector's feature %d of %d, which ascend", ErrInvalid, f, len(s.Features))
		}
		if !(d.Inv[i] >= 0) {
			return fmt.Errorf("%w: the factor of a residual is %v", ErrInvalid, d.Inv[i])
		}
	}
	return allFinite("factor of a residual", d.Inv)
}
