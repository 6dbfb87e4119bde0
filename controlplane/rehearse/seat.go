package rehearse

import (
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// What devices take for things, as agents do.
const (
	trial   = 10 * time.Second // a new version is on trial
	restart = 2 * time.Second  // between two starts of one that crashes
)

// A seat is a device and its part in the rollout. Messages take no time; but what is
// sent as the control plane looks is heard at the next look.
type seat struct {
	*scenario.Device

	// As the control plane knows it.
	wanted plan.Role
	told   time.Time        // when it was told that
	until  time.Time        // when it is no longer judged
	heard  time.Time        // when its last report under that number came
	pairs  protocol.Quality // that report
	runs   bool             // it said that it runs the version
	lost   quality.Loss     // it counts as failed by itself

	// As it is.
	role    plan.Role
	since   time.Time // when it got the version
	report  time.Time // when its next report is due
	sampled time.Time // up to when errors are compared
	refused bool      // it could not run the version

	*marks // of evidence did: it tells the errors of the version in use, all the time
}

// measure has the device tell the errors of the version in use from at on.
func (d *seat) measure(at time.Time, p plan.Plan) {
	d.marks, d.sampled, d.report = new(marks), at, at.Add(time.Duration(p.Every))
	d.Take(scenario.Idle, alone, at)
}

// tell wants the device to have another role.
func (d *seat) tell(role plan.Role, at time.Time, p plan.Plan) {
	if role.Judge != d.wanted.Judge {
		d.heard, d.pairs = time.Time{}, protocol.Quality{}
	}
	if role.Version != d.wanted.Version {
		d.runs = false
	}
	d.wanted, d.told = role, at
}

// obey gives the device the role that is wanted.
func (d *seat) obey(at time.Time, p plan.Plan) {
	was, role := d.role, d.wanted
	d.role = role
	if role.Version == plan.Active && d.refused {
		return
	}
	d.refused = false
	judge := role.Judge
	if d.marks != nil {
		judge, d.got = alone, d.pairs
	}
	has := scenario.Idle
	switch role.Version {
	case plan.InShadow:
		has = scenario.Shadow
	case plan.Active:
		has = scenario.Active
	}
	d.Take(has, judge, at)
	if role.Version == plan.Active && was.Version != plan.Active {
		d.since = at
		// One that crashes on trial is back on the version before.
		if d.Does(scenario.Failing, at) != nil || d.Does(scenario.Crashing, at.Add(trial-restart)) != nil {
			d.refused = true
			d.Take(scenario.Idle, judge, at)
		}
	}
	if role.Judge != 0 && role.Judge != was.Judge {
		d.sampled, d.report = at, at.Add(time.Duration(p.Every))
	}
}

// live lets the device do what it does before at, sample being the time between two
// comparisons.
func (d *seat) live(at time.Time, p plan.Plan, sample time.Duration) {
	if d.active() && !d.runs {
		tried := d.since.Add(trial)
		d.runs = tried.Before(at) && (!d.Unheard(tried) || !d.Unheard(at.Add(-1)))
	}
	if d.role.Judge == 0 && d.marks == nil {
		return
	}
	for ; d.report.Before(at); d.report = d.report.Add(time.Duration(p.Every)) {
		if !d.reports() {
			continue
		}
		n := d.report.Sub(d.sampled) / sample
		d.sampled = d.sampled.Add(n * sample)
		d.Compare(int(n), d.report)
		if !d.Unheard(d.report) {
			d.heard, d.pairs = d.report, d.Pairs
		}
	}
}

// reports reports whether a report that is due is made. One that crashes starts anew
// before it would be.
func (d *seat) reports() bool {
	if d.marks != nil {
		return true
	}
	return !d.refused && d.Does(scenario.Crashing, d.report) == nil && !d.Clock(d.report).After(d.until)
}

// active reports whether the device runs the version.
func (d *seat) active() bool { return d.role.Version == plan.Active && !d.refused }

// crashed reports whether its agent has started again and again.
func (d *seat) crashed(at time.Time) bool {
	return d.active() && d.Does(scenario.Crashing, at.Add(-plan.Crashes*restart-1)) != nil
}

// loss says why a judged device counts as lost, "" if it is well. Silence counts from
// fresh at the earliest.
func (d *seat) loss(at, fresh time.Time, p plan.Plan) quality.Loss {
	last := slices.MaxFunc([]time.Time{d.told.Add(time.Duration(p.Every)), d.heard, fresh}, time.Time.Compare)
	switch {
	case d.lost != "":
		return d.lost
	case d.refused:
		return quality.Refused
	case d.crashed(at):
		return quality.Crashed
	case at.Sub(last) > p.Patience():
		return quality.Silent
	}
	return ""
}
