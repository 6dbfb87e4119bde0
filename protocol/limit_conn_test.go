package protocol

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
)

// A fakeConn reads from r.
type fakeConn struct {
	net.Conn
	r io.Reader
}

func (c fakeConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// packet is a PUBLISH with a body of n bytes.
func packet(n int) []byte {
	b := []byte{0x30}
	for l := n; ; {
		if l < 128 {
			b = append(b, byte(l))
			break
		}
		b = append(b, byte(l)|0x80)
		l >>= 7
	}
	return append(b, make([]byte, n)...)
}

func TestLimitConn(t *testing.T) {
	good := bytes.Join([][]byte{{0xd0, 0}, packet(1), packet(127), packet(128), packet(996), {0xc0, 0}}, nil)
	for _, c := range []struct {
		name  string
		bad   []byte
		pass  int // bytes of bad that may pass
		wants error
	}{
		{"nothing", nil, 0, io.EOF},
		{"at the limit", packet(997), 1000, io.EOF},
		{"one over the limit", packet(998), 2, ErrPacketTooLarge},
		{"256 MB", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, 2, ErrPacketTooLarge},
		{"padded length", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x01}, 4, ErrPacketLength},
	} {
		stream := append(bytes.Clone(good), c.bad...)
		for _, r := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream)),
			iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(stream)))} {
			conn := LimitConn(fakeConn{r: r}, 1000)
			var got bytes.Buffer
			buf := make([]byte, 300)
			var err error
			for err == nil {
				var n int
				n, err = conn.Read(buf)
				got.Write(buf[:n])
			}
			if !errors.Is(err, c.wants) || got.Len() != len(good)+c.pass || !bytes.HasPrefix(stream, got.Bytes()) {
				t.Errorf("%s: %d bytes then %v, want %d and %v", c.name, got.Len(), err, len(good)+c.pass, c.wants)
			}
			if n, again := conn.Read(buf); n != 0 || again == nil {
				t.Errorf("%s: after the error Read = %d, %v", c.name, n, again)
			}
		}
	}
}

func FuzzLimitConn(f *testing.F) {
	f.Add(packet(200), 7)
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if size < 1 || size > 1<<12 {
			return
		}
		conn := LimitConn(fakeConn{r: bytes.NewReader(b)}, 100)
		var got []byte
		buf := make([]byte, size)
		for {
			n, err := conn.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.HasPrefix(b, got) {
			t.Fatal("bytes changed")
		}
		// A client that follows the headers never meets a length over the limit.
		for len(got) > 1 {
			length, i := 0, 1
			for ; i < len(got) && i < 5; i++ {
				length |= int(got[i]&0x7f) << (7 * (i - 1))
				if got[i]&0x80 == 0 {
					break
				}
			}
			if i >= len(got) || i == 5 {
				break // the header did not arrive whole
			}
			if i+1+length > 100 {
				t.Fatalf("a packet of %d bytes passed", i+1+length)
			}
			got = got[min(len(got), i+1+length):]
		}
	})
}
