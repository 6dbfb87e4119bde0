package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
)

// words are what texts about stage i name.
func (s State) words(p Plan, i int, candidate, outcome string) quality.Words {
	w := quality.Words{InPlace: s.InPlace, Candidate: candidate, Stage: p.Stages[i].Name, Label: p.Group, Outcome: outcome}
	if i+1 < len(p.Stages) && i+1 < len(s.Sizes) {
		w.NextDevices = s.Sizes[i+1]
		if p.Stages[i+1].Quality == Paired {
			w.NextPass = p.params(i+1, 0).MPass
		}
	}
	return w
}

// Text is where the rollout of a candidate stands, for people; outcome says what
// became of devices that went back.
func (s State) Text(p Plan, candidate, outcome string) string {
	last := len(s.History) - 1
	switch {
	case !s.Phase.Live() && last >= 0 && s.History[last].Phase == s.Phase:
		return s.History[last].Text(p, s, candidate, outcome)
	case s.Phase == Held:
		return join("HELD: "+s.Reason+".", outcome)
	case s.Phase == Measuring && !s.Paused:
		return fmt.Sprintf("MEASURING: %s.", s.Reason)
	case s.Paused:
		return strings.ToUpper(s.Reason[:1]) + s.Reason[1:] + "."
	case s.Verdict != nil && (s.Phase == Running || s.Phase == Watching):
		if s.Busy != nil {
			outcome = join(strings.ToUpper(s.Busy.text()[:1])+s.Busy.text()[1:]+".", outcome)
		}
		return s.Verdict.Text(s.words(p, s.Stage, candidate, outcome))
	case s.Phase == Running:
		return fmt.Sprintf("RUNNING, %s: %s, and its deadline is after %s.", p.Stages[s.Stage].Name, minutes(s.Ran), minutes(s.Deadline(p)))
	}
	text := strings.ToUpper(string(s.Phase))
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return join(text+".", outcome)
}

// Text is what the stage came to, for people.
func (o Outcome) Text(p Plan, s State, candidate, outcome string) string {
	i := 0
	for j, stage := range p.Stages {
		if stage.Name == o.Stage {
			i = j
		}
	}
	if v := o.Verdict; v != nil && v.Decision == quality.Stop && v.Reason == quality.ReasonSilence {
		outcome = join(o.faults(), outcome)
	}
	byQuality := o.Verdict != nil && strings.HasPrefix(o.Reason, CheckQuality)
	switch {
	case byQuality && (o.Verdict.Decision == quality.Stop || o.Verdict.Decision == quality.Pass):
		return o.Verdict.Text(s.words(p, i, candidate, outcome))
	case o.Phase == Stopped:
		return join(join(fmt.Sprintf("STOPPED at stage %s after %s (%s).", o.Stage, minutes(o.Ran), o.Reason), o.faults()), outcome)
	case o.Phase == Held:
		return fmt.Sprintf("HELD at stage %s after %s: %s.", o.Stage, minutes(o.Ran), o.Reason)
	}
	return fmt.Sprintf("PASSED stage %s after %s: %s.", o.Stage, minutes(o.Ran), o.Reason)
}

// Seen is what a look saw, for the record.
func (o Outcome) Seen(p Plan, s State, candidate string) string {
	if o.Verdict != nil {
		return join(o.Verdict.Text(s.words(p, s.Stage, candidate, "")), o.faults())
	}
	texts := []string{string(o.Phase)}
	for _, c := range o.Checks {
		texts = append(texts, c.text())
	}
	return join(strings.Join(texts, "; "), o.faults())
}

// String lists the limits: failed updates 5 %, input drift 0.25.
func (c Checks) String() string {
	var limits []string
	for _, l := range []struct {
		name  string
		limit *float64
		share bool
	}{
		{CheckUpdates, c.MaxFailed, true}, {CheckRestarts, c.MaxRestarted, true}, {CheckLatency, c.MaxLatency, false},
		{CheckErrors, c.MaxErrorRate, true}, {CheckDrift, c.MaxDrift, false},
	} {
		switch {
		case l.limit == nil:
		case l.share:
			limits = append(limits, fmt.Sprintf("%s %.3g %%", l.name, 100**l.limit))
		default:
			limits = append(limits, fmt.Sprintf("%s %.3g", l.name, *l.limit))
		}
	}
	return strings.Join(limits, ", ")
}

// join puts a blank between two sentences, unless there is one alone.
func join(text, more string) string { return strings.TrimSpace(text + " " + more) }

func minutes(d Duration) string {
	return Duration(time.Duration(d).Round(time.Second)).String()
}
