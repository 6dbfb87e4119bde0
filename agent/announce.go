package agent

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// maxNotices bounds the events kept in memory for a disk that takes none.
const maxNotices = 32

// connected subscribes and announces the device, on every new connection.
func (a *Agent) connected(ctx context.Context) error {
	f, d := a.cfg.Fleet, a.cfg.Device
	a.usage.hold()
	filters := controlFilters(f, d)
	if a.cfg.Simple {
		filters = append(filters, protocol.SimplePredictTopic(f, d, "+"))
	}
	err := a.link.Subscribe(ctx, 1, filters...)
	switch {
	case err == nil:
		a.found(protocol.FindingRefused, "")
	case errors.Is(err, link.ErrRefused):
		a.refused(err)
	default:
		return err
	}
	online := link.Message{Topic: protocol.UpTopic(f, d), Payload: []byte(protocol.Online), QoS: 1, Retained: true}
	if err := a.link.Publish(ctx, online); err != nil {
		return err
	}
	if err := a.publishBirth(ctx); err != nil {
		return err
	}
	a.notices.again()
	a.usage.again()
	if err := a.connectHomeAssistant(ctx); err != nil {
		return err
	}
	a.announce()
	a.pipelines.connected.Add(1)
	a.pipelines.connect()
	a.models.poke()
	a.probe(ctx)
	return nil
}

// controlFilters are what every device subscribes to.
func controlFilters(f, d string) []string {
	return []string{protocol.WantTopic(f, d), protocol.AckTopic(f, d), protocol.PredictTopic(f, d, "+", "+", "+"), protocol.StateTopic(f), protocol.TruthTopic(f, d, "+")}
}

func (a *Agent) publishBirth(ctx context.Context) error {
	b, err := a.birth().AppendBinary(nil)
	if err != nil {
		return err
	}
	topic := protocol.BirthTopic(a.cfg.Fleet, a.cfg.Device)
	return a.link.Publish(ctx, link.Message{Topic: topic, Payload: b, QoS: 1, Retained: true})
}

// received routes a message; it runs on the goroutine that reads the
// connection and only enqueues.
func (a *Agent) received(m link.Message) {
	if a.cfg.HomeAssistant.Broker && a.fromHomeAssistant(m.Topic, m.Payload) {
		return
	}
	t, err := protocol.ParseTopic(m.Topic)
	if err != nil {
		a.pipelines.offer(m) // a foreign topic that a pipeline reads
		return
	}
	if t.Fleet != a.cfg.Fleet || t.Device != "" && t.Device != a.cfg.Device {
		return
	}
	switch t.Kind {
	case protocol.TopicPredict, protocol.TopicSimplePredict:
		a.service.offer(request{topic: t, payload: m.Payload, qos: m.QoS, arrived: time.Now()})
	case protocol.TopicSample, protocol.TopicTruth:
		a.pipelines.offer(m)
	case protocol.TopicDescriptor, protocol.TopicChunk, protocol.TopicBlock, protocol.TopicBlockDescriptor, protocol.TopicProbe:
		a.mail.deliver(m)
	case protocol.TopicUp:
		if m.Retained { // else it was just published
			a.mail.deliver(m)
		}
	case protocol.TopicState:
		a.controlPlane(m)
	case protocol.TopicWant, protocol.TopicAck:
		select {
		case a.control <- m:
		default: // the want is retained and comes again with the next connection
			a.cfg.Log.Warn("control message dropped, the agent is behind", "topic", m.Topic)
		}
	}
}

// controlPlane hears from the control plane. One that came back while this
// connection stood, on a broker of its own, has missed what was sent meanwhile.
func (a *Agent) controlPlane(m link.Message) {
	var s protocol.State
	if m.Retained || s.UnmarshalBinary(m.Payload) != nil || !s.Online {
		return // retained: it was there before this connection was
	}
	a.notices.sendAgain()
	a.usage.again()
	a.announce()
}

// receive handles want and ack, in the loop.
func (a *Agent) receive(ctx context.Context, g *errgroup.Group, m link.Message) {
	if m.Topic == protocol.AckTopic(a.cfg.Fleet, a.cfg.Device) {
		a.acknowledge(m.Payload)
		return
	}
	if len(m.Payload) == 0 {
		return // the retained want was cleared; a device keeps what it has
	}
	w, err := a.openWant(m.Payload)
	if err != nil {
		a.cfg.Log.Warn("want refused", "err", err)
		if a.notices.addOnce(a.notice("want_refused", "", protocol.Digest{}, clip(err.Error()))) {
			a.announce()
		}
		return
	}
	// What waits for the disk is older than this.
	for key, d := range a.deferred {
		if d.event.kind == evWanted && w.Newer(d.event.want.Epoch, d.event.want.Rev) {
			delete(a.deferred, key)
		}
	}
	_ = a.decide(ctx, g, delivery{event: event{kind: evWanted, want: w}})
}

