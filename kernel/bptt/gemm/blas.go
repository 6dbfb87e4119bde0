package gemm

import (
	"runtime"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// An Implementation is gonum's float32 BLAS with Sgemm from this package:
//
//	blas32.Use(gemm.Implementation{})
type Implementation struct{ gonum.Implementation }

var _ blas.Float32 = Implementation{}

// parallelWork is how many multiplications are worth a goroutine.
const parallelWork = 1 << 21

var scratches = sync.Pool{New: func() any { return new([depthBlock * colBlock]float32) }}

// Sgemm computes C = beta·C + alpha·op(A)·op(B), op being the transpose or
// not. It is gonum's but for the last bits, and for NaN and infinities in B,
// which gonum passes over where A is 0.
func (i Implementation) Sgemm(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	if m < 1 || n < 1 || k < 1 || alpha == 0 || !legal(tA, m, k, a, lda) || !legal(tB, k, n, b, ldb) || !legal(blas.NoTrans, m, n, c, ldc) {
		i.Implementation.Sgemm(tA, tB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) // or panics
		return
	}
	if beta != 0 && beta != 1 {
		for r := range m {
			row := c[r*ldc : r*ldc+n]
			for j := range row {
				row[j] *= beta
			}
		}
	}
	x := operands{m: m, k: k, ars: lda, acs: 1, cs: ldc, alpha: alpha, add: beta != 0}
	if tA != blas.NoTrans {
		x.ars, x.acs = 1, lda
	}
	transB := tB != blas.NoTrans
	parts := min(runtime.GOMAXPROCS(0), m*n/parallelWork*k+m*n%parallelWork*k/parallelWork)
	if parts < 2 {
		sgemm(x, a, b, ldb, transB, c, n)
		return
	}
	// The longer side of C is cut, at whole panels or tiles.
	const grain = 96
	var wg sync.WaitGroup
	if n >= m {
		step := (n/grain + parts) / parts * grain
		for j := 0; j < n; j += step {
			bj := b[min(j, len(b)):]
			if transB {
				bj = b[j*ldb:]
			}
			wg.Go(func() { sgemm(x, a, bj, ldb, transB, c[j:], min(step, n-j)) })
		}
	} else {
		step := (m/grain + parts) / parts * grain
		for r := 0; r < m; r += step {
			part := x
			part.m = min(step, m-r)
			wg.Go(func() { sgemm(part, a[r*x.ars:], b, ldb, transB, c[r*ldc:], n) })
		}
	}
	wg.Wait()
}

// legal is whether an operand of rows×cols fits v.
func legal(t blas.Transpose, rows, cols int, v []float32, ld int) bool {
	switch t {
	case blas.NoTrans:
	case blas.Trans, blas.ConjTrans:
		rows, cols = cols, rows
	default:
		return false
	}
	return ld >= cols && len(v) >= (rows-1)*ld+cols
}

func sgemm(x operands, a, b []float32, ldb int, transB bool, c []float32, n int) {
	scratch := scratches.Get().(*[depthBlock * colBlock]float32)
	blocks(x, a, b, ldb, transB, c, n, scratch[:])
	scratches.Put(scratch)
}
