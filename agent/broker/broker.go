// Package broker is the small MQTT broker inside an agent, for clients beside
// the device: they get answers while the way to the control plane's broker is
// down, on the same topics.
//
// It speaks MQTT 3.1.1 and 5 at QoS 0 and 1, retains what the agent itself
// publishes, and stores no sessions. It is not a broker for a site: clients,
// filters and what waits for a client that does not read are bounded, and one
// that goes over a bound loses its connection while nobody else waits.
package broker

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

const (
	maxClients     = 32          // connections, whether they have said who they are or not
	maxPending     = 8           // of them, those that have not
	pendingGrace   = time.Second // in which one of those does not have to give way to another
	maxSubscribed  = 32          // filters of a client
	maxQueue       = 512 << 10   // bytes that wait for a client
	maxWaiting     = 2 << 20     // bytes that wait for all: above it, each is held to fairQueue
	fairQueue      = 64 << 10
	maxUnacked     = 64      // QoS 1 messages that a client has not acknowledged
	maxConnect     = 8 << 10 // body of a CONNECT
	connectTimeout = 10 * time.Second
	writeTimeout   = 10 * time.Second // for a client to take what waits for it
	linger         = time.Second      // the same, once the connection ends
	retryListen    = time.Minute
)

// ErrOpen is returned by New for a listener that other machines could reach in
// the clear, or without saying who they are.
var ErrOpen = errors.New("refusing to listen for other machines")

// A Config says where to listen, to whom, and what they may do.
type Config struct {
	// Listen is a TCP address, host:port.
	Listen string
	// Listener is used in place of Listen.
	Listener net.Listener
	// TLS, if set, is required of every client.
	TLS *tls.Config
	// Users are those who may connect: by name the SHA-256 of each one's token,
	// in hex. Without any, everybody may, and only from this machine.
	Users map[string]string
	// Plaintext allows a listener without TLS beyond this machine: tokens and
	// readings cross the network for everybody to read.
	Plaintext bool

	// MayPublish and MaySubscribe say what user may do; user is "" where there
	// are no Users.
	MayPublish   func(user, topic string) bool
	MaySubscribe func(user, filter string) bool
	// Received gets every message that a client publishes, and may: it only
	// enqueues.
	Received func(packet.Message)

	Log *slog.Logger
}

// check refuses what would leave the device open.
func (c Config) check() error {
	for name, hash := range c.Users {
		if b, err := hex.DecodeString(hash); err != nil || len(b) != sha256.Size {
			return fmt.Errorf("user %s: the token's hash is not 64 hex digits; `sandpiper-agent token` prints one", name)
		}
		if err := protocol.CheckID(name); err != nil {
			return err
		}
	}
	if c.Listener != nil {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen on %q: write host:port, such as 127.0.0.1:1883", c.Listen)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	switch {
	case len(c.Users) == 0:
		return fmt.Errorf("%w on %s: name users and their tokens, or listen on 127.0.0.1", ErrOpen, c.Listen)
	case c.TLS == nil && !c.Plaintext:
		return fmt.Errorf("%w on %s: set a TLS certificate, or listen on 127.0.0.1, or allow plaintext", ErrOpen, c.Listen)
	}
	return nil
}

// A Broker serves the clients of one listener. Its methods are safe for
// concurrent use.
type Broker struct {
	cfg     Config
	waiting atomic.Int64 // bytes that wait for all clients

	mu       sync.Mutex // guards what follows
	clients  map[*client]struct{}
	retained map[string][]byte
	serial   uint64 // of client ids that we give
}

// New checks cfg; nothing listens before Run. The error may wrap ErrOpen.
func New(cfg Config) (*Broker, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Broker{cfg: cfg, clients: make(map[*client]struct{}), retained: make(map[string][]byte)}, nil
}

// Run serves until ctx ends and then returns nil. An address that cannot be
// had is logged and tried again: predictions elsewhere go on.
func (b *Broker) Run(ctx context.Context) error {
	l := b.listen(ctx)
	if l == nil {
		return nil
	}
	var g sync.WaitGroup
	defer g.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close(); b.hangUp() })
	defer stop()
	b.cfg.Log.Info("local MQTT listener", "addr", l.Addr().String(), "tls", b.cfg.TLS != nil, "users", len(b.cfg.Users))
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			b.hangUp() // those that came in meanwhile
			return nil
		case err != nil:
			b.cfg.Log.Warn("local MQTT listener cannot accept", "err", err)
			if !sleep(ctx, time.Second) {
				b.hangUp()
				return nil
			}
			continue
		}
		c := newClient(b, nc)
		if !b.add(c) {
			nc.Close()
			continue
		}
		g.Go(func() { c.serve() })
	}
}

