package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// acts is a device whose trials of the versions in breaks fail.
type acts struct {
	breaks map[string]error
	clock  time.Duration // by which its clock is wrong
	pairs  uint32
}

func (a *acts) Clock(now time.Time) time.Time              { return now.Add(a.clock) }
func (a *acts) Try(v string, _ time.Time) error            { return a.breaks[v] }
func (a *acts) Ran(string, time.Time) (int, time.Duration) { return 1, 3 * time.Millisecond }
func (a *acts) Compare(Pair, time.Time) protocol.Quality {
	a.pairs++
	return protocol.Quality{Pairs: a.pairs, SumA: float64(a.pairs), SumB: 1.2 * float64(a.pairs)}
}

// A bench is a Light on a broker that holds what is retained.
type bench struct {
	*Light
	t        *testing.T
	acts     *acts
	retained map[string][]byte
	damaged  map[string][]byte // what comes in its place, once
	said     []link.Message
	fetched  int // topics of transfers that were subscribed to
}

func newBench(t *testing.T, w *world) *bench {
	root, err := artifact.OpenRoot(w.root)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, acts: &acts{breaks: map[string]error{}}, retained: map[string][]byte{}, damaged: map[string][]byte{}}
	b.Light, err = NewLight(LightConfig{Fleet: "f", Device: "d1", Version: "test", Root: root, Library: NewLibrary(), Acts: b.acts})
	if err != nil {
		t.Fatal(err)
	}
	b.Start(time.Now())
	return b
}

// carry does what the broker does.
func (b *bench) carry(o Out) {
	b.said = append(b.said, o.Publish...)
	for _, topic := range o.Subscribe {
		if strings.Contains(topic, "/b/") {
			b.fetched++
		}
		p := b.retained[topic]
		if bad := b.damaged[topic]; bad != nil {
			p = bad
			delete(b.damaged, topic)
		}
		if p != nil {
			b.carry(b.Receive(time.Now(), link.Message{Topic: topic, Payload: p, Retained: true}))
		}
	}
}

// put retains a message, and delivers it if the device is connected.
func (b *bench) put(topic string, payload []byte) {
	b.retained[topic] = payload
	if !strings.Contains(topic, "/b/") && b.online {
		b.carry(b.Receive(time.Now(), link.Message{Topic: topic, Payload: payload}))
	}
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	for end := time.Now().Add(d); ; {
		next := b.Next()
		if next.IsZero() || next.After(end) {
			time.Sleep(time.Until(end))
			return
		}
		time.Sleep(time.Until(next))
		b.carry(b.Advance(time.Now()))
	}
}

// told returns what was said on a topic.
func (b *bench) told(topic string) (out [][]byte) {
	for _, m := range b.said {
		if m.Topic == topic {
			out = append(out, m.Payload)
		}
	}
	return out
}

// offer publishes v and wants it, of the agent in w and of b.
func (b *bench) offer(w *world, v version, change ...func(*protocol.Want)) {
	b.t.Helper()
	want := w.want(v)
	for _, f := range change {
		f(&want)
	}
	b.publish(w, v)
	envelope := w.sign(artifact.RoleRollout, artifact.TypeWant, want)
	w.retain(protocol.WantTopic("f", "d1"), envelope)
	b.put(protocol.WantTopic("f", "d1"), envelope)
}

// publish retains the transfer of v, for both.
func (b *bench) publish(w *world, v version) {
	b.t.Helper()
	w.publish(v)
	b.put(protocol.DescriptorTopic("f", v.hash()), w.encode(artifact.Announce(v.envelope, v.transfer)))
	for n := range v.transfer.Chunks {
		b.put(protocol.ChunkTopic("f", v.hash(), n), v.transfer.Chunk(n))
	}
}

// report is the last state, without its time, and all events.
func report(t *testing.T, haves, events [][]byte) string {
	t.Helper()
	var h protocol.Have
	if err := h.UnmarshalBinary(haves[len(haves)-1]); err != nil {
		t.Fatal(err)
	}
	h.T = 0
	plain, err := h.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{string(plain)}
	for _, data := range events {
		var e protocol.Event
		if err := e.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d %s %s %s %s", e.Seq, e.Kind, e.Model, e.Digest.Short(), e.Detail))
	}
	return strings.Join(out, "\n")
}

// TestLightSaysWhatAnAgentSays: both get the same messages, and report the same
// states and events.
func TestLightSaysWhatAnAgentSays(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		d := w.start(t.TempDir())
		b := newBench(t, w)
		b.carry(b.Connected(time.Now()))
		same := func(what string) {
			t.Helper()
			settle()
			agent := report(t, w.published(protocol.HaveTopic("f", "d1")), w.published(protocol.EventTopic("f", "d1")))
			light := report(t, b.told(protocol.HaveTopic("f", "d1")), b.told(protocol.EventTopic("f", "d1")))
			if agent != light {
				t.Fatalf("%s: the agent says\n%s\nthe light one\n%s", what, agent, light)
			}
		}
		one, two, three := w.version(1), w.version(2), w.version(3, func(r *artifact.Release) { r.Fleet = "g" })
		same("nothing wanted")
		b.offer(w, one)
		same("on trial")
		b.pass(trialTime)
		same("in place")
		b.publish(w, two)
		b.offer(w, one, func(m *protocol.Want) {
			s := protocol.WantedVersion{Digest: two.digest(), Transfers: []protocol.TransferRef{{Hash: two.hash(), Kind: protocol.KindFull, Size: two.transfer.Size}}}
			m.Models["pump"] = protocol.ModelWant{Active: m.Models["pump"].Active, Shadow: &s}
		})
		same("a shadow")
		b.offer(w, two)
		b.pass(trialTime)
		same("the next version")
		b.offer(w, one)
		b.pass(trialTime)
		same("back")
		b.offer(w, three)
		b.pass(trialTime)
		same("refused")
		d.stop()
	})
}

