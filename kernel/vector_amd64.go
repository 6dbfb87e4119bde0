//go:build !noasm

package kernel

import "golang.org/x/sys/cpu"

var (
	always        = true
	useAVX512VNNI = useAVX2 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ &&
		cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VNNI
	useAVXVNNI = useAVX2 && cpu.X86.HasAVXVNNI
	useAVX2    = cpu.X86.HasAVX2 && cpu.X86.HasFMA
)

// tiers is what this build chooses from, best first.
var tiers = []choice{
	{avx512VNNI, &useAVX512VNNI}, {avxVNNI, &useAVXVNNI}, {avx2, &useAVX2}, {generic, &always},
}

// blockUnits is the number of units in a block: two registers of each gate.
func (t tier) blockUnits() int {
	if t == avx512VNNI {
		return 32
	}
	return 16
}

// offset reports whether hidden states are kept plus 128, as the unsigned
// operand of VPDPBUSD, and int8 products start at −128·Σw.
func (t tier) offset() bool { return t == avx512VNNI || t == avxVNNI }

// stepInt8 steps through a.blocks blocks of the given number of units.
func (a *lstmArgs) stepInt8(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		int8StepAVX512(a)
	case t == avx512VNNI:
		int8StepAVX512Half(a)
	case t == avxVNNI:
		int8StepAVXVNNI(a)
	default:
		int8StepAVX2(a)
	}
}

func (a *lstmArgs) stepFloat32(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		float32StepAVX512(a)
	case t == avx512VNNI:
		float32StepAVX512Half(a)
	default:
		float32StepAVX2(a)
	}
}

// rowsInt8 computes the input sums of a.rows rows, rounded as an int8 model's.
func (a *lstmArgs) rowsInt8(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		int8RowsAVX512(a)
	case t == avx512VNNI:
		int8RowsAVX512Half(a)
	default:
		int8RowsAVX2(a)
	}
}

func (a *lstmArgs) rowsFloat32(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		float32RowsAVX512(a)
	case t == avx512VNNI:
		float32RowsAVX512Half(a)
	default:
		float32RowsAVX2(a)
	}
}

// denseSum computes units sums of a dense layer over n·16 inputs.
func denseSum(t tier, y, bias, w, x *float32, units, n int) {
	if t == avx512VNNI {
		denseSumAVX512(y, bias, w, x, units, n)
	} else {
		denseSumAVX2(y, bias, w, x, units, n)
	}
}

//go:noescape
func int8StepAVX512(a *lstmArgs)

//go:noescape
func int8StepAVX512Half(a *lstmArgs)

//go:noescape
func int8StepAVXVNNI(a *lstmArgs)

//go:noescape
func int8StepAVX2(a *lstmArgs)

//go:noescape
func float32StepAVX512(a *lstmArgs)

//go:noescape
func float32StepAVX512Half(a *lstmArgs)

//go:noescape
func float32StepAVX2(a *lstmArgs)

//go:noescape
func int8RowsAVX512(a *lstmArgs)

//go:noescape
func int8RowsAVX512Half(a *lstmArgs)

//go:noescape
func int8RowsAVX2(a *lstmArgs)

//go:noescape
func float32RowsAVX512(a *lstmArgs)

//go:noescape
func float32RowsAVX512Half(a *lstmArgs)

//go:noescape
func float32RowsAVX2(a *lstmArgs)

//go:noescape
func denseSumAVX512(y, bias, w, x *float32, units, n int)

//go:noescape
func denseSumAVX2(y, bias, w, x *float32, units, n int)

//go:noescape
func readLineAVX512(p *byte, n int)

//go:noescape
func readLineAVX2(p *byte, n int)
