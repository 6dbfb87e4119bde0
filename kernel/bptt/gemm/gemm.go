// Package gemm multiplies float32 matrices, row-major.
//
// The right operand is laid out in panels: as many columns as a tile of the
// product has, one row after another, so that a tile reads it front to back,
//
//	B (k×n)  →  columns 0–31, row 0 … row k−1;  columns 32–63, row 0 …
//
// the last panels being narrower and filled with zeros to whole registers. A
// right operand used many times is packed once (Packed). The left operand is
// read where it is, element by element, by rows or by columns.
//
// Each element of a product is one sum in the order of k, in blocks of
// depthBlock: its bits depend on the tier (AVX-512, AVX2 with FMA or NEON, plain Go
// otherwise or with the tag noasm) and on k, not on the other sizes, the
// alignment or the number of cores.
package gemm

import "fmt"

// Blocks of a product, for a packed block of B and a block of A to stay in a
// second-level cache of 512 KiB or more.
const (
	depthBlock = 512
	colBlock   = 192 // whole panels of every tier
	rowBlock   = 192 // whole tiles of every tier
)

// A Packed is a right operand in panels.
type Packed struct {
	k, n int
	data []float32
}

// NewPacked returns a k×n operand of zeros; k and n are at least 1.
func NewPacked(k, n int) *Packed {
	return &Packed{k, n, make([]float32, k*packedWidth(n))}
}

// packedWidth is n rounded up to whole registers.
func packedWidth(n int) int { return (n + lanes() - 1) / lanes() * lanes() }

// Pack sets p to b, k×n with rows ldb apart.
func (p *Packed) Pack(b []float32, ldb int) {
	check("b", b, p.k, p.n, ldb)
	packBlock(p.data, p.k, p.n, b, ldb)
}

// PackTrans sets p to the transpose of b, n×k with rows ldb apart.
func (p *Packed) PackTrans(b []float32, ldb int) {
	check("b", b, p.n, p.k, ldb)
	packTransBlock(p.data, p.k, p.n, b, ldb)
}

// Mul computes C = A·B, or C += A·B if add: A is m×k with rows lda apart, C m×n
// with rows ldc apart. C must not overlap A.
func (p *Packed) Mul(m int, a []float32, lda int, c []float32, ldc int, add bool) {
	if m == 0 {
		return
	}
	check("a", a, m, p.k, lda)
	check("c", c, m, p.n, ldc)
	for k := 0; k < p.k; k += depthBlock {
		x := operands{m: m, k: min(depthBlock, p.k-k), a: &a[k], ars: lda, acs: 1, cs: ldc, alpha: 1, add: add || k > 0}
		for j := 0; j < p.n; {
			w := x.take(p.n - j)
			x.b, x.bs, x.bp, x.c = &p.data[j*p.k+k*w], w, w*p.k, &c[j]
			x.multiply(w)
			j += w * x.panels
		}
	}
}

// Mul computes C = A·B, or C += A·B if add, like Packed.Mul but with B, k×n with
// rows ldb apart, where it is.
func Mul(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, add bool) {
	check("a", a, m, k, lda)
	check("b", b, k, n, ldb)
	check("c", c, m, n, ldc)
	direct(operands{m: m, k: k, ars: lda, acs: 1, bs: ldb, cs: ldc, alpha: 1, add: add}, n, a, b, c)
}

// TransMul computes C = Aᵀ·B, or C += Aᵀ·B if add: A is k×m with rows lda apart, B k×n with rows ldb
// apart, C m×n with rows ldc apart. C must not overlap A or B.
//
// It reads B where it is, at full speed unless its rows are a large power of two
// apart, of which few fit in a cache at a time.
func TransMul(m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, add bool) {
	check("a", a, k, m, lda)
	check("b", b, k, n, ldb)
	check("c", c, m, n, ldc)
	direct(operands{m: m, k: k, ars: 1, acs: lda, bs: ldb, cs: ldc, alpha: 1, add: add}, n, a, b, c)
}

// direct computes x's product of A and B where they are.
func direct(x operands, n int, a, b, c []float32) {
	m, k, add := x.m, x.k, x.add
	for l := 0; l < k; l += depthBlock {
		x.k, x.add = min(depthBlock, k-l), add || l > 0
		for i := 0; i < m; i += rowBlock {
			x.m, x.a = min(rowBlock, m-i), &a[i*x.ars+l*x.acs]
			for j := 0; j < n; {
				w := x.take(n - j)
				x.b, x.bp, x.c = &b[l*x.bs+j], w, &c[i*x.cs+j]
				x.multiply(w)
				j += w * x.panels
			}
		}
	}
}

