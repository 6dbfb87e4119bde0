package rollout

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// blame stores the devices that a step of p names. Those that failed by themselves
// go back.
func (c *change) blame(ctx context.Context, tx store.Tx, p planned, did plan.Change) error {
	for _, f := range slices.Concat(did.Lost, did.Worst) {
		if f.Loss != "" {
			if _, err := tx.LoseMember(ctx, p.row.ID, f.Device, string(f.Loss)); err != nil {
				return err
			}
		}
		err := tx.PutFault(ctx, store.Fault{
			Rollout: p.row.ID, Device: f.Device, Look: p.state.Looks,
			Loss: string(f.Loss), Check: f.Check, Figure: f.Figure, Bound: f.Bound, Message: f.Message,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Faults returns up to limit of the devices that a rollout names, in the order of
// their ids, after the given one.
func (r *Rollouts) Faults(ctx context.Context, rollout int64, after string, limit int) (faults []plan.Fault, err error) {
	err = r.store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.Faults(ctx, rollout, after, limit)
		for _, f := range rows {
			faults = append(faults, plan.Fault{Device: f.Device, Loss: quality.Loss(f.Loss), Check: f.Check, Figure: f.Figure, Bound: f.Bound, Message: f.Message})
		}
		return err
	})
	return faults, err
}

// why says more of a judged device that is lost.
func (c *change) why(ctx context.Context, tx store.Tx, p planned, s store.Seat, d quality.Device, last time.Time) (plan.Fault, error) {
	f := plan.Fault{Device: d.ID, Loss: d.Lost}
	switch d.Lost {
	case quality.Silent:
		f.Check, f.Figure, f.Bound = plan.CheckSilence, c.at.Sub(last).Seconds(), p.plan.Patience().Seconds()
	case quality.Crashed:
		f.Check, f.Figure, f.Bound = plan.CheckRestarts, float64(s.Now-s.Boot), plan.Crashes-1
	case quality.NonFinite:
		f.Check, f.Figure, f.Bound = plan.CheckNumbers, float64(d.BadB), float64(d.BadA)
	case quality.Refused:
		return c.refusal(ctx, tx, p, d.ID)
	}
	return f, nil
}

// refusal says what a device told of the version that it could not run.
func (c *change) refusal(ctx context.Context, tx store.Tx, p planned, device string) (plan.Fault, error) {
	f := plan.Fault{Device: device, Loss: quality.Refused, Check: plan.CheckUpdates}
	row, err := tx.Desired(ctx, device, p.row.Model)
	switch {
	case errors.Is(err, ErrNotFound):
		f.Message, err = "it "+fullText, nil
	case row.Code != "":
		f.Message = row.Code + ": " + row.Message
	}
	return f, err
}

// unheard are the devices that are not judged and failed, or have not got there by
// the deadline of a stage.
func (c *change) unheard(ctx context.Context, tx store.Tx, p planned, f *plan.Facts) error {
	deadline := p.state.Deadline(p.plan)
	late := f.Unsettled > 0 && p.state.Ran+plan.Duration(2*p.plan.Interval()) >= deadline
	states, most := []string{}, 0
	if f.Failed > 0 {
		states, most = append(states, Failed), most+f.Failed
	}
	if late {
		states, most = append(states, Pending, Fetching, Trying, Waiting), most+f.Unsettled
	}
	if most == 0 {
		return nil
	}
	members, err := tx.MembersIn(ctx, p.row.ID, p.state.Reach, most, states...)
	if err != nil {
		return err
	}
	if late {
		gone, err := vanished(ctx, tx, p)
		if err != nil {
			return err
		}
		members = append(members, gone...)
	}
	judged := make(map[string]bool, len(f.Judged))
	for _, d := range f.Judged {
		judged[d.ID] = true
	}
	for _, m := range members {
		if m.Lost != "" || judged[m.Device] {
			continue
		}
		fault := plan.Fault{
			Device: m.Device, Loss: quality.Silent, Check: plan.CheckSilence,
			Figure: max(c.at.Sub(m.Told), 0).Seconds(), Bound: time.Duration(deadline).Seconds(),
		}
		if m.State == Failed {
			if fault, err = c.refusal(ctx, tx, p, m.Device); err != nil {
				return err
			}
		}
		f.Unheard = append(f.Unheard, fault)
	}
	return nil
}

// restarted gathers the devices that restart again and again.
func (c *change) restarted(ctx context.Context, tx store.Tx, p planned, h *plan.Health) error {
	rows, err := tx.Restarted(ctx, p.row.ID, p.state.Reach, plan.Crashes)
	h.Restarted = len(rows)
	for _, m := range rows {
		h.Worst = append(h.Worst, plan.Fault{Device: m.Device, Check: plan.CheckRestarts, Figure: float64(m.Starts), Bound: plan.Crashes - 1})
	}
	sorted(h.Worst)
	return err
}

// A counted is what a device counted of the version in place and of the candidate.
type counted struct{ a, b protocol.VersionCount }

// slower are the devices on which the candidate itself is above the limits of p99
// and of the share of predictions that fail, of those that all together are beyond.
func slower(counts []store.DeviceVersion, candidate [8]byte, checks plan.Checks, h plan.Health) (out []plan.Fault) {
	byDevice := map[string]*counted{}
	for _, n := range counts {
		d := byDevice[n.Device]
		if d == nil {
			d = &counted{}
			byDevice[n.Device] = d
		}
		if n.Version == candidate {
			addCounts(&d.b, n.VersionCount)
		} else {
			addCounts(&d.a, n.VersionCount)
		}
	}
	beyond := func(check string, all, limit *float64, of func(*counted) *float64) {
		if limit == nil || all == nil || *all <= *limit {
			return
		}
		var worst []plan.Fault
		for id, d := range byDevice {
			if x := of(d); x != nil && *x > *limit {
				worst = append(worst, plan.Fault{Device: id, Check: check, Figure: *x, Bound: *limit})
			}
		}
		out = append(out, sorted(worst)...)
	}
	beyond(plan.CheckLatency, h.Latency, checks.MaxLatency, func(d *counted) *float64 { return latencyRatio(d.a, d.b) })
	beyond(plan.CheckErrors, h.ErrorRate, checks.MaxErrorRate, func(d *counted) *float64 { return errorRate(d.b) })
	return out
}

// sorted puts the worst first.
func sorted(faults []plan.Fault) []plan.Fault {
	slices.SortFunc(faults, func(a, b plan.Fault) int {
		return cmp.Or(cmp.Compare(b.Figure, a.Figure), cmp.Compare(a.Device, b.Device))
	})
	return faults
}
