package agent

import (
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
)

// A version on trial is too slow when it takes slowFactor times as long as the
// one it replaces, on this device, and more than slowFloor: what answers within
// that is quick whatever was before. Four times the units of an LSTM take up to
// sixteen times as long; Config.MaxSlowdown allows a board to take them.
const (
	slowFactor = 8
	slowFloor  = time.Millisecond
)

// measureRuns is how often each version is timed. The minimum counts, and the
// two take turns: other work on the device delays a run, and never shortens one.
const measureRuns = 5

// tooSlow reports that p, on trial for model, takes too long. It does not when
// there is no previous version to compare with, or none that can be read.
func (a *Agent) tooSlow(model string, p *predictor.Predictor) error {
	previous := a.state.Models[model].Previous
	if previous.none() || a.cfg.MaxSlowdown < 0 {
		return nil
	}
	old, err := a.openSlot(slot{model, previous.Digest})
	if old == nil {
		a.cfg.Log.Warn("the previous version cannot be timed", "model", model, "err", err)
		return nil
	}
	now, before := a.measure(p), a.measure(old)
	for range measureRuns - 1 {
		now, before = min(now, a.measure(p)), min(before, a.measure(old))
	}
	if now <= slowFloor || float64(now) <= a.cfg.MaxSlowdown*float64(before) {
		return nil
	}
	return &slowError{now, before, a.cfg.MaxSlowdown}
}

// A slowError says how much longer a prediction takes than before.
type slowError struct {
	now, before time.Duration
	allowed     float64
}

func (e *slowError) Error() string {
	return fmt.Sprintf("a prediction takes %s, and took %s before; at most %g times as long is allowed", e.now, e.before, e.allowed)
}

// measure times one prediction of p, the mean over its golden vectors.
func measure(p *predictor.Predictor) time.Duration {
	began := time.Now()
	_ = p.Check() // it passed before
	return time.Since(began) / time.Duration(max(1, p.Vectors()))
}
