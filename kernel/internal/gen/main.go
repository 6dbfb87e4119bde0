// Command gen writes the amd64 assembly of package kernel.
//
//	./generate.sh        (task generate)
//	./generate.sh check  (task generate -- check)
//
// Registers are chosen here, not by avo: the AVX-VNNI form of VPDPBUSD is
// written as bytes, which need to know them.
package main

import (
	. "github.com/mmcloughlin/avo/build"
)

func main() {
	ConstraintExpr("amd64,!noasm")
	constants()
	for _, of := range []func(*isa) *isa{(*isa).ofLSTM, (*isa).ofGRU} {
		layer(of(avx512), of(avx512Half), of(avxVNNI), of(vnniEVEX), of(avx2))
	}
	dense(avx512)
	dense(avx2)
	line(avx512)
	line(avx2)
	peak(avx512)
	Generate()
}

// layer writes all that runs a kind of layer.
func layer(avx512, avx512Half, avxVNNI, vnniEVEX, avx2 *isa) {
	for _, v := range []*isa{avx512, avx512Half} {
		step(v, "int8Step", vnni512{v})
	}
	step(avx2, "int8Step", signed2{avx2})
	step(avxVNNI, "int8Step", vnniVEX{avxVNNI})
	step(vnniEVEX, "int8Step", vnni256{vnniEVEX})
	for _, v := range []*isa{avx512, avx512Half, avx2} {
		step(v, "float32Step", nil)
		inputRows(v, "int8Rows", false)
		inputRows(v, "float32Rows", true)
	}
	for _, v := range []*isa{avx512, avx512Half} {
		if v.gru {
			gruBatch(v, "int8Batch", true)
			gruBatch(v, "float32Batch", false)
		} else {
			int8Batch(v)
			float32Batch(v)
		}
	}
	inTurn(avx2, "int8Batch", signed2{avx2})
	inTurn(avxVNNI, "int8Batch", vnniVEX{avxVNNI})
	inTurn(vnniEVEX, "int8Batch", vnni256{vnniEVEX})
	inTurn(avx2, "float32Batch", nil)
}