// TestLightGoesBack: a version that fails its trial, and one that crashes.
func TestLightGoesBack(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		b := newBench(t, w)
		b.carry(b.Connected(time.Now()))
		b.offer(w, w.version(1))
		b.pass(trialTime)
		b.acts.breaks["pump:v2"] = fmt.Errorf("vector 3: %w", predictor.ErrGolden)
		b.offer(w, w.version(2))
		b.pass(time.Second)
		if active, _ := b.Active("pump"); active != "pump:v1" || b.state.Models["pump"].Failed.Code != "golden" {
			t.Errorf("%s after a failed trial, failure %+v", active, b.state.Models["pump"].Failed)
		}
		b.offer(w, w.version(4))
		for range trialStarts {
			if !b.Trying("pump") {
				t.Fatal("not on trial")
			}
			b.Start(time.Now())
			b.carry(b.Connected(time.Now()))
		}
		if active, _ := b.Active("pump"); active != "pump:v1" || b.state.Models["pump"].Failed.Code != "crash" {
			t.Errorf("%s after a crash loop, failure %+v", active, b.state.Models["pump"].Failed)
		}
		fetched := b.fetched
		b.offer(w, w.version(1))
		if b.fetched != fetched {
			t.Error("a rollback fetched something")
		}
	})
}

// TestLightFetchesAnew: lost connections, starts and damaged chunks cost time only.
func TestLightFetchesAnew(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		b := newBench(t, w)
		b.carry(b.Connected(time.Now()))
		v := w.version(1)
		b.offer(w, v, func(m *protocol.Want) { m.JitterS = 30 })
		if len(b.fetches) != 1 || b.fetched != 0 {
			t.Fatalf("%d topics fetched before the device's turn", b.fetched)
		}
		last := protocol.ChunkTopic("f", v.hash(), len(v.transfer.Chunks)-1)
		good := b.retained[last]
		delete(b.retained, last)
		b.pass(40 * time.Second)
		if b.Trying("pump") || b.fetched != 1+len(v.transfer.Chunks) {
			t.Fatalf("%d topics fetched without the last chunk", b.fetched)
		}
		b.Lost()
		b.pass(chunkTimeout + retryMin + time.Second)
		damaged := slices.Clone(good)
		damaged[7] ^= 1
		b.damaged[last] = damaged
		b.retained[last] = good
		b.carry(b.Connected(time.Now()))
		b.pass(time.Minute)
		if active, _ := b.Active("pump"); active != "pump:v1" {
			t.Errorf("%q is in place, want pump:v1", active)
		}
	})
}

// TestLightIsJudged: pairs every so often, of the shadow and then of what it
// replaced, under one number; counters every minute until they are acknowledged.
func TestLightIsJudged(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		b := newBench(t, w)
		b.carry(b.Connected(time.Now()))
		one, two := w.version(1), w.version(2)
		b.offer(w, one)
		b.pass(trialTime)
		judge := func(m *protocol.Want) {
			m.Judge = &protocol.Judge{Stage: 65, Model: "pump", EveryS: 20, Until: time.Now().Add(time.Hour).UnixMilli()}
		}
		b.offer(w, two) // its transfer is there
		b.pass(trialTime)
		b.offer(w, two, judge)
		b.pass(61 * time.Second)
		reports := b.told(protocol.QualityTopic("f", "d1"))
		var q protocol.Quality
		if len(reports) != 3 || q.UnmarshalBinary(reports[2]) != nil {
			t.Fatalf("%d reports in a minute", len(reports))
		}
		first, second := one.digest(), two.digest()
		if q.Stage != 65 || q.Boot != 1 || q.Flags != 0 || q.A != [8]byte(first[:8]) || q.B != [8]byte(second[:8]) || q.Pairs != 3 {
			t.Errorf("report %+v", q)
		}
		var u protocol.Usage
		usage := b.told(protocol.UsageTopic("f", "d1"))
		if len(usage) == 0 || u.UnmarshalBinary(usage[len(usage)-1]) != nil || len(u.Versions) != 2 {
			t.Fatalf("counters %+v", u)
		}
		n := len(usage)
		b.put(protocol.AckTopic("f", "d1"), w.encode(protocol.Ack{Boot: u.Boot, Seq: u.Seq, Usage: true}))
		b.carry(b.Connected(time.Now()))
		if len(b.told(protocol.UsageTopic("f", "d1"))) != n {
			t.Error("acknowledged counters came again")
		}
		b.pass(2 * time.Hour)
		if n := len(b.told(protocol.QualityTopic("f", "d1"))); n > 3*60+4 {
			t.Errorf("%d reports: they go on after the end", n)
		}
	})
}

// TestLightRefusesAForeignWant: it says so, once.
func TestLightRefusesAForeignWant(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		b := newBench(t, w)
		b.carry(b.Connected(time.Now()))
		want := w.want(w.version(1))
		want.Device = "d2"
		for range 2 {
			b.put(protocol.WantTopic("f", "d1"), w.sign(artifact.RoleRollout, artifact.TypeWant, want))
		}
		events := b.told(protocol.EventTopic("f", "d1"))
		var e protocol.Event
		if len(events) != 1 || e.UnmarshalBinary(events[0]) != nil || e.Kind != "want_refused" || !strings.Contains(e.Detail, errForeign.Error()) {
			t.Errorf("%d events, the first %+v", len(events), e)
		}
		if len(b.state.Models) != 0 {
			t.Error("it took the want")
		}
	})
}
