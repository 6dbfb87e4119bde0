// Package broker carries sp1 between the control plane, devices and users.
//
// A [Broker] is the embedded MQTT broker: mochi-mqtt behind a small type of our
// own. It accepts MQTT 3.1.1 and 5, binds every topic to the authenticated
// identity (see [Identity]), keeps retained messages in memory only, and never
// lets one peer hold up another: what a peer does not read waits in a bounded
// queue of its own, and a peer that overflows it loses its connection.
//
// A [Session] is the control plane's own MQTT client, over [Broker.Pipe] or to
// an external broker by URL.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// DefaultListen is where the broker listens when Config.Listen is empty.
const DefaultListen = "127.0.0.1:1883"

var (
	// ErrPlaintext is returned by New for a listener that other machines can
	// reach, but that has no TLS or no authentication.
	ErrPlaintext = errors.New("refusing to listen in the clear")
	// ErrClosed is returned by Pipe once the broker has stopped.
	ErrClosed = errors.New("broker closed")
)

// Config configures a Broker.
type Config struct {
	// Listen is the TCP address; default DefaultListen. Port 0 picks a free one.
	Listen string
	// Listener, if set, is where it listens instead; the broker closes it.
	Listener net.Listener
	// Fleet is the one fleet this broker serves.
	Fleet string
	// TLS, if set, is required of every TCP client.
	TLS *tls.Config
	// Auth maps credentials to an identity. It is called once per connection,
	// concurrently, and may block. nil refuses everyone.
	Auth func(username, password, clientID string) (Identity, bool)
	// Limits bounds what clients can make the broker hold.
	Limits Limits
	// Log receives what an operator acts on; nil discards it.
	Log *slog.Logger
}

// Limits bounds what clients can make the broker hold. Zero fields take the
// default.
type Limits struct {
	// Clients is the number of authenticated connections; default 25,000.
	Clients int
	// Pending is the number of connections that have not authenticated yet;
	// default 1,024. More wait in the kernel's accept queue.
	Pending int
	// PendingGrace is how long a connection may stay silent while others wait
	// for its place; default 1 s.
	PendingGrace time.Duration
	// ConnectTimeout is how long a connection may take to send CONNECT;
	// default 10 s.
	ConnectTimeout time.Duration
	// KeepAlive is the longest keep alive a client may ask for; default
	// 20 min. MQTT 5 clients are told, 3.1.1 clients are refused. A 3.1.1
	// client may ask for none; TCP's own probes then find a dead peer.
	KeepAlive time.Duration
	// WriteTimeout is how long a peer may take to accept 16 KiB; default 30 s.
	WriteTimeout time.Duration
	// QueueBytes bounds what waits for one peer; default 1 MiB.
	QueueBytes int
	// ControlQueueBytes is QueueBytes for the control plane; default 64 MiB.
	ControlQueueBytes int
	// TotalQueueBytes bounds what waits for all peers but the control plane:
	// above it, every peer is held to 64 KiB. Default 256 MiB.
	TotalQueueBytes int64
	// Inflight is the number of QoS 1 messages a client may leave
	// unacknowledged; default 256. The control plane has 65,535.
	Inflight int
	// Subscriptions is the number of filters of one client; default 256.
	Subscriptions int
}

func (l Limits) withDefaults() Limits {
	or := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	or(&l.Clients, 25_000)
	or(&l.Pending, 1024)
	or(&l.QueueBytes, 1<<20)
	or(&l.ControlQueueBytes, 64<<20)
	or(&l.Inflight, 256)
	or(&l.Subscriptions, 256)
	orTime(&l.PendingGrace, time.Second)
	orTime(&l.ConnectTimeout, 10*time.Second)
	orTime(&l.KeepAlive, 20*time.Minute)
	orTime(&l.WriteTimeout, 30*time.Second)
	if l.TotalQueueBytes <= 0 {
		l.TotalQueueBytes = 256 << 20
	}
	return l
}

// writesPending is the length of mochi's queue in front of ours, in packets.
// It only bridges the gap until the client's goroutine runs; every client pays
// 8 bytes an entry, and publishers are paced so that it never overflows.
const writesPending = 128

// A Broker is an embedded MQTT broker. Its methods are safe for concurrent use.
type Broker struct {
	fleet  string
	auth   func(username, password, clientID string) (Identity, bool)
	limits Limits
	log    *slog.Logger
	server *mqtt.Server
	ln     net.Listener

	work    chan job
	started chan struct{} // closed when Run serves
	done    chan struct{} // closed when Run stops accepting
	freed   chan struct{} // a pending place became free; capacity 1
	group   sync.WaitGroup
	closing atomic.Bool
	queued  atomic.Int64 // bytes waiting for all peers but the control plane
	stats   counters

	mu      sync.Mutex // guards what follows
	running bool
	stopped bool
	conns   map[*conn]struct{}
	pending pendingList
}

// Stats counts since the broker was made, but for Clients, Retained and
// QueuedBytes, which are the present values.
type Stats struct {
	Clients     int
	Retained    int
	QueuedBytes int64
	Accepted    uint64 // connections
	Refused     uint64 // connections that did not authenticate
	Denied      uint64 // publishes and subscriptions outside the identity's topics
	Overflows   uint64 // connections closed because their peer did not read or acknowledge
}

type counters struct{ accepted, refused, denied, overflows atomic.Uint64 }

