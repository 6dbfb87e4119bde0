package agent

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const (
	// chunksInFlight bounds what a device has asked the broker for and not
	// received, all its models together: it loses no more on a lost link.
	chunksInFlight = 2
	// chunkTimeout is how long a retained message may take to arrive. A
	// metered link at 20 kbit/s needs 13 s for a chunk, two share the link.
	chunkTimeout = 45 * time.Second
	// A download that makes no progress waits before it tries again, from
	// retryMin, twice as long each time, to retryMax.
	retryMin = 2 * time.Second
	retryMax = 5 * time.Minute
	// badChunks is how often one chunk may arrive with a wrong digest before
	// the transfer is taken for corrupt.
	badChunks = 3
)

// errSilent means that no message comes on a topic: the broker has, or sends,
// none, the control plane does not answer, or the link is too slow.
var errSilent = errors.New("nothing comes on the topic, or the link is too slow")

// A fetch is one download under way.
type fetch struct {
	want   wanted
	shadow bool            // for the candidate's slot, not to be activated
	ctx    context.Context // ends with the download, to see whether it is under way
	cancel context.CancelFunc
}

// obtain starts to find e.want: in the cache, else over the link. A download
// of the same version goes on, that of a shadow also when it is to be activated
// meanwhile: it is obtained once more from its slot. One of another is ended.
func (a *Agent) obtain(ctx context.Context, g *errgroup.Group, e effect) {
	if f := a.fetches[e.model]; f != nil {
		if f.ctx.Err() == nil && f.want.Digest == e.want.Digest && reflect.DeepEqual(f.want.Transfers, e.want.Transfers) &&
			(f.shadow || e.kind == doObtain && f.want.Schedule.equal(e.want.Schedule)) {
			return
		}
		f.cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{want: e.want, shadow: e.kind == doShadow, ctx: ctx, cancel: cancel}
	a.fetches[e.model] = f
	g.Go(func() error {
		defer cancel()
		a.fetchVersion(ctx, slot{e.model, e.want.Digest}, f)
		return nil
	})
}

func (a *Agent) abort(model string) {
	if f := a.fetches[model]; f != nil {
		f.cancel()
		delete(a.fetches, model)
	}
}

// fetchVersion reports the wanted version ready or refused, unless ctx ends.
func (a *Agent) fetchVersion(ctx context.Context, k slot, f *fetch) {
	w, ready, refused := f.want, evReady, evRefused
	if f.shadow {
		ready, refused = evShadowReady, evShadowRefused
	}
	e := event{kind: ready, model: k.Model, held: held{Digest: k.Digest}}
	v, err := a.fromCache(k)
	e.message = "from the cache"
	if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrDamaged) {
		var got received
		v, got, err = a.fromLink(ctx, k, w)
		e.message = got.String()
	}
	if err == nil {
		err = a.awaitTurn(ctx, k.Model, v.held.version(k.Model), w.Schedule)
	}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		a.cfg.Log.Warn("version refused", "model", k.Model, "digest", k.Digest.Short(), "err", err)
		e.kind, e.code, e.message = refused, code(err), clip(err.Error())
		a.post(ctx, delivery{event: e})
	default:
		e.held = v.held
		a.post(ctx, delivery{event: e, slot: &v.slot, ready: v.predictor})
	}
}

// fromCache verifies a version that is cached: a rollback needs no transfer.
func (a *Agent) fromCache(k slot) (verified, error) {
	s, err := a.cache.Slot(store.Key(k))
	if err != nil {
		return verified{}, err
	}
	return a.verifyCached(k, s, activating)
}

// fromLink downloads and verifies: the smallest transfer that can be used.
func (a *Agent) fromLink(ctx context.Context, k slot, w wanted) (v verified, got received, err error) {
	refs, err := a.candidates(k, w)
	if err != nil {
		return v, got, err
	}
	if !a.files.Begun(store.Key(k)) && !sleep(ctx, jitter(a.cfg.Device, w.Rev, w.JitterS)) {
		return v, got, ctx.Err()
	}
	for i, ref := range refs {
		d := &download{agent: a, slot: k, ref: ref, last: i == len(refs)-1}
		v, err = a.fromTransfer(ctx, d, w)
		d.close()
		got.kind, got.bytes = ref.Kind, got.bytes+d.bytes
		if err == nil || ctx.Err() != nil || d.last || !d.unusable(err) {
			break
		}
		a.cfg.Log.Warn("transfer cannot be used, trying another", "model", k.Model, "hash", ref.Hash, "kind", ref.Kind, "err", err)
	}
	return v, got, err
}

