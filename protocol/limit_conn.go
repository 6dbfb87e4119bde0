package protocol

import (
	"errors"
	"fmt"
	"net"
)

// Errors of a connection from LimitConn. Once returned they stay.
var (
	// ErrPacketTooLarge: the peer announced a packet over the limit.
	ErrPacketTooLarge = errors.New("MQTT packet too large")
	// ErrPacketLength: a remaining length of more than four bytes.
	ErrPacketLength = errors.New("malformed MQTT remaining length")
)

// LimitConn returns c with reads that follow the MQTT fixed headers (MQTT
// 3.1.1 §2.2) and fail before the last length byte of a packet of more than
// maxPacket bytes, header included, is handed on. A client library that
// allocates what a header announces, up to 256 MB, so never sees one.
//
// Only one goroutine at a time may read, as client libraries do.
func LimitConn(c net.Conn, maxPacket int) net.Conn {
	return &limitConn{Conn: c, most: int64(maxPacket)}
}

type limitConn struct {
	net.Conn
	most   int64
	body   int64 // bytes of the current packet's body still to come
	length int64 // of the current header, as far as read
	header int   // bytes of the current header read, 0 before it begins
	err    error
}

// Read reads from the connection. It returns ErrPacketTooLarge or
// ErrPacketLength, after the bytes that came before the offending one.
func (c *limitConn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p)
	ok, bad := c.follow(p[:n])
	if bad != nil {
		c.err = bad
		if ok == 0 {
			return 0, bad
		}
		return ok, nil
	}
	return n, err
}

// follow walks over b and returns how many of its bytes may pass.
func (c *limitConn) follow(b []byte) (int, error) {
	for i := 0; i < len(b); i++ {
		if c.body > 0 {
			n := min(c.body, int64(len(b)-i))
			c.body -= n
			i += int(n) - 1
			continue
		}
		if c.header++; c.header == 1 { // packet type and flags
			c.length = 0
			continue
		}
		c.length |= int64(b[i]&0x7f) << (7 * (c.header - 2))
		more := b[i]&0x80 != 0
		if more && c.header == 5 {
			return i, fmt.Errorf("%w: more than four bytes", ErrPacketLength)
		}
		if total := c.length + int64(c.header); total > c.most {
			return i, fmt.Errorf("%w: at least %d bytes announced, at most %d allowed", ErrPacketTooLarge, total, c.most)
		}
		if !more {
			c.body, c.header = c.length, 0
		}
	}
	return len(b), nil
}
