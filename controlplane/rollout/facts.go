package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

const (
	// maxBoots is how many starts of a device are told apart under one number. One
	// that starts more often counts as crashed long before.
	maxBoots = 64
	// settle is how many intervals of reports a device has to begin reporting.
	settle = 1
)

// pairs stores a device's report of errors.
func (c *change) pairs(ctx context.Context, tx store.Tx, rep Report) error {
	var q protocol.Quality
	if err := q.UnmarshalBinary(rep.Payload); err != nil {
		return &badReport{err}
	}
	by, err := tx.Rollout(ctx, plan.RolloutOf(q.Stage))
	if errors.Is(err, ErrNotFound) {
		return &badReport{fmt.Errorf("pairs under the number %d, which no rollout has", q.Stage)}
	}
	if err != nil {
		return err
	}
	m, err := tx.Member(ctx, by.ID, rep.Device)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && m.Judge != q.Stage:
		return nil // late, or of a want that came late: that stage is over for it
	case err != nil:
		return err
	}
	if err := c.foreign(ctx, tx, rep.Device, by, q); err != nil {
		return err
	}
	rows, err := tx.PairsOf(ctx, q.Stage, rep.Device)
	if err != nil {
		return err
	}
	row := store.Pairs{Judge: q.Stage, Device: rep.Device, Boot: q.Boot, Heard: c.at, Report: rep.Payload}
	i := slices.IndexFunc(rows, func(r store.Pairs) bool { return r.Boot == q.Boot })
	switch {
	case i < 0 && len(rows) >= maxBoots:
		return nil
	case i >= 0:
		var old protocol.Quality
		if err := old.UnmarshalBinary(rows[i].Report); err != nil {
			return fmt.Errorf("stored pairs of %s: %w", rep.Device, err)
		}
		if !quality.Newer(q, old) {
			row.Report = rows[i].Report // heard again, nothing new
		}
	}
	return tx.PutPairs(ctx, row)
}

// foreign refuses pairs of versions that the device was not told to compare, and
// numbers that no errors could make.
func (c *change) foreign(ctx context.Context, tx store.Tx, device string, by store.Rollout, q protocol.Quality) error {
	if q.B != [8]byte(by.Digest[:8]) {
		return &badReport{fmt.Errorf("pairs of a candidate %x, which rollout %d does not ship", q.B, by.ID)}
	}
	row, err := tx.Desired(ctx, device, by.Model)
	if err != nil {
		return err
	}
	if a := q.A; a != [8]byte(row.Previous[:8]) && a != [8]byte(row.Digest[:8]) {
		return &badReport{fmt.Errorf("pairs against %x, which nobody released to this device", a)}
	}
	if !quality.Possible(q) {
		return &badReport{fmt.Errorf("errors that no model could make: %d pairs, sums %g and %g, largest %g and %g", q.Pairs, q.SumA, q.SumB, q.MaxA, q.MaxB)}
	}
	return nil
}

// facts gathers what is known of the devices of a plan.
func (c *change) facts(ctx context.Context, tx store.Tx, p planned) (plan.Facts, error) {
	f := plan.Facts{Epsilon: p.state.Epsilon}
	for _, gather := range []func(context.Context, store.Tx, planned, *plan.Facts) error{c.countActive, c.judged, c.differences, c.elsewhere, c.unheard} {
		if err := gather(ctx, tx, p, &f); err != nil {
			return f, err
		}
	}
	return f, c.health(ctx, tx, p, &f)
}

