package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/sandpiper-edge/sandpiper/kernel/bptt/internal/simd"
)

// guard is what surrounds the values a product may write.
var guard = math.Float32frombits(0x7fc0dead)

// matrix is rows×cols random values ld apart in the middle of guards, shifted
// by off values.
type matrix struct {
	buf      []float32
	lo, hi   int
	rows, ld int
	cols     int
}

func newMatrix(rng *rand.Rand, rows, cols, pad, off int) *matrix {
	const margin = 32
	m := &matrix{rows: rows, cols: cols, ld: cols + pad, lo: margin + off}
	m.hi = m.lo + (rows-1)*m.ld + cols
	m.buf = make([]float32, m.hi+margin)
	for i := range m.buf {
		m.buf[i] = guard
	}
	for i := range rows {
		for j := range cols {
			m.buf[m.lo+i*m.ld+j] = float32(rng.NormFloat64())
		}
	}
	return m
}

func (m *matrix) data() []float32     { return m.buf[m.lo:m.hi:m.hi] }
func (m *matrix) at(i, j int) float32 { return m.buf[m.lo+i*m.ld+j] }
func (m *matrix) clone() *matrix      { c := *m; c.buf = append([]float32(nil), m.buf...); return &c }
func (m *matrix) op(t bool, i, j int) float64 {
	if t {
		i, j = j, i
	}
	return float64(m.at(i, j))
}

// intact reports whether nothing but the values changed.
func (m *matrix) intact() bool {
	for k, v := range m.buf {
		k -= m.lo
		if k >= 0 && k < m.hi-m.lo && k%m.ld < m.cols {
			continue
		}
		if math.Float32bits(v) != math.Float32bits(guard) {
			return false
		}
	}
	return true
}

// eachTier runs test for every tier of this build and in plain Go.
func eachTier(t *testing.T, test func(t *testing.T)) {
	for _, tier := range append(simd.Tiers, simd.Tier{Name: "generic"}) {
		t.Run(tier.Name, func(t *testing.T) {
			restore, ok := simd.Only(tier.Name)
			defer restore()
			if !ok && tier.Used != nil {
				t.Skip("this CPU lacks it")
			}
			test(t)
		})
	}
}

var shapes = [][3]int{ // m, n, k
	{1, 1, 1}, {1, 7, 5}, {2, 8, 3}, {3, 15, 9}, {4, 16, 1}, {5, 17, 33}, {6, 23, 4}, {7, 24, 12}, {8, 25, 20},
	{9, 31, 8}, {10, 32, 40}, {11, 33, 2}, {12, 40, 17}, {15, 47, 64}, {16, 48, 31}, {17, 49, 5}, {8, 128, 137},
	{23, 63, 11}, {33, 65, 29}, {1, 130, 70}, {130, 1, 70}, {40, 200, 24}, {200, 40, 24}, {10, 30, 600}, {195, 17, 515}, {9, 194, 33},
}

// checkProduct holds got to the exact product: a sum of k terms in any order,
// one more for C and one for each scaling, is within (k+3)·u·Σ|terms| of it
// (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §3.1).
func checkProduct(t *testing.T, a, b, before, got *matrix, tA, tB bool, k int, alpha, beta float32) {
	t.Helper()
	if !got.intact() {
		t.Error("wrote outside C")
	}
	for i := range got.rows {
		for j := range got.cols {
			var sum, abs float64
			if beta != 0 {
				sum = float64(beta) * float64(before.at(i, j))
				abs = math.Abs(sum)
			}
			for l := range k {
				p := float64(alpha) * a.op(tA, i, l) * b.op(tB, l, j)
				sum += p
				abs += math.Abs(p)
			}
			if d := math.Abs(float64(got.at(i, j)) - sum); !(d <= float64(k+3)*0x1p-24*1.01*abs) {
				t.Errorf("C(%d, %d) = %v, want %v", i, j, got.at(i, j), sum)
				return
			}
		}
	}
}

