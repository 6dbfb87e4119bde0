package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokertest"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

const (
	badFleet  = "default"
	badDevice = "pump-1"
	badUser   = "bob"
	badModel  = "pump"
	// badPatience is how long anything here may take before the test fails.
	badPatience = 20 * time.Second
)

// badRequest is one window of badModel; badRows is the same, row-major.
const badRequest = `[[20,0.5],[20.5,-0.25],[21,0.75],[22,0],[23.5,1]]`

var badRows = []float32{20, 0.5, 20.5, -0.25, 21, 0.75, 22, 0, 23.5, 1}

// A badWorld is a control plane with its broker and API, served by the same
// command that an operator types, one device, and one user of predictions.
//
// The device runs pump:v2, whose release raised its security floor to 2, and
// has pump:v1 as the version before.
type badWorld struct {
	t      *testing.T // of the row that runs
	dir    string     // data folder of the control plane
	work   string     // files, see writeData
	http   string     // URL of the HTTP API
	broker string     // host:port
	root   []byte
	keys   map[string]ed25519.PrivateKey // by role

	wire   *wire
	device *agent.Agent
	socket string
	log    *lines // of the device
	jam    jam

	user  *brokertest.Client
	token string // the user's
	asked int

	old      []byte            // pump:v1 as a file
	want     []float32         // what pump:v2 answers to badRequest
	good     badVersion        // pump:v3: nothing is wrong with it
	versions map[string][]byte // the files of big:v1 and huge:v1, by name
	hashes   map[string]string // of their transfers
	client   *api.Client       // of the socket
}

// A badVersion is a version under construction; change it, then pack it.
type badVersion struct {
	release  artifact.Release
	transfer artifact.Transfer
	signer   ed25519.PrivateKey // nil: not signed
}

// An answer is how the product took something: a code (an exit code, an error
// code) and the text that came with it.
type answer struct{ code, text string }

func newBadWorld(t *testing.T) *badWorld {
	for _, name := range []string{"SANDPIPER_DIR", "SANDPIPER_SERVER", "SANDPIPER_TOKEN"} {
		t.Setenv(name, "")
	}
	work := t.TempDir()
	w := &badWorld{
		t: t, work: work, dir: filepath.Join(work, "data"), keys: map[string]ed25519.PrivateKey{},
		log: new(lines), versions: map[string][]byte{}, hashes: map[string]string{},
	}
	w.check(writeData(work))
	w.write("request.json", []byte(badRequest))
	w.must("init", "-q")
	w.broker, w.http = w.serve(w.dir)
	w.client = api.NewSocketClient(w.dir)
	t.Cleanup(w.client.Close)
	for _, role := range []string{artifact.RoleRoot, artifact.RoleRelease, artifact.RoleRollout} {
		w.keys[role] = w.key(role)
	}
	var err error
	w.root, err = os.ReadFile(filepath.Join(w.dir, "root.cbor"))
	w.check(err)
	w.startDevice()
	w.makeVersions()
	if f := w.device.Status().Findings; len(f) > 0 {
		t.Fatalf("the device found about the embedded broker: %v", f)
	}
	w.token = strings.TrimSpace(w.must("user", "add", badUser))
	w.connect()
	t.Cleanup(func() { w.user.Conn.Close() })
	return w
}

func (w *badWorld) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// serve runs `sandpiper serve` on dir until the test that runs now ends. It
// returns where the broker and the HTTP API are.
func (w *badWorld) serve(dir string) (broker, http string) {
	w.t.Helper()
	t, log := w.t, new(lines)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--dir", dir, "--broker-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"},
			strings.NewReader(""), io.Discard, log)
	}()
	t.Cleanup(func() {
		stop()
		if code := <-done; code != exitOK {
			t.Errorf("serve ended with %d:\n%s", code, log.all())
		}
	})
	ready := regexp.MustCompile(`control plane ready.* broker=tcp://(\S+) http=(\S+)`)
	w.until("the control plane to start", func() bool { return ready.MatchString(log.all()) })
	at := ready.FindStringSubmatch(log.all())
	c := api.NewSocketClient(dir)
	defer c.Close()
	w.until("the control plane to reach its broker", func() bool {
		s, err := c.Server(w.t.Context())
		return err == nil && s.Connected
	})
	return at[1], at[2]
}

