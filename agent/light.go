package agent

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A Light is an agent without what makes one heavy, for simulated fleets of
// thousands. It takes the decisions of [step], verifies wants, releases and
// chunks, and says what an agent says, in the same order. It has no flash (its
// state survives a Start in memory), no goroutine, no clock (callers tell the
// time, which must not go back), and no kernel: what its model and its sensors
// would do comes from Acts. It answers no prediction requests.
//
// A Light is owned by one goroutine at a time.
type Light struct {
	cfg     LightConfig
	state   state
	events  []protocol.Event // not acknowledged, oldest first
	seq     uint64           // of the newest event
	notices notices
	usage   *usage
	fetches map[string]*lightFetch // by model
	timers  map[string]timer
	pair    Pair // being compared; zero: none is
	online  bool
	out     Out
}

// A LightConfig is all that a Light needs. Every field but Trial and Every is
// required.
type LightConfig struct {
	Fleet, Device string
	Version       string // of the agent, for the birth message
	Root          *artifact.Root
	Library       *Library
	Acts          Acts
	Trial         time.Duration // how long a new version is on trial; 0 takes 10 s
	Every         time.Duration // between two reports of counters; 0 takes a minute
}

// Acts is what a Light's clock, sensors and models do.
type Acts interface {
	// Clock is what the device's clock shows at now.
	Clock(now time.Time) time.Time
	// Try is how a trial of a version, NAME:vN, ends that begins now: nil is well.
	Try(version string, now time.Time) error
	// Compare returns the sums of p's errors since its comparison began; the fields
	// that name the pair are filled in by the Light.
	Compare(p Pair, now time.Time) protocol.Quality
	// Ran returns the predictions of a version since it was asked last, and how long
	// each took in the kernel.
	Ran(version string, now time.Time) (n int, took time.Duration)
}

// A Pair is two versions that are compared, under a stage's number and since a
// start. Shadow: the candidate runs beside the version that answers.
type Pair struct {
	Model  string
	Stage  uint32
	Boot   uint64
	A, B   protocol.Digest // in place, candidate
	Shadow bool
}

// An Out is what a Light wants sent: subscriptions at QoS 1, then messages.
type Out struct {
	Subscribe   []string
	Unsubscribe []string
	Publish     []link.Message
}

type timer struct {
	at time.Time
	do func(now time.Time)
}

// NewLight returns a device that was never started.
func NewLight(cfg LightConfig) (*Light, error) {
	if err := errors.Join(protocol.CheckFleet(cfg.Fleet), protocol.CheckID(cfg.Device)); err != nil {
		return nil, fmt.Errorf("light agent: %w", err)
	}
	if cfg.Root == nil || cfg.Library == nil || cfg.Acts == nil {
		return nil, errors.New("light agent: no root document, no library or no acts")
	}
	cfg.Trial = cmp.Or(cfg.Trial, 10*time.Second)
	cfg.Every = cmp.Or(cfg.Every, flushPeriod)
	return &Light{cfg: cfg, state: state{Fleet: cfg.Fleet, Device: cfg.Device}}, nil
}

// Start starts the process, again if it ran: what was in memory only is gone.
func (l *Light) Start(now time.Time) {
	l.online, l.out, l.pair = false, Out{}, Pair{}
	l.fetches, l.timers, l.notices = make(map[string]*lightFetch), make(map[string]timer), notices{}
	l.usage = newUsage()
	l.usage.boot = l.state.Boot + 1
	l.decide(now, event{kind: evStarted, boot: l.state.Boot + 1})
	l.after(now, "usage", l.cfg.Every, l.count)
}

// Will is what the broker says when the connection is lost.
func (l *Light) Will() link.Message { return l.up(protocol.Offline) }

func (l *Light) up(text string) link.Message {
	return link.Message{Topic: protocol.UpTopic(l.cfg.Fleet, l.cfg.Device), Payload: []byte(text), QoS: 1, Retained: true}
}

// Connected announces the device on a new connection.
func (l *Light) Connected(now time.Time) Out {
	l.usage.hold()
	l.online = true
	l.out.Subscribe = controlFilters(l.cfg.Fleet, l.cfg.Device)
	l.publish(l.up(protocol.Online))
	birth := protocol.Birth{
		Format: protocol.Format, Boot: l.state.Boot, Agent: l.cfg.Version, Kernel: kernel.Tier(), T: l.wall(now),
	}
	birth.OS, birth.Arch = platform()
	for s := range l.state.slots() {
		birth.Cached = append(birth.Cached, s.Digest)
	}
	l.say(protocol.BirthTopic(l.cfg.Fleet, l.cfg.Device), 1, true, birth)
	l.notices.again()
	l.usage.again()
	for _, name := range sortedKeys(l.fetches) {
		l.fetches[name].connected(l, now)
	}
	return l.announce(now)
}