func TestSgemm(t *testing.T) {
	eachTier(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		n := 0
		for _, s := range shapes {
			for mode := range 4 {
				tA, tB := mode&1 != 0, mode&2 != 0
				alpha, beta := [...]float32{1, -0.5, 2}[n%3], [...]float32{0, 1, 0.25, -1}[n%4]
				n++
				a, b := newOperand(rng, s[0], s[2], tA, n), newOperand(rng, s[2], s[1], tB, n/2)
				c := newMatrix(rng, s[0], s[1], n%5, n%7)
				if beta == 0 { // C is not read
					c.buf[c.lo] = float32(math.NaN())
				}
				got, want := c.clone(), c.clone()
				Implementation{}.Sgemm(flag(tA), flag(tB), s[0], s[1], s[2], alpha, a.data(), a.ld, b.data(), b.ld, beta, got.data(), got.ld)
				gonum.Implementation{}.Sgemm(flag(tA), flag(tB), s[0], s[1], s[2], alpha, a.data(), a.ld, b.data(), b.ld, beta, want.data(), want.ld)
				t.Run(fmt.Sprintf("%v %v %v %v %v", s, tA, tB, alpha, beta), func(t *testing.T) {
					checkProduct(t, a, b, c, got, tA, tB, s[2], alpha, beta)
					checkProduct(t, a, b, c, want, tA, tB, s[2], alpha, beta)
				})
			}
		}
	})
}

func newOperand(rng *rand.Rand, rows, cols int, trans bool, n int) *matrix {
	if trans {
		rows, cols = cols, rows
	}
	return newMatrix(rng, rows, cols, n%4, n%6)
}

func flag(trans bool) blas.Transpose {
	if trans {
		return blas.Trans
	}
	return blas.NoTrans
}

func TestPackedAndTransMul(t *testing.T) {
	eachTier(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for n, s := range shapes {
			a, b, bt := newMatrix(rng, s[0], s[2], n%3, n%5), newMatrix(rng, s[2], s[1], n%4, 1), newMatrix(rng, s[1], s[2], 3, 0)
			at := newMatrix(rng, s[2], s[0], 1, n%4)
			c := newMatrix(rng, s[0], s[1], n%6, n%2)
			p := NewPacked(s[2], s[1])
			p.Pack(b.data(), b.ld)
			for _, add := range []bool{false, true} {
				got := c.clone()
				p.Mul(s[0], a.data(), a.ld, got.data(), got.ld, add)
				var beta float32
				if add {
					beta = 1
				}
				checkProduct(t, a, b, c, got, false, false, s[2], 1, beta)
			}
			got := c.clone()
			Mul(s[0], s[1], s[2], a.data(), a.ld, b.data(), b.ld, got.data(), got.ld, true)
			checkProduct(t, a, b, c, got, false, false, s[2], 1, 1)

			got = c.clone()
			p.PackTrans(bt.data(), bt.ld)
			p.Mul(s[0], a.data(), a.ld, got.data(), got.ld, false)
			checkProduct(t, a, bt, c, got, false, true, s[2], 1, 0)

			got = c.clone()
			TransMul(s[0], s[1], s[2], at.data(), at.ld, b.data(), b.ld, got.data(), got.ld, false)
			checkProduct(t, at, b, c, got, true, false, s[2], 1, 0)

			got = c.clone()
			TransMul(s[0], s[1], s[2], at.data(), at.ld, b.data(), b.ld, got.data(), got.ld, true)
			checkProduct(t, at, b, c, got, true, false, s[2], 1, 1)
		}
	})
}

