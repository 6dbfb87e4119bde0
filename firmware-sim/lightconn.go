package firmwaresim

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

const (
	readBuffer = 1 << 10 // of a connection; larger packets go past it
	readAhead  = 32      // packets: a broker that waits for its answers to be read still reads
)

// A lightConn is the MQTT 3.1.1 session of a light device: a goroutine reads it,
// the device writes. What it sends at QoS 1 is not sent again: a connection that
// loses something is lost itself.
type lightConn struct {
	nc      net.Conn
	packets chan packetRead
	done    chan struct{} // closed when the device hung up
	lastID  uint16
}

// A packetRead is what came; err ends the connection.
type packetRead struct {
	packet.Packet
	err error
}

// open connects a device, which is announced by nothing but its will yet.
func (s *Lights) open(ctx context.Context, id, token string, will link.Message) (*lightConn, error) {
	ctx, cancel := context.WithTimeout(ctx, lightTimeout)
	defer cancel()
	nc, err := s.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	nc = &counted{nc, s}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	r := bufio.NewReaderSize(nc, readBuffer)
	if err := handshake(nc, r, packet.Hello{
		Version: packet.V311, ClientID: "d." + id, Username: "d." + id, Password: []byte(token),
		KeepAlive: uint16(lightKeepAlive / time.Second),
		Will:      &packet.Message{Topic: will.Topic, Payload: will.Payload, QoS: will.QoS, Retain: will.Retained},
	}); err != nil {
		nc.Close()
		return nil, err
	}
	c := &lightConn{nc: nc, packets: make(chan packetRead, readAhead), done: make(chan struct{})}
	go c.read(r)
	return c, nil
}

func handshake(nc net.Conn, r *bufio.Reader, h packet.Hello) error {
	if _, err := nc.Write(packet.AppendConnect(nil, h)); err != nil {
		return err
	}
	p, err := packet.Read(r, packet.MaxBody)
	if err != nil {
		return err
	}
	if p.Type != packet.Connack {
		return fmt.Errorf("%w: packet of type %d, want CONNACK", packet.ErrMalformed, p.Type)
	}
	code, err := packet.ParseConnack(p.Body)
	if err == nil && code != packet.Accepted {
		err = fmt.Errorf("the broker refuses the connection with code %d", code)
	}
	return err
}

func (c *lightConn) read(r *bufio.Reader) {
	for {
		p, err := packet.Read(r, packet.MaxBody)
		select {
		case c.packets <- packetRead{p, err}:
		case <-c.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// close ends the connection without DISCONNECT: the broker says the will.
func (c *lightConn) close() {
	close(c.done)
	c.nc.Close()
}

// message reads a PUBLISH; ack is what is to be answered. Other packets, and
// malformed ones, are none: a light device has no use for them.
func (c *lightConn) message(p packetRead) (m link.Message, ack []byte, ok bool) {
	if p.Type != packet.Publish {
		return m, nil, false
	}
	in, err := packet.ParsePublish(packet.V311, p.Packet)
	if err != nil {
		return m, nil, false
	}
	if in.QoS > 0 {
		ack = packet.AppendPuback(nil, packet.V311, in.ID, false)
	}
	return link.Message{Topic: in.Topic, Payload: in.Payload, QoS: in.QoS, Retained: in.Retain}, ack, true
}

// encode returns the packets of what a device wants sent.
func (c *lightConn) encode(o agent.Out) (b []byte) {
	for topics := o.Unsubscribe; len(topics) > 0; {
		n := min(len(topics), protocol.MaxFilters)
		b = packet.AppendUnsubscribe(b, packet.V311, c.id(), topics[:n])
		topics = topics[n:]
	}
	for topics := o.Subscribe; len(topics) > 0; {
		n := min(len(topics), protocol.MaxFilters)
		filters := make([]packet.Filter, n)
		for i, t := range topics[:n] {
			filters[i] = packet.Filter{Topic: t, QoS: 1}
		}
		b = packet.AppendSubscribe(b, packet.V311, c.id(), filters)
		topics = topics[n:]
	}
	for _, m := range o.Publish {
		p := packet.Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retained}
		if m.QoS > 0 {
			p.ID = c.id()
		}
		b = packet.AppendPublish(b, packet.V311, p)
	}
	return b
}

// id returns the next packet identifier, which is never 0.
func (c *lightConn) id() uint16 {
	if c.lastID++; c.lastID == 0 {
		c.lastID = 1
	}
	return c.lastID
}

// counted counts the bytes of a connection.
type counted struct {
	net.Conn
	sim *Lights
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.sim.received.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sim.sent.Add(int64(n))
	return n, err
}
