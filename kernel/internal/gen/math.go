package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The coefficients of kernel's math.go, where they are explained, and those of
// the sigmoid, 0.5·tanh(0.5·x) + 0.5, with both halves in them: a coefficient of
// (x/2)²ᵏ is that of x²ᵏ over 4ᵏ, and those of P take the 0.5·0.5 as well. All
// factors are powers of two, so no bit of the result changes.
var (
	tanhCurve = []coefficient{
		{"max", tanhMax}, {"min", -tanhMax},
		{"p6", -2.76076847742355e-16}, {"p5", 2.00018790482477e-13}, {"p4", -8.60467152213735e-11},
		{"p3", 5.12229709037114e-08}, {"p2", 1.48572235717979e-05}, {"p1", 6.37261928875436e-04},
		{"p0", 4.89352455891786e-03},
		{"q3", 1.19825839466702e-06}, {"q2", 1.18534705686654e-04}, {"q1", 2.26843463243900e-03},
		{"q0", 4.89352518554385e-03},
	}
	table = append(append(append([]constantRow{}, rows(tanhCurve, "")...), rows(sigmoidCurve(), sigmoid)...),
		constantRow{"half", f32(0.5)}, constantRow{"127", f32(127)},
		constantRow{"offset", 128}, constantRow{"sign", 0x80808080}, constantRow{"ones", 0x00010001},
		constantRow{"1", f32(1)})
)

const tanhMax = 7.90531110763549805

// sigmoid begins the names of a sigmoid's coefficients.
const sigmoid = "sigmoid "

type coefficient struct {
	name  string
	value float64
}

type constantRow struct {
	name  string
	value uint32
}

func sigmoidCurve() []coefficient {
	c := append([]coefficient{}, tanhCurve...)
	for i := range c {
		power := float64(c[i].name[1] - '0')
		switch c[i].name[0] {
		case 'm':
			c[i].value *= 2
		case 'p':
			c[i].value *= math.Pow(4, -power-1)
		case 'q':
			c[i].value *= math.Pow(4, -power)
		}
	}
	return c
}

func rows(curve []coefficient, prefix string) (r []constantRow) {
	for _, c := range curve {
		r = append(r, constantRow{prefix + c.name, f32(c.value)})
	}
	return r
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

func constant(name string) operand.Mem { return constantTable.Offset(offset(name)) }

// offset is where a constant is in the table.
func offset(name string) int {
	for i, c := range table {
		if c.name == name {
			return 32 * i
		}
	}
	panic("no constant " + name)
}

// withConstant is dst = src op c, c being one of the constants.
func (v *isa) withConstant(narrow, broadcast func(...operand.Op), c operand.Mem, src, dst reg.Register) {
	if v.wide() {
		broadcast(c, src, dst)
	} else {
		narrow(c, src, dst)
	}
}

func (v *isa) mulc(c operand.Mem, src, dst reg.Register) {
	v.withConstant(VMULPS, VMULPS_BCST, c, src, dst)
}

func (v *isa) addc(c operand.Mem, src, dst reg.Register) {
	v.withConstant(VADDPS, VADDPS_BCST, c, src, dst)
}

// horner is p = p·s + c; with fused, rounded once.
func (v *isa) horner(fused bool, p, s reg.Register, c operand.Mem) {
	if fused {
		v.withConstant(VFMADD213PS, VFMADD213PS_BCST, c, s, p)
		return
	}
	VMULPS(s, p, p)
	v.addc(c, p, p)
}

// clamp bounds x. VRANGEPS with 2 takes the operand of smaller magnitude, with
// the sign of x.
func (v *isa) clamp(x reg.Register, high, low operand.Mem) {
	if v.wide() {
		VRANGEPS_BCST(operand.U8(2), high, x, x)
		return
	}
	VMINPS(high, x, x)
	VMAXPS(low, x, x)
}

// squash gives the instructions, in stages, that put each x through the curve
// that coefficients of the x in that place are found for: tanh, or a sigmoid
// short of its last addition. They need 3·len(x) registers t.
func (v *isa) squash(fused bool, x, t []reg.VecPhysical, c func(i int, name string) operand.Mem) (stages [][]func()) {
	n := len(x)
	s, p, q := t[:n], t[n:2*n], t[2*n:3*n]
	each := func(f func(i int)) {
		var stage []func()
		for i := range x {
			stage = append(stage, func() { f(i) })
		}
		stages = append(stages, stage)
	}
	each(func(i int) { v.clamp(x[i], c(i, "max"), c(i, "min")) })
	each(func(i int) { VMULPS(x[i], x[i], s[i]) })
	each(func(i int) { v.mulc(c(i, "p6"), s[i], p[i]); v.addc(c(i, "p5"), p[i], p[i]) })
	each(func(i int) { v.mulc(c(i, "q3"), s[i], q[i]); v.addc(c(i, "q2"), q[i], q[i]) })
	each(func(i int) { v.horner(fused, p[i], s[i], c(i, "p4")) })
	each(func(i int) { v.horner(fused, q[i], s[i], c(i, "q1")) })
	each(func(i int) { v.horner(fused, p[i], s[i], c(i, "p3")) })
	each(func(i int) { v.horner(fused, q[i], s[i], c(i, "q0")) })
	for _, name := range []string{"p2", "p1", "p0"} {
		each(func(i int) { v.horner(fused, p[i], s[i], c(i, name)) })
	}
	each(func(i int) { VDIVPS(q[i], p[i], p[i]) })
	each(func(i int) { VMULPS(p[i], x[i], x[i]) })
	return stages
}

// run emits the stages, and between them what there is to prefetch.
func (v *isa) run(stages [][]func()) {
	for _, stage := range stages {
		for _, op := range stage {
			op()
		}
		v.fetchAhead()
	}
}

// tanh replaces each x by its tanh. It needs 3·len(x) registers t.
func (v *isa) tanh(fused bool, x, t []reg.VecPhysical) {
	v.run(v.squash(fused, x, t, func(_ int, name string) operand.Mem { return constant(name) }))
}

// activate advances n registers of units: sums[g][i] are the gates' sums, c[i]
// the memory of the cell state. Afterwards c[i] is written and sums[3][i] is h.
// free are the registers not in sums.
func (v *isa) activate(fused bool, sums [gates][]reg.VecPhysical, c []operand.Mem, free []reg.VecPhysical) {
	var all []reg.VecPhysical
	var curves []string
	for i := range c {
		for g := range gates {
			all = append(all, sums[g][i])
			curves = append(curves, [gates]string{sigmoid, sigmoid, "", sigmoid}[g])
		}
	}
	for group := min(4, len(free)/3); len(all) > 0; {
		n := min(group, len(all))
		of := curves
		v.run(v.squash(fused, all[:n], free, func(i int, name string) operand.Mem { return constant(of[i] + name) }))
		all, curves = all[n:], curves[n:]
	}
	for i := range c {
		ci, cf, cc, co := sums[0][i], sums[1][i], sums[2][i], sums[3][i]
		for _, s := range []reg.VecPhysical{ci, cf, co} {
			v.addc(constant("half"), s, s)
		}
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
