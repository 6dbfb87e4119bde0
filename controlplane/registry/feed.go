package registry

import (
	"context"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// Feed adds the version that ref means once more, fed by p: the same tensors
// under another digest, so it is rolled out, judged and taken back as any other
// version is, and travels as a delta of a few hundred bytes. The error wraps
// artifact.ErrInvalid if p does not fit the model.
func (r *Registry) Feed(ctx context.Context, ref string, p *artifact.Pipeline) (Version, error) {
	row, err := r.row(ctx, ref)
	if err != nil {
		return Version{}, err
	}
	old, err := r.version(ctx, row)
	if err != nil {
		return Version{}, err
	}
	m, err := r.model(ctx, row)
	if err != nil {
		return Version{}, fmt.Errorf("feed %s: %w", old.Ref(), err)
	}
	var w *kernel.Weights
	if row.Weights != "" {
		if w, err = r.Weights(ctx, old.Ref()); err != nil {
			return Version{}, fmt.Errorf("feed %s: %w", old.Ref(), err)
		}
	}
	m.Pipeline = p
	return r.Add(ctx, row.Name, m, w, Info{
		Report: old.Report, Metrics: old.Metrics, Data: old.Lineage.Data, Run: old.Lineage.Run,
		Parent: &row.Digest, Forced: old.Lineage.Forced,
	})
}
