// Package past fills the folder of a control plane with what a year leaves there:
// devices, the versions that they ran, what they told, rollouts by a plan and the
// record of it all, written by the store's own statements in large transactions.
// Its present is made by the control plane itself: what devices should run, and a
// rollout under way. It is for measurements of how a control plane does with that.
package past

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Fleet is one with a past.
type Fleet struct {
	Devices  int // all with labels site, hw and line
	Models   int // that every device runs, m0, m1, …
	Versions int // of each model that were rolled out to all in the past, one after the other
	// Looks are the records of looks that each rollout left.
	Looks int
	Until time.Time // when the present is; the past begins a year before
	Seed  uint64
}

// Year is the past that the claims about it are measured on.
var Year = Fleet{Devices: 10_000, Models: 3, Versions: 40, Looks: 200}

const (
	year     = 365 * 24 * time.Hour
	starts   = 12 // of an agent, in the year
	batch    = 2000
	refusing = 100 // one device of so many refuses a version
	sites    = 40
)

// Model returns the name of the i-th model.
func Model(i int) string { return fmt.Sprintf("m%d", i) }

// Device returns the id of the i-th device.
func Device(i int) string { return fmt.Sprintf("pump-%05d", i) }

// Site returns the value of the label site of the i-th device.
func Site(i int) string { return fmt.Sprintf("site-%02d", i%sites) }

// Fill makes the past of f in dir, which controlplane.Init has made and nobody has
// open, and its present: all devices run the newest version of each model but the
// last one of the first model, whose canary is under way. log is told what is done.
func (f Fleet) Fill(ctx context.Context, dir string, log func(format string, args ...any)) error {
	w := &writer{Fleet: f, rng: rand.New(rand.NewPCG(f.Seed, 0x70617374)), log: log}
	if w.Until.IsZero() {
		w.Until = time.Now().UTC().Truncate(time.Millisecond)
	}
	for _, do := range []func(context.Context, string) error{w.versions, w.past, w.present} {
		if err := do(ctx, dir); err != nil {
			return fmt.Errorf("make the past of %s: %w", dir, err)
		}
	}
	return nil
}

type writer struct {
	Fleet
	rng     *rand.Rand
	log     func(format string, args ...any)
	digests [][]protocol.Digest // by model and version, v1 first
	seq     []uint64            // of the events of each device
}

// open opens the control plane in dir for as long as do takes.
func open(ctx context.Context, dir string, do func(*controlplane.ControlPlane) error) error {
	cp, err := controlplane.Open(ctx, controlplane.Config{Dir: dir})
	if err != nil {
		return err
	}
	return errors.Join(do(cp), cp.Close())
}

// versions adds one version of each model more than were rolled out.
func (w *writer) versions(ctx context.Context, dir string) error {
	return open(ctx, dir, func(cp *controlplane.ControlPlane) error {
		for m := range w.Models {
			var of []protocol.Digest
			for n := range w.Versions + 1 {
				model, weights, err := newModel(uint64(m*1000 + n))
				if err != nil {
					return err
				}
				v, err := cp.Registry.Add(ctx, Model(m), model, weights, registry.Info{Data: "sha256:data", Run: fmt.Sprintf("%s-%d", Model(m), n+1)})
				if err != nil {
					return err
				}
				of = append(of, v.Digest)
			}
			w.digests = append(w.digests, of)
		}
		w.log("%d versions of each of %d models", w.Versions+1, w.Models)
		return nil
	})
}

// past writes what went by.
func (w *writer) past(ctx context.Context, dir string) (err error) {
	s, err := store.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := w.devices(ctx, s); err != nil {
		return err
	}
	rollouts := w.Models * w.Versions
	every := max(rollouts/starts, 1)
	for k := range rollouts {
		// The last are two days ago, so that the present follows them.
		at := w.Until.Add(-year + time.Duration(k)*(year-48*time.Hour)/time.Duration(rollouts))
		if err := w.rollout(ctx, s, k%w.Models, k/w.Models, at); err != nil {
			return err
		}
		if (k+1)%every == 0 {
			if err := w.restart(ctx, s, uint64((k+1)/every), k+1-every, k+1, at); err != nil {
				return err
			}
		}
		if (k+1)%10 == 0 {
			w.log("%d of %d rollouts", k+1, rollouts)
		}
	}
	return nil
}

