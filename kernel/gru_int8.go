package kernel

// gruInt8 is a GRU layer of an int8 model, packed for the generic tier as
// lstmInt8 is: two weights in a float64.
//
// The two are those of one gate of a block's two units, so a block is three
// sums: [block][k/2][2 k][z0|z1, r0|r1, h0|h1]. The sums of input and hidden
// state stay apart, as the reset gate comes between them.
type gruInt8 struct {
	units, in     int
	bias          []gruSums  // the input's
	w             []gruSums  // first layer: [block][feature], dequantized
	wq            []gruWords // later layers: [block][in/2]
	kw            []gruSums  // later layers: the input kernel's scales over 127
	recurrentBias []gruSums
	u             []gruWords // [block][units/2]
	ku            []gruSums  // the recurrent kernel's scales over 127
}

// gruSums holds a value for each gate of a block's two units.
type gruSums [gruGates][2]float32

// gruWords holds a block's three words for two successive k.
type gruWords [2][gruGates]float64

// packGRUInt8 packs l, whose columns are gruGates·units wide. first tells the
// layer that reads the model's input.
func packGRUInt8(l *QuantLayer, in, units int, first bool) *gruInt8 {
	columns := gruGates * units
	p := &gruInt8{
		units: units, in: in, bias: packGRUColumns(l.Bias[:columns], units, 1),
		recurrentBias: packGRUColumns(l.Bias[columns:], units, 1),
		u:             packGRUWords(l.Recurrent, units, units), ku: packGRUColumns(l.RecurrentScale, units, hiddenScale),
	}
	if !first {
		p.wq, p.kw = packGRUWords(l.Kernel, in, units), packGRUColumns(l.KernelScale, units, hiddenScale)
		return p
	}
	p.w = make([]gruSums, (units+1)/2*in)
	for f := range in {
		for j, q := range l.Kernel[f*columns:][:columns] {
			g, u := j/units, j%units
			p.w[u/2*in+f][g][u%2] = float32(q) * l.KernelScale[j]
		}
	}
	return p
}

// packGRUColumns arranges a value for each gate and unit in blocks, divided by d.
func packGRUColumns(v []float32, units int, d float32) []gruSums {
	b := make([]gruSums, (units+1)/2)
	for j, x := range v {
		g, u := j/units, j%units
		b[u/2][g][u%2] = x / d
	}
	return b
}

// packGRUWords packs an int8 kernel of in rows and gruGates·units columns.
func packGRUWords(q []int8, in, units int) []gruWords {
	pairs := (in + 1) / 2
	w := make([]gruWords, (units+1)/2*pairs)
	for k := range in {
		row := q[k*gruGates*units:][:gruGates*units]
		for j, v := range row {
			g, u := j/units, j%units
			word := &w[u/2*pairs+k/2][k%2][g]
			if u%2 == 0 {
				*word += float64(v)
			} else {
				*word += half * float64(v)
			}
		}
	}
	return w
}

// step advances s by one input: x for the first layer, xq, the hidden state
// of the layer below, for later ones.
func (l *gruInt8) step(s *layerState, x []float32, xq [][2]float64) {
	for b := range l.bias {
		in, rec := l.bias[b], l.recurrentBias[b]
		if l.wq == nil {
			addGRUInput(&in, l.w[b*l.in:][:l.in], x)
		} else {
			addGRUWords(&in, l.wq[b*len(xq):][:len(xq)], xq, &l.kw[b])
		}
		addGRUWords(&rec, l.u[b*len(s.q):][:len(s.q)], s.q, &l.ku[b])
		h := &s.h[b/8][b/2%4]
		at := b % 2 * 2
		h[at] = gruCell(in[gateZ][0], in[gateR][0], in[gateH][0], rec[gateZ][0], rec[gateR][0], rec[gateH][0], h[at])
		h[at+1] = gruCell(in[gateZ][1], in[gateR][1], in[gateH][1], rec[gateZ][1], rec[gateR][1], rec[gateH][1], h[at+1])
		s.qNext[b] = [2]float64{float64(quantizeHidden(h[at])), float64(quantizeHidden(h[at+1]))}
	}
	s.q, s.qNext = s.qNext, s.q
}

// addGRUInput adds w·x to z, features ascending, every operation rounded.
func addGRUInput(z *gruSums, w []gruSums, x []float32) {
	w = w[:len(x)]
	z0, z1, r0, r1, h0, h1 := z[gateZ][0], z[gateZ][1], z[gateR][0], z[gateR][1], z[gateH][0], z[gateH][1]
	for n, v := range x {
		p := &w[n]
		z0 += float32(p[gateZ][0] * v)
		z1 += float32(p[gateZ][1] * v)
		r0 += float32(p[gateR][0] * v)
		r1 += float32(p[gateR][1] * v)
		h0 += float32(p[gateH][0] * v)
		h1 += float32(p[gateH][1] * v)
	}
	*z = gruSums{{z0, z1}, {r0, r1}, {h0, h1}}
}

// addGRUWords adds to z the int8 product w·q, scaled by k.
func addGRUWords(z *gruSums, w []gruWords, q [][2]float64, k *gruSums) {
	w = w[:len(q)]
	var zs, rs, hs float64
	for n := range q {
		p := &w[n]
		a, b := q[n][0], q[n][1]
		zs += p[0][gateZ]*a + p[1][gateZ]*b
		rs += p[0][gateR]*a + p[1][gateR]*b
		hs += p[0][gateH]*a + p[1][gateH]*b
	}
	addWord(&z[gateZ][0], &z[gateZ][1], zs, k[gateZ][0], k[gateZ][1])
	addWord(&z[gateR][0], &z[gateR][1], rs, k[gateR][0], k[gateR][1])
	addWord(&z[gateH][0], &z[gateH][1], hs, k[gateH][0], k[gateH][1])
}
