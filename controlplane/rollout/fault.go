package rollout

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
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
	plan.WorstFirst(h.Worst)
	return err
}
