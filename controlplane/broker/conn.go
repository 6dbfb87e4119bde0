package broker

import (
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxConnect is the largest CONNECT, in bytes: before authentication a
	// peer gets no more than this.
	maxConnect = 8 << 10
	// writePiece is what a peer must accept within Limits.WriteTimeout.
	writePiece = 16 << 10
	// fairQueue is what every peer may have waiting, however much waits for
	// the others.
	fairQueue = 64 << 10
	// linger is how long a closed connection may take to accept what is left,
	// such as the CONNACK that refuses it.
	linger = time.Second
	// paceIdle without progress means that mochi's queue is empty; a machine that
	// is busy enough keeps a goroutine from its turn for some 100 ms.
	paceIdle = 5 * time.Second
)

var (
	errFirstPacket  = errors.New("first packet is not a CONNECT")
	errConnectSize  = fmt.Errorf("CONNECT larger than %d bytes", maxConnect)
	errHeaderLength = errors.New("malformed remaining length")
)

// A conn is a connection whose Write never blocks.
//
// mochi writes while it holds the client's lock, and takes that lock to
// publish at QoS 1, so one blocked Write would stop every publisher. Here
// Write appends to a bounded queue; a goroutine that lives while the queue is
// not empty writes it to the peer. A full queue, or a peer that accepts less
// than writePiece in the write timeout, ends the connection.
type conn struct {
	net.Conn
	b     *Broker
	since time.Time
	place *list.Element // in b.pending; guarded by b.mu

	replaced      atomic.Bool   // the same client connects again
	ended         chan struct{} // closed when mochi is done with it
	authenticated atomic.Bool
	identity      Identity // set before authenticated
	rights        rights   // the same
	deniedOnce    atomic.Bool
	first         headerCheck // owned by the reading goroutine
	request       uint16      // the same: packet id of its SUBSCRIBE or UNSUBSCRIBE

	mu      sync.Mutex // guards what follows
	sent    sync.Cond  // a PUBLISH was queued, or the connection closed; L is &mu
	sentN   uint64     // PUBLISH packets queued
	pushedN uint64     // PUBLISH packets that mochi was about to queue
	watched bool       // recount will run
	limit   int        // bytes
	exempt  bool       // from the total of all queues
	queue   []byte     // waiting
	taken   int        // bytes the writer has taken and not yet written
	writing bool       // the writer is running
	closed  bool
	reason  string // why we closed it, if we did
}

func newConn(b *Broker, nc net.Conn) *conn {
	c := &conn{Conn: nc, b: b, since: time.Now(), ended: make(chan struct{}), limit: fairQueue}
	c.sent.L = &c.mu
	_ = nc.SetDeadline(c.since.Add(b.limits.ConnectTimeout))
	return c
}

// admitAs records who the peer is and gives it the limits of its kind.
func (c *conn) admitAs(id Identity) {
	c.identity, c.rights = id, newRights(c.b.fleet, id)
	c.mu.Lock()
	c.limit = c.b.limits.QueueBytes
	if id.Kind == ControlPlane {
		c.limit, c.exempt = c.b.limits.ControlQueueBytes, true
	}
	c.mu.Unlock()
	c.authenticated.Store(true)
	c.b.settle(c)
}

// Read reads from the peer. Until it has authenticated, the first packet's
// header is checked before mochi allocates for it.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.first.done {
		if bad := c.first.check(p[:n]); bad != nil {
			return 0, bad
		}
	}
	return n, err
}

// A headerCheck follows the fixed header of the first packet (MQTT 3.1.1
// §2.2): its type and its remaining length.
type headerCheck struct {
	done   bool
	n      int // bytes seen
	length int
}

func (h *headerCheck) check(p []byte) error {
	for _, c := range p {
		if h.done {
			return nil
		}
		if h.n++; h.n == 1 {
			if c != 0x10 {
				return errFirstPacket
			}
			continue
		}
		if h.n > 5 {
			return errHeaderLength
		}
		h.length |= int(c&0x7f) << (7 * (h.n - 2))
		if h.length > maxConnect {
			return errConnectSize
		}
		h.done = c&0x80 == 0
	}
	return nil
}

// Write queues p, copying it, and never blocks.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	waiting := len(c.queue) + c.taken
	if full := c.full(waiting, len(p)); full != "" {
		c.mu.Unlock()
		c.b.stats.overflows.Add(1)
		c.abort(full)
		return 0, net.ErrClosed
	}
	c.queue = append(c.queue, p...)
	c.count(len(p))
	if !c.writing {
		c.writing = true
		c.b.group.Add(1)
		go c.write()
	}
	c.mu.Unlock()
	return len(p), nil
}

