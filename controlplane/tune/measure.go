package tune

import (
	"fmt"
	"math"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// installBytes is what a device fetches of m: payload and descriptor.
func installBytes(m *artifact.Model) (int, error) {
	t, err := artifact.Pack(m)
	if err != nil {
		return 0, err
	}
	d, err := t.Descriptor.AppendBinary(nil)
	return len(t.Payload) + len(d), err
}

// measure returns the microseconds of one prediction of the int8 model made of w on
// a tier: of a window of so many rows, or of one step. It is the fastest of rounds of
// a millisecond each: what else runs on the machine only ever slows a round.
func measure(w *kernel.Weights, tier string, rows int) (float64, error) {
	const rounds, round = 20, time.Millisecond
	q, err := kernel.Quantize(w)
	if err != nil {
		return 0, err
	}
	k, err := kernel.NewInt8On(tier, q)
	if err != nil {
		return 0, fmt.Errorf("measure predictions: %w", err)
	}
	g, s := k.Graph(), k.NewState()
	x := make([]float32, rows*g.Features)
	y := make([]float32, g.OutputLen(rows))
	once := func() error { return k.Predict(s, y, x) }
	if rows == 1 {
		once = func() error { return k.Step(s, y, x) }
	}
	best := math.Inf(1)
	for range rounds {
		n, start := 0, time.Now()
		for time.Since(start) < round {
			if err := once(); err != nil {
				return 0, err
			}
			n++
		}
		best = min(best, float64(time.Since(start).Nanoseconds())/1e3/float64(n))
	}
	return best, nil
}
