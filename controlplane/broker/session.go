package broker

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
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

var (
	// ErrNotConnected is returned by Publish while there is no connection.
	ErrNotConnected = errors.New("not connected to the broker")
	// ErrRefused is returned when the broker refuses a subscription (SUBACK
	// 0x80, MQTT 3.1.1 §3.9.3).
	ErrRefused = errors.New("subscription refused by the broker")
	// errQueueFull ends a connection whose messages are not handled in time.
	errQueueFull = errors.New("message queue full")
)

const (
	connectTimeout = 10 * time.Second
	minBackoff     = 100 * time.Millisecond
	maxBackoff     = 30 * time.Second
	// goodbye bounds what a session does after its context has ended.
	goodbye = time.Second
	// unlimited is longer than any connection stands: the drain ends one whose
	// broker is silent.
	unlimited = 1000 * time.Hour
)

// A Message is an MQTT message.
type Message struct {
	Topic   string
	Payload []byte
	Retain  bool
	QoS     byte
}

// A Handler is called with every message of its subscription, one at a time
// and in order. It may publish. ctx ends with the session.
type Handler func(ctx context.Context, m Message)

// SessionConfig configures a Session.
type SessionConfig struct {
	// URL is tcp://HOST:PORT or tls://HOST:PORT; unused if Dial is set.
	URL string
	// Dial opens the connection instead, such as Broker.Pipe.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS is used for tls:// URLs; nil means the system's roots.
	TLS *tls.Config
	// Username is also the client id.
	Username, Password string
	// Will, if set, is published by the broker when the connection breaks,
	// and by the session when it ends.
	Will *Message
	// KeepAlive defaults to 30 s.
	KeepAlive time.Duration
	// QueueMessages and QueueBytes bound what waits for handlers; defaults
	// 65,536 and 64 MiB. Beyond, the connection is closed and, once the queue
	// is empty, made again: retained state and unacknowledged events return.
	QueueMessages, QueueBytes int
	// OnConnect, if set, runs after each connection has subscribed, and
	// publishes what must be there. ctx ends with the connection; an error
	// ends the connection.
	OnConnect func(ctx context.Context) error
	// OnLost, if set, runs after a connection that had subscribed was lost, before
	// the next one is made; not when Run ends.
	OnLost func(ctx context.Context)
	// Log receives what an operator acts on; nil discards it.
	Log *slog.Logger
}

// A Session is the control plane's own MQTT client. It reconnects until its
// context ends. Its methods are safe for concurrent use.
type Session struct {
	cfg SessionConfig
	url *url.URL
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	subs   []subscription
	client *client         // nil when not connected
	link   context.Context // ends with client's connection
	queue  []Message
	bytes  int // payload bytes in queue

	ended chan struct{} // closed when Run returns
	wake  chan struct{} // queue is not empty; capacity 1
	empty chan struct{} // queue became empty; capacity 1
}

type subscription struct {
	filter  string
	qos     byte
	handler Handler
	watch   *struct{ _ byte } // tells it from others, of Watch
}

// NewSession checks cfg. Nothing starts before Run.
func NewSession(cfg SessionConfig) (*Session, error) {
	s := &Session{cfg: cfg, log: cfg.Log, ended: make(chan struct{}), wake: make(chan struct{}, 1), empty: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial != nil {
		s.url = &url.URL{Scheme: "tcp", Host: "in-process"}
	} else {
		u, err := url.Parse(cfg.URL)
		if err != nil {
			return nil, fmt.Errorf("broker URL: %w", err)
		}
		if u.Scheme != "tcp" && u.Scheme != "tls" || u.Hostname() == "" {
			return nil, fmt.Errorf("broker URL %q: use tcp://HOST:PORT or tls://HOST:PORT", u.Redacted())
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"tcp": "1883", "tls": "8883"}[u.Scheme])
		}
		s.url = u
	}
	if s.cfg.KeepAlive <= 0 {
		s.cfg.KeepAlive = 30 * time.Second
	}
	if s.cfg.QueueMessages <= 0 {
		s.cfg.QueueMessages = 1 << 16
	}
	if s.cfg.QueueBytes <= 0 {
		s.cfg.QueueBytes = 64 << 20
	}
	return s, nil
}

// Connected reports whether there is a connection.
func (s *Session) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client != nil
}

