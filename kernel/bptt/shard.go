package bptt

import (
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt/gemm"
)

// A layer is a lstm or a dense. n is the number of windows at hand.
type layer interface {
	// forward returns the output for the input x; it reads x until backward.
	forward(w *weights, x []float32, n int) []float32
	// upstream is where ∂L/∂output has to be before backward.
	upstream(n int) []float32
	// backward sets the layer's part of grad, and dx to ∂L/∂x unless it is nil.
	backward(w *weights, grad, dx []float32, n int)
}

// A shard holds its part of a batch: windows, activations, gradients.
type shard struct {
	cfg              *Config
	steps, features  int
	outRows, outputs int // output rows a window, values a row
	layers           []layer
	x, y             []float32 // [step][window][feature], [row][window][output]
	window, target   []float32 // one of the Source
	grad             []float32 // of all parameters
	loss             float64   // summed over the windows, undivided
}

// newShard makes a shard for up to rows windows.
func newShard(cfg *Config, g kernel.Graph, layers []tensors, size, steps, rows int) *shard {
	s := &shard{
		cfg: cfg, steps: steps, features: g.Features, outputs: g.Outputs(), outRows: g.OutputLen(steps) / g.Outputs(),
		grad: make([]float32, size),
	}
	s.window = make([]float32, steps*s.features)
	s.target = make([]float32, s.outRows*s.outputs)
	s.x = make([]float32, rows*len(s.window))
	s.y = make([]float32, rows*len(s.target))
	for i, l := range g.Layers {
		switch {
		case l.Kind == kernel.LSTM && gemm.Accelerated():
			s.layers = append(s.layers, newPackedLSTM(layers[i], i, g.In(i), l.Units, steps, rows, l.Sequences))
			continue
		case l.Kind == kernel.LSTM:
			s.layers = append(s.layers, newLSTM(layers[i], g.In(i), l.Units, steps, rows, l.Sequences))
			continue
		}
		d := newDense(layers[i], g.In(i), l, rows, s.outRows)
		d.logits = i == len(g.Layers)-1 && cfg.Loss != MSE
		s.layers = append(s.layers, d)
	}
	return s
}

// evaluate reads the windows of src that indices name, runs them, and sets loss.
// If terms, the number of loss terms in the whole batch, is not 0, it sets grad
// to this shard's share of the mean loss's gradient.
func (s *shard) evaluate(w *weights, src Source, indices []int, terms int) {
	n := len(indices)
	s.read(src, indices)
	v := s.x[:n*len(s.window)]
	for _, l := range s.layers {
		v = l.forward(w, v, n)
	}
	top := len(s.layers) - 1
	if terms == 0 {
		s.loss = loss(s.cfg.Loss, v, s.y, nil, s.outputs, 0)
		return
	}
	s.loss = loss(s.cfg.Loss, v, s.y, s.layers[top].upstream(n), s.outputs, 1/float32(terms))
	for i := top; i > 0; i-- {
		s.layers[i].backward(w, s.grad, s.layers[i-1].upstream(n), n)
	}
	s.layers[0].backward(w, s.grad, nil, n)
}

// read turns windows of the Source into steps of all windows.
func (s *shard) read(src Source, indices []int) {
	n := len(indices)
	for i, index := range indices {
		src.Window(index, s.window, s.target)
		interleave(s.x, s.window, s.features, i, n)
		interleave(s.y, s.target, s.outputs, i, n)
	}
}

// interleave writes row r of v, of width values, to row r·n+i of all.
func interleave(all, v []float32, width, i, n int) {
	for r := 0; r*width < len(v); r++ {
		copy(all[(r*n+i)*width:], v[r*width:(r+1)*width])
	}
}
