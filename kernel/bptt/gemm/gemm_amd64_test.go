//go:build !noasm

package gemm

import (
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel/bptt/internal/simd"
)

// BenchmarkFMALoop is the CPU's own speed, to compare BenchmarkProducts with.
func BenchmarkFMALoop(b *testing.B) {
	const n = 1 << 14
	switch {
	case simd.AVX512:
		for b.Loop() {
			fmaLoopAVX512(n)
		}
	case simd.AVX2:
		for b.Loop() {
			fmaLoopAVX2(n)
		}
	default:
		b.Skip("no FMA")
	}
	b.ReportMetric(2*12*n*float64(lanes())*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
