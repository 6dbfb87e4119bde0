// Package link is the device's MQTT session: one connection at a time to one
// broker, made again for as long as Run runs.
//
// It holds the client library to the profile of sp1: clean sessions, QoS 0 and
// 1, at most eight filters in a SUBSCRIBE, packets capped below the library
// (which would let a 5-byte header allocate 256 MB), and refused
// subscriptions, which MQTT 3.1.1 shows only in the SUBACK (§3.9.3), reported.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Errors of a Link.
var (
	// ErrDown: there is no connection now. It comes back by itself.
	ErrDown = errors.New("not connected to the broker")
	// ErrRefused: the broker does not allow a subscription.
	ErrRefused = errors.New("subscription refused by the broker")
	// ErrDenied: the broker does not accept the credentials.
	ErrDenied = errors.New("broker refused the credentials")
)

// A Message is one PUBLISH. Payload is the receiver's.
type Message struct {
	Topic    string
	Payload  []byte
	QoS      byte
	Retained bool
}

// A Config says to which broker, as whom, and what to do then.
type Config struct {
	URL      string // tcp://host:port or tls://host:port; unused with Dial
	ClientID string
	Username string
	Password string
	TLS      *tls.Config                                 // for tls://; nil verifies against the system's roots
	Dial     func(ctx context.Context) (net.Conn, error) // nil dials URL
	Will     Message

	KeepAlive  time.Duration // 0 takes 30 s
	BackoffMin time.Duration // first wait after a failure; 0 takes 500 ms
	BackoffMax time.Duration // 0 takes 60 s

	// Connected subscribes and announces. An error, or the end of its
	// context, which is the end of the connection, leads to a new one.
	Connected func(ctx context.Context) error
	// Received gets every message, in order, on the goroutine that reads the
	// connection: it must only enqueue.
	Received func(Message)
	// Goodbye is published before a wanted end of the connection.
	Goodbye Message

	Log *slog.Logger
}

// A Link is one device's way to its broker.
type Link struct {
	cfg                 Config
	received, delivered atomic.Uint64              // bytes
	up                  atomic.Pointer[connection] // nil while there is no connection
	reason              atomic.Pointer[string]     // why there is none, in words
}

// New returns a Link that Run will connect.
func New(cfg Config) (*Link, error) {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = 30 * time.Second
	}
	if cfg.BackoffMin == 0 {
		cfg.BackoffMin = 500 * time.Millisecond
	}
	if cfg.BackoffMax == 0 {
		cfg.BackoffMax = time.Minute
	}
	if cfg.Dial == nil {
		dial, err := dialer(cfg.URL, cfg.TLS)
		if err != nil {
			return nil, err
		}
		cfg.Dial = dial
	}
	l := &Link{cfg: cfg}
	l.setReason("not started")
	return l, nil
}

func (l *Link) setReason(s string) { l.reason.Store(&s) }

// Received counts the bytes that came from the broker, of all connections, above
// TLS.
func (l *Link) Received() uint64 { return l.received.Load() }

// Delivered counts those of them that were in messages which came whole.
func (l *Link) Delivered() uint64 { return l.delivered.Load() }

// Up reports whether there is a connection.
func (l *Link) Up() bool { return l.up.Load() != nil }

// Reason says in words why there is no connection; "" when there is one.
func (l *Link) Reason() string {
	if l.Up() {
		return ""
	}
	return *l.reason.Load()
}

// Run connects, and again after every loss, until ctx ends. A failed attempt
// waits twice as long as the one before, up to BackoffMax, and each wait is
// spread over its upper half, so that a fleet does not return as one.
func (l *Link) Run(ctx context.Context) error {
	wait := l.cfg.BackoffMin
	for ctx.Err() == nil {
		began := time.Now()
		err := l.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > 2*l.cfg.BackoffMax {
			wait = l.cfg.BackoffMin
		}
		if before := *l.reason.Load(); before != err.Error() {
			l.cfg.Log.Warn("broker connection", "err", err)
		}
		l.setReason(err.Error())
		sleep := wait/2 + rand.N(wait/2+1)
		wait = min(2*wait, l.cfg.BackoffMax)
		select {
		case <-ctx.Done():
		case <-time.After(sleep):
		}
	}
	return context.Cause(ctx)
}

// session is one connection from its beginning to its end.
func (l *Link) session(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The library pings after KeepAlive without a message; the answer has as long.
	h := &handshake{ctx: ctx, dial: l.cfg.Dial, silence: 2 * l.cfg.KeepAlive, received: &l.received}
	client := mqtt.NewClient(l.options(h, cancel))
	if err := await(ctx, client.Connect()); err != nil {
		client.Disconnect(1) // ms; with 0, Go 1.26.8's fake clock can crash under the race detector
		if errors.Is(err, errNotAuthorized) || errors.Is(err, errBadLogin) {
			return fmt.Errorf("%w: user %s", ErrDenied, l.cfg.Username)
		}
		return fmt.Errorf("connect: %w", err)
	}
	h.done()
	l.up.Store(&connection{client, &h.drain})
	err := l.cfg.Connected(ctx)
	if err == nil {
		l.cfg.Log.Info("connected to broker")
		<-ctx.Done()
		err = context.Cause(ctx)
	}
	c := l.up.Swap(nil)
	l.leave(c, h.conn)
	return err
}

// A connection is the library's client, and what requests to it pass through.
type connection struct {
	client mqtt.Client
	drain  *protocol.Drain
}

// begin makes a request of the library and returns its token, or ErrDown when
// the connection has ended.
func (c *connection) begin(request func(mqtt.Client) mqtt.Token) (mqtt.Token, error) {
	if !c.drain.Begin() {
		return nil, ErrDown
	}
	defer c.drain.Done()
	return request(c.client), nil
}

