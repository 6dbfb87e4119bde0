package rollout

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// maxBases bounds the updates that are made for one start: from the versions
// that most of its devices run.
const maxBases = 4

// prepareUpdates makes the updates to v from what the devices of target run.
// One that cannot be made is logged: there is always the full transfer.
func (r *Rollouts) prepareUpdates(ctx context.Context, v registry.Version, target Target) error {
	var bases []protocol.Digest
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		bases, err = commonBases(ctx, tx, v, target)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.registry.PrepareUpdates(ctx, v.Digest, bases); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.log.Warn("updates not made; devices get the full version", "version", v.Ref(), "err", err)
	}
	return nil
}

// commonBases returns the versions of v's model that most devices of target run.
func commonBases(ctx context.Context, tx store.Tx, v registry.Version, target Target) ([]protocol.Digest, error) {
	ids, err := target.devices(ctx, tx)
	if err != nil {
		return nil, err
	}
	devices := map[protocol.Digest]int{}
	for page := range slices.Chunk(ids, loadPage) {
		haves, err := tx.Haves(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, b := range haves {
			var have protocol.Have
			if b == nil || have.UnmarshalBinary(b) != nil {
				continue
			}
			if runs := have.Models[v.Name].Active; !runs.IsZero() && runs != v.Digest {
				devices[runs]++
			}
		}
	}
	bases := slices.SortedFunc(maps.Keys(devices), func(a, b protocol.Digest) int {
		return cmp.Or(cmp.Compare(devices[b], devices[a]), slices.Compare(a[:], b[:]))
	})
	return bases[:min(len(bases), maxBases)], nil
}

// offer returns the ways to get row's version that d's want names, smallest
// first, and the hash of the update among them: the smallest one that starts
// from a version in d's cache. What a device has of a model it tells in its
// have; its birth lists the same slots, but only as they were at its start.
func (c *change) offer(ctx context.Context, tx store.Tx, d device, row store.Desired) (refs []protocol.TransferRef, update string, err error) {
	all, err := c.transfers(ctx, tx, row.Digest)
	if err != nil {
		return nil, "", err
	}
	have := d.have.Models[row.Model]
	cached := d.has(row.Model, row.Digest)
	for _, ref := range all {
		switch {
		case ref.Base == nil:
			refs = append(refs, ref)
		case update == "" && !cached && (*ref.Base == have.Active || *ref.Base == have.Previous):
			refs, update = append(refs, ref), ref.Hash
		}
	}
	return refs, update, nil
}

// has reports whether d told that it has a version, whose transfer it does not need.
func (d device) has(model string, digest protocol.Digest) bool {
	have := d.have.Models[model]
	return have.Active == digest || have.Previous == digest || have.Candidate == digest
}

// offered is the version that a row's want names, NAME:vN or "" if it is not here,
// and the kind and size of the smallest transfer of it that the want names, or
// store.FromCache and 0.
type offered struct {
	ref, kind string
	bytes     int64
}

func offerOf(ctx context.Context, tx store.Tx, row store.Desired) (o offered, err error) {
	v, err := tx.VersionByDigest(ctx, row.Digest)
	switch {
	case err == nil:
		o = offered{registry.Ref(v.Name, v.Number), protocol.KindFull, v.Bytes}
	case !errors.Is(err, ErrNotFound):
		return o, err
	}
	if row.Offer == store.FromCache {
		o.kind, o.bytes = store.FromCache, 0
		return o, nil
	}
	if row.Offer != "" {
		t, err := tx.Transfer(ctx, row.Offer)
		o.kind, o.bytes = t.Kind, t.Size
		return o, err
	}
	return o, nil
}
