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

// avxVNNITwin makes the AVX-VNNI tier run its twin, for tests on CPUs that have
// VPDPBUSD as EVEX only.
var avxVNNITwin = false

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
func (a *stepArgs) stepInt8(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		int8StepAVX512(a)
	case t == avx512VNNI:
		int8StepAVX512Half(a)
	case t == avxVNNI && avxVNNITwin:
		int8StepAVXVNNITwin(a)
	case t == avxVNNI:
		int8StepAVXVNNI(a)
	default:
		int8StepAVX2(a)
	}
}

func (a *stepArgs) stepFloat32(t tier, units int) {
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
func (a *stepArgs) rowsInt8(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		int8RowsAVX512(a)
	case t == avx512VNNI:
		int8RowsAVX512Half(a)
	default:
		int8RowsAVX2(a)
	}
}

func (a *stepArgs) rowsFloat32(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		float32RowsAVX512(a)
	case t == avx512VNNI:
		float32RowsAVX512Half(a)
	default:
		float32RowsAVX2(a)
	}
}

// batchTile is the number of sequences that batch advances together, 0 for a
// tier that goes one after the other.
func (t tier) batchTile() int {
	if t == generic {
		return 0
	}
	return 4
}

// batchInt8 is stepInt8 for batchTile sequences.
func (a *stepArgs) batchInt8(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		int8BatchAVX512(a)
	case t == avx512VNNI:
		int8BatchAVX512Half(a)
	case t == avxVNNI && avxVNNITwin:
		int8BatchAVXVNNITwin(a)
	case t == avxVNNI:
		int8BatchAVXVNNI(a)
	default:
		int8BatchAVX2(a)
	}
}

func (a *stepArgs) batchFloat32(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		float32BatchAVX512(a)
	case t == avx512VNNI:
		float32BatchAVX512Half(a)
	default:
		float32BatchAVX2(a)
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

// readLine reads b times over, one or more.
func readLine(b []byte, times int) {
	switch n := len(b) / lineBytes; {
	case n == 0:
	case cpu.X86.HasAVX512F:
		readLineAVX512(&b[0], n, times)
	case useAVX2:
		readLineAVX2(&b[0], n, times)
	default:
		readLineGeneric(b, times)
	}
}

// peakInt8 issues n·64 VPDPBUSD, n at least 1, if the CPU has it in 512 bits.
func peakInt8(n int) bool {
	if useAVX512VNNI {
		peakInt8AVX512(n)
	}
	return useAVX512VNNI
}

//go:noescape
func int8StepAVX512(a *stepArgs)

//go:noescape
func int8StepAVX512Half(a *stepArgs)

//go:noescape
func int8StepAVXVNNI(a *stepArgs)

//go:noescape
func int8StepAVX2(a *stepArgs)

//go:noescape
func float32StepAVX512(a *stepArgs)

//go:noescape
func float32StepAVX512Half(a *stepArgs)

//go:noescape
func float32StepAVX2(a *stepArgs)

//go:noescape
func int8RowsAVX512(a *stepArgs)

//go:noescape
func int8RowsAVX512Half(a *stepArgs)

//go:noescape
func int8RowsAVX2(a *stepArgs)

//go:noescape
func float32RowsAVX512(a *stepArgs)

//go:noescape
func float32RowsAVX512Half(a *stepArgs)

//go:noescape
func float32RowsAVX2(a *stepArgs)

//go:noescape
func int8BatchAVX512(a *stepArgs)

//go:noescape
func int8BatchAVX512Half(a *stepArgs)

//go:noescape
func float32BatchAVX512(a *stepArgs)

//go:noescape
func float32BatchAVX512Half(a *stepArgs)

//go:noescape
func int8BatchAVXVNNI(a *stepArgs)

//go:noescape
func int8BatchAVX2(a *stepArgs)

//go:noescape
func float32BatchAVX2(a *stepArgs)

// int8StepAVXVNNITwin is int8StepAVXVNNI with VPDPBUSD in EVEX.
//
//go:noescape
func int8StepAVXVNNITwin(a *stepArgs)

//go:noescape
func int8BatchAVXVNNITwin(a *stepArgs)

//go:noescape
func denseSumAVX512(y, bias, w, x *float32, units, n int)

//go:noescape
func denseSumAVX2(y, bias, w, x *float32, units, n int)

//go:noescape
func readLineAVX512(p *byte, n, times int)

//go:noescape
func readLineAVX2(p *byte, n, times int)

func peakInt8AVX512(n int)
