package firmwaresim

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
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

const testFleet, testName = "f", "vibration"

// testModels are versions 1 and 2. They are made, and what the codecs keep is
// made with them, outside of any bubble.
var testModels []*artifact.Model

func TestMain(m *testing.M) {
	for n := range uint64(2) {
		model, err := testModel(n + 1)
		if err == nil {
			_, err = artifact.Pack(model)
		}
		if err != nil {
			panic(err)
		}
		testModels = append(testModels, model)
	}
	os.Exit(m.Run())
}

// testModel is an untrained LSTM(64) over the pump's sensors.
func testModel(seed uint64) (*artifact.Model, error) { return sizedModel(seed, 64) }

// sizedModel is testModel with any number of units.
func sizedModel(seed uint64, units int) (*artifact.Model, error) {
	w, err := kernel.NewWeights(kernel.Graph{Features: len(Features), Layers: []kernel.Layer{
		{Kind: kernel.LSTM, Units: units}, {Kind: kernel.Dense, Units: 1},
	}})
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, l := range w.Layers {
		for _, tensor := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for i := range tensor {
				tensor[i] = rng.Float32() - 0.5
			}
		}
	}
	q, err := kernel.Quantize(w)
	if err != nil {
		return nil, err
	}
	schema := artifact.Schema{
		Targets: []artifact.Column{{Name: "vibration", Unit: "mm/s"}},
		Window:  4, State: artifact.StateWindow, Horizon: 1,
	}
	scaler := kernel.Scaler{OutMean: []float32{2}, OutStd: []float32{1}}
	for _, f := range Features {
		schema.Features = append(schema.Features, artifact.Column{Name: f})
		scaler.Mean = append(scaler.Mean, 10)
		scaler.Std = append(scaler.Std, 4)
		scaler.Inv = append(scaler.Inv, 0.25)
	}
	return predictor.FromQuant(q, schema, "forecast", scaler)
}

// A world is a broker and a control plane's keys in one bubble.
type world struct {
	t      *testing.T
	server *mqtt.Server
	root   []byte
	keys   map[string]ed25519.PrivateKey // by role
	rev    uint64
	judge  *protocol.Judge // of all wants
	down   atomic.Bool     // the broker cannot be reached

	mu         sync.Mutex          // guards what follows
	seen       map[string][]string // payloads by topic
	chunkBytes int64               // of chunks sent to devices
}

type recorder struct {
	mqtt.HookBase
	w *world
}

func (*recorder) ID() string { return "recorder" }
func (*recorder) Provides(b byte) bool {
	return b == mqtt.OnPublished || b == mqtt.OnWillSent || b == mqtt.OnACLCheck || b == mqtt.OnConnectAuthenticate ||
		b == mqtt.OnPacketSent
}
func (*recorder) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }
func (*recorder) OnACLCheck(*mqtt.Client, string, bool) bool              { return true }
func (r *recorder) OnPublished(_ *mqtt.Client, pk packets.Packet)         { r.w.record(pk) }
func (r *recorder) OnWillSent(_ *mqtt.Client, pk packets.Packet)          { r.w.record(pk) }

func (r *recorder) OnPacketSent(_ *mqtt.Client, pk packets.Packet, _ []byte) {
	if t, err := protocol.ParseTopic(pk.TopicName); err == nil && t.Kind == protocol.TopicChunk {
		r.w.mu.Lock()
		defer r.w.mu.Unlock()
		r.w.chunkBytes += int64(len(pk.Payload))
	}
}

// sentChunks returns how many bytes of chunks the broker has sent.
func (w *world) sentChunks() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chunkBytes
}

func (w *world) record(pk packets.Packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[pk.TopicName] = append(w.seen[pk.TopicName], string(pk.Payload))
}

// published returns the payloads published on topic.
func (w *world) published(topic string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen[topic])
}

// within runs f in a bubble with a world and its running simulation.
func within(t *testing.T, devices []DeviceConfig, f func(w *world, s *Sim)) {
	t.Helper()
	simulate(t, Config{Devices: devices}, f)
}

// simulate is within for what else there is to configure.
func simulate(t *testing.T, cfg Config, f func(w *world, s *Sim)) {
	dir := t.TempDir()
	bubble(t, func(t *testing.T, w *world) {
		cfg.Fleet, cfg.Seed, cfg.Root, cfg.DataDir, cfg.Trial = testFleet, max(cfg.Seed, 1), w.root, dir, 5*time.Second
		cfg.Dial = w.dial
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.run(s.Run)
		f(w, s)
	})
}

