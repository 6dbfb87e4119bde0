package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokertest"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

const fleet, password = "f", "secret"

// testAuth knows one password, and takes every username for what it says.
func testAuth(username, pass, _ string) (Identity, bool) {
	kind, id, ok := strings.Cut(username, ".")
	if !ok || len(kind) != 1 || pass != password {
		return Identity{}, false
	}
	return Identity{Kind: kind[0], ID: id, Simple: id == "simple"}, true
}

// start runs a broker until the test ends.
func start(t testing.TB, change func(*Config)) *Broker {
	t.Helper()
	cfg := Config{Listen: "127.0.0.1:0", Fleet: fleet, Auth: testAuth}
	if change != nil {
		change(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, b)
	return b
}

func run(t testing.TB, b *Broker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	<-b.started
	return stop
}

func dialTCP(b *Broker) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", b.Addr().String())
	}
}

// connect connects as o.ID over TCP and closes when the test ends.
func connect(t testing.TB, b *Broker, o brokertest.Options) *brokertest.Client {
	t.Helper()
	conn, err := dialTCP(b)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return connectOver(t, conn, o)
}

func connectOver(t testing.TB, conn net.Conn, o brokertest.Options) *brokertest.Client {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	if o.Password == "" {
		o.Password = password
	}
	c, err := brokertest.Connect(conn, o)
	if err != nil {
		t.Fatalf("connect %s: %v", o.ID, err)
	}
	return c
}

func subscribeOK(t testing.TB, c *brokertest.Client, qos byte, filters ...string) {
	t.Helper()
	for i, code := range subscribeCodes(t, c, qos, filters...) {
		if code > 1 {
			t.Fatalf("SUBACK %s = %#x", filters[i], code)
		}
	}
}

