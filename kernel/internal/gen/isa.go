package main

import (
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gates are an LSTM's i, f, c, o.
const gates = 4

// gruGates are a GRU's, in this order.
const gruGates = 3

const (
	gateZ = iota
	gateR
	gateH
)

// An isa is a vector instruction set, the block of units made for it and the
// kind of layer.
type isa struct {
	suffix string
	regs   []reg.VecPhysical
	lanes  int  // float32 values in a register
	halves int  // registers of units in a block
	gru    bool // a GRU, not an LSTM

	ahead []int // offsets from next block's weights still to prefetch
}

var (
	avx512     = &isa{suffix: "AVX512", regs: zmms(), lanes: 16, halves: 2}
	avx512Half = &isa{suffix: "AVX512Half", regs: zmms(), lanes: 16, halves: 1} // the last block of an odd number of 16 units
	avx2       = &isa{suffix: "AVX2", regs: ymms(), lanes: 8, halves: 2}
	avxVNNI    = &isa{suffix: "AVXVNNI", regs: ymms(), lanes: 8, halves: 2}
	vnniEVEX   = &isa{suffix: "AVXVNNITwin", regs: ymms(), lanes: 8, halves: 2} // as AVX-VNNI in EVEX, for tests on other CPUs
)

func (v *isa) ofLSTM() *isa { return v }

func (v *isa) ofGRU() *isa {
	g := *v
	g.gru = true
	return &g
}

func (v *isa) gates() int {
	if v.gru {
		return gruGates
	}
	return gates
}

// row is the registers of a row of weights, one for each of a block's units and
// gates.
func (v *isa) row() int { return v.gates() * v.halves }

// bytes is the size of a register.
func (v *isa) bytes() int { return 4 * v.lanes }

// units is the number of units in a block.
func (v *isa) units() int { return v.lanes * v.halves }

func (v *isa) wide() bool { return v.lanes == 16 }

func zmms() []reg.VecPhysical {
	return []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}
}

func ymms() []reg.VecPhysical {
	return []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}
}

// general registers, the same use everywhere
var (
	args   = reg.RAX
	blocks = reg.RBX
	count  = reg.RCX
	in     = reg.RDX // what a product reads: x, xq, q
	w      = reg.RSI // weights
	z      = reg.RDI // initial sums
	wBlock = reg.R8  // weights of this block
	cell   = reg.R9
	hidden = reg.R10
	next   = reg.R11
	tmp    = reg.R12
	tmp2   = reg.R13
	fetch  = reg.R14 // the block whose weights are prefetched
)

// An arg is the offset of a field of kernel's stepArgs; a test there holds them.
type arg int

const (
	argW      arg = 8 * iota // weights of the first block visited
	argWStep                 // bytes to the next one
	argBlocks                // blocks
	argZ                     // initial sums of the first block
	argZStep                 // bytes to the next
	argX                     // float32 input
	argNX                    // its length
	argXQ                    // hidden state of the layer below, int8
	argNXQ                   // its length / 16
	argQ                     // own hidden state, int8 or float32
	argNQ                    // its length / 16
	argNext                  // where the next one goes
	argC                     // cell state
	argH                     // hidden state, float32
	argUStep                 // units to the next block
	argRows                  // rows of x
	argXStep                 // bytes from row to row, or sequence to sequence
	argZRow                  // bytes from row to row of z
	argHStep                 // units from sequence to sequence of q, next, c, h
)

func (a arg) mem() operand.Mem { return operand.Mem{Base: args, Disp: int(a)} }

func load(a arg, r reg.Register) { MOVQ(a.mem(), r) }

func at(base reg.Register, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

// prepareAhead makes the activations that follow prefetch the beginning of the
// next block: they wait for their own results, while the loads would stand
// idle. After the last block it is that block again, with which the next step,
// going back, begins. The amount, here and in fetchAhead, was the best of 2 to
// 16 KiB and 1 to 6 lines a round (Zen 4, docs/kernel.md).
func (v *isa) prepareAhead() {
	MOVQ(wBlock, fetch)
	MOVQ(wBlock, tmp)
	ADDQ(argWStep.mem(), tmp)
	CMPQ(blocks, operand.I8(1))
	CMOVQNE(tmp, fetch)
	v.ahead = nil
	size := 12 << 10
	if !v.wide() {
		size = 8 << 10
	}
	for line := range size / 64 {
		v.ahead = append(v.ahead, 64*line)
	}
}

// fetchAhead prefetches some lines of what prepareAhead chose.
func (v *isa) fetchAhead() {
	lines := 5
	if !v.wide() {
		lines = 2
	}
	n := min(lines, len(v.ahead))
	for _, disp := range v.ahead[:n] {
		PREFETCHT0(at(fetch, disp))
	}
	v.ahead = v.ahead[n:]
}

// begin opens a function of a pointer to kernel's stepArgs, a type avo does not know.
func begin(v *isa, name string, frame int) {
	if v.gru {
		name = "gru" + strings.ToUpper(name[:1]) + name[1:]
	}
	flags := attr.Attribute(0)
	if frame < 512 { // within what the runtime leaves for nosplit functions
		flags = NOSPLIT
	}
	TEXT(name+v.suffix, flags, "func(a *byte)")
	if frame > 0 {
		AllocLocal(frame)
	}
	Load(Param("a"), args)
}

func end() {
	VZEROUPPER()
	RET()
}

// loop repeats body until count is 0; it runs at least once.
func loop(label string, count reg.Register, body func()) {
	Label(label)
	body()
	DECQ(count)
	JNZ(operand.LabelRef(label))
}

// loopIfAny is loop that may run no time.
func loopIfAny(label string, count reg.Register, body func()) {
	TESTQ(count, count)
	JZ(operand.LabelRef(label + "_none"))
	loop(label, count, body)
	Label(label + "_none")
}
