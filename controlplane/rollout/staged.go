package rollout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
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
	Kept      = "kept"      // its owner holds another version: it is no part of the stage
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

// recordMove records that p is in another stage or phase.
func (c *change) recordMove(ctx context.Context, tx store.Tx, p planned) error {
	detail := fmt.Sprintf("%s, %s: %s", p.plan.Stages[p.state.Stage].Name, p.state.Phase, p.state.Reason)
	return tx.Audit(ctx, entry(p, audit.RolloutMove, detail))
}

func entry(p planned, action, detail string) audit.Entry {
	return audit.Entry{Action: action, Model: p.row.Model, Number: p.row.Number, Digest: p.row.Digest, Rollout: p.row.ID, Detail: detail}
}

func candidate(row store.Rollout) string { return fmt.Sprintf("v%d", row.Number) }

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

// A Draft is a plan for a version and a target, worked out.
type Draft struct {
	Ref      string        `json:"ref"`
	Target   string        `json:"target"`
	Plan     plan.Plan     `json:"plan"`
	Forecast plan.Forecast `json:"forecast"`
	// Warnings say what the plan will not be able to do.
	Warnings []string `json:"warnings,omitempty"`

	version registry.Version
	target  Target
	epsilon float64
	ids     []string // of a start without a plan
	order   []plan.Candidate
	seeded  bool // at random
	inPlace string
	offline float64
}

// A Planner makes the plan for a target of so many devices, of which so many run
// another version, of a model that is fed by itself, or not. nil is none: all at
// once.
type Planner func(devices, comparable int, fed bool) (*plan.Plan, error)

// Names of plans.
const (
	ShadowFirst = "shadow-first"
	CanaryFirst = "canary-first"
	ShadowOnly  = "shadow"
	Direct      = "direct" // none
)

// PlanNames lists them.
var PlanNames = []string{ShadowFirst, CanaryFirst, ShadowOnly, Direct}

// PlannerOf returns what makes p complete: its stages are those that it has, or
// those of its name. One with neither is shadow first where there are enough
// devices to judge the quality on, and none where there are not. ErrPlan for an
// unknown name.
func PlannerOf(p plan.Plan) (Planner, error) {
	var stages func(int) plan.Plan
	switch p.Name {
	case ShadowFirst:
		stages = plan.ShadowFirst
	case CanaryFirst:
		stages = plan.CanaryFirst
	case ShadowOnly:
		stages = plan.ShadowOnly
	case "", Direct:
	default:
		if len(p.Stages) == 0 {
			meant := near.Match(p.Name, PlanNames)
			return nil, &plan.Error{Stage: -1, Key: "name", Text: fmt.Sprintf("%q has no stages and is none of %s%s", p.Name, strings.Join(PlanNames, ", "), suggest(meant))}
		}
	}
	name := p.Name
	p.Name = ""
	alone := reflect.ValueOf(p).IsZero() // nothing is asked for that takes a plan
	p.Name = name
	return func(devices, comparable int, fed bool) (*plan.Plan, error) {
		switch {
		case len(p.Stages) > 0:
			return &p, nil
		case name == "" && p.Evidence == plan.DiD:
			stages = plan.CanaryFirst
		case name == "" && fed && comparable >= quality.MinJudged:
			stages = plan.ShadowFirst
		case stages == nil && !alone:
			return nil, &plan.Error{Stage: -1, Text: fmt.Sprintf("%d devices of the target report errors that could be judged, and %d are needed, so the version would go to all at once: name the stages, and what they check", judgeable(comparable, fed), quality.MinJudged)}
		case stages == nil:
			return nil, nil
		}
		full := stages(devices)
		if last := len(full.Stages) - 1; p.Evidence == plan.DiD {
			full.Stages[last].Quality = plan.Off // nobody is left to compare with
		}
		p.Name, p.Stages, p.OnInconclusive = full.Name, full.Stages, cmp.Or(p.OnInconclusive, full.OnInconclusive)
		return &p, nil
	}, nil
}

func judgeable(comparable int, fed bool) int {
	if !fed {
		return 0
	}
	return comparable
}

func suggest(meant string) string {
	if meant == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", meant)
}

