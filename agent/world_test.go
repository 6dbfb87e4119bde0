package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A world is a broker and a control plane's keys, in one process. Its clock is
// the bubble's.
type world struct {
	t      *testing.T
	server *mqtt.Server
	root   []byte
	keys   map[string]ed25519.PrivateKey // by role
	rev    uint64

	down       atomic.Bool // the broker refuses connections
	mu         sync.Mutex  // guards what follows
	conns      []net.Conn
	log        []packets.Packet // what the device published, in order
	refuse     string           // filters that contain this are refused
	forget     bool             // nothing is retained
	maxPacket  uint32           // larger ones end the connection; 0: mochi's own limit
	nagle      bool             // small messages to the device are held back
	chunkBytes int64            // of chunks, sent to the device
	lasts      int64            // a connection ends after so many messages of transfers; 0: it does not
	carried    int64            // by this connection
	drops      *atomic.Int64    // how often that was
	offered    *offer           // what gets are answered from
}

// within runs f in a bubble with a new world.
func within(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.startBroker()
		t.Cleanup(func() { w.cut(); w.server.Close() })
		f(t, w)
	})
}

// newWorld has keys and no broker.
func newWorld(t *testing.T) *world {
	w := &world{t: t, keys: make(map[string]ed25519.PrivateKey)}
	w.makeRoot()
	return w
}

func (w *world) startBroker() {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumMessageExpiryInterval = 0 // or what is retained is gone after a day
	limits.MaximumPacketSize = w.maxPacket
	server := mqtt.New(&mqtt.Options{InlineClient: true, Capabilities: limits, SysTopicResendInterval: 1 << 30, Logger: slog.New(slog.DiscardHandler)})
	server.AddHook(&recorder{w: w}, nil)
	if err := server.Serve(); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = server
}

// restartBroker is a broker that comes back with nothing retained.
func (w *world) restartBroker() {
	w.cut()
	w.server.Close()
	synctest.Wait()
	w.startBroker()
}

// A recorder keeps what clients publish and refuses subscriptions.
type recorder struct {
	mqtt.HookBase
	w *world
}

func (h *recorder) ID() string { return "recorder" }
func (h *recorder) Provides(b byte) bool {
	return b == mqtt.OnPublished || b == mqtt.OnWillSent || b == mqtt.OnACLCheck || b == mqtt.OnConnectAuthenticate ||
		b == mqtt.OnPacketSent || b == mqtt.OnPublish
}

func (h *recorder) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

func (h *recorder) OnACLCheck(_ *mqtt.Client, topic string, write bool) bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return write || h.w.refuse == "" || !strings.Contains(topic, h.w.refuse)
}

func (h *recorder) OnPublished(cl *mqtt.Client, pk packets.Packet) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if !cl.Net.Inline {
		h.w.log = append(h.w.log, pk)
	}
}

func (h *recorder) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	pk.FixedHeader.Retain = pk.FixedHeader.Retain && !h.w.forget
	return pk, nil
}

func (h *recorder) OnPacketSent(_ *mqtt.Client, pk packets.Packet, _ []byte) {
	h.w.drop(pk.TopicName)
	if t, err := protocol.ParseTopic(pk.TopicName); err == nil && (t.Kind == protocol.TopicChunk || t.Kind == protocol.TopicBlock) {
		h.w.mu.Lock()
		defer h.w.mu.Unlock()
		h.w.chunkBytes += int64(len(pk.Payload))
	}
}

// dropAfter ends every connection after n messages of transfers, and returns the
// count of that.
func (w *world) dropAfter(n int64) *atomic.Int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lasts, w.carried, w.drops = n, 0, new(atomic.Int64)
	return w.drops
}

// drop ends the connections if a message on topic is the last they carry.
func (w *world) drop(topic string) {
	if !strings.Contains(topic, "/b/") && !strings.Contains(topic, "/blk/") {
		return
	}
	w.mu.Lock()
	w.carried++
	last := w.lasts > 0 && w.carried == w.lasts
	if last {
		w.carried = 0
		w.drops.Add(1)
	}
	w.mu.Unlock()
	if last {
		go w.cut()
	}
}

func (h *recorder) OnWillSent(cl *mqtt.Client, pk packets.Packet) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.log = append(h.w.log, pk)
}

// dial connects to the broker through memory.
func (w *world) dial(ctx context.Context) (net.Conn, error) {
	if w.down.Load() {
		return nil, errors.New("connection refused")
	}
	one, two := net.Pipe()
	device, broker := buffered(one), buffered(two)
	w.mu.Lock()
	broker.nagle = w.nagle
	w.conns = append(w.conns, device)
	server := w.server
	w.mu.Unlock()
	go server.EstablishConnection("test", broker)
	return device, nil
}

