//go:build !noasm

package gemm

import "github.com/sandpiper-edge/sandpiper/kernel/bptt/internal/simd"

// Accelerated reports whether products run in assembly.
func Accelerated() bool { return simd.NEON }

// FMALoop does nothing here.
func FMALoop(int) (operations float64) { return 0 }

// lanes are two registers: there is no masked load or store to make one of.
func lanes() int { return genericWidth }

func panelWidth(int) int { return genericWidth }

// multiply computes x's panel; a narrow one in plain Go, which the compiler
// fuses into the same operations.
func (x *operands) multiply(w int) {
	if !simd.NEON || x.cols < w {
		x.multiplyGeneric()
		return
	}
	add := uint32(0)
	if x.add {
		add = 1
	}
	productNEON(x.m, x.k, x.a, x.ars, x.acs, x.b, x.bs, x.c, x.cs, x.alpha, add)
}

func packPanel(dst []float32, k, cols int, b []float32, ldb int) {
	packGeneric(dst, k, genericWidth, cols, b, ldb)
}

// productNEON computes a panel of C, m rows of 8 columns: C = alpha·A·B, or
// C += alpha·A·B if add is not 0. Strides count elements; m and k are at least 1.
//
//go:noescape
func productNEON(m, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs int, alpha float32, add uint32)
