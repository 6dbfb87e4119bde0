package bptt

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/sandpiper-edge/sandpiper/kernel/bptt/gemm"
)

// Products are gemm's where it has assembly, otherwise those of blas32.
//
// Only products A·B and Aᵀ·B are used. gonum computes both with an axpy per
// element of A, each element of C taking its terms one by one in the order of
// k: the bits depend on neither the tiles, the goroutines nor the alignment of
// the buffers. A·Bᵀ, which gonum computes with dot products, has sums that
// depend on the address of B modulo 16; transposed copies stand in for it.

// Tiles of C given to gonum at a time. gonum runs products of four or more of
// its 64×64 blocks in goroutines, which costs allocations and competes with our
// own shards; these sizes stay below, and keep what is reused in the L1 cache.
//
// A batch of 32 windows of 30×14 through LSTM(128) takes 26.0 ms of one Zen 4
// core in tiles, 32.1 ms in whole products.
const (
	tileRows  = 64
	tileCols  = 128
	tileDepth = 32
)

// mat is data as a row-major matrix with no padding between rows.
func mat(rows, cols int, data []float32) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data[:rows*cols]}
}

// view is the rows×cols part of m whose first element is (i, j).
func view(m blas32.General, i, j, rows, cols int) blas32.General {
	first := i*m.Stride + j
	return blas32.General{Rows: rows, Cols: cols, Stride: m.Stride, Data: m.Data[first : first+(rows-1)*m.Stride+cols]}
}

// tiled reports whether products are gonum's own, which profit from being cut
// up. Another implementation (blas32.Use) is given them whole.
func tiled() bool {
	_, ok := blas32.Implementation().(gonum.Implementation)
	return ok
}

// mul computes C += A·B.
func mul(a, b, c blas32.General) {
	if gemm.Accelerated() {
		gemm.Mul(c.Rows, c.Cols, a.Cols, a.Data, a.Stride, b.Data, b.Stride, c.Data, c.Stride, true)
		return
	}
	if !tiled() {
		blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, a, b, 1, c)
		return
	}
	for j := 0; j < c.Cols; j += tileCols {
		n := min(tileCols, c.Cols-j)
		for k := 0; k < a.Cols; k += tileDepth {
			d := min(tileDepth, a.Cols-k)
			bt := view(b, k, j, d, n)
			for i := 0; i < c.Rows; i += tileRows {
				m := min(tileRows, c.Rows-i)
				blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, view(a, i, k, m, d), bt, 1, view(c, i, j, m, n))
			}
		}
	}
}

// Tiles of C of a product Aᵀ·B, which gonum computes row by row of A and B:
// the tile of C is what is reused.
const (
	tileTRows = 32
	tileTCols = 192
)

// mulT computes C = Aᵀ·B.
func mulT(a, b, c blas32.General) {
	if gemm.Accelerated() {
		gemm.TransMul(c.Rows, c.Cols, a.Rows, a.Data, a.Stride, b.Data, b.Stride, c.Data, c.Stride, false)
		return
	}
	if !tiled() {
		blas32.Gemm(blas.Trans, blas.NoTrans, 1, a, b, 0, c)
		return
	}
	for i := 0; i < c.Rows; i += tileTRows {
		m := min(tileTRows, c.Rows-i)
		at := view(a, 0, i, a.Rows, m)
		for j := 0; j < c.Cols; j += tileTCols {
			n := min(tileTCols, c.Cols-j)
			blas32.Gemm(blas.Trans, blas.NoTrans, 1, at, view(b, 0, j, b.Rows, n), 0, view(c, i, j, m, n))
		}
	}
}

// fillRows sets each row of c to row.
func fillRows(c blas32.General, row []float32) {
	for i := range c.Rows {
		copy(c.Data[i*c.Stride:i*c.Stride+c.Cols], row)
	}
}

// sumRows sets sum to the sum of the rows of a.
func sumRows(sum []float32, a blas32.General) {
	clear(sum)
	for i := range a.Rows {
		blas32.Implementation().Saxpy(a.Cols, 1, a.Data[i*a.Stride:], 1, sum, 1)
	}
}

// transpose sets b to aᵀ.
func transpose(b, a blas32.General) {
	const block = 16 // rows of b written together: one cache line each way
	for j0 := 0; j0 < a.Cols; j0 += block {
		j1 := min(j0+block, a.Cols)
		for i := range a.Rows {
			row := a.Data[i*a.Stride:]
			for j := j0; j < j1; j++ {
				b.Data[j*b.Stride+i] = row[j]
			}
		}
	}
}
