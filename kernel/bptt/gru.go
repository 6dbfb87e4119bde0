package bptt

// Columns of units values in a row of a GRU's gate buffer. z and r are the gates
// of Keras's order; the candidate's two sums lie apart, since r multiplies one of
// them (reset_after), the recurrent one right behind z and r: U's product is one.
const (
	gruZ = iota
	gruR
	gruA // h₀·Uh + its bias
	gruG // x·Wh + its bias, then the candidate tanh(that + r·a)
	gruCols
)

// gruGates is the number of gates of a GRU: z, r, h, as in kernel.LayerWeights.
const gruGates = 3

// gruForward turns the pre-activations z of one step into activations and
// computes h = z·h₀ + (1−z)·g, window by window; hs values apart in h₀ and h.
func gruForward(z []float32, zs int, h0, h []float32, hs, u, n int) {
	for i := range n {
		row := z[i*zs:][:gruCols*u]
		sigmoid(row[:gruA*u])
		zi, r, a, g := row[:u], row[gruR*u:][:u], row[gruA*u:][:u], row[gruG*u:][:u]
		for k := range g {
			g[k] += r[k] * a[k]
		}
		tanh(g)
		h0, h := h0[i*hs:][:u], h[i*hs:][:u]
		for k, c := range g {
			h[k] = c + zi[k]*(h0[k]-c)
		}
	}
}

// gruBackward turns the activations z of one step into ∂L/∂ of the
// pre-activations and of a, and carry from the part of ∂L/∂h that the step after
// adds to dh into z's part of ∂L/∂h₀, by
//
//	∂z = ∂h·(h₀−g)   ∂g = ∂h·(1−z)   ∂r = ∂g'·a   ∂a = ∂g'·r   ∂h₀ = ∂h·z
//
// with ∂g' = ∂g·(1−g²) and σ' = σ·(1−σ). The rest of ∂L/∂h₀ is [∂z, ∂r, ∂a]·Uᵀ.
func gruBackward(z []float32, zs int, h0 []float32, hs int, dh, carry []float32, u, n int) {
	for i := range n {
		row, h0 := z[i*zs:][:gruCols*u], h0[i*hs:][:u]
		zz, zr, za, zg := row[:u], row[gruR*u:][:u], row[gruA*u:][:u], row[gruG*u:][:u]
		dh, carry := dh[i*u:][:u], carry[i*u:][:u]
		for k := range dh {
			z, r, a, g := zz[k], zr[k], za[k], zg[k]
			d := dh[k] + carry[k]
			dg := d * (1 - z) * (1 - g*g)
			zz[k] = d * (h0[k] - g) * z * (1 - z)
			zr[k] = dg * a * r * (1 - r)
			za[k] = dg * r
			zg[k] = dg
			carry[k] = d * z
		}
	}
}

// A gru is one GRU layer of a worker; its buffers are as in lstm.
type gru struct {
	p         tensors
	pad       *padding
	in, units int
	steps     int
	sequences bool

	x     []float32 // the input, not ours: [steps][n][in]
	z     []float32 // [steps][n][gruCols·units], after backward the gradients
	h     []float32 // [steps+1][n][units], from the state before the first step
	bias  []float32 // [gruCols·units], those of z and r summed
	dh    []float32 // ∂L/∂h that the layer above leaves: [steps][n][units] or [n][units]
	carry []float32 // [n][units], what the step after adds to it
	zero  []float32 // [n][units]
}

func newGRU(p tensors, pad *padding, in, units, steps, rows int, sequences bool) *gru {
	state := rows * units
	l := &gru{
		p: p, pad: pad, in: in, units: units, steps: steps, sequences: sequences,
		z: make([]float32, steps*gruCols*state), h: make([]float32, (steps+1)*state),
		bias: make([]float32, gruCols*units),
		dh:   make([]float32, state), carry: make([]float32, state), zero: make([]float32, state),
	}
	if sequences {
		l.dh = make([]float32, steps*state)
	}
	return l
}

func (l *gru) stateLen() int { return l.units }

func (l *gru) begin(i int, state []float32) {
	setState(l.h[i*l.units:][:l.units], state)
}

