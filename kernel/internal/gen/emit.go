package main

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
)

// emit adds an instruction avo has no function for.
func emit(opcode string, ops ...operand.Op) {
	build.Instruction(&ir.Instruction{Opcode: opcode, Operands: ops})
}
