package registry

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

type packed struct {
	store.Transfer
	desc artifact.Descriptor
}

// packed makes the full transfer of m and stores its payload.
func (r *Registry) packed(m *artifact.Model) (packed, error) {
	t, err := artifact.Pack(m)
	if err != nil {
		return packed{}, err
	}
	return r.putPayload(t)
}

func (r *Registry) putPayload(t *artifact.Transfer) (packed, error) {
	desc, err := t.Descriptor.AppendBinary(nil)
	if err != nil {
		return packed{}, err
	}
	row := store.Transfer{
		Hash: t.Hash(), Digest: t.Descriptor.Digest, Kind: t.Kind, Size: int64(len(t.Payload)), Descriptor: desc,
	}
	if t.Base != nil {
		row.Base = *t.Base
	}
	row.Payload, err = r.store.PutBlob(t.Payload)
	return packed{row, t.Descriptor}, err
}

func (r *Registry) loadTransfer(row store.Transfer) (*artifact.Transfer, error) {
	t := new(artifact.Transfer)
	if err := t.Descriptor.UnmarshalBinary(row.Descriptor); err != nil {
		return nil, fmt.Errorf("stored descriptor of %s: %w", row.Hash, err)
	}
	if row.Payload == "" {
		return nil, fmt.Errorf("transfer %s: %w by `sandpiper model prune`; `sandpiper model import` brings them back from a file", row.Hash, ErrPruned)
	}
	var err error
	t.Payload, err = r.store.Blob(row.Payload)
	return t, err
}

func (r *Registry) transfer(ctx context.Context, hash string) (*artifact.Transfer, error) {
	var row store.Transfer
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		row, err = tx.Transfer(ctx, hash)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("transfer %s: %w", hash, err)
	}
	return r.loadTransfer(row)
}

// Transfer returns the full transfer of the version with this digest.
func (r *Registry) Transfer(ctx context.Context, d protocol.Digest) (*artifact.Transfer, error) {
	row, err := r.rowByDigest(ctx, d)
	if err != nil {
		return nil, err
	}
	return r.transfer(ctx, row.Hash)
}

// Announcement returns what is published of a transfer: its descriptor with
// the signed release (and the payload if it is small), and the transfer, whose
// chunks follow. ErrUnsigned if there is no signature to announce.
func (r *Registry) Announcement(ctx context.Context, hash string) (artifact.Announcement, *artifact.Transfer, error) {
	t, err := r.transfer(ctx, hash)
	if err != nil {
		return artifact.Announcement{}, nil, err
	}
	row, err := r.rowByDigest(ctx, t.Descriptor.Digest)
	if err != nil {
		return artifact.Announcement{}, nil, err
	}
	if row.Envelope == nil {
		return artifact.Announcement{}, nil, fmt.Errorf("%s: %w", Ref(row.Name, row.Number), ErrUnsigned)
	}
	a := artifact.Announcement{Descriptor: t.Descriptor, Release: row.Envelope}
	if len(t.Payload) <= protocol.MaxInline {
		a.Inline = t.Payload
	}
	return a, t, nil
}

// Model returns the decoded model of a version.
func (r *Registry) Model(ctx context.Context, ref string) (*artifact.Model, error) {
	row, err := r.row(ctx, ref)
	if err != nil {
		return nil, err
	}
	return r.model(ctx, row)
}

func (r *Registry) model(ctx context.Context, row store.Version) (*artifact.Model, error) {
	t, err := r.transfer(ctx, row.Hash)
	if err != nil {
		return nil, err
	}
	var rel artifact.Release
	if err := rel.UnmarshalBinary(row.Payload); err != nil {
		return nil, fmt.Errorf("stored release of %s: %w", Ref(row.Name, row.Number), err)
	}
	return artifact.Unpack(t.Descriptor, t.Payload, nil, &rel)
}

// Weights returns the float32 weights of a version: ErrNotFound after an import.
func (r *Registry) Weights(ctx context.Context, ref string) (*kernel.Weights, error) {
	row, err := r.row(ctx, ref)
	if err != nil {
		return nil, err
	}
	if row.Weights == "" {
		return nil, fmt.Errorf("float32 weights of %s: %w: it was imported, and a file has none, or pruned", Ref(row.Name, row.Number), ErrNotFound)
	}
	data, err := r.store.Blob(row.Weights)
	if err != nil {
		return nil, fmt.Errorf("float32 weights of %s: %w", Ref(row.Name, row.Number), err)
	}
	return parseWeights(data)
}

// release encodes rel and signs it if there is a key.
func (r *Registry) release(rel artifact.Release) (payload, envelope []byte, err error) {
	if payload, err = rel.AppendBinary(nil); err != nil || r.key == nil {
		return payload, nil, err
	}
	envelope, err = r.sign(payload, r.key)
	return payload, envelope, err
}

func (r *Registry) sign(payload []byte, key ed25519.PrivateKey) ([]byte, error) {
	envelope, err := artifact.Sign(artifact.TypeRelease, payload, key).AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if _, err := r.root.OpenRelease(envelope); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKey, err)
	}
	return envelope, nil
}