// Run keeps the session connected and calls handlers until ctx ends, and then
// returns nil. It is called once.
func (s *Session) Run(ctx context.Context) error {
	defer close(s.ended)
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		s.dispatch(ctx)
	}()
	defer func() { <-handled }()

	backoff := minBackoff
	for {
		start := time.Now()
		err := s.connection(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(start) > maxBackoff {
			backoff = minBackoff
		}
		wait := backoff/2 + rand.N(backoff/2)
		s.log.Warn("no connection to broker", "broker", s.url.Redacted(), "err", err, "retry", wait.Round(time.Millisecond))
		if errors.Is(err, errQueueFull) {
			s.awaitEmpty(ctx)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// unconnected says why a connection did not come about, and what to do where the
// broker does not know the control plane.
func (s *Session) unconnected(err error) error {
	if errors.Is(err, packets.ErrorRefusedNotAuthorised) || errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) {
		return fmt.Errorf("connect: the broker refuses user %s; broker.username and broker.password_file say who the control plane is there", s.cfg.Username)
	}
	return fmt.Errorf("connect: %s", strings.TrimPrefix(err.Error(), packets.ErrorNetworkError.Error()+" : "))
}

// connection makes one connection and returns why it ended.
func (s *Session) connection(ctx context.Context) error {
	link, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	open, shut := context.WithCancel(context.WithoutCancel(ctx))
	defer shut()
	client := &client{drain: new(protocol.Drain)}
	client.paho = paho.NewClient(s.options(link, lost, open, client.drain))
	// Whatever happens, paho is told to end: it has goroutines of its own. A broker
	// that takes nothing can delay that.
	defer func() {
		stuck := time.AfterFunc(goodbye, shut)
		<-client.drain.Close()
		client.paho.Disconnect(uint(goodbye / time.Millisecond / 4))
		stuck.Stop()
	}()
	if err := wait(link, client.paho.Connect()); err != nil {
		return s.unconnected(err)
	}
	s.mu.Lock()
	s.client, s.link = client, link
	subs := s.subs
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.client, s.link = nil, nil
		s.mu.Unlock()
	}()

	if err := subscribe(link, client, subs); err != nil {
		return err
	}
	s.log.Info("connected to broker", "broker", s.url.Redacted(), "client", s.cfg.Username)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s.cfg.OnConnect != nil {
			if err := s.cfg.OnConnect(link); err != nil && link.Err() == nil {
				lost(fmt.Errorf("after connecting: %w", err))
			}
		}
	}()
	<-link.Done()
	<-done
	switch {
	case ctx.Err() != nil:
		s.farewell(client)
	case s.cfg.OnLost != nil:
		s.cfg.OnLost(ctx)
	}
	return context.Cause(link)
}

// farewell says what the will would.
func (s *Session) farewell(c *client) {
	w := s.cfg.Will
	if w == nil || !c.paho.IsConnectionOpen() {
		return
	}
	t, err := c.begin(func(c paho.Client) paho.Token { return c.Publish(w.Topic, w.QoS, w.Retain, w.Payload) })
	if err == nil {
		t.WaitTimeout(goodbye)
	}
}

// A client is paho's for one connection, and what requests to it pass through.
type client struct {
	paho  paho.Client
	drain *protocol.Drain
}

// begin makes a request of paho and returns its token, or ErrNotConnected when
// the connection has ended.
func (c *client) begin(request func(paho.Client) paho.Token) (paho.Token, error) {
	if !c.drain.Begin() {
		return nil, ErrNotConnected
	}
	defer c.drain.Done()
	return request(c.paho), nil
}

// options configures paho for one connection, which is closed when open ends.
// paho's own reconnection is off: a new client is made instead, with nothing
// left from the last one.
func (s *Session) options(link context.Context, lost context.CancelCauseFunc, open context.Context, drain *protocol.Drain) *paho.ClientOptions {
	o := paho.NewClientOptions().
		SetClientID(s.cfg.Username).SetUsername(s.cfg.Username).SetPassword(s.cfg.Password).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetOrderMatters(true).
		SetKeepAlive(s.cfg.KeepAlive).SetPingTimeout(unlimited).SetConnectTimeout(connectTimeout).
		SetConnectionLostHandler(func(_ paho.Client, err error) { lost(err) }).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
			if !s.enqueue(Message{Topic: m.Topic(), Payload: m.Payload(), Retain: m.Retained(), QoS: m.Qos()}) {
				lost(errQueueFull)
			}
		}).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
			conn, err := s.dial(link)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(open, func() { conn.Close() })
			// paho pings after KeepAlive without a message; the answer has as long.
			return drain.Conn(protocol.LimitConn(conn, protocol.MaxPacket), 2*s.cfg.KeepAlive), nil
		})
	o.Servers = []*url.URL{s.url}
	if w := s.cfg.Will; w != nil {
		o.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	return o
}

// dial opens the connection below paho; it ends with ctx or the time limit.
func (s *Session) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	switch {
	case s.cfg.Dial != nil:
		return s.cfg.Dial(ctx)
	case s.url.Scheme == "tls":
		d := tls.Dialer{Config: s.cfg.TLS}
		return d.DialContext(ctx, "tcp", s.url.Host)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.url.Host)
}