// settled returns when the broker has done what c asked before: mochi answers a
// SUBSCRIBE before it looks for retained messages.
func settled(t testing.TB, c *brokertest.Client) {
	t.Helper()
	if err := c.Ping(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Until(brokertest.PINGRESP); err != nil {
		t.Fatal(err)
	}
}

func subscribeCodes(t testing.TB, c *brokertest.Client, qos byte, filters ...string) []byte {
	t.Helper()
	if _, err := c.Subscribe(qos, filters...); err != nil {
		t.Fatal(err)
	}
	p, err := c.Until(brokertest.SUBACK)
	if err != nil {
		t.Fatal(err)
	}
	return p.Codes
}

func publishOK(t testing.TB, c *brokertest.Client, topic, payload string, retain bool) {
	t.Helper()
	if _, err := c.Publish(topic, []byte(payload), 1, retain); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Until(brokertest.PUBACK); err != nil {
		t.Fatalf("PUBACK %s: %v", topic, err)
	}
}

// receive returns the next message as "topic payload".
func receive(t testing.TB, c *brokertest.Client) string {
	t.Helper()
	p, err := c.Until(brokertest.PUBLISH)
	if err != nil {
		t.Fatalf("waiting for a message: %v", err)
	}
	if p.QoS == 1 {
		if err := c.Ack(p); err != nil {
			t.Fatal(err)
		}
	}
	return p.Topic + " " + string(p.Payload)
}

// closed fails unless the broker closes c without another PUBLISH.
func closed(t testing.TB, c *brokertest.Client) {
	t.Helper()
	for {
		p, err := c.Next()
		if err != nil {
			return
		}
		if p.Type == brokertest.PUBLISH {
			t.Fatalf("PUBLISH %s, want a closed connection", p.Topic)
		}
	}
}

func TestNewChecksItsConfiguration(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want error
	}{
		{Config{Fleet: "No"}, protocol.ErrID},
		{Config{Fleet: "f", Listen: "0.0.0.0:0"}, ErrPlaintext},
		{Config{Fleet: "f", Listen: ":0", Auth: testAuth}, ErrPlaintext},
	} {
		if b, err := New(test.cfg); !errors.Is(err, test.want) {
			t.Errorf("New(%+v) = %v, %v, want %v", test.cfg, b, err, test.want)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := New(Config{Fleet: "f", Listen: taken.Addr().String()}); err == nil {
		t.Error("New on a taken address succeeded")
	}
}

func TestConnectIsRefused(t *testing.T) {
	b := start(t, nil)
	for _, test := range []struct {
		name string
		o    brokertest.Options
		code byte // 5: not authorized, 2: identifier rejected
	}{
		{"wrong password", brokertest.Options{ID: "d.a", Password: "guess"}, 5},
		{"client id of another", brokertest.Options{ID: "d.b", Username: "d.a"}, 5},
		{"client id of one's own choice", brokertest.Options{ID: "laptop", Username: "u.a"}, 5},
		{"no client id", brokertest.Options{Username: "d.a"}, 5},
		{"reserved user", brokertest.Options{ID: "u.cp"}, 5},
		{"unknown kind", brokertest.Options{ID: "x.a"}, 5},
		{"id outside the alphabet", brokertest.Options{ID: "d.A"}, 5},
		{"id with a level", brokertest.Options{ID: "d.a/b"}, 5},
		{"id with a wildcard", brokertest.Options{ID: "u.+"}, 5},
		{"control plane of another fleet", brokertest.Options{ID: "c.other"}, 5},
		{"will of another device", brokertest.Options{ID: "d.a", WillTopic: "sp1/f/d/b/up", WillPayload: []byte("x")}, 5},
		{"will outside sp1", brokertest.Options{ID: "d.a", WillTopic: "news", WillPayload: []byte("x")}, 5},
		{"will on a desired state", brokertest.Options{ID: "d.a", WillTopic: "sp1/f/d/a/want", WillPayload: []byte("x")}, 5},
		{"will of a user", brokertest.Options{ID: "u.a", WillTopic: "sp1/f/d/a/y/m", WillPayload: []byte("x")}, 5},
		{"keep alive too long", brokertest.Options{ID: "d.a", KeepAlive: 18 * time.Hour}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := dialTCP(b)(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if test.o.Password == "" {
				test.o.Password = password
			}
			_, err = brokertest.Connect(conn, test.o)
			var refused *brokertest.RefusedError
			if !errors.As(err, &refused) || refused.Code != test.code {
				t.Errorf("connect = %v, want CONNACK code %d", err, test.code)
			}
		})
	}
}

func TestOldProtocolIsRefused(t *testing.T) {
	b := start(t, nil)
	conn, err := dialTCP(b)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// MQTT 3.1, client id d.a.
	if _, err := conn.Write([]byte("\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03d.a")); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(conn); len(got) >= 4 && got[3] == 0 {
		t.Errorf("MQTT 3.1 answered % x, want a refusal", got)
	}
}

func TestForeignTopicsAreRefused(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprintf("mqtt %d", version), func(t *testing.T) {
			b := start(t, nil)
			watch := connect(t, b, brokertest.Options{ID: "c.f"})
			subscribeOK(t, watch, 1, "sp1/f/#")

			refused := map[byte]byte{4: 0x80, 5: 0x87}[version]
			dev := connect(t, b, brokertest.Options{ID: "d.a", Version: version})
			got := subscribeCodes(t, dev, 1, "sp1/f/d/a/want", "sp1/f/d/b/want", "#", "sp1/f/b/00/c/0", "$SYS/#", "$share/g/sp1/f/state")
			if want := []byte{1, refused, refused, 1, refused, refused}; !bytes.Equal(got, want) {
				t.Errorf("SUBACK = %#x, want %#x", got, want)
			}
			// QoS 0 is dropped in silence; the connection goes on.
			if _, err := dev.Publish("sp1/f/d/b/have", []byte("forged"), 0, true); err != nil {
				t.Fatal(err)
			}
			publishOK(t, dev, "sp1/f/d/a/have", "true", true)
			if got, want := receive(t, watch), "sp1/f/d/a/have true"; got != want {
				t.Errorf("control plane received %q, want %q", got, want)
			}
			// QoS 1 is refused with a code, which only MQTT 5 has.
			if _, err := dev.Publish("sp1/f/d/b/have", []byte("forged"), 1, true); err != nil {
				t.Fatal(err)
			}
			if version == 4 {
				closed(t, dev)
			} else if p, err := dev.Until(brokertest.PUBACK); err != nil || p.Codes[0] != 0x87 {
				t.Errorf("PUBACK = %+v, %v, want 0x87", p, err)
			}
			if n := b.Stats().Denied; n != 6 {
				t.Errorf("denied %d, want 6", n)
			}
		})
	}
}