// Lost says that the connection is gone.
func (l *Light) Lost() { l.online = false }

// Next returns when Advance is due.
func (l *Light) Next() time.Time {
	var next time.Time
	for _, t := range l.timers {
		if next.IsZero() || t.at.Before(next) {
			next = t.at
		}
	}
	return next
}

// Advance does what is due at now.
func (l *Light) Advance(now time.Time) Out {
	for _, key := range sortedKeys(l.timers) {
		if t := l.timers[key]; t.do != nil && !now.Before(t.at) {
			delete(l.timers, key)
			t.do(now)
		}
	}
	return l.announce(now)
}

// Receive takes a message from the broker.
func (l *Light) Receive(now time.Time, m link.Message) Out {
	t, err := protocol.ParseTopic(m.Topic)
	if err != nil || len(m.Payload) == 0 {
		return Out{}
	}
	switch t.Kind {
	case protocol.TopicWant:
		l.want(now, m.Payload)
	case protocol.TopicAck:
		l.acknowledge(m.Payload)
	case protocol.TopicState:
		var s protocol.State
		if !m.Retained && s.UnmarshalBinary(m.Payload) == nil && s.Online { // it came back
			l.notices.sendAgain()
			l.usage.again()
		}
	case protocol.TopicDescriptor, protocol.TopicChunk:
		for _, name := range sortedKeys(l.fetches) {
			if f := l.fetches[name]; f.asked[m.Topic] {
				f.received(l, now, m)
			}
		}
	}
	return l.announce(now)
}

// Active returns the version of a model that would answer, and the one beside it,
// NAME:vN or "" for none.
func (l *Light) Active(model string) (active, beside string) {
	r := l.state.Models[model]
	return r.Active.version(model), r.Beside.version(model)
}

// Trying reports whether the model's version is on trial.
func (l *Light) Trying(model string) bool { return l.state.Models[model].Phase == trying }

// Compared returns the pair that is being compared; zero: none is.
func (l *Light) Compared() Pair { return l.pair }

func (l *Light) want(now time.Time, envelope []byte) {
	w, err := l.cfg.Root.OpenWant(envelope)
	if err == nil && (w.Fleet != l.cfg.Fleet || w.Device != l.cfg.Device) {
		err = errForeign
	}
	if err != nil {
		l.notices.addOnce(l.event(now, effect{code: "want_refused", message: err.Error()}))
		return
	}
	l.decide(now, event{kind: evWanted, want: *w})
}

func (l *Light) acknowledge(payload []byte) {
	var ack protocol.Ack
	if ack.UnmarshalBinary(payload) != nil {
		return
	}
	if ack.Usage {
		l.usage.acknowledge(ack)
		return
	}
	if !l.notices.acknowledge(ack) {
		l.events = slices.DeleteFunc(l.events, func(e protocol.Event) bool { return e.Seq == ack.Seq && e.Boot == ack.Boot })
	}
}

// decide takes the decision and does what follows from it.
func (l *Light) decide(now time.Time, e event) {
	next, effects := step(l.state, e)
	if len(effects) == 0 && e.kind != evStarted {
		return
	}
	l.state = next
	for _, e := range effects {
		switch e.kind {
		case doTry:
			l.try(now, e)
		case doObtain, doShadow:
			l.obtain(now, e)
		case doAbort:
			l.abort(e.model)
		case doTell:
			l.seq++
			told := l.event(now, e)
			told.Seq = l.seq
			l.events = append(l.events, told)
		case doServe, doExport, doReport: // nothing is in memory or on flash; announce reports
		}
	}
	l.judge(now)
}

func (l *Light) event(now time.Time, e effect) protocol.Event {
	return protocol.Event{
		Boot: l.state.Boot, T: l.wall(now), Kind: e.code, Model: e.model, Digest: e.held.Digest, Detail: clip(e.message),
	}
}

func (l *Light) try(now time.Time, e effect) {
	end, after := event{kind: evLived, model: e.model, held: e.held}, l.cfg.Trial
	if err := l.cfg.Acts.Try(e.held.version(e.model), now); err != nil {
		end, after = broke(e.model, e.held, err), 0
	}
	l.after(now, "trial "+e.model, after, func(now time.Time) { l.decide(now, end) })
}