// New checks cfg and binds the listener, unless there is one, so that Addr is known and an address
// in use is reported here. Nothing is served before Run. The error wraps
// protocol.ErrID, ErrPlaintext or what the operating system said.
func New(cfg Config) (*Broker, error) {
	if err := protocol.CheckFleet(cfg.Fleet); err != nil {
		return nil, err
	}
	if cfg.Listener != nil {
		cfg.Listen = cfg.Listener.Addr().String()
	} else if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if err := checkListen(cfg); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		fleet:   cfg.Fleet,
		auth:    cfg.Auth,
		limits:  cfg.Limits.withDefaults(),
		log:     cfg.Log,
		work:    make(chan job),
		started: make(chan struct{}),
		done:    make(chan struct{}),
		freed:   make(chan struct{}, 1),
		conns:   make(map[*conn]struct{}),
	}
	b.server = mqtt.New(b.options())
	if err := b.server.AddHook(&hook{b: b}, nil); err != nil {
		return nil, fmt.Errorf("broker hook: %w", err)
	}
	ln := cfg.Listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, err
		}
	}
	if cfg.TLS != nil {
		ln = tls.NewListener(ln, cfg.TLS)
	}
	b.ln = ln
	return b, nil
}

// checkListen refuses a plain or open listener that is not on loopback.
func checkListen(cfg Config) error {
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return fmt.Errorf("broker listen address: %w", err)
	}
	ip := net.ParseIP(host)
	if host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	if cfg.TLS == nil || cfg.Auth == nil {
		return fmt.Errorf("%w on %s: set a TLS certificate, or listen on 127.0.0.1", ErrPlaintext, cfg.Listen)
	}
	return nil
}

// options are mochi's. Its log carries payloads, so it is discarded and the
// hook writes ours.
func (b *Broker) options() *mqtt.Options {
	return &mqtt.Options{
		Capabilities: &mqtt.Capabilities{
			MaximumClients:             int64(b.limits.Clients),
			MaximumClientWritesPending: writesPending,
			MaximumPacketSize:          protocol.MaxPacket,
			ReceiveMaximum:             1024,
			MaximumInflight:            math.MaxUint16, // the hook holds the limit of each identity
			MinimumProtocolVersion:     4,
			MaximumQos:                 1,
			RetainAvailable:            1,
			WildcardSubAvailable:       1,
			SubIDAvailable:             1,
			// Zero: retained messages never expire, sessions end with their
			// connection, and topic aliases (which mochi resolves after its
			// ACL check), shared subscriptions and QoS 2 are off.
		},
		ClientNetReadBufferSize:  2 << 10,
		ClientNetWriteBufferSize: 2 << 10,
		Logger:                   slog.New(slog.DiscardHandler),
	}
}

// Addr returns the address the broker listens on.
func (b *Broker) Addr() net.Addr { return b.ln.Addr() }

// Stats returns the broker's counters.
func (b *Broker) Stats() Stats {
	return Stats{
		Clients:     int(atomic.LoadInt64(&b.server.Info.ClientsConnected)),
		Retained:    b.server.Topics.Retained.Len(),
		QueuedBytes: b.queued.Load(),
		Accepted:    b.stats.accepted.Load(),
		Refused:     b.stats.refused.Load(),
		Denied:      b.stats.denied.Load(),
		Overflows:   b.stats.overflows.Load(),
	}
}

// Run serves until ctx ends, then closes every connection, waits for what it
// started and returns nil. It may be called once.
func (b *Broker) Run(ctx context.Context) error {
	b.mu.Lock()
	if b.running || b.stopped {
		b.mu.Unlock()
		return errors.New("broker: Run called twice or after Close")
	}
	b.running = true
	b.mu.Unlock()
	// mochi's Serve is not called: its listeners, store and $SYS are not ours, and its
	// loop copies all that is retained once a second to look for what has expired.
	var workers sync.WaitGroup
	for range workerN {
		workers.Go(b.processAll)
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		b.accept()
	}()
	close(b.started)
	b.log.Info("broker listening", "addr", b.Addr().String(), "fleet", b.fleet)

	<-ctx.Done()
	b.closing.Store(true)
	b.Close()
	<-accepted
	b.disconnectAll()
	b.group.Wait()
	close(b.work)
	workers.Wait()
	return b.server.Close()
}

// Close releases the listener of a broker that never ran. Run does it itself.
func (b *Broker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	b.stopped = true
	close(b.done)
	b.ln.Close()
}

// disconnectAll says goodbye to MQTT 5 clients and closes every connection.
func (b *Broker) disconnectAll() {
	for _, cl := range b.server.Clients.GetAll() {
		if cl.Properties.ProtocolVersion == 5 {
			_ = b.server.DisconnectClient(cl, packets.ErrServerShuttingDown)
		}
	}
	b.mu.Lock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	for _, c := range conns {
		c.hangUp()
	}
}

// Disconnect closes the connection of the given identity, such as d.pump-01,
// and reports whether there was one. It is for credentials that are withdrawn:
// a client with good ones comes back.
func (b *Broker) Disconnect(identity string) bool {
	cl, ok := b.server.Clients.Get(identity)
	if !ok || cl.Closed() {
		return false
	}
	connOf(cl).abort("disconnected by the control plane")
	return true
}

// Pipe returns the client's end of an in-process connection. It waits until
// the broker runs. The result has no buffer of its own: a client that does not
// read is treated like any other that does not.
func (b *Broker) Pipe(ctx context.Context) (net.Conn, error) {
	select {
	case <-b.started:
	case <-b.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	client, server := net.Pipe()
	if !b.serve(server) {
		client.Close()
		return nil, ErrClosed
	}
	return client, nil
}
