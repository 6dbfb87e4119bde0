package bptt

import "github.com/sandpiper-edge/sandpiper/kernel"

// A dense is one Dense layer of a worker. It is applied to rows: windows, or
// steps·windows under an LSTM with Sequences.
type dense struct {
	p          tensors
	in, units  int
	activation kernel.Activation
	perWindow  int // rows a window
	// logits says that the loss leaves ∂L/∂z in upstream rather than ∂L/∂y.
	logits bool

	x     []float32 // the input, not ours: [rows][in]
	y, dy []float32 // [rows][units], the activations and ∂L/∂y, after backward ∂L/∂z
}

func newDense(p tensors, in int, l kernel.Layer, rows, perWindow int) *dense {
	n := rows * perWindow * l.Units
	return &dense{
		p: p, in: in, units: l.Units, activation: l.Activation, perWindow: perWindow,
		y: make([]float32, n), dy: make([]float32, n),
	}
}

func (d *dense) forward(w *weights, x []float32, n int) []float32 {
	d.x = x
	y := mat(n*d.perWindow, d.units, d.y)
	fillRows(y, d.p.bias.of(w.flat))
	mul(mat(y.Rows, d.in, x), mat(d.in, d.units, d.p.kernel.of(w.flat)), y)
	switch d.activation {
	case kernel.ReLU:
		relu(y.Data)
	case kernel.Sigmoid:
		sigmoid(y.Data)
	case kernel.Softmax:
		for i := range y.Rows {
			softmax(y.Data[i*d.units : (i+1)*d.units])
		}
	}
	return y.Data
}

func (d *dense) upstream(n int) []float32 { return d.dy[:n*d.perWindow*d.units] }

// backward takes ∂L/∂y from upstream, sets the layer's part of grad, and dx to
// ∂L/∂x.
func (d *dense) backward(w *weights, grad, dx []float32, n int) {
	if !d.logits {
		d.activationBackward(n)
	}
	rows := n * d.perWindow
	dz := mat(rows, d.units, d.dy)
	mulT(mat(rows, d.in, d.x), dz, mat(d.in, d.units, d.p.kernel.of(grad)))
	sumRows(d.p.bias.of(grad), dz)
	clear(dx)
	mul(dz, mat(d.units, d.in, d.p.kernel.of(w.transposed)), mat(rows, d.in, dx))
}

// activationBackward turns ∂L/∂y into ∂L/∂z in place.
func (d *dense) activationBackward(n int) {
	dy := d.upstream(n)
	y := d.y[:len(dy)]
	switch d.activation {
	case kernel.ReLU:
		for k, v := range y {
			if v <= 0 {
				dy[k] = 0
			}
		}
	case kernel.Sigmoid:
		for k, v := range y {
			dy[k] *= v * (1 - v)
		}
	case kernel.Softmax:
		for ; len(y) > 0; y, dy = y[d.units:], dy[d.units:] {
			var dot float32
			for k, v := range y[:d.units] {
				dot += v * dy[k]
			}
			for k, v := range y[:d.units] {
				dy[k] = v * (dy[k] - dot)
			}
		}
	}
}
