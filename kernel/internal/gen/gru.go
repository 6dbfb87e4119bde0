package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gruUnits are the sums of n registers of a GRU's units.
type gruUnits struct {
	z, r  []reg.VecPhysical // both sums together
	x     []operand.Op      // the candidate's over the input
	u     []reg.VecPhysical // and over the hidden state
	h     []operand.Mem     // the hidden state
	spare []reg.VecPhysical // registers that none of these are in
}

// gruSums adds to a block's sums the product of its hidden state, the
// candidate's staying apart.
func (v *isa) gruSums(p product) gruUnits {
	n, gates := v.halves, v.row()
	x := v.regs[:gates]
	s := gruUnits{z: x[:n], r: x[n : 2*n]}
	for i := range n {
		s.h = append(s.h, at(hidden, i*v.bytes()))
	}
	if p == nil {
		s.u, s.spare = v.regs[gates:gates+n], v.regs[gates+n:]
		for i, r := range x[:2*n] {
			VADDPS(at(w, i*v.bytes()), r, r)
		}
		for i, u := range s.u {
			VMOVUPS(at(w, (2*n+i)*v.bytes()), u)
			s.x = append(s.x, x[2*n+i])
		}
		ADDQ(operand.I32(gates*v.bytes()), w)
		sums := append(append([]reg.VecPhysical{}, x[:2*n]...), s.u...)
		if v.wide() {
			v.floatProduct(s.spare, sums)
			return s
		}
		second := v.secondSums(8)
		v.floatProduct(v.regs[14:], sums, second)
		for i, r := range sums {
			VADDPS(second[i], r, r)
		}
		return s
	}
	acc, waiting := v.int8Sums(p, x, "recurrent")
	for i, a := range acc {
		VCVTDQ2PS(a, a)
		VMULPS(at(w, i*v.bytes()), a, a)
		VADDPS(at(w, (gates+i)*v.bytes()), a, a)
		if i < 2*n {
			VADDPS(waiting[i], a, x[i])
		}
	}
	s.x, s.u, s.spare = waiting[2*n:], acc[2*n:], v.regs[gates:]
	if v.wide() {
		s.spare = v.regs[2*gates:]
	}
	return s
}

// secondSums are a second set of sums for a product, at zero, from a register
// on. Three gates of two registers are 6 sums, and a multiply-add takes 4 cycles
// or more: of one set, two a cycle would wait for each other.
func (v *isa) secondSums(from int) []reg.VecPhysical {
	second := v.regs[from:][:v.row()]
	for _, r := range second {
		if v.wide() {
			VPXORD(r, r, r)
		} else {
			VPXOR(r, r, r)
		}
	}
	return second
}

// activateGRU advances the units and returns the new hidden state, in s.u.
func (v *isa) activateGRU(fused bool, s gruUnits) []reg.VecPhysical {
	half := func(gate []reg.VecPhysical) {
		for _, r := range gate {
			v.addc(constant("half"), r, r)
		}
	}
	v.squashAll(fused, append(append([]reg.VecPhysical{}, s.r...), s.z...), s.spare, sigmoid)
	half(s.r)
	for i, u := range s.u {
		VMULPS(s.r[i], u, u)
		VADDPS(s.x[i], u, u)
	}
	half(s.z)
	v.squashAll(fused, s.u, append(append([]reg.VecPhysical{}, s.r...), s.spare...), "")
	for i, u := range s.u {
		rest := s.r[i] // 1 − z
		if v.wide() {
			VBROADCASTSS(constant("1"), rest)
		} else {
			VMOVUPS(constant("1"), rest)
		}
		VSUBPS(s.z[i], rest, rest)
		VMULPS(rest, u, u)
		VMULPS(s.h[i], s.z[i], s.z[i])
		VADDPS(s.z[i], u, u)
	}
	return s.u
}

// squashAll puts all x through one curve, as many together as t has room for.
func (v *isa) squashAll(fused bool, x, t []reg.VecPhysical, curve string) {
	for group := min(4, len(t)/3); len(x) > 0; {
		n := min(group, len(x))
		v.run(v.squash(fused, x[:n], t, func(_ int, name string) operand.Mem { return constant(curve + name) }))
		x = x[n:]
	}
}