// key reads a private key of the data folder: whoever has it is the role.
func (w *badWorld) key(role string) ed25519.PrivateKey {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "keys", role+".key"))
	w.check(err)
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	w.check(err)
	return key.(ed25519.PrivateKey)
}

// startDevice adds the device and runs its agent on the file that came.
func (w *badWorld) startDevice() {
	file := filepath.Join(w.work, "agent.toml")
	w.must("fleet", "add", badDevice, "--out", file, "-q", "--data-dir", filepath.Join(w.work, "device"))
	c, err := config.LoadAgent(file)
	w.check(err)
	u, err := url.Parse(c.Broker)
	w.check(err)
	w.wire = &wire{addr: u.Host}
	w.socket = agent.DefaultSocket(c.DataDir)
	w.device, err = agent.New(agent.Config{
		Fleet: c.Fleet, Device: c.Device, Username: c.Username, Token: c.Token, Root: c.Root, DataDir: c.DataDir,
		Socket: w.socket, Dial: w.wire.dial, Tamper: w.jam.hold,
		QueueLen: 1, QuotaBytes: 1 << 20, Trial: 10 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	w.check(err)
	w.background("the agent", w.device.Run)
	w.online()
}

// background runs f until the test ends, and wants it to end well.
func (w *badWorld) background(what string, f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Errorf("%s: %v", what, err)
		}
	})
}

// online waits until the device and the control plane see each other.
func (w *badWorld) online() {
	w.t.Helper()
	w.until("the device to connect", func() bool {
		d, err := w.client.Device(w.t.Context(), badDevice)
		return err == nil && d.Online && w.device.Status().Connected
	})
}

// makeVersions trains pump:v1 by command line, and what else is needed beside.
func (w *badWorld) makeVersions() {
	w.must(w.training(badModel, "engines.csv", "--epochs", "1", "--seed", "1", "-q")...)
	w.must("model", "export", badModel+":v1", w.path("v1.model"), "-q")
	var err error
	w.old, err = os.ReadFile(w.path("v1.model"))
	w.check(err)
	w.must("rollout", "start", badModel+":v1", "--to", badDevice)
	w.confirmed(1)

	active := w.trained(2)
	v2 := w.version(badModel, 2, active)
	v2.release.Floor = 2
	w.importFile("pump:v2", w.pack(v2))
	w.must("rollout", "start", badModel+":v2", "--to", badDevice)
	w.confirmed(2)
	p, err := predictor.Open(active)
	w.check(err)
	w.want, err = p.PredictAppend(nil, badRows)
	w.check(err)

	w.good = w.version(badModel, 3, w.trained(3))
	for name, units := range map[string]int{"big": 64, "huge": 512} { // 17 KB in a chunk of its own, 1 MB
		v := w.version(name, 1, w.random(units))
		w.hashes[name] = v.transfer.Hash()
		w.versions[name] = w.pack(v)
		w.importFile(name+":v1", w.versions[name])
	}
}

// confirmed waits until the device has version n of the model for good.
func (w *badWorld) confirmed(n int) {
	w.t.Helper()
	ref := fmt.Sprintf("%s:v%d", badModel, n)
	w.until(ref+" to be confirmed", func() bool {
		m := w.device.Status().Models[badModel]
		return m.Version == ref && m.Phase == protocol.PhaseIdle
	})
}

// training is a command line that trains LSTM(4) on one of the files of writeData.
func (w *badWorld) training(model, file string, more ...string) []string {
	return append([]string{
		"train", model, "--data", w.path(file), "--task", "rul", "--group", "unit", "--time", "cycle",
		"--features", "heat,hum", "--window", "5", "--units", "4",
	}, more...)
}

