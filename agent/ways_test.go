package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
	mqttclient "github.com/sandpiper-edge/sandpiper/protocol/client"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
	"github.com/sandpiper-edge/sandpiper/protocol/packet/packettest"
)

// A way is how a version comes to a device that runs testModels[0].
type way struct {
	name  string
	model func() *artifact.Model
	pack  func(m, base *artifact.Model) (*artifact.Transfer, error)
	asked bool // nothing is retained: the control plane answers gets
	large bool // the payload has a file of its own
}

func packFull(m, _ *artifact.Model) (*artifact.Transfer, error) { return artifact.Pack(m) }

var ways = []way{
	{"full", func() *artifact.Model { return testModels[1] }, packFull, false, false},
	{"delta", func() *artifact.Model { return tunedModel }, artifact.PackDelta, false, false},
	{"head", func() *artifact.Model { return headModel }, artifact.PackHead, false, false},
	{"full, asked for", func() *artifact.Model { return testModels[1] }, packFull, true, false},
	{"delta, asked for", func() *artifact.Model { return tunedModel }, artifact.PackDelta, true, false},
	{"head, asked for", func() *artifact.Model { return headModel }, artifact.PackHead, true, false},
	{"full, large", func() *artifact.Model { return bigModels[1] }, packFull, false, true},
	{"full, large, asked for", func() *artifact.Model { return bigModels[1] }, packFull, true, true},
}

// An offer is a version on its way: what the control plane says and sends.
type offer struct {
	v        version
	announce []byte
	chunks   [][]byte
}

// offer packs v on top of base.
func (y way) offer(w *world, v, base version) offer {
	w.t.Helper()
	kind, _, _ := strings.Cut(y.name, ",")
	v.transfer = w.packed(y.pack, kind, v.model, base.model)
	return w.offerOf(v)
}

func (w *world) offerOf(v version) offer {
	w.t.Helper()
	a := artifact.Announce(v.envelope, v.transfer)
	o := offer{v: v, announce: w.encode(a)}
	for n := range v.transfer.Chunks {
		if len(a.Inline) == 0 {
			o.chunks = append(o.chunks, v.transfer.Chunk(n))
		}
	}
	return o
}

// send makes o available and asks for it, and for nothing beside it.
func (y way) send(w *world, o offer) {
	w.t.Helper()
	hash := o.v.hash()
	if !y.asked {
		w.retain(protocol.DescriptorTopic("f", hash), o.announce)
		for n, c := range o.chunks {
			w.retain(protocol.ChunkTopic("f", hash, n), c)
		}
	} else {
		w.mu.Lock()
		w.forget, w.offered = true, &o
		w.mu.Unlock()
		w.answerOffers() // the one before is replaced
	}
	want, t := w.want(o.v), o.v.transfer
	m := want.Models["pump"]
	m.Active.Transfers = []protocol.TransferRef{{Hash: hash, Kind: t.Kind, Size: t.Size, Base: t.Base}}
	want.Models["pump"] = m
	w.ask(want)
}