// health gathers what the stage under way limits, and no more: devices that run
// the version, or have it in shadow.
func (c *change) health(ctx context.Context, tx store.Tx, p planned, f *plan.Facts) error {
	h := &f.Health
	checks, below := p.plan.Stages[p.state.Stage].Checks, max(p.state.Reach, p.state.Judged)
	if checks.MaxRestarted != nil {
		if err := c.restarted(ctx, tx, p, h); err != nil {
			return err
		}
	}
	if checks.MaxDrift != nil {
		if err := c.drifted(ctx, tx, p, *checks.MaxDrift, f); err != nil {
			return err
		}
	}
	if checks.MaxLatency == nil && checks.MaxErrorRate == nil {
		return nil
	}
	counts, err := tx.VersionCounts(ctx, p.row.ID, p.row.Model, below)
	if err != nil {
		return err
	}
	devices := counted(counts, [8]byte(p.row.Digest[:8]))
	h.Latency, h.ErrorRate = plan.Slower(devices), plan.ErrorRate(devices)
	h.Worst = append(h.Worst, h.Beyond(devices, checks)...)
	return nil
}

// counted sums up the starts of each device, in the order of the first of them. What is
// not of the candidate is of the version in place.
func counted(counts []store.DeviceVersion, candidate [8]byte) []plan.Counted {
	type sides struct{ a, b protocol.VersionCount }
	byDevice, order := map[string]*sides{}, []string{}
	for _, n := range counts {
		d := byDevice[n.Device]
		if d == nil {
			d = &sides{}
			byDevice[n.Device], order = d, append(order, n.Device)
		}
		if n.Version == candidate {
			addCounts(&d.b, n.VersionCount)
		} else {
			addCounts(&d.a, n.VersionCount)
		}
	}
	out := make([]plan.Counted, len(order))
	for i, id := range order {
		d := byDevice[id]
		out[i] = plan.Counted{Device: id, Before: d.a.Latency, Latency: d.b.Latency, Answered: d.b.Answered, Failed: d.b.Failed}
	}
	return out
}

func addCounts(into *protocol.VersionCount, n protocol.VersionCount) {
	into.Answered += n.Answered
	into.Failed += n.Failed
	if into.Latency == nil {
		into.Latency = make([]uint64, protocol.LatencyBuckets)
	}
	for i, k := range n.Latency {
		into.Latency[i] += k
	}
}

func (c *change) countActive(ctx context.Context, tx store.Tx, p planned, f *plan.Facts) error {
	if p.state.Reach == 0 {
		return nil
	}
	counts, err := tx.MemberCounts(ctx, p.row.ID)
	if err != nil {
		return err
	}
	for _, n := range counts {
		switch {
		case n.Stage > p.state.Stage, n.State == Kept:
		case n.State == Active:
			f.Active += n.N
		case n.State == Failed:
			f.Failed += n.N
		default:
			f.Unsettled += n.N
		}
	}
	vanished, err := vanished(ctx, tx, p)
	f.Active, f.Unsettled = f.Active-len(vanished), f.Unsettled+len(vanished)
	return err
}

// vanished are the devices that run the version and are not heard of, in a stage
// whose devices report nothing by which they could be missed.
func vanished(ctx context.Context, tx store.Tx, p planned) ([]store.Member, error) {
	if p.state.Phase != plan.Running || p.plan.Stages[p.state.Stage].Quality != plan.Off {
		return nil, nil
	}
	return tx.Vanished(ctx, p.row.ID, p.state.Reach)
}

