package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// product computes all rows of panels of C that lie side by side, n registers
// wide; that of one register is one panel and masked. Every element of C is one
// sum in the order of k, whatever the tile it falls in.
func product(v *isa, n int) {
	signature := "func(m, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs int, alpha float32, add uint32"
	if n == 1 {
		signature += ", tail int"
	} else {
		signature += ", panels, bp int"
	}
	TEXT(fmt.Sprintf("product%d%s", n, v.suffix), NOSPLIT, signature+")")
	t := &tile{isa: v, n: n, a: param("a"), c: param("c"), b: param("b"), m: param("m"), acs: stride("acs"), bs: stride("bs"), cs: stride("cs")}
	if n == 1 {
		t.mask = v.mask(param("tail"))
	}
	t.ars[1] = stride("ars")
	for i := 3; i < v.rows; i += 2 { // odd multiples; the even ones are scaled
		t.ars[i] = GP64()
		LEAQ(operand.Mem{Base: t.ars[i-2], Index: t.ars[1], Scale: 2}, t.ars[i])
	}
	Label("tile")
	CMPQ(t.m, operand.Imm(uint64(v.rows)))
	JL(operand.LabelRef("rest"))
	t.emit(v.rows)
	LEAQ(operand.Mem{Base: t.a, Index: t.ars[1], Scale: uint8(v.rows)}, t.a)
	SUBQ(operand.Imm(uint64(v.rows)), t.m)
	JMP(operand.LabelRef("tile"))
	Label("rest")
	for rows := v.rows - 1; rows > 0; rows-- {
		next := fmt.Sprintf("not%d", rows)
		CMPQ(t.m, operand.Imm(uint64(rows)))
		JNE(operand.LabelRef(next))
		t.emit(rows)
		JMP(operand.LabelRef("next"))
		Label(next)
	}
	Label("next")
	if n > 1 {
		// The arguments are the registers of the outer loop.
		DECQ(slot("panels"))
		JZ(operand.LabelRef("done"))
		Load(Param("a"), t.a)
		Load(Param("m"), t.m)
		Load(Param("c"), t.c)
		ADDQ(operand.Imm(uint64(n*v.bytes())), t.c)
		MOVQ(t.c, slot("c"))
		ADDQ(stride("bp"), t.b)
		JMP(operand.LabelRef("tile"))
		Label("done")
	}
	end()
}

// slot is where a parameter is.
func slot(name string) operand.Mem {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// A tile is a product's registers.
type tile struct {
	*isa
	n                       int
	mask                    mask
	a, b, c, m, acs, bs, cs reg.GPVirtual
	ars                     [8]reg.GPVirtual // bytes of as many rows
}

// row is row i of A at p.
func (t *tile) row(p reg.Register, i int) operand.Mem {
	if i == 0 {
		return operand.Mem{Base: p}
	}
	scale := 1
	for i%2 == 0 {
		i, scale = i/2, scale*2
	}
	return operand.Mem{Base: p, Index: t.ars[i], Scale: uint8(scale)}
}

// emit computes one tile and moves c past it.
func (t *tile) emit(rows int) {
	sums := t.vecs(rows * t.n)
	for _, s := range sums {
		VXORPS(s, s, s)
	}
	a, b, k := GP64(), GP64(), param("k")
	MOVQ(t.a, a)
	MOVQ(t.b, b)
	label := func(name string) string { return fmt.Sprintf("%s%d", name, rows) }
	Label(label("k"))
	line := t.vecs(t.n)
	for j, l := range line {
		t.load(at(b, j*t.bytes()), t.mask, l)
	}
	for i := range rows {
		x := t.vec()
		VBROADCASTSS(t.row(a, i), x)
		for j, l := range line {
			VFMADD231PS(l, x, sums[i*t.n+j])
		}
	}
	ADDQ(t.acs, a)
	ADDQ(t.bs, b)
	DECQ(k)
	JNZ(operand.LabelRef(label("k")))

	alpha, add := t.vec(), GP32()
	VBROADCASTSS(slot("alpha"), alpha)
	Load(Param("add"), add)
	TESTL(add, add)
	JZ(operand.LabelRef(label("set")))
	t.eachSum(rows, sums, func(s reg.Register, c operand.Mem) {
		if t.mask == nil {
			VFMADD213PS(c, alpha, s)
		} else {
			old := t.vec()
			t.load(c, t.mask, old)
			VFMADD213PS(old, alpha, s)
		}
		t.store(s, t.mask, c)
	})
	JMP(operand.LabelRef(label("stored")))
	Label(label("set"))
	t.eachSum(rows, sums, func(s reg.Register, c operand.Mem) {
		VMULPS(alpha, s, s)
		t.store(s, t.mask, c)
	})
	Label(label("stored"))
}

func (t *tile) eachSum(rows int, sums []reg.VecVirtual, do func(s reg.Register, c operand.Mem)) {
	for i := range rows {
		for j := range t.n {
			do(sums[i*t.n+j], at(t.c, j*t.bytes()))
		}
		ADDQ(t.cs, t.c)
	}
}

// pack copies k rows of a panel of B to where they are one after another, a
// masked register with zeros.
func pack(v *isa, n int) {
	signature := "func(k int, b *float32, bs int, p *float32"
	if n == 1 {
		signature += ", tail int"
	}
	TEXT(fmt.Sprintf("pack%d%s", n, v.suffix), NOSPLIT, signature+")")
	b, p, bs, k := param("b"), param("p"), stride("bs"), param("k")
	var m mask
	if n == 1 {
		m = v.mask(param("tail"))
	}
	Label("row")
	for j := range n {
		r := v.vec()
		v.load(at(b, j*v.bytes()), m, r)
		VMOVUPS(r, at(p, j*v.bytes()))
	}
	ADDQ(bs, b)
	ADDQ(operand.Imm(uint64(n*v.bytes())), p)
	DECQ(k)
	JNZ(operand.LabelRef("row"))
	end()
}

// fmaLoop multiplies and adds in registers alone: what the CPU can do.
func fmaLoop(v *isa) {
	TEXT("fmaLoop"+v.suffix, NOSPLIT, "func(n int)")
	n, sums, x := param("n"), v.vecs(12), v.vec()
	VXORPS(x, x, x)
	for _, s := range sums {
		VXORPS(s, s, s)
	}
	Label("loop")
	for _, s := range sums {
		VFMADD231PS(x, x, s)
	}
	DECQ(n)
	JNZ(operand.LabelRef("loop"))
	end()
}
