//go:build !noasm

package bptt

import "github.com/sandpiper-edge/sandpiper/kernel/bptt/internal/simd"

// forwardGates is gatesForward for n windows, zs values apart in z and hs in h.
func forwardGates(z []float32, zs int, c0, c, tc, h []float32, hs, u, n int) {
	_, _, _ = z[(n-1)*zs+gates*u-1], c0[n*u-1], c[n*u-1]
	_, _ = tc[n*u-1], h[(n-1)*hs+u-1]
	switch {
	case simd.AVX512:
		gatesForwardAVX512(&z[0], zs, &c0[0], &c[0], &tc[0], &h[0], hs, u, n)
	case simd.AVX2:
		gatesForwardAVX2(&z[0], zs, &c0[0], &c[0], &tc[0], &h[0], hs, u, n)
	default:
		forwardGatesGeneric(z, zs, c0, c, tc, h, hs, u, n)
	}
}

// backwardGates is gatesBackward for n windows, zs values apart in z.
func backwardGates(z []float32, zs int, c0, tc, dh, dc []float32, u, n int) {
	_, _, _ = z[(n-1)*zs+gates*u-1], c0[n*u-1], tc[n*u-1]
	_, _ = dh[n*u-1], dc[n*u-1]
	switch {
	case simd.AVX512:
		gatesBackwardAVX512(&z[0], zs, &c0[0], &tc[0], &dh[0], &dc[0], u, n)
	case simd.AVX2:
		gatesBackwardAVX2(&z[0], zs, &c0[0], &tc[0], &dh[0], &dc[0], u, n)
	default:
		backwardGatesGeneric(z, zs, c0, tc, dh, dc, u, n)
	}
}

// forwardGRU is gruForward.
func forwardGRU(z []float32, zs int, h0, h []float32, hs, u, n int) {
	_, _, _ = z[(n-1)*zs+gruCols*u-1], h0[(n-1)*hs+u-1], h[(n-1)*hs+u-1]
	switch {
	case simd.AVX512:
		gruForwardAVX512(&z[0], zs, &h0[0], &h[0], hs, u, n)
	case simd.AVX2:
		gruForwardAVX2(&z[0], zs, &h0[0], &h[0], hs, u, n)
	default:
		gruForward(z, zs, h0, h, hs, u, n)
	}
}

// backwardGRU is gruBackward.
func backwardGRU(z []float32, zs int, h0 []float32, hs int, dh, carry []float32, u, n int) {
	_, _ = z[(n-1)*zs+gruCols*u-1], h0[(n-1)*hs+u-1]
	_, _ = dh[n*u-1], carry[n*u-1]
	switch {
	case simd.AVX512:
		gruBackwardAVX512(&z[0], zs, &h0[0], hs, &dh[0], &carry[0], u, n)
	case simd.AVX2:
		gruBackwardAVX2(&z[0], zs, &h0[0], hs, &dh[0], &carry[0], u, n)
	default:
		gruBackward(z, zs, h0, hs, dh, carry, u, n)
	}
}

// updateAdam is updateAdamGeneric, to the bit.
func updateAdam(p, g, m, v []float32, b1, b2, step, epsilon float32) {
	n := len(p)
	if n == 0 {
		return
	}
	_, _, _ = g[n-1], m[n-1], v[n-1]
	switch {
	case simd.AVX512:
		adamAVX512(&p[0], &g[0], &m[0], &v[0], n, b1, b2, step, epsilon)
	case simd.AVX2:
		adamAVX2(&p[0], &g[0], &m[0], &v[0], n, b1, b2, step, epsilon)
	default:
		updateAdamGeneric(p, g, m, v, b1, b2, step, epsilon)
	}
}

// addTo adds x to y.
func addTo(y, x []float32) {
	n := len(y)
	if n == 0 {
		return
	}
	_ = x[n-1]
	switch {
	case simd.AVX512:
		addToAVX512(&y[0], &x[0], n)
	case simd.AVX2:
		addToAVX2(&y[0], &x[0], n)
	default:
		addToGeneric(y, x)
	}
}

//go:noescape
func gatesForwardAVX512(z *float32, zs int, c0, c, tc, h *float32, hs, units, n int)

//go:noescape
func gatesForwardAVX2(z *float32, zs int, c0, c, tc, h *float32, hs, units, n int)

//go:noescape
func gatesBackwardAVX512(z *float32, zs int, c0, tc, dh, dc *float32, units, n int)

//go:noescape
func gatesBackwardAVX2(z *float32, zs int, c0, tc, dh, dc *float32, units, n int)

//go:noescape
func gruForwardAVX512(z *float32, zs int, h0, h *float32, hs, units, n int)

//go:noescape
func gruForwardAVX2(z *float32, zs int, h0, h *float32, hs, units, n int)

//go:noescape
func gruBackwardAVX512(z *float32, zs int, h0 *float32, hs int, dh, carry *float32, units, n int)

//go:noescape
func gruBackwardAVX2(z *float32, zs int, h0 *float32, hs int, dh, carry *float32, units, n int)

//go:noescape
func adamAVX512(p, grad, m, v *float32, n int, b1, b2, step, epsilon float32)

//go:noescape
func adamAVX2(p, grad, m, v *float32, n int, b1, b2, step, epsilon float32)

//go:noescape
func addToAVX512(y, x *float32, n int)

//go:noescape
func addToAVX2(y, x *float32, n int)
