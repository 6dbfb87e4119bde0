package rollout

import (
	"context"
	"fmt"
	"math"

	"github.com/sandpiper-edge/sandpiper/controlplane/drift"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const (
	// leastRows is how many rows of inputs a device has to have told, and leastTold
	// what share of the devices that run a version has to have, before their drift is
	// known.
	leastRows = 5
	leastTold = 0.6
)

// A reference is how the inputs of a version's training were spread.
type reference struct {
	*artifact.Reference
	names []string // of the features
}

// reference returns that of p's version, nil unless the stage under way limits the
// drift: from its artifact, outside of a transaction.
func (r *Rollouts) reference(ctx context.Context, p planned) (*reference, error) {
	if p.plan.Stages[p.state.Stage].Checks.MaxDrift == nil {
		return nil, nil
	}
	v, err := r.registry.ByDigest(ctx, p.row.Digest)
	if err != nil {
		return nil, err
	}
	m, err := r.registry.Model(ctx, v.Ref())
	if err != nil || m.Reference == nil {
		return nil, err
	}
	ref := &reference{Reference: m.Reference}
	for i := range m.Reference.Features {
		ref.names = append(ref.names, m.Schema.Features[i].Name)
	}
	return ref, nil
}

// drifted gathers how far the inputs of the devices that run the version are from
// those that it was trained on.
func (c *change) drifted(ctx context.Context, tx store.Tx, p planned, limit float64, f *plan.Facts) error {
	if c.reference == nil {
		return nil
	}
	told, err := tx.InputsUnder(ctx, p.row.ID, p.row.Model, p.row.Digest, p.state.Reach)
	if err != nil {
		return err
	}
	var all [][]uint64
	for _, in := range told {
		if len(in.Counts) == c.reference.Bins() {
			all = append(all, in.Counts)
		}
	}
	psi, feature, devices := c.reference.drift(all)
	if devices == 0 || float64(devices) < leastTold*float64(f.Active) {
		return nil
	}
	f.Health.Drift, f.Health.Drifted = &psi, feature
	if psi <= limit {
		return nil
	}
	var worst []plan.Fault
	for _, in := range told {
		if len(in.Counts) != c.reference.Bins() {
			continue
		}
		if own, feature, n := c.reference.drift([][]uint64{in.Counts}); n > 0 && own > limit {
			worst = append(worst, plan.Fault{Device: in.Device, Check: plan.CheckDrift, Figure: own, Bound: limit, Message: feature})
		}
	}
	f.Health.Worst = append(f.Health.Worst, plan.WorstFirst(worst)...)
	return nil
}

// drift returns the largest population stability index of the features over the mean
// distribution of devices, each of which counts alike, the feature, and how many
// devices that is of: 0 if their rows are too few for chance to be ruled out.
func (r *reference) drift(counts [][]uint64) (psi float64, feature string, devices int) {
	offset := 0
	for i, h := range r.Features {
		training, now := make([]float64, len(h.Parts)), make([]float64, len(h.Parts))
		told, inverse := 0, 0.0 // devices, Σ 1/rows
		for _, c := range counts {
			bins, rows := c[offset:offset+len(h.Parts)], uint64(0)
			for _, n := range bins {
				rows += n
			}
			if rows < leastRows {
				continue
			}
			told++
			inverse += 1 / float64(rows)
			for k, n := range bins {
				now[k] += float64(n) / float64(rows)
			}
		}
		offset += len(h.Parts)
		for k, part := range h.Parts {
			training[k] = float64(part)
		}
		// The mean of shares of n₁ … n_m rows varies like that of m²/Σ 1/n rows.
		rows := float64(told) * float64(told) / max(inverse, math.SmallestNonzeroFloat64)
		index := drift.PSI(training, now)
		if told == 0 || drift.Judge(index, drift.Noise(len(h.Parts), rows, rows)) == drift.Unknown {
			return 0, "", 0
		}
		if index >= psi {
			psi, feature, devices = index, r.names[i], told
		}
	}
	return psi, feature, devices
}

// checkDrift refuses a limit of the drift of a version that carries no reference.
func (d *Draft) checkDrift(m *artifact.Model) error {
	for i, s := range d.Plan.Stages {
		if s.Checks.MaxDrift != nil && m.Reference == nil {
			return &plan.Error{Stage: i, Name: s.Name, Key: "checks.max_drift", Text: fmt.Sprintf("%s does not say how its training's inputs were spread, so nobody can tell how far those of devices are from them; train it again, or leave it out", d.Ref)}
		}
	}
	return nil
}
