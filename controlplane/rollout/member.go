package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// drainPage is how many devices are told in one transaction.
const drainPage = 200

// drain tells devices what they are to do after a change that may have to do
// with staged rollouts.
func (r *Rollouts) drain(ctx context.Context, at time.Time) error {
	r.idle.Store(false)
	return r.tellAll(ctx, at)
}

// tellAll tells devices of staged rollouts what they are to do, page by page.
// What is left when it is killed is in the store.
func (r *Rollouts) tellAll(ctx context.Context, at time.Time) error {
	for {
		c, n := r.change(at), 0
		err := r.store.Update(ctx, func(tx store.Tx) error {
			members, err := tx.MembersToDo(ctx, drainPage)
			if err != nil {
				return err
			}
			n = len(members)
			devices, err := c.ofMembers(ctx, tx, members)
			if err != nil {
				return err
			}
			plans := map[int64]planned{}
			for _, m := range members {
				p, ok := plans[m.Rollout]
				if !ok {
					row, err := tx.Rollout(ctx, m.Rollout)
					if err != nil {
						return err
					}
					if p, err = loadPlan(ctx, tx, row); err != nil {
						return err
					}
					plans[m.Rollout] = p
				}
				if err := c.tell(ctx, tx, p, m, devices[m.Device]); err != nil {
					return fmt.Errorf("device %s: %w", m.Device, err)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("tell devices of staged rollouts: %w", err)
		}
		r.publish(c.wants)
		if n < drainPage {
			return nil
		}
	}
}

// ofMembers loads the devices of members, by their ids. One that two rollouts tell
// something has the rows and trials of both: the second want replaces the first, under
// the same number, before any is published.
func (c *change) ofMembers(ctx context.Context, tx store.Tx, members []store.Member) (map[string]device, error) {
	devices := make(map[string]device, len(members))
	for _, m := range members {
		devices[m.Device] = device{}
	}
	loaded, err := c.loadAll(ctx, tx, slices.Collect(maps.Keys(devices)))
	for _, d := range loaded {
		devices[d.id] = d
	}
	return devices, err
}

// tell stores what the device d of a plan is to do, with a want that says so if that
// is new.
func (c *change) tell(ctx context.Context, tx store.Tx, p planned, m store.Member, d device) error {
	role := p.state.Role(m.N, m.Lost != "")
	row, has := d.rows[p.row.Model]
	newer := has && row.Rollout > p.row.ID // another rollout has chosen since
	if role.Version == plan.Active && d.full(p.row.Model) {
		m.State = Failed // other rollouts have filled it since the start
		return tx.SetMember(ctx, m)
	}
	next, changed := row, false
	switch {
	case role.Version == plan.Active && !newer:
		next, changed = d.start(p.row)
	case role.Version == plan.Back && has && row.Rollout == p.row.ID && row.Digest == p.row.Digest && !row.Previous.IsZero():
		next.Digest, next.Previous, changed = row.Previous, protocol.Digest{}, true
	case role.Version == plan.InShadow && !has:
		role = plan.Role{} // its want names no version that this could run beside
	}
	if !d.compares(p, role) {
		role.Judge = 0
	}
	anew, err := c.try(ctx, tx, &d, p, role)
	if err != nil {
		return err
	}
	switch {
	case changed || next != row:
		err = c.save(ctx, tx, d, next, changed)
		if err == nil && !changed && anew {
			err = c.renew(ctx, tx, d)
		}
	case anew:
		err = c.renew(ctx, tx, d)
	}
	if err != nil {
		return err
	}
	if m.Role != string(role.Version) || m.Judge != role.Judge {
		m.Told = c.at
		if m.Boot, err = tx.Boot(ctx, m.Device); err != nil {
			return err
		}
	}
	m.Role, m.Judge = string(role.Version), role.Judge
	if !newer || role.Version != plan.Active {
		m.State = memberState(m, p, d.rows[p.row.Model])
	}
	return tx.SetMember(ctx, m)
}

// compares reports whether a device has, as far as it told, another version than
// p's to compare that with.
func (d device) compares(p planned, role plan.Role) bool {
	other := func(v protocol.Digest) bool { return !v.IsZero() && v != p.row.Digest }
	m := d.have.Models[p.row.Model]
	return other(m.Active) || role.Version == plan.Active && other(m.Previous)
}

// try makes the trial of a device what its role says, and reports whether that
// is new. A trial of another rollout is left alone.
func (c *change) try(ctx context.Context, tx store.Tx, d *device, p planned, role plan.Role) (anew bool, err error) {
	model := p.row.Model
	old, has := d.trials[model]
	if has && old.Rollout > p.row.ID {
		return false, nil
	}
	row, runs := d.rows[model]
	next := store.Trial{Device: d.id, Model: model, Rollout: p.row.ID, Judge: role.Judge}
	if role.Version == plan.InShadow && runs && row.Digest != p.row.Digest {
		next.Shadow = p.row.Digest
	}
	if role.Version == plan.Active && p.plan.Window != nil {
		next.Window = p.plan.Window.String()
	}
	if next.Judge == 0 && next.Shadow.IsZero() && next.Window == "" {
		if !has || old.Rollout != p.row.ID {
			return false, nil
		}
		delete(d.trials, model)
		return true, tx.DropTrial(ctx, d.id, model)
	}
	next.EveryS = uint32(max(time.Duration(p.plan.Every)/time.Second, 1))
	next.JitterS = p.jitter()
	next.Until = old.Until
	if !has || old.Rollout != p.row.ID || old.Judge != next.Judge || old.Until.Before(c.renewing(p)) {
		next.Until = c.at.Add(p.plan.Longest())
	}
	if next == old {
		return false, nil
	}
	d.trials[model] = next
	return true, tx.PutTrial(ctx, next)
}

// renewing is the time from which on devices need not be told to go on reporting: a
// rollout that is held or paused may outlast what they were told at first.
func (c *change) renewing(p planned) time.Time { return c.at.Add(p.plan.Longest() / 2) }

// jitter is over how many seconds the downloads of the stage under way are
// spread.
func (p planned) jitter() uint32 {
	spread := p.plan.Spread(int64(p.state.NewDevices()) * p.state.DeviceBytes)
	return uint32(min(math.Ceil(spread.Seconds()), math.MaxInt32))
}

// renew gives a device a new want without another version in it.
func (c *change) renew(ctx context.Context, tx store.Tx, d device) error {
	d.want.Epoch, d.want.Rev = nextRev(d.want, d.have)
	return c.putWant(ctx, tx, d, "")
}

// memberState is how far a device of a plan is.
func memberState(m store.Member, p planned, row store.Desired) string {
	if m.Lost == takenOut && !p.state.Back {
		return Kept
	}
	switch plan.Version(m.Role) {
	case plan.Back:
		switch {
		case !p.state.Back && m.Lost != "":
			return Failed
		case row.Model == "": // it was never told to run anything
			return m.State
		case row.Digest == p.row.Digest: // it has nothing to go back to, or something newer chose that
			return row.State
		case row.State == Active:
			return Returned
		}
		return Returning
	case plan.Active:
		switch {
		case row.Digest != p.row.Digest:
			return Waiting
		case heldBack(row):
			return Kept
		}
		return row.State
	case plan.InShadow:
		return InShadow
	}
	if m.Lost != "" {
		return Failed
	}
	return Waiting
}

// follow moves the state of the device of a plan that chose row with it, and of one
// that the device was on its way back from when row was chosen.
func (c *change) follow(ctx context.Context, tx store.Tx, row store.Desired) error {
	members, err := tx.MembersOf(ctx, row.Device, Returning)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(members, func(m store.Member) bool { return m.Rollout == row.Rollout }) {
		m, err := tx.Member(ctx, row.Rollout, row.Device)
		if err == nil {
			members = append(members, m)
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	for _, m := range members {
		by, err := tx.Rollout(ctx, m.Rollout)
		if err != nil {
			return err
		}
		if by.Model != row.Model {
			continue
		}
		p, err := loadPlan(ctx, tx, by)
		if err != nil {
			return err
		}
		state := memberState(m, p, row)
		if state == m.State {
			continue
		}
		if m.State == Kept {
			m.Told = c.at // its silence counts from here
		}
		m.State = state
		if err := tx.SetMemberState(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// heldBack reports whether the owner of a device keeps it from the version of row.
func heldBack(row store.Desired) bool {
	return row.State == Failed && (row.Code == protocol.HoldPinned || row.Code == protocol.HoldReturned)
}

// pinned reports whether the owner of a device holds a model where it is until that
// is unpinned; what was rolled back goes on with a newer want.
func (d device) pinned(model string) bool { return d.have.Models[model].Hold == protocol.HoldPinned }

// shadow adds the version in shadow to what a device shall do about a model.
func (c *change) shadow(ctx context.Context, tx store.Tx, d device, row store.Desired, m *protocol.ModelWant) error {
	t := d.trials[row.Model]
	if t.Shadow.IsZero() || t.Shadow == row.Digest {
		return nil
	}
	refs, _, err := c.offer(ctx, tx, d, store.Desired{Device: d.id, Model: row.Model, Digest: t.Shadow})
	if err != nil {
		return err
	}
	m.Shadow = &protocol.WantedVersion{Digest: t.Shadow, Transfers: refs}
	return nil
}

// tried adds to a want what the trials of a device say. A device reports pairs of
// one model: that of the oldest rollout. The downloads of several are spread by
// the widest; a window is that of the newest.
func (d device) tried(w *protocol.Want) error {
	for _, t := range slices.SortedFunc(maps.Values(d.trials), func(a, b store.Trial) int { return cmp.Compare(a.Rollout, b.Rollout) }) {
		if t.Judge != 0 && w.Judge == nil {
			w.Judge = &protocol.Judge{Stage: t.Judge, Model: t.Model, EveryS: t.EveryS, Until: t.Until.UnixMilli()}
		}
		w.JitterS = max(w.JitterS, t.JitterS)
		if t.Window != "" {
			var window plan.Window
			if err := window.UnmarshalText([]byte(t.Window)); err != nil {
				return fmt.Errorf("trial of %s on %s: %w", t.Model, d.id, err)
			}
			on := protocol.Window(window)
			w.Window = &on
		}
	}
	return nil
}