func (l *gru) end(i, n int, state []float32) {
	copy(state, step(l.h, l.steps, n, l.units)[i*l.units:][:l.units])
}

func (l *gru) forward(w *weights, x []float32, n int) []float32 {
	l.x = x
	u, wide, all := l.units, gruCols*l.units, l.steps*n
	b := l.p.bias.of(w.flat)
	copy(l.bias, b[gruGates*u:])
	copy(l.bias[gruG*u:], b[2*u:gruGates*u])
	addTo(l.bias[:gruA*u], b[:gruA*u])
	z := mat(all, wide, l.z)
	fillRows(z, l.bias)
	input, kernel := mat(all, l.in, x), mat(l.in, gruGates*u, l.p.kernel.of(w.flat))
	mul(input, view(kernel, 0, 0, l.in, gruA*u), view(z, 0, 0, all, gruA*u))
	mul(input, view(kernel, 0, gruA*u, l.in, u), view(z, 0, gruG*u, all, u))

	recurrent := mat(u, gruGates*u, l.p.recurrent.of(w.flat))
	for t := range l.steps {
		h0 := step(l.h, t, n, u)
		mul(mat(n, u, h0), recurrent, view(z, t*n, 0, n, gruGates*u))
		forwardGRU(step(l.z, t, n, wide), wide, h0, step(l.h, t+1, n, u), u, u, n)
		l.pad.clear(step(l.h, t+1, n, u), u, u, t)
	}
	if l.sequences {
		return l.h[n*u : (l.steps+1)*n*u]
	}
	return step(l.h, l.steps, n, u)
}

func (l *gru) upstream(n int) []float32 {
	if l.sequences {
		return l.dh[:l.steps*n*l.units]
	}
	return l.dh[:n*l.units]
}

func (l *gru) backward(w *weights, grad, dx []float32, n int) {
	u, wide, all := l.units, gruCols*l.units, l.steps*n
	z := mat(all, wide, l.z)
	recurrentT := mat(gruGates*u, u, l.p.recurrent.of(w.transposed))
	carry := l.carry[:n*u]
	startCarry(carry, l.upstream(n), l.sequences)
	for t := l.steps - 1; t >= 0; t-- {
		dh := l.zero
		if l.sequences {
			dh = step(l.dh, t, n, u)
		}
		backwardGRU(step(l.z, t, n, wide), wide, step(l.h, t, n, u), u, dh, carry, u, n)
		l.pad.clear(step(l.z, t, n, wide), wide, wide, t)
		if t > 0 {
			mul(view(z, t*n, 0, n, gruGates*u), recurrentT, mat(n, u, carry))
		}
	}

	recurrentSide := view(z, 0, 0, all, gruGates*u) // ∂z, ∂r, ∂a
	gates, candidate := view(z, 0, 0, all, gruA*u), view(z, 0, gruG*u, all, u)
	mulT(mat(all, u, l.h), recurrentSide, mat(u, gruGates*u, l.p.recurrent.of(grad)))
	input, kernel := mat(all, l.in, l.x), mat(l.in, gruGates*u, l.p.kernel.of(grad))
	mulT(input, gates, view(kernel, 0, 0, l.in, gruA*u))
	mulT(input, candidate, view(kernel, 0, gruA*u, l.in, u))
	b := l.p.bias.of(grad)
	sumRows(b[:gruA*u], gates)
	sumRows(b[gruA*u:gruGates*u], candidate)
	sumRows(b[gruGates*u:], recurrentSide)
	if dx != nil {
		clear(dx)
		kernelT := mat(gruGates*u, l.in, l.p.kernel.of(w.transposed))
		mul(gates, view(kernelT, 0, 0, gruA*u, l.in), mat(all, l.in, dx))
		mul(candidate, view(kernelT, gruA*u, 0, u, l.in), mat(all, l.in, dx))
	}
}

// startCarry sets what flows into the last step: nothing if the layer above sees
// every step, and then leaves its part with each, or else that part.
func startCarry(carry, dh []float32, sequences bool) {
	if sequences {
		clear(carry)
		return
	}
	copy(carry, dh)
}
