//go:build noasm || !(amd64 || arm64)

package kernel

var always = true

var tiers = []choice{{generic, &always}}

func (t tier) blockUnits() int { return 16 }

func (t tier) offset() bool { return false }

func (a *stepArgs) stepInt8(t tier, units int)    { panic("kernel: no assembly in this build") }
func (a *stepArgs) stepFloat32(t tier, units int) { panic("kernel: no assembly in this build") }
func (a *stepArgs) rowsInt8(t tier, units int)    { panic("kernel: no assembly in this build") }
func (a *stepArgs) rowsFloat32(t tier, units int) { panic("kernel: no assembly in this build") }

func (a *stepArgs) gruStepInt8(t tier, units int)    { panic("kernel: no assembly in this build") }
func (a *stepArgs) gruStepFloat32(t tier, units int) { panic("kernel: no assembly in this build") }
func (a *stepArgs) gruRowsInt8(t tier, units int)    { panic("kernel: no assembly in this build") }
func (a *stepArgs) gruRowsFloat32(t tier, units int) { panic("kernel: no assembly in this build") }

func (a *stepArgs) gruBatchInt8(t tier, units int)    { panic("kernel: no assembly in this build") }
func (a *stepArgs) gruBatchFloat32(t tier, units int) { panic("kernel: no assembly in this build") }

func (t tier) batchTile() int { return 0 }

func (a *stepArgs) batchInt8(t tier, units int)    { panic("kernel: no assembly in this build") }
func (a *stepArgs) batchFloat32(t tier, units int) { panic("kernel: no assembly in this build") }

func denseSum(t tier, y, bias, w, x *float32, units, n int) {
	panic("kernel: no assembly in this build")
}

func readLine(b []byte, times int) { readLineGeneric(b, times) }

func peakInt8(n int) bool { return false }
