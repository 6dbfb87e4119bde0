// Package packet reads and writes the packets of MQTT 3.1.1 and 5 that sp1
// needs: QoS 0 and 1, user names and passwords, wills, no stored sessions. It
// is what a device's own listener and the client package speak; sessions with
// brokers, which must know more, use a client library.
//
// A packet is a fixed header and a body:
//
//	byte 1     type << 4 | flags
//	1–4 bytes  remaining length, 7 bits a byte, least significant first
//	…          body
//
// Of the properties of MQTT 5 only those that change what must be done are
// read; others are checked for their length and dropped.
package packet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// The types of packets (MQTT 3.1.1 §2.2.1).
const (
	Connect     byte = 1
	Connack     byte = 2
	Publish     byte = 3
	Puback      byte = 4
	Subscribe   byte = 8
	Suback      byte = 9
	Unsubscribe byte = 10
	Unsuback    byte = 11
	Pingreq     byte = 12
	Pingresp    byte = 13
	Disconnect  byte = 14
)

// The protocol levels (MQTT 3.1.1 §3.1.2.2, MQTT 5 §3.1.2.2).
const (
	V311 byte = 4
	V5   byte = 5
)

// Errors of readers and parsers. What they return wraps one of these, or an
// error of the connection.
var (
	// ErrTooLarge: a header announces more than the reader's limit. Nothing
	// was allocated for it.
	ErrTooLarge = errors.New("MQTT packet too large")
	// ErrMalformed: bytes that are no such packet.
	ErrMalformed = errors.New("malformed MQTT packet")
	// ErrVersion: a CONNECT of another protocol level.
	ErrVersion = errors.New("MQTT 3.1.1 and 5 are spoken here, and no other version")
	// ErrUnsupported: a packet of MQTT that sp1 has no use for, such as QoS 2.
	ErrUnsupported = errors.New("not supported: QoS 2, topic aliases and shared subscriptions are not spoken here")
)

// A Packet is one packet as it came. Body is the receiver's.
type Packet struct {
	Type, Flags byte
	Body        []byte
}

// Read reads one packet of at most limit bytes of body.
func Read(r *bufio.Reader, limit int) (Packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return Packet{}, err
	}
	n := 0
	for i := 0; ; i++ {
		b, err := r.ReadByte()
		if err != nil {
			return Packet{}, unexpected(err)
		}
		n |= int(b&0x7f) << (7 * i)
		if n > limit {
			return Packet{}, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
		if b&0x80 == 0 {
			break
		}
		if i == 3 {
			return Packet{}, fmt.Errorf("%w: remaining length of more than four bytes", ErrMalformed)
		}
	}
	p := Packet{Type: first >> 4, Flags: first & 0x0f}
	if want, ok := flags[p.Type]; !ok || p.Type != Publish && p.Flags != want {
		return Packet{}, fmt.Errorf("%w: first byte 0x%02x", ErrMalformed, first)
	}
	p.Body = make([]byte, n)
	if _, err := io.ReadFull(r, p.Body); err != nil {
		return Packet{}, unexpected(err)
	}
	return p, nil
}