func (w *writer) devices(ctx context.Context, s *store.Store) error {
	began := w.Until.Add(-year)
	w.seq = make([]uint64, w.Devices)
	return w.inBatches(ctx, s, func(tx store.Tx, i int) error {
		labels := map[string]string{"site": Site(i), "hw": fmt.Sprintf("rev%d", 1+i%3), "line": fmt.Sprintf("l%d", w.rng.IntN(8))}
		if err := tx.PutDevice(ctx, store.Device{ID: Device(i), Token: make([]byte, 32), Created: began, Labels: labels}); err != nil {
			return err
		}
		birth := protocol.Birth{
			Format: protocol.Format, Boot: starts + 1, Agent: fmt.Sprintf("0.%d.0", 3+i%4), Kernel: []string{"neon", "dotprod", "avx2", "generic"}[i%4],
			OS: "linux", Arch: []string{"arm64", "arm64", "amd64", "arm"}[i%4], FreeBytes: 1 << (20 + i%8), T: w.Until.UnixMilli(),
		}
		raw, err := birth.AppendBinary(nil)
		if err != nil {
			return err
		}
		return errors.Join(
			tx.SetBirth(ctx, Device(i), store.Birth{Agent: birth.Agent, Kernel: birth.Kernel, OS: birth.OS, Arch: birth.Arch, FreeBytes: birth.FreeBytes, Boot: birth.Boot, Raw: raw}),
			tx.SetSeen(ctx, Device(i), w.Until.Add(-time.Duration(w.rng.IntN(3600))*time.Second)),
			tx.SetJoined(ctx, Device(i)),
			tx.Audit(ctx, audit.Entry{Received: began, Who: "ann", Action: audit.DeviceAdd, Device: Device(i), Detail: "hw=" + labels["hw"] + ",line=" + labels["line"] + ",site=" + labels["site"]}))
	})
}