// A product's bits are those of its rows and columns one by one, at any
// alignment and on any number of cores.
func TestBitsDependOnTheSumAlone(t *testing.T) {
	eachTier(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		const m, n, k = 35, 230, 530
		a, b := newMatrix(rng, m, k, 0, 0), newMatrix(rng, k, n, 0, 0)
		product := func(cores, off int, tA blas.Transpose) []float32 {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			c := make([]float32, m*n+off)[off:]
			x, y := append(make([]float32, off), a.data()...)[off:], append(make([]float32, 3*off), b.data()...)[3*off:]
			lda := k
			if tA == blas.Trans {
				lda = m
				for i := range m {
					for l := range k {
						x[l*m+i] = a.at(i, l)
					}
				}
			}
			Implementation{}.Sgemm(tA, blas.NoTrans, m, n, k, 1, x, lda, y, n, 0, c, n)
			return c
		}
		want := product(1, 0, blas.NoTrans)
		for _, got := range [][]float32{product(2, 0, blas.NoTrans), product(3, 1, blas.NoTrans), product(1, 5, blas.Trans)} {
			for i, v := range got {
				if math.Float32bits(v) != math.Float32bits(want[i]) {
					t.Fatalf("value %d = %v, want %v", i, v, want[i])
				}
			}
		}
		for range 50 {
			i, j, v := rng.IntN(m), rng.IntN(n), []float32{0}
			Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, 1, 1, k, 1, a.data()[i*k:], k, b.data()[j:], n, 0, v, 1)
			if math.Float32bits(v[0]) != math.Float32bits(want[i*n+j]) {
				t.Fatalf("C(%d, %d) alone = %v, want %v", i, j, v[0], want[i*n+j])
			}
		}
	})
}

func TestSgemmRefusesWhatGonumRefuses(t *testing.T) {
	v := make([]float32, 12)
	for name, call := range map[string]func(){
		"transpose": func() { Implementation{}.Sgemm('x', blas.NoTrans, 2, 2, 2, 1, v, 2, v, 2, 0, v, 2) },
		"negative":  func() { Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, -1, 2, 2, 1, v, 2, v, 2, 0, v, 2) },
		"stride":    func() { Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, 2, 2, 2, 1, v, 1, v, 2, 0, v, 2) },
		"short":     func() { Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, 2, 2, 2, 1, v[:3], 2, v, 2, 0, v, 2) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call()
		}()
	}
	c := []float32{1, 2}
	Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, 1, 2, 1, 0, v, 1, v, 2, 0.5, c, 2)
	if c[0] != 0.5 || c[1] != 1 {
		t.Errorf("alpha 0, beta ½: C = %v", c)
	}
}

// BenchmarkFMALoop is what BenchmarkProducts can reach.
func BenchmarkFMALoop(b *testing.B) {
	var operations float64
	for b.Loop() {
		operations += FMALoop(1 << 14)
	}
	b.ReportMetric(operations/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

// The products of a training step of LSTM(128) on 8 windows of 50 steps, and a
// square one.
func BenchmarkProducts(b *testing.B) {
	const w, u, steps, in, ld = 8, 128, 50, 137, 4*128 + 16
	rng := rand.New(rand.NewPCG(1, 1))
	values := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = rng.Float32()
		}
		return v
	}
	run := func(name string, m, n, k int, product func()) {
		b.Run(fmt.Sprintf("%s_%dx%dx%d", name, m, n, k), func(b *testing.B) {
			for b.Loop() {
				product()
			}
			b.ReportMetric(2*float64(m)*float64(n)*float64(k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
	a, x := values(steps*w*ld), values(steps*w*ld)
	c := values(1 << 20)
	forward, backward := NewPacked(in, 4*u), NewPacked(4*u, u)
	run("forward", w, 4*u, in, func() { forward.Mul(w, a, 144, c, ld, false) })
	run("backward", w, u, 4*u, func() { backward.Mul(w, x, ld, c, u, false) })
	run("gradient", in, 4*u, steps*w, func() { TransMul(in, 4*u, steps*w, a, 144, x, ld, c, 4*u, false) })
	for _, blas := range []struct {
		name string
		blas.Float32Level3
	}{{"sgemm", Implementation{}}, {"gonum", gonum.Implementation{}}} {
		run(blas.name, 512, 512, 400, func() { blas.Sgemm('N', 'N', 512, 512, 400, 1, a, 400, x, 512, 0, c, 512) })
	}
	run("pack", in, 4*u, 1, func() { forward.Pack(x, 4*u) })
	run("pack_trans", 4*u, u, 1, func() { backward.PackTrans(x, 4*u) })
}
