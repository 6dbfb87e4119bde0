package rollout

import (
	"context"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// Staged is where a rollout by a plan stands.
type Staged struct {
	Rollout Rollout      `json:"rollout"`
	Plan    plan.Plan    `json:"plan"`
	State   plan.State   `json:"state"`
	Stages  []StageCount `json:"stages"`
	// Text says what the last look saw, and Log what each stage came to; Back how
	// many of the devices that ran it are on the version before again.
	Text string   `json:"text"`
	Log  []string `json:"log,omitempty"`
	Back string   `json:"back,omitempty"`
	// Kept are the first of the devices that are no part of their stage, held by their
	// owner or taken out by a person; the counts have them all.
	Kept []string `json:"kept,omitempty"`
}

// maxHeld is how many devices a Staged names that their owners hold.
const maxHeld = 20

// A StageCount is how far the devices are that get the version in a stage.
type StageCount struct {
	Name    string `json:"name"`
	Current bool   `json:"current,omitempty"`
	Devices int    `json:"devices"` // that the plan gives it, in all
	Counts  Counts `json:"counts"`  // of those that get it in this stage
}

// staged reads where p stands from its state and the counters of its devices.
func staged(ctx context.Context, tx store.Tx, p planned) (Staged, error) {
	s := Staged{Rollout: fromRow(p.row), Plan: p.plan, State: p.state}
	s.Rollout.Phase = string(p.state.Phase)
	for i, stage := range p.plan.Stages {
		s.Stages = append(s.Stages, StageCount{Name: stage.Name, Current: i == p.state.Stage && p.state.Phase.Live(), Devices: p.state.Sizes[i], Counts: Counts{}})
	}
	counts, err := tx.MemberCounts(ctx, p.row.ID)
	if err != nil {
		return s, err
	}
	var back, returning int
	for _, c := range counts {
		i := c.Stage
		if c.State == InShadow && p.plan.Stages[0].Shadow {
			i = 0
		}
		s.Stages[i].Counts[c.State] += c.N
		switch c.State {
		case Returned:
			back += c.N
		case Returning:
			returning += c.N
		}
	}
	held, err := tx.MembersIn(ctx, p.row.ID, plan.All, maxHeld, Kept)
	if err != nil {
		return s, err
	}
	for _, m := range held {
		s.Kept = append(s.Kept, m.Device)
	}
	switch before := p.state.InPlace; {
	case !p.state.Back || back+returning == 0:
	case returning == 0:
		s.Back = fmt.Sprintf("All %d devices are back on %s.", back, before)
	default:
		s.Back = fmt.Sprintf("%d of %d devices are back on %s.", back, back+returning, before)
	}
	s.Text = p.state.Text(p.plan, candidate(p.row), s.Back)
	for i, o := range p.state.History {
		outcome := ""
		if i == len(p.state.History)-1 {
			outcome = s.Back
		}
		s.Log = append(s.Log, o.Text(p.plan, p.state, candidate(p.row), outcome))
	}
	return s, nil
}

// Staged returns where the newest rollout of a model by a plan stands.
// ErrNotFound if there was none.
func (r *Rollouts) Staged(ctx context.Context, model string) (s Staged, err error) {
	err = r.store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.Rollouts(ctx, model)
		if err != nil {
			return err
		}
		for i := len(rows) - 1; i >= 0; i-- {
			if rows[i].Phase == "" {
				continue
			}
			p, err := loadPlan(ctx, tx, rows[i])
			if err != nil {
				return err
			}
			s, err = staged(ctx, tx, p)
			return err
		}
		return noRollout(ctx, tx, model, "rollout in stages")
	})
	if err != nil {
		return Staged{}, fmt.Errorf("staged rollout of %q: %w", model, err)
	}
	return s, nil
}

// Settled reports whether every device that shall go back has done so, of a
// rollout that was withdrawn.
func (s Staged) Settled() bool {
	for _, stage := range s.Stages {
		if stage.Counts[Returning] > 0 {
			return false
		}
	}
	return true
}
