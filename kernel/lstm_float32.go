package kernel

// lstmFloat32 is an LSTM layer of a float32 model, packed for the generic tier:
// a unit's four gates side by side, two successive k together, in the order
// they are read. The sums may be fused and are in no fixed order: float32
// models carry a tolerance, not the promise of equal bits.
type lstmFloat32 struct {
	units, in int
	bias      [][gates]float32
	w         [][2][gates]float32 // [unit][in/2][2 k]
	u         [][2][gates]float32 // [unit][units/2][2 k]
}

func packLSTMFloat32(l *LayerWeights, in, units int) *lstmFloat32 {
	p := &lstmFloat32{
		units: units, in: in, bias: make([][gates]float32, units),
		w: packGates(l.Kernel, in, units), u: packGates(l.Recurrent, units, units),
	}
	for u := range units {
		for g := range gates {
			p.bias[u][g] = l.Bias[g*units+u]
		}
	}
	return p
}

// packGates packs a kernel of in rows and gates·units columns.
func packGates(w []float32, in, units int) [][2][gates]float32 {
	pairs := (in + 1) / 2
	p := make([][2][gates]float32, units*pairs)
	for k := range in {
		for u := range units {
			for g := range gates {
				p[u*pairs+k/2][k%2][g] = w[(k*gates+g)*units+u]
			}
		}
	}
	return p
}

// step advances s by one input x.
func (l *lstmFloat32) step(s *layerState, x [][2]float32) {
	for u := range l.units {
		z := l.bias[u]
		addProduct(&z, l.w[u*len(x):][:len(x)], x)
		addProduct(&z, l.u[u*len(s.p):][:len(s.p)], s.p)
		c := &s.c[u/2][u%2]
		var h float32
		*c, h = cell(z[gateI], z[gateF], z[gateC], z[gateO], *c)
		s.h[u/16][u/4%4][u%4] = h
		s.pNext[u/2][u%2] = h
	}
	s.p, s.pNext = s.pNext, s.p
}

// addProduct adds w·x to z.
func addProduct(z *[gates]float32, w [][2][gates]float32, x [][2]float32) {
	w = w[:len(x)]
	var i, f, c, o float32
	for n := range x {
		p := &w[n]
		a, b := x[n][0], x[n][1]
		i += p[0][gateI]*a + p[1][gateI]*b
		f += p[0][gateF]*a + p[1][gateF]*b
		c += p[0][gateC]*a + p[1][gateC]*b
		o += p[0][gateO]*a + p[1][gateO]*b
	}
	z[gateI] += i
	z[gateF] += f
	z[gateC] += c
	z[gateO] += o
}
