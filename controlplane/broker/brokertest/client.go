// Package brokertest has what tests and measurements of a broker need: a cheap
// MQTT client that can also misbehave, and [Distribute], which sends a model
// to a thousand of them.
package brokertest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// Packet types (MQTT 3.1.1 §2.2.1).
const (
	CONNACK  = 2
	PUBLISH  = 3
	PUBACK   = 4
	SUBACK   = 9
	UNSUBACK = 11
	PINGRESP = 13
)

// maxPacket is the largest packet a Client reads.
const maxPacket = 1 << 20

// Options are what a Client sends in its CONNECT.
type Options struct {
	Version     byte // 4 (MQTT 3.1.1, the default) or 5
	ID          string
	Username    string // default ID
	Password    string
	KeepAlive   time.Duration // whole seconds; default 60 s
	NoKeepAlive bool
	WillTopic   string
	WillPayload []byte
	WillRetain  bool
	WillDelay   time.Duration // whole seconds; of MQTT 5 alone
}

// A Client is an MQTT client without goroutines: it does exactly what it is
// told, which may be nothing. It is not safe for concurrent use.
type Client struct {
	Conn    net.Conn
	Version byte
	r       *bufio.Reader
	id      uint16
}

// A Packet is a received packet. Topic, Payload and ID are set for PUBLISH, ID
// for acknowledgements, Codes for CONNACK, SUBACK, PUBACK and, in MQTT 5,
// UNSUBACK.
type Packet struct {
	Type    byte
	QoS     byte
	Retain  bool
	ID      uint16
	Topic   string
	Payload []byte
	Codes   []byte
}

// A RefusedError is a CONNACK that refuses.
type RefusedError struct{ Code byte }

func (e *RefusedError) Error() string { return fmt.Sprintf("CONNACK code %d", e.Code) }

// Connect sends CONNECT over conn and reads CONNACK. The error is a
// *RefusedError if the broker answers and refuses.
func Connect(conn net.Conn, o Options) (*Client, error) {
	c := NewClient(conn, o.Version)
	if err := c.Send(0x10, c.connect(o)); err != nil {
		return nil, err
	}
	p, err := c.Next()
	if err != nil {
		return nil, err
	}
	if p.Type != CONNACK {
		return nil, fmt.Errorf("packet type %d, want CONNACK", p.Type)
	}
	if p.Codes[0] != 0 {
		return nil, &RefusedError{p.Codes[0]}
	}
	return c, nil
}

// NewClient returns a client that has sent nothing. Version 0 means 4.
func NewClient(conn net.Conn, version byte) *Client {
	if version == 0 {
		version = 4
	}
	return &Client{Conn: conn, Version: version, r: bufio.NewReaderSize(conn, 4<<10)}
}

func (c *Client) connect(o Options) []byte {
	if o.Username == "" {
		o.Username = o.ID
	}
	if o.KeepAlive == 0 && !o.NoKeepAlive {
		o.KeepAlive = time.Minute
	}
	flags := byte(0x80 | 0x40 | 0x02) // username, password, clean
	if o.WillTopic != "" {
		flags |= 0x04
		if o.WillRetain {
			flags |= 0x20
		}
	}
	b := text(nil, "MQTT")
	b = append(b, c.Version, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(o.KeepAlive/time.Second))
	b = text(c.properties(b), o.ID)
	if o.WillTopic != "" {
		if delay := uint32(o.WillDelay / time.Second); delay > 0 {
			b = binary.BigEndian.AppendUint32(append(b, 5, 0x18), delay) // MQTT 5 §3.1.3.2.2
		} else {
			b = c.properties(b)
		}
		b = text(b, o.WillTopic)
		b = text(b, string(o.WillPayload))
	}
	return text(text(b, o.Username), o.Password)
}

