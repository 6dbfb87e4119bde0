package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
)

// A Kind says what happened.
type Kind string

const (
	Tick      Kind = "tick"      // time went on; Facts say how things are
	Prepared  Kind = "prepared"  // the transfers are published
	Pause     Kind = "pause"     // a person: no further stage begins
	Resume    Kind = "resume"    // a person
	Promote   Kind = "promote"   // a person: on to the next stage
	Abort     Kind = "abort"     // a person: all back
	Supersede Kind = "supersede" // a newer rollout is over the same devices
)

// An Event is what happened, and when.
type Event struct {
	Kind  Kind
	At    time.Time
	By    string // who did it
	Facts Facts  // of a Tick
}

// Facts are what is known of the devices at a Tick.
type Facts struct {
	// Active, Failed and Unsettled count the devices that run the version, or
	// shall.
	Active, Failed, Unsettled int
	// Judged are the devices that report pairs, or should, in the order of the
	// draw; the first JudgedActive of them run the version.
	Judged       []quality.Device
	JudgedActive int
	// Untouched are devices that keep the version in place, with their errors by
	// Differing: of evidence did.
	Untouched []quality.Device
	// Early counts those of them that have not reported since they were told, and
	// are not late yet.
	Early int
	Busy  *Busy // devices that another rollout judges; nil: none
	// Unheard are devices that shall run the version, are lost since, and not judged.
	Unheard []Fault
	// Why says more of devices that are judged and lost.
	Why       map[string]Fault
	Elsewhere *float64 // share of silent devices among those it has not touched; nil: too few are left to tell
	Epsilon   float64  // of the quality check: see quality.Params
	Health    Health
}

// Health is what devices told of the version in use, and of the one before.
type Health struct {
	Restarted int      // devices that restart again and again
	Latency   *float64 // p99 as a multiple of that of the version in place; nil: nobody told
	ErrorRate *float64 // share of predictions that failed
	// Drift is the largest population stability index of the inputs against the
	// version's training, and Drifted that input; nil: too few told.
	Drift   *float64
	Drifted string
	// Worst are devices that are themselves beyond a limit, of each check the worst
	// first: all of them where all devices together are beyond it.
	Worst []Fault
}

// lookEvery is the time between two looks.
const lookEvery = time.Minute

// longestStep is what the clock of a stage goes on at most from one event to the
// next: a jump of the clock, or a time without a control plane, is not time in
// which the version was seen to be good.
const longestStep = 2 * lookEvery

// silentAfter is how many reports a device misses before it counts as silent.
const silentAfter = 3

const (
	// Crashes is how many starts of a device's agent, since it was told to run a
	// version, are too many.
	Crashes = 3
	// EnoughElsewhere is how many devices it takes to know what share is silent.
	EnoughElsewhere = 30
)

// Interval is the time between two looks of a plan.
func (p Plan) Interval() time.Duration { return min(lookEvery, time.Duration(p.Every)) }

// Due reports whether it is time to look.
func (s State) Due(p Plan, at time.Time) bool {
	switch s.Phase {
	case Measuring, Running, Held, Watching:
		since := at.Sub(s.At)
		return since >= p.Interval() || since < 0
	}
	return false
}

// Heard is the time from which the silence of devices counts at a tick: none
// could be heard before.
func (s State) Heard(p Plan, at time.Time) time.Time {
	if since := at.Sub(s.At); since < 0 || since > p.Patience() {
		return at
	}
	return s.Fresh
}

// Patience is how long a device may be silent.
func (p Plan) Patience() time.Duration { return silentAfter * time.Duration(p.Every) }

// A Change is what a step does beside the new state.
type Change struct {
	Lost  []Fault  // devices that failed by themselves, named as a stage ends
	Worst []Fault  // others that the check is about which stopped it
	Look  *Outcome // what was seen, to be recorded; nil: it was not the time
}