// trained is a model like pump:v1, of another seed.
func (w *badWorld) trained(seed uint64) *artifact.Model {
	w.t.Helper()
	f, err := os.Open(w.path("engines.csv"))
	w.check(err)
	defer f.Close()
	r, err := train.Run(w.t.Context(), train.Options{
		Model: badModel, Task: train.RUL, Group: "unit", Time: "cycle", Features: []string{"heat", "hum"},
		Window: 5, Units: []int{4}, Epochs: 1, Seed: seed,
	}, f, nil)
	w.check(err)
	return r.Model
}

// random is a model that nobody trained, of the size that is asked for.
func (w *badWorld) random(units int) *artifact.Model {
	w.t.Helper()
	g := kernel.Graph{Features: 1, Layers: []kernel.Layer{{Kind: kernel.LSTM, Units: units}, {Kind: kernel.Dense, Units: 1}}}
	weights, err := kernel.NewWeights(g)
	w.check(err)
	x := uint64(units)
	for _, l := range weights.Layers {
		for _, tensor := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for i := range tensor {
				x = x*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator: bytes that no codec packs
				tensor[i] = float32(int32(x>>32)) / (1 << 33)
			}
		}
	}
	q, err := kernel.Quantize(weights)
	w.check(err)
	m, err := predictor.FromQuant(q, artifact.Schema{
		Features: []artifact.Column{{Name: "flow"}}, Targets: []artifact.Column{{Name: "wear"}},
		Window: 2, State: artifact.StateWindow, Horizon: 1,
	}, artifact.TaskForecast, kernel.Scaler{
		Mean: []float32{0}, Std: []float32{1}, Inv: []float32{1}, OutMean: []float32{0}, OutStd: []float32{1},
	})
	w.check(err)
	return m
}

// version makes a version of m that nothing is wrong with.
func (w *badWorld) version(name string, number uint64, m *artifact.Model) badVersion {
	w.t.Helper()
	tr, err := artifact.Pack(m)
	w.check(err)
	return badVersion{
		release: artifact.Release{
			Format: artifact.Format, Name: name, Version: number, Digest: tr.Digest, Fleet: badFleet, ABI: kernel.ABI,
			MaxTransfer: tr.Size, MaxDecoded: tr.Decoded, Issued: time.Now().UnixMilli(),
		},
		transfer: *tr,
		signer:   w.keys[artifact.RoleRelease],
	}
}

// pack makes the file of v.
func (w *badWorld) pack(v badVersion) []byte {
	w.t.Helper()
	var b bytes.Buffer
	w.check(artifact.WriteFile(&b, w.sign(artifact.TypeRelease, w.encode(v.release), v.signer), &v.transfer))
	return b.Bytes()
}

func (w *badWorld) encode(m interface{ AppendBinary([]byte) ([]byte, error) }) []byte {
	w.t.Helper()
	b, err := m.AppendBinary(nil)
	w.check(err)
	return b
}

// sign makes a signed document; without a key it has no signature.
func (w *badWorld) sign(typ string, payload []byte, key ed25519.PrivateKey) []byte {
	w.t.Helper()
	var keys []ed25519.PrivateKey
	if key != nil {
		keys = append(keys, key)
	}
	b, err := artifact.Sign(typ, payload, keys...).AppendBinary(nil)
	w.check(err)
	return b
}

func (w *badWorld) path(name string) string { return filepath.Join(w.work, name) }

// write writes a file and returns its path.
func (w *badWorld) write(name string, b []byte) string {
	w.t.Helper()
	w.check(os.WriteFile(w.path(name), b, 0o600))
	return w.path(name)
}

