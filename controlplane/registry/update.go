package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// PrepareUpdates makes what the version with this digest lacks of updates from
// bases: a head where only the last layer differs, a delta otherwise. A base
// that is not in the registry or has other tensors gets none, as one from which
// it would save less than a tenth of the full transfer.
func (r *Registry) PrepareUpdates(ctx context.Context, d protocol.Digest, bases []protocol.Digest) error {
	row, err := r.rowByDigest(ctx, d)
	if err != nil {
		return err
	}
	missing, err := r.withoutUpdate(ctx, d, bases)
	if err != nil || len(missing) == 0 {
		return err
	}
	m, err := r.model(ctx, row)
	if err != nil {
		return err
	}
	var errs []error
	for _, base := range missing {
		if err := r.prepareUpdate(ctx, row, m, base); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, artifact.ErrBase) {
			errs = append(errs, fmt.Errorf("update of %s from %s: %w", Ref(row.Name, row.Number), base.Short(), err))
		}
	}
	return errors.Join(errs...)
}

// withoutUpdate returns those of bases from which there is no update to d.
func (r *Registry) withoutUpdate(ctx context.Context, d protocol.Digest, bases []protocol.Digest) ([]protocol.Digest, error) {
	var rows []store.Transfer
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		rows, err = tx.Transfers(ctx, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("transfers of %s: %w", d.Short(), err)
	}
	has := map[protocol.Digest]bool{d: true}
	for _, row := range rows {
		has[row.Base] = true
	}
	var missing []protocol.Digest
	for _, base := range bases {
		if !has[base] {
			missing = append(missing, base)
		}
	}
	return missing, nil
}

func (r *Registry) prepareUpdate(ctx context.Context, row store.Version, m *artifact.Model, base protocol.Digest) error {
	baseRow, err := r.rowByDigest(ctx, base)
	if err != nil {
		return err
	}
	baseModel, err := r.model(ctx, baseRow)
	if err != nil {
		return err
	}
	t, err := artifact.PackHead(m, baseModel)
	if errors.Is(err, artifact.ErrBase) {
		t, err = artifact.PackDelta(m, baseModel)
	}
	if err != nil {
		return err
	}
	if int64(t.Size)*10 > row.Bytes*9 || !keepable(row, t) {
		return nil
	}
	r.blobs.RLock()
	defer r.blobs.RUnlock()
	transfer, err := r.putPayload(t)
	if err != nil {
		return err
	}
	return r.store.Update(ctx, func(tx store.Tx) error { return tx.PutTransfer(ctx, transfer.Transfer) })
}

// keepable reports whether a device can keep what it makes of t: it keeps it
// without coding, which a release's caps may not allow.
func keepable(row store.Version, t *artifact.Transfer) bool {
	var rel artifact.Release
	return rel.UnmarshalBinary(row.Payload) == nil && artifact.RawSize(t.Decoded) <= rel.MaxTransfer
}

// A Transfer is one way to get a version.
type Transfer struct {
	Hash  string           `json:"hash"`
	Kind  string           `json:"kind"` // full, delta or head
	Bytes int64            `json:"bytes"`
	Base  *protocol.Digest `json:"base,omitempty"` // the version that a delta or head starts from
	From  string           `json:"from,omitempty"` // the same as NAME:vN
}

// Transfers returns the ways to get the version with this digest, smallest first.
func (r *Registry) Transfers(ctx context.Context, d protocol.Digest) ([]Transfer, error) {
	out := []Transfer{}
	err := r.store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.Transfers(ctx, d)
		if err != nil {
			return err
		}
		for _, row := range rows {
			t := Transfer{Hash: row.Hash, Kind: row.Kind, Bytes: row.Size}
			if !row.Base.IsZero() {
				base, err := tx.VersionByDigest(ctx, row.Base)
				if err != nil {
					return err
				}
				t.Base, t.From = &row.Base, Ref(base.Name, base.Number)
			}
			out = append(out, t)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("transfers of %s: %w", d.Short(), err)
	}
	return out, nil
}