// leave says goodbye, if it still can, and closes the connection, which a broker
// that takes nothing can delay by goodbyeTime.
func (l *Link) leave(c *connection, conn net.Conn) {
	stuck := time.AfterFunc(goodbyeTime, func() { conn.Close() })
	defer stuck.Stop()
	if m := l.cfg.Goodbye; c.client.IsConnectionOpen() && m.Topic != "" {
		if t, err := c.begin(publish(m)); err == nil {
			t.WaitTimeout(goodbyeTime)
		}
	}
	<-c.drain.Close()
	c.client.Disconnect(250)
}

const goodbyeTime = time.Second

func (l *Link) options(h *handshake, lost context.CancelCauseFunc) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.Servers = []*url.URL{{Scheme: "tcp", Host: "broker"}} // what is dialled is ours to decide, below
	o.SetClientID(l.cfg.ClientID).SetUsername(l.cfg.Username).SetPassword(l.cfg.Password)
	o.SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false)
	o.SetKeepAlive(l.cfg.KeepAlive).SetPingTimeout(unlimited) // the connection ends at silence, below
	o.SetConnectTimeout(20 * time.Second).SetWriteTimeout(20 * time.Second)
	o.SetOrderMatters(true)
	if w := l.cfg.Will; w.Topic != "" {
		o.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retained)
	}
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		l.delivered.Add(publishHeader + uint64(len(m.Topic())+len(m.Payload())))
		l.cfg.Received(Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retained: m.Retained()})
	})
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost(fmt.Errorf("connection lost: %w", err)) })
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return h.open() })
	return o
}

// unlimited is longer than any connection stands.
const unlimited = 1000 * time.Hour

// publishHeader is what a PUBLISH of a chunk has beside topic and payload: 4
// bytes in front, 2 for the topic's length and 2 of packet identifier (MQTT
// 3.1.1 §3.3).
const publishHeader = 8

// A handshake is cut short when its ctx ends. A connection that stands is not:
// there is a goodbye to send.
type handshake struct {
	ctx      context.Context // that of session, for a callback that has none
	dial     func(context.Context) (net.Conn, error)
	silence  time.Duration // without a byte ends the connection
	received *atomic.Uint64
	drain    protocol.Drain
	conn     net.Conn // once it is open
	stop     func() bool
}

func (h *handshake) open() (net.Conn, error) {
	conn, err := h.dial(h.ctx)
	if err != nil {
		return nil, err
	}
	h.conn, h.stop = conn, context.AfterFunc(h.ctx, func() { conn.Close() })
	return h.drain.Conn(protocol.LimitConn(&countedConn{conn, h.received}, protocol.MaxPacket), h.silence), nil
}

// A countedConn counts what is read from it.
type countedConn struct {
	net.Conn
	received *atomic.Uint64
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(uint64(n))
	return n, err
}

func (h *handshake) done() { h.stop() }

// Subscribe subscribes to exact topics or filters at qos, at most
// protocol.MaxFilters in a packet. The error wraps ErrDown, or ErrRefused with
// the filters that the broker refuses; the others are in place then.
func (l *Link) Subscribe(ctx context.Context, qos byte, filters ...string) error {
	c := l.up.Load()
	if c == nil {
		return ErrDown
	}
	var refused []string
	for part := range slices.Chunk(filters, protocol.MaxFilters) {
		m := make(map[string]byte, len(part))
		for _, f := range part {
			m[f] = qos
		}
		t, err := c.begin(func(client mqtt.Client) mqtt.Token { return client.SubscribeMultiple(m, nil) })
		if err == nil {
			err = await(ctx, t)
		}
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		for f, code := range t.(*mqtt.SubscribeToken).Result() {
			if code > 2 {
				refused = append(refused, f)
			}
		}
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return fmt.Errorf("%w: %q", ErrRefused, refused)
	}
	return nil
}

// Forget ends subscriptions without waiting for the broker's word.
func (l *Link) Forget(filters ...string) {
	c := l.up.Load()
	if c == nil {
		return
	}
	for part := range slices.Chunk(filters, protocol.MaxFilters) {
		_, _ = c.begin(func(client mqtt.Client) mqtt.Token { return client.Unsubscribe(part...) })
	}
}

// Publish sends m and waits until the broker has it (QoS 1) or the connection
// does (QoS 0).
func (l *Link) Publish(ctx context.Context, m Message) error {
	sent, err := l.Send(m)
	if err != nil {
		return err
	}
	return sent(ctx)
}

// Send hands m to the connection and returns a function that waits as Publish
// does. It blocks only while the connection takes nothing, at most 20 s.
func (l *Link) Send(m Message) (sent func(context.Context) error, err error) {
	c := l.up.Load()
	if c == nil {
		return nil, ErrDown
	}
	if len(m.Payload) > protocol.MaxPayload {
		return nil, fmt.Errorf("publish to %s: %w: %d bytes, at most %d", m.Topic, protocol.ErrTooLarge, len(m.Payload), protocol.MaxPayload)
	}
	t, err := c.begin(publish(m))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		err := await(ctx, t)
		if err == nil && m.QoS == 0 && c.drain.Closed() {
			err = ErrDown // perhaps not: the end took what was written last
		}
		if err != nil {
			return fmt.Errorf("publish to %s: %w", m.Topic, err)
		}
		return nil
	}, nil
}

func publish(m Message) func(mqtt.Client) mqtt.Token {
	return func(client mqtt.Client) mqtt.Token { return client.Publish(m.Topic, m.QoS, m.Retained, m.Payload) }
}

// await returns when t completes or ctx ends, whichever is first.
func await(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		if errors.Is(t.Error(), mqtt.ErrNotConnected) {
			return ErrDown
		}
		return t.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
