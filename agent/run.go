package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// drainTime is how long a stop waits for requests that are queued.
const drainTime = 2 * time.Second

// flushPeriod is how often counters are written and a failing disk is tried.
const flushPeriod = time.Minute

// Run serves until ctx ends, which is a clean stop: requests that wait are
// answered, presence becomes offline, counters are written, the cache closed.
// It is called once.
func (a *Agent) Run(ctx context.Context) error {
	select {
	case <-a.owner:
	default:
		return errors.New("agent: already running, or installing")
	}
	defer func() { a.owner <- struct{}{} }()
	a.running.Store(true)
	defer a.running.Store(false)

	// Shutdown runs outside in. ctx ends the clients; requests drain; inner
	// ends the rest.
	inner, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	g, inner := errgroup.WithContext(inner)
	a.start(inner, g)
	g.Go(func() error { return a.loop(inner, g) })
	g.Go(func() error { return a.link.Run(inner) })
	g.Go(func() error { return a.publishChanges(inner) })
	g.Go(func() error { return a.scrub(inner) })
	a.service.start(inner, g)
	if a.local != nil {
		g.Go(func() error { return a.runLocal(inner) })
	}
	a.pipelines.start(inner, g)
	if a.cfg.Socket != "" {
		g.Go(func() error { return a.serveSocket(ctx, inner) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-inner.Done(): // something failed
			return nil
		}
		a.service.drain(drainTime)
		stop(context.Cause(ctx))
		return nil
	})
	err := g.Wait()
	a.stopTrials()
	a.flushUsage()
	a.pipelines.save(time.Now())
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		err = nil
	}
	return errors.Join(err, a.Close())
}

// A delivery is an event on its way to the loop, with what belongs to it.
type delivery struct {
	event event
	slot  *store.Slot          // bytes of event.held, to be written with the decision
	ready *predictor.Predictor // event.held, opened and verified
	done  chan<- error         // gets the outcome if not nil; capacity 1
}

// post hands d to the loop, unless ctx ends first.
func (a *Agent) post(ctx context.Context, d delivery) {
	select {
	case a.deliveries <- d:
	case <-ctx.Done():
	}
}

// loop owns the decisions.
func (a *Agent) loop(ctx context.Context, g *errgroup.Group) error {
	tick := time.NewTicker(flushPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case d := <-a.deliveries:
			_ = a.decide(ctx, g, d) // kept for later, and reported, by decide
		case d := <-a.installs:
			d.done <- a.decide(ctx, g, d)
		case m := <-a.control:
			a.receive(ctx, g, m)
		case err := <-a.scrubbed:
			a.mend(ctx, g, err)
		case <-tick.C:
			a.flushUsage()
			a.retryStorage(ctx, g)
			a.budget.pass()
		}
	}
}

// start counts this start, restores what was damaged, and resumes every model.
func (a *Agent) start(ctx context.Context, g *errgroup.Group) {
	counters := a.files.Counters()
	boot := max(a.state.Boot, counters.Boot) + 1
	a.state = a.state.notBefore(counters.Epoch, counters.Rev)
	a.boot.Store(boot)
	a.restoreUsage(boot)
	for _, f := range a.files.Findings() {
		a.notices.add(a.notice("storage", "", protocol.Digest{}, f))
	}
	if err := a.decide(ctx, g, delivery{event: event{kind: evStarted, boot: boot}}); err != nil {
		// The disk does not take the decision; what is in place answers all the same.
		for name, r := range a.state.Models {
			a.serve(ctx, g, effect{kind: doServe, model: name, held: r.Active})
		}
	}
	a.saveCounters()
	a.findLost(ctx, g)
	a.restoreLost(ctx, g)
}

// saveCounters copies what must not go back with a lost database.
func (a *Agent) saveCounters() {
	old := a.files.Counters()
	c := store.Counters{Boot: a.boot.Load(), Epoch: a.state.Epoch, Rev: a.state.Rev}
	if newest := (protocol.Want{Epoch: old.Epoch, Rev: old.Rev}); newest.Newer(c.Epoch, c.Rev) {
		c.Epoch, c.Rev = old.Epoch, old.Rev // the database was lost, and that want has not come again
	}
	if c == old {
		return
	}
	if err := a.files.SaveCounters(c); err != nil && !errors.Is(err, store.ErrReadOnly) {
		a.cfg.Log.Warn("counters not copied", "err", err)
	}
}

// decide persists what d changes and then runs the effects. An error is of the
// disk; the event waits for it to be well again.
func (a *Agent) decide(ctx context.Context, g *errgroup.Group, d delivery) error {
	if d.event.kind == evPinned || d.event.kind == evUnpinned || d.event.kind == evReturned {
		if err := objection(a.state, d.event); err != nil {
			return err
		}
	}
	next, effects := step(a.state, d.event)
	if len(effects) == 0 && d.event.kind != evStarted {
		return nil
	}
	change, err := a.change(next, effects, d.slot)
	if err != nil {
		return err
	}
	if err := a.cache.Commit(change); err != nil {
		return a.commitFailed(ctx, g, d, err)
	}
	a.setStorage("")
	a.state = next
	a.publishState()
	if d.event.kind == evWanted {
		a.saveCounters()
	}
	if !a.running.Load() {
		return nil // the effects follow from the state at the next start
	}
	for _, e := range effects {
		a.do(ctx, g, e, d.ready)
	}
	a.tidy()
	return nil
}