func TestUserAsksAndDeviceAnswers(t *testing.T) {
	b := start(t, nil)
	dev := connect(t, b, brokertest.Options{ID: "d.pump"})
	subscribeOK(t, dev, 0, "sp1/f/d/pump/p/+/+/+")
	user := connect(t, b, brokertest.Options{ID: "u.ann", Version: 5})
	subscribeOK(t, user, 0, "sp1/f/r/ann/#")
	if _, err := user.Publish("sp1/f/d/pump/p/m/ann/1", []byte("[[1]]"), 0, false); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, dev), "sp1/f/d/pump/p/m/ann/1 [[1]]"; got != want {
		t.Fatalf("device received %q, want %q", got, want)
	}
	if _, err := dev.Publish("sp1/f/r/ann/pump/1", []byte("2"), 0, false); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, user), "sp1/f/r/ann/pump/1 2"; got != want {
		t.Fatalf("user received %q, want %q", got, want)
	}
}

// mosquitto_rr is what users have; it speaks MQTT 5 unless told otherwise.
func TestMosquittoRequestResponse(t *testing.T) {
	rr, err := exec.LookPath("mosquitto_rr")
	if err != nil {
		t.Skip("mosquitto_rr is not installed (Debian: mosquitto-clients)")
	}
	b := start(t, nil)
	dev := connect(t, b, brokertest.Options{ID: "d.pump"})
	subscribeOK(t, dev, 0, "sp1/f/d/pump/p/+/+/+")
	host, port, err := net.SplitHostPort(b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"mqttv5", "mqttv311"} {
		answered := make(chan string, 1)
		go func() {
			p, err := dev.Until(brokertest.PUBLISH)
			if err == nil {
				_, err = dev.Publish("sp1/f/r/ann/pump/1", []byte(`{"y":[2.5]}`), 0, false)
			}
			if err != nil {
				p.Payload = []byte(err.Error())
			}
			answered <- string(p.Payload)
		}()
		out, err := exec.CommandContext(t.Context(), rr, "-h", host, "-p", port, "-V", version, "-W", "20",
			"-u", "u.ann", "-P", password, "-i", "u.ann", "-t", "sp1/f/d/pump/p/m/ann/1", "-e", "sp1/f/r/ann/pump/1",
			"-m", "[[1,2]]").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != `{"y":[2.5]}` {
			t.Fatalf("%s: %v: %s", version, err, out)
		}
		if asked := <-answered; asked != "[[1,2]]" {
			t.Errorf("%s: the device was asked %q", version, asked)
		}
	}
}

func TestWillIsPublishedWhenTheLinkBreaks(t *testing.T) {
	b := start(t, nil)
	watch := connect(t, b, brokertest.Options{ID: "c.f"})
	subscribeOK(t, watch, 1, "sp1/f/d/+/up")
	for _, o := range []brokertest.Options{{Version: 4}, {Version: 5, WillDelay: time.Hour}} { // the delay ends with the session
		o.ID, o.WillTopic, o.WillPayload, o.WillRetain = "d.a", "sp1/f/d/a/up", []byte("offline"), true
		dev := connect(t, b, o)
		publishOK(t, dev, "sp1/f/d/a/up", "online", true)
		if got := receive(t, watch); got != "sp1/f/d/a/up online" {
			t.Fatalf("received %q", got)
		}
		dev.Conn.Close()
		if got := receive(t, watch); got != "sp1/f/d/a/up offline" {
			t.Fatalf("received %q", got)
		}
	}
}

func TestReconnectingDeviceStaysOnline(t *testing.T) {
	b := start(t, nil)
	watch := connect(t, b, brokertest.Options{ID: "c.f"})
	subscribeOK(t, watch, 1, "sp1/f/d/+/up")
	o := brokertest.Options{ID: "d.a", WillTopic: "sp1/f/d/a/up", WillPayload: []byte("offline"), WillRetain: true}
	old := connect(t, b, o)
	dev := connect(t, b, o) // takes over: the broker closes the old connection
	closed(t, old)
	publishOK(t, dev, "sp1/f/d/a/up", "online", true)
	for receive(t, watch) != "sp1/f/d/a/up online" { // the old will may come before, never after
	}
	late := connect(t, b, brokertest.Options{ID: "d.a"})
	subscribeOK(t, late, 0, "sp1/f/d/a/up")
	if got := receive(t, late); got != "sp1/f/d/a/up online" {
		t.Errorf("retained %q, want online", got)
	}
}

