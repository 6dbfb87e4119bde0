package main

// tile is the number of sequences a batch advances together: one gate of 16
// units of four sequences is 16 sums, half the registers.
const tile = 4

// General registers of a batch besides the others.
const (
	gateW    = "R3"  // weights of this gate
	rowBytes = "R13" // bytes of a row
	sums     = "R14" // this gate's or sequence's sums in memory: [sequence][gate][16]
	left     = "R15" // gates or sequences left
	hStep    = "R23" // bytes from sequence to sequence of c and h
	nextStep = "R24" // and of next
)

// inputs are what the product of each sequence reads.
var inputs = [tile]string{"R19", "R20", "R21", "R22"}

// waiting is the bytes of a sequence's sums in memory, those of a GRU over the
// input before those over the hidden state.
func (a *assembler) waiting() int {
	if a.gates == gru {
		return 2 * 64 * gru
	}
	return 64 * lstm
}

// batch is one step of a layer for tile sequences. Gate by gate it reads a
// register of weights for all of them; the sums of the gates wait in memory to
// be activated, sequence by sequence.
func (a *assembler) batch(name string, p product) {
	a.begin(name, tile*a.waiting())
	a.load(argC, cell)
	a.load(argH, hidden)
	a.load(argNext, next)
	a.p("MOVD $vectorConstants<>(SB), %s", consts)
	a.p("MOVD $%d, %s", 64*a.gates, rowBytes)
	a.label("block")
	a.p("MOVD %s, %s", wBlock, gateW)
	a.p("MOVD $sums-%d(SP), %s", tile*a.waiting(), sums)
	a.p("MOVD $%d, %s", a.gates, left)
	a.label("gate")
	a.gateSums(p)
	a.eachSequence(a.recurrentAt(), a.store4)
	a.p("ADD $64, %s", gateW)
	a.p("ADD $64, %s", sums)
	a.p("SUB $1, %s", left)
	a.p("CBNZ %s, gate", left)

	a.p("MOVD $sums-%d(SP), %s", tile*a.waiting(), sums)
	a.p("MOVD $%d, %s", tile, left)
	a.load(argHStep, nextStep)
	a.p("LSL $2, %s, %s", nextStep, hStep)
	units := 16
	if p == float32Product {
		a.p("MOVD %s, %s", hStep, nextStep)
		units = 64
	}
	a.label("sequence")
	for g := range a.gates {
		a.load4(sums, 4*g)
	}
	if a.gates == gru {
		for _, u := range gruRecurrent {
			a.load4(sums, u)
		}
		a.addGRU()
		a.activateGRU()
	} else {
		a.activate()
	}
	a.finish(p == float32Product)
	a.p("ADD %s, %s", hStep, cell)
	a.p("ADD %s, %s", hStep, hidden)
	a.p("ADD %s, %s", nextStep, next)
	a.p("SUB $1, %s", left)
	a.p("CBNZ %s, sequence", left)
	for _, r := range []string{cell, hidden} { // the first one's next block
		a.p("SUB %s<<2, %s", hStep, r)
		a.p("ADD $64, %s", r)
	}
	a.p("SUB %s<<2, %s", nextStep, next)
	a.p("ADD $%d, %s", units, next)
	a.load(argWStep, tmp)
	a.p("ADD %s, %s", tmp, wBlock)
	a.p("SUB $1, %s", blocks)
	a.p("CBNZ %s, block", blocks)
	a.p("RET")
}

// recurrentAt is how far after a gate's sums over the input those over the
// hidden state are; an LSTM has one of both.
func (a *assembler) recurrentAt() int {
	if a.gates == gru {
		return 64 * gru
	}
	return 0
}

// gateSums computes a gate's sums: sequence s in V4s to V4s+3. Those of a GRU
// over the input it leaves in memory.
func (a *assembler) gateSums(p product) {
	a.p("MOVD %s, %s", gateW, w)
	a.bias()
	a.load(argNX, count)
	a.p("CBZ %s, noinput", count)
	a.inputs(argX, argXStep, 0)
	a.floatLoop("input", p == float32Product)
	a.label("noinput")
	if p == float32Product {
		if a.gates == gru {
			a.eachSequence(0, a.store4)
			a.bias()
		}
		a.load(argNQ, count)
		a.p("LSL $4, %s", count)
		a.inputs(argQ, argHStep, 2)
		a.floatLoop("recurrent", true)
		return
	}
	a.load(argNXQ, count)
	a.p("CBZ %s, first", count)
	a.inputs(argXQ, argXStep, 0)
	a.batchProduct(p, "below")
	a.addInput()
	a.label("first")
	a.load(argNQ, count)
	a.inputs(argQ, argHStep, 0)
	a.batchProduct(p, "recurrent")
	if a.gates == gru {
		a.weights(20)
		for v := range 4 * tile {
			a.scale(v)
			a.fadd(v, v, 20+v%4)
		}
	} else {
		a.addInput()
	}
}

