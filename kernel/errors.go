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
