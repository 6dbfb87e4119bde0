package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Advance lets time go on: it looks at the staged rollouts that are due, acts on
// what it sees, and tells devices what changed. Run calls it; a simulation does
// with a time of its own.
func (r *Rollouts) Advance(ctx context.Context, at time.Time) error {
	var errs []error
	var live []planned
	r.idle.Store(true) // unless there is something now, or somebody starts something
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		live, err = livePlans(ctx, tx, "")
		return err
	})
	if err != nil {
		r.idle.Store(false)
		return err
	}
	for _, p := range live {
		if err := r.advance(ctx, p, at); err != nil {
			errs = append(errs, fmt.Errorf("rollout %d: %w", p.row.ID, err))
		}
	}
	err = errors.Join(append(errs, r.tellAll(ctx, at))...)
	if err != nil || len(live) > 0 {
		r.idle.Store(false)
	}
	return err
}

func (r *Rollouts) advance(ctx context.Context, p planned, at time.Time) error {
	kind := plan.Tick
	switch {
	case p.state.Phase == plan.Preparing && !p.state.Paused:
		if err := r.prepare(ctx, p.row.Digest); err != nil {
			return fmt.Errorf("publish transfers: %w", err)
		}
		kind = plan.Prepared
	case p.state.Phase == plan.Scheduled && !p.plan.Start.After(at):
	case !p.state.Due(p.plan, at):
		return nil
	}
	c := r.change(at)
	var err error
	if c.reference, err = r.reference(ctx, p); err != nil {
		return err
	}
	return r.store.Update(ctx, func(tx store.Tx) error {
		row, err := tx.Rollout(ctx, p.row.ID)
		if err != nil {
			return err
		}
		p, err := loadPlan(ctx, tx, row) // it may have moved since
		if err != nil || !p.state.Phase.Live() {
			return err
		}
		e := plan.Event{Kind: kind, At: at}
		if kind == plan.Tick && p.state.Due(p.plan, at) {
			if e.Facts, err = c.facts(ctx, tx, p); err != nil {
				return err
			}
			if err := tx.MarkJudgedUntil(ctx, p.row.ID, p.row.Model, c.renewing(p)); err != nil {
				return err
			}
		}
		_, err = c.step(ctx, tx, p, e)
		return err
	})
}

// prepare publishes the transfers of a version: the full one, and those updates that
// can be read.
func (r *Rollouts) prepare(ctx context.Context, d protocol.Digest) error {
	release, err := r.flushing(ctx)
	if err != nil {
		return err
	}
	defer release()
	var rows []store.Transfer
	err = r.store.View(ctx, func(tx store.Tx) (err error) {
		rows, err = tx.Transfers(ctx, d)
		return err
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := r.announce(ctx, row.Hash); err != nil && (row.Base.IsZero() || !lost(err)) {
			return fmt.Errorf("transfer %s: %w", row.Hash, err)
		}
	}
	return nil
}