// Step returns the state after an event. It does not change s.
func Step(p Plan, s State, e Event) (State, Change) {
	if !s.Phase.Live() {
		return s, Change{}
	}
	s.Sizes = slices.Clone(s.Sizes)
	switch e.Kind {
	case Pause:
		s.Paused, s.Reason = true, "paused by "+e.By
	case Resume:
		s.Paused, s.Reason = false, "resumed by "+e.By
	case Promote:
		return s.promoted(p, e), Change{}
	case Abort:
		return s.withdraw(Aborted, "aborted by "+e.By), Change{}
	case Supersede:
		if s.Phase == Watching { // all have it, and whoever joins is to
			return s.end(Done, "all had it; "+e.By), Change{}
		}
		return s.withdraw(Superseded, e.By), Change{}
	case Prepared:
		if s.Phase == Preparing && !s.Paused && p.did() {
			return s.measure(e.At), Change{}
		}
		if s.Phase == Preparing && !s.Paused {
			s.At, s.Fresh = e.At, e.At
			return s.enter(p, 0), Change{}
		}
	case Tick:
		return s.tick(p, e)
	}
	return s, Change{}
}

func (s State) tick(p Plan, e Event) (State, Change) {
	if s.Phase == Scheduled && !p.Start.After(e.At) && !s.Paused {
		s.Phase = Preparing
		return s, Change{}
	}
	if !s.Due(p, e.At) {
		return s, Change{}
	}
	blind := s.Heard(p, e.At).Equal(e.At)
	s = s.advance(p, e.At)
	if blind {
		return s, Change{} // nobody could be heard, so there is nothing to see yet
	}
	if s.Phase == Measuring {
		return s.measured(p, e.Facts), Change{}
	}
	s.Looks++
	if e.Facts.Elsewhere != nil {
		s.Elsewhere = *e.Facts.Elsewhere
	}
	s.Busy = e.Facts.Busy
	s.look(p, e.Facts)
	s.Checks = s.check(p, e.Facts)
	after, change := s.judge(p, e)
	after.note(change)
	seen := Outcome{Stage: p.Stages[s.Stage].Name, At: e.At, Ran: s.Ran, Phase: after.Phase, Reason: after.Reason, Verdict: s.Verdict, Checks: s.Checks}
	seen.name(change)
	if after.Phase != s.Phase || after.Stage != s.Stage || after.Widened != s.Widened {
		after.History = append(slices.Clone(s.History), seen)
	}
	change.Look = &seen
	return after, change
}

// advance lets the stage's clock go on to at.
func (s State) advance(p Plan, at time.Time) State {
	s.Fresh = s.Heard(p, at)
	step := Duration(min(max(at.Sub(s.At), 0), longestStep))
	s.Ran += step
	if s.Paused {
		s.Stood += step
	}
	s.At = at
	return s
}

// look takes the verdict on the quality.
func (s *State) look(p Plan, f Facts) {
	s.Verdict = nil
	measures := p.measures(s.Stage)
	if s.Judge == 0 && !measures {
		return
	}
	params := p.params(s.Stage, f.Epsilon)
	params.Deadline = time.Duration(s.Deadline(p))
	elapsed := time.Duration(s.Ran)
	if s.Phase == Watching {
		params = params.Guarding(time.Duration(p.Watch))
		params.Deadline = 0
	}
	v := quality.Look(quality.Stage{
		Elapsed: elapsed, Look: s.Looks, Silent: s.Elsewhere, Devices: f.Judged,
		Differences: measures, Untouched: f.Untouched,
	}, params)
	// Those that run it can be silent where those in shadow are not.
	if active := f.Judged[:f.JudgedActive]; len(active) > 0 && len(active) < len(f.Judged) {
		a := quality.Look(quality.Stage{Elapsed: elapsed, Look: s.Looks, Silent: s.Elsewhere, Devices: active}, params)
		if a.Reason == quality.ReasonSilence && v.Decision != quality.Stop {
			v = a
		}
	}
	if s.Stage+1 < len(p.Stages) {
		v.Next = p.Stages[s.Stage+1].Name
	}
	s.Verdict = &v
}