// Draft works out what a plan would do, and changes nothing but that updates from
// what the devices run are made. Its Plan has no stages if the planner has none.
// Errors: as of StartPlan.
func (r *Rollouts) Draft(ctx context.Context, ref string, target Target, planner Planner) (Draft, error) {
	v, err := r.releasable(ctx, ref, target)
	if err != nil {
		return Draft{}, err
	}
	if err := r.prepareUpdates(ctx, v, target); err != nil {
		return Draft{}, fmt.Errorf("roll out %s to %s: %w", v.Ref(), target, err)
	}
	m, err := r.registry.Model(ctx, v.Ref())
	if err != nil {
		return Draft{}, err
	}
	d := Draft{Ref: v.Ref(), Target: target.String(), version: v, target: target, epsilon: epsilonOf(m.Scaler.OutStd)}
	err = r.store.View(ctx, func(tx store.Tx) error {
		ids, err := target.devices(ctx, tx)
		if err != nil {
			return err
		}
		comparable, err := d.comparable(ctx, tx, ids)
		if err != nil {
			return err
		}
		p, err := planner(len(ids), len(comparable), m.Pipeline != nil)
		if err != nil {
			return err
		}
		if p == nil {
			d.Plan.Name, d.Forecast.Devices, d.ids = Direct, len(ids), ids
			return nil
		}
		d.Plan = p.WithDefaults()
		if err := errors.Join(d.Plan.Check(), d.checkDrift(m), d.checkUntouched(len(ids), len(comparable))); err != nil {
			return err
		}
		d.warn(len(comparable), m.Pipeline != nil)
		return r.draw(ctx, tx, &d, ids, comparable)
	})
	if err != nil {
		return Draft{}, fmt.Errorf("roll out %s to %s: %w", v.Ref(), target.short(), err)
	}
	return d, nil
}

// epsilonOf is quality.Params.Epsilon: errors of several outputs are in training
// standard deviations, those of one in its unit.
func epsilonOf(std []float32) float64 {
	const share = 0.001
	if len(std) == 1 {
		return share * float64(std[0])
	}
	return share
}

func (d *Draft) warn(comparable int, fed bool) {
	judged := slices.ContainsFunc(d.Plan.Stages, func(s plan.Stage) bool { return s.Quality == plan.Paired })
	switch {
	case !judged:
	case comparable == 0:
		d.Warnings = append(d.Warnings, "no device of the target runs another version, so there is nothing to compare with: the quality check will have no data")
	case comparable < quality.MinJudged:
		d.Warnings = append(d.Warnings, fmt.Sprintf("%d devices run another version, and %d are needed to judge the quality: a person promotes", comparable, quality.MinJudged))
	}
	if judged && !fed {
		d.Warnings = append(d.Warnings, d.Ref+" is not fed by a pipeline: pairs of errors come from requests alone, and of those whose truth is told")
	}
}

// releasable resolves a version that can be rolled out to a target.
func (r *Rollouts) releasable(ctx context.Context, ref string, target Target) (registry.Version, error) {
	v, err := r.registry.Resolve(ctx, ref)
	if err != nil {
		return v, err
	}
	if !v.Signed {
		return v, fmt.Errorf("%s cannot be rolled out: %w with a release key; sign it where that key is kept", v.Ref(), ErrUnsigned)
	}
	if r.key == nil {
		return v, fmt.Errorf("roll out %s: %w", v.Ref(), ErrNoKey)
	}
	return v, target.check()
}

// comparable returns the devices of ids that run another version of the model,
// and notes which one most do.
func (d *Draft) comparable(ctx context.Context, tx store.Tx, ids []string) (map[string]bool, error) {
	out, run := make(map[string]bool), map[protocol.Digest]int{}
	var most protocol.Digest
	for page := range slices.Chunk(ids, loadPage) {
		rows, err := tx.DesiredIn(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if row.Model != d.version.Name || row.Digest == d.version.Digest || row.State != Active {
				continue
			}
			out[row.Device] = true
			if run[row.Digest]++; run[row.Digest] > run[most] {
				most = row.Digest
			}
		}
	}
	v, err := tx.VersionByDigest(ctx, most)
	if err == nil {
		d.inPlace = fmt.Sprintf("v%d", v.Number)
	}
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return out, err
}

// draw orders the devices and works out the forecast.
func (r *Rollouts) draw(ctx context.Context, tx store.Tx, d *Draft, ids []string, comparable map[string]bool) error {
	c := r.change(r.now())
	candidates, devices := make([]plan.Candidate, 0, len(ids)), make(map[string]device, len(ids))
	offline, kept := 0, 0
	busy, err := judgedElsewhere(ctx, tx, d.version.Name)
	if err != nil {
		return err
	}
	err = c.each(ctx, tx, ids, func(dev device) error {
		row, err := tx.Device(ctx, dev.id)
		if err != nil {
			return err
		}
		if !row.Online {
			offline++
		}
		devices[dev.id] = dev
		candidate := plan.Candidate{ID: dev.id, Group: row.Labels[d.Plan.Group], Comparable: comparable[dev.id], Busy: busy[dev.id] != nil, Kept: dev.pinned(d.version.Name)}
		if candidate.Kept {
			kept++
		}
		candidates = append(candidates, candidate)
		return nil
	})
	if err != nil {
		return err
	}
	if kept > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%d devices are held on their version by their owner: they are drawn last, and get this one when they are unpinned", kept))
	}
	d.offline = float64(offline) / float64(len(ids))
	if d.Plan.Seed == 0 {
		d.Plan.Seed, d.seeded = 1+rand.Uint64N(plan.MostSeed), true
	}
	d.order = plan.Draw(candidates, d.Plan.Sizes(len(ids)), d.Plan.Seed)
	d.warnBusy(busy)
	bytes := make([]int64, len(ids))
	for i, m := range d.order {
		if bytes[i], err = c.fetches(ctx, tx, devices[m.ID], d.version); err != nil {
			return err
		}
	}
	d.Forecast = d.Plan.Forecast(bytes)
	return nil
}

