package kernel

import (
	"math"
	"slices"
)

// The oracle computes an int8 model as its rules are written, one value after
// the other, from the stored form. It shares tanh, exp and nothing else with
// the code it is compared with.
type oracle struct {
	w *QuantWeights
	h [][]int8    // quantized hidden state of each recurrent layer
	c [][]float32 // cell state of each LSTM, float32 hidden state of each GRU
}

func newOracle(w *QuantWeights) *oracle {
	o := &oracle{w: w}
	for _, l := range w.Graph.Layers {
		o.h = append(o.h, make([]int8, l.Units))
		o.c = append(o.c, make([]float32, l.Units))
	}
	return o
}

// step advances by one scaled row and returns the outputs after it.
func (o *oracle) step(x []float32) []float32 {
	var below []int8 // hidden state of the layer below, this step's
	var h []float32
	for i, l := range o.w.Graph.Layers {
		if l.Kind == Dense {
			h = o.dense(i, h)
			continue
		}
		if l.Kind == GRU {
			h = o.gru(i, x, below)
		} else {
			h = o.lstm(i, x, below)
		}
		below = o.h[i]
	}
	return h
}

func (o *oracle) lstm(i int, x []float32, below []int8) []float32 {
	l, n := &o.w.Layers[i], o.w.Graph.Layers[i].Units
	z := make([]float32, 4*n)
	for j := range z {
		z[j] = l.Bias[j]
		if i == 0 {
			for f := range x {
				w := float32(l.Kernel[f*4*n+j]) * l.KernelScale[j]
				z[j] = z[j] + float32(w*x[f])
			}
		} else {
			z[j] = z[j] + float32(float32(dotInt8(l.Kernel[j:], 4*n, below))*float32(l.KernelScale[j]/127))
		}
		z[j] = z[j] + float32(float32(dotInt8(l.Recurrent[j:], 4*n, o.h[i]))*float32(l.RecurrentScale[j]/127))
	}
	out, next := make([]float32, n), make([]int8, n)
	for u := range n {
		in, forget, cand, output := sigmoid(z[u]), sigmoid(z[n+u]), tanh(z[2*n+u]), sigmoid(z[3*n+u])
		o.c[i][u] = float32(forget*o.c[i][u]) + float32(in*cand)
		out[u] = float32(output * tanh(o.c[i][u]))
		next[u] = int8(math.RoundToEven(float64(float32(127 * out[u]))))
	}
	o.h[i] = next
	return out
}

func (o *oracle) gru(i int, x []float32, below []int8) []float32 {
	l, n := &o.w.Layers[i], o.w.Graph.Layers[i].Units
	in, rec := make([]float32, 3*n), make([]float32, 3*n)
	for j := range in {
		in[j] = l.Bias[j]
		if i == 0 {
			for f := range x {
				w := float32(l.Kernel[f*3*n+j]) * l.KernelScale[j]
				in[j] = in[j] + float32(w*x[f])
			}
		} else {
			in[j] = in[j] + float32(float32(dotInt8(l.Kernel[j:], 3*n, below))*float32(l.KernelScale[j]/127))
		}
		rec[j] = l.Bias[3*n+j] + float32(float32(dotInt8(l.Recurrent[j:], 3*n, o.h[i]))*float32(l.RecurrentScale[j]/127))
	}
	next := make([]int8, n)
	for u, h := range o.c[i] {
		update, reset := sigmoid(in[u]+rec[u]), sigmoid(in[n+u]+rec[n+u])
		cand := tanh(in[2*n+u] + float32(reset*rec[2*n+u]))
		h = float32(update*h) + float32((1-update)*cand)
		o.c[i][u] = h
		next[u] = int8(math.RoundToEven(float64(float32(127 * h))))
	}
	o.h[i] = next
	return slices.Clone(o.c[i])
}

// dotInt8 is the int32 product of a column, its values stride apart, with q.
func dotInt8(w []int8, stride int, q []int8) int32 {
	var s int32
	for k, v := range q {
		s += int32(w[k*stride]) * int32(v)
	}
	return s
}

func (o *oracle) dense(i int, x []float32) []float32 {
	l, layer := &o.w.Layers[i], o.w.Graph.Layers[i]
	y := make([]float32, layer.Units)
	for j := range y {
		var lane [16]float32
		for u, v := range x {
			lane[u%16] = lane[u%16] + float32(l.Dense[u*layer.Units+j]*v)
		}
		y[j] = l.Bias[j]
		for _, s := range lane {
			y[j] = y[j] + s
		}
	}
	switch layer.Activation {
	case ReLU:
		for j := range y {
			y[j] = max(y[j], 0)
		}
	case Sigmoid:
		for j := range y {
			y[j] = sigmoid(y[j])
		}
	case Softmax:
		top := float32(math.Inf(-1))
		for _, v := range y {
			top = max(top, v)
		}
		var lane [16]float32
		for j := range y {
			y[j] = exp(y[j] - top)
			lane[j%16] = lane[j%16] + y[j]
		}
		sum := lane[0]
		for _, s := range lane[1:] {
			sum = sum + s
		}
		for j := range y {
			y[j] = y[j] / sum
		}
	}
	return y
}

