// Command gengemm writes the amd64 assembly of packages bptt and bptt/gemm.
//
//	./generate.sh        writes it
//	./generate.sh check  fails if what is checked in differs
package main

import (
	"flag"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	part := flag.String("part", "", "gemm or gates")
	flag.Parse()
	ConstraintExpr("amd64,!noasm")
	masks()

	switch *part {
	case "gemm":
		for _, v := range []*isa{avx512, avx2} {
			for _, n := range v.panels {
				product(v, n)
				pack(v, n)
			}
			fmaLoop(v)
		}
	case "gates":
		constants()
		for _, v := range []*isa{avx512, avx2} {
			gatesForward(v)
			gatesBackward(v)
			gruForward(v)
			gruBackward(v)
			adam(v)
			addTo(v)
		}
	default:
		panic("-part?")
	}
	Generate()
}