// Names of checks.
const (
	CheckQuality  = "quality"
	CheckUpdates  = "failed updates"
	CheckRestarts = "restarts"
	CheckLatency  = "latency p99"
	CheckErrors   = "error rate"
	CheckDrift    = "input drift"

	// Of a Fault alone.
	CheckSilence = "silence"
	CheckNumbers = "non-finite"
)

// check measures what the stage limits.
func (s State) check(p Plan, f Facts) []CheckResult {
	// Those that were lost in an earlier stage counted there, and have gone back.
	gone := min(s.LostN, f.Failed)
	c, n := p.Stages[s.Stage].Checks, f.Active+f.Failed+f.Unsettled-gone
	failed, mayFail := f.Failed-gone, c.MaxFailed
	if s.Phase == Running && s.overdue(p) && mayFail != nil {
		// Silence is a failure, beyond what is silent elsewhere.
		failed += f.Unsettled
		limit := min(*mayFail+s.Elsewhere, 1)
		mayFail = &limit
	}
	var out []CheckResult
	share := func(name string, k int, limit *float64) {
		if limit != nil && n > 0 {
			figure := float64(k) / float64(n)
			out = append(out, CheckResult{Name: name, Figure: figure, Bound: *limit, Data: true, OK: figure <= *limit})
		}
	}
	share(CheckUpdates, failed, mayFail)
	share(CheckRestarts, f.Health.Restarted, c.MaxRestarted)
	for _, m := range []struct {
		name   string
		figure *float64
		limit  *float64
		of     string
	}{{CheckLatency, f.Health.Latency, c.MaxLatency, ""}, {CheckErrors, f.Health.ErrorRate, c.MaxErrorRate, ""}, {CheckDrift, f.Health.Drift, c.MaxDrift, f.Health.Drifted}} {
		switch {
		case m.limit == nil:
		case m.figure == nil:
			out = append(out, CheckResult{Name: m.name, Bound: *m.limit})
		default:
			out = append(out, CheckResult{Name: m.name, Of: m.of, Figure: *m.figure, Bound: *m.limit, Data: true, OK: *m.figure <= *m.limit})
		}
	}
	return out
}

// Deadline is how long the stage under way may run, which is longer by what it was
// paused.
func (s State) Deadline(p Plan) Duration { return p.Stages[s.Stage].Deadline + s.Stood }

func (s State) overdue(p Plan) bool { return s.Ran >= s.Deadline(p) }

// judge acts on what was just measured.
func (s State) judge(p Plan, e Event) (State, Change) {
	if i := slices.IndexFunc(s.Checks, func(c CheckResult) bool { return c.Data && !c.OK }); i >= 0 {
		return s.stop(p, e.Facts, s.Checks[i].Name, s.Checks[i].text())
	}
	v := s.Verdict
	switch {
	case v != nil && v.Decision == quality.Stop:
		return s.stop(p, e.Facts, CheckQuality, CheckQuality+": "+v.Reason)
	case s.Phase == Held || s.Paused:
		return s, Change{}
	case s.Phase == Watching && (v == nil || v.Decision == quality.Pass || s.Ran >= p.Watch):
		return s.end(Done, "watched for "+p.Watch.String()), Change{Lost: s.lose(e.Facts)}
	case s.Phase == Watching:
		return s, Change{}
	}
	switch outcome, why := s.outcome(p, e.Facts); outcome {
	case quality.Pass:
		change := Change{Lost: s.lose(e.Facts)}
		if p.Stages[s.Stage].Hold {
			return s.hold(why + "; a person promotes"), change
		}
		return s.next(p, why), change
	case quality.Inconclusive:
		return s.inconclusive(p, e.Facts, why)
	}
	return s, Change{}
}