// Where much waits for a subscriber, publishers take places that become free while
// others wait. A will that waits must not let its own device's next connection pass.
func TestWaitingWillComesBeforeTheNextConnection(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, b *Broker, l *pipeListener) {
		watch := connectOver(t, l.dial(), brokertest.Options{ID: "c.f"})
		subscribeOK(t, watch, 0, "sp1/f/d/+/up")
		settled(t, watch)
		o := brokertest.Options{ID: "d.a", WillTopic: "sp1/f/d/a/up", WillPayload: []byte("offline"), WillRetain: true}
		old := connectOver(t, l.dial(), o)

		cl, ok := b.server.Clients.Get("c.f")
		if !ok {
			t.Fatal("no client")
		}
		queue := connOf(cl)
		fill := func(n uint64) {
			queue.mu.Lock()
			defer queue.mu.Unlock()
			queue.pushedN = queue.sentN + n
		}
		fill(writesPending)
		old.Conn.Close()
		synctest.Wait() // the will waits
		fill(0)         // room, and who comes is not behind it
		heard := make(chan string, 2)
		go func() {
			for range 2 {
				p, _ := watch.Until(brokertest.PUBLISH)
				heard <- string(p.Payload)
			}
		}()
		publishOK(t, connectOver(t, l.dial(), o), "sp1/f/d/a/up", "online", true)
		if first, last := <-heard, <-heard; first != "offline" || last != "online" {
			t.Errorf("heard %q, then %q", first, last)
		}
	})
}

// A retained message that waited is not older than the one that went ahead of it.
func TestRetainedIsTheLatest(t *testing.T) {
	b := start(t, nil)
	dev := connect(t, b, brokertest.Options{ID: "d.a"})
	publishOK(t, dev, "sp1/f/d/a/up", "offline", true)
	waited, _ := b.server.Topics.Retained.Get("sp1/f/d/a/up")
	publishOK(t, dev, "sp1/f/d/a/up", "online", true)
	cl, _ := b.server.Clients.Get("d.a")
	if got := (&hook{b: b}).OnPacketEncode(cl, waited).Payload; string(got) != "online" {
		t.Errorf("sent %q, want what is retained now", got)
	}
}

func TestOnlyStateIsRetained(t *testing.T) {
	b := start(t, nil)
	dev := connect(t, b, brokertest.Options{ID: "d.a"})
	for _, topic := range []string{"have", "up", "birth", "ev", "s/one", "o/m", "met", "q", "get"} {
		publishOK(t, dev, "sp1/f/d/a/"+topic, "1", true)
	}
	if n := b.Stats().Retained; n != 3 {
		t.Errorf("%d messages retained, want 3: have, up, birth", n)
	}
	if _, err := dev.Publish("sp1/f/d/a/have", make([]byte, maxReport+1), 1, true); err != nil {
		t.Fatal(err)
	}
	closed(t, dev)
}

func TestPayloadLimit(t *testing.T) {
	b := start(t, nil)
	user := connect(t, b, brokertest.Options{ID: "u.a", Version: 5})
	if _, err := user.Publish("sp1/f/d/x/p/m/a/1", make([]byte, protocol.MaxPayload), 1, false); err != nil {
		t.Fatal(err)
	}
	if p, err := user.Until(brokertest.PUBACK); err != nil || len(p.Codes) > 0 && p.Codes[0] >= 0x80 {
		t.Errorf("largest payload: %+v, %v", p, err)
	}
	if _, err := user.Publish("sp1/f/d/x/p/m/a/2", make([]byte, protocol.MaxPayload+1), 1, false); err != nil {
		t.Fatal(err)
	}
	if p, err := user.Until(brokertest.PUBACK); err != nil || len(p.Codes) == 0 || p.Codes[0] != 0x95 {
		t.Errorf("payload over the limit: %+v, %v, want PUBACK 0x95", p, err)
	}
}

