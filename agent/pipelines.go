package agent

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/agent/pipeline"
	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

const (
	// pipelineUser is who a pipeline's predictions are counted for.
	pipelineUser = "pipeline"
	// valuesWaiting bounds the messages that wait for the pipelines; one more is
	// dropped and counted, the next value comes soon.
	valuesWaiting = 1024
	// outputsWaiting bounds the predictions that wait to be sent or kept; one more
	// is dropped.
	outputsWaiting = 256
	// savePerMinute is how many bytes of stream states are written a minute on
	// average: 24 MB a day. Few streams are saved each minute, 1,000 less often.
	savePerMinute = 16 << 10
)

// pipelines feed the models that say how, one goroutine for all of them.
type pipelines struct {
	agent           *Agent
	inbox           chan link.Message
	outbox          chan outbound
	kept            keptOutputs
	lost            atomic.Uint64 // outputs that upstream is not told
	online          chan struct{} // there is a connection; capacity 1
	overheard       chan overheard
	overheardValues atomic.Int64                       // inputs that wait there
	listening       atomic.Pointer[map[string]*judged] // by model, whose requests are compared
	connected       atomic.Uint64                      // counts connections: subscriptions end with each
	dropped         atomic.Uint64                      // messages that found the inbox full
	status          atomic.Pointer[map[string]feedStatus]
	filters         atomic.Pointer[[]string] // foreign topics that are read

	// Owned by run, and by Run when that has ended.
	began     time.Time
	feeds     map[string]*running
	saved     map[string][]byte // what the start before this one left
	nextSave  time.Time
	savedSum  [32]byte // of what was written last
	savedKept bool     // outputs that wait are in it
	carried   []string // filters of the connection that carriedBy counts
	carriedBy uint64
	refused   string // the filters that the broker refused, in words
}

// A running is one model's pipeline, if it has one, and what it is compared in.
type running struct {
	*served
	feed      *pipeline.Feed // nil: it has none
	next      time.Duration  // of the next row, since pipelines.began
	tick      uint64         // periods so far: the number of the next row
	judged    *judged
	ended     *judged // the pair before that
	labelled  bool    // a label came
	unmatched uint64  // labels that no output waited for
	problem   string  // the last payload or prediction that was of no use
}

// A feedStatus is what the status says of a running.
type feedStatus struct {
	pipeline  *PipelineStatus
	unmatched uint64
}

// A PipelineStatus is what a pipeline says about itself.
type PipelineStatus struct {
	Streams int    `json:"streams"`
	Refused string `json:"refused,omitempty"` // subscriptions that the broker refuses
	Problem string `json:"problem,omitempty"` // the last value that could not be used
	Dropped uint64 `json:"dropped,omitempty"` // messages of all pipelines that came too fast
	Lost    uint64 `json:"lost,omitempty"`    // outputs of all pipelines that gave way to others, unsent
}

func newPipelines(a *Agent) *pipelines {
	return &pipelines{
		agent: a, inbox: make(chan link.Message, valuesWaiting), outbox: make(chan outbound, outputsWaiting), online: make(chan struct{}, 1),
		overheard: make(chan overheard, overheardWaiting),
		feeds:     make(map[string]*running),
	}
}

// offer takes a message that may have a value; it does not block.
func (p *pipelines) offer(m link.Message) {
	select {
	case p.inbox <- m:
	default:
		p.dropped.Add(1)
	}
}

func (p *pipelines) start(ctx context.Context, g *errgroup.Group) {
	p.began = time.Now()
	p.nextSave = p.began.Add(flushPeriod)
	b, err := p.agent.files.Streams()
	if err == nil {
		p.saved, err = splitSaved(b)
	}
	if err != nil {
		p.agent.cfg.Log.Warn("states of streams are lost; they warm up again", "err", err)
	}
	p.savedKept = len(p.saved[keptName]) > 0
	if err := p.kept.unmarshal(p.saved[keptName]); err != nil {
		p.agent.cfg.Log.Warn("outputs that waited are lost", "err", err)
	}
	g.Go(func() error { return p.run(ctx) })
	g.Go(func() error { return p.send(ctx) })
}