// judgedElsewhere returns the devices that report, or are to report, pairs of other
// models than this one, each with the oldest rollout that wants them.
func judgedElsewhere(ctx context.Context, tx store.Tx, model string) (map[string]*planned, error) {
	live, err := livePlans(ctx, tx, "")
	if err != nil {
		return nil, err
	}
	busy := map[string]*planned{}
	for _, p := range live {
		if p.row.Model == model {
			continue // this rollout ends it, or is over other devices
		}
		last := len(p.state.Sizes) - 1
		seats, err := tx.Seats(ctx, p.row.ID, 0, max(p.plan.JudgedMost(p.state.Sizes[last]), p.state.Judged))
		if err != nil {
			return nil, err
		}
		for _, s := range seats {
			if busy[s.Device] == nil && s.Lost == "" {
				busy[s.Device] = &p
			}
		}
	}
	return busy, nil
}

// warnBusy says which of the devices that are to be judged are so for another model.
func (d *Draft) warnBusy(busy map[string]*planned) {
	judged := d.order[:d.Plan.JudgedMost(len(d.order))]
	n, oldest := 0, (*planned)(nil)
	for _, m := range judged {
		p := busy[m.ID]
		if p == nil {
			continue
		}
		n++
		if oldest == nil || p.row.ID < oldest.row.ID {
			oldest = p
		}
	}
	if n > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("%d of the %d devices to be judged are judged for rollout %d of %s: a device reports errors of one model at a time, so they count here once that has ended", n, len(judged), oldest.row.ID, oldest.row.Model))
	}
}

// ForecastDirect works out what devices fetch by a draft without stages.
func (r *Rollouts) ForecastDirect(ctx context.Context, d *Draft) error {
	return r.store.View(ctx, func(tx store.Tx) error {
		c := r.change(r.now())
		return c.each(ctx, tx, d.ids, func(dev device) error {
			n, err := c.fetches(ctx, tx, dev, d.version)
			d.Forecast.Bytes += n
			return err
		})
	})
}

// Staged reports whether the draft has stages.
func (d Draft) Staged() bool { return len(d.Plan.Stages) > 0 }

// fetches returns the bytes that a device downloads to run v.
func (c *change) fetches(ctx context.Context, tx store.Tx, d device, v registry.Version) (int64, error) {
	have := d.have.Models[v.Name]
	if have.Active == v.Digest || have.Previous == v.Digest || have.Candidate == v.Digest {
		return 0, nil
	}
	refs, _, err := c.offer(ctx, tx, d, store.Desired{Device: d.id, Model: v.Name, Digest: v.Digest})
	if err != nil || len(refs) == 0 {
		return 0, err
	}
	return int64(refs[0].Size), nil
}

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
// the name of audit.Who, and returns it. ErrNotStaged if there is none.
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

// withdraw takes the staged rollouts of a model that are under way back from the
// devices of target. It notes in res which of ids move, and returns those that no
// such rollout is over: the others stay on what they ran before it.
func (c *change) withdraw(ctx context.Context, tx store.Tx, model string, target Target, ids []string, res *Result) (others []string, err error) {
	live, err := livePlans(ctx, tx, model)
	if err != nil || len(live) == 0 {
		return ids, err
	}
	over := map[string]bool{}
	for _, p := range live {
		whole, members := target.All || target.String() == p.row.Target, 0
		for _, id := range ids {
			m, err := tx.Member(ctx, p.row.ID, id)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			members++
			over[id] = true
			if m.N < p.state.Reach && m.Role == string(plan.Active) {
				res.Moved = append(res.Moved, id)
			}
			if !whole {
				if _, err := tx.LoseMember(ctx, p.row.ID, id, "rolled back"); err != nil {
					return nil, err
				}
			}
		}
		if members == 0 {
			continue
		}
		by := fromRow(p.row)
		res.Rollout = &by
		if whole {
			if _, err := c.step(ctx, tx, p, plan.Event{Kind: plan.Abort, At: c.at, By: "a rollback"}); err != nil {
				return nil, err
			}
		}
	}
	return slices.DeleteFunc(ids, func(id string) bool { return over[id] }), nil
}
