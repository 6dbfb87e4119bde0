package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A product is an int8 product of four k for one block.
type product interface {
	// prepare sets up constants and the sums; it may read at w.
	prepare(acc []reg.VecPhysical)
	// quad adds the product of the weights at w+disp and the four bytes at in+k.
	quad(acc []reg.VecPhysical, k, disp int)
	// offset tells that the hidden state is kept plus 128.
	offset() bool
}

// vnni512 takes the hidden state plus 128 as the unsigned operand; the sums
// start at −128·Σw, which cancels it.
type vnni512 struct{ *isa }

func (vnni512) offset() bool { return true }

func (p vnni512) prepare(acc []reg.VecPhysical) {
	for i, a := range acc {
		VMOVDQU32(at(w, i*p.bytes()), a)
	}
	ADDQ(operand.I32(len(acc)*p.bytes()), w)
}

func (p vnni512) quad(acc []reg.VecPhysical, k, disp int) {
	b := p.regs[16+k/4%2]
	VPBROADCASTD(at(in, k), b)
	for i, a := range acc {
		VPDPBUSD(at(w, disp+i*p.bytes()), b, a)
	}
}

// vnniVEX is vnni512 in 256 bits and the VEX encoding of AVX-VNNI, which Go's
// assembler does not know.
type vnniVEX struct{ *isa }

func (vnniVEX) offset() bool { return true }

func (p vnniVEX) prepare(acc []reg.VecPhysical) {
	for i, a := range acc {
		VMOVDQU(at(w, i*p.bytes()), a)
	}
	ADDQ(operand.I32(len(acc)*p.bytes()), w)
}

func (p vnniVEX) quad(acc []reg.VecPhysical, k, disp int) {
	b := p.regs[8+k/4%2]
	VPBROADCASTD(at(in, k), b)
	for i, a := range acc {
		vpdpbusdVEX(disp+i*p.bytes(), b, a)
	}
}

// vpdpbusdVEX emits VEX.256.66.0F38.W0 50 /r, VPDPBUSD a, u, [rsi+disp]
// (Intel SDM vol. 2, VPDPBUSD). The weights' register is RSI.
func vpdpbusdVEX(disp int, u, a reg.VecPhysical) {
	ur, ar := byte(u.PhysicalIndex()), byte(a.PhysicalIndex())
	if ur > 15 || ar > 15 || w != reg.RSI {
		panic("vpdpbusd: operands outside the encoding")
	}
	d := uint32(disp)
	Comment(fmt.Sprintf("VPDPBUSD %d(SI), Y%d, Y%d", disp, ur, ar))
	for _, b := range []byte{
		0xc4,                        // three-byte VEX
		(^ar>>3&1)<<7 | 0x60 | 0x02, // R̅ X̅ B̅, map 0F38
		(^ur&15)<<3 | 4 | 1,         // W=0, v̅v̅v̅v̅, L=256, pp=66
		0x50,
		0x80 | ar&7<<3 | 6, // disp32, reg, rsi
		byte(d), byte(d >> 8), byte(d >> 16), byte(d >> 24),
	} {
		emit("BYTE", operand.U8(b))
	}
}

// vnni256 is vnniVEX in the encoding Go's assembler knows.
type vnni256 struct{ *isa }

func (vnni256) offset() bool                    { return true }
func (p vnni256) prepare(acc []reg.VecPhysical) { vnniVEX{p.isa}.prepare(acc) }

func (p vnni256) quad(acc []reg.VecPhysical, k, disp int) {
	b := p.regs[8+k/4%2]
	VPBROADCASTD(at(in, k), b)
	for i, a := range acc {
		VPDPBUSD(at(w, disp+i*p.bytes()), b, a)
	}
}

// signed2 is exact without VNNI: |q|·(w·sign q) in pairs is at most 2·127² =
// 32258, so VPMADDUBSW does not reach its saturation at 32767.
type signed2 struct{ *isa }

func (signed2) offset() bool { return false }

func (p signed2) prepare(acc []reg.VecPhysical) {
	for _, a := range acc {
		VPXOR(a, a, a)
	}
	VMOVDQU(constant("ones"), p.regs[15])
}

func (p signed2) quad(acc []reg.VecPhysical, k, disp int) {
	b, abs := p.regs[8], p.regs[9]
	VPBROADCASTD(at(in, k), b)
	VPABSB(b, abs)
	for i, a := range acc {
		t := p.regs[10+i%4]
		VMOVDQU(at(w, disp+i*p.bytes()), t)
		VPSIGNB(b, t, t)
		VPMADDUBSW(t, abs, t)
		VPMADDWD(p.regs[15], t, t)
		VPADDD(t, a, a)
	}
}

