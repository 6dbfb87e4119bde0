package firmwaresim

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinkIsAsSlowAsItSays(t *testing.T) {
	for _, test := range []struct {
		name string
		link Link
		size int
		want time.Duration
	}{
		{"latency", Link{Latency: 300 * time.Millisecond}, 1, 300 * time.Millisecond},
		{"latency is paid once", Link{Latency: 300 * time.Millisecond}, 20_000, 300 * time.Millisecond},
		{"bandwidth", Link{Up: 1000}, 5000, 5 * time.Second},
		{"both", Link{Up: 1000, Latency: time.Second}, 5000, 6 * time.Second},
		{"other direction is free", Link{Down: 1}, 5000, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				device, broker := net.Pipe()
				c := test.link.Shape(device)
				defer broker.Close()
				defer c.Close()
				sent := bytes.Repeat([]byte{1, 2, 3, 4, 5}, test.size/5+1)[:test.size]
				start := time.Now()
				go c.Write(sent)
				got := make([]byte, test.size)
				if _, err := io.ReadFull(broker, got); err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("received %d bytes, %v", len(got), err)
				}
				if d := time.Since(start); d != test.want {
					t.Errorf("took %v, want %v", d, test.want)
				}
			})
		})
	}
}

func TestLinkDownstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device, broker := net.Pipe()
		c := Link{Down: 2800, Latency: time.Second}.Shape(device)
		go func() {
			_, _ = broker.Write(make([]byte, 2*parcelSize))
			broker.Close()
		}()
		start := time.Now()
		got, err := io.ReadAll(c)
		if len(got) != 2*parcelSize || err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("received %d bytes, %v", len(got), err)
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("took %v, want 1s of transmission and 1s of latency", d)
		}
		c.Close()
	})
}

func TestLinkHoldsBackTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device, broker := net.Pipe()
		c := Link{Up: 1}.Shape(device)
		sent := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				n, err := c.Write(make([]byte, parcelSize))
				sent += n
				if err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		c.Close()
		broker.Close()
		<-done
		if most := (parcelsInFlight + 4) * parcelSize; sent > most {
			t.Errorf("a stuck link took %d bytes, want at most %d", sent, most)
		}
	})
}

func TestPerfectLinkIsTheConnectionItself(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if c := (Link{}).Shape(a); c != a {
		t.Error("a perfect link wraps its connection")
	}
}

// Samples go between the agent's packets, however those are written.
func TestUplinkNeverSplitsAPacket(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	packet := func(size int) []byte { // a PUBLISH of that many bytes of body
		b := []byte{0x32}
		n := size
		for ; n > 0x7f; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return append(append(b, byte(n)), bytes.Repeat([]byte{0xee}, size)...)
	}
	var stream []byte
	for range 50 {
		stream = append(stream, packet(rng.IntN(300))...)
	}
	sample := appendPublish(nil, "t", bytes.Repeat([]byte{'s'}, 130))

	device, broker := net.Pipe()
	u := newUplink(device)
	if err := u.publish(sample); err == nil {
		t.Error("a sample was sent before the broker answered")
	}
	u.up.Store(true)
	received := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(broker)
		received <- b
	}()
	sent := 0
	for rest := stream; len(rest) > 0; {
		n := min(1+rng.IntN(200), len(rest))
		if _, err := u.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
		if err := u.publish(sample); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	u.Close()

	var agent []byte
	samples := 0
	for b := <-received; len(b) > 0; {
		length, header := 0, 1
		for shift := 0; ; shift += 7 {
			c := b[header]
			header++
			length |= int(c&0x7f) << shift
			if c < 0x80 {
				break
			}
		}
		p := b[:header+length]
		b = b[len(p):]
		if bytes.Equal(p, sample) {
			samples++
		} else {
			agent = append(agent, p...)
		}
	}
	if !bytes.Equal(agent, stream) {
		t.Error("the agent's packets did not arrive unchanged and in order")
	}
	if samples+u.dropped != sent || samples == 0 {
		t.Errorf("%d samples arrived and %d were dropped, of %d", samples, u.dropped, sent)
	}
}

func TestOutages(t *testing.T) {
	f := Faults{Offline: []Outage{{10 * time.Second, 5 * time.Second}, {time.Minute, time.Hour}}}
	type state struct {
		offline bool
		next    time.Duration
	}
	var got []state
	for _, at := range []time.Duration{0, 10 * time.Second, 14 * time.Second, 15 * time.Second, time.Minute, 2 * time.Hour} {
		offline, next := f.offlineAt(at)
		got = append(got, state{offline, next})
	}
	want := []state{
		{false, 10 * time.Second}, {true, 15 * time.Second}, {true, 15 * time.Second},
		{false, time.Minute}, {true, time.Hour + time.Minute}, {false, 0},
	}
	if !slices.Equal(got, want) {
		t.Errorf("outages %v, want %v", got, want)
	}
}