// tidy removes downloads that nothing wants any more.
func (a *Agent) tidy() {
	err := a.files.Tidy(func(k store.Key) bool {
		r := a.state.Models[k.Model]
		return r.Phase == fetching && r.Want.Digest == k.Digest || r.shadowMissing() && r.Shadow.Digest == k.Digest
	})
	if err != nil {
		a.cfg.Log.Warn("remove downloads given up", "err", err)
	}
}

// change is the transaction for a decision: the state, the slot that came with
// the event if the state keeps it, those that it no longer keeps, and what the
// control plane shall hear.
func (a *Agent) change(next state, effects []effect, put *store.Slot) (store.Change, error) {
	b, err := next.encode()
	if err != nil {
		return store.Change{}, fmt.Errorf("encode device state: %w", err)
	}
	c := store.Change{State: b}
	keep := next.slots()
	if put != nil && keep[slot{put.Model, put.Digest}] {
		c.Put = append(c.Put, *put)
	}
	for s := range a.state.slots() {
		if !keep[s] {
			c.Drop = append(c.Drop, store.Key(s))
		}
	}
	for _, e := range effects {
		if e.kind != doTell {
			continue
		}
		m := a.notice(e.code, e.model, e.held.Digest, e.message)
		data, err := m.AppendBinary(nil)
		if err != nil {
			return store.Change{}, err
		}
		c.Events = append(c.Events, data)
		a.cfg.Log.Info("model "+e.code, "model", e.model, "version", e.held.version(e.model), "detail", e.message)
	}
	return c, nil
}

// commitFailed keeps serving, says what is wrong once, and keeps d for when the
// disk is well again. A version that can never fit is refused.
func (a *Agent) commitFailed(ctx context.Context, g *errgroup.Group, d delivery, err error) error {
	if refused := map[eventKind]eventKind{evReady: evRefused, evShadowReady: evShadowRefused}[d.event.kind]; errors.Is(err, store.ErrQuota) && refused != 0 {
		refusal := event{
			kind: refused, model: d.event.model, held: d.event.held, code: "no_space",
			message: clip(fmt.Sprintf("the version does not fit beside those kept for a rollback: %v", err)),
		}
		return a.decide(ctx, g, delivery{event: refusal})
	}
	a.setStorage(err.Error())
	if d.done == nil {
		a.deferred[fmt.Sprintf("%02d %s", d.event.kind, d.event.model)] = d
	}
	return err
}

// setStorage records the state of the disk; a change of it is logged and told.
func (a *Agent) setStorage(problem string) {
	if p := a.problem.Load(); p != nil && a.storage == problem {
		return
	}
	if problem != "" {
		a.cfg.Log.Error("model cache cannot be written; serving what is in place", "err", problem)
		a.tellDisk("", problem)
	} else if a.storage != "" {
		a.diskTold.Store(false)
		a.cfg.Log.Info("model cache can be written again")
	}
	a.storage = problem
	a.problem.Store(&problem)
}

// tellDisk tells the control plane that the disk takes nothing, once until it
// takes something again.
func (a *Agent) tellDisk(model, problem string) {
	if !a.diskTold.Swap(true) {
		a.notices.add(a.notice("storage", model, protocol.Digest{}, problem))
		a.announce()
	}
}

// retryStorage gives what waits for the disk another chance: events, and copies
// of what was confirmed.
func (a *Agent) retryStorage(ctx context.Context, g *errgroup.Group) {
	for _, key := range sortedKeys(a.deferred) {
		d := a.deferred[key]
		delete(a.deferred, key)
		if err := a.decide(ctx, g, d); err != nil {
			return
		}
	}
	if len(a.unexported) == 0 {
		return
	}
	for _, model := range sortedKeys(a.unexported) {
		if a.export(a.unexported[model]); a.unexported[model].model != "" {
			return
		}
	}
	a.setStorage("")
}

// do runs one effect.
func (a *Agent) do(ctx context.Context, g *errgroup.Group, e effect, ready *predictor.Predictor) {
	switch e.kind {
	case doServe:
		if ready != nil && !e.held.none() {
			a.models.put(e.model, newServed(e.model, e.held, ready))
			return
		}
		a.serve(ctx, g, e)
	case doTry:
		a.try(ctx, e)
	case doObtain, doShadow:
		a.obtain(ctx, g, e)
	case doAbort:
		a.abort(e.model)
	case doExport:
		a.export(e)
	case doReport, doTell:
		a.announce()
	}
}

// try checks the golden vectors and the speed of the version in place and
// starts, or starts again, the clock of its trial.
func (a *Agent) try(ctx context.Context, e effect) {
	if t := a.trials[e.model]; t != nil {
		t.Stop()
	}
	end, after := event{kind: evLived, model: e.model, held: e.held}, a.cfg.Trial
	if s := a.models.get(e.model); s != nil {
		err := s.predictor.Check()
		if err == nil {
			err = a.tooSlow(e.model, s.predictor)
		}
		if err != nil {
			end, after = broke(e.model, e.held, err), 0
		}
	}
	a.trials[e.model] = time.AfterFunc(after, func() { a.post(ctx, delivery{event: end}) })
}

func broke(model string, h held, err error) event {
	return event{kind: evBroke, model: model, held: h, code: code(err), message: clip(err.Error())}
}

func (a *Agent) stopTrials() {
	for _, t := range a.trials {
		t.Stop()
	}
}