// A bufferedConn takes writes as a socket does: without waiting for the reader.
// On a bare pipe a client that writes to a broker that writes deadlocks.
type bufferedConn struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	once   sync.Once
	nagle  bool
}

// delayedAck is how long Linux puts off the acknowledgement that Nagle's
// algorithm waits for.
const delayedAck = 40 * time.Millisecond

func buffered(c net.Conn) *bufferedConn {
	b := &bufferedConn{Conn: c, out: make(chan []byte, 4096), closed: make(chan struct{})}
	go b.pump()
	return b
}

func (c *bufferedConn) pump() {
	defer c.Conn.Close()
	var last time.Time
	for {
		select {
		case b := <-c.out:
			if c.nagle && time.Since(last) < delayedAck {
				time.Sleep(delayedAck)
			}
			last = time.Now()
			if _, err := c.Conn.Write(b); err != nil {
				return
			}
		case <-c.closed:
			for {
				select {
				case b := <-c.out:
					if _, err := c.Conn.Write(b); err != nil {
						return
					}
				default:
					return
				}
			}
		}
	}
}

func (c *bufferedConn) Write(b []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case c.out <- bytes.Clone(b):
		return len(b), nil
	}
}

func (c *bufferedConn) SetWriteDeadline(time.Time) error { return nil }
func (c *bufferedConn) SetDeadline(t time.Time) error    { return c.Conn.SetReadDeadline(t) }

func (c *bufferedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// cut ends every connection.
func (w *world) cut() {
	w.mu.Lock()
	conns := w.conns
	w.conns = nil
	w.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// published returns the payloads on topic that the device has published.
func (w *world) published(topic string) [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out [][]byte
	for _, pk := range w.log {
		if pk.TopicName == topic {
			out = append(out, pk.Payload)
		}
	}
	return out
}

func (w *world) makeRoot() {
	r := artifact.Root{Format: artifact.Format, Version: 1, Roles: make(map[string]artifact.Role)}
	for i, role := range []string{artifact.RoleRoot, artifact.RoleRelease, artifact.RoleRollout} {
		seed := sha256.Sum256([]byte{byte(i)})
		w.keys[role] = ed25519.NewKeyFromSeed(seed[:])
		r.Roles[role] = artifact.Role{Keys: [][]byte{w.keys[role].Public().(ed25519.PublicKey)}, Threshold: 1}
	}
	w.root = w.sign(artifact.RoleRoot, artifact.TypeRoot, r)
}

type appender interface {
	AppendBinary([]byte) ([]byte, error)
}

func (w *world) encode(m appender) []byte {
	w.t.Helper()
	b, err := m.AppendBinary(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) sign(role, typ string, m appender) []byte {
	w.t.Helper()
	return w.encode(artifact.Sign(typ, w.encode(m), w.keys[role]))
}

// A version is one signed model.
type version struct {
	model    *artifact.Model
	release  artifact.Release
	envelope []byte
	transfer *artifact.Transfer
	p        *predictor.Predictor
}

func (v version) digest() protocol.Digest { return v.release.Digest }
func (v version) hash() string            { return v.transfer.Descriptor.Hash() }

const (
	testWindow   = 4
	testFeatures = 2
)

// testModel is a small int8 LSTM whose weights depend on seed; change may alter
// them.
func testModel(seed uint64, units int, change ...func(*kernel.Weights)) (*artifact.Model, error) {
	g := kernel.Graph{Features: testFeatures, Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: units}, {Kind: kernel.Dense, Units: 1, Activation: kernel.Linear},
	}}
	weights, err := kernel.NewWeights(g)
	if err != nil {
		return nil, err
	}
	move(weights, seed, 0.5, 0)
	for _, f := range change {
		f(weights)
	}
	q, err := kernel.Quantize(weights)
	if err != nil {
		return nil, err
	}
	schema := artifact.Schema{
		Features: []artifact.Column{{Name: "flow", Unit: "l/s"}, {Name: "pressure", Unit: "bar"}},
		Targets:  []artifact.Column{{Name: "wear"}},
		Window:   testWindow, State: artifact.StateWindow, Horizon: 1,
	}
	return predictor.FromQuant(q, schema, "forecast", kernel.Scaler{
		Mean: []float32{10, 3}, Std: []float32{2, 0.5}, Inv: []float32{0.5, 2}, OutMean: []float32{50}, OutStd: []float32{20},
	})
}

// move changes the weights of the layers from the first on by up to size.
func move(w *kernel.Weights, seed uint64, size float32, first int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, l := range w.Layers[first:] {
		for _, tensor := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for i := range tensor {
				tensor[i] += size * (2*rng.Float32() - 1)
			}
		}
	}
}