// command runs one command line on the control plane's folder, unless it names
// another.
func (w *badWorld) command(args ...string) (a answer, stdout string) {
	if !slices.Contains(args, "--dir") && !slices.Contains(args, "--server") {
		args = append(args, "--dir", w.dir)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), badPatience)
	defer cancel()
	var out, errs bytes.Buffer
	code := run(ctx, args, strings.NewReader(""), &out, &errs)
	return answer{fmt.Sprint("exit ", code), errs.String()}, out.String()
}

// cli is command for rows that look at what went wrong only.
func (w *badWorld) cli(args ...string) answer {
	a, _ := w.command(args...)
	return a
}

// must runs a command that has nothing wrong and returns what it printed.
func (w *badWorld) must(args ...string) string {
	w.t.Helper()
	a, out := w.command(args...)
	if a.code != "exit 0" {
		w.t.Fatalf("sandpiper %s: %s\n%s", strings.Join(args, " "), a.code, a.text)
	}
	return out
}

// importFile imports a file that has nothing wrong.
func (w *badWorld) importFile(ref string, file []byte) {
	w.t.Helper()
	w.must("model", "import", w.write("good.model", file))
	w.must("model", "verify", ref)
}

// post sends a request to the agent's socket.
func (w *badWorld) post(path string, body []byte) (status int, reply []byte) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), badPatience)
	defer cancel()
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", w.socket)
		},
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, bytes.NewReader(body))
	w.check(err)
	res, err := c.Do(r)
	w.check(err)
	defer res.Body.Close()
	reply, err = io.ReadAll(res.Body)
	w.check(err)
	return res.StatusCode, reply
}

// install gives a file to the running agent, as `sandpiper-agent install` does.
func (w *badWorld) install(file []byte) answer {
	w.t.Helper()
	status, b := w.post("/install", file)
	if status == http.StatusOK {
		return answer{"installed", string(b)}
	}
	var e struct {
		Error   string
		Refused bool
	}
	w.check(json.Unmarshal(b, &e))
	return answer{fmt.Sprintf("%d refused %t", status, e.Refused), e.Error}
}

// local asks the agent for a prediction through its socket.
func (w *badWorld) local(model string, request []byte) answer {
	w.t.Helper()
	_, b := w.post("/predict/"+url.PathEscape(model), request)
	return w.reply(request, b)
}

// connect connects the user to the broker.
func (w *badWorld) connect() {
	w.t.Helper()
	var err error
	w.user, err = w.tryConnect(4, "u."+badUser, w.token)
	w.check(err)
}

// tryConnect connects an MQTT client, of version 4 (3.1.1) or 5, that waits for
// the replies to its user.
func (w *badWorld) tryConnect(version byte, id, token string) (*brokertest.Client, error) {
	conn, err := net.Dial("tcp", w.broker)
	if err != nil {
		return nil, err
	}
	w.check(conn.SetDeadline(time.Now().Add(3 * badPatience)))
	c, err := brokertest.Connect(conn, brokertest.Options{Version: version, ID: id, Password: token})
	if err == nil {
		_, err = c.Subscribe(1, protocol.ReplyTopic(badFleet, strings.TrimPrefix(id, "u."), "+", "+"))
	}
	if err == nil {
		_, err = c.Until(brokertest.SUBACK)
	}
	if err != nil {
		conn.Close()
	}
	return c, err
}

// send publishes a request of the user and returns its correlation id.
func (w *badWorld) send(model string, request []byte) (corr string) {
	w.t.Helper()
	w.asked++
	corr = fmt.Sprint("c", w.asked)
	_, err := w.user.Publish(protocol.PredictTopic(badFleet, badDevice, model, badUser, corr), request, 1, false)
	w.check(err)
	return corr
}

// receive reads the next reply and returns its correlation id.
func (w *badWorld) receive() (corr string, reply []byte) {
	w.t.Helper()
	p, err := w.user.Until(brokertest.PUBLISH)
	w.check(err)
	if p.QoS > 0 {
		w.check(w.user.Ack(p))
	}
	topic, err := protocol.ParseTopic(p.Topic)
	w.check(err)
	return topic.Corr, p.Payload
}

