package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
)

// inputRows computes the sums of all blocks for several rows of input: bias
// plus x·W. The weights of a block are read once from outer caches.
func inputRows(v *isa, name string, fused bool) {
	n := v.row()
	begin(v, name, 0)
	load(argW, wBlock)
	load(argBlocks, blocks)
	load(argZ, z)
	Label("block")
	load(argRows, tmp)
	load(argX, tmp2)
	MOVQ(z, next)
	Label("row")
	MOVQ(wBlock, w)
	MOVQ(tmp2, in)
	sums := v.regs[:n]
	for i, s := range sums {
		VMOVUPS(at(w, i*v.bytes()), s)
	}
	ADDQ(operand.I32(n*v.bytes()), w)
	load(argNX, count)
	loop("input", count, func() {
		v.multiplyAdd(sums, v.regs[n:], fused, 0, 0)
		ADDQ(operand.I8(4), in)
		ADDQ(operand.I32(n*v.bytes()), w)
	})
	for i, s := range sums {
		VMOVUPS(s, at(next, i*v.bytes()))
	}
	ADDQ(argXStep.mem(), tmp2)
	ADDQ(argZRow.mem(), next)
	DECQ(tmp)
	JNZ(operand.LabelRef("row"))
	ADDQ(argWStep.mem(), wBlock)
	ADDQ(argZStep.mem(), z)
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	end()
}
