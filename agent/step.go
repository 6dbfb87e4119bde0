package agent

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// An eventKind is something that happened outside the decision.
type eventKind uint8

const (
	evStarted       eventKind = iota + 1 // boot: the process started
	evWanted                             // want: a verified want for this device
	evReady                              // model, held, message: the wanted version is verified and at hand, and how it came
	evRefused                            // model, held.Digest, code, message: the wanted version cannot be used
	evInstalled                          // model, held: a verified file from the device's owner
	evLived                              // model, held.Digest: the trial passed
	evBroke                              // model, held.Digest, code, message: the version on trial misbehaved
	evLost                               // model, held.Digest, message: the slot cannot be read
	evRestored                           // model, held: read back from the exported copy
	evDamaged                            // model, held.Digest, message: the slot of what answers is gone; it goes on from memory
	evShadowReady                        // model, held, message: the wanted shadow is verified and at hand, and how it came
	evShadowRefused                      // model, held.Digest, code, message: the wanted shadow cannot be used
	evPinned                             // model, held.Number: the device's owner holds the model on a cached version; 0: on the one in place
	evUnpinned                           // model: and lets it go
	evReturned                           // model: the owner goes back to the previous version
)

type event struct {
	kind    eventKind
	boot    uint64
	want    protocol.Want
	model   string
	held    held
	code    string
	message string
}

// An effectKind is something to do once the state is on disk. Each may be
// done twice.
type effectKind uint8

const (
	doServe  effectKind = iota + 1 // make held the version that answers; none: nothing answers
	doObtain                       // find the wanted version, cached or over the link, and verify it
	doAbort                        // stop obtaining
	doTry                          // start the clock of the trial of held
	doExport                       // write held to the copy outside the database
	doReport                       // publish what the device has
	doTell                         // queue an event for the control plane: kind in code, text in message
	doShadow                       // find want, the shadow's, cached or over the link, and verify it
)

type effect struct {
	kind    effectKind
	model   string
	held    held
	want    wanted
	code    string
	message string
}

// Kinds of events that a device reports.
const (
	toldActivated  = "activated"
	toldConfirmed  = "confirmed"
	toldRolledBack = "rolled_back"
	toldRefused    = "refused"
	toldRestored   = "restored"
	toldLost       = "lost"
	toldDamaged    = "damaged"
	toldShadow     = "shadow" // a version is ready to run beside the active one
	toldPinned     = "pinned"
	toldUnpinned   = "unpinned"
)

// step returns the state to persist and the effects to run once that is on
// disk. It has no clock, no I/O and no goroutine: what an event says is all it
// knows. Late, repeated and foreign events change nothing.
func step(s state, e event) (state, []effect) {
	switch e.kind {
	case evStarted:
		return started(s, e.boot)
	case evWanted:
		return offered(s, e.want)
	}
	old, known := s.Models[e.model]
	if !known {
		if e.kind != evInstalled && e.kind != evRestored {
			return s, nil
		}
		old.Phase = idle
	}
	d := decision{model: e.model, rollout: old}
	switch e.kind {
	case evReady:
		if d.Phase == fetching && d.Want.Digest == e.held.Digest {
			d.activate(e.held, e.message)
		}
	case evRefused:
		if d.Phase == fetching && d.Want.Digest == e.held.Digest {
			if e.held.Digest != d.Active.Digest { // else it answers, whatever became of its slot
				d.fail(e)
			}
			d.Phase = idle
			d.tell(toldRefused, e.held, e.code+": "+e.message)
			d.pursueShadow()
		}
	case evInstalled:
		d.install(e.held)
	case evLived:
		if d.Phase == trying && d.Active.Digest == e.held.Digest {
			d.confirm()
		}
	case evBroke:
		if d.Phase == trying && d.Active.Digest == e.held.Digest {
			d.retreat(e)
		}
	case evLost:
		d.lose(e)
	case evRestored:
		d.restore(e.held)
	case evDamaged:
		d.mend(e)
	case evShadowReady:
		d.keepShadow(e)
	case evShadowRefused:
		d.refuseShadow(e)
	case evPinned, evUnpinned, evReturned:
		if objection(s, e) == nil {
			d.owner(e)
		}
	}
	if len(d.effects) == 0 {
		return s, nil
	}
	return s.with(e.model, d.rollout), d.effects
}

// A decision is one model's state being changed, and the effects so far.
type decision struct {
	rollout
	model   string
	effects []effect
}

