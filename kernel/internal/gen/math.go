package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Coefficients as in kernel's math.go, where they are explained.
var table = []struct {
	name  string
	value uint32
}{
	{"max", f32(7.90531110763549805)}, {"min", f32(-7.90531110763549805)},
	{"p6", f32(-2.76076847742355e-16)}, {"p5", f32(2.00018790482477e-13)}, {"p4", f32(-8.60467152213735e-11)},
	{"p3", f32(5.12229709037114e-08)}, {"p2", f32(1.48572235717979e-05)}, {"p1", f32(6.37261928875436e-04)},
	{"p0", f32(4.89352455891786e-03)},
	{"q3", f32(1.19825839466702e-06)}, {"q2", f32(1.18534705686654e-04)}, {"q1", f32(2.26843463243900e-03)},
	{"q0", f32(4.89352518554385e-03)},
	{"half", f32(0.5)}, {"127", f32(127)}, {"offset", 128}, {"sign", 0x80808080}, {"ones", 0x00010001},
}

func f32(v float64) uint32 { return math.Float32bits(float32(v)) }

var constantTable operand.Mem

// constants holds each one eight times, so that it is an operand of a
// 256-bit instruction as it stands.
func constants() {
	constantTable = GLOBL("vectorConstants", RODATA|NOPTR)
	for i, c := range table {
		for j := range 8 {
			DATA(32*i+4*j, operand.U32(c.value))
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

// withConstant is dst = src op constant.
func (v *isa) withConstant(narrow, broadcast func(...operand.Op), name string, src, dst reg.Register) {
	if v.wide() {
		broadcast(constant(name), src, dst)
	} else {
		narrow(constant(name), src, dst)
	}
}

func (v *isa) mulc(name string, src, dst reg.Register) {
	v.withConstant(VMULPS, VMULPS_BCST, name, src, dst)
}

func (v *isa) addc(name string, src, dst reg.Register) {
	v.withConstant(VADDPS, VADDPS_BCST, name, src, dst)
}

// horner is p = p·s + constant; with fused, rounded once.
func (v *isa) horner(fused bool, p, s reg.Register, name string) {
	if fused {
		v.withConstant(VFMADD213PS, VFMADD213PS_BCST, name, s, p)
		return
	}
	VMULPS(s, p, p)
	v.addc(name, p, p)
}

// tanh replaces each x by its tanh. It needs 3·len(x) registers t.
func (v *isa) tanh(fused bool, x, t []reg.VecPhysical) {
	n := len(x)
	s, p, q := t[:n], t[n:2*n], t[2*n:3*n]
	each := func(f func(i int)) {
		for i := range x {
			f(i)
		}
		v.fetchAhead()
	}
	each(func(i int) { v.withConstant(VMINPS, VMINPS_BCST, "max", x[i], x[i]) })
	each(func(i int) { v.withConstant(VMAXPS, VMAXPS_BCST, "min", x[i], x[i]) })
	each(func(i int) { VMULPS(x[i], x[i], s[i]) })
	each(func(i int) { v.mulc("p6", s[i], p[i]); v.addc("p5", p[i], p[i]) })
	each(func(i int) { v.mulc("q3", s[i], q[i]); v.addc("q2", q[i], q[i]) })
	each(func(i int) { v.horner(fused, p[i], s[i], "p4") })
	each(func(i int) { v.horner(fused, q[i], s[i], "q1") })
	each(func(i int) { v.horner(fused, p[i], s[i], "p3") })
	each(func(i int) { v.horner(fused, q[i], s[i], "q0") })
	for _, c := range []string{"p2", "p1", "p0"} {
		each(func(i int) { v.horner(fused, p[i], s[i], c) })
	}
	each(func(i int) { VDIVPS(q[i], p[i], p[i]) })
	each(func(i int) { VMULPS(p[i], x[i], x[i]) })
}

// activate advances n registers of units: sums[g][i] are the gates' sums, c[i]
// the memory of the cell state. Afterwards c[i] is written and sums[3][i] is h.
// free are the registers not in sums.
func (v *isa) activate(fused bool, sums [gates][]reg.VecPhysical, c []operand.Mem, free []reg.VecPhysical) {
	sigmoids := [][]reg.VecPhysical{sums[0], sums[1], sums[3]}
	var all []reg.VecPhysical
	for i := range c {
		for g := range gates {
			if g != 2 {
				v.mulc("half", sums[g][i], sums[g][i])
			}
			all = append(all, sums[g][i])
		}
	}
	for group := min(4, len(free)/3); len(all) > 0; all = all[min(group, len(all)):] {
		v.tanh(fused, all[:min(group, len(all))], free)
	}
	for i := range c {
		for _, s := range sigmoids {
			v.mulc("half", s[i], s[i])
			v.addc("half", s[i], s[i])
		}
		ci, cf, cc := sums[0][i], sums[1][i], sums[2][i]
		VMULPS(c[i], cf, cf)
		VMULPS(cc, ci, ci)
		VADDPS(ci, cf, cf)
		VMOVUPS(cf, c[i])
	}
	for i := 0; i < len(c); i += 4 {
		v.tanh(fused, sums[1][i:min(i+4, len(c))], free)
	}
	for i := range c {
		VMULPS(sums[1][i], sums[3][i], sums[3][i])
	}
}
