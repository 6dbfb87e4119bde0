//go:build !noasm

package gemm

import "github.com/sandpiper-edge/sandpiper/kernel/bptt/internal/simd"

// Accelerated reports whether products run in assembly.
func Accelerated() bool { return simd.AVX512 || simd.AVX2 }

// lanes is the number of float32 values in a register.
func lanes() int {
	if simd.AVX512 {
		return 16
	}
	return 8
}

// panelWidth is the width of the next panel where so many columns are left.
func panelWidth(left int) int {
	switch {
	case simd.AVX512 && left >= 32:
		return 32
	case simd.AVX512:
		return 16
	case !simd.AVX2:
		return genericWidth
	case left >= 24 && left != 32: // 16 and 16 beat 24 and 8
		return 24
	case left >= 16:
		return 16
	}
	return 8
}

// multiply computes x's panels, of width w.
func (x *operands) multiply(w int) {
	add := uint32(0)
	if x.add {
		add = 1
	}
	switch {
	case simd.AVX512 && w == 32:
		product2AVX512(x.m, x.k, x.a, x.ars, x.acs, x.b, x.bs, x.c, x.cs, x.alpha, add, x.panels, x.bp)
	case simd.AVX512:
		product1AVX512(x.m, x.k, x.a, x.ars, x.acs, x.b, x.bs, x.c, x.cs, x.alpha, add, x.cols)
	case simd.AVX2 && w == 24:
		product3AVX2(x.m, x.k, x.a, x.ars, x.acs, x.b, x.bs, x.c, x.cs, x.alpha, add, x.panels, x.bp)
	case simd.AVX2 && w == 16:
		product2AVX2(x.m, x.k, x.a, x.ars, x.acs, x.b, x.bs, x.c, x.cs, x.alpha, add, x.panels, x.bp)
	case simd.AVX2:
		product1AVX2(x.m, x.k, x.a, x.ars, x.acs, x.b, x.bs, x.c, x.cs, x.alpha, add, x.cols)
	default:
		x.multiplyGeneric()
	}
}

// packPanel packs k rows of cols values of b.
func packPanel(dst []float32, k, cols int, b []float32, ldb int) {
	w := len(dst) / k
	_ = b[(k-1)*ldb+cols-1]
	switch {
	case simd.AVX512 && w == 32:
		pack2AVX512(k, &b[0], ldb, &dst[0])
	case simd.AVX512:
		pack1AVX512(k, &b[0], ldb, &dst[0], cols)
	case simd.AVX2 && w == 24:
		pack3AVX2(k, &b[0], ldb, &dst[0])
	case simd.AVX2 && w == 16:
		pack2AVX2(k, &b[0], ldb, &dst[0])
	case simd.AVX2:
		pack1AVX2(k, &b[0], ldb, &dst[0], cols)
	default:
		packGeneric(dst, k, w, cols, b, ldb)
	}
}

// FMALoop multiplies and adds n times in each of 12 registers, reading no
// memory, and returns how many operations that was: the CPU's own speed, to
// compare with. It is 0 in plain Go.
func FMALoop(n int) (operations float64) {
	switch {
	case simd.AVX512:
		fmaLoopAVX512(n)
	case simd.AVX2:
		fmaLoopAVX2(n)
	default:
		return 0
	}
	return 2 * 12 * float64(lanes()) * float64(n)
}

// The products compute panels of C side by side, m rows of as many registers as
// the name says, or one panel of one register with tail columns: C = alpha·A·B,
// or C += alpha·A·B if add is not 0. Strides count elements, bp from a panel of B
// to the next; m, k and panels are at least 1.

//go:noescape
func product2AVX512(m, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs int, alpha float32, add uint32, panels, bp int)

//go:noescape
func product1AVX512(m, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs int, alpha float32, add uint32, tail int)

//go:noescape
func product3AVX2(m, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs int, alpha float32, add uint32, panels, bp int)

//go:noescape
func product2AVX2(m, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs int, alpha float32, add uint32, panels, bp int)

//go:noescape
func product1AVX2(m, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, cs int, alpha float32, add uint32, tail int)

//go:noescape
func pack2AVX512(k int, b *float32, bs int, p *float32)

//go:noescape
func pack1AVX512(k int, b *float32, bs int, p *float32, tail int)

//go:noescape
func pack3AVX2(k int, b *float32, bs int, p *float32)

//go:noescape
func pack2AVX2(k int, b *float32, bs int, p *float32)

//go:noescape
func pack1AVX2(k int, b *float32, bs int, p *float32, tail int)

func fmaLoopAVX512(n int)
func fmaLoopAVX2(n int)
