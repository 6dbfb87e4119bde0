// Package rehearse carries out the plan of a rollout on a fleet that does not exist,
// in virtual time: the decisions are those of package plan, on what the devices of a
// scenario would have reported.
package rehearse

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Moment is a change of a rollout's state.
type Moment struct {
	At     plan.Duration `json:"at"` // since it began
	Phase  plan.Phase    `json:"phase"`
	Stage  string        `json:"stage"`
	Have   int           `json:"have"` // devices that run the version
	Reason string        `json:"reason"`
}

// An Outcome is how a rehearsal went.
type Outcome struct {
	Moments []Moment      `json:"moments"`
	Final   plan.Phase    `json:"final"`
	Took    plan.Duration `json:"took"`
	Reached int           `json:"reached"` // most devices that ran the version at one time
	Left    int           `json:"left"`    // that run it at the end
	Lost    []plan.Fault  `json:"lost"`    // devices that failed by themselves
	State   plan.State    `json:"state"`
}

// begin is when every rehearsal begins: a Monday.
var begin = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// A rehearsal is one under way.
type rehearsal struct {
	scenario scenario.Scenario
	plan     plan.Plan
	fleet    []seat         // in the order of the draw
	place    map[string]int // in fleet, of each device
	state    plan.State
	at       time.Time
	out      Outcome
	acted    int
}

// Run carries out a plan on a scenario; both have their defaults filled in. The same
// arguments give the same outcome. scenario.ErrScenario, plan.ErrPlan, or that ctx
// ended.
func Run(ctx context.Context, p plan.Plan, s scenario.Scenario) (Outcome, error) {
	s = s.WithDefaults()
	if err := s.Check(); err != nil {
		return Outcome{}, err
	}
	if len(p.Stages) == 0 {
		p = plan.ShadowFirst(s.Devices)
	}
	p = p.WithDefaults()
	p.Start, p.Window = time.Time{}, nil // of a clock that is not here
	if err := p.Check(); err != nil {
		return Outcome{}, err
	}
	r := &rehearsal{scenario: s, plan: p, at: begin}
	r.draw()
	r.state = plan.New(p, 1, s.Devices, "rehearsal", begin)
	r.state.Elsewhere = r.share(0)
	r.step(plan.Event{Kind: plan.Prepared, At: begin})
	end := begin.Add(time.Duration(s.Until))
	for r.state.Phase.Live() && r.at.Before(end) && !r.waiting() {
		if ctx.Err() != nil {
			return Outcome{}, context.Cause(ctx)
		}
		r.at = r.at.Add(p.Interval())
		r.pass()
	}
	r.out.Final, r.out.State, r.out.Took = r.state.Phase, r.state, plan.Duration(r.at.Sub(begin))
	r.out.Left = r.have()
	return r.out, nil
}

// waiting reports whether a person is to go on who does not come.
func (r *rehearsal) waiting() bool {
	return (r.state.Phase == plan.Held || r.state.Paused) && r.acted == len(r.scenario.People)
}

// draw makes the fleet, in the order in which its devices get the version.
func (r *rehearsal) draw() {
	fleet := r.scenario.Fleet()
	candidates := make([]plan.Candidate, len(fleet))
	r.place = make(map[string]int, len(fleet))
	for i, d := range fleet {
		candidates[i] = plan.Candidate{ID: d.ID, Group: d.Group, Comparable: true}
		r.place[d.ID] = i
	}
	r.fleet = make([]seat, len(fleet))
	for n, c := range plan.Draw(candidates, r.plan.Sizes(len(fleet)), cmp.Or(r.plan.Seed, r.scenario.Seed)) {
		d := &r.fleet[n]
		d.Device = fleet[r.place[c.ID]]
		r.place[c.ID] = n
		if r.differs() {
			d.measure(begin, r.plan)
		}
	}
}

// pass lets the devices do what they do until r.at, and tells the rollout.
func (r *rehearsal) pass() {
	for i := range r.fleet {
		r.fleet[i].live(r.at, r.plan, time.Duration(r.scenario.Sample))
	}
	for _, a := range r.scenario.People[r.acted:] {
		if begin.Add(time.Duration(a.At)).After(r.at) {
			break
		}
		r.acted++
		r.step(plan.Event{Kind: plan.Kind(a.Do), At: r.at, By: a.By})
	}
	r.step(plan.Event{Kind: plan.Tick, At: r.at, Facts: r.facts()})
}