// stop takes the version back for what a check found, and names the devices.
func (s State) stop(p Plan, f Facts, check, why string) (State, Change) {
	after := s.withdraw(Stopped, why)
	return after, Change{Lost: after.lose(f), Worst: s.worst(p, f, check)}
}

// outcome says what the stage has come to, nothing having failed.
func (s State) outcome(p Plan, f Facts) (quality.Decision, string) {
	stage := p.Stages[s.Stage]
	blind := slices.IndexFunc(s.Checks, func(c CheckResult) bool { return !c.Data })
	v := s.Verdict
	switch {
	case blind >= 0 && s.overdue(p):
		return quality.Inconclusive, s.Checks[blind].Name + ": no data"
	case blind >= 0:
		return quality.Wait, ""
	case stage.Quality != Off && v != nil && v.Reason == quality.ReasonFew && s.Busy != nil && !s.overdue(p):
		return quality.Wait, "" // they may be free before the deadline
	case stage.Quality != Off && v != nil && v.Reason == quality.ReasonFew:
		if s.Ran >= stage.Minimum && f.Unsettled == 0 || s.overdue(p) {
			return quality.Inconclusive, quality.ReasonFew
		}
		return quality.Wait, ""
	case stage.Quality != Off && v != nil && v.Decision == quality.Pass && f.Early > 0:
		return quality.Wait, "" // some may yet turn out silent
	case stage.Quality != Off && v != nil:
		return v.Decision, CheckQuality + ": " + v.Reason
	case s.Reach > 0 && f.Active+f.Failed+f.Unsettled == 0: // kept from it, all of them
		if s.overdue(p) {
			return quality.Inconclusive, "none of its devices may run it"
		}
		return quality.Wait, ""
	case s.Ran >= stage.Minimum && f.Unsettled == 0:
		return quality.Pass, fmt.Sprintf("%d of %d run it", f.Active, f.Active+f.Failed)
	case s.overdue(p):
		// Those that are silent failed, and so many may.
		return quality.Pass, fmt.Sprintf("%d of %d run it at the deadline", f.Active, f.Active+f.Failed+f.Unsettled)
	}
	return quality.Wait, ""
}

func (s State) inconclusive(p Plan, f Facts, why string) (State, Change) {
	reason := "inconclusive: " + why
	switch {
	case why == quality.ReasonFew && s.Busy != nil:
		return s.hold(fmt.Sprintf("%d devices are too few to judge the quality, since %s; a person promotes", len(f.Judged), s.Busy.text())), Change{}
	case why == quality.ReasonFew:
		return s.hold(fmt.Sprintf("%d devices are too few to judge the quality; a person promotes", len(f.Judged))), Change{}
	case p.OnInconclusive == Hold:
		return s.hold(reason), Change{}
	case p.OnInconclusive == Proceed:
		return s.next(p, reason+"; promoted, as "+s.By+" planned"), Change{Lost: s.lose(f)}
	case p.OnInconclusive == Widen && !s.Widened && s.Judge != 0 && s.Stage+1 < len(p.Stages):
		return s.widen(reason), Change{}
	}
	return s.stop(p, f, "", reason)
}

// widen gives the version in shadow to as many devices again as the next larger
// stage has.
func (s State) widen(reason string) State {
	now := max(s.Judged, s.Reach, s.Shadow)
	wider := now + s.Sizes[len(s.Sizes)-1]
	if i := slices.IndexFunc(s.Sizes, func(n int) bool { return n > now }); i >= 0 {
		wider = now + s.Sizes[i]
	}
	s.Widened, s.Ran, s.Stood = true, 0, 0
	s.Shadow, s.Judged, s.Wider = wider, wider, min(wider, s.Sizes[len(s.Sizes)-1])-now
	s.Reason = reason + "; widened in shadow"
	return s
}

func (s State) hold(reason string) State {
	s.Phase, s.Reason = Held, reason
	return s
}