// mqtt asks the device for a prediction over the broker.
func (w *badWorld) mqtt(model string, request []byte) answer {
	w.t.Helper()
	corr := w.send(model, request)
	got, b := w.receive()
	if got != corr {
		w.t.Fatalf("reply to %s, want one to %s", got, corr)
	}
	return w.reply(request, b)
}

// reply reads a reply, which must be encoded as its request was. The code of a
// prediction is its version.
func (w *badWorld) reply(request, b []byte) answer {
	w.t.Helper()
	if protocol.IsJSON(request) != protocol.IsJSON(b) {
		w.t.Errorf("request %.40q has the reply %q in another encoding", request, b)
	}
	m, err := protocol.DecodePredictReply(b)
	if err != nil {
		w.t.Fatalf("reply %q: %v", b, err)
	}
	if m.Error == nil {
		return answer{m.Version, fmt.Sprint(m.Y)}
	}
	a := answer{m.Error.Code, m.Error.Error()}
	if ms := m.Error.RetryMS; ms > 0 {
		a.text += fmt.Sprintf("; retry in %d ms", ms)
	}
	return a
}

// stillAnswers is what every row ends with: the version that was in place
// answers locally and over MQTT, with the same bits.
func (w *badWorld) stillAnswers(t *testing.T) {
	t.Helper()
	const version = badModel + ":v2"
	for way, ask := range map[string]func(string, []byte) answer{"agent.sock": w.local, "MQTT": w.mqtt} {
		if got := ask(badModel, []byte(badRequest)); got != (answer{version, fmt.Sprint(w.want)}) {
			t.Errorf("afterwards the device answers %v over %s, want %v from %s", got, way, w.want, version)
		}
	}
	s := w.device.Status().Models[badModel]
	if s.Version != version || s.Serving != version || s.Previous != badModel+":v1" || s.Floor != 2 || s.Phase != protocol.PhaseIdle {
		t.Errorf("afterwards the device has %+v", s)
	}
}

// until waits for done.
func (w *badWorld) until(what string, done func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), badPatience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("waited %v for %s; the device says\n%s", badPatience, what, w.log.all())
		}
	}
}

// said waits for a line of the device's log, after mark, that has all of parts.
func (w *badWorld) said(mark int, parts ...string) answer {
	w.t.Helper()
	var found string
	w.until(fmt.Sprintf("a line with %q", parts), func() bool {
		for _, line := range strings.Split(w.log.all()[mark:], "\n") {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				found = line
				return true
			}
		}
		return false
	})
	return answer{"logged", found}
}

// rolledOut starts a rollout and waits for the device to refuse it. The code
// and the text are what the operator sees.
func (w *badWorld) rolledOut(ref string) answer {
	w.t.Helper()
	if a := w.cli("rollout", "start", ref, "--to", badDevice); a.code != "exit 0" {
		return a
	}
	return w.failed(ref)
}

// failed waits until the control plane knows that ref failed.
func (w *badWorld) failed(ref string) (a answer) {
	w.t.Helper()
	name, _, _ := strings.Cut(ref, ":")
	w.until(ref+" to be refused by the device", func() bool {
		s, err := w.client.RolloutStatus(w.t.Context(), name)
		w.check(err)
		d := s.Devices[0]
		a = answer{d.Code, d.Message}
		return d.Ref == ref && d.State == rollout.Failed
	})
	return a
}

// A jam holds the device's worker inside a prediction.
type jam struct {
	armed   atomic.Bool
	entered chan struct{}
	leave   chan struct{}
}

// hold is the agent's hook on outputs; it changes none.
func (j *jam) hold(string, protocol.Digest, []float32) {
	if j.armed.CompareAndSwap(true, false) {
		close(j.entered)
		<-j.leave
	}
}

