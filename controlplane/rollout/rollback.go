package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// A Refusal is a device that a rollback left as it is, and why.
type Refusal struct {
	Device string `json:"device"`
	Reason string `json:"reason"`
}

// A Result is what a rollback did.
type Result struct {
	Rollout *Rollout  `json:"rollout,omitempty"` // nil if no device moved
	Moved   []string  `json:"moved"`
	Refused []Refusal `json:"refused"`
}

// Err is ErrNoPrevious if a device was refused.
func (r Result) Err() error {
	if len(r.Refused) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d of %d devices stay as they are: %s: %s", ErrNoPrevious,
		len(r.Refused), len(r.Refused)+len(r.Moved), r.Refused[0].Device, r.Refused[0].Reason)
}

// Rollback makes the version before the desired one of every device that
// target selects and that has a rollout of model. A device keeps that version,
// so nothing is transferred. A device without one is left as it is and reported
// in Result.Refused; that is not an error here. A staged rollout under way is
// aborted if target is all, or its own, and goes on without the devices of target
// otherwise; those that it has not reached stay as they are. Errors: ErrNotFound,
// ErrNoDevices, ErrNoKey.
func (r *Rollouts) Rollback(ctx context.Context, model string, target Target) (Result, error) {
	if err := target.check(); err != nil {
		return Result{}, err
	}
	if r.key == nil {
		return Result{}, fmt.Errorf("roll back %s: %w", model, ErrNoKey)
	}
	at := r.now()
	c := r.change(at)
	res := Result{Moved: []string{}, Refused: []Refusal{}}
	err := r.store.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.NewestRollout(ctx, model); errors.Is(err, ErrNotFound) {
			return noRollout(ctx, tx, model, "rollout")
		} else if err != nil {
			return fmt.Errorf("rollout of %q: %w", model, err)
		}
		ids, err := target.devices(ctx, tx)
		if err != nil {
			return err
		}
		row := store.Rollout{Kind: store.KindRollback, Model: model, Target: target.String(), Created: at}
		if ids, err = c.withdraw(ctx, tx, model, target, ids, &res); err != nil {
			return err
		}
		err = c.each(ctx, tx, ids, func(d device) error {
			if _, has := d.rows[model]; !has && len(target.Devices) == 0 {
				return nil // never part of it
			}
			next, reason, err := c.back(ctx, tx, d, model)
			if err != nil {
				return err
			}
			if reason != "" {
				res.Refused = append(res.Refused, Refusal{d.id, reason})
				return nil
			}
			if row.ID == 0 {
				if row, err = putRollout(ctx, tx, row); err != nil {
					return err
				}
				moved := fromRow(row)
				res.Rollout = &moved
			}
			next.Rollout = row.ID
			res.Moved = append(res.Moved, d.id)
			return c.save(ctx, tx, d, next, true)
		})
		if err != nil {
			return err
		}
		if len(res.Moved)+len(res.Refused) == 0 && res.Rollout == nil {
			return fmt.Errorf("%s selects none that has a rollout of %s: %w", target, model, ErrNoDevices)
		}
		return nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("roll back %s on %s: %w", model, target.short(), err)
	}
	r.publish(c.wants)
	if err := r.drain(ctx, at); err != nil {
		return Result{}, err
	}
	r.log.Info("rollback started", "model", model, "target", target.short(), "devices", len(res.Moved), "refused", len(res.Refused))
	return res, nil
}

// back decides a device's rollback, which needs a signed version that is here.
func (c *change) back(ctx context.Context, tx store.Tx, d device, model string) (next store.Desired, reason string, err error) {
	var kind string
	if row, has := d.rows[model]; has {
		by, ok := c.by[row.Rollout]
		if !ok {
			if by, err = tx.Rollout(ctx, row.Rollout); err != nil {
				return next, "", err
			}
			c.by[row.Rollout] = by
		}
		kind = by.Kind
		if slices.Contains(ended, by.Phase) && by.Digest != row.Digest {
			kind = store.KindRollback // its plan withdrew it
		}
	}
	next, reason = d.back(model, kind)
	if reason != "" {
		return next, reason, nil
	}
	reason, ok := c.barred[next.Digest]
	if !ok {
		v, err := tx.VersionByDigest(ctx, next.Digest)
		switch {
		case errors.Is(err, ErrNotFound):
			reason = fmt.Sprintf("its previous version %s is not in the registry", next.Digest.Short())
		case err != nil:
			return next, "", err
		case v.Envelope == nil:
			reason = fmt.Sprintf("its previous version %s is not signed", registry.Ref(v.Name, v.Number))
		}
		c.barred[next.Digest] = reason
	}
	return next, reason, nil
}

// takenOut is why a device left a rollout that goes on without it.
const takenOut = "rolled back"

// withdraw takes the staged rollouts of a model that are under way back from the
// devices of target. It notes in res which of ids move, and returns those that no
// such rollout is over: the others stay on what they ran before it.
func (c *change) withdraw(ctx context.Context, tx store.Tx, model string, target Target, ids []string, res *Result) (others []string, err error) {
	live, err := livePlans(ctx, tx, model)
	if err != nil || len(live) == 0 {
		return ids, err
	}
	over := map[string]bool{}
	for _, p := range live {
		whole, members, lost := target.All || target.String() == p.row.Target, 0, false
		for _, id := range ids {
			m, err := tx.Member(ctx, p.row.ID, id)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			members++
			over[id] = true
			if m.N < p.state.Reach && m.Role == string(plan.Active) {
				res.Moved = append(res.Moved, id)
			}
			if !whole {
				newly, err := tx.LoseMember(ctx, p.row.ID, id, takenOut)
				if err != nil {
					return nil, err
				}
				lost = lost || newly
			}
		}
		if members == 0 {
			continue
		}
		by := fromRow(p.row)
		res.Rollout = &by
		switch {
		case whole:
			_, err = c.step(ctx, tx, p, plan.Event{Kind: plan.Abort, At: c.at, By: "a rollback"})
		case lost:
			err = tx.Audit(ctx, entry(p, audit.RolloutRollback, target.String()))
		}
		if err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(ids, func(id string) bool { return over[id] }), nil
}
