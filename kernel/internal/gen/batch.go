package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tile is the number of sequences a batch advances together: four gates of
// four sequences are 16 sums, half the registers of AVX-512.
const tile = 4

// strides loads the distance between sequences, which perSequence takes.
func strides(a arg) {
	load(a, tmp)
	LEAQ(operand.Mem{Base: tmp, Index: tmp, Scale: 2}, tmp2)
}

// perSequence is the memory at base for sequence s; scale is that of the
// stride loaded.
func perSequence(base reg.Register, s, scale, disp int) operand.Mem {
	m := operand.Mem{Base: base, Disp: disp}
	switch s {
	case 1:
		m.Index, m.Scale = tmp, uint8(scale)
	case 2:
		m.Index, m.Scale = tmp, uint8(2*scale)
	case 3:
		m.Index, m.Scale = tmp2, uint8(scale)
	}
	return m
}

// float32Batch is one step of a float32 layer for tile sequences.
func float32Batch(v *isa) {
	begin(v, "float32Batch", 0)
	load(argW, wBlock)
	load(argBlocks, blocks)
	load(argC, cell)
	load(argH, hidden)
	load(argNext, next)
	Label("block")
	for half := range v.halves {
		v.float32Units(half)
	}
	ADDQ(argWStep.mem(), wBlock)
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	end()
}

// float32Units is float32Batch for one register of units.
func (v *isa) float32Units(half int) {
	row := gates * v.halves * v.bytes()
	weight := func(r, g int) operand.Mem { return at(w, r*row+(g*v.halves+half)*v.bytes()) }
	sums, weights := v.regs[:16], v.regs[16:20]
	label := func(s string) string { return fmt.Sprintf("%s%d", s, half) }

	MOVQ(wBlock, w)
	for g := range gates {
		for s := range tile {
			VMOVUPS(weight(0, g), sums[tile*g+s])
		}
	}
	ADDQ(operand.I32(row), w)
	multiply := func(r, disp, scale int) {
		for g := range gates {
			VMOVUPS(weight(r, g), weights[g])
		}
		for s := range tile {
			for g := range gates {
				VFMADD231PS_BCST(perSequence(in, s, scale, disp), weights[g], sums[tile*g+s])
			}
		}
	}
	strides(argXStep)
	load(argNX, count)
	load(argX, in)
	loopIfAny(label("input"), count, func() {
		multiply(0, 0, 1)
		ADDQ(operand.I8(4), in)
		ADDQ(operand.I32(row), w)
	})
	strides(argHStep)
	load(argNQ, count)
	load(argQ, in)
	loop(label("recurrent"), count, func() {
		for k := range 16 {
			multiply(k, 4*k, 4)
		}
		ADDQ(operand.I8(64), in)
		ADDQ(operand.I32(16*row), w)
	})
	var byGate [gates][]reg.VecPhysical
	for g := range gates {
		byGate[g] = sums[tile*g:][:tile]
	}
	var c []operand.Mem
	for s := range tile {
		c = append(c, perSequence(cell, s, 4, 0))
	}
	v.activate(true, byGate, c, v.regs[16:])
	for s, h := range byGate[3] {
		VMOVUPS(h, perSequence(hidden, s, 4, 0))
		VMOVUPS(h, perSequence(next, s, 4, 0))
	}
	for _, at := range []reg.Register{cell, hidden, next} {
		ADDQ(operand.I32(v.bytes()), at)
	}
}
