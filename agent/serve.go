package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A served is a version that answers. It does not change: a request that took
// hold of one finishes on it, whatever is swapped in meanwhile.
type served struct {
	held
	name      string
	predictor *predictor.Predictor
	label     string   // NAME:vN
	features  []string // of predictor, which makes them anew at every call
	reference *artifact.Reference
}

func newServed(name string, h held, p *predictor.Predictor) *served {
	return &served{held: h, name: name, predictor: p, label: h.version(name), features: p.Features(), reference: p.Reference()}
}

// models is what answers, by model. A swap is the store of one pointer, made by
// the owner of the decisions; readers take no lock.
type models struct {
	all     atomic.Pointer[map[string]*served]
	changed chan struct{} // capacity 1: what answers is another, or there is a new connection
}

func (m *models) get(name string) *served {
	if all := m.all.Load(); all != nil {
		return (*all)[name]
	}
	return nil
}

// put makes s the version of name that answers; nil: none does.
func (m *models) put(name string, s *served) {
	next := make(map[string]*served)
	if all := m.all.Load(); all != nil {
		maps.Copy(next, *all)
	}
	if s == nil {
		delete(next, name)
	} else {
		next[name] = s
	}
	m.all.Store(&next)
	m.poke()
}

func (m *models) poke() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// serve makes e.held the version that answers. One whose slot is damaged is
// taken from the exported copy, and else given up for the version before it.
func (a *Agent) serve(ctx context.Context, g *errgroup.Group, e effect) {
	if e.held.none() {
		a.models.put(e.model, nil)
		return
	}
	if s := a.models.get(e.model); s != nil && s.Digest == e.held.Digest {
		return
	}
	p, err := a.openSlot(slot{e.model, e.held.Digest})
	if err == nil {
		a.models.put(e.model, newServed(e.model, e.held, p))
		return
	}
	a.cfg.Log.Error("cached version cannot be read", "model", e.model, "version", e.held.version(e.model), "err", err)
	g2, goldenErr := a.golden(e.model)
	if goldenErr == nil && g2.held.Digest == e.held.Digest {
		a.models.put(e.model, newServed(e.model, e.held, g2.predictor))
		_ = a.decide(ctx, g, delivery{
			event: event{kind: evRestored, model: e.model, held: g2.held}, slot: &g2.slot, ready: g2.predictor,
		})
		return
	}
	_ = a.decide(ctx, g, delivery{event: event{kind: evLost, model: e.model, held: e.held, message: clip(err.Error())}})
}

// openSlot reads, verifies and opens a cached version. The store has checked
// its own checksums; the digests down to the decoded model are checked here.
// No transaction is open while the model runs.
func (a *Agent) openSlot(k slot) (*predictor.Predictor, error) {
	s, err := a.cache.Slot(store.Key(k))
	if err != nil {
		return nil, err
	}
	v, err := a.verifyCached(k, s, restoring)
	return v.predictor, err
}

// findLost gives up versions kept in reserve whose slots were damaged.
func (a *Agent) findLost(ctx context.Context, g *errgroup.Group) {
	keys, err := a.cache.Slots()
	if err != nil {
		a.cfg.Log.Error("list cached versions", "err", err)
		return
	}
	for s := range a.state.slots() {
		if r := a.state.Models[s.Model]; s.Digest == r.Active.Digest || slices.Contains(keys, store.Key(s)) {
			continue // serve has looked after the active one
		}
		_ = a.decide(ctx, g, delivery{event: event{
			kind: evLost, model: s.Model, held: held{Digest: s.Digest}, message: "its slot was damaged",
		}})
	}
}

// restoreLost puts exported copies in place for models that have no version:
// the database was lost, or never held more than a factory image.
func (a *Agent) restoreLost(ctx context.Context, g *errgroup.Group) {
	names, err := a.files.Goldens()
	if err != nil {
		a.cfg.Log.Error("list exported copies", "err", err)
	}
	for _, name := range names {
		if r, known := a.state.Models[name]; known && !r.Active.none() {
			continue
		}
		v, err := a.golden(name)
		if err != nil {
			a.cfg.Log.Error("exported copy cannot be used", "model", name, "err", err)
			continue
		}
		d := delivery{event: event{kind: evRestored, model: name, held: v.held}, slot: &v.slot, ready: v.predictor}
		if a.decide(ctx, g, d) != nil { // a disk that takes nothing does not keep it from answering
			a.models.put(name, newServed(name, v.held, v.predictor))
		}
	}
}

// golden reads and verifies the exported copy of a model.
func (a *Agent) golden(model string) (verified, error) {
	f, err := a.files.Golden(model)
	if err != nil {
		return verified{}, err
	}
	defer f.Close()
	v, err := a.verifyFile(f, restoring)
	if err == nil && v.slot.Model != model {
		err = fmt.Errorf("it holds %s", v.slot.Model)
	}
	return v, err
}

// export writes the confirmed version beside the database, unless it is there.
// What the disk does not take now is tried again.
func (a *Agent) export(e effect) {
	delete(a.unexported, e.model)
	if e.held.none() || a.exported(e.model, e.held) {
		return
	}
	s, err := a.cache.Slot(store.Key{Model: e.model, Digest: e.held.Digest})
	if err == nil {
		err = a.files.WriteGolden(s)
	}
	if err != nil && !errors.Is(err, store.ErrReadOnly) && !errors.Is(err, store.ErrMissing) { // missing: given up meanwhile
		a.unexported[e.model] = e
		a.setStorage(clip(err.Error()))
	}
}

// exported reports whether the copy names h. The copy is verified whole when it
// is needed, not at every start.
func (a *Agent) exported(model string, h held) bool {
	f, err := a.files.Golden(model)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.cfg.Log.Warn("exported copy", "model", model, "err", err)
		}
		return false
	}
	defer f.Close()
	release, t, err := artifact.ReadFile(f)
	if err != nil || t.Descriptor.Digest != h.Digest {
		return false
	}
	_, err = a.root.OpenRelease(release)
	return err == nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
