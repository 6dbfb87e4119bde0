package protocol

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A Drain lets every request to an MQTT client library be handed over before the
// library learns that its connection has ended.
//
// paho takes requests from a channel. One that is made while the connection ends
// finds nobody at the other end of it, and keeps its caller for the write
// timeout (paho.mqtt.golang 1.5.1 client.go, Publish): 20 s or more in which a
// daemon neither reconnects nor stops. So a request is made between Begin and
// Done, and the connection, from Conn, drains first: when it fails, it takes no
// new request, takes and drops what the library still writes, and lets a Read
// fail only after the last Done.
//
// The zero Drain is ready for use, for one connection.
type Drain struct {
	mu     sync.Mutex // guards what follows
	closed bool
	begun  int           // requests between Begin and Done
	idle   chan struct{} // closed with the last Done after Close; nil before Close
}

// Begin reports whether a request may be made. If so, Done is to be called once
// the library has it.
func (d *Drain) Begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.begun++
	return true
}

// Done ends what Begin began.
func (d *Drain) Done() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begun--; d.closed && d.begun == 0 {
		close(d.idle)
	}
}

// Close lets no request begin any more and returns a channel that is closed when
// none is under way.
func (d *Drain) Close() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed, d.idle = true, make(chan struct{})
		if d.begun == 0 {
			close(d.idle)
		}
	}
	return d.idle
}

// Closed reports whether Close was called.
func (d *Drain) Closed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// Conn returns c with an end that drains. A peer that sends nothing for silence,
// if that is not 0, has gone: the client's own look at its pings would end the
// connection past the drain.
func (d *Drain) Conn(c net.Conn, silence time.Duration) net.Conn {
	return &drainConn{Conn: c, drain: d, silence: silence}
}

// errConnClosed stands for net.ErrClosed, which paho takes for its own doing.
var errConnClosed = errors.New("connection closed")

type drainConn struct {
	net.Conn
	drain   *Drain
	silence time.Duration

	mu    sync.Mutex // guards what follows
	err   error      // the first failure
	given bool       // closed by the library: nothing takes requests any more
}

// Read reads from the connection. Only one goroutine at a time may.
func (c *drainConn) Read(p []byte) (int, error) {
	if c.silence > 0 {
		_ = c.SetReadDeadline(time.Now().Add(c.silence)) // else the Read says why
	}
	n, err := c.Conn.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	idle := c.fail(err)
	c.mu.Lock()
	first, given := c.err, c.given
	c.mu.Unlock()
	if !given {
		<-idle
	}
	return 0, first
}

// Write writes to the connection. A failure shows in Read.
func (c *drainConn) Write(p []byte) (int, error) {
	if n, err := c.Conn.Write(p); err != nil && n < len(p) {
		c.fail(err)
	}
	return len(p), nil
}

// Close is the library's, which has stopped.
func (c *drainConn) Close() error {
	c.mu.Lock()
	c.given = true
	c.mu.Unlock()
	return c.Conn.Close()
}

// fail ends the connection, keeps why the first time, and returns a channel that
// is closed when no request is under way.
func (c *drainConn) fail(err error) <-chan struct{} {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		err = errConnClosed
	}
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	idle := c.drain.Close()
	c.Conn.Close() // what blocks in it returns
	return idle
}