// full says why n more bytes cannot wait, or "".
func (c *conn) full(waiting, n int) string {
	if n > c.limit-waiting {
		return fmt.Sprintf("outbound queue full: the peer left %d bytes unread", waiting)
	}
	if !c.exempt && waiting+n > fairQueue && c.b.queued.Load() > c.b.limits.TotalQueueBytes {
		return fmt.Sprintf("outbound queues full: the peer left %d bytes unread", waiting)
	}
	return ""
}

// count adjusts the total of all queues; c.mu is held.
func (c *conn) count(n int) {
	if !c.exempt {
		c.b.queued.Add(int64(n))
	}
}

// write empties the queue and ends.
func (c *conn) write() {
	defer c.b.group.Done()
	for {
		c.mu.Lock()
		piece := c.queue
		c.queue, c.taken = nil, len(piece)
		if len(piece) == 0 {
			c.writing = false
			closed := c.closed
			c.mu.Unlock()
			if closed {
				c.release()
			}
			return
		}
		c.mu.Unlock()
		if err := c.writeAll(piece); err != nil {
			c.abort(fmt.Sprintf("the peer does not read: %v", err))
			c.mu.Lock()
			c.count(-c.taken)
			c.taken, c.writing = 0, false
			c.mu.Unlock()
			return
		}
	}
}

// writeAll writes p in pieces, each with its own deadline.
func (c *conn) writeAll(p []byte) error {
	for len(p) > 0 {
		c.mu.Lock()
		if !c.closed { // else Close has set its own, sooner
			_ = c.Conn.SetWriteDeadline(time.Now().Add(c.b.limits.WriteTimeout))
		}
		c.mu.Unlock()
		n, err := c.Conn.Write(p[:min(len(p), writePiece)])
		c.mu.Lock()
		c.count(-n)
		c.taken -= n
		c.mu.Unlock()
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Close ends reading at once and closes the connection when what is queued
// has been written, or after a second.
func (c *conn) Close() error {
	c.hangUp()
	return nil
}

func (c *conn) hangUp() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.sent.Broadcast()
	now := time.Now()
	_ = c.Conn.SetReadDeadline(now)
	_ = c.Conn.SetWriteDeadline(now.Add(linger))
	writing := c.writing
	c.mu.Unlock()
	if !writing {
		c.release()
	}
}

// abort closes the connection at once and drops what is queued.
func (c *conn) abort(reason string) {
	c.mu.Lock()
	if c.reason == "" && !c.closed {
		c.reason = reason
	}
	c.closed = true
	c.count(-len(c.queue))
	c.queue = nil
	c.sent.Broadcast()
	c.mu.Unlock()
	if t, ok := c.Conn.(*tls.Conn); ok {
		t.NetConn().Close() // else Close waits to send its alert
	}
	c.release()
}

func (c *conn) release() {
	c.Conn.Close()
	c.b.forget(c)
}

// cause returns why the connection ended: our reason, or the peer's error.
func (c *conn) cause(err error) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.reason != "":
		return c.reason
	case err != nil:
		return err.Error()
	}
	return "closed by the peer"
}

// SetDeadline sets the read deadline alone: mochi means its keep alive, the
// write deadline is ours.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return c.Conn.SetReadDeadline(t)
}

// published counts a PUBLISH that mochi has handed over.
func (c *conn) published() {
	c.mu.Lock()
	c.sentN++
	c.sent.Signal() // there is room for one
	c.mu.Unlock()
}

// unpace takes back n calls of pace that delivered nothing.
func (c *conn) unpace(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pushedN = max(c.pushedN, c.sentN+uint64(n)) - uint64(n)
	for range n {
		c.sent.Signal()
	}
}

// pace is called by a publisher about to deliver to c. It waits while half of
// mochi's queue in front of ours is full: for c's goroutine, never for the
// peer, because Write does not block. So nothing is lost when a client is sent
// much at once, such as all that thousands of devices say at the same time.
func (c *conn) pace() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.pushedN >= c.sentN+writesPending/2 && !c.closed {
		if !c.watched {
			c.watched = true
			before := c.sentN
			time.AfterFunc(paceIdle, func() { c.recount(before) })
		}
		c.sent.Wait()
	}
	c.pushedN++
}

// recount starts the count of what mochi has for c again when nothing moved since
// before: deliveries that it gives up behind our back, for want of a packet
// identifier, make it drift.
func (c *conn) recount(before uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watched = false; c.sentN == before {
		c.pushedN = c.sentN
	}
	c.sent.Broadcast()
}
