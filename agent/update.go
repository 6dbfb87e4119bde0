package agent

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// Values of Config.Fallback.
const (
	FallbackFull  = "full"  // the whole version, when no update can be used
	FallbackNever = "never" // updates only: the link is metered
)

// candidates returns the transfers of a wanted version in the order in which
// they are tried: the fewest bytes first, without updates from what is not in
// the cache, or does not verify there.
func (a *Agent) candidates(k slot, w wanted) ([]protocol.TransferRef, error) {
	refs := slices.SortedStableFunc(slices.Values(w.Transfers), func(x, y protocol.TransferRef) int { return cmp.Compare(x.Size, y.Size) })
	refs = slices.DeleteFunc(refs, func(r protocol.TransferRef) bool {
		if r.Base == nil {
			return a.cfg.Fallback == FallbackNever
		}
		_, err := a.base(k.Model, *r.Base)
		if err != nil {
			a.cfg.Log.Info("update cannot be used", "model", k.Model, "hash", r.Hash, "base", r.Base.Short(), "err", err)
		}
		return err != nil
	})
	switch {
	case len(refs) > 0:
		return refs, nil
	case a.cfg.Fallback == FallbackNever:
		return nil, fmt.Errorf("%w: %d offered, none of them an update from a version here, and this device fetches nothing else "+
			"(fallback = %q); install the version from a file", errTransfer, len(w.Transfers), FallbackNever)
	}
	return nil, fmt.Errorf("%w: %d offered", errTransfer, len(w.Transfers))
}

// base returns the model of a cached version, verified. An error wraps
// artifact.ErrBase.
func (a *Agent) base(model string, d protocol.Digest) (*artifact.Model, error) {
	s, err := a.cache.Slot(store.Key{Model: model, Digest: d})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", artifact.ErrBase, err)
	}
	t := artifact.Transfer{Payload: s.Payload}
	if err := t.Descriptor.UnmarshalBinary(s.Descriptor); err != nil {
		return nil, fmt.Errorf("%w: %w", artifact.ErrBase, err)
	}
	policy := a.policy(model, restoring)
	policy.Expected = d
	_, m, err := policy.Open(s.Release, &t)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", artifact.ErrBase, err)
	}
	return m, nil
}

// kept returns what a slot holds of t, whose model is m: a full transfer, since
// the base of an update may go.
func kept(t *artifact.Transfer, m *artifact.Model, r *artifact.Release) (*artifact.Transfer, error) {
	if t.Kind == protocol.KindFull {
		return t, nil
	}
	raw, err := artifact.PackRaw(m)
	if err != nil {
		return nil, err
	}
	if raw.Size > r.MaxTransfer {
		return nil, fmt.Errorf("%w: %s from a %s takes %d bytes to keep, its release allows %d; get the full transfer",
			artifact.ErrTooLarge, r, t.Kind, raw.Size, r.MaxTransfer)
	}
	return raw, nil
}

// A received says how a version came over the link.
type received struct {
	kind  string
	bytes int // payloads of messages, of all transfers that were tried
}

func (r received) String() string { return fmt.Sprintf("%s, %d bytes fetched", r.kind, r.bytes) }

// unusable reports whether another transfer is to be tried after err: there is
// nothing on this one's topic, or what arrived is not what was said. A fault in
// the version itself is one of all its transfers.
func (d *download) unusable(err error) bool {
	if !d.final {
		return d.announcement == nil && errors.Is(err, errSilent)
	}
	return slices.ContainsFunc([]error{
		artifact.ErrBase, artifact.ErrTruncated, artifact.ErrTooLarge, artifact.ErrCorrupt, artifact.ErrDigest, artifact.ErrFormat,
	}, func(of error) bool { return errors.Is(err, of) })
}
