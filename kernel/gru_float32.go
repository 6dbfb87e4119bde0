package kernel

// gruFloat32 is a GRU layer of a float32 model, packed for the generic tier as
// lstmFloat32 is.
type gruFloat32 struct {
	units, in     int
	bias          [][gruGates]float32 // the input's
	recurrentBias [][gruGates]float32
	w             [][2][gruGates]float32 // [unit][in/2][2 k]
	u             [][2][gruGates]float32 // [unit][units/2][2 k]
}

func packGRUFloat32(l *LayerWeights, in, units int) *gruFloat32 {
	p := &gruFloat32{
		units: units, in: in, bias: make([][gruGates]float32, units), recurrentBias: make([][gruGates]float32, units),
		w: packGRUGates(l.Kernel, in, units), u: packGRUGates(l.Recurrent, units, units),
	}
	for u := range units {
		for g := range gruGates {
			p.bias[u][g], p.recurrentBias[u][g] = l.Bias[g*units+u], l.Bias[(gruGates+g)*units+u]
		}
	}
	return p
}

// packGRUGates packs a kernel of in rows and gruGates·units columns.
func packGRUGates(w []float32, in, units int) [][2][gruGates]float32 {
	pairs := (in + 1) / 2
	p := make([][2][gruGates]float32, units*pairs)
	for k := range in {
		for u := range units {
			for g := range gruGates {
				p[u*pairs+k/2][k%2][g] = w[(k*gruGates+g)*units+u]
			}
		}
	}
	return p
}

// step advances s by one input x.
func (l *gruFloat32) step(s *layerState, x [][2]float32) {
	for u := range l.units {
		in, rec := l.bias[u], l.recurrentBias[u]
		addGRUProduct(&in, l.w[u*len(x):][:len(x)], x)
		addGRUProduct(&rec, l.u[u*len(s.p):][:len(s.p)], s.p)
		h := gruCell(in[gateZ], in[gateR], in[gateH], rec[gateZ], rec[gateR], rec[gateH], s.p[u/2][u%2])
		s.h.put(u, h)
		s.pNext[u/2][u%2] = h
	}
	s.p, s.pNext = s.pNext, s.p
}

// addGRUProduct adds w·x to z.
func addGRUProduct(z *[gruGates]float32, w [][2][gruGates]float32, x [][2]float32) {
	w = w[:len(x)]
	var zs, rs, hs float32
	for n := range x {
		p := &w[n]
		a, b := x[n][0], x[n][1]
		zs += p[0][gateZ]*a + p[1][gateZ]*b
		rs += p[0][gateR]*a + p[1][gateR]*b
		hs += p[0][gateH]*a + p[1][gateH]*b
	}
	z[gateZ] += zs
	z[gateR] += rs
	z[gateH] += hs
}
