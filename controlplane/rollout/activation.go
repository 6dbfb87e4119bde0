package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Kinds of events that say which version answers.
const (
	toldActivated  = "activated"
	toldRolledBack = "rolled_back"
)

// recordHave records which versions a device answers with that it did not at its
// last report, and which ones newly failed on it.
func (c *change) recordHave(ctx context.Context, tx store.Tx, d device, old []byte) error {
	var was protocol.Have
	if old != nil {
		if err := was.UnmarshalBinary(old); err != nil {
			return fmt.Errorf("stored have of %s: %w", d.id, err)
		}
	}
	models := maps.Clone(was.Models)
	if models == nil {
		models = map[string]protocol.ModelHave{}
	}
	maps.Copy(models, d.have.Models)
	for _, model := range slices.Sorted(maps.Keys(models)) {
		is, before := d.have.Models[model], was.Models[model]
		at := audit.Happened(time.UnixMilli(d.have.T).UTC(), c.at)
		if is.Active != before.Active {
			told, err := lastActivation(ctx, tx, d.id, model)
			if err == nil && (told.Seq == 0 || told.Digest != is.Active) { // else an event told it
				err = recordActivation(ctx, tx, d.rows[model], audit.Entry{Device: d.id, Model: model, At: at, Digest: is.Active, Detail: is.Version})
			}
			if err != nil {
				return err
			}
		}
		if f := is.Failed; f != nil && (before.Failed == nil || *f != *before.Failed) {
			e := audit.Entry{Action: audit.DeviceFailed, Device: d.id, Model: model, At: at, Digest: f.Digest, Detail: f.Code + ": " + f.Message}
			if err := recordVersion(ctx, tx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordEvent records what an event tells of the version that answers where no have
// did: a version that went as it came, while nobody could hear the device.
func (c *change) recordEvent(ctx context.Context, tx store.Tx, id string, e protocol.Event) error {
	if e.Kind != toldActivated && e.Kind != toldRolledBack || e.Model == "" {
		return nil
	}
	at := audit.Happened(time.UnixMilli(e.T).UTC(), c.at)
	before, err := tx.Activations(ctx, id, e.Model, at, 1)
	if err != nil {
		return err
	}
	ran := len(before) > 0 && before[0].Digest == e.Digest
	next, err := tx.NextActivation(ctx, audit.Entry{Device: id, Model: e.Model, At: at, Seq: 1<<63 - 1})
	told := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	entry := audit.Entry{Device: id, Model: e.Model, At: at, Digest: e.Digest}
	switch {
	case e.Kind == toldActivated && (ran || told && next.Digest == e.Digest):
		return nil // a have did, before or after
	case e.Kind == toldRolledBack && (!ran || told):
		return nil
	}
	d, err := c.load(ctx, tx, id)
	if err != nil {
		return err
	}
	if e.Kind == toldRolledBack {
		is := d.have.Models[e.Model]
		if is.Active == e.Digest {
			return nil // the have that says what it went back to is to come
		}
		entry.Digest, entry.Detail = is.Active, is.Version
	}
	return recordActivation(ctx, tx, d.rows[e.Model], entry)
}

// lastActivation returns the last entry of a version that a device answered with;
// zero if there is none. It is the newest of the last ones by the device's clock,
// which may have been set back between two of them.
func lastActivation(ctx context.Context, tx store.Tx, device, model string) (last audit.Entry, err error) {
	const most = 4
	entries, err := tx.Activations(ctx, device, model, time.UnixMilli(1<<53), most)
	for _, e := range entries {
		if e.Seq > last.Seq {
			last = e
		}
	}
	return last, err
}

// recordActivation adds the entry of a version that a device answers with, chosen by
// row's rollout if that is what row wants.
func recordActivation(ctx context.Context, tx store.Tx, row store.Desired, e audit.Entry) error {
	e.Action = audit.DeviceActive
	if row.Digest == e.Digest {
		e.Rollout = row.Rollout
	}
	return recordVersion(ctx, tx, e)
}

// recordVersion adds an entry of a device with the number that the registry has for
// its digest.
func recordVersion(ctx context.Context, tx store.Tx, e audit.Entry) error {
	var err error
	e.Who = audit.Device
	if e.Number, err = tx.VersionNumber(ctx, e.Model, e.Digest); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if e.Detail == "" && e.Number > 0 {
		e.Detail = registry.Ref(e.Model, e.Number)
	}
	return tx.Audit(ctx, e)
}
