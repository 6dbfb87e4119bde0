package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/broker"
	"github.com/sandpiper-edge/sandpiper/protocol"
	mqttclient "github.com/sandpiper-edge/sandpiper/protocol/client"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
	"github.com/sandpiper-edge/sandpiper/protocol/packet/packettest"
)

// onsite gives an agent a local listener in memory, which it returns.
func onsite(c *Config) *packettest.Listener {
	l := packettest.Listen()
	c.Local.Listener = l
	return l
}

// tokens are users by name, each with its name as token.
func tokens(names ...string) map[string]string {
	users := make(map[string]string)
	for _, name := range names {
		sum := sha256.Sum256([]byte(name))
		users[name] = hex.EncodeToString(sum[:])
	}
	return users
}

func (w *world) localClient(l *packettest.Listener, user string) *mqttclient.Client {
	w.t.Helper()
	c, err := mqttclient.New(mqttclient.Config{Dial: l.Dial, Fleet: "f", User: user, Token: user, QoS: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// peer is a client of the listener that a test drives packet by packet.
func (w *world) peer(l *packettest.Listener, user string) *packettest.Peer {
	w.t.Helper()
	conn, err := l.Dial(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	p := packettest.NewPeer(w.t, conn)
	hello := packet.Hello{Version: packet.V5, Username: user}
	if user != "" {
		hello.Password = []byte(user)
	}
	p.Send(packet.AppendConnect(nil, hello))
	if body := p.Expect(packet.Connack).Body; body[1] != 0 {
		w.t.Fatalf("CONNACK %v", body)
	}
	return p
}

func subscribe(p *packettest.Peer, filters ...string) []byte {
	var all []packet.Filter
	for _, f := range filters {
		all = append(all, packet.Filter{Topic: f, QoS: 1})
	}
	p.Send(packet.AppendSubscribe(nil, packet.V5, 1, all))
	for {
		if got := p.Next(); got.Type == packet.Suback {
			return got.Body[len(got.Body)-len(filters):]
		} // else what is retained for a filter before
	}
}

func next(t *testing.T, p *packettest.Peer) packet.Message {
	t.Helper()
	m, err := packet.ParsePublish(packet.V5, p.Expect(packet.Publish))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLocalListenerAnswersWithoutUpstream(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		dir := t.TempDir()
		w.installed(dir, v1).stop()
		w.down.Store(true)
		var l *packettest.Listener
		d := w.start(dir, func(c *Config) { l = onsite(c) })
		c := w.localClient(l, "ann")
		b, err := c.Ask(t.Context(), "d1", "pump", []byte(testRequest))
		if err != nil {
			t.Fatal(err)
		}
		d.checkReply(b, v1)
		if _, err := c.Predict(t.Context(), "d1", "pump", [][]float32{{1, 2}}); !errors.As(err, new(*protocol.RequestError)) {
			t.Errorf("a window that does not fit: %v", err)
		}

		p := w.peer(l, "") // no users are named: everybody here reads everything
		if got := subscribe(p, "sp1/f/d/d1/up", "sp1/f/d/d1/have"); got[0] != 1 || got[1] != 1 {
			t.Errorf("granted %v", got)
		}
		seen := map[string]packet.Message{}
		for range 2 {
			m := next(t, p)
			seen[m.Topic] = m
		}
		have := func(m packet.Message) (h protocol.Have) {
			if err := h.UnmarshalBinary(m.Payload); err != nil {
				t.Errorf("have %s: %v", m.Payload, err)
			}
			return h
		}
		if up := seen["sp1/f/d/d1/up"]; string(up.Payload) != protocol.Online || !up.Retain {
			t.Errorf("up %+v", up)
		}
		if h := have(seen["sp1/f/d/d1/have"]); h.Models["pump"].Active != v1.digest() {
			t.Errorf("have %+v", h)
		}
		if _, err := d.Install(t.Context(), bytes.NewReader(fileOf(w, v2))); err != nil {
			t.Fatal(err)
		}
		if h := have(next(t, p)); h.Models["pump"].Active != v2.digest() {
			t.Errorf("have after an install: %+v", h)
		}
		if b, err = c.Ask(t.Context(), "d1", "pump", []byte(testRequest)); err != nil {
			t.Fatal(err)
		}
		d.checkReply(b, v2)
	})
}

func TestSimpleMode(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.version(1)
		dir := t.TempDir()
		w.installed(dir, v).stop()
		var l *packettest.Listener
		d := w.start(dir, func(c *Config) { l = onsite(c) })
		p := w.peer(l, "")
		request := packet.AppendPublish(nil, packet.V5, packet.Message{Topic: "sp1/f/d/d1/p/pump", Payload: []byte(testRequest), QoS: 1, ID: 4})
		p.Send(request)
		if body := p.Expect(packet.Puback).Body; len(body) != 3 || body[2] != 0x87 {
			t.Errorf("the simple mode that is off: PUBACK %v", body)
		}
		d.stop()

		d = w.start(dir, func(c *Config) { l, c.Simple = onsite(c), true })
		p = w.peer(l, "")
		subscribe(p, "sp1/f/d/+/o/+")
		for range 2 { // the second is a request of its own, not a repeat
			p.Send(request)
			p.Expect(packet.Puback)
			m := next(t, p)
			if m.Topic != "sp1/f/d/d1/o/pump" {
				t.Errorf("reply on %s", m.Topic)
			}
			d.checkReply(m.Payload, v)
		}
		if err := w.server.Publish("sp1/f/d/d1/p/pump", []byte(testRequest), false, 0); err != nil {
			t.Fatal(err)
		}
		settle()
		if out := w.published("sp1/f/d/d1/o/pump"); len(out) != 1 {
			t.Errorf("%d replies upstream, want 1: what was asked here stays here", len(out))
		} else {
			d.checkReply(out[0], v)
		}
		pass(time.Minute)
		all := w.published(protocol.UsageTopic("f", "d1"))
		var u protocol.Usage
		if err := u.UnmarshalBinary(all[len(all)-1]); err != nil || len(u.Counts) != 1 || u.Counts[0].User != protocol.Anonymous || u.Counts[0].Answered != 3 {
			t.Errorf("usage %+v, %v", u, err)
		}
	})
}

func TestLocalUsersAskForThemselves(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		var l *packettest.Listener
		w.start(t.TempDir(), func(c *Config) {
			l = onsite(c)
			c.Local.Users = tokens("ann", "bob")
		})
		p := w.peer(l, "ann")
		for topic, allowed := range map[string]bool{
			"sp1/f/d/d1/p/pump/ann/1":   true,
			"sp1/f/d/d1/p/pump/bob/1":   false,
			"sp1/f/d/d2/p/pump/ann/1":   false,
			"sp1/g/d/d1/p/pump/ann/1":   false,
			"sp1/f/d/d1/p/pump":         false, // the simple mode is off
			"sp1/f/d/d1/s/flow":         true,
			"sp1/f/d/d1/y/pump":         true,
			"sp1/f/d/d1/want":           false,
			"sp1/f/d/d1/ack":            false,
			"sp1/f/d/d1/have":           false,
			"sp1/f/r/ann/d1/1":          false,
			"sp1/f/d/d1/o/pump":         false,
			"elsewhere":                 false,
			"sp1/f/d/d1/p/pump/ann/1/2": false,
		} {
			p.Send(packet.AppendPublish(nil, packet.V5, packet.Message{Topic: topic, QoS: 1, ID: 2}))
			if denied := len(p.Expect(packet.Puback).Body) == 3; denied == allowed {
				t.Errorf("publish to %s: allowed %v, want %v", topic, !denied, allowed)
			}
		}
		for filter, allowed := range map[string]bool{
			"sp1/f/r/ann/+/+": true, "sp1/f/r/ann/d1/1": true, "sp1/f/r/ann/#": true, "sp1/f/d/d1/o/+": true, "sp1/f/d/d1/o/pump": true,
			"sp1/f/d/d1/have": true, "sp1/f/d/d1/s/flow": true,
			"sp1/f/r/bob/+/+": false, "sp1/f/r/+/d1/+": false, "#": false, "sp1/#": false, "sp1/f/d/d1/p/#": false, "sp1/f/r/annette/+/+": false,
		} {
			if refused := subscribe(p, filter)[0]&0x80 != 0; refused == allowed {
				t.Errorf("subscribe to %s: allowed %v, want %v", filter, !refused, allowed)
			}
		}
	})
	// Without users, everybody asks under every name but those that count others.
	a := &Agent{cfg: Config{Fleet: "f", Device: "d1"}}
	for user, allowed := range map[string]bool{"ann": true, "cp": false, "local": false, "anonymous": false, "other": false} {
		if topic := protocol.PredictTopic("f", "d1", "pump", user, "1"); a.mayPublish("", topic) != allowed {
			t.Errorf("anybody may publish to %s: %v", topic, !allowed)
		}
	}
}