func (p *pipelines) now() time.Duration { return time.Since(p.began) }

// run owns the feeds.
func (p *pipelines) run(ctx context.Context) error {
	p.follow(ctx)
	for {
		var tick <-chan time.Time
		var timer *time.Timer
		if next, ok := p.next(); ok {
			timer = time.NewTimer(next - p.now())
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case m := <-p.inbox:
			p.receive(m)
		case o := <-p.overheard:
			p.weigh(o)
		case <-p.agent.models.changed:
			p.follow(ctx)
		case <-tick:
			p.tick()
		}
		if timer != nil {
			timer.Stop()
		}
		p.report()
		if now := time.Now(); len(p.feeds) > 0 && now.After(p.nextSave) {
			p.save(now)
		}
	}
}

// next is when the next row, or report, is due.
func (p *pipelines) next() (next time.Duration, any bool) {
	due := func(at time.Duration) {
		if !any || at < next {
			next, any = at, true
		}
	}
	for _, r := range p.feeds {
		if r.feed != nil {
			due(r.next)
		}
		if r.judged != nil && r.judged.pair() {
			due(r.judged.next)
		}
	}
	return next, any
}

// follow makes the feeds those of the versions that answer, and subscribes.
func (p *pipelines) follow(ctx context.Context) {
	var all map[string]*served
	if m := p.agent.models.all.Load(); m != nil {
		all = *m
	}
	for name := range p.feeds {
		if all[name] == nil {
			delete(p.feeds, name)
		}
	}
	for name, s := range all {
		r := p.feeds[name]
		switch {
		case r != nil && r.served == s:
		case r != nil && r.feed != nil && r.feed.Swap(s.predictor):
			r.served, r.problem = s, ""
		default:
			if r == nil {
				r = &running{}
				p.feeds[name] = r
			}
			p.begin(r, s)
		}
	}
	for _, r := range p.feeds {
		p.judge(r)
	}
	p.subscribe(ctx)
}

// begin makes the feed of s that of r, with the streams that were saved of it.
func (p *pipelines) begin(r *running, s *served) {
	r.served, r.feed, r.problem = s, nil, ""
	if s.predictor.Pipeline() != nil {
		r.feed = pipeline.New(s.predictor, p.agent.cfg.Device)
		r.feed.Seen = func(row []float32) { p.agent.usage.inputs.count(s, row) }
	}
	if r.judged != nil {
		r.waitFed()
	}
	if r.feed == nil {
		return
	}
	r.next = p.now() + r.feed.Period()
	if b := p.saved[s.name]; b != nil {
		delete(p.saved, s.name)
		if err := r.feed.Restore(b, s.Digest, p.now(), time.Now()); err != nil {
			p.agent.cfg.Log.Info("states of streams not taken over; they warm up", "model", s.name, "err", err)
		}
	}
}

// subscribe asks the broker for what the feeds read, once a connection.
func (p *pipelines) subscribe(ctx context.Context) {
	a := p.agent
	var filters []string
	for _, name := range sortedKeys(p.feeds) {
		if p.feeds[name].feed == nil {
			continue
		}
		topics, samples := p.feeds[name].feed.Topics()
		if samples {
			topics = append(topics, protocol.SampleTopic(a.cfg.Fleet, a.cfg.Device, "+"))
		}
		for _, t := range topics {
			if !slices.Contains(filters, t) {
				filters = append(filters, t)
			}
		}
	}
	p.filters.Store(&filters)
	count := p.connected.Load()
	if count == p.carriedBy && slices.Equal(filters, p.carried) || !a.link.Up() {
		return
	}
	if count == p.carriedBy {
		a.link.Forget(slices.DeleteFunc(slices.Clone(p.carried), func(f string) bool { return slices.Contains(filters, f) })...)
	}
	err := a.link.Subscribe(ctx, 0, filters...)
	if err != nil && !errors.Is(err, link.ErrRefused) {
		return // the next connection asks again
	}
	p.carried, p.carriedBy = filters, count
	refused := ""
	if err != nil {
		refused = clip(err.Error())
	}
	if refused != "" && refused != p.refused {
		a.cfg.Log.Error("a pipeline gets no values", "err", err)
		a.notices.add(a.notice("pipeline", "", protocol.Digest{}, refused))
		a.announce()
	}
	p.refused = refused
}

