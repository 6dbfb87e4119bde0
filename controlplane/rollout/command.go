package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// StartPlan starts what a draft says, in the name of audit.Who. It supersedes
// rollouts of the same model by a plan that are over some of the same devices:
// what those touched goes back first. The same start again, while it is under
// way, returns the same rollout. Errors: ErrNotFound for a version or device,
// ErrUnsigned, registry.ErrNotApproved, ErrNoDevices, ErrNoKey, ErrPlan.
func (r *Rollouts) StartPlan(ctx context.Context, d Draft) (Started, error) {
	at := r.now()
	c := r.change(at)
	out := Started{Devices: len(d.order)}
	v := d.version
	err := r.store.Update(ctx, func(tx store.Tx) error {
		if err := registry.Approved(ctx, tx, v.Name, v.Number); err != nil {
			return err
		}
		live, err := livePlans(ctx, tx, v.Name)
		if err != nil {
			return err
		}
		for _, p := range live {
			if p.row.Digest == v.Digest && p.row.Target == d.Target && d.asks(p.plan) {
				out.Rollout = fromRow(p.row)
				return nil
			}
		}
		p := planned{plan: d.Plan, row: store.Rollout{
			Kind: store.KindStart, Model: v.Name, Number: v.Number, Digest: v.Digest, Target: d.Target, Created: at, Phase: string(plan.Preparing),
		}}
		if p.row, err = putRollout(ctx, tx, p.row); err != nil {
			return err
		}
		p.state = plan.New(d.Plan, p.row.ID, len(d.order), audit.Who(ctx), at)
		p.state.Elsewhere, p.state.Epsilon, p.state.InPlace = d.offline, d.epsilon, d.inPlace
		if len(d.order) > 0 {
			p.state.DeviceBytes = (d.Forecast.Bytes + int64(len(d.order)) - 1) / int64(len(d.order))
		}
		if err := c.putPlan(ctx, tx, p, p.state); err != nil {
			return err
		}
		for n, m := range d.order {
			member := store.Member{Rollout: p.row.ID, N: n, Device: m.ID, Group: m.Group, Stage: p.state.StageOf(d.Plan, n), State: Waiting}
			if err := tx.AddMember(ctx, member); err != nil {
				return err
			}
		}
		if err := c.forget(ctx, tx, v.Name); err != nil {
			return err
		}
		for _, old := range live {
			shares, err := tx.SharesDevice(ctx, p.row.ID, old.row.ID)
			if err != nil {
				return err
			}
			if shares {
				if err := c.supersede(ctx, tx, old, p.row); err != nil {
					return err
				}
			}
		}
		out.Rollout, out.Changed = fromRow(p.row), len(d.order)
		return nil
	})
	if err != nil {
		return Started{}, fmt.Errorf("roll out %s to %s: %w", v.Ref(), d.target.short(), err)
	}
	r.log.Info("staged rollout started", "rollout", out.Rollout.ID, "model", v.Name, "version", v.Ref(), "target", d.target.short(), "devices", out.Devices)
	return out, r.drain(ctx, at)
}

// forget removes the reports of pairs of rollouts of a model that have ended: what
// each look saw of them stays.
func (c *change) forget(ctx context.Context, tx store.Tx, model string) error {
	rows, err := tx.Rollouts(ctx, model)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if slices.Contains(ended, row.Phase) {
			from, below := plan.JudgesOf(row.ID)
			if err := tx.DropPairs(ctx, from, below); err != nil {
				return err
			}
		}
	}
	return nil
}

// asks reports whether p is what the draft asks for.
func (d Draft) asks(p plan.Plan) bool {
	if d.seeded {
		d.Plan.Seed = p.Seed // any is as good
	}
	x, errX := json.Marshal(d.Plan)
	y, errY := json.Marshal(p)
	return errX == nil && errY == nil && string(x) == string(y)
}

// supersede ends a rollout for a newer one, and forgets what it was judged by.
func (c *change) supersede(ctx context.Context, tx store.Tx, old planned, by store.Rollout) error {
	_, err := c.step(ctx, tx, old, plan.Event{Kind: plan.Supersede, At: c.at, By: fmt.Sprintf("superseded by rollout %d, %s", by.ID, registry.Ref(by.Model, by.Number))})
	return err
}

// supersedeFor ends the staged rollouts of row's model that are over devices of
// ids.
func (c *change) supersedeFor(ctx context.Context, tx store.Tx, row store.Rollout, ids []string) error {
	live, err := livePlans(ctx, tx, row.Model)
	if err != nil {
		return err
	}
	for _, p := range live {
		for _, id := range ids {
			_, err := tx.Member(ctx, p.row.ID, id)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err == nil {
				err = c.supersede(ctx, tx, p, row)
			}
			if err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// Pause, Resume, Promote and Abort are what a person does to the newest staged
// rollout of a model.
const (
	Pause   = plan.Pause
	Resume  = plan.Resume
	Promote = plan.Promote
	Abort   = plan.Abort
)

// Command does kind to the newest staged rollout of a model that is under way, in
// the name of audit.Who, and returns it. ErrNotStaged if there is none, ErrNotFound
// for a model that does not exist.
func (r *Rollouts) Command(ctx context.Context, model string, kind plan.Kind) (Staged, error) {
	at := r.now()
	c := r.change(at)
	var out Staged
	if kind == Promote {
		if err := r.begin(ctx, model, at); err != nil {
			return Staged{}, fmt.Errorf("%s rollout of %q: %w", kind, model, err)
		}
	}
	err := r.store.Update(ctx, func(tx store.Tx) error {
		live, err := livePlans(ctx, tx, model)
		if err != nil {
			return err
		}
		if len(live) == 0 {
			if _, err := tx.LatestVersion(ctx, model); errors.Is(err, ErrNotFound) {
				return noRollout(ctx, tx, model, "rollout")
			} else if err != nil {
				return err
			}
			return fmt.Errorf("%w; `rollout start` with --plan or --stage begins one", ErrNotStaged)
		}
		newest := live[len(live)-1]
		if phase := newest.state.Phase; kind == Promote && (phase == plan.Scheduled || phase == plan.Preparing || phase == plan.Measuring) {
			return fmt.Errorf("%w that could go on to a next stage: it is %s", ErrNotStaged, phase)
		}
		p, err := c.step(ctx, tx, newest, plan.Event{Kind: kind, At: at, By: audit.Who(ctx)})
		if err != nil {
			return err
		}
		out, err = staged(ctx, tx, p)
		return err
	})
	if err != nil {
		return Staged{}, fmt.Errorf("%s rollout of %q: %w", kind, model, err)
	}
	r.log.Info("rollout commanded", "model", model, "command", kind, "by", audit.Who(ctx))
	return out, r.drain(ctx, at)
}

// begin has the newest staged rollout of a model begin now if it only waits for its
// transfers, so that a person who promotes it at once need not try again.
func (r *Rollouts) begin(ctx context.Context, model string, at time.Time) error {
	var live []planned
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		live, err = livePlans(ctx, tx, model)
		return err
	})
	if err != nil || len(live) == 0 || live[len(live)-1].state.Phase != plan.Preparing {
		return err
	}
	return r.advance(ctx, live[len(live)-1], at)
}
