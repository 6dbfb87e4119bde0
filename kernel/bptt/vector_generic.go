package bptt

import "math"

func forwardGatesGeneric(z []float32, zs int, c0, c, tc, h []float32, hs, u, n int) {
	for i := range n {
		lo, hi := i*u, (i+1)*u
		gatesForward(z[i*zs:][:gates*u], c0[lo:hi], c[lo:hi], tc[lo:hi], h[i*hs:][:u], u)
	}
}

func backwardGatesGeneric(z []float32, zs int, c0, tc, dh, dc []float32, u, n int) {
	for i := range n {
		lo, hi := i*u, (i+1)*u
		gatesBackward(z[i*zs:][:gates*u], c0[lo:hi], tc[lo:hi], dh[lo:hi], dc[lo:hi], u)
	}
}

// updateAdamGeneric moves p by the gradients g, and the moments m and v; b1 and
// b2 are 1−β.
func updateAdamGeneric(p, g, m, v []float32, b1, b2, step, epsilon float32) {
	for k, d := range g[:len(p)] {
		m[k] += float32(float32(d-m[k]) * b1)
		v[k] += float32((float32(d*d) - v[k]) * b2)
		p[k] -= float32(m[k]*step) / (float32(math.Sqrt(float64(v[k]))) + epsilon)
	}
}

func addToGeneric(y, x []float32) {
	for k, v := range x[:len(y)] {
		y[k] += v
	}
}