// answerOffers is a control plane that answers the gets for what it sent last.
func (w *world) answerOffers() {
	w.t.Helper()
	server := w.server
	err := server.Subscribe(protocol.GetTopic("f", "d1"), 1, func(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
		var get protocol.Get
		if err := get.UnmarshalBinary(pk.Payload); err != nil {
			w.t.Error(err)
		}
		w.mu.Lock()
		o := w.offered
		w.mu.Unlock()
		if o == nil || get.Hash != o.v.hash() {
			return
		}
		topic, payload := protocol.BlockDescriptorTopic("f", "d1", get.Hash), o.announce
		for n, c := range o.chunks {
			if get.Wants(n) {
				topic, payload = protocol.BlockTopic("f", "d1", get.Hash, n), c
			}
		}
		go server.Publish(topic, payload, false, 1) // not within the broker's own call
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// A guarded is a device with a version in place that must go on answering by all
// its ways: its own socket, its local listener and its pipeline.
type guarded struct {
	*device
	base    version
	local   *packettest.Listener
	client  *mqttclient.Client // of the local listener
	outputs int
}

// guard starts a device with testModels[0] as pump:v3, whose security floor is 2
// and which has a pipeline.
func (w *world) guard(dir string, change ...func(*Config)) *guarded {
	w.t.Helper()
	m := *w.fed(1).model
	base := w.versionOf(3, &m, keepable, func(r *artifact.Release) { r.Floor = 2 })
	var l *packettest.Listener
	d := w.start(dir, append(change, func(c *Config) { l = onsite(c) })...)
	if d.Status().Models["pump"].Version == "" {
		if _, err := d.Install(w.t.Context(), bytes.NewReader(fileOf(w, base))); err != nil {
			w.t.Fatal(err)
		}
		pass(trialTime)
	}
	return &guarded{device: d, base: base, local: l, client: w.localClient(l, "ann")}
}

// ask asks through the local listener.
func (g *guarded) ask(model, request string) []byte {
	g.w.t.Helper()
	b, err := g.client.Ask(g.w.t.Context(), "d1", model, []byte(request))
	if err != nil {
		g.w.t.Fatal(err)
	}
	return b
}

// answersAs checks that all ways answer as v, which is g.base unless it has been
// replaced.
func (g *guarded) answersAs(what string, v version) {
	g.w.t.Helper()
	g.answers(v)
	g.checkReply(g.ask("pump", testRequest), v)
	if v.model.Pipeline == nil {
		return
	}
	g.w.feed()
	out := g.w.outputs("plant/d1/m1/wear")
	want, err := v.p.PredictAppend(nil, testRows)
	if err != nil {
		g.w.t.Fatal(err)
	}
	if len(out) <= g.outputs {
		g.w.t.Fatalf("%s: the pipeline says nothing", what)
	}
	if last := out[len(out)-1]; last.Version != v.release.String() || !slices.Equal(last.Y, want) {
		g.w.t.Errorf("%s: the pipeline says %+v, want %v by %s", what, last, want, v.release.String())
	}
	g.outputs = len(out)
}

// explode makes the manifest of t a zstd frame (RFC 8878 §3.1.1) of 100 blocks
// that each repeat a zero 128 KiB times.
func explode(t *artifact.Transfer) {
	const blocks = 100
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x38} // magic number, window of 128 KiB
	for i := range blocks {
		h := uint32(1<<1 | (128<<10)<<3)
		if i == blocks-1 {
			h |= 1
		}
		frame = append(frame, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	_, head := binary.Uvarint(t.Payload)
	t.Payload = append(binary.AppendUvarint(bytes.Clone(t.Payload[:head]), uint64(len(frame))), frame...)
	t.Size, t.Codecs = uint32(len(t.Payload)), slices.Clone(t.Codecs)
	t.Codecs[0] = artifact.Zstd
	t.Chunks = [][32]byte{sha256.Sum256(t.Payload)}
}

// TestBadVersionsByEveryWay: whatever is wrong with a version, and whichever way
// it comes, the device refuses it for that, says so, and goes on answering as
// before; and the same version without a fault is taken.
func TestBadVersionsByEveryWay(t *testing.T) {
	resigned := func(role, typ string) func(*world, *version) {
		return func(w *world, v *version) { v.envelope = w.sign(role, typ, v.release) }
	}
	// A row changes the release before it is signed, the version before it is
	// announced, or the messages.
	rows := []struct {
		name, code string
		inline     string // code where the payload is in the announcement, if another
		release    func(*artifact.Release)
		version    func(*world, *version)
		offer      func(*offer)
	}{
		{name: "a byte of a chunk", code: "corrupt", offer: func(o *offer) {
			if len(o.chunks) == 0 { // inside the announcement
				o.announce = bytes.Replace(o.announce, o.v.transfer.Payload, flipped(o.v.transfer.Payload), 1)
				return
			}
			o.chunks[0] = flipped(o.chunks[0])
		}},
		{name: "a chunk cut short", code: "truncated", inline: "corrupt", offer: func(o *offer) {
			if len(o.chunks) == 0 {
				o.announce = o.announce[:len(o.announce)-1]
				return
			}
			o.chunks[0] = o.chunks[0][:100]
		}},
		{name: "an announcement cut short", offer: func(o *offer) { o.announce = o.announce[:len(o.announce)/2] }},
		{name: "an announcement that is none", offer: func(o *offer) { o.announce = []byte("pump:v4") }},
		{name: "another transfer's announcement", code: "corrupt", offer: func(o *offer) {
			o.announce = bytes.Replace(o.announce, o.v.transfer.Chunks[0][:], make([]byte, 32), 1)
		}},
		{name: "oversized", code: "too_large", version: func(w *world, v *version) {
			v.release.MaxTransfer = v.transfer.Size - 1
			v.envelope = w.sign(artifact.RoleRelease, artifact.TypeRelease, v.release)
		}},
		{name: "unsigned", code: "unsigned", version: func(w *world, v *version) {
			v.envelope = w.encode(artifact.Envelope{Payload: w.encode(v.release)})
		}},
		{name: "wrong key", code: "wrong_key", version: resigned(artifact.RoleRollout, artifact.TypeRelease)},
		{name: "signed as another document", code: "wrong_key", version: resigned(artifact.RoleRelease, artifact.TypeWant)},
		{name: "downgraded", code: "downgrade", release: func(r *artifact.Release) { r.Version = 1 }},
		{name: "foreign", code: "foreign", release: func(r *artifact.Release) { r.Fleet = "other" }},
		{name: "another kernel", code: "abi", release: func(r *artifact.Release) { r.ABI++ }},
		{name: "not after", code: "not_after", release: func(r *artifact.Release) { r.NotAfter = 2 }},
		{name: "decodes to more than is signed", code: "too_large", release: func(r *artifact.Release) { r.MaxDecoded = 1000 }},
		{name: "bomb", code: "too_large", version: func(_ *world, v *version) { explode(v.transfer) }},
		{name: "another model's weights", code: "digest", version: func(w *world, v *version) {
			m := *v.model
			m.Schema.Features = slices.Clone(m.Schema.Features)
			m.Schema.Features[0].Unit = "gpm" // what it decodes to is not what is signed
			other, err := artifact.Pack(&m)
			if err != nil {
				w.t.Fatal(err)
			}
			other.Descriptor.Digest = v.digest()
			v.transfer, v.release.MaxDecoded, v.release.MaxTransfer = other, other.Decoded, other.Size
			v.envelope = w.sign(artifact.RoleRelease, artifact.TypeRelease, v.release)
		}},
	}
	for _, y := range ways {
		if y.large {
			continue // the same, and slow
		}
		t.Run(y.name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				g := w.guard(t.TempDir())
				g.answersAs("at first", g.base)
				for _, row := range rows {
					v := w.versionOf(4, y.model(), keepable, func(r *artifact.Release) {
						if row.release != nil {
							row.release(r)
						}
					})
					o := y.offer(w, v, g.base)
					if row.version != nil {
						v = o.v
						row.version(w, &v)
						o = w.offerOf(v)
					}
					if row.offer != nil {
						row.offer(&o)
					}
					y.send(w, o)
					pass(15 * time.Minute) // a damaged chunk is asked for again before it is given up
					m := g.Status().Models["pump"]
					code := row.code
					if len(o.chunks) == 0 && row.inline != "" {
						code = row.inline
					}
					if m.Phase != protocol.PhaseIdle || m.Failed == nil || m.Failed.Rev != w.rev || code != "" && m.Failed.Code != code {
						t.Errorf("%s: %s (%+v), want %s", row.name, g.pump(), m.Failed, code)
					}
					g.answersAs(row.name, g.base)
				}
				golden := *y.model()
				golden.Golden.Outputs = slices.Clone(golden.Golden.Outputs)
				golden.Golden.Outputs[3] = math.Nextafter32(golden.Golden.Outputs[3], math.MaxFloat32)
				y.send(w, y.offer(w, w.versionOf(4, &golden, keepable), g.base))
				pass(time.Minute)
				g.expect(fmt.Sprintf("idle active pump:v3 serving pump:v3 failed golden@%d", w.rev))
				g.answersAs("golden vector", g.base)

				good := w.versionOf(5, y.model(), keepable)
				y.send(w, y.offer(w, good, g.base))
				pass(2 * time.Minute)
				g.expect("idle active pump:v5 serving pump:v5 previous pump:v3")
				g.answersAs("without a fault", good)
			})
		})
	}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// TestBasesThatAreNotThere: an update whose base is missing, or damaged in the
// cache, is refused where nothing else is offered; the damaged base answers from
// memory meanwhile.
func TestBasesThatAreNotThere(t *testing.T) {
	for _, y := range ways {
		if !strings.HasPrefix(y.name, "delta") && !strings.HasPrefix(y.name, "head") {
			continue
		}
		for _, bad := range []string{"missing", "damaged"} {
			t.Run(y.name+", "+bad, func(t *testing.T) {
				within(t, func(t *testing.T, w *world) {
					g := w.guard(t.TempDir())
					base := g.base
					if bad == "missing" {
						m := *base.model
						m.Schema.Features = slices.Clone(m.Schema.Features)
						m.Schema.Features[0].Unit = "gpm"
						base = w.versionOf(2, &m)
					} else {
						g.cache = &damagedCache{g.cache, base.digest(), 0}
					}
					y.send(w, y.offer(w, w.versionOf(4, y.model(), keepable), base))
					pass(10 * time.Minute)
					g.expect(fmt.Sprintf("idle active pump:v3 serving pump:v3 failed no_transfer@%d", w.rev))
					g.answersAs("afterwards", g.base)
				})
			})
		}
	}
}

// TestDiskFailsAtEachWriteOfEveryWay lets the disk take k writes of an update and
// no more: it fills up, or the process is killed there. All ways answer
// meanwhile, and with room, or after the start, the update goes through.
func TestDiskFailsAtEachWriteOfEveryWay(t *testing.T) {
	for _, y := range ways {
		stride := 1
		if y.large {
			stride = 5 // of the chunks' many writes; TestDiskFullAtEachStep has more
		}
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, killed %t", y.name, killed), func(t *testing.T) {
				done := false
				for k := 0; !done; k += stride {
					within(t, func(t *testing.T, w *world) {
						var armed, failed atomic.Bool
						var steps atomic.Int64
						disk := func(c *Config) {
							c.Disk = func(s store.Step) error {
								if !armed.Load() || s.Op == store.OpCommitted || s.Op == store.OpRemove && !killed || steps.Add(1) <= int64(k) {
									return nil
								}
								failed.Store(true)
								return syscall.ENOSPC
							}
						}
						dir := t.TempDir()
						g := w.guard(dir, disk)
						v := w.versionOf(4, y.model(), keepable)
						armed.Store(true)
						y.send(w, y.offer(w, v, g.base))
						pass(5 * time.Second)
						now := g.base
						if g.Status().Models["pump"].Serving != "pump:v3" {
							now = v // with the trial before it
						}
						what := fmt.Sprintf("%d writes", k)
						g.answersAs(what, now)
						if killed {
							g.stop()
							armed.Store(false)
							g = w.guard(dir, disk)
							if y.asked { // nothing is retained, and so it is asked for again
								y.send(w, y.offer(w, v, g.base))
							}
						}
						armed.Store(false)
						pass(20 * time.Minute)
						g.expect("idle active pump:v4 serving pump:v4 previous pump:v3")
						g.answersAs(what+", and room", v)
						done = !failed.Load()
					})
				}
			})
		}
	}
}