func TestQoS2IsRefused(t *testing.T) {
	b := start(t, nil)
	user := connect(t, b, brokertest.Options{ID: "u.a"})
	if _, err := user.Publish("sp1/f/d/x/p/m/a/1", nil, 2, false); err != nil {
		t.Fatal(err)
	}
	closed(t, user)
}

// Packet ids of the two directions are independent (MQTT 3.1.1 §2.3.1), but
// mochi refuses a SUBSCRIBE with the id of a message it has in flight.
func TestPacketIdentifiersOfBothDirectionsMayBeEqual(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b := start(t, nil)
		dev := connect(t, b, brokertest.Options{ID: "d.a", Version: version})
		subscribeOK(t, dev, 1, "sp1/f/d/a/p/+/+/+") // packet 1
		user := connect(t, b, brokertest.Options{ID: "u.a"})
		const n = 4
		for i := range n {
			publishOK(t, user, fmt.Sprintf("sp1/f/d/a/p/m/a/%d", i), "1", false)
		}
		var unacknowledged []brokertest.Packet
		for len(unacknowledged) < n {
			p, err := dev.Until(brokertest.PUBLISH)
			if err != nil {
				t.Fatal(err)
			}
			unacknowledged = append(unacknowledged, p)
		}
		id, err := dev.Subscribe(1, "sp1/f/d/a/want") // packet 2
		if err != nil {
			t.Fatal(err)
		}
		if id != unacknowledged[1].ID {
			t.Fatalf("packet ids %d and %d do not collide", id, unacknowledged[1].ID)
		}
		if p, err := dev.Next(); err != nil || p.Type != brokertest.SUBACK || p.ID != id || p.Codes[0] != 1 {
			t.Errorf("MQTT %d: %+v, %v, want SUBACK %d granting QoS 1", version, p, err, id)
		}
		if id, err = dev.Unsubscribe("sp1/f/d/a/want"); err != nil { // packet 3
			t.Fatal(err)
		}
		if p, err := dev.Next(); err != nil || p.Type != brokertest.UNSUBACK || p.ID != id || version == 5 && p.Codes[0] != 0 {
			t.Errorf("MQTT %d: %+v, %v, want UNSUBACK %d", version, p, err, id)
		}
		for _, p := range unacknowledged {
			if err := dev.Ack(p); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSubscriptionLimit(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.Subscriptions = 2 })
	dev := connect(t, b, brokertest.Options{ID: "d.a"})
	got := subscribeCodes(t, dev, 0, "sp1/f/d/a/want", "sp1/f/d/a/ack", "sp1/f/state")
	if want := []byte{0, 0, 0x80}; !bytes.Equal(got, want) {
		t.Errorf("SUBACK = %#x, want %#x", got, want)
	}
	if got := subscribeCodes(t, dev, 1, "sp1/f/d/a/want"); got[0] != 1 {
		t.Errorf("the same filter again: SUBACK = %#x, want granted", got)
	}
}

// A header may announce 256 MB in five bytes (MQTT 3.1.1 §2.2.3).
func TestGiantHeaderAllocatesNothing(t *testing.T) {
	b := start(t, nil)
	bystander := connect(t, b, brokertest.Options{ID: "d.b"})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		conn, err := dialTCP(b)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte{0x10, 0xff, 0xff, 0xff, 0x7f}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(conn)
		conn.Close()

		c := connect(t, b, brokertest.Options{ID: "d.a"})
		if _, err := c.Conn.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}); err != nil {
			t.Fatal(err)
		}
		closed(t, c)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("40 giant headers allocated %d bytes", n)
	}
	publishOK(t, bystander, "sp1/f/d/b/ev", "alive", false)
}

func TestFirstPacketMustBeASmallConnect(t *testing.T) {
	for _, test := range []struct {
		name string
		in   string
		want error
	}{
		{"publish", "\x30\x00", errFirstPacket},
		{"large connect", "\x10\x81\x40", errConnectSize}, // 8,193
		{"endless length", "\x10\x80\x80\x80\x80\x80", errHeaderLength},
		{"largest connect", "\x10\x80\x40", nil},
	} {
		var whole, split headerCheck
		err := whole.check([]byte(test.in))
		var err2 error
		for i := range test.in {
			if err2 == nil {
				err2 = split.check([]byte{test.in[i]})
			}
		}
		if !errors.Is(err, test.want) || !errors.Is(err2, test.want) {
			t.Errorf("%s: %v, byte by byte %v, want %v", test.name, err, err2, test.want)
		}
	}
}