// testModels are versions 1 to 6 of the model pump, bigModels others that are
// too large for the database; tunedModel and headModel are
// version 1 after a little more training, of all weights and of the last layer's. They are made, and what the
// codecs keep is made with them, outside of any bubble: a channel may not be
// used in two.
var (
	testModels, bigModels []*artifact.Model
	tunedModel, headModel *artifact.Model
)

func TestMain(m *testing.M) {
	model := func(seed uint64, units int, change ...func(*kernel.Weights)) *artifact.Model {
		m, err := testModel(seed, units, change...)
		if err != nil {
			panic(err)
		}
		if _, err := artifact.Pack(m); err != nil {
			panic(err)
		}
		return m
	}
	for n := range uint64(6) {
		testModels = append(testModels, model(n+1, 128))
	}
	for n := range uint64(3) {
		bigModels = append(bigModels, model(100+n, 192)) // 150 KB
	}
	tunedModel = model(1, 128, func(w *kernel.Weights) { move(w, 9, 0.002, 0) })
	headModel = model(1, 128, func(w *kernel.Weights) { move(w, 9, 0.002, 1) })
	os.Exit(m.Run())
}

// version signs version n of the model pump; change may alter the release
// before it is signed.
func (w *world) version(n uint64, change ...func(*artifact.Release)) version {
	w.t.Helper()
	return w.versionOf(n, testModels[n-1], change...)
}

func (w *world) versionOf(n uint64, m *artifact.Model, change ...func(*artifact.Release)) version {
	w.t.Helper()
	v := version{model: m}
	var err error
	v.transfer = w.packed(packFull, protocol.KindFull, m, nil)
	v.release = artifact.Release{
		Format: artifact.Format, Name: "pump", Version: n, Digest: v.transfer.Digest, Fleet: "f", ABI: kernel.ABI,
		MaxTransfer: v.transfer.Size, MaxDecoded: v.transfer.Decoded, Issued: 1,
	}
	for _, f := range change {
		f(&v.release)
	}
	v.envelope = w.sign(artifact.RoleRelease, artifact.TypeRelease, v.release)
	if v.p, err = predictor.Open(m); err != nil {
		w.t.Fatal(err)
	}
	return v
}

// packs keeps what was packed once: coding takes longer than all else here.
var packs sync.Map // of *artifact.Transfer by kind and digests

// packed is what pack makes of m on top of base, whose slices are shared.
func (w *world) packed(pack func(m, base *artifact.Model) (*artifact.Transfer, error), kind string, m, base *artifact.Model) *artifact.Transfer {
	w.t.Helper()
	key := kind
	for _, m := range []*artifact.Model{m, base} {
		if m == nil {
			continue
		}
		d, err := m.Digest()
		if err != nil {
			w.t.Fatal(err)
		}
		key += " " + d.String()
	}
	t, ok := packs.Load(key)
	if !ok {
		made, err := pack(m, base)
		if err != nil {
			w.t.Fatal(err)
		}
		t, _ = packs.LoadOrStore(key, made)
	}
	again := *t.(*artifact.Transfer)
	return &again
}

// publish retains the transfer of v on its topics.
func (w *world) publish(v version) {
	w.t.Helper()
	w.retain(protocol.DescriptorTopic("f", v.hash()), w.encode(artifact.Announce(v.envelope, v.transfer)))
	for n := range v.transfer.Chunks {
		w.retain(protocol.ChunkTopic("f", v.hash(), n), v.transfer.Chunk(n))
	}
}

func (w *world) retain(topic string, payload []byte) {
	w.t.Helper()
	if err := w.server.Publish(topic, payload, true, 1); err != nil {
		w.t.Fatal(err)
	}
}

// want is what the control plane says about v, at the next rev.
func (w *world) want(v version) protocol.Want {
	w.rev++
	return protocol.Want{
		Format: protocol.Format, Fleet: "f", Device: "d1", Rev: w.rev, Issued: int64(1000 * w.rev),
		Models: map[string]protocol.ModelWant{"pump": {Active: protocol.WantedVersion{
			Digest:    v.digest(),
			Transfers: []protocol.TransferRef{{Hash: v.hash(), Kind: protocol.KindFull, Size: v.transfer.Size}},
		}}},
	}
}