// step is one step of a layer, all blocks. p is its int8 product, nil for
// float32.
func step(v *isa, name string, p product) {
	v.beginStep(name, p)
	load(argZ, z)
	Label("block")
	MOVQ(wBlock, w)
	v.stepUnits(p, p == nil || v.wide()) // with narrow int8 the loads are not what one waits for
	load(argUStep, tmp)
	if p != nil {
		ADDQ(tmp, next)
	}
	SHLQ(operand.U8(2), tmp)
	if p == nil {
		ADDQ(tmp, next)
	}
	ADDQ(tmp, cell)
	ADDQ(tmp, hidden)
	ADDQ(argWStep.mem(), wBlock)
	ADDQ(argZStep.mem(), z)
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	end()
}

// inTurn is one step of a layer for several sequences, one after the other in
// each block: all but the first find its weights, most of them if it is large,
// in the innermost cache. 16 registers hold the sums of one sequence and what
// its product needs, no more.
func inTurn(v *isa, name string, p product) {
	v.beginStep(name, p)
	sequences := fetch
	toStates := func(add func(operand.Op, operand.Op)) { // by tmp units
		move := func() {
			add(tmp, argQ.mem())
			add(tmp, next)
		}
		if p != nil {
			move()
		}
		SHLQ(operand.U8(2), tmp)
		if p == nil {
			move()
		}
		add(tmp, cell)
		add(tmp, hidden)
	}
	Label("block")
	load(argRows, sequences)
	Label("sequence")
	MOVQ(wBlock, z)
	LEAQ(at(wBlock, v.row()*v.bytes()), w)
	v.stepUnits(p, false)
	load(argXStep, tmp)
	ADDQ(tmp, argX.mem())
	ADDQ(tmp, argXQ.mem())
	load(argHStep, tmp)
	toStates(ADDQ)
	DECQ(sequences)
	JNZ(operand.LabelRef("sequence"))

	load(argRows, sequences) // back to the first one
	load(argXStep, tmp)
	IMULQ(sequences, tmp)
	SUBQ(tmp, argX.mem())
	SUBQ(tmp, argXQ.mem())
	load(argHStep, tmp)
	IMULQ(sequences, tmp)
	toStates(SUBQ)
	if p != nil {
		ADDQ(operand.I8(v.units()), next)
	} else {
		ADDQ(operand.I8(4*v.units()), next)
	}
	ADDQ(operand.I8(4*v.units()), cell)
	ADDQ(operand.I8(4*v.units()), hidden)
	ADDQ(argWStep.mem(), wBlock)
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	end()
}

// beginStep opens a step and aligns the room that narrow int8 sums wait in.
func (v *isa) beginStep(name string, p product) {
	frame := 0
	if p != nil && !v.wide() {
		frame = v.row()*v.bytes() + 32
	}
	begin(v, name, frame)
	load(argW, wBlock)
	load(argBlocks, blocks)
	load(argC, cell)
	load(argH, hidden)
	load(argNext, next)
	if frame > 0 {
		LEAQ(operand.Mem{Base: reg.StackPointer, Disp: 31}, tmp2)
		ANDQ(operand.I8(-32), tmp2)
	}
}

// stepUnits advances the units of a block. With ahead, its activations prefetch
// the next one's weights.
func (v *isa) stepUnits(p product, ahead bool) {
	float, offset := p == nil, p != nil && p.offset()
	v.inputSums(p)
	var activate func() []reg.VecPhysical
	if v.gru {
		s := v.gruSums(p)
		activate = func() []reg.VecPhysical { return v.activateGRU(float, s) }
	} else {
		v.recurrentSums(p)
		activate = func() []reg.VecPhysical { return v.activateUnits(float) }
	}
	if ahead {
		v.prepareAhead()
	}
	v.store(float, offset, activate())
	v.ahead = nil
}

// inputSums computes the input's sums of a block: those at z, and the products
// of inputs with the weights at w.
func (v *isa) inputSums(p product) {
	n := v.row()
	sums := v.regs[:n]
	for i, s := range sums {
		VMOVUPS(at(z, i*v.bytes()), s)
	}
	load(argNX, count)
	load(argX, in)
	loopIfAny("input", count, func() {
		v.multiplyAdd(sums, v.regs[n:], p == nil, 0, 0)
		ADDQ(operand.I8(4), in)
		ADDQ(operand.I32(n*v.bytes()), w)
	})
	if p != nil {
		load(argNXQ, count)
		TESTQ(count, count)
		JZ(operand.LabelRef("first"))
		load(argXQ, in)
		v.int8Product(p, sums, "below")
		Label("first")
	}
	load(argNQ, count)
	load(argQ, in)
}

// recurrentSums adds to an LSTM's sums the product of its hidden state.
func (v *isa) recurrentSums(p product) {
	sums := v.regs[:v.row()]
	if p != nil {
		v.int8Product(p, sums, "recurrent")
	} else {
		v.floatProduct(v.regs[len(sums):], sums)
	}
}