// fromTransfer returns only when it succeeds, when what arrived cannot be used,
// when the want's deadline has passed, or when ctx ends: a link that is away
// comes back. A transfer whose topic is silent is waited for if it is the last.
func (a *Agent) fromTransfer(ctx context.Context, d *download, w wanted) (verified, error) {
	k, ref := d.slot, d.ref
	defer a.waiting.Delete(k.Model)
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		got := d.received
		v, err := d.attempt(ctx)
		if err == nil || ctx.Err() != nil || d.final || !d.last && d.unusable(err) {
			return v, err
		}
		if d.received > got {
			wait = retryMin
		}
		if _, late := w.Schedule.open(a.clock()); late != nil {
			return verified{}, late
		}
		a.waits(k.Model, err)
		if used := (*errBudget)(nil); errors.As(err, &used) {
			a.tellBudget(used)
			if !sleep(ctx, min(used.wait, budgetStep)) {
				return verified{}, ctx.Err()
			}
			wait = retryMin
			continue
		}
		a.cfg.Log.Info("download waits", "model", k.Model, "hash", ref.Hash, "chunks", d.received, "retry_in", wait, "err", err)
		if !sleep(ctx, wait/2+rand.N(wait/2+1)) {
			return verified{}, ctx.Err()
		}
	}
}

// waits notes why a download does not go on, for the status, and tells the
// control plane once when it is the disk.
func (a *Agent) waits(model string, why error) {
	a.waiting.Store(model, clip(why.Error()))
	if errors.Is(why, store.ErrFull) || errors.Is(why, store.ErrReadOnly) {
		a.tellDisk(model, clip(why.Error()))
	}
}

// tellBudget says that downloads wait for the next day, once a day.
func (a *Agent) tellBudget(why *errBudget) {
	if !a.budget.tell() {
		return
	}
	a.cfg.Log.Warn("downloads wait; predictions go on", "err", why)
	a.notices.add(a.notice("budget", "", protocol.Digest{}, clip(why.Error())))
	a.announce()
}

// jitter is H(device, rev) mod seconds: the fleet spreads its downloads evenly,
// and a restart does not draw again.
func jitter(device string, rev uint64, seconds uint32) time.Duration {
	if seconds == 0 {
		return 0
	}
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(device), rev))
	return time.Duration(binary.BigEndian.Uint64(h[:])%(uint64(seconds)*1000)) * time.Millisecond
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A download assembles one transfer, in memory or, if it is larger than
// store.MaxInBucket, on disk. What arrived stays through lost links, so that at
// most the chunks in flight travel twice, and on disk through restarts too.
type download struct {
	agent *Agent
	slot  slot
	ref   protocol.TransferRef
	last  bool // there is no other transfer to try

	announcement *artifact.Announcement
	final        bool // the error will not go away by trying again

	part *store.Part // nil: in memory

	mu       sync.Mutex     // guards what the chunk goroutines share
	arrived  map[int][]byte // chunks that the disk did not take: at most chunksInFlight
	payload  []byte         // nil with a part
	have     []bool
	bad      []int // wrong digests, by chunk
	received int
	bytes    int // of all messages
}

// attempt gets what is missing and verifies the whole.
func (d *download) attempt(ctx context.Context) (verified, error) {
	if d.announcement == nil {
		if err := d.describe(ctx); err != nil {
			return verified{}, err
		}
	}
	if err := d.chunks(ctx); err != nil {
		return verified{}, err
	}
	payload, err := d.whole()
	if err != nil {
		return verified{}, err
	}
	d.final = true
	policy := d.policy()
	if base := d.announcement.Descriptor.Base; base != nil {
		if policy.Base, err = d.agent.base(d.slot.Model, *base); err != nil {
			return verified{}, err
		}
	}
	return d.agent.verify(policy, d.announcement.Release, &artifact.Transfer{
		Descriptor: d.announcement.Descriptor, Payload: payload,
	})
}

