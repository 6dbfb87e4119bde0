package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets from z, and what lies there.
const (
	inputSums   = 0                         // of the register of units at hand
	gateSums    = inputSums + gates*tile*64 // of the one before
	gatesEnd    = gateSums + gates*tile*64  //
	pendingWord = gatesEnd                  // 1 if gateSums hold any
	leftWord    = gatesEnd + 8              // 16 k still to multiply
	frameSize   = gatesEnd + 16
)

var (
	gateAt = fetch   // offset of the next two gates to activate
	curve  = reg.R15 // their coefficients
)

// sigmoidsEnd is where in gateSums the tanh gates follow the sigmoid ones.
const sigmoidsEnd = gateSums + 3*tile*64

// inputSlot is where the input sums of a gate and sequence wait.
func inputSlot(g, s int) int { return inputSums + 64*(tile*g+s) }

// gateSlot is where a gate of a sequence waits: i, f and o before c.
func gateSlot(g, s int) int { return gateSums + 64*(tile*[gates]int{0, 1, 3, 2}[g]+s) }

// int8Batch is one step of an int8 layer for tile sequences, a register of
// units at a time. Activations wait for their own results and products do not,
// so the two are mixed: while a register's recurrent product is computed, the
// gates of the register before are activated in memory, two of the 16 in every
// 16 k. Neither reads what the other writes: products read q, and the new state
// goes to next.
func int8Batch(v *isa) {
	begin(v, "int8Batch", frameSize+v.bytes())
	LEAQ(operand.Mem{Base: reg.StackPointer, Disp: v.bytes() - 1}, z)
	ANDQ(operand.I8(-v.bytes()), z)
	load(argW, wBlock)
	load(argBlocks, blocks)
	load(argC, cell)
	load(argH, hidden)
	load(argNext, next)
	MOVQ(operand.I32(0), at(z, pendingWord))
	Label("block")
	for half := range v.halves {
		int8Units{v, half}.units()
	}
	ADDQ(argWStep.mem(), wBlock)
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	last := int8Units{v, v.halves}
	last.beginGates()
	last.restOfGates()
	last.finish(nil)
	end()
}

// int8Units is int8Batch for a register of units, or for what is left to finish
// after the last.
type int8Units struct {
	*isa
	half int // of the block
}

func (b int8Units) label(s string) string { return fmt.Sprintf("%s%d", s, b.half) }

func (b int8Units) rowBytes() int { return gates * b.halves * b.bytes() }

// weight is gate g's part of a row.
func (b int8Units) weight(row, g int) operand.Mem {
	return at(w, row*b.rowBytes()+(g*b.halves+b.half)*b.bytes())
}

func (b int8Units) sum(g, s int) reg.VecPhysical { return b.regs[tile*g+s] }

// units computes the gates of a register of units, and finishes the one before.
func (b int8Units) units() {
	b.inputs()
	load(argNXQ, count)
	TESTQ(count, count)
	JZ(operand.LabelRef(b.label("first")))
	load(argXQ, in)
	b.beginProduct()
	loop(b.label("below"), count, func() { b.product(nil) })
	for g := range gates {
		b.scale(g, inputSlot)
	}
	ADDQ(operand.I32(b.rowBytes()), w)
	Label(b.label("first"))

	strides(argHStep)
	load(argNQ, count)
	load(argQ, in)
	b.beginProduct()
	CMPQ(at(z, pendingWord), operand.I8(0))
	JEQ(operand.LabelRef(b.label("alone")))
	MOVQ(count, at(z, leftWord))
	CMPQ(count, operand.I8(gates*tile/2))
	JLE(operand.LabelRef(b.label("fits")))
	MOVQ(operand.I32(gates*tile/2), count)
	Label(b.label("fits"))
	SUBQ(count, at(z, leftWord))
	b.beginGates()
	loop(b.label("both"), count, func() {
		b.product(b.activation())
		b.nextGates("both")
	})
	b.restOfGates()
	MOVQ(at(z, leftWord), count)
	loopIfAny(b.label("left"), count, func() { b.product(nil) })
	b.finish([]func(){
		func() { b.scale(0, gateSlot) }, func() { b.scale(1, gateSlot) }, func() { b.scale(2, gateSlot) },
	})
	b.scale(3, gateSlot)
	JMP(operand.LabelRef(b.label("end")))
	Label(b.label("alone"))
	loop(b.label("recurrent"), count, func() { b.product(nil) })
	for g := range gates {
		b.scale(g, gateSlot)
	}
	Label(b.label("end"))
	MOVQ(operand.I32(1), at(z, pendingWord))
}

// inputs leaves bias plus x·W in inputSums, in a later layer the bias.
func (b int8Units) inputs() {
	weights, values, free := b.regs[16:20], b.regs[20:24], b.regs[24:]
	MOVQ(wBlock, w)
	for g := range gates {
		for s := range tile {
			VMOVUPS(b.weight(0, g), b.sum(g, s))
		}
	}
	ADDQ(operand.I32(b.rowBytes()), w)
	strides(argXStep)
	load(argNX, count)
	load(argX, in)
	loopIfAny(b.label("input"), count, func() {
		for g := range gates {
			VMOVUPS(b.weight(0, g), weights[g])
		}
		for s := range tile {
			VBROADCASTSS(perSequence(in, s, 1, 0), values[s])
			for g := range gates {
				t := free[(s*gates+g)%len(free)]
				VMULPS(values[s], weights[g], t)
				VADDPS(t, b.sum(g, s), b.sum(g, s))
			}
		}
		ADDQ(operand.I8(4), in)
		ADDQ(operand.I32(b.rowBytes()), w)
	})
	for g := range gates {
		for s := range tile {
			VMOVUPS(b.sum(g, s), at(z, inputSlot(g, s)))
		}
	}
}

