//go:build !noasm

package kernel

func (a *stepArgs) gruStepInt8(t tier, _ int) {
	if t == dotProd {
		gruInt8StepDotProd(a)
	} else {
		gruInt8StepNEON(a)
	}
}

func (a *stepArgs) gruStepFloat32(tier, int) { gruFloat32StepNEON(a) }

func (a *stepArgs) gruRowsInt8(tier, int) { gruInt8RowsNEON(a) }

func (a *stepArgs) gruRowsFloat32(tier, int) { gruFloat32RowsNEON(a) }

func (a *stepArgs) gruBatchInt8(t tier, _ int) {
	if t == dotProd {
		gruInt8BatchDotProd(a)
	} else {
		gruInt8BatchNEON(a)
	}
}

func (a *stepArgs) gruBatchFloat32(tier, int) { gruFloat32BatchNEON(a) }

//go:noescape
func gruInt8StepNEON(a *stepArgs)

//go:noescape
func gruInt8StepDotProd(a *stepArgs)

//go:noescape
func gruFloat32StepNEON(a *stepArgs)

//go:noescape
func gruInt8BatchNEON(a *stepArgs)

//go:noescape
func gruInt8BatchDotProd(a *stepArgs)

//go:noescape
func gruFloat32BatchNEON(a *stepArgs)

//go:noescape
func gruInt8RowsNEON(a *stepArgs)

//go:noescape
func gruFloat32RowsNEON(a *stepArgs)
