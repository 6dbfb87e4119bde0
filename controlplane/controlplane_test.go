package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const patience = 20 * time.Second // for what takes milliseconds

func initDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Init(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, cfg Config) *ControlPlane {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	c, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func addModel(t *testing.T, c *ControlPlane, seed uint64) registry.Version {
	t.Helper()
	return registrytest.Add(t, c.Registry, "wear", seed)
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	info, err := Init(t.Context(), dir, "north")
	if err != nil {
		t.Fatal(err)
	}
	if info.Fleet != "north" || len(info.Warnings) == 0 || !strings.Contains(info.Warnings[0], "DEVELOPMENT MODE") {
		t.Errorf("Init = %+v, want fleet north and a loud warning", info)
	}
	for name, mode := range map[string]os.FileMode{
		".": 0o700, "keys": 0o700, "keys/root.key": 0o600, "keys/release.key": 0o600, "keys/rollout.key": 0o600,
		"keys/admin.token": 0o600, "root.cbor": 0o644, "control.db": 0o600,
	} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %v", name, fi.Mode().Perm(), err, mode)
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), dir, ""); !errors.Is(err, ErrExists) {
		t.Errorf("Init again = %v, want ErrExists", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, rootFile)); err != nil || !bytes.Equal(before, after) {
		t.Error("a refused Init changed the root document")
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("left beside the folder: %v", left)
	}
	if _, err := Init(t.Context(), filepath.Join(t.TempDir(), "x"), "North"); !errors.Is(err, protocol.ErrID) {
		t.Errorf("Init of fleet North = %v, want ErrID", err)
	}
	c := open(t, Config{Dir: dir})
	root, err := artifact.OpenRoot(c.RootDocument())
	if err != nil || root.Roles[artifact.RoleRelease].Threshold != 1 {
		t.Errorf("root document = %+v, %v", root, err)
	}
	if token, err := c.AdminToken(); err != nil || len(token) != 32 {
		t.Errorf("AdminToken = %q, %v", token, err)
	}
	if c.Fleet.Name() != "north" {
		t.Errorf("fleet is %s", c.Fleet.Name())
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(t.Context(), Config{Dir: t.TempDir()}); !errors.Is(err, ErrNotInitialized) {
		t.Errorf("Open of an empty folder = %v, want ErrNotInitialized", err)
	}
	dir, other := initDir(t), initDir(t)
	key, err := os.ReadFile(filepath.Join(other, keyDir, rolloutKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyDir, rolloutKey), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), rolloutKey) {
		t.Errorf("Open with a foreign rollout key = %v, want an error naming it", err)
	}
	document, err := os.ReadFile(filepath.Join(other, rootFile))
	if err != nil {
		t.Fatal(err)
	}
	document[len(document)/2] ^= 1
	if err := os.WriteFile(filepath.Join(other, rootFile), document, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: other}); err == nil {
		t.Error("Open with a changed root document = nil")
	}
}

func TestSecondOpenerFailsNamingTheFirst(t *testing.T) {
	dir := initDir(t)
	first := open(t, Config{Dir: dir})
	_, err := Open(t.Context(), Config{Dir: dir, LockWait: time.Millisecond})
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() ||
		!strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("Open twice = %v, want ErrLocked naming process %d", err, os.Getpid())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Config{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with an ended context = %v, want Canceled", err)
	}
	opened := make(chan error, 1)
	go func() { // waits until the first is closed
		c, err := Open(context.Background(), Config{Dir: dir, LockWait: patience})
		if err == nil {
			err = c.Close()
		}
		opened <- err
	}()
	if err := errors.Join(first.store.Close(), first.lock.release()); err != nil {
		t.Fatal(err)
	}
	first.store, first.lock = nil, nil
	if err := <-opened; err != nil {
		t.Errorf("Open after the first was closed = %v", err)
	}
}

// On a disk that was full before, the process id has no room: who waits is not
// told it, and the lock holds.
func TestLockHoldsWithoutAProcessID(t *testing.T) {
	const full = "/dev/full"
	if _, err := os.Stat(full); err != nil {
		t.Skipf("no file that is always full: %v", err)
	}
	dir := t.TempDir()
	if err := os.Symlink(full, filepath.Join(dir, lockFile)); err != nil {
		t.Fatal(err)
	}
	l, err := lockDir(t.Context(), dir, 0)
	if err != nil {
		t.Fatalf("lockDir on a full disk = %v", err)
	}
	if _, err := lockDir(t.Context(), dir, 0); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("lockDir beside it = %v, want ErrLocked by another process", err)
	}
	if err := l.release(); err != nil {
		t.Error(err)
	}
}

