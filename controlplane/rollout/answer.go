package rollout

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const (
	// maxAsks is how many gets wait for an answer, and maxDeviceAsks of one
	// device, which asks for two chunks at a time. One beyond that is dropped:
	// a device asks again.
	maxAsks       = 4096
	maxDeviceAsks = 4
	// maxAnswer is how many chunks one get is answered with.
	maxAnswer = 4
	// askInterval is the time between two answers to one device, in which a
	// chunk is at most 2 MB/s.
	askInterval = time.Second / 64
	// answerers is how many answers are on their way to the broker at a time.
	answerers = 4
	// maxKept is the largest transfer that an answerer keeps for the next get.
	maxKept = 8 << 20
)

// An ask is a get that waits for its answer.
type ask struct {
	device string
	get    protocol.Get
	due    time.Time
}

// asks are the gets of devices whose broker keeps no retained messages. Every
// device waits for its own turn: one that asks without end gets no more than
// its rate, and keeps none of the others waiting.
type asks struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex // guards what follows
	waiting []ask
	next    map[string]time.Time // when a device may have its next answer; past ones are forgotten
}

func (q *asks) init() {
	q.wake = make(chan struct{}, 1)
	q.next = make(map[string]time.Time)
}

// put reports whether there is room.
func (q *asks) put(device string, get protocol.Get, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, a := range q.waiting {
		if a.device == device {
			n++
		}
	}
	if n >= maxDeviceAsks || len(q.waiting) >= maxAsks {
		return false
	}
	due := now
	if next := q.next[device]; next.After(now) {
		due = next
	}
	q.next[device] = due.Add(askInterval)
	q.waiting = append(q.waiting, ask{device, get, due})
	q.signal()
	return true
}

func (q *asks) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the first get that is due, or how long until one is, 0 if none
// waits.
func (q *asks) take(now time.Time) (a ask, ok bool, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for device, next := range q.next {
		if next.Before(now) {
			delete(q.next, device)
		}
	}
	first := -1
	for i := range q.waiting {
		if first < 0 || q.waiting[i].due.Before(q.waiting[first].due) {
			first = i
		}
	}
	if first < 0 {
		return a, false, 0
	}
	a = q.waiting[first]
	if wait = a.due.Sub(now); wait > 0 {
		return a, false, wait
	}
	q.waiting = slices.Delete(q.waiting, first, first+1)
	if len(q.waiting) > 0 {
		q.signal() // for the next answerer
	}
	return a, true, 0
}

// Ask takes a get of a device, for Answer. It does not wait, and drops what is
// no get or has no room.
func (r *Rollouts) Ask(device string, payload []byte) {
	var get protocol.Get
	if err := get.UnmarshalBinary(payload); err != nil {
		r.log.Warn("get dropped", "device", device, "err", err)
		return
	}
	if !r.asks.put(device, get, time.Now()) {
		r.log.Debug("get dropped: too many wait", "device", device)
	}
}

// Answer answers what Ask took until ctx ends.
func (r *Rollouts) Answer(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range answerers {
		g.Go(func() error { r.answerer(ctx); return nil })
	}
	return g.Wait()
}

func (r *Rollouts) answerer(ctx context.Context) {
	var last kept
	for ctx.Err() == nil {
		a, ok, wait := r.asks.take(time.Now())
		if ok {
			if err := r.answer(ctx, a, &last); err != nil && ctx.Err() == nil {
				r.log.Debug("get not answered", "device", a.device, "hash", a.get.Hash, "err", err)
			}
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-r.asks.wake:
		case <-due:
		case <-ctx.Done():
		}
	}
}

// A kept transfer is the last one that an answerer read from disk: a device
// asks for one chunk after the other.
type kept struct {
	hash     string
	transfer *artifact.Transfer
}

// answer publishes what a asks for, if the device's want names it: the
// announcement, or chunks as they are.
func (r *Rollouts) answer(ctx context.Context, a ask, last *kept) error {
	var row store.Want
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		row, err = tx.Want(ctx, a.device)
		return err
	})
	if err != nil {
		return err
	}
	if row.Envelope == nil {
		return fmt.Errorf("%w: nothing is wanted of this device", ErrNotFound)
	}
	hashes, err := named(row.Envelope)
	if err != nil {
		return err
	}
	if !slices.Contains(hashes, a.get.Hash) {
		return fmt.Errorf("%w: its want names no such transfer", ErrNotFound)
	}
	describe := len(a.get.Bitmap) == 0
	if !describe && last.hash == a.get.Hash {
		return r.blocks(ctx, a, last.transfer)
	}
	m, t, err := r.registry.Announcement(ctx, a.get.Hash)
	if err != nil {
		return err
	}
	if t.Size <= maxKept {
		*last = kept{a.get.Hash, t}
	}
	if describe {
		b, err := m.AppendBinary(nil)
		if err != nil {
			return err
		}
		return r.pub.Publish(ctx, protocol.BlockDescriptorTopic(r.fleet, a.device, a.get.Hash), b, false)
	}
	return r.blocks(ctx, a, t)
}

func (r *Rollouts) blocks(ctx context.Context, a ask, t *artifact.Transfer) error {
	sent := 0
	for n := range t.Chunks {
		if !a.get.Wants(n) || sent == maxAnswer {
			continue
		}
		sent++
		if err := r.pub.Publish(ctx, protocol.BlockTopic(r.fleet, a.device, a.get.Hash, n), t.Chunk(n), false); err != nil {
			return err
		}
	}
	return nil
}
