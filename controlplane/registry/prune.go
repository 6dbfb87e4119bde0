package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// ErrPruned: a version whose bytes were removed.
var ErrPruned = errors.New("its bytes were removed")

// A Pruning is what retention did to a model.
type Pruning struct {
	Removed []string `json:"removed"` // versions whose bytes are gone
	Kept    []Kept   `json:"kept"`    // beyond the newest: those that something needs
	Bytes   int64    `json:"bytes"`   // freed
}

// A Kept is a version that stays, and why.
type Kept struct {
	Version string `json:"version"`
	Why     string `json:"why"`
}

// Prune removes the bytes of all but the newest keep versions of a model, from 1 on:
// never of one that a device has or is to run or could return to, that a rollout
// spreads, that an alias names, or that the broker still holds. What is known of a
// version (its release, report and history) stays. With dry nothing is removed.
func (r *Registry) Prune(ctx context.Context, model string, keep int, dry bool) (Pruning, error) {
	out := Pruning{Removed: []string{}, Kept: []Kept{}}
	if err := protocol.CheckID(model); err != nil {
		return out, err
	}
	if keep < 1 {
		return out, fmt.Errorf("%w: keep %d versions; keep at least 1", ErrRef, keep)
	}
	r.blobs.Lock()
	defer r.blobs.Unlock()
	var blobs []string
	err := r.store.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.LatestVersion(ctx, model); err != nil {
			return err
		}
		all, err := tx.Holders(ctx, model)
		if err != nil {
			return err
		}
		for _, h := range all[:max(0, len(all)-keep)] {
			if h.Why != "" {
				out.Kept = append(out.Kept, Kept{Ref(model, h.Number), h.Why})
				continue
			}
			out.Removed = append(out.Removed, Ref(model, h.Number))
			if dry {
				continue
			}
			freed, err := tx.Prune(ctx, model, h.Number)
			if err != nil {
				return err
			}
			blobs = append(blobs, freed...)
			if err := tx.Audit(ctx, audit.Entry{Action: audit.ModelPrune, Model: model, Number: h.Number}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Pruning{}, fmt.Errorf("prune %s: %w", model, err)
	}
	for _, id := range blobs {
		n, err := r.store.DropBlob(id)
		if err != nil {
			return out, fmt.Errorf("prune %s: %w", model, err)
		}
		out.Bytes += n
	}
	return out, nil
}
