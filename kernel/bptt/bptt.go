// Package bptt trains the graphs of package kernel by backpropagation through
// time (Werbos 1990), with the names, defaults and arithmetic of Keras.
//
// A batch is cut into a fixed number of shards of whole windows. Each shard
// runs forward and backward by itself, of an LSTM
//
//	Z      = X·W + b             one product over all steps
//	Z[t]  += h[t−1]·U            one product and one gate loop per step
//	dh[t−1] += dZ[t]·Uᵀ          one product and one gate loop per step, backward
//	dU = h[:T−1]ᵀ·dZ[1:]         one product over all steps
//	dW = Xᵀ·dZ                   likewise; the first layer needs no dX
//
// and of a GRU likewise, its candidate's recurrent sum being kept apart. The
// shards' gradients are added in shard order, so the bits of the result depend
// on the seed and the configuration and not on the number of cores.
//
// Where package gemm has assembly the products are its own, on weights packed
// once a batch (packedLSTM, packedGRU), and an LSTM's three gradients are one
// product; with AVX-512 or AVX2 gates and updates are vectors. Otherwise
// products go through gonum's blas32, so that blas32.Use replaces them. Buffers
// are made once per Fit: a batch allocates nothing.
package bptt

import (
	"errors"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// A Source is a set of windows of equal length with their targets, both scaled.
//
// Its methods are called from several goroutines at once.
type Source interface {
	Len() int   // windows
	Steps() int // rows of a window
	// Window fills x with window i, Steps rows of Features values, oldest
	// first, and y with its target, Graph.OutputLen(Steps) values.
	Window(i int, x, y []float32)
}

// Weighted is what a Source implements to give its windows weights. Then the
// loss is Σ weight·loss of a term / number of terms, as of Keras's sample_weight
// in fit, or class_weight if the weight is that of the window's class.
type Weighted interface {
	Weight(i int) float32 // of window i, at least 0
}

var (
	// ErrConfig: a Config that cannot be trained with.
	ErrConfig = errors.New("training configuration")
	// ErrDiverged: the loss or a weight became NaN or infinite.
	ErrDiverged = errors.New("training diverged")
)

// A DivergedError says where the loss became NaN or infinite. It matches
// ErrDiverged.
type DivergedError struct {
	Epoch int // from 1
	// Batch is that of the loss, from 1. It is 0 when the training losses were
	// finite and the epoch's validation loss or a weight was not.
	Batch int
	Loss  float64
	// Cause names a weight, or a value of the batch or of the validation
	// windows, that is not finite. It is nil if all of them are: the loss
	// overflowed.
	Cause error
}

func (e *DivergedError) Error() string {
	cause := ""
	if e.Cause != nil {
		cause = fmt.Sprintf(" (%v)", e.Cause)
	}
	if e.Batch == 0 {
		return fmt.Sprintf("epoch %d ended with validation loss %v or a weight that is not finite%s: try a smaller learning rate or clipnorm", e.Epoch, e.Loss, cause)
	}
	return fmt.Sprintf("epoch %d batch %d: loss is %v%s: try a smaller learning rate or clipnorm, and look for extreme values in the data", e.Epoch, e.Batch, e.Loss, cause)
}

// Is makes errors.Is(err, ErrDiverged) true.
func (e *DivergedError) Is(target error) bool { return target == ErrDiverged }

// checkSource refuses what cannot be batched.
func checkSource(name string, s Source) error {
	if s.Len() < 1 || s.Steps() < 1 {
		return fmt.Errorf("%s: %d windows of %d steps, want at least 1 of 1: %w", name, s.Len(), s.Steps(), kernel.ErrShape)
	}
	if w, ok := s.(Weighted); ok {
		for i := range s.Len() {
			if v := w.Weight(i); !notNegative(v) {
				return fmt.Errorf("%s: window %d has weight %v, want 0 or more: %w", name, i, v, ErrConfig)
			}
		}
	}
	return nil
}
