package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol/packet"
	"github.com/sandpiper-edge/sandpiper/protocol/packet/packettest"
)

// A house is a broker that runs on a network in memory.
type house struct {
	*Broker
	t        *testing.T
	listener *packettest.Listener
	logged   logbook
	mu       sync.Mutex
	received []packet.Message
}

// within runs f in a bubble with a broker that lets everybody do everything
// but touch topics that begin with "no/".
func within(t *testing.T, users map[string]string, f func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, listener: packettest.Listen()}
		allowed := func(user, topic string) bool { return !strings.HasPrefix(topic, "no/") && user != "mute" }
		b, err := New(Config{
			Listener: h.listener, Users: users, MayPublish: allowed, MaySubscribe: allowed,
			Received: func(m packet.Message) {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.received = append(h.received, m)
			},
			Log: slog.New(slog.NewTextHandler(&h.logged, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Broker = b
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		f(t, h)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func (h *house) dial() *packettest.Peer {
	h.t.Helper()
	conn, err := h.listener.Dial(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return packettest.NewPeer(h.t, conn)
}

// hello connects with hello and returns the code of the CONNACK.
func (h *house) hello(hello packet.Hello) (*packettest.Peer, byte) {
	h.t.Helper()
	p := h.dial()
	p.Send(packet.AppendConnect(nil, hello))
	return p, p.Expect(packet.Connack).Body[1]
}

func (h *house) client(id string, version byte) *packettest.Peer {
	h.t.Helper()
	p, code := h.hello(packet.Hello{Version: version, ClientID: id})
	if code != packet.Accepted {
		h.t.Fatalf("CONNACK %d", code)
	}
	return p
}

// subscribe subscribes and returns what was granted.
func subscribe(p *packettest.Peer, version byte, filters ...packet.Filter) []byte {
	p.Send(packet.AppendSubscribe(nil, version, 7, filters))
	body := p.Expect(packet.Suback).Body
	return body[len(body)-len(filters):]
}

func message(t *testing.T, version byte, p packet.Packet) string {
	t.Helper()
	m, err := packet.ParsePublish(version, p)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %s qos %d retain %v", m.Topic, m.Payload, m.QoS, m.Retain)
}

func TestMessagesReachSubscribers(t *testing.T) {
	within(t, nil, func(t *testing.T, h *house) {
		h.Publish(packet.Message{Topic: "a/kept", Payload: []byte("0"), QoS: 1, Retain: true})
		for _, v := range []byte{packet.V311, packet.V5} {
			sub, pub := h.client("s", v), h.client("p", v)
			if got := subscribe(sub, v, packet.Filter{Topic: "a/+", QoS: 1}, packet.Filter{Topic: "no/x", QoS: 1}); got[0] != 1 || got[1]&0x80 == 0 {
				t.Errorf("granted %v", got)
			}
			if got := message(t, v, sub.Expect(packet.Publish)); got != "a/kept 0 qos 1 retain true" {
				t.Errorf("retained: %s", got)
			}
			pub.Send(packet.AppendPublish(nil, v, packet.Message{Topic: "a/b", Payload: []byte("1"), QoS: 1, ID: 5, Retain: true}))
			if id, err := packet.ParseAck(pub.Expect(packet.Puback).Body); id != 5 || err != nil {
				t.Errorf("PUBACK %d, %v", id, err)
			}
			got := sub.Expect(packet.Publish)
			if m := message(t, v, got); m != "a/b 1 qos 1 retain false" {
				t.Errorf("delivered: %s", m)
			}
			pub.Send(packet.AppendPublish(nil, v, packet.Message{Topic: "no/b", QoS: 1, ID: 6}))
			denied := pub.Expect(packet.Puback).Body
			if v == packet.V5 && (len(denied) != 3 || denied[2] != 0x87) {
				t.Errorf("PUBACK of what is not allowed: %v", denied)
			}
			pub.Send(packet.AppendPublish(nil, v, packet.Message{Topic: "a/c", Payload: []byte("2")}))
			if m := message(t, v, sub.Expect(packet.Publish)); m != "a/c 2 qos 0 retain false" {
				t.Errorf("delivered: %s", m)
			}
			sub.Send([]byte{packet.Unsubscribe<<4 | 2, 7, 0, 9, 0, 3, 'a', '/', '+'}[:9])
			if v == packet.V5 {
				sub.Conn.Close()
				continue
			}
			sub.Expect(packet.Unsuback)
			h.Publish(packet.Message{Topic: "a/b"})
			sub.Send(packet.AppendEmpty(nil, packet.Pingreq))
			sub.Expect(packet.Pingresp) // and nothing before it
			sub.Send(packet.AppendEmpty(nil, packet.Disconnect))
			if !sub.Ended(time.Second) {
				t.Error("the connection stays after a DISCONNECT")
			}
			h.mu.Lock()
			if len(h.received) != 2 {
				t.Errorf("received %v", h.received)
			}
			h.mu.Unlock()
		}
		if n := strings.Count(h.logged.String(), "may not"); n != 4 {
			t.Errorf("what is not allowed was said %d times, want once for each connection and kind: %s", n, &h.logged)
		}
	})
}

// A logbook is written by the broker while a test reads it.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestUsersNeedTheirToken(t *testing.T) {
	sum := sha256.Sum256([]byte("secret"))
	within(t, map[string]string{"ann": hex.EncodeToString(sum[:])}, func(t *testing.T, h *house) {
		for _, tc := range []struct {
			name, token string
			code        byte
		}{
			{"ann", "secret", 0}, {"u.ann", "secret", 0}, {"ann", "Secret", packet.BadLogin}, {"ann", "", packet.BadLogin},
			{"bob", "secret", packet.BadLogin},
		} {
			p, code := h.hello(packet.Hello{Version: packet.V311, ClientID: "c", Username: tc.name, Password: []byte(tc.token)})
			if code != tc.code {
				t.Errorf("%s with token %q: CONNACK %d, want %d", tc.name, tc.token, code, tc.code)
			}
			if code != 0 && !p.Ended(time.Second) {
				t.Errorf("%s with token %q is refused and stays", tc.name, tc.token)
			}
		}
		for _, hello := range []packet.Hello{{Username: "ann"}, {}, {Password: []byte("secret")}} {
			hello.Version = packet.V5
			if _, code := h.hello(hello); code != 0x86 {
				t.Errorf("MQTT 5 %+v: CONNACK 0x%x, want 0x86", hello, code)
			}
		}
		if strings.Contains(h.logged.String(), "secret") {
			t.Error("the log has the token")
		}
	})
}

func TestClientIDIsTakenOver(t *testing.T) {
	within(t, nil, func(t *testing.T, h *house) {
		first := h.client("same", packet.V311)
		h.client("same", packet.V5)
		if !first.Ended(time.Second) {
			t.Error("two connections under one client id")
		}
		one, two := h.client("", packet.V311), h.client("", packet.V311)
		one.Send(packet.AppendEmpty(nil, packet.Pingreq))
		one.Expect(packet.Pingresp)
		two.Send(packet.AppendEmpty(nil, packet.Pingreq))
		two.Expect(packet.Pingresp)
	})
}

func TestWillIsPublished(t *testing.T) {
	within(t, nil, func(t *testing.T, h *house) {
		will := func(topic string) packet.Hello {
			return packet.Hello{Version: packet.V311, Will: &packet.Message{Topic: topic, Payload: []byte("gone")}}
		}
		lost, _ := h.hello(will("a/lost"))
		lost.Conn.Close()
		left, _ := h.hello(will("a/left"))
		left.Send(packet.AppendEmpty(nil, packet.Disconnect))
		denied, _ := h.hello(will("no/lost"))
		denied.Conn.Close()
		synctest.Wait()
		if len(h.received) != 1 || h.received[0].Topic != "a/lost" {
			t.Errorf("wills %v, want that of the lost connection", h.received)
		}
	})
}

// TestBadPeersLoseTheirConnection: whatever a peer does, it is let go within a
// stated time, and the others go on.
func TestBadPeersLoseTheirConnection(t *testing.T) {
	connect := packet.AppendConnect(nil, packet.Hello{Version: packet.V311, ClientID: "x", KeepAlive: 20})
	for name, tc := range map[string]struct {
		send   []byte
		within time.Duration
		before time.Duration // not yet then
	}{
		"silent":                   {nil, connectTimeout + time.Second, connectTimeout - time.Second},
		"half a CONNECT":           {connect[:9], connectTimeout + time.Second, 0},
		"no CONNECT":               {packet.AppendEmpty(nil, packet.Pingreq), time.Second, 0},
		"a giant header":           {[]byte("\x10\xff\xff\xff\x7f"), time.Second, 0},
		"a five-byte length":       {[]byte("\x10\xff\xff\xff\xff\x7f"), time.Second, 0},
		"a large CONNECT":          {[]byte("\x10\x80\x41"), time.Second, 0},
		"HTTP":                     {[]byte("GET / HTTP/1.1\r\n\r\n"), time.Second, 0},
		"an old version":           {[]byte("\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c"), time.Second, 0},
		"CONNECT twice":            {append(connect[:len(connect):len(connect)], connect...), time.Second, 0},
		"a giant PUBLISH":          {append(connect[:len(connect):len(connect)], 0x30, 0xff, 0xff, 0xff, 0x7f), time.Second, 0},
		"QoS 2":                    {append(connect[:len(connect):len(connect)], "\x34\x06\x00\x01a\x00\x01x"...), time.Second, 0},
		"silent for its keepalive": {connect, 31 * time.Second, 29 * time.Second},
	} {
		within(t, nil, func(t *testing.T, h *house) {
			good := h.client("good", packet.V311)
			bad := h.dial()
			go bad.Conn.Write(tc.send) // what is not read any more is an error
			synctest.Wait()
			if tc.before > 0 && bad.Ended(tc.before) {
				t.Errorf("%s: the connection ended within %v", name, tc.before)
			}
			if !bad.Ended(tc.within - tc.before) {
				t.Errorf("%s: the connection stands after %v", name, tc.within)
			}
			good.Send(packet.AppendEmpty(nil, packet.Pingreq))
			good.Expect(packet.Pingresp)
		})
	}
}

// TestPeerThatNeverReads overflows its own queue and nobody else's.
func TestPeerThatNeverReads(t *testing.T) {
	within(t, nil, func(t *testing.T, h *house) {
		stuck, good := h.client("stuck", packet.V311), h.client("good", packet.V311)
		subscribe(stuck, packet.V311, packet.Filter{Topic: "#"})
		subscribe(good, packet.V311, packet.Filter{Topic: "#"})
		payload := make([]byte, 100<<10)
		for i := range 20 {
			h.Publish(packet.Message{Topic: "a", Payload: payload})
			good.Expect(packet.Publish)
			synctest.Wait()
			if i == 1 && len(h.all()) != 2 {
				t.Error("two messages are too much for a queue")
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(h.all()); n != 1 {
			t.Errorf("%d connections, want the one that reads", n)
		}
	})
}

// TestUnacknowledgedMessagesAreBounded holds back beyond the window, and goes on
// when acknowledgements come, with ids that are free.
func TestUnacknowledgedMessagesAreBounded(t *testing.T) {
	within(t, nil, func(t *testing.T, h *house) {
		p := h.client("c", packet.V311)
		subscribe(p, packet.V311, packet.Filter{Topic: "a", QoS: 1})
		for range maxUnacked + 5 {
			h.Publish(packet.Message{Topic: "a", QoS: 1})
		}
		ids := make(map[uint16]bool)
		next := func() uint16 {
			m, err := packet.ParsePublish(packet.V311, p.Expect(packet.Publish))
			if err != nil || ids[m.ID] {
				t.Fatalf("message %+v, %v: its id is in use", m, err)
			}
			ids[m.ID] = true
			return m.ID
		}
		for range maxUnacked {
			next()
		}
		p.Send(packet.AppendEmpty(nil, packet.Pingreq))
		p.Expect(packet.Pingresp) // and no message before it
		for id := range ids {
			delete(ids, id)
			p.Send(packet.AppendPuback(nil, packet.V311, id, false))
			next()
			break
		}
	})
}

// TestStormOfSilentConnections: connections that say nothing take no place that
// one needs which does, for longer than a moment.
func TestStormOfSilentConnections(t *testing.T) {
	within(t, nil, func(t *testing.T, h *house) {
		good := h.client("good", packet.V311)
		for range 10 * maxClients {
			h.dial()
			synctest.Wait()
			if n := len(h.all()); n > maxPending+1 {
				t.Fatalf("%d connections, want at most %d that are silent", n, maxPending)
			}
		}
		time.Sleep(pendingGrace)
		for i := range maxPending {
			h.client(fmt.Sprint("late", i), packet.V311)
		}
		good.Send(packet.AppendEmpty(nil, packet.Pingreq))
		good.Expect(packet.Pingresp)
	})
}

// TestWhatWaitsForAllIsBounded: many peers that never read get less each, and
// one that reads gets everything.
func TestWhatWaitsForAllIsBounded(t *testing.T) {
	within(t, nil, func(t *testing.T, h *house) {
		good := h.client("good", packet.V311)
		subscribe(good, packet.V311, packet.Filter{Topic: "a"})
		for i := range maxClients - 1 {
			subscribe(h.client(fmt.Sprint(i), packet.V311), packet.V311, packet.Filter{Topic: "a"})
		}
		payload := make([]byte, 16<<10)
		most := int64(0)
		for range 40 {
			h.Publish(packet.Message{Topic: "a", Payload: payload})
			most = max(most, h.waiting.Load())
			good.Expect(packet.Publish)
			synctest.Wait()
		}
		if limit := int64(maxWaiting + maxClients*fairQueue); most > limit {
			t.Errorf("%d bytes waited at a time, want at most %d", most, limit)
		}
		time.Sleep(2 * writeTimeout)
		synctest.Wait()
		if n, waiting := len(h.all()), h.waiting.Load(); n != 1 || waiting != 0 {
			t.Errorf("%d connections and %d bytes are left, want the one that reads", n, waiting)
		}
	})
}

func TestTooManyConnectionsAndFilters(t *testing.T) {
	within(t, nil, func(t *testing.T, h *house) {
		var first *packettest.Peer
		for i := range maxClients {
			if p := h.client(fmt.Sprint(i), packet.V311); i == 0 {
				first = p
			}
		}
		if !h.dial().Ended(time.Second) {
			t.Errorf("connection %d stands", maxClients+1)
		}
		for i := range maxSubscribed {
			if got := subscribe(first, packet.V311, packet.Filter{Topic: fmt.Sprint(i)}); got[0] != 0 {
				t.Fatalf("filter %d: %v", i, got)
			}
		}
		if got := subscribe(first, packet.V311, packet.Filter{Topic: "one more"}); got[0] != packet.Refused {
			t.Errorf("filter %d: %v", maxSubscribed+1, got)
		}
		if got := subscribe(first, packet.V311, packet.Filter{Topic: "3", QoS: 1}); got[0] != 1 {
			t.Errorf("a filter again: %v", got)
		}
		first.Conn.Close()
		synctest.Wait()
		h.client("new", packet.V311)
	})
}

func TestListenerThatWouldBeOpenIsRefused(t *testing.T) {
	users := map[string]string{"ann": strings.Repeat("0", 64)}
	for _, tc := range []struct {
		name string
		c    Config
		ok   bool
	}{
		{"loopback", Config{Listen: "127.0.0.1:1883"}, true},
		{"loopback 6", Config{Listen: "[::1]:1883"}, true},
		{"localhost", Config{Listen: "localhost:1883"}, true},
		{"everywhere", Config{Listen: ":1883"}, false},
		{"LAN", Config{Listen: "192.168.1.2:1883"}, false},
		{"LAN, users", Config{Listen: "192.168.1.2:1883", Users: users}, false},
		{"LAN, TLS", Config{Listen: "192.168.1.2:1883", TLS: &tls.Config{}}, false},
		{"LAN, plaintext without users", Config{Listen: "192.168.1.2:1883", Plaintext: true}, false},
		{"LAN, users and TLS", Config{Listen: "192.168.1.2:1883", Users: users, TLS: &tls.Config{}}, true},
		{"LAN, users, plaintext", Config{Listen: "0.0.0.0:1883", Users: users, Plaintext: true}, true},
	} {
		if _, err := New(tc.c); (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for _, c := range []Config{
		{Listen: "127.0.0.1"}, {Listen: "127.0.0.1:0", Users: map[string]string{"ann": "secret"}},
		{Listen: "127.0.0.1:0", Users: map[string]string{"Ann B": strings.Repeat("0", 64)}},
	} {
		if _, err := New(c); err == nil || errors.Is(err, ErrOpen) {
			t.Errorf("%+v: %v, want what is wrong with it", c, err)
		}
	}
}