// TestLinkDropsAtEachMessageOfEveryWay breaks the connection after each message
// that an update brings, once and again and again.
func TestLinkDropsAtEachMessageOfEveryWay(t *testing.T) {
	for _, y := range ways {
		t.Run(y.name, func(t *testing.T) {
			done := false
			for n := int64(1); !done; n++ {
				within(t, func(t *testing.T, w *world) {
					g := w.guard(t.TempDir())
					v := w.versionOf(4, y.model(), keepable)
					o := y.offer(w, v, g.base)
					drops := w.dropAfter(n)
					y.send(w, o)
					for range 40 {
						pass(15 * time.Second)
						g.answers(versionNow(g, v))
						if y.asked && g.Status().Rev != w.rev { // it missed the want, which is not retained
							y.send(w, o)
						}
					}
					w.dropAfter(math.MaxInt64)
					pass(10 * time.Minute)
					g.expect("idle active pump:v4 serving pump:v4 previous pump:v3")
					g.answersAs(fmt.Sprintf("the link dropped after message %d", n), v)
					done = drops.Load() == 0
				})
			}
		})
	}
}

// versionNow is what g serves: its base or v.
func versionNow(g *guarded, v version) version {
	if g.Status().Models["pump"].Serving == v.release.String() {
		return v
	}
	return g.base
}

