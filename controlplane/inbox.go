package controlplane

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

const (
	// maxReports and maxReportBytes bound what waits to be stored. Beyond them,
	// reports are dropped: an event is not acknowledged then, so it comes again,
	// and of state only the latest of each device and kind waits anyway.
	maxReports     = 1 << 17
	maxReportBytes = 64 << 20
	// maxBatch is how many reports share a transaction, and so an fsync.
	maxBatch = 512
	// storeRetry is how long to wait when the store is full or locked.
	storeRetry = time.Second
	// drainTimeout bounds what is still stored after Run was told to end.
	drainTimeout = 5 * time.Second
)

// received only enqueues.
func (c *ControlPlane) received(_ context.Context, m broker.Message) {
	t, err := protocol.ParseTopic(m.Topic)
	if err != nil || len(m.Payload) == 0 { // an empty retained payload clears a topic
		return
	}
	if !c.inbox.put(rollout.Report{Device: t.Device, Kind: t.Kind, Payload: m.Payload}) {
		c.log.Warn("report dropped: too many wait for the store", "device", t.Device, "kind", t.Kind.String())
	}
}

// asked only enqueues, too.
func (c *ControlPlane) asked(_ context.Context, m broker.Message) {
	if t, err := protocol.ParseTopic(m.Topic); err == nil {
		c.Rollout.Ask(t.Device, m.Payload)
	}
}

// An inbox holds reports until they are stored, in the order in which they
// came, but of a device's state (have, up) only the latest.
type inbox struct {
	wake chan struct{} // capacity 1

	mu     sync.Mutex // guards what follows
	queue  []*rollout.Report
	bytes  int                          // of the payloads in queue
	latest map[inboxKey]*rollout.Report // those in queue that a newer one replaces
}

type inboxKey struct {
	device string
	kind   protocol.TopicKind
}

func (b *inbox) init() {
	b.wake = make(chan struct{}, 1)
	b.latest = map[inboxKey]*rollout.Report{}
}

func (b *inbox) put(r rollout.Report) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := inboxKey{r.Device, r.Kind}
	if old, ok := b.latest[key]; ok {
		if more := len(r.Payload) - len(old.Payload); b.bytes+more <= maxReportBytes {
			b.bytes += more
			old.Payload = r.Payload
			return true
		}
		return false
	}
	if len(b.queue) >= maxReports || b.bytes+len(r.Payload) > maxReportBytes {
		return false
	}
	b.bytes += len(r.Payload)
	b.queue = append(b.queue, &r)
	switch r.Kind {
	case protocol.TopicEvent, protocol.TopicUsage: // of usage, there is one report for each start
	case protocol.TopicBirth: // what is told behind it is of that start: it must not take the place of an earlier one
	default:
		b.latest[key] = &r
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// take removes and returns up to maxBatch reports.
func (b *inbox) take() []rollout.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.queue), maxBatch)
	batch := make([]rollout.Report, n)
	for i, r := range b.queue[:n] {
		batch[i] = *r
		b.bytes -= len(r.Payload)
		delete(b.latest, inboxKey{r.Device, r.Kind})
	}
	clear(b.queue[:n])
	b.queue = b.queue[n:]
	if len(b.queue) == 0 {
		b.queue = nil
	}
	return batch
}

// run stores reports until ctx ends, and then what is left.
func (b *inbox) run(ctx context.Context, r *rollout.Rollouts, log *slog.Logger) error {
	for ctx.Err() == nil {
		if batch := b.take(); len(batch) > 0 {
			storeReports(ctx, r, log, batch)
			continue
		}
		select {
		case <-b.wake:
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	for batch := b.take(); len(batch) > 0 && ctx.Err() == nil; batch = b.take() {
		storeReports(ctx, r, log, batch)
	}
	return nil
}

// storeReports stores a batch, again and again while the store is full or
// locked. If it fails for another reason, one report may be why: each is tried
// alone, and dropped if it fails.
func storeReports(ctx context.Context, r *rollout.Rollouts, log *slog.Logger, batch []rollout.Report) {
	err := whenWritable(ctx, func(ctx context.Context) error { return r.Handle(ctx, batch...) }, func(err error) {
		log.Error("reports wait for the store", "reports", len(batch), "err", err)
	})
	switch {
	case err == nil || ctx.Err() != nil:
	case len(batch) == 1:
		log.Error("report dropped", "device", batch[0].Device, "kind", batch[0].Kind.String(), "err", err)
	default:
		for i := range batch {
			storeReports(ctx, r, log, batch[i:i+1])
		}
	}
}