// floatAhead is how far ahead of itself a float32 product of 512 bits prefetches:
// its loads wait for the second-level cache longer than the reorder buffer
// lasts. Of 1 to 8 KiB all gain the same 5 % (Zen 5); products of 256 bits lose
// 10 %, int8 products 2 %.
const floatAhead = 2 << 10

// floatProduct adds to sums the product of 16·count hidden states, in turns if
// there are several.
func (v *isa) floatProduct(free []reg.VecPhysical, sums ...[]reg.VecPhysical) {
	row := v.row() * v.bytes()
	loop("recurrent", count, func() {
		for k := range 16 {
			v.multiplyAdd(sums[k%len(sums)], free, true, 4*k, k*row)
			for i := 0; i < v.row() && v.wide(); i++ {
				PREFETCHT0(at(w, floatAhead+k*row+i*v.bytes()))
			}
		}
		ADDQ(operand.I8(64), in)
		ADDQ(operand.I32(16*row), w)
	})
}

// multiplyAdd adds to sums the product of the weights at w+wDisp and the
// float32 at in+disp.
func (v *isa) multiplyAdd(sums, free []reg.VecPhysical, fused bool, disp, wDisp int) {
	b := free[disp/4%2]
	VBROADCASTSS(at(in, disp), b)
	for i, s := range sums {
		if fused {
			VFMADD231PS(at(w, wDisp+i*v.bytes()), b, s)
			continue
		}
		t := free[2+i%4]
		VMULPS(at(w, wDisp+i*v.bytes()), b, t)
		VADDPS(t, s, s)
	}
}

// int8Product adds to sums the int8 product of 16·count inputs, scaled.
func (v *isa) int8Product(p product, sums []reg.VecPhysical, label string) {
	acc, waiting := v.int8Sums(p, sums, label)
	for i, a := range acc {
		VCVTDQ2PS(a, a)
		VMULPS(at(w, i*v.bytes()), a, a)
		VADDPS(waiting[i], a, sums[i])
	}
	ADDQ(operand.I32(len(acc)*v.bytes()), w)
}

// int8Sums computes the int8 product of 16·count inputs. It returns its sums
// and where sums are now: still there, or, as 16 registers hold no more than
// one, in memory.
func (v *isa) int8Sums(p product, sums []reg.VecPhysical, label string) (acc []reg.VecPhysical, waiting []operand.Op) {
	n := len(sums)
	acc = v.regs[n : 2*n]
	if !v.wide() {
		acc = sums
	}
	for i, s := range sums {
		if v.wide() {
			waiting = append(waiting, s)
		} else {
			waiting = append(waiting, at(tmp2, i*v.bytes()))
			VMOVUPS(s, waiting[i])
		}
	}
	p.prepare(acc)
	turns := [][]reg.VecPhysical{acc}
	if v.gru && p.offset() {
		first := 10 // above the inputs
		if v.wide() {
			first = 18
		}
		turns = append(turns, v.secondSums(first))
	}
	loop(label, count, func() {
		for k := 0; k < 16; k += 4 {
			p.quad(turns[k/4%len(turns)], k, k/4*n*v.bytes())
		}
		ADDQ(operand.I8(16), in)
		ADDQ(operand.I32(4*n*v.bytes()), w)
	})
	for _, second := range turns[1:] {
		for i, a := range acc {
			VPADDD(second[i], a, a)
		}
	}
	return acc, waiting
}

// activateUnits activates an LSTM's sums and returns its hidden state.
func (v *isa) activateUnits(float bool) []reg.VecPhysical {
	var byGate [gates][]reg.VecPhysical
	var c []operand.Mem
	for g := range gates {
		byGate[g] = v.regs[g*v.halves:][:v.halves]
	}
	for i := range v.halves {
		c = append(c, at(cell, i*v.bytes()))
	}
	v.activate(float, byGate, c, v.regs[gates*v.halves:])
	return byGate[3]
}

// store stores a block's hidden state at hidden and next.
func (v *isa) store(float, offset bool, h []reg.VecPhysical) {
	for i, h := range h {
		VMOVUPS(h, at(hidden, i*v.bytes()))
		if float {
			VMOVUPS(h, at(next, i*v.bytes()))
			continue
		}
		v.mulc(constant("127"), h, h)
		VCVTPS2DQ(h, h)
		if v.wide() {
			if offset {
				VPADDD_BCST(constant("offset"), h, h)
			}
			VPMOVDB(h, at(next, 16*i))
		}
	}
	if float || v.wide() {
		return
	}
	x := []reg.Register{xmm(h[0]), xmm(v.regs[15])}
	VPACKSSDW(h[1], h[0], h[0]) // 0-3 8-11 4-7 12-15
	VPERMQ(operand.U8(0xd8), h[0], h[0])
	VEXTRACTI128(operand.U8(1), h[0], x[1])
	VPACKSSWB(x[1], x[0], x[0])
	if offset {
		VPXOR(constant("sign"), x[0], x[0])
	}
	VMOVDQU(x[0], at(next, 0))
}