// step takes the rollout on and tells the devices.
func (r *rehearsal) step(e plan.Event) {
	was := r.state
	next, change := plan.Step(r.plan, r.state, e)
	r.state = next
	r.mark(was)
	for _, l := range change.Lost {
		r.fleet[r.place[l.Device]].lost = l.Loss
		r.out.Lost = append(r.out.Lost, l)
	}
	longest := r.plan.Longest()
	for i := range r.fleet {
		d := &r.fleet[i]
		if role := r.state.Role(i, d.lost != ""); role != d.wanted {
			d.tell(role, e.At, r.plan)
		}
		if d.until.Before(e.At.Add(longest / 2)) {
			d.until = e.At.Add(longest)
		}
		if d.role != d.wanted && !d.Unheard(e.At) {
			d.obey(e.At, r.plan)
		}
	}
	have := r.have()
	r.out.Reached = max(r.out.Reached, have)
	if was.Phase != next.Phase || was.Stage != next.Stage || was.Widened != next.Widened || was.Paused != next.Paused {
		r.out.Moments = append(r.out.Moments, Moment{
			At: plan.Duration(e.At.Sub(begin)), Phase: next.Phase, Stage: r.plan.Stages[next.Stage].Name, Have: have, Reason: next.Reason,
		})
	}
}

// have counts the devices that run the version.
func (r *rehearsal) have() int {
	n := 0
	for i := range r.fleet {
		if r.fleet[i].active() {
			n++
		}
	}
	return n
}

// share is that of silent devices among those from the n-th on.
func (r *rehearsal) share(n int) float64 {
	away := 0
	for i := range r.fleet[n:] {
		if r.fleet[n+i].Away {
			away++
		}
	}
	return float64(away) / float64(len(r.fleet)-n)
}

// facts are what the devices told.
func (r *rehearsal) facts() plan.Facts {
	f := plan.Facts{Epsilon: r.state.Epsilon}
	if n := max(r.state.Reach, r.state.Shadow); n+plan.EnoughElsewhere <= len(r.fleet) {
		share := r.share(n)
		f.Elsewhere = &share
	}
	fresh := r.state.Heard(r.plan, r.at)
	var told []plan.Counted
	for i := range r.fleet[:min(max(r.state.Reach, r.state.Judged), len(r.fleet))] {
		d := &r.fleet[i]
		judged := r.state.Judge != 0 && i < r.state.Judged
		if judged {
			q := quality.Device{ID: d.ID, Group: d.Group, Lost: d.loss(r.at, fresh, r.plan), Known: d.lost != ""}
			q.Add(d.pairs)
			f.Judged = append(f.Judged, q)
			if q.Lost == "" && d.heard.Before(d.told) {
				f.Early++
			}
			if q.Pairs > 0 && r.plan.Stages[r.state.Stage].Checks.MaxLatency != nil {
				told = append(told, timed(d, r.at))
			}
		}
		if i < r.state.Reach {
			r.count(d, judged, &f)
			f.JudgedActive = len(f.Judged)
		}
	}
	r.differences(fresh, &f)
	f.Health.Latency = plan.Slower(told)
	if f.Active+len(f.Judged) > 0 { // as well as before, on inputs as in training
		f.Health.ErrorRate = new(float64)
		if r.state.Ran >= plan.Duration(time.Hour) { // by when all have told their inputs
			f.Health.Drift = new(float64)
		}
	}
	return f
}

// count counts a device that is to run the version.
func (r *rehearsal) count(d *seat, judged bool, f *plan.Facts) {
	fault := plan.Fault{Device: d.ID, Loss: quality.Refused, Check: plan.CheckUpdates}
	switch {
	case d.lost != "":
		f.Failed++
		return
	case d.refused:
		f.Failed++
	case d.runs && !(r.plan.Stages[r.state.Stage].Quality == plan.Off && d.Unheard(r.at)):
		f.Active++
		if d.crashed(r.at) {
			f.Health.Restarted++
		}
		return
	default:
		f.Unsettled++
		if r.state.Ran+plan.Duration(2*r.plan.Interval()) < r.state.Deadline(r.plan) {
			return
		}
		fault.Loss, fault.Check = quality.Silent, plan.CheckSilence
	}
	if !judged {
		f.Unheard = append(f.Unheard, fault)
	}
}

