package bptt

import "github.com/sandpiper-edge/sandpiper/kernel/bptt/gemm"

// packedGRUWeights are a GRU layer's weights as gemm wants its right operands.
// The rows of its parameters are [W; b; c; U], b being the bias of the input's
// product and c that of the recurrent one (see layout), and its columns z, r, h.
type packedGRUWeights struct {
	gates     *gemm.Packed // columns z and r of all rows
	input     *gemm.Packed // column h of [W; b]
	recurrent *gemm.Packed // column h of [c; U]

	recurrentT *gemm.Packed // Uᵀ: 3·units×units
	// Wᵀ of z and r, and of h; nil in the first layer.
	gatesT, candidateT *gemm.Packed
}

func newPackedGRUWeights(in, units int, first bool) *packedGRUWeights {
	p := &packedGRUWeights{
		gates:      gemm.NewPacked(in+2+units, gruA*units),
		input:      gemm.NewPacked(in+1, units),
		recurrent:  gemm.NewPacked(1+units, units),
		recurrentT: gemm.NewPacked(gruGates*units, units),
	}
	if !first {
		p.gatesT, p.candidateT = gemm.NewPacked(gruA*units, in), gemm.NewPacked(units, in)
	}
	return p
}

func (p *packedGRUWeights) pack(flat []float32, t tensors, units int, backward bool) {
	wide, candidate := gruGates*units, gruA*units
	if !backward {
		rows := t.whole().of(flat)
		p.gates.Pack(rows, wide)
		p.input.Pack(rows[candidate:], wide)
		p.recurrent.Pack(rows[t.bias.lo-t.kernel.lo+wide+candidate:], wide)
		return
	}
	p.recurrentT.PackTrans(t.recurrent.of(flat), wide)
	if p.gatesT != nil {
		p.gatesT.PackTrans(t.kernel.of(flat), wide)
		p.candidateT.PackTrans(t.kernel.of(flat)[candidate:], wide)
	}
}

// A packedGRU is a gru on package gemm. As packedLSTM it keeps what multiplies
// its weights side by side: x, a 1 for each bias, h of the step before.
type packedGRU struct {
	p         tensors
	pad       *padding
	w         *packedGRUWeights
	in, units int
	steps     int
	sequences bool

	// xh is [steps+1][n][xs]: x at inAt, 1 twice, h at hAt. The last step has h
	// only.
	xh              []float32
	inAt, hAt       int
	xs              int
	z               []float32 // [steps][n][zs], columns as in gru
	zs              int
	h               []float32 // what the layer above sees: [steps][n][units] or [n][units]
	dh, carry, zero []float32 // as in gru
}

func newPackedGRU(p tensors, pad *padding, w *packedGRUWeights, in, units, steps, rows int, sequences bool) *packedGRU {
	state, seen := rows*units, rows*units
	if sequences {
		seen *= steps
	}
	l := &packedGRU{p: p, pad: pad, w: w, in: in, units: units, steps: steps, sequences: sequences}
	l.hAt = ceilDiv(in+2, 16) * 16 // whole cache lines of h
	l.inAt = l.hAt - 2 - in
	l.xs, l.zs = rowStride(l.hAt+units), rowStride(gruCols*units)
	l.xh = make([]float32, (steps+1)*rows*l.xs)
	l.z = make([]float32, steps*rows*l.zs)
	l.h, l.dh = make([]float32, seen), make([]float32, seen)
	l.carry, l.zero = make([]float32, state), make([]float32, state)
	return l
}

func (l *packedGRU) stateLen() int { return l.units }

func (l *packedGRU) begin(i int, state []float32) {
	setState(l.xh[i*l.xs+l.hAt:][:l.units], state)
}

func (l *packedGRU) end(i, n int, state []float32) {
	copy(state, l.xh[(l.steps*n+i)*l.xs+l.hAt:][:l.units])
}

func (l *packedGRU) forward(_ *weights, x []float32, n int) []float32 {
	all := l.steps * n
	for r := range all {
		row := l.xh[r*l.xs:][:l.hAt]
		copy(row[l.inAt:], x[r*l.in:(r+1)*l.in])
		row[l.hAt-2], row[l.hAt-1] = 1, 1
	}
	u := l.units
	for t := range l.steps {
		z, row := l.zAt(t, n), l.xh[t*n*l.xs:]
		l.w.gates.Mul(n, row[l.inAt:], l.xs, z, l.zs, false)
		l.w.input.Mul(n, row[l.inAt:], l.xs, z[gruG*u:], l.zs, false)
		l.w.recurrent.Mul(n, row[l.hAt-1:], l.xs, z[gruA*u:], l.zs, false)
		forwardGRU(z, l.zs, row[l.hAt:], row[n*l.xs+l.hAt:], l.xs, u, n)
		l.pad.clear(row[n*l.xs+l.hAt:], l.xs, u, t)
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
func (l *packedGRU) zAt(t, n int) []float32 { return l.z[t*n*l.zs:] }

func (l *packedGRU) upstream(n int) []float32 {
	if l.sequences {
		return l.dh[:l.steps*n*l.units]
	}
	return l.dh[:n*l.units]
}

func (l *packedGRU) backward(_ *weights, grad, dx []float32, n int) {
	u, carry := l.units, l.carry[:n*l.units]
	startCarry(carry, l.upstream(n), l.sequences)
	end := l.steps // of the steps that are not in grad yet
	for t := l.steps - 1; t >= 0; t-- {
		dh := l.zero
		if l.sequences {
			dh = step(l.dh, t, n, u)
		}
		backwardGRU(l.zAt(t, n), l.zs, l.xh[t*n*l.xs+l.hAt:], l.xs, dh, carry, u, n)
		l.pad.clear(l.zAt(t, n), l.zs, gruCols*u, t)
		if t > 0 {
			l.w.recurrentT.Mul(n, l.zAt(t, n), l.zs, carry, u, true)
		}
		if t == 0 || (end-t)*n >= gradientRows {
			l.gradient(grad, t, end, n)
			end = t
		}
	}
	if dx != nil {
		l.w.gatesT.Mul(l.steps*n, l.z, l.zs, dx, l.in, false)
		l.w.candidateT.Mul(l.steps*n, l.z[gruG*u:], l.zs, dx, l.in, true)
	}
}

// gradient adds that of steps lo to hi to grad, or sets it if they are the last.
func (l *packedGRU) gradient(grad []float32, lo, hi, n int) {
	u, wide, add := l.units, gruGates*l.units, hi < l.steps
	rows, row, z := (hi-lo)*n, l.xh[lo*n*l.xs:], l.zAt(lo, n)
	g := l.p.whole().of(grad)
	gemm.TransMul(l.in+2+u, gruA*u, rows, row[l.inAt:], l.xs, z, l.zs, g, wide, add)
	gemm.TransMul(l.in+1, u, rows, row[l.inAt:], l.xs, z[gruG*u:], l.zs, g[gruA*u:], wide, add)
	gemm.TransMul(1+u, u, rows, row[l.hAt-1:], l.xs, z[gruA*u:], l.zs, g[(l.in+1)*wide+gruA*u:], wide, add)
}
