//go:build !noasm

package simd

import "golang.org/x/sys/cpu"

var (
	AVX512 = AVX2 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasBMI2
	AVX2   = cpu.X86.HasAVX2 && cpu.X86.HasFMA
)

// Tiers are those of this build, best first, for tests to walk.
var Tiers = []Tier{{"avx512", &AVX512}, {"avx2", &AVX2}}
