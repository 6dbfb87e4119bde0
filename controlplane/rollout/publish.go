package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const (
	retryAfter = time.Second
	sweepEvery = time.Minute
	// advanceEvery is how often staged rollouts are looked after; what is due of
	// them is decided there.
	advanceEvery = time.Second
	// settling is how many of those times pass first, after the start and after each
	// connection to the broker: everybody is taken for offline until it has told who
	// is not, and devices come back to it one by one.
	settling = 10
	// flushPage is how many wants are read at a time, and inFlight how many messages
	// wait for the broker's acknowledgement.
	flushPage = 500
	inFlight  = 64
)

// outbox is what remains to be published. All of it is in the store too: it only
// says where to look.
type outbox struct {
	wake     chan struct{} // capacity 1
	flushing chan struct{} // capacity 1: held by the one Flush under way

	mu    sync.Mutex          // guards what follows
	wants map[string]struct{} // devices
	all   bool                // every want, and forget what the broker has

	// Owned by the Flush under way.
	announced map[string]error // transfers the broker has since the last connect, or why it cannot
}

// publish queues the wants of devices for Run.
func (r *Rollouts) publish(devices []string) {
	if len(devices) > 0 {
		r.outbox.add(devices)
		r.outbox.signal()
	}
}

// add queues without waking Run, which comes back by itself after a failure.
func (o *outbox) add(devices []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wants == nil {
		o.wants = make(map[string]struct{}, len(devices))
	}
	for _, d := range devices {
		o.wants[d] = struct{}{}
	}
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run publishes, until ctx ends, what Start, Rollback, JoinNew, Handle and
// Republish leave to be published, lets time go on for staged rollouts, and clears
// the topics of transfers that nothing wants any more. What fails is tried again.
func (r *Rollouts) Run(ctx context.Context) error {
	var rejoin <-chan time.Time
	join := func() {
		rejoin = nil
		if err := r.joinAll(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("new devices wait", "err", err)
			rejoin = time.After(retryAfter)
		}
	}
	join()
	sweep, advance := time.NewTicker(sweepEvery), time.NewTicker(advanceEvery)
	defer sweep.Stop()
	defer advance.Stop()
	var retry <-chan time.Time
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-r.outbox.wake:
			err = r.Flush(ctx)
		case <-retry:
			err = r.Flush(ctx)
		case <-rejoin:
			join()
			continue
		case <-sweep.C:
			if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
				r.log.Debug("clear topics later", "err", err)
			}
			continue // a retry is still to come
		case <-advance.C:
			if r.settled.Add(1) < settling || r.key == nil || r.idle.Load() || !r.connected() {
				continue
			}
			if err := r.Advance(ctx, r.now()); err != nil && ctx.Err() == nil {
				r.log.Warn("staged rollouts wait", "err", err)
			}
			continue
		}
		retry = nil
		if err != nil && ctx.Err() == nil {
			r.log.Debug("publish later", "err", err)
			retry = time.After(retryAfter)
		}
	}
}

// Republish makes Run publish everything again: the broker may have lost it.
// To be called at every connect.
func (r *Rollouts) Republish() {
	r.outbox.mu.Lock()
	r.outbox.all = true
	r.outbox.mu.Unlock()
	r.settled.Store(0)
	r.outbox.signal()
}