// judge begins, goes on with, or ends the comparison that the state asks for.
func (l *Light) judge(now time.Time) {
	var p Pair
	if j := l.state.Judge; j != nil {
		if key, shadow := l.state.pairOf(j.Model, l.clock(now)); key.pair() {
			p = Pair{Model: j.Model, Stage: key.stage, Boot: l.state.Boot, A: key.a, B: key.b, Shadow: shadow}
		}
	}
	was := l.pair
	l.pair = p
	switch {
	case p.Stage == 0:
		delete(l.timers, "quality")
	case was.Stage != p.Stage || was.B != p.B:
		l.after(now, "quality", every(*l.state.Judge), l.tellQuality)
	}
}

func (l *Light) tellQuality(now time.Time) {
	if l.judge(now); l.pair.Stage == 0 {
		return
	}
	p := l.pair
	q := l.cfg.Acts.Compare(p, now)
	q.Format, q.Stage, q.Boot = protocol.Format, p.Stage, uint32(p.Boot)
	q.A, q.B = [8]byte(p.A[:8]), [8]byte(p.B[:8])
	if p.Shadow {
		q.Flags |= protocol.QualityShadow
	}
	l.say(protocol.QualityTopic(l.cfg.Fleet, l.cfg.Device), 0, false, q)
	l.after(now, "quality", every(*l.state.Judge), l.tellQuality)
}

// count reports what was predicted since.
func (l *Light) count(now time.Time) {
	for name, r := range l.state.Models {
		for _, h := range []held{r.Active, r.Previous, r.Beside} {
			judged := l.pair.Model == name && (h.Digest == l.pair.A || h.Digest == l.pair.B)
			if h.none() || h.Digest != r.Active.Digest && !judged {
				continue
			}
			n, took := l.cfg.Acts.Ran(h.version(name), now)
			for range n {
				l.usage.ran(name, h.Digest, ranWell, took, judged)
			}
		}
	}
	_, _ = l.usage.record(l.cfg.Acts.Clock(now)) // within its limits: the models are this device's
	l.after(now, "usage", l.cfg.Every, l.count)
}

// announce publishes what changed, and hands out all that is to be sent.
func (l *Light) announce(now time.Time) Out {
	out := l.out
	l.out = Out{}
	if !l.online {
		return Out{}
	}
	l.out = out
	have := l.state.have(l.state.Boot)
	if plain, err := have.AppendBinary(nil); err == nil && l.notices.changedHave(plain) {
		have.T = l.wall(now)
		l.say(protocol.HaveTopic(l.cfg.Fleet, l.cfg.Device), 1, true, have)
		l.notices.publishedHave(plain)
	}
	for _, e := range l.notices.unsent(l.events[:len(l.events):len(l.events)]) {
		l.say(protocol.EventTopic(l.cfg.Fleet, l.cfg.Device), 1, false, e)
		l.notices.markSent(e.Seq)
	}
	for _, r := range l.usage.unsent() {
		l.publish(link.Message{Topic: protocol.UsageTopic(l.cfg.Fleet, l.cfg.Device), Payload: r.data})
		l.usage.markSent(r)
	}
	out = l.out
	l.out = Out{}
	return out
}

func (l *Light) publish(m link.Message) { l.out.Publish = append(l.out.Publish, m) }

// say publishes a message of the protocol. One that cannot be encoded is not
// sent; an agent logs that.
func (l *Light) say(topic string, qos byte, retained bool, m interface {
	AppendBinary([]byte) ([]byte, error)
}) {
	if b, err := m.AppendBinary(nil); err == nil {
		l.publish(link.Message{Topic: topic, Payload: b, QoS: qos, Retained: retained})
	}
}

func (l *Light) wall(now time.Time) int64 { return max(0, l.cfg.Acts.Clock(now).UnixMilli()) }

// clock is the device's, but never before a time that came signed.
func (l *Light) clock(now time.Time) time.Time {
	t := l.cfg.Acts.Clock(now)
	if trusted := time.UnixMilli(l.state.Time); t.Before(trusted) {
		return trusted
	}
	return t
}

func (l *Light) after(now time.Time, key string, d time.Duration, do func(now time.Time)) {
	l.timers[key] = timer{now.Add(d), do}
}

