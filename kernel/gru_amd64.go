//go:build !noasm

package kernel

func (a *stepArgs) gruStepInt8(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		gruInt8StepAVX512(a)
	case t == avx512VNNI:
		gruInt8StepAVX512Half(a)
	case t == avxVNNI && avxVNNITwin:
		gruInt8StepAVXVNNITwin(a)
	case t == avxVNNI:
		gruInt8StepAVXVNNI(a)
	default:
		gruInt8StepAVX2(a)
	}
}

func (a *stepArgs) gruStepFloat32(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		gruFloat32StepAVX512(a)
	case t == avx512VNNI:
		gruFloat32StepAVX512Half(a)
	default:
		gruFloat32StepAVX2(a)
	}
}

func (a *stepArgs) gruRowsInt8(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		gruInt8RowsAVX512(a)
	case t == avx512VNNI:
		gruInt8RowsAVX512Half(a)
	default:
		gruInt8RowsAVX2(a)
	}
}

func (a *stepArgs) gruRowsFloat32(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		gruFloat32RowsAVX512(a)
	case t == avx512VNNI:
		gruFloat32RowsAVX512Half(a)
	default:
		gruFloat32RowsAVX2(a)
	}
}

func (a *stepArgs) gruBatchInt8(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		gruInt8BatchAVX512(a)
	case t == avx512VNNI:
		gruInt8BatchAVX512Half(a)
	case t == avxVNNI && avxVNNITwin:
		gruInt8BatchAVXVNNITwin(a)
	case t == avxVNNI:
		gruInt8BatchAVXVNNI(a)
	default:
		gruInt8BatchAVX2(a)
	}
}

func (a *stepArgs) gruBatchFloat32(t tier, units int) {
	switch {
	case t == avx512VNNI && units == 32:
		gruFloat32BatchAVX512(a)
	case t == avx512VNNI:
		gruFloat32BatchAVX512Half(a)
	default:
		gruFloat32BatchAVX2(a)
	}
}

//go:noescape
func gruInt8StepAVX512(a *stepArgs)

//go:noescape
func gruInt8StepAVX512Half(a *stepArgs)

//go:noescape
func gruInt8StepAVXVNNI(a *stepArgs)

//go:noescape
func gruInt8StepAVX2(a *stepArgs)

//go:noescape
func gruFloat32StepAVX512(a *stepArgs)

//go:noescape
func gruFloat32StepAVX512Half(a *stepArgs)

//go:noescape
func gruFloat32StepAVX2(a *stepArgs)

//go:noescape
func gruInt8RowsAVX512(a *stepArgs)

//go:noescape
func gruInt8RowsAVX512Half(a *stepArgs)

//go:noescape
func gruInt8RowsAVX2(a *stepArgs)

//go:noescape
func gruFloat32RowsAVX512(a *stepArgs)

//go:noescape
func gruFloat32RowsAVX512Half(a *stepArgs)

//go:noescape
func gruFloat32RowsAVX2(a *stepArgs)

//go:noescape
func gruInt8BatchAVX512(a *stepArgs)

//go:noescape
func gruInt8BatchAVX512Half(a *stepArgs)

//go:noescape
func gruFloat32BatchAVX512(a *stepArgs)

//go:noescape
func gruFloat32BatchAVX512Half(a *stepArgs)

//go:noescape
func gruInt8BatchAVXVNNI(a *stepArgs)

//go:noescape
func gruInt8BatchAVX2(a *stepArgs)

//go:noescape
func gruFloat32BatchAVX2(a *stepArgs)

//go:noescape
func gruInt8StepAVXVNNITwin(a *stepArgs)

//go:noescape
func gruInt8BatchAVXVNNITwin(a *stepArgs)