// flags are the flags that each type has (MQTT 3.1.1 §2.2.2); those of Publish
// carry data.
var flags = map[byte]byte{
	Connect: 0, Connack: 0, Publish: 0, Puback: 0, Subscribe: 2, Suback: 0, Unsubscribe: 2, Unsuback: 0,
	Pingreq: 0, Pingresp: 0, Disconnect: 0,
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A Message is a PUBLISH.
type Message struct {
	Topic       string
	Payload     []byte
	QoS         byte
	Retain, Dup bool
	ID          uint16 // at QoS 1
}

// A Hello is a CONNECT.
type Hello struct {
	Version   byte
	ClientID  string
	Username  string
	Password  []byte // nil: none
	KeepAlive uint16 // seconds
	Will      *Message
	Receive   uint16 // QoS 1 messages that may be unacknowledged; 0: 65,535
}

// A Filter is one line of a SUBSCRIBE.
type Filter struct {
	Topic string
	QoS   byte // at most 1
}

// Codes of CONNACK in MQTT 3.1.1 (§3.2.2.3) and their names in MQTT 5.
const (
	Accepted     byte = 0
	BadVersion   byte = 1
	BadClientID  byte = 2
	BadLogin     byte = 4
	Unauthorized byte = 5
)

// Refused is the code in a SUBACK for a filter that may not be subscribed to.
const Refused byte = 0x80

// A body is what is left of a packet's body; the first failed read empties it.
type body struct {
	b   []byte
	bad bool
}

func (b *body) take(n int) []byte {
	if n > len(b.b) {
		b.b, b.bad = nil, true
		return nil
	}
	out := b.b[:n:n]
	b.b = b.b[n:]
	return out
}

func (b *body) byte() byte {
	if p := b.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (b *body) uint16() uint16 {
	if p := b.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (b *body) bytes() []byte { return b.take(int(b.uint16())) }

// text reads a string; one that is no UTF-8, or has a NUL, is malformed
// (MQTT 3.1.1 §1.5.3).
func (b *body) text() string {
	s := string(b.bytes())
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		b.bad = true
	}
	return s
}

// properties reads the properties of MQTT 5 (§2.2.2), of which it returns the
// two that matter here.
func (b *body) properties(version byte) (receive uint16, alias bool) {
	if version != V5 {
		return 0, false
	}
	p := body{b: b.take(b.varint())}
	for len(p.b) > 0 && !p.bad {
		switch id := p.byte(); id {
		case 0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a: // one byte
			p.byte()
		case 0x13, 0x22: // two
			p.uint16()
		case 0x21:
			receive = p.uint16()
		case 0x23:
			p.uint16()
			alias = true
		case 0x02, 0x11, 0x18, 0x27: // four
			p.take(4)
		case 0x0b: // a number
			p.varint()
		case 0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1a, 0x1c, 0x1f: // a string, or bytes
			p.bytes()
		case 0x26: // two strings
			p.bytes()
			p.bytes()
		default:
			p.bad = true
		}
	}
	b.bad = b.bad || p.bad
	return receive, alias
}

func (b *body) varint() int {
	n := 0
	for i := range 4 {
		c := b.byte()
		n |= int(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			return n
		}
	}
	b.bad = true
	return 0
}

// end reports what was wrong with a body that should be used up.
func (b *body) end(what string) error {
	if b.bad {
		return fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	if len(b.b) > 0 {
		return fmt.Errorf("%w: %d bytes behind the end of %s", ErrMalformed, len(b.b), what)
	}
	return nil
}

// ParseConnect reads a CONNECT (§3.1).
func ParseConnect(p []byte) (Hello, error) {
	b := body{b: p}
	var h Hello
	name := b.text()
	h.Version = b.byte()
	flags := b.byte()
	if !b.bad && (name != "MQTT" || h.Version != V311 && h.Version != V5) {
		return h, fmt.Errorf("%w: %.20q level %d", ErrVersion, name, h.Version)
	}
	h.KeepAlive = b.uint16()
	h.Receive, _ = b.properties(h.Version)
	h.ClientID = b.text()
	if flags&1 != 0 || flags&0x04 == 0 && flags&0x38 != 0 || h.Version == V311 && flags&0xc0 == 0x40 {
		b.bad = true
	}
	if flags&0x04 != 0 {
		h.Will = &Message{QoS: flags >> 3 & 3, Retain: flags&0x20 != 0}
		b.properties(h.Version)
		h.Will.Topic, h.Will.Payload = b.text(), b.bytes()
		if !b.bad && h.Will.QoS > 1 {
			return h, fmt.Errorf("%w: will at QoS %d", ErrUnsupported, h.Will.QoS)
		}
		if !b.bad && !validTopic(h.Will.Topic) {
			b.bad = true
		}
	}
	if flags&0x80 != 0 {
		h.Username = b.text()
	}
	if flags&0x40 != 0 {
		h.Password = append([]byte{}, b.bytes()...)
	}
	return h, b.end("CONNECT")
}

// ParsePublish reads a PUBLISH (§3.3). Payload shares p's memory.
func ParsePublish(version byte, p Packet) (Message, error) {
	b := body{b: p.Body}
	m := Message{QoS: p.Flags >> 1 & 3, Retain: p.Flags&1 != 0, Dup: p.Flags&8 != 0}
	m.Topic = b.text()
	if m.QoS > 0 {
		m.ID = b.uint16()
	}
	_, alias := b.properties(version)
	if alias || m.QoS == 2 {
		return m, fmt.Errorf("%w: PUBLISH", ErrUnsupported)
	}
	if m.QoS == 3 || m.QoS > 0 && m.ID == 0 || !validTopic(m.Topic) {
		b.bad = true
	}
	m.Payload, b.b = b.b, nil
	return m, b.end("PUBLISH")
}

// validTopic reports whether a message may have this topic (§4.7.1).
func validTopic(t string) bool { return t != "" && !strings.ContainsAny(t, "+#") }

// ParseSubscribe reads a SUBSCRIBE (§3.8) of at most most filters.
func ParseSubscribe(version byte, p []byte, most int) (id uint16, filters []Filter, err error) {
	b := body{b: p}
	id = b.uint16()
	b.properties(version)
	for len(b.b) > 0 {
		if len(filters) == most {
			return id, nil, fmt.Errorf("%w: more than %d filters", ErrTooLarge, most)
		}
		f := Filter{Topic: b.text(), QoS: b.byte()}
		if !validFilter(f.Topic) || f.QoS&3 == 3 || version == V311 && f.QoS > 2 {
			b.bad = true
		}
		f.QoS = min(f.QoS&3, 1)
		filters = append(filters, f)
	}
	if id == 0 || len(filters) == 0 {
		b.bad = true
	}
	return id, filters, b.end("SUBSCRIBE")
}

// ParseUnsubscribe reads an UNSUBSCRIBE (§3.10) of at most most filters.
func ParseUnsubscribe(version byte, p []byte, most int) (id uint16, filters []string, err error) {
	b := body{b: p}
	id = b.uint16()
	b.properties(version)
	for len(b.b) > 0 {
		if len(filters) == most {
			return id, nil, fmt.Errorf("%w: more than %d filters", ErrTooLarge, most)
		}
		filters = append(filters, b.text())
	}
	if id == 0 || len(filters) == 0 {
		b.bad = true
	}
	return id, filters, b.end("UNSUBSCRIBE")
}

// validFilter reports whether f is a filter (§4.7.1); shared subscriptions are
// none here.
func validFilter(f string) bool {
	if f == "" || strings.HasPrefix(f, "$share/") {
		return false
	}
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && l != "+" && (l != "#" || i != len(levels)-1) {
			return false
		}
	}
	return true
}

// ParseAck reads a PUBACK, or the id at the start of a SUBACK or UNSUBACK.
func ParseAck(p []byte) (id uint16, err error) {
	b := body{b: p}
	if id = b.uint16(); id == 0 {
		b.bad = true
	}
	b.b = nil
	return id, b.end("acknowledgement")
}

// ParseConnack reads the code of a CONNACK of MQTT 3.1.1 (§3.2).
func ParseConnack(p []byte) (code byte, err error) {
	b := body{b: p}
	b.byte()
	code = b.byte()
	return code, b.end("CONNACK")
}

// ParseSuback reads a SUBACK of MQTT 3.1.1 (§3.9): one code a filter.
func ParseSuback(p []byte) (id uint16, codes []byte, err error) {
	b := body{b: p}
	id = b.uint16()
	codes, b.b = b.b, nil
	return id, codes, b.end("SUBACK")
}

// Match reports whether topic matches filter (MQTT 3.1.1 §4.7). Topics that
// begin with $ match no filter that begins with a wildcard.
func Match(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		f, filterRest, filterMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, topicRest, topicMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !topicMore {
			return !filterMore || filterRest == "#"
		}
		if !filterMore {
			return false
		}
		filter, topic = filterRest, topicRest
	}
}

// MaxBody is the largest body that a peer of sp1 may send.
const MaxBody = protocol.MaxPacket
