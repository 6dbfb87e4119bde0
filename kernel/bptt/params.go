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

// whole is the span of all three, which layout places one after another: the
// rows of one matrix.
func (t tensors) whole() span { return span{t.kernel.lo, max(t.recurrent.hi, t.bias.hi)} }

func (t tensors) each() [3]span { return [...]span{t.kernel, t.recurrent, t.bias} }

// layout places the parameters of g's layers one after another.
func layout(w *kernel.Weights) (layers []tensors, size int) {
	place := func(v []float32) span {
		s := span{size, size + len(v)}
		size = s.hi
		return s
	}
	for i, l := range w.Layers {
		t := tensors{kernel: place(l.Kernel)}
		if w.Graph.Layers[i].Kind == kernel.GRU { // where its two products read their biases
			t.bias, t.recurrent = place(l.Bias), place(l.Recurrent)
		} else {
			t.recurrent, t.bias = place(l.Recurrent), place(l.Bias)
		}
		layers = append(layers, t)
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
	// packed are those of recurrent layers where products run in assembly, instead
	// of transposed; nil otherwise.
	packed []packer
}

// A packer is the weights of one recurrent layer as gemm wants its right operands.
type packer interface {
	// pack renews those of the forward pass, or those of the backward pass.
	pack(flat []float32, t tensors, units int, backward bool)
}

// newPacker returns nil for a layer that has none.
func newPacker(g kernel.Graph, layer int) packer {
	in, units, first := g.In(layer), g.Layers[layer].Units, layer == 0
	switch g.Layers[layer].Kind {
	case kernel.LSTM:
		return newPackedLSTMWeights(in, units, first)
	case kernel.GRU:
		return newPackedGRUWeights(in, units, first)
	}
	return nil
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
