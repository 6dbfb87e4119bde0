package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gruBatch is one step of a GRU for tile sequences, a register of units at a
// time. Three gates of four sequences are 12 sums: 32 registers hold those over
// the input and those of an int8 product, so that none waits in memory.
func gruBatch(v *isa, name string, int8 bool) {
	begin(v, name, 0)
	load(argW, wBlock)
	load(argBlocks, blocks)
	load(argH, hidden)
	load(argNext, next)
	Label("block")
	for half := range v.halves {
		gruTile{v, half}.units(int8)
	}
	ADDQ(argWStep.mem(), wBlock)
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	end()
}

// A gruTile is a register of units of tile sequences.
type gruTile struct {
	*isa
	half int // of the block
}

func (b gruTile) label(s string) string { return fmt.Sprintf("%s%d", s, b.half) }

// weight is gate g's part of a row.
func (b gruTile) weight(row, g int) operand.Mem {
	return at(w, (row*b.row()+g*b.halves+b.half)*b.bytes())
}

// skip goes on by a number of rows.
func (b gruTile) skip(rows int) { ADDQ(operand.I32(rows*b.row()*b.bytes()), w) }

// ofGate is gate g's of the sums of all sequences.
func ofGate(sums []reg.VecPhysical, g int) []reg.VecPhysical { return sums[tile*g:][:tile] }

func (b gruTile) units(int8 bool) {
	x := b.regs[:gruGates*tile]
	MOVQ(wBlock, w)
	for g := range gruGates {
		for _, r := range ofGate(x, g) {
			VMOVUPS(b.weight(0, g), r)
		}
	}
	b.skip(1)
	strides(argXStep)
	load(argNX, count)
	load(argX, in)
	loopIfAny(b.label("input"), count, func() {
		b.multiply(x, 0, 0, 1, !int8)
		ADDQ(operand.I8(4), in)
		b.skip(1)
	})
	if int8 {
		load(argNXQ, count)
		TESTQ(count, count)
		JZ(operand.LabelRef(b.label("first")))
		load(argXQ, in)
		for i, a := range b.product("below") {
			VMULPS(b.weight(0, i/tile), a, a)
			VADDPS(a, x[i], x[i])
		}
		b.skip(1)
		Label(b.label("first"))
	}
	strides(argHStep)
	load(argNQ, count)
	load(argQ, in)
	s := gruUnits{z: ofGate(x, gateZ), r: ofGate(x, gateR)}
	for i, r := range ofGate(x, gateH) {
		s.x = append(s.x, r)
		s.h = append(s.h, perSequence(hidden, i, 4, 0))
	}
	if int8 {
		acc := b.product("recurrent")
		for i, a := range acc {
			VMULPS(b.weight(0, i/tile), a, a)
			VADDPS(b.weight(1, i/tile), a, a)
			if i/tile != gateH {
				VADDPS(a, x[i], x[i])
			}
		}
		s.u, s.spare = ofGate(acc, gateH), append(append([]reg.VecPhysical{}, acc[:gateH*tile]...), b.regs[24:]...)
	} else {
		s.u, s.spare = b.regs[12:16], b.regs[16:]
		for i, r := range x[:gateH*tile] {
			VADDPS(b.weight(0, i/tile), r, r)
		}
		for _, u := range s.u {
			VMOVUPS(b.weight(0, gateH), u)
		}
		b.skip(1)
		sums := append(append([]reg.VecPhysical{}, x[:gateH*tile]...), s.u...)
		loop(b.label("recurrent"), count, func() {
			for k := range 16 {
				b.multiply(sums, k, 4*k, 4, true)
			}
			ADDQ(operand.I8(64), in)
			b.skip(16)
		})
	}
	b.store(b.activateGRU(!int8, s), int8)
}

// multiply adds the product of a row of weights and a float32 of each sequence,
// at in+disp.
func (b gruTile) multiply(sums []reg.VecPhysical, row, disp, scale int, fused bool) {
	weights, free := b.regs[16:16+gruGates], b.regs[20:]
	if !fused {
		weights, free = b.regs[12:12+gruGates], b.regs[16:]
	}
	for g, r := range weights {
		VMOVUPS(b.weight(row, g), r)
	}
	for s := range tile {
		from := perSequence(in, s, scale, disp)
		if !fused {
			VBROADCASTSS(from, free[s])
		}
		for g := range gruGates {
			sum := ofGate(sums, g)[s]
			if fused {
				VFMADD231PS_BCST(from, weights[g], sum)
				continue
			}
			t := free[tile+s*gruGates+g]
			VMULPS(free[s], weights[g], t)
			VADDPS(t, sum, sum)
		}
	}
}

// product computes an int8 product of 16·count values of each sequence, as
// float32 to be scaled.
func (b gruTile) product(label string) []reg.VecPhysical {
	acc, values, weights := b.regs[12:24], b.regs[24:28], b.regs[28:30]
	for g := range gruGates {
		for _, a := range ofGate(acc, g) {
			VMOVDQU32(b.weight(0, g), a)
		}
	}
	b.skip(1)
	loop(b.label(label), count, func() {
		for k := range 4 {
			for s, r := range values {
				VPBROADCASTD(perSequence(in, s, 1, 4*k), r)
			}
			for g := range gruGates {
				weight := weights[g%2]
				VMOVDQU32(b.weight(k, g), weight)
				for s, a := range ofGate(acc, g) {
					VPDPBUSD(weight, values[s], a)
				}
			}
		}
		ADDQ(operand.I8(16), in)
		b.skip(4)
	})
	for _, a := range acc {
		VCVTDQ2PS(a, a)
	}
	return acc
}

// store stores the hidden state and goes on to the next register of it.
func (b gruTile) store(h []reg.VecPhysical, int8 bool) {
	for s, r := range h {
		VMOVUPS(r, perSequence(hidden, s, 4, 0))
		if !int8 {
			VMOVUPS(r, perSequence(next, s, 4, 0))
			continue
		}
		b.mulc(constant("127"), r, r)
		VCVTPS2DQ(r, r)
		VPADDD_BCST(constant("offset"), r, r)
		VPMOVDB(r, perSequence(next, s, 1, 0))
	}
	ADDQ(operand.I32(b.bytes()), hidden)
	if int8 {
		ADDQ(operand.I8(b.lanes), next)
	} else {
		ADDQ(operand.I32(b.bytes()), next)
	}
}
