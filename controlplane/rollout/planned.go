package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

var (
	// ErrNotStaged: the model has no rollout under way that goes by a plan.
	ErrNotStaged = errors.New("no staged rollout is under way")
	// ErrPlan: a plan that cannot be carried out.
	ErrPlan = plan.ErrPlan
)

// States of a device of a plan, beside States.
const (
	Waiting   = "waiting"   // its stage has not come
	Kept      = "kept"      // held on another version by its owner, or taken out: no part of the stage
	InShadow  = "shadow"    // it shall run the version beside its own
	Returning = "returning" // it was told to go back
	Returned  = "back"      // it runs the version before again
)

// ended are the phases in which nothing goes on.
var ended = []string{string(plan.Done), string(plan.Stopped), string(plan.Aborted), string(plan.Superseded)}

// A planned rollout, as it is stored.
type planned struct {
	row   store.Rollout
	plan  plan.Plan
	state plan.State
}

func loadPlan(ctx context.Context, tx store.Tx, row store.Rollout) (p planned, err error) {
	p.row = row
	stored, err := tx.Plan(ctx, row.ID)
	if err != nil {
		return p, fmt.Errorf("plan of rollout %d: %w", row.ID, err)
	}
	if err := errors.Join(json.Unmarshal(stored.Plan, &p.plan), json.Unmarshal(stored.State, &p.state)); err != nil {
		return p, fmt.Errorf("plan of rollout %d: %w", row.ID, err)
	}
	return p, nil
}

// livePlans returns the rollouts by a plan that are under way, oldest first: of
// a model, or of all if that is "".
func livePlans(ctx context.Context, tx store.Tx, model string) ([]planned, error) {
	rows, err := tx.LivePlans(ctx, ended...)
	if err != nil {
		return nil, err
	}
	var out []planned
	for _, row := range rows {
		if model != "" && row.Model != model {
			continue
		}
		p, err := loadPlan(ctx, tx, row)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// put stores the state of p, and that there may be something to do about the
// devices whose role differs from before.
func (c *change) putPlan(ctx context.Context, tx store.Tx, p planned, before plan.State) error {
	pb, err := json.Marshal(p.plan)
	if err != nil {
		return err
	}
	sb, err := json.Marshal(p.state)
	if err != nil {
		return err
	}
	if err := tx.PutPlan(ctx, store.Plan{Rollout: p.row.ID, Phase: string(p.state.Phase), Plan: pb, State: sb}); err != nil {
		return err
	}
	for _, span := range plan.Changed(before, p.state) {
		if err := tx.MarkMembers(ctx, p.row.ID, span[0], span[1]); err != nil {
			return err
		}
	}
	return nil
}

// step takes p through an event.
func (c *change) step(ctx context.Context, tx store.Tx, p planned, e plan.Event) (planned, error) {
	before := p.state
	var did plan.Change
	p.state, did = plan.Step(p.plan, p.state, e)
	if err := c.blame(ctx, tx, p, did); err != nil {
		return p, err
	}
	if did.Look != nil && telling(before, p.state, *did.Look) {
		if err := c.record(ctx, tx, p, *did.Look); err != nil {
			return p, err
		}
	}
	if p.state.Phase != before.Phase || p.state.Stage != before.Stage || p.state.Paused != before.Paused {
		if err := c.recordMove(ctx, tx, p); err != nil {
			return p, err
		}
		c.r.log.Info("rollout moved", "rollout", p.row.ID, "model", p.row.Model, "phase", p.state.Phase, "stage", p.plan.Stages[p.state.Stage].Name, "reason", p.state.Reason)
	}
	if err := c.marked(ctx, tx, p, before); err != nil {
		return p, err
	}
	return p, c.putPlan(ctx, tx, p, before)
}

// recordMove records that p is in another stage or phase.
func (c *change) recordMove(ctx context.Context, tx store.Tx, p planned) error {
	detail := fmt.Sprintf("%s, %s: %s", p.plan.Stages[p.state.Stage].Name, p.state.Phase, p.state.Reason)
	return tx.Audit(ctx, entry(p, audit.RolloutMove, detail))
}

func entry(p planned, action, detail string) audit.Entry {
	return audit.Entry{Action: action, Model: p.row.Model, Number: p.row.Number, Digest: p.row.Digest, Rollout: p.row.ID, Detail: detail}
}

func candidate(row store.Rollout) string { return fmt.Sprintf("v%d", row.Number) }