// inBatches does something for each device.
func (w *writer) inBatches(ctx context.Context, s *store.Store, do func(tx store.Tx, device int) error) error {
	for from := 0; from < w.Devices; from += batch {
		err := s.Update(ctx, func(tx store.Tx) error {
			for i := from; i < min(from+batch, w.Devices); i++ {
				if err := do(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rollout writes a rollout of a version to all, that went well but for some devices
// that refused it.
func (w *writer) rollout(ctx context.Context, s *store.Store, m, n int, at time.Time) error {
	p := plan.CanaryFirst(w.Devices).WithDefaults()
	row := store.Rollout{Kind: store.KindStart, Model: Model(m), Number: uint64(n + 1), Digest: w.digests[m][n], Target: "all", Created: at, Phase: string(plan.Done)}
	var state plan.State
	err := s.Update(ctx, func(tx store.Tx) (err error) {
		if row.ID, err = tx.PutRollout(ctx, row); err != nil {
			return err
		}
		state = plan.New(p, row.ID, w.Devices, "ann", at)
		seen := w.outcome(at)
		state.Phase, state.Stage, state.Reach, state.Looks, state.Reason = plan.Done, len(p.Stages)-1, plan.All, w.Looks, "watched for 24h"
		state.History, state.Verdict, state.Checks = []plan.Outcome{seen, seen, seen}, seen.Verdict, seen.Checks
		stored := store.Plan{Rollout: row.ID, Phase: row.Phase}
		stored.Plan, err = json.Marshal(p)
		if err != nil {
			return err
		}
		if stored.State, err = json.Marshal(state); err != nil {
			return err
		}
		entry := audit.Entry{Received: at, Who: "ann", Action: audit.RolloutStart, Model: row.Model, Number: row.Number, Digest: row.Digest, Rollout: row.ID, Detail: row.Target}
		if err := errors.Join(tx.PutPlan(ctx, stored), tx.Audit(ctx, entry)); err != nil {
			return err
		}
		return w.looks(ctx, tx, p, state, entry)
	})
	if err != nil {
		return err
	}
	return w.inBatches(ctx, s, func(tx store.Tx, i int) error {
		member := store.Member{Rollout: row.ID, N: i, Device: Device(i), Group: fmt.Sprintf("rev%d", 1+i%3), Stage: state.StageOf(p, i), State: rollout.Active}
		if err := tx.AddMember(ctx, member); err != nil {
			return err
		}
		return w.activation(ctx, tx, row, i, at.Add(time.Duration(i)*time.Hour/time.Duration(w.Devices)))
	})
}

// activation writes what a device tells of a version that it got, or refused.
func (w *writer) activation(ctx context.Context, tx store.Tx, row store.Rollout, i int, at time.Time) error {
	e := audit.Entry{
		Received: at, Who: audit.Device, Action: audit.DeviceActive, Device: Device(i), Model: row.Model,
		Number: row.Number, Digest: row.Digest, Rollout: row.ID, Detail: registry.Ref(row.Model, row.Number),
	}
	told := []string{"activated", "confirmed"}
	if w.rng.IntN(refusing) == 0 {
		e.Action, e.Rollout, e.Detail, told = audit.DeviceFailed, 0, "slow: a prediction takes 9.1 times as long as by the version before", []string{"refused"}
	}
	for _, kind := range told {
		w.seq[i]++
		event := store.Event{
			Device: Device(i), Boot: uint64(1 + starts*int64(at.Sub(w.Until.Add(-year)))/int64(year)), Seq: w.seq[i], At: at, Received: at,
			Kind: kind, Model: row.Model, Digest: row.Digest,
		}
		if kind == "activated" {
			event.Detail = "delta, 22876 bytes fetched"
		}
		if _, err := tx.PutEvent(ctx, event); err != nil {
			return err
		}
	}
	return tx.Audit(ctx, e)
}

// looks writes what was seen of a rollout, a minute apart.
func (w *writer) looks(ctx context.Context, tx store.Tx, p plan.Plan, s plan.State, e audit.Entry) error {
	e.Who, e.Action = audit.ControlPlane, audit.RolloutLook
	for look := range w.Looks {
		e.Received = e.Received.Add(time.Minute)
		seen := w.outcome(e.Received)
		b, err := json.Marshal(rollout.Look{Look: look + 1, Outcome: seen})
		if err != nil {
			return err
		}
		e.Detail = fmt.Sprintf("look %d, %s: %s", look+1, seen.Stage, seen.Seen(p, s, fmt.Sprintf("v%d", e.Number)))
		if err := errors.Join(tx.PutLook(ctx, store.Look{Rollout: e.Rollout, Look: look + 1, At: e.Received, Record: b}), tx.Audit(ctx, e)); err != nil {
			return err
		}
	}
	return nil
}

// outcome is what a look sees of 1,000 devices of two kinds.
func (w *writer) outcome(at time.Time) plan.Outcome {
	ratio := 0.98 + 0.02*w.rng.Float64()
	group := func(label string) quality.Group {
		return quality.Group{Value: label, SE: 0.0051, Ratio: ratio, Lower: ratio - 0.013, Upper: ratio + 0.014, N: 312}
	}
	return plan.Outcome{
		Stage: "10%", At: at, Ran: plan.Duration(16 * time.Minute), Phase: plan.Running,
		Verdict: &quality.Verdict{
			Decision: quality.Wait, Reason: "undecided", Ratio: ratio, Lower: ratio - 0.0083, Upper: ratio + 0.0091, SE: 0.003142, N: 948, Assigned: 1000, Pairs: 15168,
			Silent: 52, SilentShare: 0.0511, SilentPvalue: 0.4711, MinorityAbove: 12, MinorityBelow: 14, MinorityPvalue: 0.3412,
			Groups: []quality.Group{group("rev1"), group("rev2"), group("rev3")}, Boundary: quality.Bounds{Stop: 3.12, Pass: 3.41},
			Margins: quality.Margins{Stop: 1.03, Pass: 1.05, Group: 1.05, GroupPass: 1.2}, Look: 16, Elapsed: 960, Expected: 1440,
		},
		Checks: []plan.CheckResult{{Name: plan.CheckUpdates, Figure: 0.0111, Bound: 0.05, Data: true, OK: true}},
	}
}

// restart writes what devices counted since their last start, in which they ran the
// versions of rollouts from and below.
func (w *writer) restart(ctx context.Context, s *store.Store, boot uint64, from, below int, at time.Time) error {
	return w.inBatches(ctx, s, func(tx store.Tx, i int) error {
		u := protocol.Usage{Format: protocol.Format, Boot: boot, Seq: 1, T: at.UnixMilli()}
		for m := range w.Models {
			u.Counts = append(u.Counts, protocol.UsageCount{Model: Model(m), User: "ann", Answered: 43_200, Micros: 43_200 * 2})
		}
		for k := from; k < below; k++ {
			digest := w.digests[k%w.Models][k/w.Models]
			u.Versions = append(u.Versions, protocol.VersionCount{
				Model: Model(k % w.Models), Version: [8]byte(digest[:8]), Answered: 43_200, N: 43_100, Sum: 43_100 * (1 + w.rng.Float64()),
			})
		}
		return tx.PutUsage(ctx, Device(i), u, at)
	})
}

// present has every device run the newest version but one, and puts the newest of
// the first model on a canary.
func (w *writer) present(ctx context.Context, dir string) error {
	return open(ctx, dir, func(cp *controlplane.ControlPlane) error {
		ctx = audit.By(ctx, "ann")
		all := rollout.Target{All: true}
		for round := range 2 {
			number := w.Versions - 1 + round
			for m := range w.Models {
				if _, err := cp.Rollout.Start(ctx, registry.Ref(Model(m), uint64(number)), all); err != nil {
					return err
				}
			}
			if err := w.report(ctx, cp.Rollout, number, uint64((round+1)*w.Models)); err != nil {
				return err
			}
			w.log("all devices run version %d of each model", number)
		}
		quiet := plan.Plan{Stages: []plan.Stage{
			{Devices: plan.Amount{Count: min(100, w.Devices-1)}, Quality: plan.Off, Minimum: plan.Duration(24 * time.Hour), Deadline: plan.Duration(48 * time.Hour)},
			{Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
		}}
		draft, err := cp.Rollout.Draft(ctx, registry.Ref(Model(0), uint64(w.Versions+1)), all, func(int, int, bool) (*plan.Plan, error) { return &quiet, nil })
		if err != nil {
			return err
		}
		_, err = cp.Rollout.StartPlan(ctx, draft)
		return err
	})
}

// report has every device tell that it runs a version of each model.
func (w *writer) report(ctx context.Context, r *rollout.Rollouts, number int, rev uint64) error {
	for from := 0; from < w.Devices; from += batch {
		var reports []rollout.Report
		for i := from; i < min(from+batch, w.Devices); i++ {
			h := protocol.Have{Format: protocol.Format, Boot: starts + 1, Rev: rev, T: time.Now().UnixMilli(), Models: map[string]protocol.ModelHave{}}
			for m := range w.Models {
				h.Models[Model(m)] = protocol.ModelHave{
					Version: registry.Ref(Model(m), uint64(number)), Active: w.digests[m][number-1], Previous: w.digests[m][number-2], Phase: protocol.PhaseIdle,
				}
			}
			b, err := h.AppendBinary(nil)
			if err != nil {
				return err
			}
			reports = append(reports, rollout.Report{Device: Device(i), Kind: protocol.TopicHave, Payload: b})
		}
		if err := r.Handle(ctx, reports...); err != nil {
			return err
		}
	}
	return nil
}
