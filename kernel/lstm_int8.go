package kernel

// lstmInt8 is an LSTM layer of an int8 model, packed for the generic tier.
//
// Plain Go has no vector instructions, so two int8 weights share one float64,
// the second times 2²⁶: a multiply and an add then advance two sums at once.
// Both sums stay below 2²⁴ (1024·127²) and the whole below 2⁵¹, so every
// operation is exact and may be reordered or fused. Two sums in an int64 take
// twice the time on amd64 and four times on 32-bit ports, where a plain loop
// over int8 also loses (docs/kernel.md).
//
// A block is two units, hence four float64 sums, i|f and c|o of each: together
// with their products that is what fits in 15 registers. Weights lie in the
// order they are read: [block][k/2][2 k][i0|f0, c0|o0, i1|f1, c1|o1]. An odd
// unit or k is padded with zeros, which add nothing.
type lstmInt8 struct {
	units, in int
	bias      []blockSums
	w         [][2][gates]float32 // first layer: [block][feature][unit], dequantized
	wq        []wordPair          // later layers: [block][in/2]
	kw        []blockSums         // later layers: the input kernel's scales over 127
	u         []wordPair          // [block][units/2]
	ku        []blockSums         // the recurrent kernel's scales over 127
}

// blockSums holds a value for each gate of a block's two units.
type blockSums [2][gates]float32

// wordPair holds a block's four words for two successive k.
type wordPair [2][4]float64

// half is the weight of a word's second number.
const half = 1 << 26

// hiddenScale is the fixed scale of an int8 hidden state.
const hiddenScale = 127

// packLSTMInt8 packs l, whose columns are gates·units wide. first tells the
// layer that reads the model's input.
func packLSTMInt8(l *QuantLayer, in, units int, first bool) *lstmInt8 {
	n := (units + 1) / 2
	p := &lstmInt8{
		units: units, in: in, bias: packColumns(l.Bias, units, 1), ku: packColumns(l.RecurrentScale, units, hiddenScale),
		u: packWords(l.Recurrent, units, units),
	}
	if !first {
		p.kw = packColumns(l.KernelScale, units, hiddenScale)
		p.wq = packWords(l.Kernel, in, units)
		return p
	}
	p.w = make([][2][gates]float32, n*in)
	for f := range in {
		for u := range units {
			for g := range gates {
				j := g*units + u
				p.w[u/2*in+f][u%2][g] = float32(l.Kernel[f*gates*units+j]) * l.KernelScale[j]
			}
		}
	}
	return p
}

// packColumns arranges a value for each gate and unit in blocks, divided by d.
func packColumns(v []float32, units int, d float32) []blockSums {
	b := make([]blockSums, (units+1)/2)
	for u := range units {
		for g := range gates {
			b[u/2][u%2][g] = v[g*units+u] / d
		}
	}
	return b
}

// packWords packs an int8 kernel of in rows and gates·units columns.
func packWords(q []int8, in, units int) []wordPair {
	pairs := (in + 1) / 2
	w := make([]wordPair, (units+1)/2*pairs)
	for k := range in {
		row := q[k*gates*units:][:gates*units]
		for u := range units {
			words := &w[u/2*pairs+k/2][k%2]
			words[u%2*2] = float64(row[gateI*units+u]) + half*float64(row[gateF*units+u])
			words[u%2*2+1] = float64(row[gateC*units+u]) + half*float64(row[gateO*units+u])
		}
	}
	return w
}

// step advances s by one input: x for the first layer, xq, the hidden state
// of the layer below, for later ones.
func (l *lstmInt8) step(s *layerState, x []float32, xq [][2]float64) {
	for b := range l.bias {
		z := l.bias[b]
		if l.wq == nil {
			addInput(&z, l.w[b*l.in:][:l.in], x)
		} else {
			addWords(&z, l.wq[b*len(xq):][:len(xq)], xq, &l.kw[b])
		}
		addWords(&z, l.u[b*len(s.q):][:len(s.q)], s.q, &l.ku[b])
		c := &s.c[b]
		var h [2]float32
		c[0], h[0] = cell(z[0][gateI], z[0][gateF], z[0][gateC], z[0][gateO], c[0])
		c[1], h[1] = cell(z[1][gateI], z[1][gateF], z[1][gateC], z[1][gateO], c[1])
		s.h.set(2*b, h[0], h[1])
		s.qNext[b] = [2]float64{float64(quantizeHidden(h[0])), float64(quantizeHidden(h[1]))}
	}
	s.q, s.qNext = s.qNext, s.q
}

// addInput adds w·x to z, features ascending, every operation rounded.
func addInput(z *blockSums, w [][2][gates]float32, x []float32) {
	w = w[:len(x)]
	i, f, c, o := z[0][gateI], z[0][gateF], z[0][gateC], z[0][gateO]
	for n, v := range x {
		p := &w[n][0]
		i += float32(p[gateI] * v)
		f += float32(p[gateF] * v)
		c += float32(p[gateC] * v)
		o += float32(p[gateO] * v)
	}
	z[0] = [gates]float32{i, f, c, o}
	i, f, c, o = z[1][gateI], z[1][gateF], z[1][gateC], z[1][gateO]
	for n, v := range x {
		p := &w[n][1]
		i += float32(p[gateI] * v)
		f += float32(p[gateF] * v)
		c += float32(p[gateC] * v)
		o += float32(p[gateO] * v)
	}
	z[1] = [gates]float32{i, f, c, o}
}

// addWords adds to z the int8 product w·q, scaled by k.
func addWords(z *blockSums, w []wordPair, q [][2]float64, k *blockSums) {
	w = w[:len(q)]
	var if0, co0, if1, co1 float64
	for n := range q {
		p := &w[n]
		a, b := q[n][0], q[n][1]
		if0 += p[0][0]*a + p[1][0]*b
		co0 += p[0][1]*a + p[1][1]*b
		if1 += p[0][2]*a + p[1][2]*b
		co1 += p[0][3]*a + p[1][3]*b
	}
	addWord(&z[0][gateI], &z[0][gateF], if0, k[0][gateI], k[0][gateF])
	addWord(&z[0][gateC], &z[0][gateO], co0, k[0][gateC], k[0][gateO])
	addWord(&z[1][gateI], &z[1][gateF], if1, k[1][gateI], k[1][gateF])
	addWord(&z[1][gateC], &z[1][gateO], co1, k[1][gateC], k[1][gateO])
}

// addWord splits a word into its two sums and adds them to z0 and z1. The
// first sum is under a quarter of half, so rounding word/half to an integer,
// by adding 1.5·2⁵² as in roundEven, gives the second.
func addWord(z0, z1 *float32, word float64, k0, k1 float32) {
	const magic = 3 << 51
	second := float64(word*(1.0/half)+magic) - magic
	*z0 += float32(float32(word-second*half) * k0)
	*z1 += float32(float32(second) * k1)
}
