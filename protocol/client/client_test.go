package client

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
	"github.com/sandpiper-edge/sandpiper/protocol/packet/packettest"
)

// within runs f in a bubble with a client of a broker in memory.
func within(t *testing.T, f func(ctx context.Context, t *testing.T, l *packettest.Listener, c *Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		l := packettest.Listen()
		c, err := New(Config{Dial: l.Dial, Fleet: "f", User: "ann", Token: "secret", QoS: 1})
		if err != nil {
			t.Fatal(err)
		}
		f(ctx, t, l, c)
		c.Close()
		l.Close()
	})
}

// accept is the broker's side of a connection that is let in.
func accept(t *testing.T, l *packettest.Listener) *packettest.Peer {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := packettest.NewPeer(t, conn)
	h, err := packet.ParseConnect(p.Expect(packet.Connect).Body)
	if err != nil || h.Username != "u.ann" || h.ClientID != "u.ann" || string(h.Password) != "secret" {
		t.Errorf("CONNECT %+v, %v", h, err)
	}
	p.Send(packet.AppendConnack(nil, packet.V311, packet.Accepted, ""))
	id, filters, err := packet.ParseSubscribe(packet.V311, p.Expect(packet.Subscribe).Body, 8)
	if err != nil || len(filters) != 1 || filters[0].Topic != "sp1/f/r/ann/+/+" {
		t.Errorf("SUBSCRIBE %+v, %v", filters, err)
	}
	p.Send(packet.AppendSuback(nil, packet.V311, id, []byte{1}))
	return p
}

// answer reads a request and answers it, at QoS 0: an acknowledgement would
// cross the next request, which a connection without buffers does not bear.
func answer(t *testing.T, p *packettest.Peer, m protocol.PredictReply) (topic string) {
	t.Helper()
	got, err := packet.ParsePublish(packet.V311, p.Expect(packet.Publish))
	if err != nil {
		t.Fatal(err)
	}
	req, err := protocol.ParseTopic(got.Topic)
	if err != nil || req.Kind != protocol.TopicPredict || req.Device != "d1" || req.Model != "pump" || req.User != "ann" {
		t.Fatalf("request on %s, %v", got.Topic, err)
	}
	p.Send(packet.AppendPuback(nil, packet.V311, got.ID, false))
	m.ID = req.Corr
	b, err := m.AppendReply(nil, protocol.IsJSON(got.Payload))
	if err != nil {
		t.Fatal(err)
	}
	p.Send(packet.AppendPublish(nil, packet.V311, packet.Message{
		Topic: protocol.ReplyTopic("f", "ann", "d1", req.Corr), Payload: b,
	}))
	return got.Topic
}

var good = protocol.PredictReply{Model: "pump", Version: "pump:v2", Y: []float32{1.5}, US: 7}

func TestPredict(t *testing.T) {
	within(t, func(ctx context.Context, t *testing.T, l *packettest.Listener, c *Client) {
		go func() {
			p := accept(t, l)
			first := answer(t, p, good)
			if second := answer(t, p, good); second == first {
				t.Errorf("two requests under one correlation id: %s", first)
			}
			answer(t, p, protocol.PredictReply{Model: "pump", Error: &protocol.RequestError{Code: protocol.CodeBusy, Message: "full", RetryMS: 200}})
		}()
		reply, err := c.Predict(ctx, "d1", "pump", [][]float32{{1, 2}, {3, 4}})
		if err != nil || reply.Version != "pump:v2" || len(reply.Y) != 1 || reply.Y[0] != 1.5 {
			t.Errorf("Predict = %+v, %v", reply, err)
		}
		b, err := c.Ask(ctx, "d1", "pump", []byte(`[[1,2],[3,4]]`))
		if err != nil || !strings.Contains(string(b), `"version":"pump:v2"`) {
			t.Errorf("Ask = %s, %v", b, err)
		}
		_, err = c.Predict(ctx, "d1", "pump", [][]float32{{1, 2}})
		var refused *protocol.RequestError
		if !errors.As(err, &refused) || refused.Code != protocol.CodeBusy || refused.RetryMS != 200 {
			t.Errorf("an error reply: %v", err)
		}
		for _, rows := range [][][]float32{nil, {{1, 2}, {3}}} {
			if _, err := c.Predict(ctx, "d1", "pump", rows); err == nil {
				t.Errorf("rows %v are sent", rows)
			}
		}
		if _, err := c.Ask(ctx, "d/1", "pump", nil); !errors.Is(err, protocol.ErrID) {
			t.Errorf("a device that is no id: %v", err)
		}
	})
}

