package kernel

import (
	"errors"
	"fmt"
)

var (
	// ErrShape: sizes disagree with the graph, or the graph is outside the limits.
	ErrShape = errors.New("shape")
	// ErrNonFinite: a NaN or an infinity where a number is needed.
	ErrNonFinite = errors.New("not a finite number")
	// ErrRange: a finite number that is too large: a scaled input beyond MaxInput,
	// or weights whose sums could leave float32.
	ErrRange = errors.New("out of range")
	// ErrState: the bytes of a State are damaged or belong to another graph.
	ErrState = errors.New("state")
	// ErrTier: SANDPIPER_KERNEL names a tier that this build or CPU lacks.
	ErrTier = errors.New("kernel tier")
)

// A ShapeError says which length or dimension is wrong. It matches ErrShape.
type ShapeError struct {
	What      string // "window", "layer 1 recurrent kernel", …
	Want, Got int
}

func (e *ShapeError) Error() string {
	return fmt.Sprintf("%s: want %d values, got %d", e.What, e.Want, e.Got)
}

// Is makes errors.Is(err, ErrShape) true.
func (e *ShapeError) Is(target error) bool { return target == ErrShape }

// A ValueError says which input value was refused. It wraps ErrNonFinite or
// ErrRange.
type ValueError struct {
	Row, Feature int     // both from 0, and from 1 in the text; rows count through a batch
	Value        float32 // as given
	Err          error
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("row %d, feature %d is %v: %v", e.Row+1, e.Feature+1, e.Value, e.Err)
}

func (e *ValueError) Unwrap() error { return e.Err }

// valueError is the ValueError of v, which is value i of rows of n.
func valueError(v float32, i, n int) error {
	err := ErrRange
	if !finite(v) {
		err = ErrNonFinite
	}
	return &ValueError{i / n, i % n, v, err}
}
