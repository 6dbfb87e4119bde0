package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// An isa is a vector instruction set with the shape of its product tiles.
type isa struct {
	suffix string
	lanes  int   // float32 values in a register
	rows   int   // of a tile of C
	panels []int // registers in a row of a tile
	width  int   // gate registers worked on together
	vec    func() reg.VecVirtual
}

var (
	// 16 sums, and a cache line of B is used by 8 rows.
	avx512 = &isa{"AVX512", 16, 8, []int{2, 1}, 4, ZMM}
	// 12 sums, as many as 16 registers leave room for: two FMA units of
	// latency 4 or 5 need 8 or 10.
	avx2 = &isa{"AVX2", 8, 4, []int{3, 2, 1}, 2, YMM}
)

// bytes is the size of a register.
func (v *isa) bytes() int { return 4 * v.lanes }

func (v *isa) vecs(n int) []reg.VecVirtual {
	r := make([]reg.VecVirtual, n)
	for i := range r {
		r[i] = v.vec()
	}
	return r
}

// A mask selects the first lanes of a register, nil all of them.
type mask reg.Register

// mask is that of the first n lanes, 0 < n ≤ lanes.
func (v *isa) mask(n reg.GPVirtual) mask {
	if v == avx512 {
		bits, k := GP32(), K()
		MOVL(operand.U32(0xffff), bits)
		BZHIL(n.As32(), bits, bits)
		KMOVW(bits, k)
		return k
	}
	p, m := GP64(), YMM()
	LEAQ(maskTable.Offset(32), p)
	off := GP64()
	MOVQ(n, off)
	SHLQ(operand.U8(2), off)
	SUBQ(off, p)
	VMOVUPS(operand.Mem{Base: p}, m)
	return m
}

// load reads the masked lanes of src and leaves zero in the others.
func (v *isa) load(src operand.Mem, m mask, dst reg.Register) {
	switch {
	case m == nil:
		VMOVUPS(src, dst)
	case v == avx512:
		VMOVUPS_Z(src, m, dst)
	default:
		VMASKMOVPS(src, m, dst)
	}
}

// store writes the masked lanes of src and nothing else.
func (v *isa) store(src reg.Register, m mask, dst operand.Mem) {
	switch {
	case m == nil:
		VMOVUPS(src, dst)
	case v == avx512:
		VMOVUPS(src, m, dst)
	default:
		VMASKMOVPS(src, m, dst)
	}
}

func at(base reg.Register, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

func end() {
	VZEROUPPER()
	RET()
}

// param loads a parameter into a general register.
func param(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}

// stride loads a parameter that counts elements, as bytes.
func stride(name string) reg.GPVirtual {
	r := param(name)
	SHLQ(operand.U8(2), r)
	return r
}

var maskTable operand.Mem

// masks are eight lanes that are selected and eight that are not.
func masks() {
	maskTable = GLOBL("laneMasks", RODATA|NOPTR)
	for i := range 16 {
		v := uint32(0)
		if i < 8 {
			v = 0xffffffff
		}
		DATA(4*i, operand.U32(v))
	}
}

// inLanes runs body for each full register of count elements, then once with a
// mask for the rest. body gets the byte offset of the elements.
func (v *isa) inLanes(name string, count reg.GPVirtual, body func(off reg.GPVirtual, m mask)) {
	off, left := GP64(), GP64()
	XORQ(off, off)
	MOVQ(count, left)
	Label(name + "Full")
	CMPQ(left, operand.Imm(uint64(v.lanes)))
	JL(operand.LabelRef(name + "Rest"))
	body(off, nil)
	ADDQ(operand.Imm(uint64(v.bytes())), off)
	SUBQ(operand.Imm(uint64(v.lanes)), left)
	JMP(operand.LabelRef(name + "Full"))
	Label(name + "Rest")
	TESTQ(left, left)
	JZ(operand.LabelRef(name + "Done"))
	body(off, v.mask(left))
	Label(name + "Done")
}

func element(base, off reg.Register) operand.Mem {
	return operand.Mem{Base: base, Index: off, Scale: 1}
}
