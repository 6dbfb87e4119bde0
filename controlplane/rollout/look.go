package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// A Look is the record of one look at a stage.
type Look struct {
	Look int `json:"look"` // counts those of the rollout
	plan.Outcome
}

// Looks that are recorded of a stage in which nothing happens: each of its first
// hour, then one every quarter of an hour. All of them would be 1,440 in a day of
// watching, a kilobyte each.
const (
	everyLookFor = plan.Duration(time.Hour)
	lookKept     = plan.Duration(15 * time.Minute)
)

// telling reports whether a look, between two states, is recorded.
func telling(before, after plan.State, seen plan.Outcome) bool {
	opinion := func(v *quality.Verdict) (quality.Decision, string) {
		if v == nil {
			return "", ""
		}
		return v.Decision, v.Reason
	}
	was, why := opinion(before.Verdict)
	is, because := opinion(seen.Verdict)
	return seen.Ran <= everyLookFor || seen.Ran/lookKept != before.Ran/lookKept || is != was || because != why ||
		after.Phase != before.Phase || after.Stage != before.Stage || after.Widened != before.Widened
}

func (c *change) record(ctx context.Context, tx store.Tx, p planned, seen plan.Outcome) error {
	b, err := json.Marshal(Look{p.state.Looks, seen})
	if err != nil {
		return err
	}
	if err := tx.PutLook(ctx, store.Look{Rollout: p.row.ID, Look: p.state.Looks, At: c.at, Record: b}); err != nil {
		return err
	}
	return tx.Audit(ctx, entry(p, audit.RolloutLook, fmt.Sprintf("look %d, %s: %s", p.state.Looks, seen.Stage, seen.Seen(p.plan, p.state, candidate(p.row)))))
}

// Looks returns up to limit records of the looks at a rollout, after the given
// one.
func (r *Rollouts) Looks(ctx context.Context, rollout int64, after, limit int) (looks []Look, err error) {
	err = r.store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.Looks(ctx, rollout, after, limit)
		if err != nil {
			return err
		}
		looks = make([]Look, len(rows))
		for i, row := range rows {
			if err := json.Unmarshal(row.Record, &looks[i]); err != nil {
				return fmt.Errorf("look %d: %w", row.Look, err)
			}
		}
		return nil
	})
	return looks, err
}