// A lightFetch is one download under way, at most chunksInFlight chunks at a
// time, each checked against its digest.
type lightFetch struct {
	slot
	want         wanted
	shadow       bool
	ref          protocol.TransferRef
	announcement *artifact.Announcement
	release      *artifact.Release
	chunks       [][]byte
	asked        map[string]bool // topics that are subscribed to
	bytes, bad   int
}

// obtain finds e.want: in the cache, else over the link.
func (l *Light) obtain(now time.Time, e effect) {
	if f := l.fetches[e.model]; f != nil && f.want.Digest == e.want.Digest && f.shadow == (e.kind == doShadow) &&
		slices.EqualFunc(f.want.Transfers, e.want.Transfers, func(x, y protocol.TransferRef) bool { return x.Hash == y.Hash }) &&
		f.want.Schedule.equal(e.want.Schedule) {
		return
	}
	l.abort(e.model)
	f := &lightFetch{slot: slot{e.model, e.want.Digest}, want: e.want, shadow: e.kind == doShadow, asked: make(map[string]bool)}
	l.fetches[e.model] = f
	r := l.state.Models[e.model]
	for _, h := range []held{r.Active, r.Previous, r.Older, r.Beside} {
		if h.Digest == e.want.Digest {
			f.ready(l, now, h, "from the cache")
			return
		}
	}
	for _, ref := range e.want.Transfers { // the smallest that can be used
		usable := ref.Base == nil || l.state.slots()[slot{e.model, *ref.Base}]
		if usable && (f.ref.Hash == "" || ref.Size < f.ref.Size) {
			f.ref = ref
		}
	}
	if f.ref.Hash == "" {
		f.refuse(l, now, fmt.Errorf("%w: %d offered", errTransfer, len(e.want.Transfers)))
		return
	}
	if wait := jitter(l.cfg.Device, e.want.Rev, e.want.JitterS); wait > 0 {
		l.after(now, f.key(), wait, func(now time.Time) { f.ask(l, now) })
		return
	}
	f.ask(l, now)
}

func (f *lightFetch) key() string { return "fetch " + f.Model }

func (l *Light) abort(model string) {
	if f := l.fetches[model]; f != nil {
		l.out.Unsubscribe = append(l.out.Unsubscribe, sortedKeys(f.asked)...)
		delete(l.fetches, model)
		delete(l.timers, f.key())
	}
}

// connected asks again for what was under way on the connection before.
func (f *lightFetch) connected(l *Light, now time.Time) {
	if len(f.asked) > 0 {
		clear(f.asked)
		f.ask(l, now)
	}
}

// ask subscribes to what is missing, and does so again when nothing comes.
func (f *lightFetch) ask(l *Light, now time.Time) {
	var topics []string
	if f.announcement == nil {
		topics = []string{protocol.DescriptorTopic(l.cfg.Fleet, f.ref.Hash)}
	}
	for n := 0; n < len(f.chunks) && len(topics) < chunksInFlight; n++ {
		if f.chunks[n] == nil {
			topics = append(topics, protocol.ChunkTopic(l.cfg.Fleet, f.ref.Hash, n))
		}
	}
	for _, t := range topics {
		if !f.asked[t] {
			f.asked[t] = true
			l.out.Subscribe = append(l.out.Subscribe, t)
		}
	}
	l.after(now, f.key(), chunkTimeout, func(now time.Time) {
		l.out.Unsubscribe = append(l.out.Unsubscribe, sortedKeys(f.asked)...)
		clear(f.asked)
		l.after(now, f.key(), retryMin, func(now time.Time) { f.ask(l, now) })
	})
}

func (f *lightFetch) received(l *Light, now time.Time, m link.Message) {
	delete(f.asked, m.Topic)
	l.out.Unsubscribe = append(l.out.Unsubscribe, m.Topic)
	f.bytes += len(m.Payload)
	var err error
	if f.announcement == nil {
		err = f.describe(l, m.Payload)
	} else {
		err = f.chunk(l, m)
	}
	switch {
	case err != nil:
		f.refuse(l, now, err)
	case slices.ContainsFunc(f.chunks, func(b []byte) bool { return b == nil }):
		f.ask(l, now)
	default:
		if err := l.cfg.Library.open(f); err != nil {
			f.refuse(l, now, err)
			return
		}
		h := held{Digest: f.release.Digest, Number: f.release.Version, Floor: f.release.Floor}
		f.ready(l, now, h, received{f.ref.Kind, f.bytes}.String())
	}
}

