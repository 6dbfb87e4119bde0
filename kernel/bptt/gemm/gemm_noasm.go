//go:build noasm || !(amd64 || arm64)

package gemm

// Accelerated reports whether products run in assembly.
func Accelerated() bool { return false }

// FMALoop does nothing in plain Go.
func FMALoop(int) (operations float64) { return 0 }

func lanes() int { return genericWidth }

func panelWidth(int) int { return genericWidth }

func (x *operands) multiply(int) { x.multiplyGeneric() }

func packPanel(dst []float32, k, cols int, b []float32, ldb int) {
	packGeneric(dst, k, genericWidth, cols, b, ldb)
}