// The peer that never reads is a device with a QoS 1 subscription, which in
// mochi alone stops every publisher.
func TestPeerThatNeverReadsLosesItsConnection(t *testing.T) {
	var log lockedBuffer
	b := start(t, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.Limits.QueueBytes = 256 << 10
	})
	conn, err := b.Pipe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stuck := connectOver(t, conn, brokertest.Options{ID: "d.stuck"})
	subscribeOK(t, stuck, 1, "sp1/f/b/#")
	healthy := connect(t, b, brokertest.Options{ID: "d.healthy"})
	subscribeOK(t, healthy, 1, "sp1/f/b/#")
	settled(t, healthy)
	control := connect(t, b, brokertest.Options{ID: "c.f"})

	hash := strings.Repeat("0", 32)
	chunk := strings.Repeat("x", protocol.ChunkSize)
	for n := range 32 { // 1 MiB
		topic := protocol.ChunkTopic(fleet, hash, n)
		publishOK(t, control, topic, chunk, true)
		if got := receive(t, healthy); got != topic+" "+chunk {
			t.Fatalf("chunk %d: received %.60q", n, got)
		}
	}
	if n := b.Stats().Overflows; n != 1 {
		t.Errorf("%d overflows, want 1", n)
	}
	if _, err := io.Copy(io.Discard, stuck.Conn); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("stuck peer's connection: %v, want closed", err)
	}
	stuckGone := func() bool { _, ok := b.server.Clients.Get("d.stuck"); return !ok }
	for !stuckGone() {
		runtime.Gosched()
	}
	if !strings.Contains(log.String(), "reason=\"outbound queue full") {
		t.Errorf("the log does not say why:\n%s", log.String())
	}
	for b.Stats().QueuedBytes != 0 { // counted down just after the peer has read
		runtime.Gosched()
	}
}

func TestClientThatNeverAcknowledgesLosesItsConnection(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.Inflight = 10 })
	dev := connect(t, b, brokertest.Options{ID: "d.a"})
	subscribeOK(t, dev, 1, "sp1/f/d/a/p/+/+/+")
	user := connect(t, b, brokertest.Options{ID: "u.a"})
	for i := range 11 {
		publishOK(t, user, fmt.Sprintf("sp1/f/d/a/p/m/a/%d", i), "1", false)
	}
	n := 0
	for { // reads, but never sends PUBACK
		p, err := dev.Next()
		if err != nil {
			break
		}
		if p.Type == brokertest.PUBLISH {
			n++
		}
	}
	if n > 10 {
		t.Errorf("received %d messages without acknowledging, limit 10", n)
	}
}

func TestDisconnect(t *testing.T) {
	b := start(t, nil)
	dev := connect(t, b, brokertest.Options{ID: "d.a"})
	if !b.Disconnect("d.a") || b.Disconnect("d.b") {
		t.Error("Disconnect did not say who was there")
	}
	closed(t, dev)
}

func TestClientLimit(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.Clients = 2 })
	connect(t, b, brokertest.Options{ID: "d.a"})
	connect(t, b, brokertest.Options{ID: "d.b"})
	conn, err := dialTCP(b)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var refused *brokertest.RefusedError
	if _, err := brokertest.Connect(conn, brokertest.Options{ID: "d.c", Password: password}); !errors.As(err, &refused) || refused.Code != 3 {
		t.Errorf("third of two clients: %v, want CONNACK code 3, server unavailable", err)
	}
}

