package plan

import (
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
)

// A Phase is where a rollout stands.
type Phase string

const (
	Scheduled  Phase = "scheduled"  // its start time is to come
	Preparing  Phase = "preparing"  // its transfers are being published
	Measuring  Phase = "measuring"  // the errors before it, for evidence did
	Running    Phase = "running"    // a stage is under way
	Held       Phase = "held"       // a person is to promote or abort it
	Watching   Phase = "watching"   // all have it, some are still judged
	Done       Phase = "done"       // all have it
	Stopped    Phase = "stopped"    // a check failed; all back
	Aborted    Phase = "aborted"    // by a person; all back
	Superseded Phase = "superseded" // by a newer rollout over the same devices; all back
)

// Live reports whether time goes on for a rollout in that phase.
func (p Phase) Live() bool {
	switch p {
	case Done, Stopped, Aborted, Superseded:
		return false
	}
	return true
}

// A State is all that is remembered of a rollout, beside its plan, its devices
// and what they reported. Devices are counted in the order of their draw: the
// first Reach run the version, those below Shadow that do not run it have it in
// shadow, and the first Judged report pairs under the number Judge.
type State struct {
	Rollout int64 `json:"rollout"`
	Phase   Phase `json:"phase"`
	Paused  bool  `json:"paused,omitempty"`
	Stage   int   `json:"stage"` // of the plan, from 0

	Sizes  []int  `json:"sizes"` // of the stages
	Reach  int    `json:"reach"`
	Shadow int    `json:"shadow"`
	Judged int    `json:"judged"`
	Judge  uint32 `json:"judge"` // 0: nothing is judged
	Judges int    `json:"judges"`
	Back   bool   `json:"back,omitempty"` // all that ran it go back
	// Mark counts the moments at which the errors of all devices were remembered, for
	// evidence did: when measuring began, and as each stage did that is judged. From
	// is the first device of the newest of those stages.
	Mark int `json:"mark,omitempty"`
	From int `json:"from,omitempty"`

	Widened bool `json:"widened,omitempty"`
	// Wider is how many devices that gave it to in shadow, in the stage under way.
	Wider int `json:"wider,omitempty"`
	// Ran is how long the stage has been under way, by a clock that no jump and no
	// downtime moves.
	Ran Duration `json:"ran"`
	// Stood is how much of that it was paused, by which its deadline is later.
	Stood Duration  `json:"stood,omitempty"`
	At    time.Time `json:"at"`    // of the last look
	Fresh time.Time `json:"fresh"` // silence counts from here
	Looks int       `json:"looks"`
	// Elsewhere is the share of silent devices among those not touched, as last known.
	Elsewhere float64 `json:"elsewhere"`

	Verdict *quality.Verdict `json:"verdict,omitempty"` // of the stage's last look
	Checks  []CheckResult    `json:"checks,omitempty"`  // of the stage's last look
	History []Outcome        `json:"history,omitempty"` // of the stages, oldest first
	// Reason says why it is in its phase: what failed, who did it.
	Reason string `json:"reason,omitempty"`
	// Lost are the devices that failed by themselves, and Worst those of the check
	// that stopped it, the worst first: the first of them. LostN and WorstN count all.
	Lost   []Fault `json:"lost,omitempty"`
	LostN  int     `json:"lost_n,omitempty"`
	Worst  []Fault `json:"worst,omitempty"`
	WorstN int     `json:"worst_n,omitempty"`
	By     string  `json:"by,omitempty"` // who started it
	// Busy says which rollout devices report for that are to be judged here, and of
	// how many, as last seen.
	Busy *Busy `json:"busy,omitempty"`
	// InPlace is the version that most of the devices ran before, vN.
	InPlace string `json:"in_place,omitempty"`

	Epsilon     float64 `json:"epsilon"`      // of the quality check: see quality.Params
	DeviceBytes int64   `json:"device_bytes"` // that one fetches, on average
}

// Busy are devices that report pairs for an older rollout, of another model: a
// device reports those of one at a time.
type Busy struct {
	N       int    `json:"n"`
	Rollout int64  `json:"rollout"` // the oldest of them
	Model   string `json:"model"`
}

