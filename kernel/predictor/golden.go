package predictor

import (
	"fmt"
	"math"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// goldenSeed starts the generator of golden inputs. Inputs are scaled by the
// model's own deviations, so one seed serves all.
const goldenSeed = 1

// goldenSteps is the rows of a golden input: the window, and for a stream
// model its warm-up if that is longer, within what a window may hold.
func goldenSteps(s artifact.Schema) int {
	if s.State == artifact.StateWindow {
		return s.Window
	}
	return max(1, s.Window, min(s.Warmup, protocol.MaxWindowValues/max(1, s.Inputs())))
}

// A GoldenError says which output of which golden vector differs. It matches
// ErrGolden.
type GoldenError struct {
	Vector, Output int // from 0
	Want, Got      float32
}

func (e *GoldenError) Error() string {
	return fmt.Sprintf("golden vector %d output %d: want %v (%#08x), got %v (%#08x)",
		e.Vector, e.Output, e.Want, math.Float32bits(e.Want), e.Got, math.Float32bits(e.Got))
}

// Is makes errors.Is(err, ErrGolden) true.
func (e *GoldenError) Is(target error) bool { return target == ErrGolden }

// Check runs the golden vectors: equal bits for an int8 model, within the
// golden tolerance for a float32 one. The first difference is a *GoldenError.
// A Predictor of OpenFloat32 has none to check and is ErrModel.
func (p *Predictor) Check() error {
	if len(p.inputs) == 0 {
		return fmt.Errorf("no golden vectors: %w", ErrModel)
	}
	out := p.Outputs()
	for i, rows := range p.inputs {
		y, err := p.goldenOutput(rows)
		if err != nil {
			return fmt.Errorf("golden vector %d: %w", i, err)
		}
		for j, want := range p.golden.Outputs[i*out:][:out] {
			if !p.agrees(y[j], want) {
				return &GoldenError{i, j, want, y[j]}
			}
		}
	}
	return nil
}

// Vectors is the number of golden vectors, the predictions that Check makes.
func (p *Predictor) Vectors() int { return len(p.inputs) }

func (p *Predictor) agrees(got, want float32) bool {
	if p.model.Int8() {
		return math.Float32bits(got) == math.Float32bits(want)
	}
	diff := math.Abs(float64(got) - float64(want))
	return diff <= float64(p.golden.Tolerance)*max(1, math.Abs(float64(want)))
}

// goldenOutput is the model's answer to one golden input: of a window model
// its prediction, of a stream model that of the last row.
func (p *Predictor) goldenOutput(rows []float32) ([]float32, error) {
	y := make([]float32, p.Outputs())
	if !p.Stateful() {
		return y, p.Predict(y, rows)
	}
	s, err := p.NewStream()
	if err != nil {
		return nil, err
	}
	f := p.plan.Width()
	for ; len(rows) > 0; rows = rows[f:] {
		if err := s.Step(y, rows[:f]); err != nil {
			return nil, err
		}
	}
	return y, nil
}

// extendGolden makes the rows of the golden inputs of m.
func (p *Predictor) extendGolden(m *artifact.Model) error {
	p.inputs = m.GoldenInputs()
	for i, t := range m.GoldenTimes() {
		var err error
		if p.inputs[i], err = p.plan.Extend(p.inputs[i], t); err != nil {
			return fmt.Errorf("golden vector %d: %w", i, err)
		}
	}
	return nil
}