// timed is what a judged device counts of its latency.
func timed(d *seat, at time.Time) plan.Counted {
	took := float64(scenario.Took.Microseconds())
	return plan.Counted{Device: d.ID, Before: once(took), Latency: once(took * d.Latency(at))}
}

// once counts a prediction that took us microseconds.
func once(us float64) []uint64 {
	bucket := protocol.LatencyBucket(uint64(us))
	counts := make([]uint64, bucket+1)
	counts[bucket] = 1
	return counts
}

// WriteTimeline writes what happened, a line each: when, where the plan stands since,
// how many devices run the version then, and why.
func (o Outcome) WriteTimeline(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%10s  %-10s %-12s %6s  why\n", "at", "phase", "stage", "run it"); err != nil {
		return err
	}
	for _, m := range o.Moments {
		why := m.Reason
		if why == plan.CheckQuality+": "+quality.ReasonQuality {
			why = plan.CheckQuality
		}
		line := fmt.Sprintf("%10s  %-10s %-12s %6d  %s", m.At, m.Phase, m.Stage, m.Have, why)
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%10s  ended %s: %d of the devices ran it at most, %d do now, %d failed by themselves\n",
		o.Took, o.Final, o.Reached, o.Left, len(o.Lost))
	return err
}

// Rates are the outcomes of the same rehearsal with many seeds.
type Rates struct {
	Rehearsals int `json:"rehearsals"`
	// Through are those in which the version went beyond the first stage that
	// callers hear, Stopped those that a check ended.
	Through int                `json:"through"`
	Stopped int                `json:"stopped"`
	Finals  map[plan.Phase]int `json:"finals"`
	// Reasons counts those that were stopped by why: quality, group, minority or
	// silence, another check, or inconclusive.
	Reasons map[string]int `json:"reasons"`
	// ThroughUpper and StoppedUpper are bounds that the true rates are below with
	// 95 % confidence (Clopper and Pearson 1934, one-sided).
	ThroughUpper float64 `json:"through_upper"`
	StoppedUpper float64 `json:"stopped_upper"`
	// Decided is the median time until the version was stopped or through.
	Decided plan.Duration `json:"decided"`
}

// Repeat rehearses with n seeds, from the scenario's on. each, which may be nil, is
// told after every one.
func Repeat(ctx context.Context, p plan.Plan, s scenario.Scenario, n int, each func(done int)) (Rates, error) {
	out := Rates{Rehearsals: n, Finals: map[plan.Phase]int{}, Reasons: map[string]int{}}
	var times []plan.Duration
	for i := range n {
		one := s
		one.Seed += uint64(i)
		o, err := Run(ctx, p, one)
		if err != nil {
			return out, err
		}
		out.Finals[o.Final]++
		decided := o.Took
		if at, through := o.through(); through {
			out.Through++
			decided = at
		}
		if o.Final == plan.Stopped {
			out.Stopped++
			out.Reasons[o.why()]++
		}
		times = append(times, decided)
		if each != nil {
			each(i + 1)
		}
	}
	if n > 0 {
		slices.SortFunc(times, cmp.Compare[plan.Duration])
		out.Decided = times[n/2]
		out.ThroughUpper, out.StoppedUpper = Upper95(out.Through, n), Upper95(out.Stopped, n)
	}
	return out, nil
}

// why says in a word what stopped the version.
func (o Outcome) why() string {
	check, reason, _ := strings.Cut(o.State.Reason, ": ")
	if check == plan.CheckQuality {
		return reason
	}
	return check
}

// through returns when the version went beyond the first stage that callers hear.
func (o Outcome) through() (plan.Duration, bool) {
	first := ""
	for _, m := range o.Moments {
		switch {
		case m.Phase != plan.Running && m.Phase != plan.Watching && m.Phase != plan.Done || m.Have == 0:
		case first == "":
			first = m.Stage
		case m.Stage != first:
			return m.At, true
		}
	}
	return 0, false
}