// judged gathers the devices that report pairs.
func (c *change) judged(ctx context.Context, tx store.Tx, p planned, f *plan.Facts) error {
	if p.state.Judge == 0 {
		return nil
	}
	seats, err := tx.Seats(ctx, p.row.ID, 0, p.state.Judged)
	if err != nil {
		return err
	}
	reports, err := tx.Pairs(ctx, p.state.Judge)
	if err != nil {
		return err
	}
	byDevice, err := sumUp(reports)
	if err != nil {
		return err
	}
	fresh := p.state.Heard(p.plan, c.at)
	f.Why = map[string]plan.Fault{}
	busy := map[int64]int{} // devices by rollout
	for _, s := range seats {
		if s.Elsewhere != 0 {
			busy[s.Elsewhere]++
		}
		if s.Elsewhere != 0 || s.Judge == 0 && s.Lost == "" || s.State == Kept {
			continue // another rollout judges it, it has nothing to compare with, or shall not run it
		}
		if s.Told.After(c.at) { // the clock was set back since
			s.Told = fresh
		}
		t := byDevice[s.Device]
		last := c.last(p, s, t.heard, fresh)
		d := quality.Device{ID: s.Device, Group: s.Group, Sums: t.sums, Lost: c.loss(p, s, t.sums, last), Known: s.Lost != ""}
		if d.Lost != "" && !d.Known {
			if f.Why[d.ID], err = c.why(ctx, tx, p, s, d, last); err != nil {
				return err
			}
		}
		if s.N < p.state.Reach {
			f.JudgedActive++
		}
		if d.Lost == "" && t.heard.Before(s.Told) {
			f.Early++
		}
		f.Judged = append(f.Judged, d)
	}
	return c.busy(ctx, tx, busy, f)
}

// busy says for which rollouts so many devices are judged.
func (c *change) busy(ctx context.Context, tx store.Tx, devices map[int64]int, f *plan.Facts) error {
	if len(devices) == 0 {
		return nil
	}
	oldest, err := tx.Rollout(ctx, slices.Min(slices.Collect(maps.Keys(devices))))
	f.Busy = &plan.Busy{Rollout: oldest.ID, Model: oldest.Model}
	for _, n := range devices {
		f.Busy.N += n
	}
	return err
}

// told is what a device said of its pairs, and when last.
type told struct {
	sums  quality.Sums
	heard time.Time
}

// sumUp adds the starts of each device.
func sumUp(reports []store.Pairs) (map[string]told, error) {
	byDevice := map[string]told{}
	for _, r := range reports {
		var q protocol.Quality
		if err := q.UnmarshalBinary(r.Report); err != nil {
			return nil, fmt.Errorf("stored pairs of %s: %w", r.Device, err)
		}
		t := byDevice[r.Device]
		t.sums.Add(q)
		if r.Heard.After(t.heard) {
			t.heard = r.Heard
		}
		byDevice[r.Device] = t
	}
	return byDevice, nil
}

// last is when a judged device was heard last, or the time from which it could be.
func (c *change) last(p planned, s store.Seat, heard, fresh time.Time) time.Time {
	begins := s.Told.Add(settle*time.Duration(p.plan.Every) + time.Duration(p.jitter())*time.Second)
	if p.plan.Window != nil && s.Role == string(plan.Active) {
		begins = begins.Add(p.plan.Window.Wait())
	}
	if heard.After(c.at) { // the clock was set back since
		heard = fresh
	}
	return slices.MaxFunc([]time.Time{begins, heard, fresh}, time.Time.Compare)
}

// loss says why a judged device, heard last at the given time, counts as lost, "" if
// it is well.
func (c *change) loss(p planned, s store.Seat, sums quality.Sums, last time.Time) quality.Loss {
	switch {
	case s.Lost != "":
		return quality.Loss(s.Lost)
	case s.State == Failed:
		return quality.Refused
	case sums.BadB > sums.BadA: // beyond what neither version could say
		return quality.NonFinite
	case s.Role == string(plan.Active) && s.Now >= s.Boot+plan.Crashes:
		return quality.Crashed
	case c.at.Sub(last) > p.plan.Patience():
		return quality.Silent
	}
	return ""
}

// elsewhere is the share of silent devices among those that the rollout has not
// touched, which report their presence alone.
func (c *change) elsewhere(ctx context.Context, tx store.Tx, p planned, f *plan.Facts) error {
	all, offline, err := tx.Presence(ctx, p.row.ID, max(p.state.Reach, p.state.Shadow))
	if err == nil && all >= plan.EnoughElsewhere {
		share := float64(offline) / float64(all)
		f.Elsewhere = &share
	}
	return err
}