func (d *download) policy() artifact.Policy {
	policy := d.agent.policy(d.slot.Model, activating)
	policy.Expected = d.slot.Digest
	return policy
}

// whole returns the payload, once every chunk is there.
func (d *download) whole() ([]byte, error) {
	if d.part == nil {
		return d.payload, nil
	}
	return d.part.Payload()
}

// close leaves what is on disk for the cache, or for the next start.
func (d *download) close() {
	if d.part == nil {
		return
	}
	if err := d.part.Close(); err != nil {
		d.agent.cfg.Log.Warn("close download", "model", d.slot.Model, "err", err)
	}
}

// resume takes over the download that an earlier start left on disk, if it is
// of this transfer and would still be allowed.
func (d *download) resume() bool {
	if d.ref.Size <= store.MaxInBucket {
		return false
	}
	p, err := d.agent.files.OpenPart(store.Key(d.slot))
	if err != nil {
		if !errors.Is(err, store.ErrMissing) {
			d.agent.cfg.Log.Warn("download on disk cannot be used", "model", d.slot.Model, "err", err)
		}
		return false
	}
	policy := d.policy()
	if _, err := policy.Release(p.Release, &p.Descriptor); err != nil || p.Descriptor.Hash() != d.ref.Hash {
		_ = p.Close() // nothing was written
		return false
	}
	d.announcement = &artifact.Announcement{Descriptor: p.Descriptor, Release: p.Release}
	d.part, d.have, d.bad = p, p.Have(), make([]int, len(p.Descriptor.Chunks))
	for _, have := range d.have {
		if have {
			d.received++
		}
	}
	d.agent.cfg.Log.Info("download goes on", "model", d.slot.Model, "hash", d.ref.Hash, "chunks", d.received, "of", len(d.have))
	return true
}

// describe gets the descriptor and the release and checks both before any
// chunk is asked for. What they say is signed, so a fault in it is final.
func (d *download) describe(ctx context.Context) error {
	if d.resume() {
		return nil
	}
	b, err := d.charged(announced(d.ref), func() ([]byte, error) {
		return d.agent.transferred(ctx, d.ref.Hash, -1)
	})
	if err != nil {
		return err
	}
	d.bytes += len(b)
	d.final = true
	var m artifact.Announcement
	if err := m.UnmarshalBinary(b); err != nil {
		return err
	}
	if hash := m.Descriptor.Hash(); hash != d.ref.Hash {
		return fmt.Errorf("%w: descriptor of %s on the topic of %s", artifact.ErrCorrupt, hash, d.ref.Hash)
	}
	policy := d.policy()
	if _, err := policy.Release(m.Release, &m.Descriptor); err != nil {
		return err
	}
	if size := int64(m.Descriptor.Size); size > d.agent.quota() {
		return fmt.Errorf("%w: transfer of %d bytes, the model cache holds %d", artifact.ErrTooLarge, size, d.agent.quota())
	}
	d.final = false
	switch {
	case len(m.Inline) > 0:
		d.announcement, d.payload = &m, m.Inline
		return nil
	case m.Descriptor.Size <= store.MaxInBucket:
		d.payload = make([]byte, m.Descriptor.Size)
	default:
		if d.part, err = d.agent.files.NewPart(store.Key(d.slot), m.Release, m.Descriptor); err != nil {
			d.final = errors.Is(err, store.ErrQuota)
			return fmt.Errorf("begin download: %w", err)
		}
	}
	d.announcement = &m
	d.have = make([]bool, len(m.Descriptor.Chunks))
	d.bad = make([]int, len(m.Descriptor.Chunks))
	return nil
}

