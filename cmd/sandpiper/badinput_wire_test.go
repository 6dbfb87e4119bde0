package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokertest"
)

// A wire lies between a device and its broker, and may do to the device what a
// hostile or failing broker does: publish on any topic, change payloads, go
// away. What the device sends passes untouched.
type wire struct {
	addr string // the broker's

	mu     sync.Mutex // guards what follows; never held while the device is to read
	gone   bool       // refuses connections
	conn   *wireConn  // the last one
	tamper func(topic string, payload []byte)
	refuse string          // filters that contain this are refused, and their messages kept back
	asked  map[uint16]bool // identifiers of SUBSCRIBEs that are refused
}

// dial connects the device.
func (w *wire) dial(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return nil, errors.New("connection refused")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", w.addr)
	if err != nil {
		return nil, err
	}
	c := &wireConn{Conn: conn, wire: w}
	c.r, c.w = io.Pipe()
	w.conn = c
	go w.relay(c)
	return c, nil
}

// relay passes on what the broker sends, a packet at a time.
func (w *wire) relay(c *wireConn) {
	r := bufio.NewReader(c.Conn)
	for {
		packet, body, err := readPacket(r)
		if err != nil {
			c.w.CloseWithError(err)
			return
		}
		w.mu.Lock()
		topic := ""
		switch packet[0] >> 4 {
		case brokertest.PUBLISH:
			var payload []byte
			if topic, payload = publishParts(packet[0], body); w.tamper != nil {
				w.tamper(topic, payload)
			}
		case brokertest.SUBACK:
			if w.asked[binary.BigEndian.Uint16(body)] {
				body[2] = 0x80 // MQTT 3.1.1 §3.9.3; the device subscribes to one such filter at a time
			}
		}
		pass := w.refuse == "" || !strings.Contains(topic, w.refuse)
		w.mu.Unlock()
		if pass && c.hand(packet) != nil {
			return
		}
	}
}

// readPacket reads one MQTT packet; body is its end, behind the fixed header
// (MQTT 3.1.1 §2.2).
func readPacket(r *bufio.Reader) (packet, body []byte, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return nil, nil, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, nil, err
	}
	packet = binary.AppendUvarint([]byte{first}, n)
	head := len(packet)
	packet = append(packet, make([]byte, n)...)
	_, err = io.ReadFull(r, packet[head:])
	return packet, packet[head:], err
}

// publishParts returns topic and payload of a PUBLISH (MQTT 3.1.1 §3.3).
func publishParts(first byte, body []byte) (topic string, payload []byte) {
	n := 2 + int(binary.BigEndian.Uint16(body))
	payload = body[n:]
	if first&6 != 0 {
		payload = payload[2:] // packet identifier
	}
	return string(body[2:n]), payload
}

// inject publishes to the device, at QoS 0, what no client of the broker may.
func (w *wire) inject(topic string, payload []byte) error {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(append(body, topic...), payload...)
	packet := binary.AppendUvarint([]byte{brokertest.PUBLISH << 4}, uint64(len(body)))
	w.mu.Lock()
	c := w.conn
	w.mu.Unlock()
	return c.hand(append(packet, body...))
}

// onPublish makes f see, and change in place, what the device is sent; nil ends it.
func (w *wire) onPublish(f func(topic string, payload []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tamper = f
}

// refusing makes the broker refuse every filter that contains part.
func (w *wire) refusing(part string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse, w.asked = part, make(map[uint16]bool)
}

// cut ends the connection and refuses new ones until mend.
func (w *wire) cut() {
	w.mu.Lock()
	w.gone = true
	c := w.conn
	w.mu.Unlock()
	c.Close()
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = false
}

// subscribe is the type of a SUBSCRIBE (MQTT 3.1.1 §3.8).
const subscribe = 8

// A wireConn is the device's end: it writes to the broker and reads what relay
// and inject hand it.
type wireConn struct {
	net.Conn
	wire *wire
	r    *io.PipeReader
	w    *io.PipeWriter
	turn sync.Mutex // keeps packets whole
}

// hand waits until the device has read packet, which may first want to write.
func (c *wireConn) hand(packet []byte) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	_, err := c.w.Write(packet)
	return err
}

func (c *wireConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// Write notes the SUBSCRIBEs to refuse; the device writes a packet at once.
func (c *wireConn) Write(b []byte) (int, error) {
	c.wire.mu.Lock()
	if r := c.wire.refuse; r != "" && b[0]>>4 == subscribe && bytes.Contains(b, []byte(r)) {
		_, n := binary.Uvarint(b[1:])
		c.wire.asked[binary.BigEndian.Uint16(b[1+n:])] = true
	}
	c.wire.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *wireConn) Close() error {
	c.r.CloseWithError(net.ErrClosed)
	c.w.CloseWithError(net.ErrClosed)
	return c.Conn.Close()
}