// bias starts every sequence's sums at a row of biases.
func (a *assembler) bias() {
	a.weights(0)
	for v := 4; v < 16; v++ {
		a.p("VORR V%d.B16, V%d.B16, V%d.B16", v%4, v%4, v)
	}
}

// weights loads this gate's of one row to V v to v+3.
func (a *assembler) weights(v int) {
	a.p("VLD1.P (%s)(%s), [V%d.B16, V%d.B16, V%d.B16, V%d.B16]", w, rowBytes, v, v+1, v+2, v+3)
}

// inputs points to what lies at arg for each sequence, step<<shift bytes from
// one to the next.
func (a *assembler) inputs(arg, step, shift int) {
	a.load(arg, inputs[0])
	a.load(step, tmp)
	for s := 1; s < tile; s++ {
		a.p("ADD %s<<%d, %s, %s", tmp, shift, inputs[s-1], inputs[s])
	}
}

// eachSequence loads or stores V4s to V4s+3 of every sequence s, at an offset
// from its sums.
func (a *assembler) eachSequence(offset int, move func(r string, v int)) {
	for s := range tile {
		a.p("ADD $%d, %s, %s", a.waiting()*s+offset, sums, tmp)
		move(tmp, 4*s)
	}
}

// floatLoop adds the product of count float32 values of each sequence.
func (a *assembler) floatLoop(label string, fused bool) {
	a.label(label)
	a.weights(16)
	for s, in := range inputs {
		a.p("VLD1R.P 4(%s), [V%d.S4]", in, 28+s)
	}
	for i := range 4 * tile {
		weight, x := 16+i%4, 28+i/4
		if fused {
			a.fmla(i, weight, x)
			continue
		}
		t := 20 + i%8
		a.fmul(t, weight, x)
		a.fadd(i, i, t)
	}
	a.p("SUB $1, %s", count)
	a.p("CBNZ %s, %s", count, label)
}

// batchProduct leaves V0 to V15 in memory and computes there the int8 products
// of 16·count values of each sequence, with their scales in V16 to V19.
func (a *assembler) batchProduct(p product, label string) {
	a.eachSequence(0, a.store4)
	for v := range 4 * tile {
		a.p("VEOR V%d.B16, V%d.B16, V%d.B16", v, v, v)
	}
	a.label(label)
	if p == dotProd {
		for s, in := range inputs {
			a.p("VLD1.P 16(%s), [V%d.B16]", in, 28+s)
		}
	}
	for k := range 4 {
		t := 16
		if p == dotProd {
			t += k % 2 * 4
		}
		a.weights(t)
		for s, in := range inputs {
			if p == neon {
				a.p("VLD1R.P 4(%s), [V%d.S4]", in, 28+s)
			}
			for i := range 4 {
				if p == dotProd {
					a.sdot(4*s+i, t+i, 28+s, k)
					continue
				}
				lo, hi := 20+2*i, 21+2*i
				a.smull(lo, t+i, 28+s)
				a.smull2(hi, t+i, 28+s)
				a.addp(lo, lo, hi)
				a.sadalp(4*s+i, lo)
			}
		}
	}
	a.p("SUB $1, %s", count)
	a.p("CBNZ %s, %s", count, label)
	a.weights(16)
}

// scale scales a register of batchProduct's.
func (a *assembler) scale(v int) {
	a.scvtf(v, v)
	a.fmul(v, v, 16+v%4)
}

// addInput scales the products of batchProduct and adds what it left in memory.
func (a *assembler) addInput() {
	for s := range tile {
		a.p("ADD $%d, %s, %s", a.waiting()*s, sums, tmp)
		a.load4(tmp, 20)
		for i := range 4 {
			v := 4*s + i
			a.scale(v)
			a.fadd(v, v, 20+i)
		}
	}
}
