package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// An ending is what there is to say about how a rollout ended.
type ending struct {
	lines    []string
	versions map[string]string // that devices are to run, NAME:vN
	settled  bool              // all have told that they did as told
}

// done reports whether every device has done what it was told last, and said so.
func (e ending) done(f devices) bool {
	runs := f.runs()
	for id, version := range e.versions {
		if runs[id] != version {
			return false
		}
	}
	return e.settled
}

func (d *stand) done(ctx context.Context, f devices) bool {
	e, err := d.ending(ctx)
	return err == nil && e.done(f)
}

// ending reads it from the control plane's store.
func (d *stand) ending(ctx context.Context) (e ending, err error) {
	s, err := store.Open(ctx, d.site.dir)
	if err != nil {
		return e, err
	}
	err = s.View(ctx, func(tx store.Tx) error { return e.read(ctx, tx, d) })
	return e, errors.Join(err, s.Close())
}

func (e *ending) line(format string, args ...any) {
	e.lines = append(e.lines, fmt.Sprintf(format, args...))
}

// read says how the rollouts of a stand stand and how they came there, and what is
// wanted of every device, where it is, and what it told on the way: all but times,
// and looks, of which kills leave out some.
func (e *ending) read(ctx context.Context, tx store.Tx, d *stand) error {
	rows, err := tx.Rollouts(ctx, killModel)
	if err != nil {
		return err
	}
	for _, r := range rows {
		e.line("rollout %d: %s %s:v%d to %s, %s", r.ID, r.Kind, r.Model, r.Number, r.Target, r.Phase)
		if r.Phase == "" {
			continue
		}
		if err := e.readPlan(ctx, tx, r); err != nil {
			return err
		}
	}
	record, err := tx.AuditFrom(ctx, 0, 1<<20)
	if err != nil {
		return err
	}
	if err := e.readMoves(ctx, tx, record); err != nil {
		return err
	}
	e.settled, e.versions = true, map[string]string{}
	for _, x := range d.devices {
		if err := e.readDevice(ctx, tx, x.ID, record); err != nil {
			return err
		}
	}
	return nil
}

func (e *ending) readPlan(ctx context.Context, tx store.Tx, r store.Rollout) error {
	p, err := tx.Plan(ctx, r.ID)
	if err != nil {
		return err
	}
	var s plan.State
	if err := json.Unmarshal(p.State, &s); err != nil {
		return err
	}
	e.line("rollout %d: %s, stage %d, %d reached, back %t, %d judgements, lost %v: %s", r.ID, s.Phase, s.Stage, s.Reach, s.Back, s.Judges, s.Lost, s.Reason)
	for _, o := range s.History {
		e.line("rollout %d: %s came to %s: %s", r.ID, o.Stage, o.Phase, o.Reason)
	}
	counts, err := tx.MemberCounts(ctx, r.ID)
	for _, c := range counts {
		e.line("rollout %d: %d of stage %d are %s", r.ID, c.N, c.Stage, c.State)
	}
	return err
}

// readMoves reads what the record has of rollouts; a look is there once, or not.
func (e *ending) readMoves(ctx context.Context, tx store.Tx, record []audit.Entry) error {
	looks, last := map[int64]int{}, map[int64]int{}
	for _, a := range record {
		switch a.Action {
		case audit.RolloutLook:
			var look int
			if _, err := fmt.Sscanf(a.Detail, "look %d,", &look); err != nil || look <= last[a.Rollout] {
				return fmt.Errorf("entry %d of rollout %d is %q, after look %d", a.Seq, a.Rollout, a.Detail, last[a.Rollout])
			}
			looks[a.Rollout]++
			last[a.Rollout] = look
		case audit.RolloutStart, audit.RolloutMove, audit.RolloutRollback:
			e.line("record: %s of %d by %s: %s", a.Action, a.Rollout, a.Who, a.Detail)
		}
	}
	for rollout, n := range looks {
		kept, err := tx.Looks(ctx, rollout, 0, 1<<20)
		if err != nil {
			return err
		}
		if len(kept) != n {
			return fmt.Errorf("rollout %d has %d looks, and %d in the record", rollout, len(kept), n)
		}
	}
	return nil
}

func (e *ending) readDevice(ctx context.Context, tx store.Tx, id string, record []audit.Entry) error {
	want, err := tx.Want(ctx, id)
	if err != nil {
		return err
	}
	row, err := tx.Desired(ctx, id, killModel)
	if err != nil {
		return err
	}
	number, err := tx.VersionNumber(ctx, killModel, row.Digest)
	if err != nil {
		return err
	}
	b, err := tx.DeviceHave(ctx, id)
	if err != nil {
		return err
	}
	var have protocol.Have
	if b == nil || have.UnmarshalBinary(b) != nil || have.Epoch != want.Epoch || have.Rev != want.Rev || have.Models[killModel].Phase != protocol.PhaseIdle {
		e.settled = false
	}
	e.versions[id] = have.Models[killModel].Version
	e.line("%s: want %d.%d of v%d, rollout %d, %s %s, runs %s before %s", id, want.Epoch, want.Rev, number, row.Rollout, row.State, row.Code,
		have.Models[killModel].Version, row.Previous.Short())
	for rollout := int64(1); ; rollout++ {
		if _, err := tx.Rollout(ctx, rollout); errors.Is(err, store.ErrNotFound) {
			break
		}
		m, err := tx.Member(ctx, rollout, id)
		if err == nil {
			e.line("%s: in rollout %d at stage %d, %q, lost %q, %s", id, rollout, m.Stage, m.Role, m.Lost, m.State)
		}
	}
	// What was told late is entered late.
	record = slices.Clone(record)
	slices.SortStableFunc(record, func(a, b audit.Entry) int { return a.At.Compare(b.At) })
	for _, action := range []string{audit.DeviceActive, audit.DeviceFailed} {
		for _, a := range record {
			if a.Device == id && a.Action == action {
				e.line("%s: %s v%d of rollout %d", id, a.Action, a.Number, a.Rollout)
			}
		}
	}
	events, err := tx.Events(ctx, id, 1000)
	for i := range events {
		told := events[len(events)-1-i]
		e.line("%s: told %s %s", id, told.Kind, told.Digest.Short())
	}
	return err
}

// difference returns the first lines that are in one of a and b alone.
func difference(a, b []string) string {
	var out []string
	for i := 0; i < max(len(a), len(b)) && len(out) < 20; i++ {
		switch {
		case i >= len(b):
			out = append(out, "- "+a[i])
		case i >= len(a):
			out = append(out, "+ "+b[i])
		case a[i] != b[i]:
			out = append(out, "- "+a[i], "+ "+b[i])
		}
	}
	return strings.Join(out, "\n")
}