// beginProduct starts the sums of an int8 product at −128·Σw.
func (b int8Units) beginProduct() {
	for g := range gates {
		for s := range tile {
			VMOVDQU32(b.weight(0, g), b.sum(g, s))
		}
	}
	ADDQ(operand.I32(b.rowBytes()), w)
}

// product adds the products of 16 k, the instructions of beside spread among
// them.
func (b int8Units) product(beside []func()) {
	values, weights := b.regs[16:20], b.regs[20:22]
	done := 0
	for k := range 4 {
		for s := range tile {
			VPBROADCASTD(perSequence(in, s, 1, 4*k), values[s])
		}
		for g := range gates {
			wg := weights[g%2]
			VMOVDQU32(b.weight(k, g), wg)
			for s := range tile {
				VPDPBUSD(wg, values[s], b.sum(g, s))
			}
			for upTo := (k*gates + g + 1) * len(beside) / (4 * gates); done < upTo; done++ {
				beside[done]()
			}
		}
	}
	ADDQ(operand.I8(16), in)
	ADDQ(operand.I32(4*b.rowBytes()), w)
}

// scale scales a gate's product, adds its input sums and stores the result.
func (b int8Units) scale(g int, slot func(g, s int) int) {
	for s := range tile {
		r := b.sum(g, s)
		VCVTDQ2PS(r, r)
		VMULPS(b.weight(0, g), r, r)
		VADDPS(at(z, inputSlot(g, s)), r, r)
		VMOVUPS(r, at(z, slot(g, s)))
	}
}

func (b int8Units) beginGates() {
	MOVQ(operand.I32(gateSums), gateAt)
	LEAQ(constant(sigmoid+"max"), curve)
}

// activation is the instructions that activate the two gates at gateAt, a
// sigmoid short of its last addition.
func (b int8Units) activation() []func() {
	x, t := b.regs[22:24], b.regs[24:30]
	slot := func(i int) operand.Mem {
		return operand.Mem{Base: z, Index: gateAt, Scale: 1, Disp: 64 * i}
	}
	ops := []func(){
		func() { VMOVUPS(slot(0), x[0]) },
		func() { VMOVUPS(slot(1), x[1]) },
	}
	for _, stage := range b.squash(false, x, t, func(_ int, name string) operand.Mem { return at(curve, offset(name)-offset("max")) }) {
		ops = append(ops, stage...)
	}
	return append(ops,
		func() { VMOVUPS(x[0], slot(0)) },
		func() { VMOVUPS(x[1], slot(1)) },
	)
}

// nextGates goes on to the next two gates.
func (b int8Units) nextGates(in string) {
	same := b.label(in + "_same")
	ADDQ(operand.I32(2*64), gateAt)
	CMPQ(gateAt, operand.I32(sigmoidsEnd))
	JNE(operand.LabelRef(same))
	LEAQ(constant("max"), curve)
	Label(same)
}

// restOfGates activates the gates that are left.
func (b int8Units) restOfGates() {
	Label(b.label("rest"))
	CMPQ(gateAt, operand.I32(gatesEnd))
	JEQ(operand.LabelRef(b.label("activated")))
	for _, op := range b.activation() {
		op()
	}
	b.nextGates("rest")
	JMP(operand.LabelRef(b.label("rest")))
	Label(b.label("activated"))
}

// finish turns activated gates into the new state, and goes on to the next
// register of it. It leaves the sums alone.
func (b int8Units) finish(beside []func()) {
	x, free := b.regs[16:20], b.regs[20:]
	half, t := free[0], free[1:]
	VBROADCASTSS(constant("half"), half)
	for s := range tile {
		VADDPS(at(z, gateSlot(1, s)), half, x[s])
		VADDPS(at(z, gateSlot(0, s)), half, t[s])
		VMULPS(perSequence(cell, s, 4, 0), x[s], x[s])
		VMULPS(at(z, gateSlot(2, s)), t[s], t[s])
		VADDPS(t[s], x[s], x[s])
		VMOVUPS(x[s], perSequence(cell, s, 4, 0))
	}
	stages := b.squash(false, x, free, func(_ int, name string) operand.Mem { return constant(name) })
	done := 0
	for i, stage := range stages {
		for _, op := range stage {
			op()
		}
		for ; done < (i+1)*len(beside)/len(stages); done++ {
			beside[done]()
		}
	}
	VBROADCASTSS(constant("half"), half)
	for s := range tile {
		VADDPS(at(z, gateSlot(3, s)), half, t[s])
		VMULPS(t[s], x[s], x[s])
		VMOVUPS(x[s], perSequence(hidden, s, 4, 0))
		b.mulc(constant("127"), x[s], x[s])
		VCVTPS2DQ(x[s], x[s])
		VPADDD_BCST(constant("offset"), x[s], x[s])
		VPMOVDB(x[s], perSequence(next, s, 1, 0))
	}
	ADDQ(operand.I32(b.bytes()), cell)
	ADDQ(operand.I32(b.bytes()), hidden)
	ADDQ(operand.I8(b.lanes), next)
}