func TestStormOfConnects(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.Pending = 8 })
	var g errgroup.Group
	for i := range 300 {
		g.Go(func() error {
			conn, err := dialTCP(b)(t.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			c, err := brokertest.Connect(conn, brokertest.Options{ID: fmt.Sprintf("d.%d", i), Password: password})
			if err != nil {
				return fmt.Errorf("device %d: %w", i, err)
			}
			if _, err := c.Publish(fmt.Sprintf("sp1/f/d/%d/ev", i), []byte("1"), 1, false); err != nil {
				return err
			}
			_, err = c.Until(brokertest.PUBACK)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// bubble runs f with a broker whose listener is l, under a fake clock.
func bubble(t *testing.T, limits Limits, f func(t *testing.T, b *Broker, l *pipeListener)) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
		b, err := New(Config{Listener: l, Fleet: fleet, Auth: testAuth, Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, b)
		f(t, b, l)
		stop()
		synctest.Wait()
	})
}

func TestSilentConnectionsGiveWay(t *testing.T) {
	limits := Limits{Pending: 4, PendingGrace: time.Second, ConnectTimeout: time.Minute}
	bubble(t, limits, func(t *testing.T, _ *Broker, l *pipeListener) {
		for range 4 {
			conn := l.dial()
			defer conn.Close()
		}
		start := time.Now()
		connectOver(t, l.dial(), brokertest.Options{ID: "d.a"})
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("a device waited %v behind silent connections, want the grace of 1s", waited)
		}
	})
}

func TestSilentConnectionTimesOut(t *testing.T) {
	bubble(t, Limits{ConnectTimeout: 5 * time.Second}, func(t *testing.T, _ *Broker, l *pipeListener) {
		start := time.Now()
		_, _ = io.ReadAll(l.dial())
		if waited := time.Since(start); waited != 5*time.Second {
			t.Errorf("closed after %v, want 5s", waited)
		}
	})
}

func TestLargeConnectIsNotWaitedFor(t *testing.T) {
	bubble(t, Limits{ConnectTimeout: 5 * time.Second}, func(t *testing.T, _ *Broker, l *pipeListener) {
		start := time.Now()
		conn := l.dial()
		if _, err := conn.Write([]byte{0x10, 0x80, 0x80, 0x04}); err != nil { // announces 64 KiB
			t.Fatal(err)
		}
		_, _ = io.ReadAll(conn)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("closed after %v, want at once", waited)
		}
	})
}

func TestSlowPeerTimesOutWithoutProgress(t *testing.T) {
	bubble(t, Limits{WriteTimeout: 20 * time.Second}, func(t *testing.T, b *Broker, l *pipeListener) {
		dev := connectOver(t, l.dial(), brokertest.Options{ID: "d.a"})
		subscribeOK(t, dev, 0, "sp1/f/d/a/want")
		control := connectOver(t, l.dial(), brokertest.Options{ID: "c.f"})
		publishOK(t, control, "sp1/f/d/a/want", strings.Repeat("x", 64<<10), false)
		slow := make([]byte, writePiece)
		for range 3 { // one piece every 15 s is slow, not stuck
			time.Sleep(15 * time.Second)
			if _, err := io.ReadFull(dev.Conn, slow); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(21 * time.Second)
		if _, err := io.ReadFull(dev.Conn, slow); err == nil {
			t.Error("a peer that read nothing for 21s is still served")
		}
		if q := b.Stats().QueuedBytes; q != 0 {
			t.Errorf("%d bytes still counted as queued", q)
		}
	})
}

func TestKeepAliveEndsADeadConnection(t *testing.T) {
	bubble(t, Limits{KeepAlive: time.Minute}, func(t *testing.T, _ *Broker, l *pipeListener) {
		three := connectOver(t, l.dial(), brokertest.Options{ID: "d.three", KeepAlive: 40 * time.Second})
		five := connectOver(t, l.dial(), brokertest.Options{ID: "d.five", Version: 5, NoKeepAlive: true})
		start := time.Now()
		closed(t, three)
		if got := time.Since(start); got != time.Minute {
			t.Errorf("MQTT 3.1.1 with 40s ended after %v, want 1.5 times that", got)
		}
		closed(t, five)
		if got := time.Since(start); got != 90*time.Second {
			t.Errorf("MQTT 5 without keep alive ended after %v, want 1.5 times the limit", got)
		}
	})
}

// pipeListener makes in-memory connections.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// The control plane's first subscription brings what every device retains, far
// more at once than mochi's queue holds.
func TestControlPlaneReceivesAllThatIsRetained(t *testing.T) {
	b := start(t, nil)
	const devices = 5 * writesPending
	for i := range devices {
		b.server.Topics.RetainMessage(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true, Qos: 1},
			TopicName:   protocol.HaveTopic(fleet, fmt.Sprint(i)),
			Payload:     []byte("{}"),
		})
	}
	for _, qos := range []byte{0, 1} {
		conn, err := b.Pipe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := connectOver(t, conn, brokertest.Options{ID: "c.f"})
		subscribeOK(t, c, qos, "sp1/f/d/+/have")
		seen := map[string]bool{}
		for len(seen) < devices {
			p, err := c.Until(brokertest.PUBLISH)
			if err != nil {
				t.Fatalf("QoS %d: after %d of %d messages: %v", qos, len(seen), devices, err)
			}
			if p.QoS == 1 {
				if err := c.Ack(p); err != nil {
					t.Fatal(err)
				}
			}
			seen[p.Topic] = true
		}
	}
}

