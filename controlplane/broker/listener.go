package broker

import (
	"container/list"
	"errors"
	"net"
	"time"
)

// pendingList holds the connections that have not authenticated, oldest first.
type pendingList struct{ list.List }

// accept takes connections until the listener is closed. mochi's own listener
// ends at the first error, such as running out of file descriptors.
func (b *Broker) accept() {
	wait := time.Duration(0)
	for b.admit() {
		nc, err := b.ln.Accept()
		switch {
		case err == nil:
			wait = 0
			b.serve(nc)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			wait = min(max(2*wait, 10*time.Millisecond), time.Second)
			b.log.Warn("broker cannot accept", "err", err, "retry", wait)
			select {
			case <-time.After(wait):
			case <-b.done:
				return
			}
		}
	}
}

// admit waits for a pending place, and makes one by closing the oldest
// connection once that has been silent for the grace period. It returns false
// when the broker stops.
func (b *Broker) admit() bool {
	for {
		b.mu.Lock()
		if b.stopped {
			b.mu.Unlock()
			return false
		}
		if b.pending.Len() < b.limits.Pending {
			b.mu.Unlock()
			return true
		}
		oldest := b.pending.Front().Value.(*conn)
		wait := b.limits.PendingGrace - time.Since(oldest.since)
		b.mu.Unlock()
		if wait <= 0 {
			oldest.abort("silent while others wait to connect")
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-b.freed:
		case <-b.done:
		}
		timer.Stop()
	}
}

// serve hands nc to mochi in a goroutine that Run waits for. It returns false,
// and closes nc, when the broker has stopped or is full.
func (b *Broker) serve(nc net.Conn) bool {
	c := newConn(b, nc)
	b.mu.Lock()
	if b.stopped || len(b.conns) >= b.limits.Clients+b.limits.Pending {
		b.mu.Unlock()
		nc.Close()
		return false
	}
	b.conns[c] = struct{}{}
	c.place = b.pending.PushBack(c)
	b.group.Add(1)
	b.mu.Unlock()
	b.stats.accepted.Add(1)
	go func() {
		defer b.group.Done()
		defer close(c.ended)
		err := b.server.EstablishConnection("sp1", c)
		if !c.authenticated.Load() {
			b.stats.refused.Add(1)
			b.log.Debug("connection refused", "remote", c.RemoteAddr().String(), "reason", c.cause(err))
		}
		c.hangUp()
	}()
	return true
}

// settle gives up c's pending place: it has authenticated, or is gone.
func (b *Broker) settle(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.place == nil {
		return
	}
	b.pending.Remove(c.place)
	c.place = nil
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

// forget removes a closed connection.
func (b *Broker) forget(c *conn) {
	b.settle(c)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}