// receive takes the values of one message.
func (p *pipelines) receive(m link.Message) {
	t, err := protocol.ParseTopic(m.Topic)
	if err == nil && t.Kind == protocol.TopicTruth {
		if r := p.feeds[t.Model]; r != nil {
			if err := p.label(r, m.Payload); err != nil {
				r.problem = clip(fmt.Sprintf("%.80s: %v", m.Topic, err))
			}
		}
		return
	}
	var sample protocol.Sample
	var sampleErr error
	if err == nil {
		sampleErr = sample.UnmarshalBinary(m.Payload)
	}
	for _, r := range p.feeds {
		if r.feed == nil {
			continue
		}
		problem := sampleErr
		switch {
		case err != nil:
			_, problem = r.feed.Receive(m.Topic, m.Payload, p.now())
		case sampleErr == nil:
			problem = r.feed.Sample(t.Stream, sample, p.now())
		}
		if problem != nil {
			r.problem = clip(fmt.Sprintf("%.80s: %v", m.Topic, problem))
		}
	}
}

// tick makes the rows that are due, publishes what is told, and reports.
func (p *pipelines) tick() {
	now := p.now()
	for _, name := range sortedKeys(p.feeds) {
		r := p.feeds[name]
		if r.feed != nil && r.next <= now {
			p.row(r, now)
		}
		p.tellQuality(r, now)
	}
}

// row makes the rows of all streams of r that are due.
func (p *pipelines) row(r *running, now time.Duration) {
	for r.next <= now { // rows that were missed are gaps
		r.next += r.feed.Period()
		r.tick++
	}
	wall := time.Now()
	for _, result := range r.feed.Tick(now, wall) {
		p.settle(r, result, wall.UnixMilli())
		if r.judged != nil {
			p.compare(r, result, wall.UnixMilli(), now)
		}
	}
}

// settle counts and publishes one result.
func (p *pipelines) settle(r *running, result pipeline.Result, wall int64) {
	a, y := p.agent, result.Y[0]
	err := result.Err[0]
	if y != nil {
		if a.cfg.Tamper != nil {
			a.cfg.Tamper(r.name, r.Digest, y)
		}
		err = finite(y)
	}
	if err != nil {
		r.problem = clip(fmt.Sprintf("stream %s: %s", result.Stream, err))
		a.usage.count(r.name, pipelineUser, refused, 0)
		a.usage.ran(r.name, r.Digest, verdictOf(err), 0, false)
		if errors.Is(err, errOutput) {
			_ = a.predictError(r.served, err) // it ends a trial, and logs
		}
		return
	}
	if y == nil {
		return
	}
	a.usage.count(r.name, pipelineUser, answered, 0)
	a.usage.ran(r.name, r.Digest, ranWell, result.Took[0], r.judged != nil && r.judged.pair())
	if !result.Tell {
		return
	}
	m := protocol.Output{Stream: result.Stream, T: max(0, wall), Version: r.label, Y: y}
	if r.feed.HasAlarm() {
		m.Alarm = &result.Alarm
	} else if anomaly, ok := r.predictor.Anomaly(y); ok {
		m.Alarm = &anomaly
	}
	b, err := m.AppendJSON(nil)
	if err != nil {
		r.problem = clip(err.Error())
		return
	}
	topic := r.feed.OutputTopic(a.cfg.Device, result.Stream)
	if topic == "" {
		topic = protocol.SimpleOutputTopic(a.cfg.Fleet, a.cfg.Device, r.name)
	}
	p.publish(outbound{Message: link.Message{Topic: topic, Payload: b}, urgent: m.Alarm != nil && (*m.Alarm || r.feed.HasAlarm())})
}