// jammed sends three requests while the worker is busy with the first and the
// queue has room for one: the second waits with the given deadline, the third
// has no room. It returns their answers.
func (w *badWorld) jammed(deadlineMS int) (second, third answer) {
	w.t.Helper()
	w.jam.entered, w.jam.leave = make(chan struct{}), make(chan struct{})
	w.jam.armed.Store(true)
	free := sync.OnceFunc(func() { close(w.jam.leave) })
	defer free()
	a := w.send(badModel, []byte(badRequest))
	select {
	case <-w.jam.entered:
	case <-time.After(badPatience):
		w.t.Fatal("the first request does not reach the worker")
	}
	waiting := fmt.Appendf(nil, `{"x":%s,"dl":%d}`, badRequest, deadlineMS)
	b := w.send(badModel, waiting)
	c := w.send(badModel, []byte(badRequest))
	corr, reply := w.receive()
	if corr != c {
		w.t.Fatalf("the first reply is to %s, want the refusal of %s", corr, c)
	}
	third = w.reply([]byte(badRequest), reply)
	// The second has arrived: the third, behind it, found no room. What runs
	// now is its deadline.
	<-time.After(time.Duration(deadlineMS)*time.Millisecond + time.Millisecond)
	free()
	for range 2 {
		switch corr, reply := w.receive(); corr {
		case b:
			second = w.reply(waiting, reply)
		case a:
			if got := w.reply([]byte(badRequest), reply); got.code != badModel+":v2" {
				w.t.Errorf("the request that was under way got %v", got)
			}
		}
	}
	return second, third
}

// wanted is a want for the device, newer than its last one.
func (w *badWorld) wanted() protocol.Want {
	s := w.device.Status()
	return protocol.Want{
		Format: protocol.Format, Fleet: badFleet, Device: badDevice, Epoch: s.Epoch, Rev: s.Rev + 1, Issued: time.Now().UnixMilli(),
		Models: map[string]protocol.ModelWant{badModel: {Active: protocol.WantedVersion{
			Digest:    w.good.transfer.Digest,
			Transfers: []protocol.TransferRef{{Hash: w.good.transfer.Hash(), Kind: protocol.KindFull, Size: w.good.transfer.Size}},
		}}},
	}
}

// injectWant hands the device a want that the broker never had, and waits for
// what it says about it.
func (w *badWorld) injectWant(envelope []byte) answer {
	w.t.Helper()
	mark := len(w.log.all())
	w.check(w.wire.inject(protocol.WantTopic(badFleet, badDevice), envelope))
	return w.said(mark, "want refused")
}

// stray runs a second agent on the device's configuration, as f changes it,
// until its link says why there is no connection.
func (w *badWorld) stray(f func(*agent.Config)) answer {
	w.t.Helper()
	c := agent.Config{
		Fleet: badFleet, Device: badDevice, Broker: "tcp://" + w.broker, Token: "0123456789abcdef0123456789abcdef",
		Root: w.root, DataDir: w.t.TempDir(),
	}
	f(&c)
	a, err := agent.New(c)
	if err != nil {
		return answer{"not started", err.Error()}
	}
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var s agent.Status
	w.until("the agent to fail to connect", func() bool {
		s = a.Status()
		return s.Connected || s.Link != "" && s.Link != "not started"
	})
	stop()
	w.check(<-done)
	if s.Connected {
		return answer{"connected", ""}
	}
	return answer{"not connected", s.Link}
}

// folder makes the data folder of another control plane in parent.
func (w *badWorld) folder(parent, toml string) string {
	w.t.Helper()
	dir := filepath.Join(parent, "other")
	w.must("init", "-q", "--dir", dir)
	if toml != "" {
		w.check(os.WriteFile(filepath.Join(dir, "sandpiper.toml"), []byte(toml), 0o600))
	}
	return dir
}

// lines keeps what is written to it, which may go on meanwhile.
type lines struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fill writes a file until the disk of dir has no space left.
func (w *badWorld) fill(dir string) {
	w.t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	w.check(err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		w.t.Fatal(err)
	}
}