// properties appends an empty set of properties, which only MQTT 5 has.
func (c *Client) properties(b []byte) []byte {
	if c.Version == 5 {
		return append(b, 0)
	}
	return b
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// Send writes one packet: its first byte, the length of body, and body.
func (c *Client) Send(first byte, body []byte) error {
	b := make([]byte, 1, 5+len(body))
	b[0] = first
	n := len(body)
	for ; n > 0x7f; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	b = append(append(b, byte(n)), body...)
	_, err := c.Conn.Write(b)
	return err
}

// Publish sends a PUBLISH and returns its packet id; it does not wait.
func (c *Client) Publish(topic string, payload []byte, qos byte, retain bool) (uint16, error) {
	first := byte(PUBLISH<<4) | qos<<1
	if retain {
		first |= 1
	}
	b := text(make([]byte, 0, len(topic)+len(payload)+8), topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, c.next())
	}
	return c.id, c.Send(first, append(c.properties(b), payload...))
}

// Subscribe sends a SUBSCRIBE and returns its packet id; it does not wait.
func (c *Client) Subscribe(qos byte, filters ...string) (uint16, error) {
	b := c.properties(binary.BigEndian.AppendUint16(nil, c.next()))
	for _, f := range filters {
		b = append(text(b, f), qos)
	}
	return c.id, c.Send(0x82, b)
}

// Unsubscribe sends an UNSUBSCRIBE and returns its packet id; it does not wait.
func (c *Client) Unsubscribe(filters ...string) (uint16, error) {
	b := c.properties(binary.BigEndian.AppendUint16(nil, c.next()))
	for _, f := range filters {
		b = text(b, f)
	}
	return c.id, c.Send(0xa2, b)
}

// Ack acknowledges a PUBLISH of QoS 1.
func (c *Client) Ack(p Packet) error {
	return c.Send(PUBACK<<4, binary.BigEndian.AppendUint16(nil, p.ID))
}

// Ping sends a PINGREQ.
func (c *Client) Ping() error { return c.Send(0xc0, nil) }

func (c *Client) next() uint16 {
	if c.id++; c.id == 0 {
		c.id = 1
	}
	return c.id
}

// Next reads one packet.
func (c *Client) Next() (Packet, error) {
	first, err := c.r.ReadByte()
	if err != nil {
		return Packet{}, err
	}
	length, err := binary.ReadUvarint(c.r)
	if err != nil {
		return Packet{}, err
	}
	if length > maxPacket {
		return Packet{}, fmt.Errorf("packet of %d bytes", length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return Packet{}, err
	}
	return c.decode(first, body)
}

func (c *Client) decode(first byte, b []byte) (p Packet, err error) {
	defer func() {
		if recover() != nil { // a short packet
			err = fmt.Errorf("malformed packet % x", b)
		}
	}()
	p = Packet{Type: first >> 4}
	switch p.Type {
	case CONNACK:
		p.Codes = b[1:2]
	case PUBLISH:
		p.QoS, p.Retain = first>>1&3, first&1 == 1
		n := 2 + int(binary.BigEndian.Uint16(b))
		p.Topic, b = string(b[2:n]), b[n:]
		if p.QoS > 0 {
			p.ID, b = binary.BigEndian.Uint16(b), b[2:]
		}
		p.Payload = c.skipProperties(b)
	case PUBACK:
		p.ID = binary.BigEndian.Uint16(b)
		p.Codes = b[2:min(3, len(b))]
	case SUBACK, UNSUBACK:
		p.ID = binary.BigEndian.Uint16(b)
		p.Codes = c.skipProperties(b[2:])
	}
	return p, nil
}

func (c *Client) skipProperties(b []byte) []byte {
	if c.Version != 5 {
		return b
	}
	n, used := binary.Uvarint(b)
	return b[used+int(n):]
}

// Until reads until a packet of the given type, acknowledging what comes
// before it, and returns it.
func (c *Client) Until(kind byte) (Packet, error) {
	for {
		p, err := c.Next()
		if err != nil || p.Type == kind {
			return p, err
		}
		if p.Type == PUBLISH && p.QoS == 1 {
			if err := c.Ack(p); err != nil {
				return p, err
			}
		}
	}
}