// publish hands o to send, or drops it.
func (p *pipelines) publish(o outbound) {
	select {
	case p.outbox <- o:
	default: // the connection takes nothing
		p.lost.Add(1)
	}
}

// reads reports whether a pipeline reads topic, which is not one of sp1.
func (p *pipelines) reads(topic string) bool {
	filters := p.filters.Load()
	return filters != nil && slices.ContainsFunc(*filters, func(f string) bool { return packet.Match(f, topic) })
}

// send publishes outputs, to the clients beside the device too. What cannot be
// sent now waits for the next connection.
func (p *pipelines) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.online:
			p.tellKept(ctx)
		case o := <-p.outbox:
			if local := p.agent.local; local != nil {
				local.Publish(packet.Message{Topic: o.Topic, Payload: o.Payload})
			}
			p.tell(ctx, o)
		}
	}
}

// report makes the status anew.
func (p *pipelines) report() {
	all := make(map[string]feedStatus, len(p.feeds))
	for name, r := range p.feeds {
		s := feedStatus{unmatched: r.unmatched}
		if r.feed != nil {
			s.pipeline = &PipelineStatus{Streams: r.feed.Streams(), Refused: p.refused, Problem: r.problem, Dropped: p.dropped.Load(), Lost: p.lost.Load()}
		}
		all[name] = s
	}
	p.status.Store(&all)
}

// keptName is where outputs that wait are saved: no model has it.
const keptName = ""

// save writes the states of all streams, and the outputs that wait.
func (p *pipelines) save(now time.Time) {
	var b []byte
	fed := false
	for _, name := range sortedKeys(p.feeds) {
		r := p.feeds[name]
		if r.feed == nil {
			continue
		}
		fed = true
		part, err := r.feed.AppendBinary(nil, r.Digest, p.now(), now)
		if err != nil {
			p.agent.cfg.Log.Warn("streams not saved", "model", name, "err", err)
			continue
		}
		if len(b)+len(part)+64 > store.MaxStreams {
			break // what is left out warms up again
		}
		b = append(append(b, byte(len(name))), name...)
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	before := len(b)
	if kept := p.kept.appendBinary(nil); len(kept) > 0 && len(b)+len(kept)+64 <= store.MaxStreams {
		b = append(b, byte(len(keptName)))
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(kept))), kept...)
	}
	if kept, had := len(b) > before, p.savedKept; kept || had {
		fed, p.savedKept = true, kept
	}
	p.nextSave = now.Add(max(flushPeriod, time.Duration(len(b)/savePerMinute)*time.Minute))
	sum := sha256.Sum256(b)
	if !fed || sum == p.savedSum {
		return
	}
	p.savedSum = sum
	if err := p.agent.files.SaveStreams(b); err != nil && !errors.Is(err, store.ErrReadOnly) {
		p.agent.cfg.Log.Warn("streams not saved; after a restart they warm up", "err", err)
	}
}

// splitSaved takes apart what save wrote: for each model the length of its name
// in one byte, the name, the length of its part in four, little-endian, and the
// part.
func splitSaved(b []byte) (map[string][]byte, error) {
	out := make(map[string][]byte)
	for len(b) > 0 {
		n := 1 + int(b[0])
		if len(b) < n+4 {
			return nil, errors.New("streams: ends early")
		}
		name, size := string(b[1:n]), binary.LittleEndian.Uint32(b[n:])
		if b = b[n+4:]; uint64(size) > uint64(len(b)) {
			return nil, errors.New("streams: ends early")
		}
		out[name], b = b[:size], b[size:]
	}
	return out, nil
}
