// Package packettest has an MQTT network in memory, for tests whose clock is
// fake.
package packettest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

// A Listener accepts what Dial connects.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// Listen returns a Listener.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects to l, without a buffer: who does not read blocks the other end.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	one, two := net.Pipe()
	select {
	case l.conns <- two:
		return one, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept returns the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is a name for logs.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }

// A Peer is one end of an MQTT connection, driven by a test packet by packet.
type Peer struct {
	t    *testing.T
	Conn net.Conn
	r    *bufio.Reader
}

// NewPeer drives conn.
func NewPeer(t *testing.T, conn net.Conn) *Peer {
	return &Peer{t, conn, bufio.NewReader(conn)}
}

// Send writes bytes.
func (p *Peer) Send(b []byte) {
	p.t.Helper()
	if _, err := p.Conn.Write(b); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// Next reads a packet, or reports that none comes within a minute.
func (p *Peer) Next() packet.Packet {
	p.t.Helper()
	_ = p.Conn.SetReadDeadline(time.Now().Add(time.Minute))
	got, err := packet.Read(p.r, packet.MaxBody)
	if err != nil {
		p.t.Fatalf("no packet: %v", err)
	}
	return got
}

// Expect reads a packet of type typ.
func (p *Peer) Expect(typ byte) packet.Packet {
	p.t.Helper()
	got := p.Next()
	if got.Type != typ {
		p.t.Fatalf("packet of type %d with body %q, want type %d", got.Type, got.Body, typ)
	}
	return got
}

// Until reads packets until none comes for d, or the connection ends.
func (p *Peer) Until(d time.Duration) (got []packet.Packet) {
	for {
		_ = p.Conn.SetReadDeadline(time.Now().Add(d))
		next, err := packet.Read(p.r, packet.MaxBody)
		if err != nil {
			return got
		}
		got = append(got, next)
	}
}

// Ended reports whether the other end closes the connection within d, dropping
// what comes before.
func (p *Peer) Ended(d time.Duration) bool {
	_ = p.Conn.SetReadDeadline(time.Now().Add(d))
	for {
		if _, err := packet.Read(p.r, packet.MaxBody); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}