// promoted goes on by the word of a person.
func (s State) promoted(p Plan, e Event) State {
	why := "promoted by " + e.By
	var after State
	switch s.Phase {
	case Running, Held:
		after = s
		after.Paused = false
		after = after.next(p, why)
	case Watching:
		after = s.end(Done, why)
	default:
		return s
	}
	// What the stage came to is that a person decided, and what was known then.
	after.History = append(slices.Clone(s.History), Outcome{
		Stage: p.Stages[s.Stage].Name, At: e.At, Ran: s.Ran, Phase: after.Phase, Reason: why, Verdict: s.Verdict, Checks: s.Checks,
	})
	return after
}

// next enters the next stage, or ends.
func (s State) next(p Plan, why string) State {
	s.Reason = why
	if s.Stage+1 < len(p.Stages) {
		return s.enter(p, s.Stage+1)
	}
	if p.Watch > 0 && s.Judge != 0 {
		s.Phase, s.Ran, s.Stood = Watching, 0, 0
		return s
	}
	return s.end(Done, why)
}

// enter begins stage i. Where the quality was judged before, those devices go on
// reporting under the same number: their pairs stay valid.
func (s State) enter(p Plan, i int) State {
	stage, size, had := p.Stages[i], s.Sizes[i], s.Reach
	if i == len(p.Stages)-1 {
		size = All // and whoever joins
	}
	s.Phase, s.Stage, s.Ran, s.Stood, s.Verdict, s.Checks, s.Wider = Running, i, 0, 0, nil, nil, 0
	if stage.Shadow {
		s.Shadow = size
	} else {
		s.Reach = max(size, s.Reach)
	}
	switch {
	case p.measures(i):
		if s.Reach > had { // else the devices of the stage before are judged on
			s.Mark, s.From = s.Mark+1, had
		}
	case stage.Quality == Off:
		s.Judge, s.Judged = 0, 0
	case stage.Quality == Paired:
		s.Judges++
		s.Judge = uint32(s.Rollout)<<judgeBits | uint32(s.Judges)
		s.Judged = max(s.Judged, size)
	}
	return s
}

// judgeBits are those of the number under which a stage is judged that count the
// stages of a rollout; those above are the rollout's.
const judgeBits = 6

// LastJudge returns the number under which devices were judged last; 0: never.
func (s State) LastJudge() uint32 {
	if s.Judges == 0 {
		return 0
	}
	return uint32(s.Rollout)<<judgeBits | uint32(s.Judges)
}

// JudgesOf returns the numbers, from and below, under which the stages of a rollout
// are judged.
func JudgesOf(rollout int64) (from, below uint32) {
	return uint32(rollout) << judgeBits, uint32(rollout+1) << judgeBits
}

// RolloutOf returns the rollout of a number under which a stage is judged.
func RolloutOf(judge uint32) int64 { return int64(judge >> judgeBits) }

// end lets go of the devices, that stay as they are.
func (s State) end(phase Phase, why string) State {
	s.Phase, s.Reason, s.Paused = phase, why, false
	s.Shadow, s.Judged, s.Judge, s.Busy = 0, 0, 0, nil
	return s
}

// withdraw sends all devices back.
func (s State) withdraw(phase Phase, why string) State {
	s = s.end(phase, why)
	s.Back = true
	return s
}

func (c CheckResult) text() string {
	if c.Name == CheckUpdates || c.Name == CheckRestarts || c.Name == CheckErrors {
		return fmt.Sprintf("%s: %.3g %%, limit %.3g %%", c.Name, 100*c.Figure, 100*c.Bound)
	}
	of := ""
	if c.Of != "" {
		of = " of " + c.Of
	}
	return fmt.Sprintf("%s: %.3g%s, limit %.3g", c.Name, c.Figure, of, c.Bound)
}

func sortedDistinct(xs []int) []int {
	slices.Sort(xs)
	return slices.Compact(xs)
}
