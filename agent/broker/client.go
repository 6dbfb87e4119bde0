package broker

import (
	"bufio"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

// A client is one connection. Its reader runs serve; a writer takes what waits.
type client struct {
	b     *Broker
	conn  net.Conn
	since time.Time     // of its beginning
	wake  chan struct{} // capacity 1: there is something to write
	gone  chan struct{} // closed with the connection

	// Of the reader, before admitted is set, and then fixed.
	version byte
	window  int // QoS 1 messages that may be unacknowledged
	will    *packet.Message
	denied  bool // said that something was not allowed

	mu       sync.Mutex // guards what follows
	admitted bool
	user, id string
	filters  []packet.Filter
	control  []byte           // answers, which go before messages
	queue    []packet.Message // messages that wait
	bytes    int              // of both
	unacked  map[uint16]bool
	lastID   uint16
	closed   bool
}

func newClient(b *Broker, nc net.Conn) *client {
	return &client{
		b: b, conn: nc, since: time.Now(), wake: make(chan struct{}, 1), gone: make(chan struct{}), unacked: make(map[uint16]bool),
	}
}

// serve reads until the connection ends.
func (c *client) serve() {
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read()
	reason := "left"
	if err != nil {
		reason = err.Error()
	}
	c.close(reason)
	writer.Wait()
	c.b.remove(c)
	if err != nil && c.will != nil && c.b.cfg.MayPublish(c.user, c.will.Topic) {
		c.b.received(*c.will)
	}
}

// errLeft means a DISCONNECT.
var errLeft = errors.New("left")

// read handles packets; nil means that the client said goodbye.
func (c *client) read() error {
	_ = c.conn.SetReadDeadline(time.Now().Add(connectTimeout))
	r := bufio.NewReaderSize(c.conn, 2<<10)
	p, err := packet.Read(r, maxConnect)
	if err != nil {
		return err
	}
	if p.Type != packet.Connect {
		return packet.ErrMalformed
	}
	keepAlive, err := c.connect(p.Body)
	if err != nil {
		return err
	}
	for {
		deadline := time.Time{}
		if keepAlive > 0 {
			deadline = time.Now().Add(keepAlive * 3 / 2) // §3.1.2.10
		}
		_ = c.conn.SetReadDeadline(deadline)
		p, err := packet.Read(r, packet.MaxBody)
		if err == nil {
			err = c.handle(p)
		}
		if errors.Is(err, errLeft) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// connect answers a CONNECT.
func (c *client) connect(body []byte) (keepAlive time.Duration, err error) {
	h, err := packet.ParseConnect(body)
	if errors.Is(err, packet.ErrVersion) {
		c.say(packet.AppendConnack(nil, packet.V311, packet.BadVersion, ""))
	}
	if err != nil {
		return 0, err
	}
	user, ok := c.b.login(h)
	if !ok {
		c.say(packet.AppendConnack(nil, h.Version, packet.BadLogin, ""))
		c.b.cfg.Log.Warn("local MQTT client refused", "user", h.Username, "remote", c.conn.RemoteAddr().String())
		return 0, errors.New("bad user name or token")
	}
	assigned := ""
	if h.ClientID == "" {
		assigned = c.b.assign()
		h.ClientID = assigned
	}
	c.version, c.will, c.window = h.Version, h.Will, maxUnacked
	if h.Receive > 0 {
		c.window = min(c.window, int(h.Receive))
	}
	c.b.admit(c, user, h.ClientID)
	c.say(packet.AppendConnack(nil, h.Version, packet.Accepted, assigned))
	return time.Duration(h.KeepAlive) * time.Second, nil
}

// pending reports whether the client has not said who it is.
func (c *client) pending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.admitted
}

func (c *client) is(user, id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.admitted && c.user == user && c.id == id
}

// handle answers a packet after the CONNECT.
func (c *client) handle(p packet.Packet) error {
	switch p.Type {
	case packet.Publish:
		return c.publish(p)
	case packet.Puback:
		id, err := packet.ParseAck(p.Body)
		if err != nil {
			return err
		}
		c.mu.Lock()
		delete(c.unacked, id)
		c.mu.Unlock()
		c.signal()
		return nil
	case packet.Subscribe:
		return c.subscribe(p)
	case packet.Unsubscribe:
		id, filters, err := packet.ParseUnsubscribe(c.version, p.Body, maxSubscribed)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.filters = slices.DeleteFunc(c.filters, func(f packet.Filter) bool { return slices.Contains(filters, f.Topic) })
		c.mu.Unlock()
		c.say(packet.AppendUnsuback(nil, c.version, id, len(filters)))
		return nil
	case packet.Pingreq:
		c.say(packet.AppendEmpty(nil, packet.Pingresp))
		return nil
	case packet.Disconnect:
		return errLeft
	}
	return packet.ErrMalformed
}

// publish passes a message on; one that the client may not publish is
// acknowledged and dropped, as MQTT 3.1.1 has no other answer (§3.3.5).
func (c *client) publish(p packet.Packet) error {
	m, err := packet.ParsePublish(c.version, p)
	if err != nil {
		return err
	}
	allowed := c.b.cfg.MayPublish(c.user, m.Topic)
	if allowed {
		c.b.received(m)
	} else {
		c.deny("publish", m.Topic)
	}
	if m.QoS > 0 {
		c.say(packet.AppendPuback(nil, c.version, m.ID, !allowed))
	}
	return nil
}

func (c *client) subscribe(p packet.Packet) error {
	id, filters, err := packet.ParseSubscribe(c.version, p.Body, maxSubscribed)
	if err != nil {
		return err
	}
	codes := make([]byte, len(filters))
	var granted []packet.Filter
	for i, f := range filters {
		codes[i] = f.QoS
		if !c.b.cfg.MaySubscribe(c.user, f.Topic) || !c.addFilter(f) {
			codes[i] = packet.Refused
			c.deny("subscribe", f.Topic)
			continue
		}
		granted = append(granted, f)
	}
	c.say(packet.AppendSuback(nil, c.version, id, codes))
	for _, f := range granted {
		for _, m := range c.b.retainedFor(f) {
			c.enqueue(m)
		}
	}
	return nil
}

// addFilter adds or replaces a subscription, if there is room.
func (c *client) addFilter(f packet.Filter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.filters {
		if c.filters[i].Topic == f.Topic {
			c.filters[i] = f
			return true
		}
	}
	if len(c.filters) >= maxSubscribed {
		return false
	}
	c.filters = append(c.filters, f)
	return true
}

// deny says once for each connection what was not allowed.
func (c *client) deny(what, topic string) {
	if !c.denied {
		c.denied = true
		c.b.cfg.Log.Warn("local MQTT client may not "+what, "user", c.user, "client", c.id, "topic", topic)
	}
}

// deliver queues m if the client subscribed to its topic, at the lower of the
// two QoS.
func (c *client) deliver(m packet.Message) {
	c.mu.Lock()
	qos := -1
	if c.admitted {
		for _, f := range c.filters {
			if packet.Match(f.Topic, m.Topic) {
				qos = max(qos, int(min(f.QoS, m.QoS)))
			}
		}
	}
	c.mu.Unlock()
	if qos >= 0 {
		m.QoS = byte(qos)
		c.enqueue(m)
	}
}

// enqueue adds a message to what waits; a client that lets it grow over
// maxQueue loses its connection.
func (c *client) enqueue(m packet.Message) {
	c.mu.Lock()
	n := messageBytes(m)
	full := !c.room(n)
	if !full && !c.closed {
		c.queue = append(c.queue, m)
		c.count(n)
	}
	c.mu.Unlock()
	if full {
		c.close("does not read what it subscribed to")
		return
	}
	c.signal()
}

// room reports whether n bytes more may wait. It is called with mu held, as
// count is.
func (c *client) room(n int) bool {
	return c.bytes+n <= fairQueue || c.bytes+n <= maxQueue && c.b.waiting.Load()+int64(n) <= maxWaiting
}

func (c *client) count(n int) {
	c.bytes += n
	c.b.waiting.Add(int64(n))
}

// drop forgets what waits: the connection is gone.
func (c *client) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count(-c.bytes)
	c.queue, c.control = nil, nil
}

func messageBytes(m packet.Message) int { return len(m.Topic) + len(m.Payload) + 64 }

// say queues an answer.
func (c *client) say(b []byte) {
	c.mu.Lock()
	full := !c.room(len(b))
	if !full && !c.closed {
		c.control = append(c.control, b...)
		c.count(len(b))
	}
	c.mu.Unlock()
	if full {
		c.close("does not read its answers")
		return
	}
	c.signal()
}

func (c *client) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write sends what waits until the connection ends, and then for as long as
// linger what is left: an answer that says why, or replies to requests that were
// taken before the agent was told to stop.
func (c *client) write() {
	var buf []byte
	for open := true; open; {
		select {
		case <-c.wake:
		case <-c.gone:
			open = false
		}
		for {
			buf = c.next(buf[:0])
			if len(buf) == 0 {
				break
			}
			c.mu.Lock()
			if !c.closed { // else close has set a short one
				_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			}
			c.mu.Unlock()
			if _, err := c.conn.Write(buf); err != nil {
				c.close("does not read: " + err.Error())
				open = false
				break
			}
			if cap(buf) > 16<<10 {
				buf = nil // one large message is no reason to hold its size for good
			}
		}
	}
	c.conn.Close()
}

// next takes answers, and messages that may be sent now, up to some KiB.
func (c *client) next(buf []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	buf = append(buf, c.control...)
	c.count(-len(c.control))
	c.control = c.control[:0]
	i := 0
	for ; i < len(c.queue) && len(buf) < 8<<10; i++ {
		m := c.queue[i]
		if m.QoS > 0 {
			if len(c.unacked) >= c.window {
				break
			}
			m.ID = c.freeID()
			c.unacked[m.ID] = true
		}
		c.count(-messageBytes(m))
		buf = packet.AppendPublish(buf, c.version, m)
	}
	if c.queue = c.queue[i:]; len(c.queue) == 0 {
		c.queue = nil
	}
	return buf
}

// freeID returns a packet id that is not in use (§2.3.1).
func (c *client) freeID() uint16 {
	for {
		if c.lastID++; c.lastID != 0 && !c.unacked[c.lastID] {
			return c.lastID
		}
	}
}

// close ends the connection: no more is read, and the writer closes it.
func (c *client) close(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	close(c.gone)
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	_ = c.conn.SetWriteDeadline(time.Now().Add(linger))
	c.b.cfg.Log.Debug("local MQTT client", "user", c.user, "client", c.id, "reason", reason)
}