// TestBadInputOnTheLocalListener: requests that are wrong get their error there,
// and a client that breaks the protocol loses its connection and nobody else's.
func TestBadInputOnTheLocalListener(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		g := w.guard(t.TempDir())
		for _, tc := range badRequests(t) {
			if tc.code == "pump:v1" {
				tc.code = "pump:v3"
			}
			if b := g.ask(tc.model, tc.request); replyCode(t, b) != tc.code {
				t.Errorf("%s: %s, want %s", tc.name, b, tc.code)
			}
			g.answersAs(tc.name, g.base)
		}
		publish := func(topic string, payload []byte) []byte {
			return packet.AppendPublish(nil, packet.V5, packet.Message{Topic: topic, Payload: payload, QoS: 1, ID: 1})
		}
		for _, tc := range []struct {
			name  string
			bytes []byte
		}{
			{"a header of 256 MB", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}},
			{"a length without end", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff}},
			{"a second CONNECT", packet.AppendConnect(nil, packet.Hello{Version: packet.V5, Username: "ann"})},
			{"a packet of no kind", []byte{0x00, 0x00}},
			{"a topic with a wildcard", publish("sp1/f/d/d1/p/+/ann/1", []byte(testRequest))},
			{"an empty topic", publish("", []byte(testRequest))},
			{"a topic that is not UTF-8", publish("sp1/f/\xff\xfe", []byte(testRequest))},
			{"a packet beyond the limit", publish(protocol.PredictTopic("f", "d1", "pump", "ann", "1"), make([]byte, packet.MaxBody))},
			{"an oversized payload", publish(protocol.PredictTopic("f", "d1", "pump", "ann", "1"), make([]byte, protocol.MaxPayload+1))},
			{"a SUBSCRIBE without a filter", []byte{0x82, 0x03, 0x00, 0x01, 0x00}},
			{"half a packet", publish(protocol.PredictTopic("f", "d1", "pump", "ann", "2"), []byte(testRequest))[:30]},
			{"noise", []byte("GET / HTTP/1.1\r\n\r\n")},
		} {
			p := w.peer(g.local, "")
			go func() { _, _ = p.Conn.Write(tc.bytes) }() // the other end may not take all of it
			// What is an error for the request is none for the connection.
			stays := tc.name == "half a packet" || tc.name == "an oversized payload"
			if p.Ended(10*time.Second) == stays {
				t.Errorf("%s: the connection ended: %t, want %t", tc.name, stays, !stays)
			}
			g.answersAs(tc.name, g.base)
			_ = p.Conn.Close()
		}
	})
}