// errForeign means a want for another device.
var errForeign = errors.New("want is for another device")

// openWant verifies a want: limits, strict CBOR, the signature of the role
// rollout, and that it is meant for this device. Whether it is newer is for
// step to say.
func (a *Agent) openWant(envelope []byte) (protocol.Want, error) {
	w, err := a.root.OpenWant(envelope)
	if err != nil {
		return protocol.Want{}, err
	}
	if w.Fleet != a.cfg.Fleet || w.Device != a.cfg.Device {
		return protocol.Want{}, errForeign
	}
	return *w, nil
}

// acknowledge forgets an event that the control plane has stored.
func (a *Agent) acknowledge(payload []byte) {
	var ack protocol.Ack
	if err := ack.UnmarshalBinary(payload); err != nil {
		a.cfg.Log.Warn("ack refused", "err", err)
		return
	}
	if ack.Usage {
		if b := a.usage.acknowledge(ack); b != nil {
			a.storeUsage(b)
		}
		return
	}
	if a.notices.acknowledge(ack) {
		return
	}
	events, err := a.cache.Events()
	if err != nil {
		a.setStorage(clip(err.Error()))
		return
	}
	for _, p := range events {
		var e protocol.Event
		if p.Seq != ack.Seq || e.UnmarshalBinary(p.Data) == nil && e.Boot != ack.Boot {
			continue
		}
		if err := a.cache.DropEvents(p.Seq); err != nil {
			a.setStorage(clip(err.Error()))
		}
		return
	}
}

// notice returns an event as of now, without a sequence number.
func (a *Agent) notice(kind, model string, digest protocol.Digest, detail string) protocol.Event {
	return protocol.Event{
		Boot: a.boot.Load(), T: a.now(), Kind: kind, Model: model, Digest: digest, Detail: clip(detail),
	}
}

// now is the device's clock, for people: nothing is decided from it.
func (a *Agent) now() int64 { return max(0, a.wall().UnixMilli()) }

// A notices keeps in memory the events that the disk did not take, and which
// of all events were sent on this connection.
type notices struct {
	mu     sync.Mutex // guards what follows
	seq    uint64
	kept   []protocol.Event
	sent   map[uint64]bool // sequence numbers sent since the connection was made
	have   []byte          // the report last published on this connection
	onceOf string          // text of the last addOnce
}

// noticeSeq is where the sequence numbers of events in memory begin, far above
// those of the database, which count the events of a device's whole life.
const noticeSeq = 1 << 48

func (n *notices) add(e protocol.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seq++
	e.Seq = noticeSeq + n.seq
	if len(n.kept) >= maxNotices {
		n.kept = n.kept[1:]
	}
	n.kept = append(n.kept, e)
}

// addOnce is add, unless e says what the one before said.
func (n *notices) addOnce(e protocol.Event) bool {
	n.mu.Lock()
	same := n.onceOf == e.Kind+e.Detail
	n.onceOf = e.Kind + e.Detail
	n.mu.Unlock()
	if !same {
		n.add(e)
	}
	return !same
}

// again makes everything unsent: there is a new connection.
func (n *notices) again() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent, n.have = make(map[uint64]bool), nil
}

// sendAgain makes every event unsent.
func (n *notices) sendAgain() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent = make(map[uint64]bool)
}

// acknowledge reports whether ack was for an event in memory.
func (n *notices) acknowledge(ack protocol.Ack) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, e := range n.kept {
		if e.Seq == ack.Seq && e.Boot == ack.Boot {
			n.kept = append(n.kept[:i:i], n.kept[i+1:]...)
			return true
		}
	}
	return false
}

// unsent returns those of events, and of the ones in memory, that this
// connection has not carried.
func (n *notices) unsent(events []protocol.Event) []protocol.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sent == nil {
		return nil // the connection is not announced yet
	}
	var out []protocol.Event
	for _, e := range append(events, n.kept...) {
		if !n.sent[e.Seq] {
			out = append(out, e)
		}
	}
	return out
}

func (n *notices) markSent(seq uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sent != nil {
		n.sent[seq] = true
	}
}