// The lock is the process's: when it dies, however it dies, the folder is free.
func TestLockEndsWithItsProcess(t *testing.T) {
	if dir := os.Getenv("SANDPIPER_TEST_HOLD"); dir != "" {
		c, err := Open(context.Background(), Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.AddDevice(context.Background(), "acked", nil); err != nil {
			t.Fatal(err)
		}
		fmt.Println("acked")
		select {} // until it is killed
	}
	dir := initDir(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithItsProcess$")
	cmd.Env = append(os.Environ(), "SANDPIPER_TEST_HOLD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := out.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte("acked")) {
		t.Fatalf("the other process says %q, %v", buf, err)
	}
	_, err = Open(t.Context(), Config{Dir: dir, LockWait: -1})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != cmd.Process.Pid {
		t.Errorf("Open beside it = %v, want ErrLocked naming process %d", err, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
	c := open(t, Config{Dir: dir, LockWait: patience})
	if _, err := c.Fleet.Device(t.Context(), "acked"); err != nil {
		t.Errorf("what it had acknowledged: %v", err)
	}
}

func TestUnsignedUntilTheReleaseKeyIsThere(t *testing.T) {
	dir := initDir(t)
	path := filepath.Join(dir, keyDir, releaseKey)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	c := open(t, Config{Dir: dir})
	addModel(t, c, 1)
	if _, _, err := c.AddDevice(t.Context(), "pump-1", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Rollout.Start(t.Context(), "wear:v1", rollout.Target{All: true}); !errors.Is(err, rollout.ErrUnsigned) {
		t.Errorf("Start of an unsigned version = %v, want ErrUnsigned", err)
	}
	if _, err := c.Sign(t.Context(), "wear"); !errors.Is(err, registry.ErrKey) {
		t.Errorf("Sign without the key = %v, want ErrKey", err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Sign(t.Context(), "wear"); err != nil || !v.Signed {
		t.Errorf("Sign = %v, %v", v.Signed, err)
	}
	if _, err := c.Rollout.Start(t.Context(), "wear:v1", rollout.Target{All: true}); err != nil {
		t.Errorf("Start after Sign = %v", err)
	}
}

func TestPredictWithoutServing(t *testing.T) {
	c := open(t, Config{Dir: initDir(t)})
	if _, _, err := c.AddDevice(t.Context(), "pump-1", nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		device, model string
		payload       []byte
		want          error
	}{
		{"pump-1", "wear", nil, ErrNoBroker},
		{"pump-2", "wear", nil, fleet.ErrNotFound},
		{"Pump", "wear", nil, protocol.ErrID},
		{"pump-1", "a/b", nil, protocol.ErrID},
		{"pump-1", "wear", make([]byte, protocol.MaxPayload+1), ErrTooLarge},
	} {
		if _, err := c.Predict(t.Context(), tt.device, tt.model, tt.payload); !errors.Is(err, tt.want) {
			t.Errorf("Predict(%s, %s, %d bytes) = %v, want %v", tt.device, tt.model, len(tt.payload), err, tt.want)
		}
	}
}

func TestInboxKeepsTheLatestStateAndEveryEvent(t *testing.T) {
	var b inbox
	b.init()
	for _, r := range []rollout.Report{
		{Device: "d1", Kind: protocol.TopicHave, Payload: []byte("1")},
		{Device: "d1", Kind: protocol.TopicEvent, Payload: []byte("e1")},
		{Device: "d2", Kind: protocol.TopicHave, Payload: []byte("2")},
		{Device: "d1", Kind: protocol.TopicHave, Payload: []byte("3")},
		{Device: "d1", Kind: protocol.TopicEvent, Payload: []byte("e2")},
	} {
		if !b.put(r) {
			t.Fatal("refused")
		}
	}
	var got []string
	for _, r := range b.take() {
		got = append(got, r.Device+string(r.Payload))
	}
	if want := "[d13 d1e1 d22 d1e2]"; fmt.Sprint(got) != want {
		t.Errorf("take = %v, want %v", got, want)
	}
	b.put(rollout.Report{Device: "d1", Kind: protocol.TopicHave, Payload: []byte("4")})
	if got := b.take(); len(got) != 1 || string(got[0].Payload) != "4" {
		t.Errorf("take after take = %v", got)
	}
	for i := range maxReports + 5 {
		if ok := b.put(rollout.Report{Device: "d", Kind: protocol.TopicEvent}); ok != (i < maxReports) {
			t.Fatalf("event %d taken: %v", i, ok)
		}
	}
}

// A device of our own making: plain MQTT, no agent.
type device struct {
	paho.Client
	t        *testing.T
	id       string
	messages chan paho.Message
}

func connect(t *testing.T, c *ControlPlane, id, token string) *device {
	t.Helper()
	d := &device{t: t, id: id, messages: make(chan paho.Message, 100)}
	o := paho.NewClientOptions().AddBroker(c.BrokerURL()).SetClientID("d."+id).SetUsername("d."+id).SetPassword(token).
		SetCleanSession(true).SetAutoReconnect(false).
		SetBinaryWill(protocol.UpTopic(c.Fleet.Name(), id), []byte(protocol.Offline), 1, true).
		SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { d.messages <- m })
	d.Client = paho.NewClient(o)
	d.wait(d.Connect())
	t.Cleanup(func() { d.Disconnect(0) })
	return d
}

func (d *device) wait(tok paho.Token) {
	d.t.Helper()
	if !tok.WaitTimeout(patience) || tok.Error() != nil {
		d.t.Fatalf("device %s: %v", d.id, tok.Error())
	}
}

func (d *device) publish(topic string, retain bool, payload []byte) {
	d.t.Helper()
	d.wait(d.Publish(topic, 1, retain, payload))
}

// next returns the next message on topic, dropping others.
func (d *device) next(topic string) []byte {
	d.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case m := <-d.messages:
			if m.Topic() == topic {
				return m.Payload()
			}
		case <-timeout:
			d.t.Fatalf("nothing on %s", topic)
		}
	}
}

// until calls f whenever a little time has passed, until it is true: there is
// no message that says the control plane has stored a report.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never: " + what)
		}
	}
}

// serve runs c and returns how to stop it.
func serve(t *testing.T, c *ControlPlane) (stop func()) {
	t.Helper()
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	until(t, "connected", c.Connected)
	return stop
}

func TestFromRolloutToPredictionOverTheBroker(t *testing.T) {
	dir := initDir(t)
	c := open(t, Config{Dir: dir, PredictTimeout: 50 * time.Millisecond})
	name := c.Fleet.Name()
	v := addModel(t, c, 1)
	_, token, err := c.AddDevice(t.Context(), "pump-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, c)
	if _, err := c.Predict(t.Context(), "pump-1", "wear", nil); !errors.Is(err, ErrOffline) {
		t.Errorf("Predict before the device connected = %v, want ErrOffline", err)
	}

	d := connect(t, c, "pump-1", token)
	d.wait(d.SubscribeMultiple(map[string]byte{
		protocol.StateTopic(name): 1, protocol.WantTopic(name, "pump-1"): 1, protocol.AckTopic(name, "pump-1"): 1,
	}, nil))
	var state protocol.State
	if err := state.UnmarshalBinary(d.next(protocol.StateTopic(name))); err != nil || !state.Online {
		t.Errorf("state = %+v, %v", state, err)
	}
	d.publish(protocol.UpTopic(name, "pump-1"), true, []byte(protocol.Online))
	if _, err := c.Rollout.Start(t.Context(), "wear:v1", rollout.Target{All: true}); err != nil {
		t.Fatal(err)
	}
	root, err := artifact.OpenRoot(c.RootDocument())
	if err != nil {
		t.Fatal(err)
	}
	want, err := root.OpenWant(d.next(protocol.WantTopic(name, "pump-1")))
	if err != nil || want.Models["wear"].Active.Digest != v.Digest {
		t.Fatalf("want = %+v, %v", want, err)
	}
	hash := want.Models["wear"].Active.Transfers[0].Hash
	d.wait(d.Subscribe(protocol.DescriptorTopic(name, hash), 1, nil))
	var a artifact.Announcement
	if err := a.UnmarshalBinary(d.next(protocol.DescriptorTopic(name, hash))); err != nil {
		t.Fatal(err)
	}
	d.wait(d.Subscribe(protocol.ChunkTopic(name, hash, 0), 1, nil))
	release, err := root.OpenRelease(a.Release)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.Unpack(a.Descriptor, d.next(protocol.ChunkTopic(name, hash, 0)), nil, release); err != nil {
		t.Errorf("the only chunk does not unpack: %v", err)
	}

	event, err := protocol.Event{Boot: 1, Seq: 1, Kind: "activated", Model: "wear", Digest: v.Digest}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.publish(protocol.EventTopic(name, "pump-1"), false, event)
	var ack protocol.Ack
	if err := ack.UnmarshalBinary(d.next(protocol.AckTopic(name, "pump-1"))); err != nil || ack != (protocol.Ack{Boot: 1, Seq: 1}) {
		t.Errorf("ack = %+v, %v", ack, err)
	}
	have, err := protocol.Have{Format: 1, Boot: 1, Epoch: want.Epoch, Rev: want.Rev, Models: map[string]protocol.ModelHave{
		"wear": {Version: "wear:v1", Active: v.Digest, Phase: protocol.PhaseIdle},
	}}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.publish(protocol.HaveTopic(name, "pump-1"), true, have)
	active := func(c *ControlPlane) bool {
		s, err := c.Rollout.Status(t.Context(), "wear", rollout.Query{})
		return err == nil && s.Counts[rollout.Active] == 1
	}
	until(t, "active", func() bool { return active(c) })

	// Nobody answers, then the device does.
	if _, err := c.Predict(t.Context(), "pump-1", "wear", []byte("{}")); !errors.Is(err, ErrTimeout) {
		t.Errorf("Predict of a device that does not answer = %v, want ErrTimeout", err)
	}
	d.wait(d.Subscribe(protocol.PredictTopic(name, "pump-1", "wear", "cp", "+"), 1, func(_ paho.Client, m paho.Message) {
		topic, err := protocol.ParseTopic(m.Topic())
		if err != nil {
			t.Error(err)
		}
		d.Publish(protocol.ReplyTopic(name, topic.User, topic.Device, topic.Corr), 1, false, append([]byte("echo "), m.Payload()...))
	}))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reply, err := c.Predict(ctx, "pump-1", "wear", []byte("{}"))
	if err != nil || string(reply) != "echo {}" {
		t.Errorf("Predict = %q, %v", reply, err)
	}

	// The link breaks: the broker publishes the will.
	d.publish(protocol.UpTopic(name, "pump-1"), true, []byte(protocol.Offline))
	until(t, "offline", func() bool {
		_, err := c.Predict(t.Context(), "pump-1", "wear", []byte("{}"))
		return errors.Is(err, ErrOffline)
	})

	// A new process on the same folder has it all, and publishes it again.
	stop()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c.store, c.lock = nil, nil
	again := open(t, Config{Dir: dir})
	if !active(again) {
		t.Error("after a restart the device is not active")
	}
	serve(t, again)
	d = connect(t, again, "pump-1", token)
	d.wait(d.Subscribe(protocol.WantTopic(name, "pump-1"), 1, nil))
	if w, err := root.OpenWant(d.next(protocol.WantTopic(name, "pump-1"))); err != nil || w.Rev != want.Rev {
		t.Errorf("want after a restart = %+v, %v, want rev %d", w, err, want.Rev)
	}
	err = again.store.View(t.Context(), func(tx store.Tx) error {
		events, err := tx.Events(t.Context(), "pump-1", 9)
		if len(events) != 1 {
			t.Errorf("%d events after a restart, want the acknowledged one", len(events))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRunThatIsEndedAtOnce, as one that waits for its store may be, has not failed.
func TestRunThatIsEndedAtOnce(t *testing.T) {
	c := open(t, Config{Dir: initDir(t)})
	ctx, end := context.WithCancel(t.Context())
	end()
	if err := c.Run(ctx); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestRunReportsAnAddressInUse(t *testing.T) {
	first := open(t, Config{Dir: initDir(t)})
	if err := first.Listen(); err != nil {
		t.Fatal(err)
	}
	second := open(t, Config{Dir: initDir(t)})
	second.cfg.Listen = strings.TrimPrefix(first.BrokerURL(), "tcp://")
	if err := second.Run(t.Context()); err == nil {
		t.Error("Run on an address in use = nil")
	}
}