// TestBadSamplesOfAPipeline: what is no sample is named in the status and moves
// nothing; what the clock of a sensor says does not stop the pipeline.
func TestBadSamplesOfAPipeline(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		g := w.guard(t.TempDir())
		own, foreign := protocol.SampleTopic("f", "d1", "m1"), "plant/d1/m1/flow"
		for _, tc := range []struct{ name, topic, payload, problem string }{
			{"malformed JSON", own, `{"v":{"pressure":3`, own},
			{"malformed CBOR", own, "\xa1\x61v\xa1", own},
			{"no sample", own, `[1,2]`, own},
			{"empty", own, "", own},
			{"text for a number", own, `{"v":{"pressure":"high"}}`, own},
			{"not finite", own, `{"v":{"pressure":1e39}}`, own},
			{"NaN", own, `{"v":{"pressure":NaN}}`, own},
			{"unknown feature", own, `{"v":{"heat":3}}`, ""},
			{"far out of range", own, `{"v":{"pressure":1e30}}`, ""},
			{"a time before 1970", own, `{"t":-5,"v":{"pressure":3}}`, own},
			{"a time beyond 2^53", own, `{"t":9007199254740993,"v":{"pressure":3}}`, own},
			{"a stream that is none", "sp1/f/d/d1/s/M 1", `{"v":{"pressure":3}}`, ""},
			{"malformed JSON of another client", foreign, `{"rms":`, foreign},
			{"a pointer that leads nowhere", foreign, `{"peak":3}`, foreign},
			{"an object for a number", foreign, `{"rms":{}}`, foreign},
			{"not finite of another client", foreign, `{"rms":1e39}`, foreign},
			{"oversized", foreign, `{"x":"` + strings.Repeat("x", 100_000) + `","rms":3}`, ""},
			{"deep", foreign, strings.Repeat("[", 10_000), foreign},
			{"a sensor in 1970", own, `{"t":1000,"v":{"pressure":3}}`, ""},
			{"a sensor in 2090", own, `{"t":3786912000000,"v":{"pressure":3}}`, ""},
		} {
			w.say(tc.topic, tc.payload)
			settle()
			p := g.Status().Models["pump"].Pipeline
			if p == nil || !strings.Contains(p.Problem, tc.problem) {
				t.Errorf("%s: status %+v, want %q named", tc.name, p, tc.problem)
			}
			pass(time.Minute) // a gap: the next window is whole
			g.answersAs(tc.name, g.base)
		}
	})
}