// changedHave reports whether have differs from what this connection carried.
func (n *notices) changedHave(have []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !bytes.Equal(n.have, have)
}

func (n *notices) publishedHave(have []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.have = have
}

// publishChanges publishes what changed: the reported state, events, counters.
// What cannot be sent now is sent after the next connection is made.
func (a *Agent) publishChanges(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.changed:
		}
		for _, publish := range []func(context.Context) error{a.publishLocal, a.publishHave, a.publishEvents, a.publishUsage, a.publishHomeAssistant} {
			if err := publish(ctx); err != nil && !errors.Is(err, link.ErrDown) && ctx.Err() == nil {
				a.cfg.Log.Debug("publish", "err", err)
			}
		}
	}
}

func (a *Agent) publishHave(ctx context.Context) error {
	m := a.have()
	plain, err := m.AppendBinary(nil) // without the time: that alone is no change
	if err != nil {
		return err
	}
	if !a.link.Up() || !a.notices.changedHave(plain) {
		return nil
	}
	m.T = a.now()
	b, err := m.AppendBinary(nil)
	if err != nil {
		return err
	}
	msg := link.Message{Topic: protocol.HaveTopic(a.cfg.Fleet, a.cfg.Device), Payload: b, QoS: 1, Retained: true}
	if err := a.link.Publish(ctx, msg); err != nil {
		return err
	}
	a.notices.publishedHave(plain)
	return nil
}

func (a *Agent) publishEvents(ctx context.Context) error {
	if !a.link.Up() {
		return nil
	}
	pending, err := a.cache.Events()
	if err != nil {
		return err
	}
	var events []protocol.Event
	for _, p := range pending {
		var e protocol.Event
		if err := e.UnmarshalBinary(p.Data); err != nil {
			continue // written by another version; the ring forgets it
		}
		e.Seq = p.Seq
		events = append(events, e)
	}
	for _, e := range a.notices.unsent(events) {
		b, err := e.AppendBinary(nil)
		if err != nil {
			return err
		}
		if err := a.link.Publish(ctx, link.Message{Topic: protocol.EventTopic(a.cfg.Fleet, a.cfg.Device), Payload: b, QoS: 1}); err != nil {
			return err
		}
		a.notices.markSent(e.Seq)
	}
	return nil
}

func (a *Agent) publishUsage(ctx context.Context) error {
	if !a.link.Up() {
		return nil
	}
	for _, r := range a.usage.unsent() {
		if err := a.link.Publish(ctx, link.Message{Topic: protocol.UsageTopic(a.cfg.Fleet, a.cfg.Device), Payload: r.data}); err != nil {
			return err
		}
		a.usage.markSent(r)
	}
	return nil
}

// birth says what this device is.
func (a *Agent) birth() protocol.Birth {
	b := protocol.Birth{
		Format: protocol.Format, Boot: a.boot.Load(), Agent: a.cfg.Version, Kernel: kernel.Tier(),
		FreeBytes: a.free(), T: a.now(), Findings: a.network.list(),
	}
	b.OS, b.Arch = platform()
	keys, err := a.cache.Slots()
	if err != nil {
		a.cfg.Log.Warn("list cached versions", "err", err)
	}
	for _, k := range keys {
		if len(b.Cached) < protocol.MaxCached {
			b.Cached = append(b.Cached, k.Digest)
		}
	}
	return b
}

// have is the reported state, without the time.
func (a *Agent) have() protocol.Have { return a.snapshot.Load().have(a.boot.Load()) }

func (s *state) have(boot uint64) protocol.Have {
	m := protocol.Have{
		Format: protocol.Format, Boot: boot, Epoch: s.Epoch, Rev: s.Rev,
		Models: make(map[string]protocol.ModelHave, len(s.Models)),
	}
	for name, r := range s.Models {
		h := protocol.ModelHave{
			Version: r.Active.version(name), Active: r.Active.Digest, Previous: r.Previous.Digest, Phase: string(r.Phase),
		}
		if r.Phase == fetching {
			h.Candidate = r.Want.Digest
		}
		h.Failed, h.Shadow = r.Failed.report(), r.shadowHave(name)
		if h.Hold = string(r.Hold); r.keepsFromWant() && r.Phase != trying && !r.Want.Digest.IsZero() && r.Want.Digest != r.Active.Digest {
			h.Failed = &protocol.Failure{
				Digest: r.Want.Digest, Epoch: r.Want.Epoch, Rev: r.Want.Rev, Code: h.Hold, Message: "the device's owner keeps " + h.Version,
			}
		}
		m.Models[name] = h
	}
	return m
}
