package plan

import (
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
)

// What the quality is judged by.
const (
	// Pairs are the errors of both versions on the same inputs.
	Pairs = "paired"
	// DiD, difference in differences, is for devices that cannot hold two versions,
	// or where forecasts steer what is forecast: the error of the version after a
	// device got it against that of the one before, in the same device, less what
	// changed meanwhile on devices that keep theirs. Nothing runs beside anything. It
	// knows less: devices differ from one day to the next.
	DiD = "did"
)

const (
	// beforeLeast is how long the errors before are measured at least: one day, so
	// that every hour of it is there.
	beforeLeast = 24 * time.Hour
	didDeadline = 5 * 24 * time.Hour
	didPass     = 1.15 // m_pass of every stage
)

func (p Plan) did() bool { return p.Evidence == DiD }

// measures reports whether stage i is judged by differences in differences.
func (p Plan) measures(i int) bool { return p.did() && p.Stages[i].Quality == Paired }

// withoutPairs are the defaults of a plan that is judged by differences in
// differences: no stage goes on with pairs of one before, and when all have the
// version nobody is left to compare with.
func (p *Plan) withoutPairs() {
	if p.OnInconclusive == "" {
		p.OnInconclusive = Abandon
	}
	if p.Before == 0 {
		p.Before = Duration(beforeLeast)
	}
	for i := range p.Stages {
		s := &p.Stages[i]
		if s.Quality == "" {
			s.Quality = Paired
			if i == len(p.Stages)-1 {
				s.Quality = Off
			}
		}
		if s.Quality != Off && s.Deadline == 0 && p.Deadline == 0 {
			s.Deadline = Duration(didDeadline)
		}
		if s.MPass == 0 {
			s.MPass = didPass
		}
	}
}

// checkEvidence returns what is wrong with how a plan is judged.
func (p Plan) checkEvidence() *Error {
	wrong := func(i int, key, text string) *Error {
		e := &Error{Stage: i, Key: key, Text: text}
		if i >= 0 {
			e.Name = p.Stages[i].Name
		}
		return e
	}
	switch {
	case p.Evidence == "" || p.Evidence == Pairs:
		if p.Before != 0 {
			return wrong(-1, "before", "it is how long errors are measured for evidence did; paired needs none")
		}
		return nil
	case p.Evidence != DiD:
		return wrong(-1, "evidence", fmt.Sprintf("%q is neither %s nor %s", p.Evidence, Pairs, DiD))
	case time.Duration(p.Before) < beforeLeast || time.Duration(p.Before) > longest:
		return wrong(-1, "before", fmt.Sprintf("%s is outside %s to a year", p.Before, Duration(beforeLeast)))
	case p.OnInconclusive == Widen:
		return wrong(-1, "on_inconclusive", "there is no shadow to widen with evidence did; use stop, hold or promote")
	}
	for i, s := range p.Stages {
		switch {
		case s.Shadow:
			return wrong(i, "shadow", "nothing runs beside the version in place with evidence did")
		case s.Quality == Guard:
			return wrong(i, "quality", "no pairs go on that could be guarded with evidence did; use paired or off")
		case s.Quality == Paired && i == len(p.Stages)-1:
			return wrong(i, "quality", "when all have the version no device is left to compare with; use off")
		}
	}
	return nil
}

// Untouched returns the first stage of so many devices that leaves too few of those
// that run another version to compare with, and how many; -1: none does.
func (p Plan) Untouched(total, others int) (stage, left int) {
	for i, size := range p.Sizes(total) {
		if p.measures(i) && others-size < quality.MinUntouched {
			return i, max(others-size, 0)
		}
	}
	return -1, 0
}

// measure begins to measure the errors of the version in place.
func (s State) measure(at time.Time) State {
	s.Phase, s.At, s.Fresh, s.Ran, s.Mark = Measuring, at, at, 0, 1
	return s
}

// measured begins the first stage once the errors before are known.
func (s State) measured(p Plan, f Facts) State {
	if s.Paused {
		return s
	}
	told := 0
	for _, d := range f.Untouched {
		if d.Pairs >= quality.Wide().MinPairs {
			told++
		}
	}
	s.Reason = fmt.Sprintf("%s of %s of errors of the version in place, that %d devices of a later stage tell", minutes(min(s.Ran, p.Before)), p.Before, told)
	switch {
	case s.Ran < p.Before:
	case told >= quality.MinUntouched:
		return s.enter(p, 0)
	case s.Ran >= p.Before+s.Deadline(p):
		return s.withdraw(Stopped, fmt.Sprintf("inconclusive: %d devices of a later stage tell their errors, and %d are needed", told, quality.MinUntouched))
	default:
		s.Reason += fmt.Sprintf(", of %d that are needed", quality.MinUntouched)
	}
	return s
}

// Sums are the errors of one version on a device.
type Sums struct {
	N   uint64  // outputs whose truth is known
	Sum float64 // Σ|e|
}

// Less is what came to s since it was old. Counters that fell began anew, but for a
// sum that was added up in another order and rounded otherwise.
func (s Sums) Less(old Sums) Sums {
	if s.N < old.N || s.Sum < old.Sum*(1-rounding) {
		return Sums{}
	}
	return Sums{s.N - old.N, max(0, s.Sum-old.Sum)}
}

// rounding is more than what a sum over a device's starts is rounded by.
const rounding = 1e-9

// Differing returns what the quality check takes for the sums of a device whose
// errors before and after are known: SumA is what the errors before would have come
// to over as many outputs as after. It has no pairs where either are too few.
func Differing(before, after Sums) (q quality.Sums) {
	if least := quality.Wide().MinPairs; before.N < least || after.N < least {
		return q
	}
	q.Pairs, q.SumB = after.N, after.Sum
	q.SumA = before.Sum / float64(before.N) * float64(after.N)
	return q
}
