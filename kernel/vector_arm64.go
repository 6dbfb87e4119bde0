//go:build !noasm

package kernel

import "golang.org/x/sys/cpu"

var (
	always     = true // Go demands ARMv8.0 with vectors
	useDotProd = cpu.ARM64.HasASIMDDP
)

// tiers is what this build chooses from, best first.
var tiers = []choice{{dotProd, &useDotProd}, {neon, &always}, {generic, &always}}

// blockUnits is the number of units in a block: four registers of each gate.
func (t tier) blockUnits() int { return 16 }

// offset reports whether hidden states are kept plus 128: signed products need
// no such thing.
func (t tier) offset() bool { return false }

// batchTile is the number of sequences that batch advances together, 0 for a
// tier that goes one after the other.
func (t tier) batchTile() int {
	if t == generic {
		return 0
	}
	return 4
}

// batchInt8 is stepInt8 for batchTile sequences.
func (a *stepArgs) batchInt8(t tier, _ int) {
	if t == dotProd {
		int8BatchDotProd(a)
	} else {
		int8BatchNEON(a)
	}
}

func (a *stepArgs) batchFloat32(tier, int) { float32BatchNEON(a) }

// stepInt8 steps through a.blocks blocks of 16 units.
func (a *stepArgs) stepInt8(t tier, _ int) {
	if t == dotProd {
		int8StepDotProd(a)
	} else {
		int8StepNEON(a)
	}
}

func (a *stepArgs) stepFloat32(tier, int) { float32StepNEON(a) }

// rowsInt8 computes the input sums of a.rows rows, rounded as an int8 model's.
func (a *stepArgs) rowsInt8(tier, int) { int8RowsNEON(a) }

func (a *stepArgs) rowsFloat32(tier, int) { float32RowsNEON(a) }

// denseSum computes units sums of a dense layer over n·16 inputs.
func denseSum(_ tier, y, bias, w, x *float32, units, n int) { denseSumNEON(y, bias, w, x, units, n) }

func peakInt8(n int) bool { return false }

// readLine reads b times over, one or more.
func readLine(b []byte, times int) {
	if n := len(b) / lineBytes; n > 0 {
		readLineNEON(&b[0], n, times)
	}
}

//go:noescape
func int8StepNEON(a *stepArgs)

//go:noescape
func int8StepDotProd(a *stepArgs)

//go:noescape
func float32StepNEON(a *stepArgs)

//go:noescape
func int8BatchNEON(a *stepArgs)

//go:noescape
func int8BatchDotProd(a *stepArgs)

//go:noescape
func float32BatchNEON(a *stepArgs)

//go:noescape
func int8RowsNEON(a *stepArgs)

//go:noescape
func float32RowsNEON(a *stepArgs)

//go:noescape
func denseSumNEON(y, bias, w, x *float32, units, n int)

//go:noescape
func readLineNEON(p *byte, n, times int)