// listen opens the listener, and again until it can; nil once ctx ends.
func (b *Broker) listen(ctx context.Context) net.Listener {
	l := b.cfg.Listener
	for said := ""; l == nil; {
		var err error
		if l, err = net.Listen("tcp", b.cfg.Listen); err == nil {
			break
		}
		if err.Error() != said {
			said = err.Error()
			b.cfg.Log.Error("no local MQTT listener yet", "err", err, "retry", retryListen)
		}
		if !sleep(ctx, retryListen) {
			return nil
		}
	}
	if b.cfg.TLS != nil {
		l = tls.NewListener(l, b.cfg.TLS)
	}
	return l
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// add reports whether there is room for c. Where too many have not said who they
// are, the one that was silent the longest gives way: silence takes nobody's
// place.
func (b *Broker) add(c *client) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var oldest *client
	pending := 0
	for other := range b.clients {
		if other.pending() {
			pending++
			if oldest == nil || other.since.Before(oldest.since) {
				oldest = other
			}
		}
	}
	if pending >= maxPending || len(b.clients) >= maxClients {
		if oldest == nil || c.since.Sub(oldest.since) < pendingGrace {
			return false
		}
		oldest.close("was silent, and another one wants in")
		delete(b.clients, oldest)
	}
	b.clients[c] = struct{}{}
	return true
}

func (b *Broker) remove(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c)
	c.drop()
}

func (b *Broker) all() []*client {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*client, 0, len(b.clients))
	for c := range b.clients {
		out = append(out, c)
	}
	return out
}

func (b *Broker) hangUp() {
	for _, c := range b.all() {
		c.close("the agent stops")
	}
}

// admit lets c in as user under a client id, and ends the connection that user
// had under it before (§3.1.4).
func (b *Broker) admit(c *client, user, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for other := range b.clients {
		if other.is(user, id) {
			other.close("its client id connected again")
		}
	}
	c.mu.Lock()
	c.user, c.id, c.admitted = user, id, true
	c.mu.Unlock()
}

// assign returns a client id for one that came without.
func (b *Broker) assign() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serial++
	return fmt.Sprintf("auto-%d", b.serial)
}

// login returns who a client is; Users decide, where there are any.
func (b *Broker) login(h packet.Hello) (user string, ok bool) {
	if len(b.cfg.Users) == 0 {
		return "", true
	}
	user = strings.TrimPrefix(h.Username, "u.")
	want, known := b.cfg.Users[user]
	sum := sha256.Sum256(h.Password)
	got := hex.EncodeToString(sum[:])
	return user, subtle.ConstantTimeCompare([]byte(got), []byte(strings.ToLower(want))) == 1 && known
}

// Publish sends a message of the agent to the clients that subscribed to its
// topic. A retained one is kept for those to come; an empty one is not kept.
func (b *Broker) Publish(m packet.Message) {
	if m.Retain {
		b.mu.Lock()
		if len(m.Payload) > 0 {
			b.retained[m.Topic] = m.Payload
		} else {
			delete(b.retained, m.Topic)
		}
		b.mu.Unlock()
	}
	m.Retain = false
	for _, c := range b.all() {
		c.deliver(m)
	}
}

// received is a message of a client: for the agent, and for other clients that
// subscribed to its topic. Clients retain nothing.
func (b *Broker) received(m packet.Message) {
	m.Retain, m.Dup = false, false
	b.cfg.Received(m)
	for _, c := range b.all() {
		c.deliver(m)
	}
}

// retainedFor returns the retained messages that match filter.
func (b *Broker) retainedFor(f packet.Filter) (out []packet.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic, payload := range b.retained {
		if packet.Match(f.Topic, topic) {
			out = append(out, packet.Message{Topic: topic, Payload: payload, QoS: f.QoS, Retain: true})
		}
	}
	return out
}