// A reference64 computes a graph in float64 with the math package. Fed an int8
// model, it uses the dequantized weights; hidden8 tells whether it rounds the
// hidden state inside the recurrence as that model does.
type reference64 struct {
	w       *Weights
	hidden8 bool
	h, hq   [][]float64
	c       [][]float64
}

func newReference64(w *Weights, hidden8 bool) *reference64 {
	r := &reference64{w: w, hidden8: hidden8}
	for _, l := range w.Graph.Layers {
		r.h = append(r.h, make([]float64, l.Units))
		r.hq = append(r.hq, make([]float64, l.Units))
		r.c = append(r.c, make([]float64, l.Units))
	}
	return r
}

// dequantize returns the float32 weights an int8 model stands for.
func dequantize(q *QuantWeights) *Weights {
	w, err := NewWeights(q.Graph)
	if err != nil {
		panic(err)
	}
	for i, l := range q.Layers {
		o, columns := &w.Layers[i], q.Graph.Layers[i].columns()
		copy(o.Bias, l.Bias)
		if q.Graph.Layers[i].Kind == Dense {
			copy(o.Kernel, l.Dense)
			continue
		}
		for j, v := range l.Kernel {
			o.Kernel[j] = float32(v) * l.KernelScale[j%columns]
		}
		for j, v := range l.Recurrent {
			o.Recurrent[j] = float32(v) * l.RecurrentScale[j%columns]
		}
	}
	return w
}

func (r *reference64) step(x []float32) []float64 {
	below := make([]float64, len(x))
	for i, v := range x {
		below[i] = float64(v)
	}
	for i, l := range r.w.Graph.Layers {
		if l.Kind == Dense {
			if i > 0 && r.w.Graph.Layers[i-1].Kind != Dense {
				below = r.h[i-1] // the head reads the unrounded state
			}
			below = r.dense(i, below)
			continue
		}
		if l.Kind == GRU {
			r.gru(i, below)
		} else {
			r.lstm(i, below)
		}
		below = r.hq[i]
		if i == len(r.w.Graph.Layers)-1 {
			return r.h[i]
		}
	}
	return below
}

func (r *reference64) lstm(i int, x []float64) {
	l, n := &r.w.Layers[i], r.w.Graph.Layers[i].Units
	z := make([]float64, 4*n)
	for j := range z {
		z[j] = float64(l.Bias[j])
		for k, v := range x {
			z[j] += float64(l.Kernel[k*4*n+j]) * v
		}
		for k, v := range r.hq[i] {
			z[j] += float64(l.Recurrent[k*4*n+j]) * v
		}
	}
	for u := range n {
		r.c[i][u] = sigmoid64(z[n+u])*r.c[i][u] + sigmoid64(z[u])*math.Tanh(z[2*n+u])
		r.put(i, u, sigmoid64(z[3*n+u])*math.Tanh(r.c[i][u]))
	}
}

func (r *reference64) gru(i int, x []float64) {
	l, n := &r.w.Layers[i], r.w.Graph.Layers[i].Units
	in, rec := make([]float64, 3*n), make([]float64, 3*n)
	for j := range in {
		in[j], rec[j] = float64(l.Bias[j]), float64(l.Bias[3*n+j])
		for k, v := range x {
			in[j] += float64(l.Kernel[k*3*n+j]) * v
		}
		for k, v := range r.hq[i] {
			rec[j] += float64(l.Recurrent[k*3*n+j]) * v
		}
	}
	for u := range n {
		update, reset := sigmoid64(in[u]+rec[u]), sigmoid64(in[n+u]+rec[n+u])
		r.put(i, u, update*r.h[i][u]+(1-update)*math.Tanh(in[2*n+u]+reset*rec[2*n+u]))
	}
}

// put makes h the hidden state of a unit.
func (r *reference64) put(i, u int, h float64) {
	r.h[i][u], r.hq[i][u] = h, h
	if r.hidden8 {
		r.hq[i][u] = math.RoundToEven(h*127) / 127
	}
}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func (r *reference64) dense(i int, x []float64) []float64 {
	l, layer := &r.w.Layers[i], r.w.Graph.Layers[i]
	y := make([]float64, layer.Units)
	sum, top := 0.0, math.Inf(-1)
	for j := range y {
		y[j] = float64(l.Bias[j])
		for k, v := range x {
			y[j] += float64(l.Kernel[k*layer.Units+j]) * v
		}
		top = max(top, y[j])
	}
	for j, v := range y {
		switch layer.Activation {
		case ReLU:
			y[j] = max(v, 0)
		case Sigmoid:
			y[j] = sigmoid64(v)
		case Softmax:
			y[j] = math.Exp(v - top)
			sum += y[j]
		}
	}
	if layer.Activation == Softmax {
		for j := range y {
			y[j] /= sum
		}
	}
	return y
}
