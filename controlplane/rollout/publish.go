package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
	// settling is how many of those times pass first: at its start everybody is
	// taken for offline until the broker has told who is not.
	settling = 10
)

// Run publishes, until ctx ends, what Start, Rollback, JoinNew, Handle and
// Republish leave to be published, lets time go on for staged rollouts, and clears
// the topics of transfers that nothing wants any more. What fails is tried again.
func (r *Rollouts) Run(ctx context.Context) error {
	if err := r.joinAll(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	sweep, advance := time.NewTicker(sweepEvery), time.NewTicker(advanceEvery)
	defer sweep.Stop()
	defer advance.Stop()
	var retry <-chan time.Time
	for started := 0; ; {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-r.outbox.wake:
			err = r.Flush(ctx)
		case <-retry:
			err = r.Flush(ctx)
		case <-sweep.C:
			err = r.sweep(ctx)
		case <-advance.C:
			if started++; started < settling || r.key == nil || r.idle.Load() || !r.connected() {
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
	r.outbox.signal()
}

// Flush publishes what is to be published now: for each want the transfers
// that it names, unless the broker has them, then the want. What it did not
// get to stays for the next Flush.
func (r *Rollouts) Flush(ctx context.Context) error {
	release, err := r.flushing(ctx)
	if err != nil {
		return err
	}
	defer release()
	devices, err := r.take(ctx)
	if err != nil {
		return err
	}
	for i, id := range devices {
		if err := r.publishWant(ctx, id); err != nil {
			r.outbox.add(devices[i:])
			return fmt.Errorf("publish want of %s: %w", id, err)
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
	var out []string
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		const most = 10_000_000
		out, err = tx.WantedDevices(ctx, "", most)
		return err
	})
	if err != nil {
		r.outbox.add(devices)
		r.outbox.mu.Lock()
		r.outbox.all = true
		r.outbox.mu.Unlock()
	}
	return out, err
}

func (r *Rollouts) publishWant(ctx context.Context, device string) error {
	var row store.Want
	removed := false
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		if row, err = tx.Want(ctx, device); !errors.Is(err, ErrNotFound) {
			return err
		}
		_, err = tx.DeviceToken(ctx, device)
		if removed = errors.Is(err, ErrNotFound); removed {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case removed:
		return r.clearDevice(ctx, device)
	case row.Envelope == nil:
		return nil
	}
	hashes, err := named(row.Envelope)
	if err != nil {
		return err
	}
	for _, hash := range hashes {
		if err := r.announce(ctx, hash); err != nil {
			return fmt.Errorf("transfer %s: %w", hash, err)
		}
	}
	return r.pub.Publish(ctx, protocol.WantTopic(r.fleet, device), row.Envelope, true)
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
	if r.outbox.announced[hash] {
		return nil
	}
	a, t, err := r.registry.Announcement(ctx, hash)
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
	if r.outbox.announced == nil {
		r.outbox.announced = map[string]bool{}
	}
	r.outbox.announced[hash] = true
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
	var gone []store.Announced
	err = r.store.Update(ctx, func(tx store.Tx) (err error) {
		at := r.now()
		gone, err = tx.MarkUnwanted(ctx, at, at.Add(-r.grace))
		return err
	})
	if err != nil {
		return fmt.Errorf("find unwanted transfers: %w", err)
	}
	var errs []error
	for _, a := range gone {
		if err := r.clear(ctx, a); err != nil {
			errs = append(errs, fmt.Errorf("clear transfer %s: %w", a.Hash, err))
		}
	}
	return errors.Join(errs...)
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
