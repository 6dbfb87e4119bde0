package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

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
		p, stages := p, stages // another target may ask next
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
		if err := registry.Approved(ctx, tx, v.Name, v.Number); errors.Is(err, registry.ErrNotApproved) {
			d.Warnings = append(d.Warnings, err.Error()) // a start is refused, what it would do is shown
		} else if err != nil {
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
		d.warn(len(ids), len(comparable), m.Pipeline != nil)
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

// judged reports whether a stage's quality is.
func (d *Draft) judged() bool {
	return slices.ContainsFunc(d.Plan.Stages, func(s plan.Stage) bool { return s.Quality == plan.Paired })
}

// warn says which stages add nobody, and what the quality check will not be able to
// do, on so many devices.
func (d *Draft) warn(devices, comparable int, fed bool) {
	judged := d.judged()
	var small []string
	for i, size := range d.Plan.Sizes(devices) {
		// The stages of a plan that has a name of ours are meant for larger fleets too.
		if own := d.Plan.Stages[i].Devices.Of(devices); own < size && !slices.Contains(PlanNames, d.Plan.Name) {
			d.Warnings = append(d.Warnings, fmt.Sprintf("stage %d, %q, adds no device: of %d it is %d, and the stage before has %d already", i+1, d.Plan.Stages[i].Name, devices, own, size))
		}
		if d.Plan.Stages[i].Quality == plan.Paired && size < quality.MinJudged {
			small = append(small, d.Plan.Stages[i].Name)
		}
	}
	switch {
	case !judged:
	case comparable == 0:
		d.Warnings = append(d.Warnings, "no device of the target runs another version, so there is nothing to compare with: the quality check will have no data")
	case comparable < quality.MinJudged:
		d.Warnings = append(d.Warnings, fmt.Sprintf("%d devices run another version, and %d are needed to judge the quality: a person promotes", comparable, quality.MinJudged))
	case len(small) > 0:
		d.Warnings = append(d.Warnings, fmt.Sprintf("%d devices are needed to judge the quality, and there are fewer at %s: a person promotes", quality.MinJudged, strings.Join(small, ", ")))
	}
	if judged && !fed {
		d.Warnings = append(d.Warnings, d.Ref+" is not fed by a pipeline: pairs of errors come from requests alone, and of those whose truth is told")
	}
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
		if err := dev.room(d.version.Name); err != nil {
			return err
		}
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
	if d.judged() && !slices.ContainsFunc(candidates, func(c plan.Candidate) bool { return c.Group != "" }) {
		d.Warnings = append(d.Warnings, fmt.Sprintf("no device of the target has the label %q, so none is judged apart from the others; group names another label", d.Plan.Group))
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
	return d.Plan.CheckSpread(d.Forecast)
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
	if d.has(v.Name, v.Digest) {
		return 0, nil
	}
	refs, _, err := c.offer(ctx, tx, d, store.Desired{Device: d.id, Model: v.Name, Digest: v.Digest})
	if err != nil || len(refs) == 0 {
		return 0, err
	}
	return int64(refs[0].Size), nil
}
