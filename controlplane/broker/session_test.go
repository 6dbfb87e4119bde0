package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	pahopackets "github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokertest"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// session runs a session until the test ends, and waits for its connection.
func session(t testing.TB, cfg SessionConfig) (*Session, func()) {
	t.Helper()
	connected := make(chan struct{}, 16)
	then := cfg.OnConnect
	cfg.OnConnect = func(ctx context.Context) error {
		connected <- struct{}{}
		if then != nil {
			return then(ctx)
		}
		return nil
	}
	if cfg.Username == "" {
		cfg.Username, cfg.Password = "c.f", password
	}
	s, err := NewSession(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, runSession(t, s, connected)
}

func runSession(t testing.TB, s *Session, connected chan struct{}) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	<-connected
	return stop
}

func TestSessionChecksItsURL(t *testing.T) {
	for _, url := range []string{"", "mqtt.example.org", "http://x:1883", "tcp://", "tcp://x:port"} {
		if _, err := NewSession(SessionConfig{URL: url}); err == nil {
			t.Errorf("NewSession(%q) succeeded", url)
		}
	}
	s, err := NewSession(SessionConfig{URL: "tls://broker.example.org"})
	if err != nil || s.url.Host != "broker.example.org:8883" {
		t.Errorf("tls without a port: %v, %v", s, err)
	}
}