func TestOpenLocalListenerIsRefused(t *testing.T) {
	w := newWorld(t)
	c := w.config(t.TempDir())
	c.Local.Listen = "0.0.0.0:0"
	if _, err := New(c); !errors.Is(err, broker.ErrOpen) {
		t.Errorf("New = %v, want broker.ErrOpen", err)
	}
}

// TestLocalRequestsAreDrained stops an agent while local requests wait.
func TestLocalRequestsAreDrained(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.version(1)
		dir := t.TempDir()
		w.installed(dir, v).stop()
		var l *packettest.Listener
		d := w.start(dir, func(c *Config) {
			l = onsite(c)
			c.Tamper = func(string, protocol.Digest, []float32) { time.Sleep(100 * time.Millisecond) }
		})
		type answer struct {
			b   []byte
			err error
		}
		answers := make(chan answer, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := w.localClient(l, "ann")
		for i := range 3 {
			go func() {
				b, err := c.Ask(ctx, "d1", "pump", fmt.Appendf(nil, "[[10,3],[11,3.1],[12,3.2],[13,%d]]", i))
				answers <- answer{b, err}
			}()
		}
		settle()
		d.stop()
		for range 3 {
			if a := <-answers; a.err != nil || replyCode(t, a.b) != "pump:v1" {
				t.Errorf("a request that waited: %s, %v", a.b, a.err)
			}
		}
	})
}