// chunks gets every chunk that is missing, at most chunksInFlight at a time.
// After a failure no other is begun, but what is under way may arrive.
func (d *download) chunks(ctx context.Context) error {
	var g errgroup.Group
	var failed atomic.Bool
	for n := range d.have {
		if d.have[n] {
			continue
		}
		select {
		case d.agent.inFlight <- struct{}{}:
		case <-ctx.Done():
			return errors.Join(g.Wait(), ctx.Err())
		}
		if failed.Load() {
			<-d.agent.inFlight
			break
		}
		g.Go(func() error {
			defer func() { <-d.agent.inFlight }()
			err := d.chunk(ctx, n)
			if err != nil {
				failed.Store(true)
			}
			return err
		})
	}
	return g.Wait()
}

// chunk gets chunk n. One that the disk does not take is kept for the next
// attempt: it has been paid for.
func (d *download) chunk(ctx context.Context, n int) error {
	d.mu.Lock()
	b := d.arrived[n]
	d.mu.Unlock()
	if b == nil {
		var err error
		if b, err = d.fetch(ctx, n); err != nil {
			return err
		}
	}
	var failed error
	if d.part != nil {
		if failed = d.part.Put(n, b); failed == nil {
			d.agent.diskTold.Store(false)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if failed != nil {
		if d.arrived == nil {
			d.arrived = make(map[int][]byte)
		}
		d.arrived[n] = b
		return fmt.Errorf("write download: %w", failed)
	}
	delete(d.arrived, n)
	if d.part == nil {
		copy(d.payload[n*protocol.ChunkSize:], b)
	}
	d.have[n] = true
	d.received++
	return nil
}

// fetch gets chunk n over the link and checks it.
func (d *download) fetch(ctx context.Context, n int) ([]byte, error) {
	size := min(int64(d.announcement.Descriptor.Size)-int64(n)*protocol.ChunkSize, protocol.ChunkSize)
	b, err := d.charged(size, func() ([]byte, error) {
		return d.agent.transferred(ctx, d.ref.Hash, n)
	})
	if err != nil {
		return nil, err
	}
	wrong := d.announcement.Descriptor.CheckChunk(n, b)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes += len(b)
	if wrong != nil {
		d.bad[n]++
		d.final = d.final || d.bad[n] >= badChunks
		return nil, wrong
	}
	return b, nil
}

// charged takes size bytes from the day's budget for get. Of an answer that did
// not come, no more has been paid for than the link received meanwhile beside
// whole messages; the rest is given back.
func (d *download) charged(size int64, get func() ([]byte, error)) ([]byte, error) {
	if err := d.agent.budget.take(size); err != nil {
		return nil, err
	}
	before := d.agent.broken()
	b, err := get()
	if err != nil {
		d.agent.budget.giveBack(size - min(size, max(0, d.agent.broken()-before)))
	}
	return b, err
}

// broken counts the bytes that came in no whole message.
func (a *Agent) broken() int64 { return int64(a.link.Received()) - int64(a.link.Delivered()) }

// announced estimates the size of the message that announces a transfer: its
// release, and a digest for each chunk or the payload itself.
func announced(ref protocol.TransferRef) int64 {
	const release = 1500
	size := int64(ref.Size)
	if size <= protocol.MaxInline {
		return release + size
	}
	return release + 32*((size+protocol.ChunkSize-1)/protocol.ChunkSize)
}

// A mailbox hands messages on exact topics to who waits for them.
type mailbox struct {
	mu      sync.Mutex // guards waiting
	waiting map[string]chan []byte
}

func (m *mailbox) expect(topic string) chan []byte {
	c := make(chan []byte, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == nil {
		m.waiting = make(map[string]chan []byte)
	}
	m.waiting[topic] = c
	return c
}

func (m *mailbox) forget(topic string, c chan []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting[topic] == c {
		delete(m.waiting, topic)
	}
}

// deliver drops what nobody waits for; it does not block.
func (m *mailbox) deliver(msg link.Message) {
	m.mu.Lock()
	c := m.waiting[msg.Topic]
	m.mu.Unlock()
	if c == nil {
		return
	}
	select {
	case c <- msg.Payload:
	default: // a second message on the same topic
	}
}