// Thousands of devices that speak at once, as when the broker came back, wait for
// each other: the control plane's connection stands, and all is heard.
func TestManySpeakAtOnce(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, b *Broker, l *pipeListener) {
		pipe, err := b.Pipe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		control := connectOver(t, pipe, brokertest.Options{ID: "c.f"})
		subscribeOK(t, control, 0, "sp1/f/d/+/have")
		const devices = 20 * writesPending
		all := make([]*brokertest.Client, devices)
		for i := range all {
			all[i] = connectOver(t, l.dial(), brokertest.Options{ID: fmt.Sprint("d.", i)})
		}
		for i, d := range all {
			go func() { _, _ = d.Publish(protocol.HaveTopic(fleet, fmt.Sprint(i)), []byte("{}"), 0, false) }()
		}
		seen := map[string]bool{}
		for len(seen) < devices {
			p, err := control.Until(brokertest.PUBLISH)
			if err != nil {
				t.Fatalf("after %d of %d messages: %v", len(seen), devices, err)
			}
			seen[p.Topic] = true
		}
		if n := b.stats.overflows.Load(); n != 0 {
			t.Errorf("%d overflows", n)
		}
	})
}

// A device subscribes to one chunk after the other; that must not count as
// messages under way.
func TestSubscribingDoesNotPace(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, _ *Broker, l *pipeListener) {
		dev := connectOver(t, l.dial(), brokertest.Options{ID: "d.a"})
		start := time.Now()
		for i := range 4 * writesPending {
			subscribeOK(t, dev, 0, protocol.ChunkTopic(fleet, testHash, i%100))
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("subscribing took %v of waiting", waited)
		}
	})
}

// Who waits for a place goes on when a subscription gives its place back.
func TestSubscribingLetsOthersGoOn(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, b *Broker, l *pipeListener) {
		watch := connectOver(t, l.dial(), brokertest.Options{ID: "c.f"})
		subscribeOK(t, watch, 0, "sp1/f/d/+/have")
		dev := connectOver(t, l.dial(), brokertest.Options{ID: "d.a"})
		cl, _ := b.server.Clients.Get("c.f")
		queue := connOf(cl)
		queue.mu.Lock()
		queue.pushedN = queue.sentN + writesPending/2
		queue.mu.Unlock()
		start := time.Now()
		if _, err := dev.Publish("sp1/f/d/a/have", []byte("{}"), 0, false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		queue.unpace(1)
		if got := receive(t, watch); got != "sp1/f/d/a/have {}" {
			t.Errorf("received %q", got)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v for a place that was free", waited)
		}
	})
}

func TestStopClosesEverything(t *testing.T) {
	b, err := New(Config{Listen: "127.0.0.1:0", Fleet: fleet, Auth: testAuth})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, b)
	watch := connect(t, b, brokertest.Options{ID: "c.f", Version: 5})
	subscribeOK(t, watch, 1, "sp1/f/d/+/up")
	dev := connect(t, b, brokertest.Options{ID: "d.a", WillTopic: "sp1/f/d/a/up", WillPayload: []byte("offline")})
	stop()
	closed(t, dev)
	closed(t, watch) // and no will: the device is well
	if _, err := b.Pipe(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Pipe after the end = %v, want ErrClosed", err)
	}
	if _, err := dialTCP(b)(t.Context()); err == nil {
		t.Error("the listener is still open")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
