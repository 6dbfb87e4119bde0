package predictor

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// A Stream carries a stream model's state from sample to sample. One goroutine
// uses it at a time; any number of Streams share a Predictor.
type Stream struct {
	p     *Predictor
	state *kernel.State
	x     []float32 // a prepared row
}

// NewStream returns a stream in the zero state. On a window model it is
// ErrWindow.
func (p *Predictor) NewStream() (*Stream, error) {
	if !p.Stateful() {
		return nil, ErrWindow
	}
	return &Stream{p, p.model.NewState(), make([]float32, p.plan.Inputs())}, nil
}

// Step advances the stream by one raw row, extended by its time if the plan is
// Timed, and writes Outputs raw values to y. It allocates nothing. Errors are those of Predict, and leave the stream as
// it was.
func (s *Stream) Step(y, row []float32) error {
	if width := s.p.plan.Width(); len(row) != width {
		return &kernel.ShapeError{What: "sample", Want: width, Got: len(row)}
	}
	if err := s.p.plan.In(s.x, row); err != nil {
		return s.p.named(err)
	}
	if err := s.p.model.Step(s.state, y, s.x); err != nil {
		return err
	}
	return s.p.plan.Out(y, y, row)
}

// Replay resets the stream and steps it through rows, oldest first: how a new
// version takes over from the last samples of an old one.
func (s *Stream) Replay(rows []float32) error {
	width := s.p.plan.Width()
	if len(rows)%width != 0 {
		return &kernel.ShapeError{What: "samples", Want: (len(rows)/width + 1) * width, Got: len(rows)}
	}
	s.state.Reset()
	y := make([]float32, s.p.Outputs())
	for ; len(rows) > 0; rows = rows[width:] {
		if err := s.Step(y, rows[:width]); err != nil {
			return err
		}
	}
	return nil
}

// AppendBinary appends the stream's state: the model's digest, 32 bytes, then
// the kernel's State.
func (s *Stream) AppendBinary(b []byte) ([]byte, error) {
	return s.state.AppendBinary(append(b, s.p.digest[:]...))
}

// UnmarshalBinary restores a state of the same model. A digest of
// another is kernel.ErrState; other errors are those of kernel.State.
func (s *Stream) UnmarshalBinary(b []byte) error {
	if len(b) < len(s.p.digest) {
		return fmt.Errorf("stream state of %d bytes: %w", len(b), kernel.ErrState)
	}
	if got := [32]byte(b); got != s.p.digest {
		return fmt.Errorf("stream state of model %x, this is %x: %w", got[:8], s.p.digest[:8], kernel.ErrState)
	}
	return s.state.UnmarshalBinary(b[len(s.p.digest):])
}
