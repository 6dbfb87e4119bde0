package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Coefficients as in bptt's activation.go, where they are explained.
var table = []struct {
	name  string
	value float64
}{
	{"max", 7.90531110763549805}, {"min", -7.90531110763549805},
	{"p6", -2.76076847742355e-16}, {"p5", 2.00018790482477e-13}, {"p4", -8.60467152213735e-11},
	{"p3", 5.12229709037114e-08}, {"p2", 1.48572235717979e-05}, {"p1", 6.37261928875436e-04},
	{"p0", 4.89352455891786e-03},
	{"q3", 1.19825839466702e-06}, {"q2", 1.18534705686654e-04}, {"q1", 2.26843463243900e-03},
	{"q0", 4.89352518554385e-03},
	{"half", 0.5}, {"one", 1},
}

var constantTable operand.Mem

// constants holds each one eight times: an operand of a 256-bit instruction as
// it stands, of a 512-bit one by broadcast.
func constants() {
	constantTable = GLOBL("gateConstants", RODATA|NOPTR)
	for i, c := range table {
		for j := range 8 {
			DATA(32*i+4*j, operand.U32(math.Float32bits(float32(c.value))))
		}
	}
}

func constant(name string) operand.Mem {
	for i, c := range table {
		if c.name == name {
			return constantTable.Offset(32 * i)
		}
	}
	panic("no constant " + name)
}

// constant broadcasts a constant to a register.
func (v *isa) constant(name string) reg.VecVirtual {
	r := v.vec()
	VBROADCASTSS(constant(name), r)
	return r
}

// horner is p = p·s + constant.
func (v *isa) horner(p, s reg.Register, name string) {
	if v == avx512 {
		VFMADD213PS_BCST(constant(name), s, p)
	} else {
		VFMADD213PS(constant(name), s, p)
	}
}

func (v *isa) mulc(name string, src, dst reg.Register) {
	if v == avx512 {
		VMULPS_BCST(constant(name), src, dst)
	} else {
		VMULPS(constant(name), src, dst)
	}
}

// tanh replaces each x by its tanh, NaN by NaN: of two operands one of which is
// NaN, VMINPS and VMAXPS give the first one written here.
func (v *isa) tanh(x ...reg.VecVirtual) {
	each := func(f func(i int)) {
		for i := range x {
			f(i)
		}
	}
	s, p, q := v.vecs(len(x)), v.vecs(len(x)), v.vecs(len(x))
	bound := v.constant("max")
	each(func(i int) { VMINPS(x[i], bound, x[i]) })
	bound = v.constant("min")
	each(func(i int) { VMAXPS(x[i], bound, x[i]) })
	each(func(i int) { VMULPS(x[i], x[i], s[i]) })
	each(func(i int) { VBROADCASTSS(constant("p6"), p[i]) })
	for _, c := range []string{"p5", "p4", "p3", "p2", "p1", "p0"} {
		each(func(i int) { v.horner(p[i], s[i], c) })
	}
	each(func(i int) { VBROADCASTSS(constant("q3"), q[i]) })
	for _, c := range []string{"q2", "q1", "q0"} {
		each(func(i int) { v.horner(q[i], s[i], c) })
	}
	each(func(i int) { VDIVPS(q[i], p[i], p[i]) })
	each(func(i int) { VMULPS(p[i], x[i], x[i]) })
}

// activate turns pre-activations into activations, sigmoid where told.
func (v *isa) activate(x []reg.VecVirtual, sigmoid []bool) {
	for i, r := range x {
		if sigmoid[i] {
			v.mulc("half", r, r)
		}
	}
	v.tanh(x...)
	half := v.constant("half")
	for i, r := range x {
		if sigmoid[i] {
			VFMADD213PS(half, half, r)
		}
	}
}

// gatesForward is bptt's for n windows of units, zs values apart in z and hs in
// h.
func gatesForward(v *isa) {
	TEXT("gatesForward"+v.suffix, NOSPLIT, "func(z *float32, zs int, c0, c, tc, h *float32, hs, units, n int)")
	z, c0, c, tc, h, units, n := param("z"), param("c0"), param("c"), param("tc"), param("h"), param("units"), param("n")
	wide := GP64()
	MOVQ(units, wide)
	SHLQ(operand.U8(2), wide)
	Label("window")
	zf, zg, zo := GP64(), GP64(), GP64()
	LEAQ(operand.Mem{Base: z, Index: wide, Scale: 1}, zf)
	LEAQ(operand.Mem{Base: z, Index: wide, Scale: 2}, zg)
	LEAQ(operand.Mem{Base: zf, Index: wide, Scale: 2}, zo)
	v.inLanes("units", units, func(off reg.GPVirtual, m mask) {
		places := []operand.Mem{element(z, off), element(zf, off), element(zg, off), element(zo, off)}
		a := v.vecs(4)
		for i := 0; i < 4; i += v.width {
			for j := i; j < i+v.width; j++ {
				v.load(places[j], m, a[j])
			}
			v.activate(a[i:i+v.width], []bool{true, true, false, true}[i:i+v.width])
			for j := i; j < i+v.width; j++ {
				v.store(a[j], m, places[j])
			}
		}
		cell := v.vec()
		v.load(element(c0, off), m, cell)
		VMULPS(a[1], cell, cell)
		VFMADD231PS(a[0], a[2], cell)
		v.store(cell, m, element(c, off))
		v.tanh(cell)
		v.store(cell, m, element(tc, off))
		VMULPS(a[3], cell, cell)
		v.store(cell, m, element(h, off))
	})
	ADDQ(stride("zs"), z)
	for _, p := range []reg.GPVirtual{c0, c, tc} {
		ADDQ(wide, p)
	}
	ADDQ(stride("hs"), h)
	DECQ(n)
	JNZ(operand.LabelRef("window"))
	end()
}

