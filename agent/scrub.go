package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// scrubPeriod is how often everything that is cached is read and hashed again,
// of the agent's running time: flash forgets, and a device may run for years.
const scrubPeriod = 24 * time.Hour

// scrub checks the cache until ctx ends, beside the loop: reading 64 MB may
// take a board half a minute.
func (a *Agent) scrub(ctx context.Context) error {
	for sleep(ctx, a.scrubEvery) {
		select {
		case a.scrubbed <- a.files.Check():
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// mend sets aside what a check found damaged and gets back what was in it: the
// version that answers, which goes on from memory meanwhile, from its exported
// copy or over the link, and others only once they are wanted.
func (a *Agent) mend(ctx context.Context, g *errgroup.Group, found error) {
	if errors.Is(found, store.ErrDamaged) {
		before := len(a.files.Findings())
		err := a.files.Repair()
		for _, f := range a.files.Findings()[before:] {
			a.cfg.Log.Error("model cache was damaged", "err", f)
			a.notices.add(a.notice("storage", "", protocol.Digest{}, f))
			a.announce()
		}
		if err != nil {
			a.setStorage(clip(err.Error()))
			return
		}
	} else if found != nil {
		a.setStorage(clip(found.Error()))
		return
	}
	keys, err := a.cache.Slots()
	if err != nil {
		a.setStorage(clip(err.Error()))
		return
	}
	for _, name := range sortedKeys(a.state.Models) {
		r := a.state.Models[name]
		switch {
		case r.Active.none():
			continue
		case slices.Contains(keys, store.Key{Model: name, Digest: r.Active.Digest}):
			if r.Phase == idle {
				a.export(effect{model: name, held: r.Active}) // unless the copy is there and whole
			}
			continue
		}
		if v, err := a.golden(name); err == nil && v.held.Digest == r.Active.Digest {
			_ = a.decide(ctx, g, delivery{event: event{kind: evRestored, model: name, held: v.held}, slot: &v.slot, ready: v.predictor})
			continue
		}
		_ = a.decide(ctx, g, delivery{event: event{kind: evDamaged, model: name, held: r.Active, message: "its slot cannot be read; it answers from memory"}})
	}
	a.findLost(ctx, g)
}