// scratchCols is how many columns of B are packed at a time: one panel if all
// of A is used at once.
func scratchCols(m int) int {
	if m <= rowBlock {
		return panelWidth(colBlock)
	}
	return colBlock
}

// blocks computes x's product of A and B, B k×n or, with transB, n×k.
func blocks(x operands, a, b []float32, ldb int, transB bool, c []float32, n int, scratch []float32) {
	m, k, add := x.m, x.k, x.add
	cols := scratchCols(m)
	for j := 0; j < n; j += cols {
		w := min(cols, n-j)
		for l := 0; l < k; l += depthBlock {
			x.k, x.add = min(depthBlock, k-l), add || l > 0
			if transB {
				packTransBlock(scratch, x.k, w, b[j*ldb+l:], ldb)
			} else {
				packBlock(scratch, x.k, w, b[l*ldb+j:], ldb)
			}
			for i := 0; i < m; i += rowBlock {
				x.m, x.a = min(rowBlock, m-i), &a[i*x.ars+l*x.acs]
				for p := 0; p < w; {
					pw := x.take(w - p)
					x.b, x.bs, x.bp, x.c = &scratch[p*x.k], pw, pw*x.k, &c[i*x.cs+j+p]
					x.multiply(pw)
					p += pw * x.panels
				}
			}
		}
	}
}

// operands are those of panels of equal width: C = alpha·A·B or, with add,
// C += alpha·A·B.
type operands struct {
	m, k     int
	panels   int // side by side in C
	cols     int // of each, less than their width only if there is one
	a        *float32
	ars, acs int // distance between rows, between columns
	b        *float32
	bs, bp   int // distance between rows, between panels
	c        *float32
	cs       int
	alpha    float32
	add      bool
}

// take sets panels and cols to the next ones where so many columns are left,
// and returns their width.
func (x *operands) take(left int) (width int) {
	width = panelWidth(left)
	x.panels, x.cols = 1, min(width, left)
	if width > lanes() {
		for left -= width; left >= width && panelWidth(left) == width; left -= width {
			x.panels++
		}
	}
	return width
}

// packBlock packs b, k×n.
func packBlock(dst []float32, k, n int, b []float32, ldb int) {
	for j := 0; j < n; {
		w := panelWidth(n - j)
		packPanel(dst[j*k:(j+w)*k], k, min(w, n-j), b[j:], ldb)
		j += w
	}
}

// packTransBlock packs the transpose of b, n×k.
func packTransBlock(dst []float32, k, n int, b []float32, ldb int) {
	for j := 0; j < n; {
		w := panelWidth(n - j)
		packTransPanel(dst[j*k:(j+w)*k], k, w, min(w, n-j), b[j*ldb:], ldb)
		j += w
	}
}

// packTransPanel writes cols rows of b as the columns of a panel of width w.
// It goes through them in groups that leave whole cache lines.
func packTransPanel(dst []float32, k, w, cols int, b []float32, ldb int) {
	const group = 8
	j := 0
	for ; j+group <= cols; j += group {
		var r [group][]float32
		for i := range r {
			r[i] = b[(j+i)*ldb:][:k]
		}
		d := dst[j:]
		for l := range k {
			out := d[l*w : l*w+group : l*w+group]
			out[0], out[1], out[2], out[3] = r[0][l], r[1][l], r[2][l], r[3][l]
			out[4], out[5], out[6], out[7] = r[4][l], r[5][l], r[6][l], r[7][l]
		}
	}
	for ; j < w; j++ {
		for l := range k {
			var v float32
			if j < cols {
				v = b[j*ldb+l]
			}
			dst[l*w+j] = v
		}
	}
}

// check panics unless v has rows of cols values ld apart.
func check(name string, v []float32, rows, cols, ld int) {
	if rows < 1 || cols < 1 || ld < cols || len(v) < (rows-1)*ld+cols {
		panic(fmt.Sprintf("gemm: %s has %d values, want %d×%d with rows %d apart", name, len(v), rows, cols, ld))
	}
}