// TestRequestIsSentAgain loses the connection while a request is under way.
func TestRequestIsSentAgain(t *testing.T) {
	within(t, func(ctx context.Context, t *testing.T, l *packettest.Listener, c *Client) {
		go func() {
			p := accept(t, l)
			lost, err := packet.ParsePublish(packet.V311, p.Expect(packet.Publish))
			if err != nil {
				t.Error(err)
			}
			p.Conn.Close()
			if again := answer(t, accept(t, l), good); again != lost.Topic {
				t.Errorf("sent again to %s, first to %s: a device would compute both", again, lost.Topic)
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if reply, err := c.Predict(ctx, "d1", "pump", [][]float32{{1, 2}}); err != nil || reply.Version != "pump:v2" {
			t.Errorf("Predict = %+v, %v", reply, err)
		}
	})
}

func TestDeadlineGoesAlong(t *testing.T) {
	within(t, func(ctx context.Context, t *testing.T, l *packettest.Listener, c *Client) {
		go func() {
			p := accept(t, l)
			m, err := packet.ParsePublish(packet.V311, p.Expect(packet.Publish))
			if err != nil {
				t.Error(err)
			}
			r, err := protocol.DecodePredictRequest(m.Payload, nil)
			if err != nil || r.DeadlineMS != 1500 {
				t.Errorf("request %+v, %v, want 1500 ms", r, err)
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := c.Predict(ctx, "d1", "pump", [][]float32{{1, 2}})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 1500*time.Millisecond {
			t.Errorf("Predict = %v after %v", err, time.Since(began))
		}
	})
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		connack []byte
		suback  []byte
	}{
		"login":        {packet.AppendConnack(nil, packet.V311, packet.BadLogin, ""), nil},
		"subscription": {packet.AppendConnack(nil, packet.V311, packet.Accepted, ""), packet.AppendSuback(nil, packet.V311, 1, []byte{packet.Refused})},
	} {
		within(t, func(ctx context.Context, t *testing.T, l *packettest.Listener, c *Client) {
			go func() {
				conn, err := l.Accept()
				if err != nil {
					t.Error(err)
				}
				p := packettest.NewPeer(t, conn)
				p.Expect(packet.Connect)
				p.Send(tc.connack)
				if tc.suback != nil {
					p.Expect(packet.Subscribe)
					p.Send(tc.suback)
				}
			}()
			if _, err := c.Ask(ctx, "d1", "pump", []byte("[]")); !errors.Is(err, ErrDenied) {
				t.Errorf("%s: %v, want ErrDenied", name, err)
			}
		})
	}
}

// TestIdleConnectionIsKeptAlive and, once the broker is silent, given up.
func TestIdleConnectionIsKeptAlive(t *testing.T) {
	within(t, func(ctx context.Context, t *testing.T, l *packettest.Listener, c *Client) {
		go func() {
			p := accept(t, l)
			answer(t, p, good)
			p.Send(packet.AppendPublish(nil, packet.V311, packet.Message{Topic: "sp1/f/r/ann/d1/late", QoS: 1, ID: 3}))
			if id, err := packet.ParseAck(p.Expect(packet.Puback).Body); id != 3 || err != nil {
				t.Errorf("PUBACK %d, %v", id, err)
			}
			for range 10 {
				p.Expect(packet.Pingreq)
				p.Send(packet.AppendEmpty(nil, packet.Pingresp))
			}
			for {
				if _, err := p.Conn.Read(make([]byte, 10)); err != nil {
					return
				}
			}
		}()
		if _, err := c.Predict(ctx, "d1", "pump", [][]float32{{1, 2}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * keepAlive / 2)
		synctest.Wait()
		if c.conn.ended() {
			t.Error("an idle connection ended")
		}
		time.Sleep(2 * keepAlive)
		synctest.Wait()
		if !c.conn.ended() {
			t.Error("a connection to a silent broker stands")
		}
	})
}

func TestCloseEndsRequests(t *testing.T) {
	within(t, func(ctx context.Context, t *testing.T, l *packettest.Listener, c *Client) {
		var dials atomic.Int32
		c.cfg.Dial = func(ctx context.Context) (net.Conn, error) { dials.Add(1); return l.Dial(ctx) }
		go func() { accept(t, l).Expect(packet.Publish); c.Close() }()
		if _, err := c.Ask(ctx, "d1", "pump", []byte("[]")); !errors.Is(err, ErrClosed) {
			t.Errorf("Ask = %v, want ErrClosed", err)
		}
		if _, err := c.Ask(ctx, "d1", "pump", []byte("[]")); !errors.Is(err, ErrClosed) || dials.Load() != 1 {
			t.Errorf("Ask = %v after %d connections, want ErrClosed and no new one", err, dials.Load())
		}
	})
}

func TestBadConfig(t *testing.T) {
	for _, c := range []Config{
		{Broker: "127.0.0.1:1883", User: "ann"}, {Broker: "http://127.0.0.1:1883", User: "ann"}, {Broker: "tcp://127.0.0.1", User: "ann"},
		{Broker: "tcp://127.0.0.1:1883"}, {Broker: "tcp://127.0.0.1:1883", User: "Ann"}, {Broker: "tcp://127.0.0.1:1883", User: "ann", QoS: 2},
		{Broker: "tcp://127.0.0.1:1883", User: "ann", Fleet: "a/b"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("New(%+v) takes it", c)
		}
	}
}