// describe takes the descriptor with the release, and verifies both.
func (f *lightFetch) describe(l *Light, b []byte) error {
	var m artifact.Announcement
	if err := m.UnmarshalBinary(b); err != nil {
		return err
	}
	if hash := m.Descriptor.Hash(); hash != f.ref.Hash {
		return fmt.Errorf("%w: descriptor of %s on the topic of %s", artifact.ErrCorrupt, hash, f.ref.Hash)
	}
	policy := artifact.Policy{
		Root: l.cfg.Root, Fleet: l.cfg.Fleet, ABI: kernel.ABI, Name: f.Model, Expected: f.Digest,
		Floor: l.state.Models[f.Model].Floor, Now: l.state.Time,
	}
	r, err := policy.Release(m.Release, &m.Descriptor)
	if err != nil {
		return err
	}
	f.announcement, f.release = &m, r
	f.chunks = make([][]byte, len(m.Descriptor.Chunks))
	for n := range f.chunks {
		if len(m.Inline) == 0 {
			return nil
		}
		t := artifact.Transfer{Payload: m.Inline}
		if f.chunks[n] = t.Chunk(n); f.chunks[n] == nil {
			return fmt.Errorf("payload: %w", artifact.ErrTruncated)
		}
		if err := m.Descriptor.CheckChunk(n, f.chunks[n]); err != nil {
			return err
		}
	}
	return nil
}

// chunk keeps a chunk that is what the descriptor says; one that is not is asked
// for again, a few times.
func (f *lightFetch) chunk(l *Light, m link.Message) error {
	t, err := protocol.ParseTopic(m.Topic)
	if err != nil {
		return err
	}
	if err := f.announcement.Descriptor.CheckChunk(t.N, m.Payload); err != nil {
		if f.bad++; f.bad >= badChunks {
			return err
		}
		return nil
	}
	f.chunks[t.N] = m.Payload
	return nil
}

// ready reports the version verified, once it may be activated.
func (f *lightFetch) ready(l *Light, now time.Time, h held, how string) {
	if !f.shadow {
		switch open, err := f.want.Schedule.open(l.clock(now)); {
		case err != nil:
			f.refuse(l, now, err)
			return
		case !open:
			l.after(now, f.key(), scheduleCheck, func(now time.Time) { f.ready(l, now, h, how) })
			return
		}
	}
	kind := evReady
	if f.shadow {
		kind = evShadowReady
	}
	l.abort(f.Model)
	l.decide(now, event{kind: kind, model: f.Model, held: h, message: how})
}

func (f *lightFetch) refuse(l *Light, now time.Time, err error) {
	kind := evRefused
	if f.shadow {
		kind = evShadowRefused
	}
	l.abort(f.Model)
	l.decide(now, event{kind: kind, model: f.Model, held: held{Digest: f.Digest}, code: code(err), message: clip(err.Error())})
}

// A Library holds the models that the Lights of a process have decoded. Chunks
// with the digests of a descriptor decode to the same model everywhere, so each
// transfer is decoded, and its golden vectors computed, once. It is safe for
// concurrent use.
type Library struct {
	mu     sync.Mutex // guards what follows
	opened map[string]*libraryEntry
	models map[protocol.Digest]*artifact.Model
}

type libraryEntry struct {
	once sync.Once
	err  error
}

// NewLibrary returns an empty one.
func NewLibrary() *Library {
	return &Library{opened: make(map[string]*libraryEntry), models: make(map[protocol.Digest]*artifact.Model)}
}

// open verifies what f fetched, from the descriptor to the golden vectors.
func (b *Library) open(f *lightFetch) error {
	b.mu.Lock()
	e := b.opened[f.ref.Hash]
	if e == nil {
		e = new(libraryEntry)
		b.opened[f.ref.Hash] = e
	}
	b.mu.Unlock()
	e.once.Do(func() { e.err = b.decode(f) })
	return e.err
}

func (b *Library) decode(f *lightFetch) error {
	d := f.announcement.Descriptor
	var base *artifact.Model
	if d.Base != nil {
		b.mu.Lock()
		base = b.models[*d.Base]
		b.mu.Unlock()
	}
	m, err := artifact.Unpack(d, slices.Concat(f.chunks...), base, f.release)
	if err != nil {
		return err
	}
	p, err := predictor.Open(m)
	if err != nil {
		return err
	}
	if err := p.Check(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.models[d.Digest] = m
	return nil
}