// Flush clears the topics of removed devices, and publishes what is to be published
// now: for each want the transfers that it names, unless the broker has them, then
// the want. What it did not get to stays for the next Flush.
func (r *Rollouts) Flush(ctx context.Context) error {
	release, err := r.flushing(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := r.clearRemoved(ctx); err != nil { // before the id is published again
		return err
	}
	devices, err := r.take(ctx)
	if err != nil {
		return err
	}
	for from := 0; from < len(devices); from += flushPage {
		if err := r.publishWants(ctx, devices[from:min(from+flushPage, len(devices))]); err != nil {
			r.outbox.add(devices[from:])
			return err
		}
	}
	return nil
}

// flushing makes its caller the only one that publishes retained topics, so
// that what is published last is what was stored last.
func (r *Rollouts) flushing(ctx context.Context) (release func(), err error) {
	select {
	case r.outbox.flushing <- struct{}{}:
		return func() { <-r.outbox.flushing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// take empties the outbox and returns the devices that were in it, in order.
func (r *Rollouts) take(ctx context.Context) ([]string, error) {
	r.outbox.mu.Lock()
	all, wants := r.outbox.all, r.outbox.wants
	r.outbox.all, r.outbox.wants = false, nil
	r.outbox.mu.Unlock()
	devices := slices.Sorted(maps.Keys(wants))
	if !all {
		return devices, nil
	}
	r.outbox.announced = nil
	err := r.store.View(ctx, func(tx store.Tx) error {
		const most = 10_000_000
		wanted, err := tx.WantedDevices(ctx, "", most)
		devices = append(devices, wanted...)
		return err
	})
	if err != nil {
		r.outbox.add(devices)
		r.outbox.mu.Lock()
		r.outbox.all = true
		r.outbox.mu.Unlock()
	}
	slices.Sort(devices)
	return slices.Compact(devices), err
}

// publishWants publishes what is wanted of devices, of those that have a want. The
// order among devices does not matter; each is there once.
func (r *Rollouts) publishWants(ctx context.Context, devices []string) error {
	var rows []store.Want
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		rows, err = tx.Wants(ctx, devices)
		return err
	})
	if err != nil {
		return fmt.Errorf("read wants: %w", err)
	}
	rows = slices.DeleteFunc(rows, func(w store.Want) bool { return w.Envelope == nil })
	g, sending := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for _, row := range rows {
		hashes, err := named(row.Envelope)
		if err != nil { // the device could not read it either, and the others wait for theirs
			r.log.Error("stored want cannot be read, and is not published; the next change of what the device shall run replaces it", "device", row.Device, "err", err)
			continue
		}
		if err := r.announceAll(sending, hashes); err != nil {
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error {
			if err := r.pub.Publish(sending, protocol.WantTopic(r.fleet, row.Device), row.Envelope, true); err != nil {
				return fmt.Errorf("publish want of %s: %w", row.Device, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// announceAll publishes the transfers that a want names, unless the broker has them.
// One that is lost stops no want: a device that has the version needs no transfer of
// it, and the others are told of theirs.
func (r *Rollouts) announceAll(ctx context.Context, hashes []string) error {
	for _, hash := range hashes {
		if err := r.announce(ctx, hash); err != nil && !lost(err) {
			return fmt.Errorf("publish transfer %s: %w", hash, err)
		}
	}
	return nil
}

// lost reports whether a transfer is no longer there to be read.
func lost(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, registry.ErrPruned)
}

// named returns the transfers that a stored want names.
func named(envelope []byte) ([]string, error) {
	var env artifact.Envelope
	if err := env.UnmarshalBinary(envelope); err != nil {
		return nil, err
	}
	var want protocol.Want
	if err := want.UnmarshalBinary(env.Payload); err != nil {
		return nil, err
	}
	var hashes []string
	for _, m := range want.Models {
		for _, t := range m.Active.Transfers {
			hashes = append(hashes, t.Hash)
		}
		if m.Shadow != nil {
			for _, t := range m.Shadow.Transfers {
				hashes = append(hashes, t.Hash)
			}
		}
	}
	slices.Sort(hashes)
	return hashes, nil
}

// announce publishes a transfer once per connection: chunks first, so that
// whoever reads the descriptor finds them.
func (r *Rollouts) announce(ctx context.Context, hash string) error {
	if err, tried := r.outbox.announced[hash]; tried {
		return err
	}
	if r.outbox.announced == nil {
		r.outbox.announced = map[string]error{}
	}
	a, t, err := r.registry.Announcement(ctx, hash)
	if lost(err) {
		r.log.Error("transfer cannot be published", "hash", hash, "err", err)
		r.outbox.announced[hash] = err
	}
	if err != nil {
		return err
	}
	payload, err := a.AppendBinary(nil)
	if err != nil {
		return err
	}
	chunks := len(t.Chunks)
	// Stored first: after a crash it is still known what there is to clear.
	err = r.store.Update(ctx, func(tx store.Tx) error { return tx.PutAnnounced(ctx, hash, chunks) })
	if err != nil {
		return err
	}
	for n := range chunks {
		if err := r.pub.Publish(ctx, protocol.ChunkTopic(r.fleet, hash, n), t.Chunk(n), true); err != nil {
			return err
		}
	}
	if err := r.pub.Publish(ctx, protocol.DescriptorTopic(r.fleet, hash), payload, true); err != nil {
		return err
	}
	r.outbox.announced[hash] = nil
	return nil
}

// sweep clears the topics of transfers that no want has named for the grace
// period: an empty retained payload (MQTT 3.1.1 §3.3.1.3).
func (r *Rollouts) sweep(ctx context.Context) error {
	release, err := r.flushing(ctx)
	if err != nil {
		return err
	}
	defer release()
	errs := []error{r.restore(ctx)}
	var gone []store.Announced
	err = r.store.Update(ctx, func(tx store.Tx) (err error) {
		at := r.now()
		gone, err = tx.MarkUnwanted(ctx, at, at.Add(-r.grace))
		return err
	})
	if err != nil {
		return fmt.Errorf("find unwanted transfers: %w", err)
	}
	for _, a := range gone {
		if err := r.clear(ctx, a); err != nil {
			errs = append(errs, fmt.Errorf("clear transfer %s: %w", a.Hash, err))
		}
	}
	return errors.Join(errs...)
}

// restore publishes the transfers that were lost and are there again: an import
// brings them back.
func (r *Rollouts) restore(ctx context.Context) error {
	for hash, err := range maps.Clone(r.outbox.announced) {
		if err == nil {
			continue
		}
		if _, _, err := r.registry.Announcement(ctx, hash); lost(err) {
			continue // as was said
		}
		delete(r.outbox.announced, hash)
		if err := r.announce(ctx, hash); err != nil && !lost(err) {
			return fmt.Errorf("publish transfer %s: %w", hash, err)
		}
	}
	return nil
}

func (r *Rollouts) clear(ctx context.Context, a store.Announced) error {
	delete(r.outbox.announced, a.Hash) // a want that names it again publishes it again
	if err := r.pub.Publish(ctx, protocol.DescriptorTopic(r.fleet, a.Hash), nil, true); err != nil {
		return err
	}
	for n := range a.Chunks {
		if err := r.pub.Publish(ctx, protocol.ChunkTopic(r.fleet, a.Hash, n), nil, true); err != nil {
			return err
		}
	}
	return r.store.Update(ctx, func(tx store.Tx) error { return tx.DropAnnounced(ctx, a.Hash) })
}
