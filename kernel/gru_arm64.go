//go:build !noasm

package kernel

// gru reports whether the tier has GRUs.
func (t tier) gru() bool { return false }

func (a *stepArgs) gruStepInt8(tier, int)     { panic("kernel: no GRU in assembly") }
func (a *stepArgs) gruStepFloat32(tier, int)  { panic("kernel: no GRU in assembly") }
func (a *stepArgs) gruRowsInt8(tier, int)     { panic("kernel: no GRU in assembly") }
func (a *stepArgs) gruRowsFloat32(tier, int)  { panic("kernel: no GRU in assembly") }
func (a *stepArgs) gruBatchInt8(tier, int)    { panic("kernel: no GRU in assembly") }
func (a *stepArgs) gruBatchFloat32(tier, int) { panic("kernel: no GRU in assembly") }
