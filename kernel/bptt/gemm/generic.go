package gemm

import "unsafe"

// genericWidth is the width of a panel in plain Go.
const genericWidth = 8

// multiplyGeneric is the reference: sums in the order of k, then C.
func (x *operands) multiplyGeneric() {
	b := unsafe.Slice(x.b, (x.k-1)*x.bs+x.cols)
	for i := range x.m {
		a := unsafe.Slice(at(x.a, i*x.ars), (x.k-1)*x.acs+1)
		c := unsafe.Slice(at(x.c, i*x.cs), x.cols)
		var sums [genericWidth]float32
		for k := range x.k {
			v := a[k*x.acs]
			for j, w := range b[k*x.bs:][:x.cols] {
				sums[j] += v * w
			}
		}
		for j := range c {
			if x.add {
				c[j] += x.alpha * sums[j]
			} else {
				c[j] = x.alpha * sums[j]
			}
		}
	}
}

func at(p *float32, n int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), 4*n)) }

// packGeneric copies k rows of cols values to a panel of width w.
func packGeneric(dst []float32, k, w, cols int, b []float32, ldb int) {
	for l := range k {
		row := dst[l*w : (l+1)*w]
		clear(row[copy(row, b[l*ldb:l*ldb+cols]):])
	}
}