// Publish sends one message and, at QoS 1, waits until the broker has it. The
// payload must not change until it returns. Without a connection it fails at
// once with ErrNotConnected; the state to publish again belongs in OnConnect.
func (s *Session) Publish(ctx context.Context, topic string, payload []byte, retain bool, qos byte) error {
	s.mu.Lock()
	client, link := s.client, s.link
	s.mu.Unlock()
	if client == nil {
		return ErrNotConnected
	}
	t, err := client.begin(func(c paho.Client) paho.Token { return c.Publish(topic, qos, retain, payload) })
	if err != nil {
		return err
	}
	select {
	case <-t.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-link.Done():
		return ErrNotConnected
	}
	switch err := t.Error(); {
	case err == nil:
		return nil
	case errors.Is(err, paho.ErrNotConnected) || link.Err() != nil:
		return ErrNotConnected
	default:
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
}

// Subscribe calls h with every message that matches filter, for as long as the
// session runs, whatever connections come and go. It returns ErrRefused if
// there is a connection and the broker refuses; while there is none, it only
// registers, and a refusal shows in the log of the connection to come.
// Overlapping subscriptions each get what the broker sends.
func (s *Session) Subscribe(ctx context.Context, filter string, qos byte, h Handler) error {
	return s.add(ctx, subscription{filter: filter, qos: qos, handler: h})
}

func (s *Session) add(ctx context.Context, sub subscription) error {
	s.mu.Lock()
	s.subs = append(s.subs[:len(s.subs):len(s.subs)], sub)
	client := s.client
	s.mu.Unlock()
	if client == nil {
		return nil
	}
	if err := subscribe(ctx, client, []subscription{sub}); !errors.Is(err, ErrNotConnected) {
		return err
	}
	return nil // the next connection subscribes
}

// Watch is Subscribe until ctx ends, which is no error, or the session does:
// ErrNotConnected. h may be called for a moment longer.
func (s *Session) Watch(ctx context.Context, filter string, qos byte, h Handler) error {
	sub := subscription{filter: filter, qos: qos, handler: h, watch: new(struct{ _ byte })}
	defer s.remove(sub)
	if err := s.add(ctx, sub); err != nil && ctx.Err() == nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-s.ended:
		return ErrNotConnected
	}
}

// remove ends a subscription of Watch. The broker is told if no other one has the
// filter; where that fails its messages find no handler.
func (s *Session) remove(sub subscription) {
	s.mu.Lock()
	s.subs = slices.DeleteFunc(slices.Clone(s.subs), func(x subscription) bool { return x.watch == sub.watch })
	shared := slices.ContainsFunc(s.subs, func(x subscription) bool { return x.filter == sub.filter })
	client := s.client
	s.mu.Unlock()
	if client != nil && !shared {
		t, err := client.begin(func(c paho.Client) paho.Token { return c.Unsubscribe(sub.filter) })
		if err == nil {
			t.WaitTimeout(goodbye)
		}
	}
}

// subscribe sends SUBSCRIBEs of at most protocol.MaxFilters filters and checks
// what the broker granted.
func subscribe(ctx context.Context, client *client, subs []subscription) error {
	for len(subs) > 0 {
		n := min(len(subs), protocol.MaxFilters)
		filters := make(map[string]byte, n)
		for _, sub := range subs[:n] {
			filters[sub.filter] = max(filters[sub.filter], sub.qos)
		}
		t, err := client.begin(func(c paho.Client) paho.Token { return c.SubscribeMultiple(filters, nil) })
		if err == nil {
			err = wait(ctx, t)
		}
		if err != nil && ctx.Err() == nil && !client.paho.IsConnectionOpen() {
			err = ErrNotConnected // paho has words of its own for a connection that ended meanwhile
		}
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		for filter, granted := range t.(*paho.SubscribeToken).Result() {
			if granted > 1 {
				return fmt.Errorf("%w: %s", ErrRefused, filter)
			}
		}
		subs = subs[n:]
	}
	return nil
}

// enqueue is all that paho's goroutine does with a message. It returns false
// when the queue is full.
func (s *Session) enqueue(m Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= s.cfg.QueueMessages || s.bytes+len(m.Payload) > s.cfg.QueueBytes {
		return false
	}
	s.queue = append(s.queue, m)
	s.bytes += len(m.Payload)
	signal(s.wake)
	return true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// dispatch calls handlers until ctx ends.
func (s *Session) dispatch(ctx context.Context) {
	for {
		s.mu.Lock()
		batch, subs := s.queue, s.subs
		s.queue = nil
		s.mu.Unlock()
		if len(batch) == 0 {
			signal(s.empty)
			select {
			case <-s.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		for _, m := range batch {
			if ctx.Err() != nil {
				return
			}
			for _, sub := range subs {
				if packet.Match(sub.filter, m.Topic) {
					sub.handler(ctx, m)
				}
			}
			s.mu.Lock()
			s.bytes -= len(m.Payload)
			s.mu.Unlock()
		}
	}
}

// awaitEmpty returns when the queue has been handled, or ctx ends.
func (s *Session) awaitEmpty(ctx context.Context) {
	for {
		select {
		case <-s.empty:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		n := len(s.queue)
		s.mu.Unlock()
		if n == 0 {
			return
		}
	}
}

// wait returns when t completes or ctx ends, whichever is first.
func wait(ctx context.Context, t paho.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