func (d *decision) do(k effectKind) {
	d.effects = append(d.effects, effect{kind: k, model: d.model, held: d.Active, want: d.Want})
}

func (d *decision) tell(kind string, about held, message string) {
	d.effects = append(d.effects, effect{kind: doTell, model: d.model, held: about, code: kind, message: message})
}

// fail remembers why e's version is not in place, for this want.
func (d *decision) fail(e event) {
	d.Failed = &failure{
		Digest: e.held.Digest, Epoch: d.Want.Epoch, Rev: d.Want.Rev, Code: e.code, Message: e.message,
	}
	d.do(doReport)
}

// started resumes every model in the phase it was left in.
func started(s state, boot uint64) (state, []effect) {
	s.Boot = max(s.Boot, boot)
	var all []effect
	for _, name := range slices.Sorted(maps.Keys(s.Models)) {
		d := decision{model: name, rollout: s.Models[name]}
		switch d.Phase {
		case idle:
			d.do(doServe)
			d.do(doExport) // the copy may be missing: the cut came between confirm and export
			d.pursueShadow()
		case fetching:
			d.do(doServe)
			d.do(doObtain)
		case trying:
			d.Starts++
			if d.Starts < trialStarts {
				d.do(doServe)
				d.do(doTry)
				break
			}
			d.retreat(event{
				held: d.Active, code: "crash",
				message: fmt.Sprintf("the process started %d times while the version was on trial", d.Starts),
			})
		}
		s = s.with(name, d.rollout)
		all = append(all, d.effects...)
	}
	return s, all
}

// offered takes a want that is newer by (epoch, rev), whatever the phase: a
// stuck update never blocks a newer one, and a rollback is an offer too.
func offered(s state, w protocol.Want) (state, []effect) {
	if !w.Newer(s.Epoch, s.Rev) {
		return s, nil
	}
	s.Epoch, s.Rev, s.Time, s.Judge = w.Epoch, w.Rev, max(s.Time, w.Issued), w.Judge
	var all []effect
	for _, name := range slices.Sorted(maps.Keys(s.Models)) {
		if _, named := w.Models[name]; named {
			continue
		}
		// No longer wanted, yet a device keeps a version that verifies and answers.
		d := decision{model: name, rollout: s.Models[name]}
		d.Want = wanted{}
		d.wantShadow(nil)
		if d.Phase == fetching {
			d.Phase = idle
			d.do(doAbort)
		}
		s = s.with(name, d.rollout)
		all = append(all, d.effects...)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Models)) {
		r, known := s.Models[name]
		if !known {
			r.Phase = idle
		}
		d := decision{model: name, rollout: r}
		a := w.Models[name].Active
		d.Want = wanted{
			Digest: a.Digest, Epoch: w.Epoch, Rev: w.Rev, Transfers: a.Transfers, JitterS: w.JitterS, Schedule: scheduleOf(w),
		}
		d.wantShadow(w.Models[name].Shadow)
		if d.Failed != nil && d.Failed.Digest == a.Digest {
			d.Failed = nil // asked for again, so it is tried again
		}
		if d.Hold == holdReturned {
			d.Hold = holdNone
		}
		if d.Hold == holdNone && d.Phase == trying && a.Digest != d.Active.Digest && a.Digest == d.Previous.Digest {
			broken := d.Active
			d.goBack()
			d.tell(toldRolledBack, broken, "withdrawn by the control plane during the trial")
			if broken.Digest == d.Shadow.Digest {
				d.Beside = broken // back into the shadow
			}
		}
		d.pursue()
		s = s.with(name, d.rollout)
		all = append(all, d.effects...)
	}
	return s, append(all, effect{kind: doReport})
}

// pursue goes after the wanted version unless it is in place, has failed for
// this want, the owner holds another, or a trial is running.
func (d *decision) pursue() {
	switch {
	case d.Phase == trying:
	case d.Want.Digest.IsZero(), d.Want.Digest == d.Active.Digest, d.refusedAlready(), d.keepsFromWant():
		if d.Phase == fetching {
			d.Phase = idle
			d.do(doAbort)
		}
	default:
		d.Phase = fetching
		d.do(doObtain)
	}
	d.pursueShadow()
}

func (d *decision) refusedAlready() bool { return d.Want.answeredBy(d.Failed) }

// newer reports whether (epoch, rev) is after (e, r).
func newer(epoch, rev, e, r uint64) bool { return epoch > e || epoch == e && rev > r }

