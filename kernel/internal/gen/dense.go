package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dense computes the sums of a dense layer in 16 lanes.
func dense(v *isa) {
	TEXT("denseSum"+v.suffix, NOSPLIT, "func(y, bias, w, x *float32, units, n int)")
	y, bias, weights, x, units, n := hidden, cell, w, z, blocks, wBlock
	Load(Param("y"), y)
	Load(Param("bias"), bias)
	Load(Param("w"), weights)
	Load(Param("x"), x)
	Load(Param("units"), units)
	Load(Param("n"), n)
	Label("unit")
	lanes := v.regs[:16/v.lanes]
	for _, l := range lanes {
		VXORPS(xmm(l), xmm(l), xmm(l))
	}
	MOVQ(n, count)
	MOVQ(x, in)
	loop("group", count, func() {
		for i, l := range lanes {
			t := v.regs[4+i]
			VMOVUPS(at(in, i*v.bytes()), t)
			VMULPS(at(weights, i*v.bytes()), t, t)
			VADDPS(t, l, l)
		}
		ADDQ(operand.I8(64), in)
		ADDQ(operand.I8(64), weights)
	})
	sum := reg.X8
	VMOVSS(at(bias, 0), sum)
	for g := range 4 {
		q := reg.X9
		switch {
		case v.wide():
			VEXTRACTF32X4(operand.U8(g), v.regs[0], q)
		default:
			VEXTRACTF128(operand.U8(g%2), v.regs[g/2], q)
		}
		for l := range 4 {
			if l > 0 {
				VPSHUFD(operand.U8(l), q, reg.X10)
				VADDSS(reg.X10, sum, sum)
			} else {
				VADDSS(q, sum, sum)
			}
		}
	}
	VMOVSS(sum, at(y, 0))
	ADDQ(operand.I8(4), y)
	ADDQ(operand.I8(4), bias)
	DECQ(units)
	JNZ(operand.LabelRef("unit"))
	end()
}

// line reads n·512 bytes, times over, and nothing else.
func line(v *isa) {
	TEXT("readLine"+v.suffix, NOSPLIT, "func(p *byte, n, times int)")
	p, n, times := wBlock, hidden, blocks
	Load(Param("p"), p)
	Load(Param("n"), n)
	Load(Param("times"), times)
	Label("again")
	MOVQ(p, w)
	MOVQ(n, count)
	loop("read", count, func() {
		for i := range 512 / v.bytes() {
			VMOVUPS(at(w, i*v.bytes()), v.regs[i%8])
		}
		ADDQ(operand.I32(512), w)
	})
	DECQ(times)
	JNZ(operand.LabelRef("again"))
	end()
}

// peak issues VPDPBUSD on registers alone, n·64 times over 16 independent sums:
// more than a latency of 5 cycles at two a cycle asks for.
func peak(v *isa) {
	TEXT("peakInt8"+v.suffix, NOSPLIT, "func(n int)")
	Load(Param("n"), count)
	sums, a, b := v.regs[:16], v.regs[16], v.regs[17]
	for _, r := range v.regs[:18] {
		VPTERNLOGD(operand.U8(0xff), r, r, r)
	}
	loop("multiply", count, func() {
		for range 4 {
			for _, s := range sums {
				VPDPBUSD(a, b, s)
			}
		}
	})
	end()
}

func xmm(r reg.VecPhysical) reg.Register { return r.AsX() }