// gatesBackward is bptt's for n windows of units, zs values apart in z.
func gatesBackward(v *isa) {
	TEXT("gatesBackward"+v.suffix, NOSPLIT, "func(z *float32, zs int, c0, tc, dh, dc *float32, units, n int)")
	z, c0, tc, dh, dc, units, n := param("z"), param("c0"), param("tc"), param("dh"), param("dc"), param("units"), param("n")
	wide := GP64()
	MOVQ(units, wide)
	SHLQ(operand.U8(2), wide)
	one := v.constant("one")
	Label("window")
	zf, zg, zo := GP64(), GP64(), GP64()
	LEAQ(operand.Mem{Base: z, Index: wide, Scale: 1}, zf)
	LEAQ(operand.Mem{Base: z, Index: wide, Scale: 2}, zg)
	LEAQ(operand.Mem{Base: zf, Index: wide, Scale: 2}, zo)
	v.inLanes("units", units, func(off reg.GPVirtual, m mask) {
		read := func(base reg.Register) reg.VecVirtual {
			r := v.vec()
			v.load(element(base, off), m, r)
			return r
		}
		// slope is that of a sigmoid at its value a: a − a².
		slope := func(a reg.VecVirtual) reg.VecVirtual {
			r := v.vec()
			VMOVAPS(a, r)
			VFNMADD231PS(a, a, r)
			return r
		}
		// tanhSlope is that of a tanh at its value a: 1 − a².
		tanhSlope := func(a reg.VecVirtual) reg.VecVirtual {
			r := v.vec()
			VMOVAPS(one, r)
			VFNMADD231PS(a, a, r)
			return r
		}
		times := func(x, y reg.VecVirtual) reg.VecVirtual {
			r := v.vec()
			VMULPS(x, y, r)
			return r
		}
		t, up, o := read(tc), read(dh), read(zo)
		d := times(times(o, up), tanhSlope(t))
		VADDPS(read(dc), d, d)
		v.store(times(times(t, up), slope(o)), m, element(zo, off))
		i, g := read(z), read(zg)
		v.store(times(times(g, d), slope(i)), m, element(z, off))
		v.store(times(times(i, d), tanhSlope(g)), m, element(zg, off))
		f := read(zf)
		v.store(times(times(read(c0), d), slope(f)), m, element(zf, off))
		v.store(times(f, d), m, element(dc, off))
	})
	ADDQ(stride("zs"), z)
	for _, p := range []reg.GPVirtual{c0, tc, dh, dc} {
		ADDQ(wide, p)
	}
	DECQ(n)
	JNZ(operand.LabelRef("window"))
	end()
}

// gruForward is bptt's.
func gruForward(v *isa) {
	TEXT("gruForward"+v.suffix, NOSPLIT, "func(z *float32, zs int, h0, h *float32, hs, units, n int)")
	z, h0, h, units, n := param("z"), param("h0"), param("h"), param("units"), param("n")
	wide := GP64()
	MOVQ(units, wide)
	SHLQ(operand.U8(2), wide)
	zs, hs := stride("zs"), stride("hs")
	Label("window")
	zr, za, zg := GP64(), GP64(), GP64()
	LEAQ(operand.Mem{Base: z, Index: wide, Scale: 1}, zr)
	LEAQ(operand.Mem{Base: z, Index: wide, Scale: 2}, za)
	LEAQ(operand.Mem{Base: zr, Index: wide, Scale: 2}, zg)
	v.inLanes("units", units, func(off reg.GPVirtual, m mask) {
		gates, g, before := v.vecs(2), v.vec(), v.vec()
		places := []operand.Mem{element(z, off), element(zr, off)}
		for i, p := range places {
			v.load(p, m, gates[i])
		}
		v.activate(gates, []bool{true, true})
		for i, p := range places {
			v.store(gates[i], m, p)
		}
		v.load(element(za, off), m, before)
		v.load(element(zg, off), m, g)
		VFMADD231PS(gates[1], before, g)
		v.tanh(g)
		v.store(g, m, element(zg, off))
		v.load(element(h0, off), m, before)
		VSUBPS(g, before, before)
		VFMADD231PS(gates[0], before, g)
		v.store(g, m, element(h, off))
	})
	ADDQ(zs, z)
	ADDQ(hs, h0)
	ADDQ(hs, h)
	DECQ(n)
	JNZ(operand.LabelRef("window"))
	end()
}

