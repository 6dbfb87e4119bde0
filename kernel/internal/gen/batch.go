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

// batch is one step of a layer for tile sequences. An int8 layer's input sums
// wait on the stack while its products take the registers.
func batch(v *isa, name string, int8 bool) {
	frame := 0
	if int8 {
		frame = (gates*tile + 1) * v.bytes()
	}
	begin(v, name, frame)
	if int8 {
		LEAQ(operand.Mem{Base: reg.StackPointer, Disp: v.bytes() - 1}, z)
		ANDQ(operand.I8(-v.bytes()), z)
	}
	load(argW, wBlock)
	load(argBlocks, blocks)
	load(argC, cell)
	load(argH, hidden)
	load(argNext, next)
	Label("block")
	for half := range v.halves {
		v.batchUnits(half, int8)
	}
	ADDQ(argWStep.mem(), wBlock)
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	end()
}

// batchUnits is batch for one register of units.
func (v *isa) batchUnits(half int, int8 bool) {
	row := gates * v.halves * v.bytes()
	weight := func(r, g int) operand.Mem { return at(w, r*row+(g*v.halves+half)*v.bytes()) }
	sums, weights, free := v.regs[:16], v.regs[16:20], v.regs[20:]
	label := func(s string) string { return fmt.Sprintf("%s%d", s, half) }

	MOVQ(wBlock, w)
	for g := range gates {
		for s := range tile {
			VMOVUPS(weight(0, g), sums[tile*g+s])
		}
	}
	ADDQ(operand.I32(row), w)
	float := func(r, disp, scale int) {
		for g := range gates {
			VMOVUPS(weight(r, g), weights[g])
		}
		for s := range tile {
			for g := range gates {
				x, sum := perSequence(in, s, scale, disp), sums[tile*g+s]
				if int8 {
					t := free[(s*gates+g)%len(free)]
					VMULPS_BCST(x, weights[g], t)
					VADDPS(t, sum, sum)
				} else {
					VFMADD231PS_BCST(x, weights[g], sum)
				}
			}
		}
	}
	strides(argXStep)
	load(argNX, count)
	load(argX, in)
	loopIfAny(label("input"), count, func() {
		float(0, 0, 1)
		ADDQ(operand.I8(4), in)
		ADDQ(operand.I32(row), w)
	})
	if int8 {
		spilled := func(i int) operand.Mem { return at(z, i*v.bytes()) }
		product := func(name string) {
			for i, s := range sums {
				VMOVUPS(s, spilled(i))
			}
			for g := range gates {
				for s := range tile {
					VMOVDQU32(weight(0, g), sums[tile*g+s])
				}
			}
			ADDQ(operand.I32(row), w)
			loop(label(name), count, func() {
				for k := range 4 {
					for g := range gates {
						VMOVDQU32(weight(k, g), weights[g])
					}
					for s := range tile {
						VPBROADCASTD(perSequence(in, s, 1, 4*k), free[s])
					}
					for s := range tile {
						for g := range gates {
							VPDPBUSD(weights[g], free[s], sums[tile*g+s])
						}
					}
				}
				ADDQ(operand.I8(16), in)
				ADDQ(operand.I32(4*row), w)
			})
			for i, s := range sums {
				VCVTDQ2PS(s, s)
				VMULPS(weight(0, i/tile), s, s)
				VADDPS(spilled(i), s, s)
			}
			ADDQ(operand.I32(row), w)
		}
		load(argNXQ, count)
		TESTQ(count, count)
		JZ(operand.LabelRef(label("first")))
		load(argXQ, in)
		product("below")
		Label(label("first"))
		strides(argHStep)
		load(argNQ, count)
		load(argQ, in)
		product("recurrent")
	} else {
		strides(argHStep)
		load(argNQ, count)
		load(argQ, in)
		loop(label("recurrent"), count, func() {
			for k := range 16 {
				float(k, 4*k, 4)
			}
			ADDQ(operand.I8(64), in)
			ADDQ(operand.I32(16*row), w)
		})
	}
	var byGate [gates][]reg.VecPhysical
	for g := range gates {
		byGate[g] = sums[tile*g:][:tile]
	}
	var c []operand.Mem
	for s := range tile {
		c = append(c, perSequence(cell, s, 4, 0))
	}
	v.activate(!int8, byGate, c, v.regs[16:])
	for s, h := range byGate[3] {
		VMOVUPS(h, perSequence(hidden, s, 4, 0))
		if !int8 {
			VMOVUPS(h, perSequence(next, s, 4, 0))
			continue
		}
		v.mulc("127", h, h)
		VCVTPS2DQ(h, h)
		VPADDD_BCST(constant("offset"), h, h)
		VPMOVDB(h, perSequence(next, s, 1, 0))
	}
	ADDQ(operand.I32(v.bytes()), cell)
	ADDQ(operand.I32(v.bytes()), hidden)
	if int8 {
		ADDQ(operand.I8(v.lanes), next)
	} else {
		ADDQ(operand.I32(v.bytes()), next)
	}
}
