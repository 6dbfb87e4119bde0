package rollout

import (
	"context"
	"errors"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// JoinNew gives a device that was added or relabelled what it would want, had
// it been there all along. Handle does it too when a device is first heard of,
// and Run at its start, so that a crash between adding and joining leaves
// nothing behind. ErrNotFound if there is no such device.
func (r *Rollouts) JoinNew(ctx context.Context, device string) error {
	c := r.change(r.now())
	err := r.store.Update(ctx, func(tx store.Tx) error { return c.join(ctx, tx, device) })
	if err != nil {
		return fmt.Errorf("join device %s to rollouts: %w", device, err)
	}
	r.publish(c.wants)
	return r.drain(ctx, c.at)
}

// joinAll joins every device that JoinNew was not called for. Without a rollout
// key that waits for a start that has one.
func (r *Rollouts) joinAll(ctx context.Context) error {
	if r.key == nil {
		r.log.Warn("no rollout key: what is wanted already is published, and nothing new can be wanted")
		return nil
	}
	const page = 500
	for {
		c, n := r.change(r.now()), 0
		err := r.store.Update(ctx, func(tx store.Tx) error {
			ids, err := tx.UnjoinedDevices(ctx, page)
			n = len(ids)
			for _, id := range ids {
				err = errors.Join(err, c.join(ctx, tx, id))
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("join new devices to rollouts: %w", err)
		}
		r.publish(c.wants)
		if n < page {
			return nil
		}
	}
}

// selecting returns those of the rollouts whose target selects a device and that
// have chosen for all that theirs does.
func (c *change) selecting(ctx context.Context, tx store.Tx, id string, rollouts []store.Rollout) ([]store.Rollout, error) {
	var out []store.Rollout
	for _, r := range rollouts {
		if !forAll(r) {
			continue
		}
		selected, err := c.selects(ctx, tx, r, id)
		if err != nil {
			return nil, err
		}
		if selected {
			out = append(out, r)
		}
	}
	return out, nil
}

// selects reports whether the target of a rollout selects a device.
func (c *change) selects(ctx context.Context, tx store.Tx, r store.Rollout, id string) (bool, error) {
	t, err := ParseTarget(r.Target)
	if err != nil { // a release of this program read it that another wrote
		c.r.log.Warn("no device joins a rollout whose target cannot be read", "rollout", r.ID, "err", err)
		return false, nil
	}
	return t.selects(ctx, tx, id)
}

// join gives a device what it would want, had it been there all along.
func (c *change) join(ctx context.Context, tx store.Tx, id string) error {
	models, err := tx.RolloutModels(ctx)
	if err != nil {
		return err
	}
	for _, model := range models {
		rollouts, err := tx.Rollouts(ctx, model)
		if err != nil {
			return err
		}
		if rollouts, err = c.selecting(ctx, tx, id, rollouts); err != nil {
			return err
		}
		if len(rollouts) == 0 {
			continue
		}
		d, err := c.load(ctx, tx, id)
		if err != nil {
			return err
		}
		next, changed, selected := d.replay(model, rollouts)
		if !selected {
			continue
		}
		if d.full(model) {
			c.r.log.Warn("device does not join rollouts of a model: it "+fullText, "device", id, "model", model)
			continue
		}
		if err := c.save(ctx, tx, d, next, changed); err != nil {
			return err
		}
	}
	if err := c.enlist(ctx, tx, id); err != nil {
		return err
	}
	return tx.SetJoined(ctx, id)
}

// forAll reports whether a rollout has chosen for every device that it selects:
// one by a plan only once that has come to its end.
func forAll(r store.Rollout) bool { return r.Phase == "" || r.Phase == string(plan.Done) }

// enlist adds a device that is new to the fleet, or to a label, to the staged
// rollouts under way that select it: in their last stage.
func (c *change) enlist(ctx context.Context, tx store.Tx, id string) error {
	live, err := livePlans(ctx, tx, "")
	if err != nil || len(live) == 0 {
		return err
	}
	row, err := tx.Device(ctx, id)
	if err != nil {
		return err
	}
	for _, p := range live {
		selecting, err := c.selects(ctx, tx, p.row, id)
		if err != nil {
			return err
		}
		if !selecting {
			continue
		}
		if _, err := tx.Member(ctx, p.row.ID, id); err == nil || !errors.Is(err, ErrNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		n, err := tx.NextMember(ctx, p.row.ID)
		if err != nil {
			return err
		}
		m := store.Member{Rollout: p.row.ID, N: n, Device: id, Group: row.Labels[p.plan.Group], Stage: len(p.plan.Stages) - 1, State: Waiting}
		if err := tx.AddMember(ctx, m); err != nil {
			return err
		}
		if err := tx.MarkMembers(ctx, p.row.ID, n, n+1); err != nil {
			return err
		}
	}
	return nil
}
