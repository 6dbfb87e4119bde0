//go:build noasm || !amd64

package bptt

func forwardGates(z []float32, zs int, c0, c, tc, h []float32, hs, u, n int) {
	forwardGatesGeneric(z, zs, c0, c, tc, h, hs, u, n)
}

func backwardGates(z []float32, zs int, c0, tc, dh, dc []float32, u, n int) {
	backwardGatesGeneric(z, zs, c0, tc, dh, dc, u, n)
}

func forwardGRU(z []float32, zs int, h0, h []float32, hs, u, n int) {
	gruForward(z, zs, h0, h, hs, u, n)
}

func backwardGRU(z []float32, zs int, h0 []float32, hs int, dh, carry []float32, u, n int) {
	gruBackward(z, zs, h0, hs, dh, carry, u, n)
}

func updateAdam(p, g, m, v []float32, b1, b2, step, epsilon float32) {
	updateAdamGeneric(p, g, m, v, b1, b2, step, epsilon)
}

func addTo(y, x []float32) { addToGeneric(y, x) }
