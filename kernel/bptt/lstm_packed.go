package bptt

import "github.com/sandpiper-edge/sandpiper/kernel/bptt/gemm"

// packedLSTMWeights are an LSTM layer's weights as gemm wants its right operands.
type packedLSTMWeights struct {
	forward   *gemm.Packed // [W; U; b]: (in+units+1)×4·units
	recurrent *gemm.Packed // Uᵀ: 4·units×units
	input     *gemm.Packed // Wᵀ: 4·units×in, nil in the first layer
}

func newPackedLSTMWeights(in, units int, first bool) *packedLSTMWeights {
	p := &packedLSTMWeights{
		forward:   gemm.NewPacked(in+units+1, gates*units),
		recurrent: gemm.NewPacked(gates*units, units),
	}
	if !first {
		p.input = gemm.NewPacked(gates*units, in)
	}
	return p
}

func (p *packedLSTMWeights) pack(flat []float32, t tensors, units int, backward bool) {
	wide := gates * units
	if !backward {
		p.forward.Pack(t.whole().of(flat), wide)
		return
	}
	p.recurrent.PackTrans(t.recurrent.of(flat), wide)
	if p.input != nil {
		p.input.PackTrans(t.kernel.of(flat), wide)
	}
}

// A packedLSTM is an lstm on package gemm. It keeps x, h of the step before, and
// a 1 for the bias side by side, so that both the pre-activations of a step and
// the gradient of all weights are one product.
type packedLSTM struct {
	p         tensors
	pad       *padding
	w         *packedLSTMWeights
	in, units int
	steps     int
	sequences bool

	// xh is [steps+1][n][xs]: x at inAt, h at hAt, 1 behind it. The last step
	// has h only.
	xh        []float32
	inAt, hAt int
	xs        int
	z         []float32 // [steps][n][zs]: gate activations, after backward ∂L/∂z
	zs        int
	c, tc     []float32 // as in lstm
	h         []float32 // what the layer above sees: [steps][n][units] or [n][units]
	dh, dc    []float32 // as in lstm
}

func newPackedLSTM(p tensors, pad *padding, w *packedLSTMWeights, in, units, steps, rows int, sequences bool) *packedLSTM {
	state, seen := rows*units, rows*units
	if sequences {
		seen *= steps
	}
	l := &packedLSTM{p: p, pad: pad, w: w, in: in, units: units, steps: steps, sequences: sequences}
	l.hAt = ceilDiv(in, 16) * 16 // whole cache lines of h
	l.inAt = l.hAt - in
	l.xs, l.zs = rowStride(l.hAt+units+1), rowStride(gates*units)
	l.xh = make([]float32, (steps+1)*rows*l.xs)
	l.z = make([]float32, steps*rows*l.zs)
	l.c, l.tc = make([]float32, (steps+1)*state), make([]float32, steps*state)
	l.h, l.dh = make([]float32, seen), make([]float32, seen)
	l.dc = make([]float32, state)
	return l
}

// rowStride is n rounded up to whole cache lines and away from powers of two:
// lines a multiple of 1 KiB apart fall into few sets of an L1 cache, and a
// product reads a value from each of several rows at a time.
func rowStride(n int) int {
	s := ceilDiv(n, 16) * 16
	if s%128 == 0 {
		s += 16
	}
	return s
}

func (l *packedLSTM) stateLen() int { return 2 * l.units }

func (l *packedLSTM) begin(i int, state []float32) {
	h, c := halves(state)
	setState(l.xh[i*l.xs+l.hAt:][:l.units], h)
	setState(l.c[i*l.units:][:l.units], c)
}

func (l *packedLSTM) end(i, n int, state []float32) {
	h, c := halves(state)
	copy(h, l.xh[(l.steps*n+i)*l.xs+l.hAt:])
	copy(c, step(l.c, l.steps, n, l.units)[i*l.units:])
}

func (l *packedLSTM) forward(_ *weights, x []float32, n int) []float32 {
	all := l.steps * n
	for r := range all {
		row := l.xh[r*l.xs:][:l.xs]
		copy(row[l.inAt:l.hAt], x[r*l.in:])
		row[l.hAt+l.units] = 1
	}
	u := l.units
	for t := range l.steps {
		zt := l.zAt(t, n)
		l.w.forward.Mul(n, l.xh[t*n*l.xs+l.inAt:], l.xs, zt, l.zs, false)
		forwardGates(zt, l.zs, step(l.c, t, n, u), step(l.c, t+1, n, u), step(l.tc, t, n, u), l.xh[(t+1)*n*l.xs+l.hAt:], l.xs, u, n)
		l.pad.clear(step(l.c, t+1, n, u), u, u, t)
		l.pad.clear(l.xh[(t+1)*n*l.xs+l.hAt:], l.xs, u, t)
	}
	seen := l.xh[n*l.xs:]
	if !l.sequences {
		seen, all = l.xh[all*l.xs:], n
	}
	for r := range all {
		copy(l.h[r*u:(r+1)*u], seen[r*l.xs+l.hAt:])
	}
	return l.h[:all*u]
}

// zAt is z from step t.
func (l *packedLSTM) zAt(t, n int) []float32 { return l.z[t*n*l.zs:] }

func (l *packedLSTM) upstream(n int) []float32 {
	if l.sequences {
		return l.dh[:l.steps*n*l.units]
	}
	return l.dh[:n*l.units]
}

// gradientRows is how many rows of z the gradient's product takes at least: few
// enough that they are still in the second-level cache, where the backward pass
// left them, and enough to outweigh reading and writing the gradient.
const gradientRows = 200

func (l *packedLSTM) backward(_ *weights, grad, dx []float32, n int) {
	u := l.units
	clear(l.dc)
	dh := l.upstream(n)
	end := l.steps // of the steps that are not in grad yet
	for t := l.steps - 1; t >= 0; t-- {
		at, before := dh, dh
		if l.sequences {
			at, before = step(dh, t, n, u), step(dh, max(t-1, 0), n, u)
		}
		backwardGates(l.zAt(t, n), l.zs, step(l.c, t, n, u), step(l.tc, t, n, u), at, l.dc, u, n)
		l.pad.clear(l.zAt(t, n), l.zs, gates*u, t)
		if t > 0 {
			l.w.recurrent.Mul(n, l.zAt(t, n), l.zs, before, u, l.sequences)
		}
		if t == 0 || (end-t)*n >= gradientRows {
			gemm.TransMul(l.in+u+1, gates*u, (end-t)*n, l.xh[t*n*l.xs+l.inAt:], l.xs, l.zAt(t, n), l.zs, l.p.whole().of(grad), gates*u, end < l.steps)
			end = t
		}
	}
	if dx != nil {
		l.w.input.Mul(l.steps*n, l.z, l.zs, dx, l.in, false)
	}
}