func TestSessionSaysWhyItIsNotConnected(t *testing.T) {
	s := &Session{cfg: SessionConfig{Username: "c.f"}}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{pahopackets.ErrorRefusedNotAuthorised, "connect: the broker refuses user c.f; broker.username and broker.password_file say who the control plane is there"},
		{pahopackets.ErrorRefusedBadUsernameOrPassword, "connect: the broker refuses user c.f; broker.username and broker.password_file say who the control plane is there"},
		{fmt.Errorf("%w : %w", pahopackets.ErrorNetworkError, errors.New("no such host")), "connect: no such host"},
		{context.DeadlineExceeded, "connect: context deadline exceeded"},
	} {
		if got := s.unconnected(tt.err).Error(); got != tt.want {
			t.Errorf("%v is %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestSessionPublishesAndReceives(t *testing.T) {
	for _, over := range []string{"pipe", "tcp"} {
		t.Run(over, func(t *testing.T) {
			b := start(t, nil)
			cfg := SessionConfig{Dial: b.Pipe}
			if over == "tcp" {
				cfg = SessionConfig{URL: "tcp://" + b.Addr().String()}
			}
			s, _ := session(t, cfg)
			got := make(chan Message, 10)
			if err := s.Subscribe(t.Context(), "sp1/f/d/+/have", 1, func(_ context.Context, m Message) { got <- m }); err != nil {
				t.Fatal(err)
			}
			dev := connect(t, b, brokertest.Options{ID: "d.a"})
			subscribeOK(t, dev, 1, "sp1/f/d/a/want")
			if err := s.Publish(t.Context(), "sp1/f/d/a/want", []byte("v2"), true, 1); err != nil {
				t.Fatal(err)
			}
			if m := receive(t, dev); m != "sp1/f/d/a/want v2" {
				t.Errorf("device received %q", m)
			}
			publishOK(t, dev, "sp1/f/d/a/have", "v2", true)
			if m := <-got; m.Topic != "sp1/f/d/a/have" || string(m.Payload) != "v2" {
				t.Errorf("session received %+v", m)
			}
		})
	}
}

func TestHandlersMayPublish(t *testing.T) {
	b := start(t, nil)
	s, _ := session(t, SessionConfig{Dial: b.Pipe})
	err := s.Subscribe(t.Context(), "sp1/f/d/+/ev", 1, func(ctx context.Context, m Message) {
		topic, err := protocol.ParseTopic(m.Topic)
		if err == nil {
			err = s.Publish(ctx, protocol.AckTopic(fleet, topic.Device), m.Payload, false, 1)
		}
		if err != nil && ctx.Err() == nil { // the device may end the test before our PUBACK
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	dev := connect(t, b, brokertest.Options{ID: "d.a"})
	subscribeOK(t, dev, 1, "sp1/f/d/a/ack")
	for i := range 100 {
		if _, err := dev.Publish("sp1/f/d/a/ev", fmt.Append(nil, i), 1, false); err != nil {
			t.Fatal(err)
		}
		if got, want := receive(t, dev), fmt.Sprint("sp1/f/d/a/ack ", i); got != want {
			t.Fatalf("received %q, want %q", got, want)
		}
	}
}

func TestSessionReportsARefusedSubscription(t *testing.T) {
	b := start(t, nil)
	s, _ := session(t, SessionConfig{Dial: b.Pipe, Username: "d.a", Password: password})
	err := s.Subscribe(t.Context(), "sp1/f/d/b/want", 1, func(context.Context, Message) {})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "sp1/f/d/b/want") {
		t.Errorf("Subscribe = %v, want ErrRefused naming the filter", err)
	}
}

// breakable dials like next, and can break the connection.
type breakable struct {
	next func(context.Context) (net.Conn, error)
	conn atomic.Pointer[net.Conn]
}

func (d *breakable) dial(ctx context.Context) (net.Conn, error) {
	conn, err := d.next(ctx)
	if err == nil {
		d.conn.Store(&conn)
	}
	return conn, err
}

func TestSessionComesBack(t *testing.T) {
	b := start(t, nil)
	link := &breakable{next: b.Pipe}
	connected := make(chan struct{}, 16)
	s, err := NewSession(SessionConfig{Dial: link.dial, Username: "c.f", Password: password,
		OnConnect: func(context.Context) error { connected <- struct{}{}; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 100)
	for i := range protocol.MaxFilters + 1 { // more than one SUBSCRIBE
		filter := fmt.Sprintf("sp1/f/d/%d/ev", i)
		if err := s.Subscribe(t.Context(), filter, 1, func(_ context.Context, m Message) { got <- m.Topic }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Publish(t.Context(), "sp1/f/state", nil, true, 1); !errors.Is(err, ErrNotConnected) {
		t.Errorf("Publish before the connection = %v, want ErrNotConnected", err)
	}
	runSession(t, s, connected)
	for range 2 {
		(*link.conn.Load()).Close()
		<-connected
		dev := connect(t, b, brokertest.Options{ID: "d.8"})
		publishOK(t, dev, "sp1/f/d/8/ev", "1", false)
		if topic := <-got; topic != "sp1/f/d/8/ev" {
			t.Errorf("received on %s", topic)
		}
	}
}

func TestSessionSaysGoodbye(t *testing.T) {
	b := start(t, nil)
	_, stop := session(t, SessionConfig{Dial: b.Pipe, Will: &Message{Topic: "sp1/f/state", Payload: []byte("gone"), Retain: true, QoS: 1}})
	stop()
	dev := connect(t, b, brokertest.Options{ID: "d.a"})
	subscribeOK(t, dev, 0, "sp1/f/state")
	if got := receive(t, dev); got != "sp1/f/state gone" {
		t.Errorf("retained %q", got)
	}
}

func TestFullQueueReconnectsAndLosesNoState(t *testing.T) {
	b := start(t, nil)
	const devices = 50
	for i := range devices {
		b.server.Topics.RetainMessage(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true},
			TopicName:   protocol.HaveTopic(fleet, fmt.Sprint(i)), Payload: []byte("{}"),
		})
	}
	connected := make(chan struct{}, 1000)
	release := make(chan struct{})
	full := sync.OnceFunc(func() { close(release) })
	s, err := NewSession(SessionConfig{
		Dial: b.Pipe, Username: "c.f", Password: password,
		QueueMessages: devices/2 - 1, // the handler holds as many again
		OnConnect:     func(context.Context) error { connected <- struct{}{}; return nil },
		Log: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			if strings.Contains(string(p), errQueueFull.Error()) {
				full()
			}
			return len(p), nil
		}), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 1000)
	err = s.Subscribe(t.Context(), "sp1/f/d/+/have", 1, func(ctx context.Context, m Message) {
		select {
		case <-release: // until the queue has overflowed once
		case <-ctx.Done():
		}
		seen <- m.Topic
	})
	if err != nil {
		t.Fatal(err)
	}
	runSession(t, s, connected)
	topics := map[string]bool{}
	for len(topics) < devices {
		topics[<-seen] = true
	}
}

// A broker that announces 256 MB must not make paho allocate it.
func TestSessionRefusesAGiantPacket(t *testing.T) {
	lost := make(chan error, 1)
	dial := func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			c := brokertest.NewClient(server, 4)
			if _, err := c.Next(); err != nil {
				lost <- err
				return
			}
			_, _ = server.Write([]byte{0x20, 2, 0, 0})                // CONNACK
			_, _ = server.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}) // PUBLISH
			_, err := io.Copy(io.Discard, server)
			select {
			case lost <- err:
			default:
			}
		}()
		return client, nil
	}
	session(t, SessionConfig{Dial: dial})
	if err := <-lost; err != nil {
		t.Errorf("the session's end of the connection: %v, want closed", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestWatchEndsWithItsContext(t *testing.T) {
	b := start(t, nil)
	s, stop := session(t, SessionConfig{Dial: b.Pipe})
	const filter = "sp1/f/d/+/have"
	kept := make(chan Message, 10)
	if err := s.Subscribe(t.Context(), filter, 1, func(_ context.Context, m Message) { kept <- m }); err != nil {
		t.Fatal(err)
	}
	watched := make(chan Message, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	watch := func(ctx context.Context) {
		go func() { ended <- s.Watch(ctx, filter, 1, func(_ context.Context, m Message) { watched <- m }) }()
	}
	watch(ctx)
	dev := connect(t, b, brokertest.Options{ID: "d.a"})
	for n := 0; len(watched) == 0; n++ { // there is no telling when the subscription holds
		publishOK(t, dev, "sp1/f/d/a/have", fmt.Sprint(n), true)
		<-kept
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Watch = %v", err)
	}
	seen := len(watched)
	publishOK(t, dev, "sp1/f/d/a/have", "last", true)
	for m := range kept { // what is retained may come once more with the subscription of Watch
		if string(m.Payload) == "last" {
			break
		}
	}
	if len(watched) != seen {
		t.Error("a handler was called after its Watch had ended")
	}
	watch(t.Context())
	stop()
	if err := <-ended; !errors.Is(err, ErrNotConnected) {
		t.Errorf("Watch of a session that ended = %v, want ErrNotConnected", err)
	}
}
