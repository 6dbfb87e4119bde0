package bench

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// BatchOverPeak measures an int8 batch of LSTM(hidden) on the tier avx512vnni
// beside the CPU's peak: LineUS is how long the batch's recurrent products,
// hidden·4·hidden multiplications and additions a step, would take if the CPU
// did nothing but VPDPBUSD on registers. Without that tier it returns an error
// that matches kernel.ErrTier.
func BatchOverPeak(hidden int) (Row, error) {
	o := Options{Rounds: 200}.withDefaults()
	w, err := randomWeights(hidden, o.Features)
	if err != nil {
		return Row{}, err
	}
	m, err := newModel("int8", "avx512vnni", w)
	if err != nil {
		return Row{}, err
	}
	call, steps, err := caller(m, Batch, o.Features)
	if err != nil {
		return Row{}, err
	}
	once := kernel.PeakInt8(1)
	if once == 0 {
		return Row{}, fmt.Errorf("the peak of int8 products: %w", kernel.ErrTier)
	}
	operations := float64(steps) * float64(hidden*4*hidden) * 2
	r, err := inTurns(call, func(n int) { kernel.PeakInt8(n) }, operations/float64(once), o)
	r.Mode, r.Type, r.Hidden, r.Features, r.Tier = Batch, "int8", hidden, o.Features, "avx512vnni"
	return r, err
}
