package rollout

import (
	"context"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// marked remembers the errors of all devices, at a moment that a step of p calls for.
func (c *change) marked(ctx context.Context, tx store.Tx, p planned, before plan.State) error {
	switch {
	case p.state.Mark != before.Mark:
		return tx.PutMark(ctx, p.row.ID, p.state.Mark, p.row.Model, [8]byte(p.row.Digest[:8]))
	case p.state.Mark > 0 && !p.state.Phase.Live():
		return tx.DropMarks(ctx, p.row.ID)
	}
	return nil
}

// differences gathers the errors of the devices of the stage under way before and
// after they got the version, and those of untouched ones at the same times.
func (c *change) differences(ctx context.Context, tx store.Tx, p planned, f *plan.Facts) error {
	if p.state.Mark == 0 {
		return nil
	}
	now, err := errorsOf(tx.Errors(ctx, p.row.ID, p.row.Model, [8]byte(p.row.Digest[:8])))
	if err != nil {
		return err
	}
	first, err := errorsOf(tx.Marked(ctx, p.row.ID, 1))
	if err != nil {
		return err
	}
	stage, err := errorsOf(tx.Marked(ctx, p.row.ID, p.state.Mark))
	if err != nil {
		return err
	}
	seats, err := tx.Seats(ctx, p.row.ID, p.state.From, plan.All)
	if err != nil {
		return err
	}
	fresh := p.state.Heard(p.plan, c.at)
	if f.Why == nil {
		f.Why = map[string]plan.Fault{}
	}
	for _, s := range seats {
		is, began, entered := now[s.Device], first[s.Device], stage[s.Device]
		d := quality.Device{ID: s.Device, Group: s.Group, Known: s.Lost != ""}
		switch {
		case p.state.Phase == plan.Measuring && s.N >= p.state.Sizes[0]:
			so := is.others.Less(began.others)
			d.Sums = plan.Differing(so, so)
		case p.state.Phase == plan.Measuring || s.State == Kept:
			continue
		case s.N >= p.state.Reach:
			if is.own.N != entered.own.N {
				continue // it runs the version, whoever installed it
			}
			d.Sums = plan.Differing(entered.others.Less(began.others), is.others.Less(entered.others))
		default:
			d.Sums = plan.Differing(is.others.Less(began.others), is.own.Less(entered.own))
			heard := s.Seen
			if s.Online {
				heard = c.at
			}
			last := c.last(p, s, heard, fresh)
			d.Lost = c.loss(p, s, d.Sums, last)
			if d.Lost != "" && !d.Known {
				if f.Why[d.ID], err = c.why(ctx, tx, p, s, d, last); err != nil {
					return err
				}
			}
			f.Judged = append(f.Judged, d)
			f.JudgedActive++
			continue
		}
		f.Untouched = append(f.Untouched, d)
	}
	return nil
}

// A differing is what a device told of the errors of the rollout's version and of the
// others.
type differing struct{ others, own plan.Sums }

func errorsOf(rows []store.Errors, err error) (map[string]differing, error) {
	out := make(map[string]differing, len(rows))
	for _, r := range rows {
		out[r.Device] = differing{plan.Sums{N: r.Others, Sum: r.OthersSum}, plan.Sums{N: r.Own, Sum: r.OwnSum}}
	}
	return out, err
}

// checkUntouched refuses a plan that leaves too few devices to compare with.
func (d *Draft) checkUntouched(devices, comparable int) error {
	i, left := d.Plan.Untouched(devices, comparable)
	if i < 0 {
		return nil
	}
	return &plan.Error{Stage: i, Name: d.Plan.Stages[i].Name, Key: "devices", Text: fmt.Sprintf(
		"with evidence did, %d devices that run another version must be left without this one, and there are %d: make the stage smaller, or use evidence paired", quality.MinUntouched, left)}
}