func (b *Busy) text() string {
	return fmt.Sprintf("%d of its devices are judged for rollout %d of %s until that ends", b.N, b.Rollout, b.Model)
}

// An Outcome is what a stage came to, and by what.
type Outcome struct {
	Stage   string           `json:"stage"`
	At      time.Time        `json:"at"`
	Ran     Duration         `json:"ran"`
	Phase   Phase            `json:"phase"` // since
	Reason  string           `json:"reason"`
	Verdict *quality.Verdict `json:"verdict,omitempty"`
	Checks  []CheckResult    `json:"checks,omitempty"`
	// Faults are the first devices that were found to be at fault as it ended, and
	// FaultN counts them.
	Faults []Fault `json:"faults,omitempty"`
	FaultN int     `json:"fault_n,omitempty"`
}

// A CheckResult is a check with its figure and bound.
type CheckResult struct {
	Name   string  `json:"name"`
	Of     string  `json:"of,omitempty"` // the input, of their drift
	Figure float64 `json:"figure"`
	Bound  float64 `json:"bound"`
	Data   bool    `json:"data"` // false: no device told, so it neither passes nor fails
	OK     bool    `json:"ok"`
}

// New returns the state of a plan that is to begin, over so many devices.
func New(p Plan, rollout int64, devices int, by string, at time.Time) State {
	s := State{Rollout: rollout, Phase: Preparing, Stage: 0, Sizes: p.Sizes(devices), At: at, Fresh: at, By: by}
	if p.Start.After(at) {
		s.Phase = Scheduled
	}
	return s
}

// All is a number of devices that no fleet reaches.
const All = 1 << 30

// StageOf returns the first stage in which the n-th device runs the version.
func (s State) StageOf(p Plan, n int) int {
	for i, size := range s.Sizes {
		if n < size && !p.Stages[i].Shadow {
			return i
		}
	}
	return len(s.Sizes) - 1
}

// NewDevices returns how many devices the stage under way adds to those that have
// the version, or added when it was widened.
func (s State) NewDevices() int {
	switch {
	case s.Wider > 0:
		return s.Wider
	case s.Stage == 0:
		return s.Sizes[0]
	}
	return max(s.Sizes[s.Stage]-max(s.Sizes[s.Stage-1], min(s.Shadow, s.Sizes[s.Stage])), 0)
}

// A Role is what one device is to do about a rollout.
type Role struct {
	Version Version
	Judge   uint32 // 0: it is not judged
}

// A Version says what of a rollout's version a device runs.
type Version string

const (
	Untouched Version = ""       // nothing, or no longer
	InShadow  Version = "shadow" // beside what it runs
	Active    Version = "active"
	Back      Version = "back" // the one before
)

// Role returns what the n-th device of the draw is to do; lost devices have
// failed by themselves.
func (s State) Role(n int, lost bool) Role {
	switch {
	case n < s.Reach && (s.Back || lost):
		return Role{Version: Back}
	case s.Back || lost:
		return Role{}
	}
	var r Role
	if n < s.Judged {
		r.Judge = s.Judge
	}
	switch {
	case n < s.Reach:
		r.Version = Active
	case n < s.Shadow:
		r.Version = InShadow
	default:
		r.Judge = 0
	}
	return r
}

// Changed returns the devices, from and below, whose role may differ between
// two states.
func Changed(a, b State) (spans [][2]int) {
	ends := []int{0, All}
	for _, s := range []State{a, b} {
		ends = append(ends, s.Reach, s.Shadow, s.Judged)
	}
	ends = sortedDistinct(ends)
	for i, from := range ends[:len(ends)-1] {
		if a.Role(from, false) == b.Role(from, false) && a.Role(from, true) == b.Role(from, true) {
			continue
		}
		if n := len(spans); n > 0 && spans[n-1][1] == from {
			spans[n-1][1] = ends[i+1]
			continue
		}
		spans = append(spans, [2]int{from, ends[i+1]})
	}
	return spans
}