// bubble runs f in a bubble with a world.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, keys: make(map[string]ed25519.PrivateKey), seen: make(map[string][]string)}
		limits := mqtt.NewDefaultServerCapabilities()
		limits.MaximumMessageExpiryInterval = 0 // or what is retained is gone after a day
		w.server = mqtt.New(&mqtt.Options{InlineClient: true, Capabilities: limits, SysTopicResendInterval: 1 << 30, Logger: slog.New(slog.DiscardHandler)})
		if err := w.server.AddHook(&recorder{w: w}, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.server.Serve(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.server.Close() })
		w.makeRoot()
		f(t, w)
	})
}

// run runs a simulation until the end of the test.
func (w *world) run(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run = %v, want a clean stop", err)
		}
	})
}

// dial connects to the broker through memory.
func (w *world) dial(context.Context) (net.Conn, error) {
	if w.down.Load() {
		return nil, errOffline
	}
	device, broker := net.Pipe()
	go w.server.EstablishConnection("test", broker)
	return device, nil
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

type appender interface{ AppendBinary([]byte) ([]byte, error) }

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

func (w *world) retain(topic string, payload []byte) {
	w.t.Helper()
	if err := w.server.Publish(topic, payload, true, 1); err != nil {
		w.t.Fatal(err)
	}
}

// rollOut publishes version n, signed, and asks the devices for it.
func (w *world) rollOut(n uint64, devices ...string) {
	w.t.Helper()
	tr, err := artifact.Pack(testModels[n-1])
	if err != nil {
		w.t.Fatal(err)
	}
	w.rollOutTransfer(n, tr, devices...)
}

func (w *world) rollOutTransfer(n uint64, tr *artifact.Transfer, devices ...string) {
	w.t.Helper()
	release := w.sign(artifact.RoleRelease, artifact.TypeRelease, artifact.Release{
		Format: artifact.Format, Name: testName, Version: n, Digest: tr.Digest, Fleet: testFleet, ABI: kernel.ABI,
		MaxTransfer: tr.Size, MaxDecoded: tr.Decoded, Issued: 1,
	})
	hash := tr.Descriptor.Hash()
	w.retain(protocol.DescriptorTopic(testFleet, hash), w.encode(artifact.Announce(release, tr)))
	for i := range tr.Chunks {
		w.retain(protocol.ChunkTopic(testFleet, hash, i), tr.Chunk(i))
	}
	w.rev++
	for _, d := range devices {
		w.retain(protocol.WantTopic(testFleet, d), w.sign(artifact.RoleRollout, artifact.TypeWant, protocol.Want{
			Format: protocol.Format, Fleet: testFleet, Device: d, Rev: w.rev, Issued: int64(w.rev), Judge: w.judge,
			Models: map[string]protocol.ModelWant{testName: {Active: protocol.WantedVersion{
				Digest:    tr.Digest,
				Transfers: []protocol.TransferRef{{Hash: hash, Kind: protocol.KindFull, Size: tr.Size}},
			}}},
		}))
	}
}

// expect fails unless the device's model is idle on version, having failed
// with code ("" for none).
func (w *world) expect(d *Device, version, code string) {
	w.t.Helper()
	s, ok := d.Status()
	m := s.Models[testName]
	got := ""
	if m.Failed != nil {
		got = m.Failed.Code
	}
	if !ok || m.Phase != protocol.PhaseIdle || m.Version != version || m.Serving != version || got != code {
		w.t.Errorf("%s: running %v, model %+v, want idle on %s, failed %q", d.ID(), ok, m, version, code)
	}
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestDevicesTakeAVersionAndSendSamples(t *testing.T) {
	const flash = 1 << 20
	slow := Link{Up: 10_000, Down: 10_000, Latency: 200 * time.Millisecond}
	within(t, []DeviceConfig{{ID: "near", Flash: flash}, {ID: "far", Flash: flash, Link: slow}}, func(w *world, s *Sim) {
		pass(3 * time.Second)
		w.rollOut(1, "near", "far")
		pass(time.Second)
		if st, _ := s.Device("far").Status(); st.Models[testName].Phase != protocol.PhaseFetching {
			t.Errorf("20 KB over 10 KB/s: phase %q after 1s, want fetching", st.Models[testName].Phase)
		}
		pass(20 * time.Second)
		for _, d := range s.Devices() {
			w.expect(d, "vibration:v1", "")
			samples := w.published(protocol.SampleTopic(testFleet, d.ID(), Stream))
			if len(samples) < 20 || uint64(len(samples)) > d.Samples() {
				t.Errorf("%s: the broker saw %d samples in 24s, the device sent %d", d.ID(), len(samples), d.Samples())
			}
			if got := onFlash(t, d.DataDir()); got > flash+flash/2 {
				t.Errorf("%s: %d bytes on a flash of %d", d.ID(), got, flash)
			}
		}
		raw := w.published(protocol.SampleTopic(testFleet, "near", Stream))[0]
		var got protocol.Sample
		if err := got.UnmarshalBinary([]byte(raw)); err != nil || len(got.V) != len(Features) {
			t.Errorf("sample %s: %v", raw, err)
		}
		if want := float32(History(1, 0, 1)[0].Vibration); got.V["vibration"] != want {
			t.Errorf("first vibration %v, want the pump's %v", got.V["vibration"], want)
		}
	})
}

// onFlash is what the files under dir take.
func onFlash(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func TestCrashOnTrialGoesBack(t *testing.T) {
	bad := DeviceConfig{ID: "bad", Faults: Faults{CrashOn: []string{"vibration:v2"}}}
	within(t, []DeviceConfig{bad, {ID: "good"}}, func(w *world, s *Sim) {
		pass(time.Second)
		w.rollOut(1, "bad", "good")
		pass(10 * time.Second)
		w.expect(s.Device("bad"), "vibration:v1", "")
		w.rollOut(2, "bad", "good")
		pass(30 * time.Second)
		w.expect(s.Device("bad"), "vibration:v1", "crash")
		w.expect(s.Device("good"), "vibration:v2", "")
		if n := s.Device("bad").Restarts(); n < 1 || n > 3 {
			t.Errorf("%d restarts, want 1 to 3", n)
		}
		if n := s.Device("good").Restarts(); n != 0 {
			t.Errorf("the healthy device restarted %d times", n)
		}
		// The process died without a word: presence comes from the will.
		if ups := w.published(protocol.UpTopic(testFleet, "bad")); !slices.Contains(ups, protocol.Offline) {
			t.Errorf("presence %v, want offline in between", ups)
		}
	})
}

func TestNaNGoesBack(t *testing.T) {
	bad := DeviceConfig{ID: "bad", Faults: Faults{NaNOn: []string{"vibration:v2"}}}
	within(t, []DeviceConfig{bad}, func(w *world, s *Sim) {
		pass(time.Second)
		w.rollOut(1, "bad")
		pass(10 * time.Second)
		w.rollOut(2, "bad")
		pass(time.Second) // on trial
		request := "[" + strings.Repeat("[40,2,1,50,10],", 3) + "[40,2,1,50,10]]"
		topic := protocol.PredictTopic(testFleet, "bad", testName, "ann", "1")
		if err := w.server.Publish(topic, []byte(request), false, 0); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		w.expect(s.Device("bad"), "vibration:v1", "non_finite")
		if n := s.Device("bad").Restarts(); n != 0 {
			t.Errorf("%d restarts, want none", n)
		}
	})
}

func TestOutageBreaksTheSession(t *testing.T) {
	d := DeviceConfig{ID: "a", Faults: Faults{Offline: []Outage{{From: 10 * time.Second, For: time.Minute}}}}
	within(t, []DeviceConfig{d}, func(w *world, s *Sim) {
		a := s.Device("a")
		connected := func() bool { s, ok := a.Status(); return ok && s.Connected }
		pass(9 * time.Second)
		if !connected() {
			t.Error("not connected before the outage")
		}
		sent := a.Samples()
		pass(2 * time.Second)
		if connected() {
			t.Error("connected in the outage")
		}
		pass(55 * time.Second)
		if n := a.Samples() - sent; n > 2 {
			t.Errorf("%d samples sent in the outage", n)
		}
		pass(2 * time.Minute) // the agent's longest wait
		if !connected() {
			t.Error("not connected after the outage")
		}
		ups := w.published(protocol.UpTopic(testFleet, "a"))
		if want := []string{"online", "offline", "online"}; !slices.Equal(ups, want) {
			t.Errorf("presence %v, want %v", ups, want)
		}
	})
}

func TestNewChecksItsConfiguration(t *testing.T) {
	dial := DialTCP("127.0.0.1:1")
	good := Config{Fleet: "f", Dial: dial, DataDir: "x", Devices: []DeviceConfig{{ID: "a"}}}
	if _, err := New(good); err != nil {
		t.Errorf("New = %v", err)
	}
	for name, change := range map[string]func(*Config){
		"fleet":  func(c *Config) { c.Fleet = "No" },
		"device": func(c *Config) { c.Devices = []DeviceConfig{{ID: "a/b"}} },
		"twice":  func(c *Config) { c.Devices = []DeviceConfig{{ID: "a"}, {ID: "a"}} },
		"dial":   func(c *Config) { c.Dial = nil },
		"folder": func(c *Config) { c.DataDir = "" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("New with a bad %s succeeded", name)
		}
	}
	if s, _ := New(good); s.Device("a") == nil || s.Device("b") != nil {
		t.Error("Device does not find by id")
	}
}

func TestRunReportsADeviceThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil { // where its folder should be
		t.Fatal(err)
	}
	s, err := New(Config{Fleet: "f", Dial: DialTCP("127.0.0.1:1"), DataDir: dir, Devices: []DeviceConfig{{ID: "a"}}, Interval: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "device a") {
		t.Errorf("Run = %v, want an error that names the device", err)
	}
}
