package controlplane

import (
	"context"
	"errors"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/drift"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// An InputDrift says how far the values that a device gives a feature of its model are
// from those that the model was trained on.
type InputDrift struct {
	Model   string    `json:"model" doc:"NAME:vN"`
	Feature string    `json:"feature"`
	PSI     float64   `json:"psi" doc:"Population stability index, in the bins of the model's reference"`
	Verdict string    `json:"verdict" doc:"stable, shifted, drifted or unknown"`
	Words   string    `json:"words"`
	Rows    uint64    `json:"rows" doc:"That it is of"`
	Since   time.Time `json:"since" doc:"By the device's clock: about a day before until, or when it reported first"`
	Until   time.Time `json:"until" doc:"Of the newest report, which comes once an hour"`
}

// Inputs tells how far the inputs of the models on a device have drifted. Models that
// carry no reference, or are not in the registry, are left out. fleet.ErrNotFound if
// there is no such device.
func (c *ControlPlane) Inputs(ctx context.Context, device string) ([]InputDrift, error) {
	if _, err := c.Fleet.Device(ctx, device); err != nil {
		return nil, err
	}
	var told []store.Inputs
	if err := c.store.View(ctx, func(tx store.Tx) (err error) {
		told, err = tx.Inputs(ctx, device)
		return err
	}); err != nil {
		return nil, err
	}
	out := []InputDrift{}
	for _, in := range told {
		v, err := c.Registry.ByDigest(ctx, in.Version)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m, err := c.Registry.Model(ctx, v.Ref())
		if err != nil {
			return nil, err
		}
		if m.Reference != nil && m.Reference.Bins() == len(in.Counts) {
			out = append(out, driftOf(m, v.Ref(), in)...)
		}
	}
	return out, nil
}

// driftOf compares the counts of a report with the reference of its model.
func driftOf(m *artifact.Model, ref string, in store.Inputs) []InputDrift {
	var out []InputDrift
	counts := in.Counts
	for i, h := range m.Reference.Features {
		d := InputDrift{Model: ref, Feature: m.Schema.Features[i].Name, Since: in.Since, Until: in.T}
		reference, current := make([]float64, len(h.Parts)), make([]float64, len(h.Parts))
		for k, part := range h.Parts {
			reference[k], current[k] = float64(part), float64(counts[k])
			d.Rows += counts[k]
		}
		counts = counts[len(h.Parts):]
		d.PSI = drift.PSI(reference, current)
		// What chance gives is of the device's rows alone: those of training are many.
		d.Verdict = drift.Judge(d.PSI, drift.Noise(len(h.Parts), float64(d.Rows), float64(d.Rows)))
		d.Words = drift.Words(d.Verdict)
		out = append(out, d)
	}
	return out
}