// activate puts h in place, on trial; how says where it came from.
func (d *decision) activate(h held, how string) {
	switch {
	case h.Digest == d.Active.Digest: // already in place, confirmed or on trial
		if d.Phase == fetching { // its slot is there again
			d.Phase = idle
			d.do(doAbort)
			d.do(doExport)
			d.do(doReport)
			d.pursueShadow()
		}
		return
	case d.Phase == trying:
		// Active never lived: what it replaced stays the version to go back to.
		if h.Digest == d.Previous.Digest {
			d.goBack()
			return
		}
		if h.Digest == d.Older.Digest {
			d.Older = held{}
		}
	default:
		d.Older = d.Previous
		if d.Older.Digest == h.Digest {
			d.Older = held{}
		}
		d.Previous = d.Active
	}
	d.Active, d.Phase, d.Starts = h, trying, 0
	d.tidyShadow()
	d.tell(toldActivated, h, how)
	d.do(doServe)
	d.do(doTry)
	d.do(doReport)
}

// install is activate for a file from the device's owner. It holds until a
// newer want. A pin goes along: it is of the model.
func (d *decision) install(h held) {
	if d.Hold == holdReturned {
		d.Hold = holdNone
	}
	if d.Phase == fetching {
		d.Phase = idle
		d.do(doAbort)
	}
	d.Want = wanted{Digest: h.Digest, Epoch: d.Want.Epoch, Rev: d.Want.Rev, Local: true}
	d.tidyShadow()
	if d.Failed != nil && d.Failed.Digest == h.Digest {
		d.Failed = nil
	}
	d.activate(h, "from a file")
	if len(d.effects) == 0 {
		d.do(doReport)
	}
	d.pursueShadow()
}

// confirm ends a trial well: the security floor rises, the copy outside the
// database follows, and the version kept for a failed trial is let go.
func (d *decision) confirm() {
	d.Phase, d.Starts, d.Older = idle, 0, held{}
	d.Floor = max(d.Floor, d.Active.Floor)
	if d.Failed != nil && d.Failed.Digest != d.Want.Digest {
		d.Failed = nil
	}
	d.tell(toldConfirmed, d.Active, "")
	d.do(doExport)
	d.do(doReport)
	d.pursue()
}

// goBack puts the version before the trial in place again.
func (d *decision) goBack() {
	d.Active, d.Previous, d.Older = d.Previous, d.Older, held{}
	d.Phase, d.Starts = idle, 0
	d.tidyShadow()
	d.do(doServe)
	d.do(doReport)
}

// retreat ends a trial badly, for the reason in e.
func (d *decision) retreat(e event) {
	d.fail(e)
	d.tell(toldRolledBack, d.Active, e.code+": "+e.message)
	d.goBack()
	d.pursue()
}

// lose forgets a version whose slot cannot be read.
func (d *decision) lose(e event) {
	if d.Beside.Digest == e.held.Digest && !e.held.none() {
		d.loseShadow(e)
	}
	switch e.held.Digest {
	case d.Active.Digest:
		d.tell(toldLost, d.Active, e.message)
		d.goBack()
		if d.Failed != nil && d.Failed.Digest == e.held.Digest {
			d.Failed = nil
		}
		d.pursue()
	case d.Previous.Digest:
		d.tell(toldLost, d.Previous, e.message)
		d.Previous, d.Older = d.Older, held{}
		d.do(doReport)
	case d.Older.Digest:
		d.Older = held{}
		d.do(doReport)
	}
}

// restore puts back the version of the exported copy, when there is none or
// when it is the one whose slot was damaged. It was confirmed before, so it
// needs no trial.
func (d *decision) restore(h held) {
	if !d.Active.none() && d.Active.Digest != h.Digest {
		return
	}
	if d.Active.none() {
		d.Active = h
		d.tidyShadow()
	}
	d.Floor = max(d.Floor, h.Floor)
	d.tell(toldRestored, h, "read back from the exported copy")
	d.do(doServe)
	d.do(doReport)
}

// mend fetches the version that answers once more: its slot is damaged, and it
// lives in memory alone. When it was to be activated no longer matters.
func (d *decision) mend(e event) {
	if d.Active.Digest != e.held.Digest || d.Phase != idle {
		return
	}
	d.tell(toldDamaged, d.Active, e.message)
	if d.Want.Digest != d.Active.Digest || len(d.Want.Transfers) == 0 {
		return
	}
	d.Phase = fetching
	d.Want.Schedule = schedule{}
	d.do(doObtain)
	d.do(doReport)
}