// gruBackward is bptt's.
func gruBackward(v *isa) {
	TEXT("gruBackward"+v.suffix, NOSPLIT, "func(z *float32, zs int, h0 *float32, hs int, dh, carry *float32, units, n int)")
	z, h0, dh, carry, units, n := param("z"), param("h0"), param("dh"), param("carry"), param("units"), param("n")
	wide := GP64()
	MOVQ(units, wide)
	SHLQ(operand.U8(2), wide)
	one := v.constant("one")
	Label("window")
	zr, za, zg := GP64(), GP64(), GP64()
	LEAQ(operand.Mem{Base: z, Index: wide, Scale: 1}, zr)
	LEAQ(operand.Mem{Base: z, Index: wide, Scale: 2}, za)
	LEAQ(operand.Mem{Base: zr, Index: wide, Scale: 2}, zg)
	v.inLanes("units", units, func(off reg.GPVirtual, m mask) {
		read := func(base reg.Register) reg.VecVirtual {
			r := v.vec()
			v.load(element(base, off), m, r)
			return r
		}
		times := func(x, y reg.VecVirtual) reg.VecVirtual {
			r := v.vec()
			VMULPS(x, y, r)
			return r
		}
		// rest is 1 − x.
		rest := func(x reg.VecVirtual) reg.VecVirtual {
			r := v.vec()
			VSUBPS(x, one, r)
			return r
		}
		d, update := read(dh), read(z)
		VADDPS(read(carry), d, d)
		v.store(times(update, d), m, element(carry, off))
		g := read(zg)
		dg := times(d, rest(update))
		slope := v.vec() // of the tanh: 1 − g²
		VMOVAPS(one, slope)
		VFNMADD231PS(g, g, slope)
		VMULPS(slope, dg, dg)
		v.store(dg, m, element(zg, off))
		before := read(h0)
		VSUBPS(g, before, before)
		v.store(times(times(before, d), times(update, rest(update))), m, element(z, off))
		r, a := read(zr), read(za)
		v.store(times(dg, r), m, element(za, off))
		v.store(times(times(dg, a), times(r, rest(r))), m, element(zr, off))
	})
	ADDQ(stride("zs"), z)
	ADDQ(stride("hs"), h0)
	ADDQ(wide, dh)
	ADDQ(wide, carry)
	DECQ(n)
	JNZ(operand.LabelRef("window"))
	end()
}

// adam rounds as the plain Go: products and sums apart.
func adam(v *isa) {
	TEXT("adam"+v.suffix, NOSPLIT, "func(p, grad, m, v *float32, n int, b1, b2, step, epsilon float32)")
	p, grad, first, second, n := param("p"), param("grad"), param("m"), param("v"), param("n")
	broadcast := func(name string) reg.VecVirtual {
		r := v.vec()
		VBROADCASTSS(slot(name), r)
		return r
	}
	b1, b2, step, epsilon := broadcast("b1"), broadcast("b2"), broadcast("step"), broadcast("epsilon")
	v.inLanes("values", n, func(off reg.GPVirtual, k mask) {
		d, m, s, x := v.vec(), v.vec(), v.vec(), v.vec()
		v.load(element(grad, off), k, d)
		v.load(element(first, off), k, m)
		v.load(element(second, off), k, s)
		VSUBPS(m, d, x)
		VMULPS(b1, x, x)
		VADDPS(x, m, m)
		v.store(m, k, element(first, off))
		VMULPS(d, d, x)
		VSUBPS(s, x, x)
		VMULPS(b2, x, x)
		VADDPS(x, s, s)
		v.store(s, k, element(second, off))
		VSQRTPS(s, s)
		VADDPS(epsilon, s, s)
		VMULPS(step, m, m)
		VDIVPS(s, m, m)
		v.load(element(p, off), k, x)
		VSUBPS(m, x, x)
		v.store(x, k, element(p, off))
	})
	end()
}

// addTo is y += x.
func addTo(v *isa) {
	TEXT("addTo"+v.suffix, NOSPLIT, "func(y, x *float32, n int)")
	y, x, n := param("y"), param("x"), param("n")
	v.inLanes("values", n, func(off reg.GPVirtual, k mask) {
		a, b := v.vec(), v.vec()
		v.load(element(y, off), k, a)
		v.load(element(x, off), k, b)
		VADDPS(b, a, a)
		v.store(a, k, element(y, off))
	})
	end()
}
