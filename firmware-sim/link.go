package firmwaresim

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Link is the quality of a device's connection. The zero Link is perfect.
type Link struct {
	Up, Down int           // bytes per second; 0 sets no limit
	Latency  time.Duration // one way, each way
}

// errOffline is what a device gets when it dials during an outage.
var errOffline = errors.New("network is unreachable")

const (
	// parcelSize is what travels as one: the payload of an Ethernet frame.
	parcelSize = 1400
	// parcelsInFlight bounds what a direction holds: 64 parcels, 90 KB.
	parcelsInFlight = 64
)

// Shape returns a connection to the peer of conn that is as slow as l. Closing
// it closes conn and waits for what it started. Reads and writes have
// deadlines, as those of net.Pipe.
func (l Link) Shape(conn net.Conn) net.Conn {
	if l == (Link{}) {
		return conn
	}
	near, far := net.Pipe()
	s := &shaped{Conn: near, far: far, peer: conn, done: make(chan struct{})}
	s.relay(conn, far, l.Up, l.Latency)
	s.relay(far, conn, l.Down, l.Latency)
	return s
}

// shaped is the near end of a pipe; goroutines relay between its far end and
// the peer.
type shaped struct {
	net.Conn
	far, peer net.Conn
	once      sync.Once
	done      chan struct{} // closed when the connection is
	group     sync.WaitGroup
}

// A parcel arrives at a time.
type parcel struct {
	at   time.Time
	data []byte
}

// relay moves bytes from src to dst: a goroutine at the beginning of the line,
// which transmits one parcel after the other, and one at its end.
func (s *shaped) relay(dst, src net.Conn, rate int, latency time.Duration) {
	line := make(chan parcel, parcelsInFlight)
	s.group.Add(2)
	go func() {
		defer s.group.Done()
		defer close(line)
		var free time.Time // when the line has transmitted what it has
		for {
			b := make([]byte, parcelSize)
			n, err := src.Read(b)
			if n > 0 {
				if now := time.Now(); free.Before(now) {
					free = now
				}
				if rate > 0 {
					free = free.Add(time.Duration(n) * time.Second / time.Duration(rate))
				}
				select {
				case line <- parcel{free.Add(latency), b[:n]}:
				case <-s.done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer s.group.Done()
		defer s.hangUp() // the end of one direction is the end of both
		for p := range line {
			timer := time.NewTimer(time.Until(p.at))
			select {
			case <-timer.C:
			case <-s.done:
				timer.Stop()
				return
			}
			if _, err := dst.Write(p.data); err != nil {
				return
			}
		}
	}()
}

func (s *shaped) hangUp() {
	s.once.Do(func() {
		close(s.done)
		s.far.Close()
		s.peer.Close()
		s.Conn.Close()
	})
}

// Close closes the connection at both ends.
func (s *shaped) Close() error {
	s.hangUp()
	s.group.Wait()
	return nil
}

// An uplink is the one MQTT connection of a device, which has one identity:
// the agent's session, into which the sensors put their own samples between
// the agent's packets. It follows the fixed headers of what the agent writes
// (MQTT 3.1.1 §2.2) to find the gaps.
type uplink struct {
	net.Conn
	onClose func()
	up      atomic.Bool // the broker has answered: CONNACK

	// writer holds a token; who has it writes, and owns the fields below. It
	// may wait long for a slow link, so nobody waits for it who need not.
	writer chan struct{}
	header int // bytes of the current header written, 0 before it begins
	length int // of the current packet's body, as far as known
	left   int // bytes of the body still to come

	mu      sync.Mutex // guards what follows
	waiting [][]byte   // samples for the next gap
	dropped int        // samples
}

// maxWaiting samples wait for a gap; then the oldest is dropped.
const maxWaiting = 16

func newUplink(conn net.Conn) *uplink {
	u := &uplink{Conn: conn, onClose: func() {}, writer: make(chan struct{}, 1)}
	u.writer <- struct{}{}
	return u
}

func (u *uplink) Read(p []byte) (int, error) {
	n, err := u.Conn.Read(p)
	if n > 0 {
		u.up.Store(true)
	}
	return n, err
}

func (u *uplink) Write(p []byte) (int, error) {
	<-u.writer
	n, err := u.Conn.Write(p)
	u.follow(p[:n])
	u.writer <- struct{}{}
	if err == nil {
		u.flush()
	}
	return n, err
}

// publish sends one MQTT packet of the sensors, now or in the next gap. It
// returns io.ErrClosedPipe while the session is not up.
func (u *uplink) publish(packet []byte) error {
	if !u.up.Load() {
		return io.ErrClosedPipe
	}
	u.mu.Lock()
	if len(u.waiting) == maxWaiting {
		u.waiting = u.waiting[1:]
		u.dropped++
	}
	u.waiting = append(u.waiting, packet)
	u.mu.Unlock()
	u.flush()
	return nil
}

// flush writes what waits if this is a gap and nobody else is writing, who
// would flush afterwards.
func (u *uplink) flush() {
	for u.any() { // looked at again once the token is back: others may have failed to take it
		select {
		case <-u.writer:
		default:
			return
		}
		gap := u.header == 0 && u.left == 0
		var err error
		if packet := u.next(gap); packet != nil {
			_, err = u.Conn.Write(packet)
		}
		u.writer <- struct{}{}
		if !gap || err != nil { // the agent finds out about err, too
			return
		}
	}
}

func (u *uplink) any() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.waiting) > 0
}

// next takes the first packet that waits, if this is a gap.
func (u *uplink) next(gap bool) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !gap || len(u.waiting) == 0 {
		return nil
	}
	packet := u.waiting[0]
	u.waiting = u.waiting[1:]
	return packet
}

// Close closes the connection.
func (u *uplink) Close() error {
	u.onClose()
	return u.Conn.Close()
}

// follow advances over what the agent wrote.
func (u *uplink) follow(p []byte) {
	for len(p) > 0 {
		if u.left > 0 {
			n := min(u.left, len(p))
			u.left -= n
			p = p[n:]
			continue
		}
		c := p[0]
		p = p[1:]
		if u.header++; u.header == 1 {
			u.length = 0
			continue
		}
		u.length |= int(c&0x7f) << (7 * (u.header - 2))
		if c&0x80 == 0 {
			u.header, u.left = 0, u.length
		}
	}
}

// appendPublish appends a PUBLISH of QoS 0 (MQTT 3.1.1 §3.3).
func appendPublish(b []byte, topic string, payload []byte) []byte {
	n := 2 + len(topic) + len(payload)
	b = append(b, 0x30)
	for ; n > 0x7f; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	b = append(b, byte(n), byte(len(topic)>>8), byte(len(topic)))
	return append(append(b, topic...), payload...)
}

// sleep returns when d has passed, or ctx has ended.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
