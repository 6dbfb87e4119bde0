package pipeline

import (
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A gate decides which predictions of a stream are told.
type gate struct {
	alarm bool // its state now
	told  bool // anything was told
	said  bool // the state that was told last
	at    time.Duration
}

// step takes a prediction and reports whether it is told and the alarm's state
// now. Without an alarm every prediction is told; with one, changes of its
// state are, and the first prediction. Neither comes sooner than MinIntervalMS
// after the one before: a change that comes too soon is told at the first
// prediction behind the interval, if it still stands.
func (g *gate) step(p *artifact.Pipeline, y []float32, now time.Duration) (tell, alarm bool) {
	if a := p.Alarm; a != nil {
		g.alarm = hysteresis(g.alarm, y[a.Output], a.Raise, a.Clear)
		tell = !g.told || g.alarm != g.said
	} else {
		tell = true
	}
	if tell && g.told && now-g.at < ms(p.MinIntervalMS) {
		tell = false
	}
	if tell {
		g.told, g.said, g.at = true, g.alarm, now
	}
	return tell, g.alarm
}

// hysteresis is the state of an alarm after v: raised from raise on, cleared
// from clear on, as before between the two.
func hysteresis(on bool, v, raise, clearAt float32) bool {
	up := raise > clearAt
	switch {
	case up && v >= raise, !up && v <= raise:
		return true
	case up && v <= clearAt, !up && v >= clearAt:
		return false
	}
	return on
}