// ask publishes a want, signed.
func (w *world) ask(want protocol.Want) {
	w.t.Helper()
	w.retain(protocol.WantTopic("f", "d1"), w.sign(artifact.RoleRollout, artifact.TypeWant, want))
}

// rollOut publishes v and asks for it.
func (w *world) rollOut(v version) {
	w.t.Helper()
	w.publish(v)
	w.ask(w.want(v))
}

// A device is an agent that runs.
type device struct {
	*Agent
	w    *world
	stop func()
}

func (w *world) config(dir string) Config {
	return Config{
		Fleet: "f", Device: "d1", Root: w.root, DataDir: dir, Version: "test", Dial: w.dial,
		Log: slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

type testWriter struct{ t *testing.T }

func (t testWriter) Write(b []byte) (int, error) {
	t.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// start runs an agent on dir.
func (w *world) start(dir string, change ...func(*Config)) *device {
	w.t.Helper()
	c := w.config(dir)
	for _, f := range change {
		f(&c)
	}
	a, err := New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(a)
}

func (w *world) run(a *Agent) *device {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	d := &device{Agent: a, w: w}
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run = %v, want a clean stop", err)
		}
	})
	w.t.Cleanup(d.stop)
	synctest.Wait()
	return d
}

// settle lets the agent do all it can without time passing.
func settle() { synctest.Wait() }

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pump is the state of the model in one line.
func (d *device) pump() string {
	s := d.Status()
	m, ok := s.Models["pump"]
	if !ok {
		return "none"
	}
	out := fmt.Sprintf("%s active %s serving %s", m.Phase, m.Version, m.Serving)
	if m.Previous != "" {
		out += " previous " + m.Previous
	}
	if m.Failed != nil {
		out += fmt.Sprintf(" failed %s@%d", m.Failed.Code, m.Failed.Rev)
	}
	return out
}

func (d *device) expect(want string) {
	d.w.t.Helper()
	if got := d.pump(); got != want {
		d.w.t.Errorf("the model is %s; want %s", got, want)
	}
}

var testRows = []float32{10, 3, 11, 3.1, 12, 3.2, 13, 3.25}

const testRequest = `[[10,3],[11,3.1],[12,3.2],[13,3.25]]`

// answers checks that the device answers with exactly what v computes.
func (d *device) answers(v version) {
	d.w.t.Helper()
	d.checkReply(d.Predict(d.w.t.Context(), "pump", []byte(testRequest)), v)
}

func (d *device) checkReply(b []byte, v version) {
	d.w.t.Helper()
	m, err := protocol.DecodePredictReply(b)
	if err != nil {
		d.w.t.Fatalf("reply %s: %v", b, err)
	}
	want, err := v.p.PredictAppend(nil, testRows)
	if err != nil {
		d.w.t.Fatal(err)
	}
	if name := v.release.String(); m.Error != nil || m.Version != name || !slices.Equal(m.Y, want) {
		d.w.t.Errorf("reply %s, want %s and %v", b, name, want)
	}
}

// A client is an MQTT client that asks for predictions.
type client struct {
	w       *world
	user    string
	mu      sync.Mutex
	replies map[string][][]byte // by correlation id
	order   []string            // correlation ids of the replies
}

// client subscribes to the replies for user u1.
func (w *world) client() *client { return w.clientOf("u1") }

func (w *world) clientOf(user string) *client {
	w.t.Helper()
	c := &client{w: w, user: user, replies: make(map[string][][]byte)}
	err := w.server.Subscribe("sp1/f/r/"+user+"/+/+", 1, func(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
		t, err := protocol.ParseTopic(pk.TopicName)
		if err != nil {
			w.t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.replies[t.Corr] = append(c.replies[t.Corr], pk.Payload)
		c.order = append(c.order, t.Corr)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (c *client) send(corr, request string, qos byte) {
	c.w.t.Helper()
	if err := c.w.server.Publish(protocol.PredictTopic("f", "d1", "pump", c.user, corr), []byte(request), false, qos); err != nil {
		c.w.t.Fatal(err)
	}
}

func (c *client) got(corr string) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replies[corr]
}

// code returns the error code of a reply, or its version.
func replyCode(t *testing.T, b []byte) string {
	t.Helper()
	m, err := protocol.DecodePredictReply(b)
	if err != nil {
		t.Fatalf("reply %s: %v", b, err)
	}
	if m.Error != nil {
		return m.Error.Code
	}
	return m.Version
}
