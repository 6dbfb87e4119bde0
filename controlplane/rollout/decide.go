package rollout

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// States of a device on the way to the version it should run.
const (
	Pending  = "pending"  // it has not begun, as far as it told
	Fetching = "fetching" // it is downloading
	Trying   = "trying"   // it runs it on trial
	Active   = "active"   // it runs it
	Failed   = "failed"   // it could not, and told why
)

// States lists them in the order in which a device goes through them.
var States = []string{Pending, Fetching, Trying, Active, Failed}

// A device is what is known of one device.
type device struct {
	id   string
	have protocol.Have // zero if it never reported
	want store.Want    // zero if nothing was ever wanted
	rows map[string]store.Desired

	trials map[string]store.Trial // by model
}

// full reports whether a device has no room for a model beside those it has.
func (d device) full(model string) bool {
	_, has := d.rows[model]
	return !has && len(d.rows) >= protocol.MaxModels
}

// room says that a device of a target is full of other models.
func (d device) room(model string) error {
	if !d.full(model) {
		return nil
	}
	return fmt.Errorf("%w: device %s %s; leave it out, or remove and add it again", ErrTarget, d.id, fullText)
}

// fullText says why a device gets no further model.
var fullText = fmt.Sprintf("has %d models, and a device holds no more", protocol.MaxModels)

// newer reports whether (epoch, rev) is above (thanEpoch, thanRev).
func newer(epoch, rev, thanEpoch, thanRev uint64) bool {
	return epoch > thanEpoch || epoch == thanEpoch && rev > thanRev
}

// observe sets the state of d to what the device told of it.
//
//	pending ──▶ fetching ──▶ trying ──▶ active
//	   ▲───────────┴────────────┴────▶ failed
//
// Any state can follow any other: a device reports where it is, not what it
// did, and reports may be missing in between.
func observe(d store.Desired, h protocol.Have) store.Desired {
	m := h.Models[d.Model]
	told := !newer(d.Epoch, d.Rev, h.Epoch, h.Rev) // it has verified a want that names d.Digest
	f := m.Failed
	failed := f != nil && f.Digest == d.Digest && !newer(d.Epoch, d.Rev, f.Epoch, f.Rev)
	d.State, d.Code, d.Message = Pending, "", ""
	switch {
	case m.Active == d.Digest && m.Phase == protocol.PhaseTrying:
		d.State = Trying
	case m.Active == d.Digest:
		d.State = Active
	case told && m.Phase == protocol.PhaseFetching:
		d.State = Fetching
	case told && m.Phase == protocol.PhaseTrying:
		d.State = Trying
	case failed:
		d.State, d.Code, d.Message = Failed, f.Code, f.Message
	}
	return d
}

// start returns the row that makes r's version the desired one, and whether the
// device needs a new want for it: that is another version than before, or the
// device has given this one up and tries it again only for a newer want.
func (d device) start(r store.Rollout) (next store.Desired, changed bool) {
	row, has := d.rows[r.Model]
	if has && row.Digest == r.Digest {
		row.Rollout = r.ID
		return row, d.gaveUp(row)
	}
	next = store.Desired{Device: d.id, Model: r.Model, Digest: r.Digest, Previous: row.Previous, Rollout: r.ID}
	switch runs := d.have.Models[r.Model].Active; {
	case !runs.IsZero() && runs != r.Digest:
		next.Previous = runs
	case has:
		// It never got as far as that, or it is on r's version already. Going
		// back still must not mean staying.
		next.Previous = row.Digest
	}
	return next, true
}

// gaveUp reports whether the device knows that row is wanted, is at rest, and
// runs something else: the version failed there, or a file was installed.
func (d device) gaveUp(row store.Desired) bool {
	m := d.have.Models[row.Model]
	return !newer(row.Epoch, row.Rev, d.have.Epoch, d.have.Rev) && m.Phase == protocol.PhaseIdle && m.Active != row.Digest
}

// back returns the row that makes the version before the desired one, or why
// that cannot be.
func (d device) back(model string, kind string) (next store.Desired, reason string) {
	row, has := d.rows[model]
	switch {
	case !has:
		return row, "it is in no rollout of this model"
	case row.Previous.IsZero() && kind == store.KindRollback:
		return row, "it was rolled back already and has no version before that"
	case row.Previous.IsZero():
		return row, "it has no previous version"
	}
	row.Digest, row.Previous = row.Previous, protocol.Digest{}
	return row, ""
}

// replay returns what a device should run that was there for all of rollouts,
// which select it, oldest first; has and row are where it begins. The second
// result is false if nothing selects it. A version that it never ran is not
// one to go back to, so Previous stays empty unless the row had it.
func (d device) replay(model string, rollouts []store.Rollout) (next store.Desired, changed, selected bool) {
	row, has := d.rows[model]
	var stack []store.Rollout // with only Digest meaningful
	if has {
		if !row.Previous.IsZero() {
			stack = append(stack, store.Rollout{Digest: row.Previous})
		}
		stack = append(stack, store.Rollout{ID: row.Rollout, Digest: row.Digest})
	}
	var by store.Rollout
	for _, r := range rollouts {
		if has && r.ID <= row.Rollout {
			continue
		}
		switch {
		case r.Kind == store.KindRollback && len(stack) > 1:
			stack = stack[:len(stack)-1]
			by = r
		case r.Kind == store.KindStart:
			if len(stack) == 0 || stack[len(stack)-1].Digest != r.Digest {
				stack = append(stack, r)
			}
			by = r
		}
	}
	if by.ID == 0 {
		return row, false, false
	}
	next, changed = d.start(store.Rollout{ID: by.ID, Model: model, Digest: stack[len(stack)-1].Digest})
	if by.Kind == store.KindRollback {
		next.Previous = protocol.Digest{}
	}
	return next, changed, true
}
