package bptt

import (
	"math"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// A span is where a tensor lies in a flat vector of all parameters.
type span struct{ lo, hi int }

func (s span) of(flat []float32) []float32 { return flat[s.lo:s.hi] }

// tensors are the parameters of one layer. A Dense layer's recurrent is empty.
type tensors struct{ kernel, recurrent, bias span }

func (t tensors) each() [3]span { return [...]span{t.kernel, t.recurrent, t.bias} }

// layout places the parameters of g's layers one after another.
func layout(w *kernel.Weights) (layers []tensors, size int) {
	place := func(v []float32) span {
		s := span{size, size + len(v)}
		size = s.hi
		return s
	}
	for _, l := range w.Layers {
		layers = append(layers, tensors{place(l.Kernel), place(l.Recurrent), place(l.Bias)})
	}
	return layers, size
}

// weights are the parameters in use, shared by the shards and constant while
// they run.
type weights struct {
	flat []float32
	// transposed holds, where flat has a kernel, that kernel transposed: what
	// the products of the backward pass need.
	transposed []float32
	// packed are those of LSTM layers where products run in assembly, instead of
	// transposed; nil otherwise.
	packed []*packedWeights
}

// load copies w's parameters into flat.
func load(flat []float32, layers []tensors, w *kernel.Weights) {
	for i, t := range layers {
		copy(t.kernel.of(flat), w.Layers[i].Kernel)
		copy(t.recurrent.of(flat), w.Layers[i].Recurrent)
		copy(t.bias.of(flat), w.Layers[i].Bias)
	}
}

// save copies flat into w.
func save(w *kernel.Weights, layers []tensors, flat []float32) {
	for i, t := range layers {
		copy(w.Layers[i].Kernel, t.kernel.of(flat))
		copy(w.Layers[i].Recurrent, t.recurrent.of(flat))
		copy(w.Layers[i].Bias, t.bias.of(flat))
	}
}

// finite reports whether no value is NaN or infinite.
func finite(v []float32) bool {
	for _, x := range v {
		if !isFinite(float64(x)) {
			return false
		}
	}
	return true
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
