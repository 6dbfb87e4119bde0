package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
)

// A Fault names a device for what a check found there, with the figure and what that
// may be at most. What both count depends on the check:
//
//	silence         seconds without a report, or on the way to the version
//	failed updates  none; Message says why
//	restarts        starts of the agent since it was told to run the version
//	non-finite      outputs that are missing or no numbers
//	quality         the candidate's error as a multiple of that of the version in place
//	latency p99     likewise, of the time in the kernel
//	error rate      share of predictions that failed
//	input drift     population stability index of the input that Message names
type Fault struct {
	Device  string       `json:"device"`
	Loss    quality.Loss `json:"loss,omitempty"` // how it failed by itself; "" if it is merely among the worst
	Check   string       `json:"check,omitempty"`
	Figure  float64      `json:"figure,omitempty"`
	Bound   float64      `json:"bound,omitempty"`
	Message string       `json:"message,omitempty"` // what it said itself
}

const (
	// maxFaults is how many devices a state names of each kind, and maxNamed an
	// outcome. The store has all.
	maxFaults, maxNamed = 100, 5
)

// FigureText is the figure with its unit; "" if there is none.
func (f Fault) FigureText() string { return f.quantity(f.Figure) }

// BoundText is the bound with its unit; "" if there is none.
func (f Fault) BoundText() string { return f.quantity(f.Bound) }

func (f Fault) quantity(x float64) string {
	switch f.Check {
	case CheckSilence:
		return minutes(Duration(x * float64(time.Second)))
	case CheckRestarts, CheckNumbers:
		return fmt.Sprintf("%.0f", x)
	case CheckQuality:
		return fmt.Sprintf("%+.1f %%", 100*(x-1))
	case CheckLatency, CheckDrift:
		return fmt.Sprintf("%.3g", x)
	case CheckErrors:
		return fmt.Sprintf("%.3g %%", 100*x)
	}
	return ""
}

// lose returns the devices that failed by themselves as a stage ends, each once:
// they go back by themselves. Where all go on with the version those are not among
// them that are only not heard of: they get it when they are back.
func (s State) lose(f Facts) []Fault {
	last := !s.Back && s.Reach == All
	judged, unheard := f.Judged, f.Unheard
	switch {
	case s.Back:
	case last:
		unheard = nil
	default:
		judged = judged[:f.JudgedActive] // those in shadow may yet be heard of
	}
	var lost []Fault
	for _, d := range judged {
		if d.Lost == "" || d.Known || last && d.Lost != quality.NonFinite && d.Lost != quality.Crashed {
			continue
		}
		fault, has := f.Why[d.ID]
		if !has {
			fault = Fault{Device: d.ID, Loss: d.Lost}
		}
		lost = append(lost, fault)
	}
	return append(lost, unheard...)
}

// worst returns the devices that the check which failed is about.
func (s State) worst(p Plan, f Facts, check string) []Fault {
	if check != CheckQuality {
		return slices.DeleteFunc(slices.Clone(f.Health.Worst), func(w Fault) bool { return w.Check != check })
	}
	var out []Fault
	for _, h := range s.Verdict.Harmed(f.Judged, p.params(s.Stage, f.Epsilon)) {
		out = append(out, Fault{Device: h.ID, Check: CheckQuality, Figure: h.Ratio, Bound: h.Bound})
	}
	return out
}

// note remembers the devices that a change names.
func (s *State) note(c Change) {
	keep := func(old, more []Fault) []Fault {
		return append(slices.Clone(old), more[:min(len(more), maxFaults-min(len(old), maxFaults))]...)
	}
	s.Lost, s.LostN = keep(s.Lost, c.Lost), s.LostN+len(c.Lost)
	s.Worst, s.WorstN = keep(s.Worst, c.Worst), s.WorstN+len(c.Worst)
}

// name adds to an outcome which devices were at fault.
func (o *Outcome) name(c Change) {
	all := append(slices.Clone(c.Worst), c.Lost...)
	o.FaultN = len(all)
	o.Faults = all[:min(len(all), maxNamed)]
}

// faults names the devices of an outcome in a sentence; "" if there are none.
func (o Outcome) faults() string {
	if o.FaultN == 0 {
		return ""
	}
	names := make([]string, len(o.Faults))
	for i, f := range o.Faults {
		names[i] = f.Device
		switch {
		case f.Loss != "":
			names[i] += " (" + string(f.Loss) + ")"
		case f.FigureText() != "":
			names[i] += " (" + f.FigureText() + ")"
		}
	}
	text := strings.Join(names, ", ")
	if more := o.FaultN - len(o.Faults); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return "At fault: " + text + "."
}
