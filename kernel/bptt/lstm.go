package bptt

// An lstm is one LSTM layer of a worker: its activations and their gradients, for
// the rows windows that a shard has at most.
//
// Buffers are indexed by step, window, unit; with n ≤ rows windows at hand a
// step takes n rows of them.
type lstm struct {
	p         tensors // where the weights are
	pad       *padding
	in, units int
	steps     int
	sequences bool

	x []float32 // the input, not ours: [steps][n][in]
	z []float32 // [steps][n][4·units]: gate activations, after backward ∂L/∂z
	// c and h are [steps+1][n][units], from the state before the first step.
	c, h []float32
	tc   []float32 // [steps][n][units], tanh(c) after each step
	// dh is ∂L/∂h: [steps][n][units] if the layer above sees every step,
	// [n][units] of the current step if it sees the last one only.
	dh []float32
	dc []float32 // [n][units], ∂L/∂c of the current step
}

func newLSTM(p tensors, pad *padding, in, units, steps, rows int, sequences bool) *lstm {
	state := rows * units
	l := &lstm{
		p: p, pad: pad, in: in, units: units, steps: steps, sequences: sequences,
		z: make([]float32, steps*gates*state),
		c: make([]float32, (steps+1)*state), h: make([]float32, (steps+1)*state), tc: make([]float32, steps*state),
		dh: make([]float32, state), dc: make([]float32, state),
	}
	if sequences {
		l.dh = make([]float32, steps*state)
	}
	return l
}

// step is the part of a buffer that holds step t of n windows of width values.
func step(buf []float32, t, n, width int) []float32 {
	return buf[t*n*width : (t+1)*n*width]
}

func (l *lstm) stateLen() int { return 2 * l.units }

func (l *lstm) begin(i int, state []float32) {
	h, c := halves(state)
	setState(l.h[i*l.units:][:l.units], h)
	setState(l.c[i*l.units:][:l.units], c)
}

func (l *lstm) end(i, n int, state []float32) {
	h, c := halves(state)
	copy(h, step(l.h, l.steps, n, l.units)[i*l.units:])
	copy(c, step(l.c, l.steps, n, l.units)[i*l.units:])
}

// halves are the hidden and the cell state in an LSTM's state, nil for nil.
func halves(state []float32) (h, c []float32) {
	return state[:len(state)/2], state[len(state)/2:]
}

// forward runs n windows and returns the hidden states that the layer above
// sees.
func (l *lstm) forward(w *weights, x []float32, n int) []float32 {
	l.x = x
	u, wide := l.units, gates*l.units
	z := mat(l.steps*n, wide, l.z)
	fillRows(z, l.p.bias.of(w.flat))
	mul(mat(l.steps*n, l.in, x), mat(l.in, wide, l.p.kernel.of(w.flat)), z)

	recurrent := mat(u, wide, l.p.recurrent.of(w.flat))
	for t := range l.steps {
		zt := step(l.z, t, n, wide)
		mul(mat(n, u, step(l.h, t, n, u)), recurrent, mat(n, wide, zt))
		gatesForward(zt, step(l.c, t, n, u), step(l.c, t+1, n, u), step(l.tc, t, n, u), step(l.h, t+1, n, u), u)
		l.pad.clear(step(l.c, t+1, n, u), u, u, t)
		l.pad.clear(step(l.h, t+1, n, u), u, u, t)
	}
	if l.sequences {
		return l.h[n*u : (l.steps+1)*n*u]
	}
	return step(l.h, l.steps, n, u)
}

// gatesForward turns the pre-activations z of one step into activations and
// computes c = f·c₀ + i·g, tc = tanh(c), h = o·tc, window by window.
func gatesForward(z, c0, c, tc, h []float32, u int) {
	for ; len(h) > 0; z, c0, c, tc, h = z[gates*u:], c0[u:], c[u:], tc[u:], h[u:] {
		sigmoid(z[:gateC*u])
		tanh(z[gateC*u : gateO*u])
		sigmoid(z[gateO*u : gates*u])
		i, f, g, o := z[:u], z[gateF*u:][:u], z[gateC*u:][:u], z[gateO*u:][:u]
		c0, c, tc, h := c0[:u], c[:u], tc[:u], h[:u]
		for k := range i {
			c[k] = f[k]*c0[k] + i[k]*g[k]
		}
		copy(tc, c)
		tanh(tc)
		for k := range o {
			h[k] = o[k] * tc[k]
		}
	}
}

// gatesBackward turns the activations z of one step into ∂L/∂z, given ∂L/∂h,
// and turns dc from ∂L/∂c of the step after into that of the step before, by
//
//	∂c += ∂h·o·(1−tc²)   ∂o = ∂h·tc   ∂i = ∂c·g   ∂g = ∂c·i   ∂f = ∂c·c₀   ∂c₀ = ∂c·f
//
// and σ' = σ·(1−σ), tanh' = 1−tanh².
func gatesBackward(z, c0, tc, dh, dc []float32, u int) {
	for ; len(dh) > 0; z, c0, tc, dh, dc = z[gates*u:], c0[u:], tc[u:], dh[u:], dc[u:] {
		zi, zf, zg, zo := z[:u], z[gateF*u:][:u], z[gateC*u:][:u], z[gateO*u:][:u]
		c0, tc, dh, dc := c0[:u], tc[:u], dh[:u], dc[:u]
		for k := range zi {
			i, f, g, o, t := zi[k], zf[k], zg[k], zo[k], tc[k]
			d := dc[k] + dh[k]*o*(1-t*t)
			zi[k] = d * g * i * (1 - i)
			zf[k] = d * c0[k] * f * (1 - f)
			zg[k] = d * i * (1 - g*g)
			zo[k] = dh[k] * t * o * (1 - o)
			dc[k] = d * f
		}
	}
}

// upstream is where the layer above leaves ∂L/∂h of what it saw.
func (l *lstm) upstream(n int) []float32 {
	if l.sequences {
		return l.dh[:l.steps*n*l.units]
	}
	return l.dh[:n*l.units]
}

// backward takes ∂L/∂h from upstream, sets the layer's part of grad, and dx to
// ∂L/∂x unless it is nil.
func (l *lstm) backward(w *weights, grad, dx []float32, n int) {
	u, wide := l.units, gates*l.units
	recurrentT := mat(wide, u, l.p.recurrent.of(w.transposed))
	clear(l.dc)
	for t := l.steps - 1; t >= 0; t-- {
		zt := step(l.z, t, n, wide)
		gatesBackward(zt, step(l.c, t, n, u), step(l.tc, t, n, u), l.dhAt(t, n), l.dc, u)
		l.pad.clear(zt, wide, wide, t)
		if t > 0 {
			dh := l.dhAt(t-1, n)
			if !l.sequences {
				clear(dh)
			}
			mul(mat(n, wide, zt), recurrentT, mat(n, u, dh))
		}
	}

	all := l.steps * n
	dz := mat(all, wide, l.z)
	mulT(mat(all, u, l.h), dz, mat(u, wide, l.p.recurrent.of(grad)))
	mulT(mat(all, l.in, l.x), dz, mat(l.in, wide, l.p.kernel.of(grad)))
	sumRows(l.p.bias.of(grad), dz)
	if dx != nil {
		clear(dx)
		mul(dz, mat(wide, l.in, l.p.kernel.of(w.transposed)), mat(all, l.in, dx))
	}
}

func (l *lstm) dhAt(t, n int) []float32 {
	if l.sequences {
		return step(l.dh, t, n, l.units)
	}
	return l.dh[:n*l.units]
}
