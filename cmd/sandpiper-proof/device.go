package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"compress/gzip"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// A device is an agent process of a site.
type device struct {
	site   *site
	id     string
	config string // agent.toml
	data   string // its data folder
	argv   []string
	tier   string // of the kernel; empty: the agent's choice
	env    []string
	cmd    *exec.Cmd
	stop   func() // nil while it does not run
	logged func() string
	client *http.Client // to agent.sock
}

// addDevice registers a device whose agent is run by argv, a binary or an
// emulator and a binary.
func (s *site) addDevice(ctx context.Context, id string, argv ...string) (*device, error) {
	dir := filepath.Join(filepath.Dir(s.dir), id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d := &device{site: s, id: id, config: filepath.Join(dir, "agent.toml"), argv: argv}
	if _, err := s.run(ctx, "fleet", "add", id, "--out", d.config); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(d.config)
	if err != nil {
		return nil, err
	}
	// A short folder: a socket's path has at most 107 bytes.
	if d.data, err = os.MkdirTemp("", "sp-"); err != nil {
		return nil, err
	}
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "data_dir") {
			lines[i] = "data_dir = " + strconv.Quote(d.data)
		}
	}
	lines = append(lines, "[limits]", `trial = "1s"`)
	if err := os.WriteFile(d.config, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		return nil, err
	}
	socket := filepath.Join(d.data, "agent.sock")
	d.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	return d, nil
}

// launch starts the agent's process.
func (d *device) launch(ctx context.Context) (err error) {
	argv := append(d.argv[1:len(d.argv):len(d.argv)], "run", "--config", d.config)
	d.cmd = d.site.h.command(ctx, d.argv[0], argv...)
	d.cmd.Env = append(append(d.cmd.Environ(), kernel.TierVariable+"="+d.tier), d.env...)
	d.stop, d.logged, err = start(d.cmd)
	return err
}

// start starts the agent and returns when its socket answers.
func (d *device) start(ctx context.Context) error {
	if err := d.launch(ctx); err != nil {
		return err
	}
	if err := until(ctx, 30*time.Second, func() bool { _, err := d.get("/status"); return err == nil }); err != nil {
		return fmt.Errorf("agent %s: its socket did not answer: %s", d.id, d.logged())
	}
	return nil
}

// kill ends the agent's process at once, as kill -9 does, and waits for it.
func (d *device) kill() {
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

func (d *device) remove() {
	d.kill()
	os.RemoveAll(d.data)
}

func (d *device) get(path string) ([]byte, error) {
	resp, err := d.client.Get("http://agent" + path)
	return body(resp, err)
}

// predict asks the agent over its local socket.
func (d *device) predict(model string, request []byte) (reply, error) {
	resp, err := d.client.Post("http://agent/predict/"+model, "application/json", bytes.NewReader(request))
	b, err := body(resp, err)
	var r reply
	if err == nil || len(b) > 0 {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && r.Error != nil {
		err = fmt.Errorf("%s: %s", r.Error.Code, r.Error.Message)
	}
	return r, err
}

func body(resp *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, err
}

// A reply is a prediction as any client sees it. Y keeps the digits.
type reply struct {
	Version string        `json:"version"`
	Y       []json.Number `json:"y"`
	Error   *struct{ Code, Message string }
}

// active waits until the device answers with version.
func (d *device) active(ctx context.Context, model, version string, request []byte) error {
	var last reply
	var lastErr error
	err := until(ctx, 60*time.Second, func() bool {
		last, lastErr = d.predict(model, request)
		return lastErr == nil && last.Version == version
	})
	if err != nil {
		return fmt.Errorf("agent %s answers with %q (%v), want %s: %w: %s", d.id, last.Version, lastErr, version, err, d.logged())
	}
	return nil
}

// trained is a control plane with a version of turbofan and what its
// evaluation printed.
type trained struct {
	site   *site
	report report
	test   string            // test.csv.gz
	int8   map[string]string // unit → digits
	took   time.Duration     // of the command train
}

type report struct {
	Items   int     `json:"items"`
	Seconds float64 `json:"seconds"`
	Metrics struct {
		Float32 map[string]float64 `json:"float32"`
		Int8    map[string]float64 `json:"int8"`
	} `json:"metrics"`
	Baselines   map[string]map[string]float64 `json:"baselines"`
	Predictions []struct {
		Group   json.RawMessage `json:"group"`
		Float32 json.RawMessage `json:"float32"`
		Int8    json.RawMessage `json:"int8"`
	} `json:"predictions"`
}

const sensors = "s2,s3,s4,s7,s8,s9,s11,s12,s13,s14,s15,s17,s20,s21"

// trainTurbofan trains the FD001 model with the documented command, once a run
// and seed.
func (h *house) trainTurbofan(ctx context.Context, seed int) (*trained, error) {
	if t := h.turbofan[seed]; t != nil {
		return t, nil
	}
	train, err := dataFile("cmapss-fd001/train.csv.gz")
	if err != nil {
		return nil, err
	}
	test, err := dataFile("cmapss-fd001/test.csv.gz")
	if err != nil {
		return nil, err
	}
	truth, err := dataFile("cmapss-fd001/test_rul.csv")
	if err != nil {
		return nil, err
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return nil, err
	}
	h.logf("training turbofan with seed %d, this takes minutes", seed)
	begin := time.Now()
	if _, err := s.run(ctx, "train", "turbofan", "--data", train, "--task", "rul", "--group", "unit", "--time", "cycle",
		"--rul-cap", "125", "--features", sensors, "--window", "30", "--units", "128", "--epochs", "20", "--seed", strconv.Itoa(seed), "-o", "json"); err != nil {
		return nil, err
	}
	t := &trained{site: s, test: test, int8: map[string]string{}, took: time.Since(begin)}
	if err := s.runJSON(ctx, &t.report, "eval", "turbofan", "--data", test, "--truth", truth, "--predictions"); err != nil {
		return nil, err
	}
	for _, p := range t.report.Predictions {
		t.int8[strings.Trim(string(p.Group), `"`)] = strings.Trim(string(p.Int8), "[]")
	}
	h.turbofan[seed] = t
	return t, nil
}

// lastWindows returns the last 30 rows of each unit of a test file as a
// prediction request, in the digits of the file.
func lastWindows(path string) (map[string][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(z).ReadAll()
	if err != nil {
		return nil, err
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	units := map[string][]string{}
	for _, row := range rows[1:] {
		var values []string
		for _, s := range strings.Split(sensors, ",") {
			values = append(values, row[column[s]])
		}
		unit := row[column["unit"]]
		units[unit] = append(units[unit], "["+strings.Join(values, ",")+"]")
	}
	windows := map[string][]byte{}
	for unit, rows := range units {
		if len(rows) < 30 {
			return nil, fmt.Errorf("unit %s has %d rows, a window has 30", unit, len(rows))
		}
		windows[unit] = []byte("[" + strings.Join(rows[len(rows)-30:], ",") + "]")
	}
	return windows, nil
}

// answering is a device that answers with turbofan:v1.
type answering struct {
	*device
	model   *trained
	windows map[string][]byte // by unit
}

// answerOn starts an agent for goarch that answers with turbofan:v1. The caller
// calls end.
func (h *house) answerOn(ctx context.Context, id, goarch string, emulator ...string) (a answering, end func(), err error) {
	bin, err := h.build(ctx, goarch, "./cmd/sandpiper-agent")
	if err != nil {
		return a, nil, err
	}
	if a.model, err = h.trainTurbofan(ctx, 1); err != nil {
		return a, nil, err
	}
	if a.windows, err = lastWindows(a.model.test); err != nil {
		return a, nil, err
	}
	s := a.model.site
	if err := s.serve(ctx); err != nil {
		return a, nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if a.device, err = s.addDevice(ctx, id, append(emulator, bin)...); err != nil {
		return a, nil, err
	}
	defer func() {
		if err != nil {
			a.remove()
		}
	}()
	if err := a.start(ctx); err != nil {
		return a, nil, err
	}
	if _, err := s.run(ctx, "rollout", "start", "turbofan:v1", "--to", id); err != nil {
		return a, nil, err
	}
	if err := a.active(ctx, "turbofan", "turbofan:v1", a.windows["1"]); err != nil {
		return a, nil, err
	}
	return a, func() { a.remove(); s.close() }, nil
}

// compare asks for every engine and compares the answers with what the control
// plane's evaluation printed, digit by digit.
func (a answering) compare(ask func(unit string, window []byte) (reply, error)) (string, error) {
	equal := 0
	for unit, window := range a.windows {
		r, err := ask(unit, window)
		if err != nil {
			return fmt.Sprintf("%d of %d equal", equal, len(a.windows)), fmt.Errorf("engine %s: %w", unit, err)
		}
		if len(r.Y) != 1 || string(r.Y[0]) != a.model.int8[unit] {
			return fmt.Sprintf("%d of %d equal", equal, len(a.windows)),
				fmt.Errorf("engine %s: the device answers %s, eval printed %s", unit, r.Y, a.model.int8[unit])
		}
		equal++
	}
	if equal != 100 {
		return "", fmt.Errorf("%d engines in the test file, want 100", equal)
	}
	return fmt.Sprintf("%d of 100 equal", equal), nil
}

// emulated returns the emulator's path and its arguments, nothing for none.
func emulated(name string, args ...string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	path, err := tool(name, "qemu-user")
	return append([]string{path}, args...), err
}

// answersOn compares what an agent on goarch answers over MQTT.
func answersOn(goarch, emulator string) check {
	return func(ctx context.Context, h *house) (string, error) {
		rr, err := tool("mosquitto_rr", "mosquitto-clients")
		if err != nil {
			return "", err
		}
		argv, err := emulated(emulator)
		if err != nil {
			return "", err
		}
		a, end, err := h.answerOn(ctx, "engine-"+goarch, goarch, argv...)
		if err != nil {
			return "", err
		}
		defer end()
		s, id := a.site, a.id
		user := "asker-" + goarch
		var u struct{ Token string }
		if err := s.runJSON(ctx, &u, "user", "add", user); err != nil {
			return "", err
		}
		host, port, err := brokerAddress(a.config)
		if err != nil {
			return "", err
		}
		return a.compare(func(unit string, window []byte) (r reply, err error) {
			out, err := output(h.command(ctx, rr, "-h", host, "-p", port, "-u", "u."+user, "-P", u.Token, "-i", "u."+user, "-W", "20",
				"-t", fmt.Sprintf("sp1/default/d/%s/p/turbofan/%s/%s", id, user, unit),
				"-e", fmt.Sprintf("sp1/default/r/%s/%s/%s", user, id, unit),
				"-m", string(window))) // with -f, mosquitto 2.0.11 sends nothing
			if err != nil {
				return r, err
			}
			return r, json.Unmarshal(out, &r)
		})
	}
}

// answersOnEveryTier compares the answers of agents with each tier forced: those
// of this CPU, and those of arm64.
func answersOnEveryTier(ctx context.Context, h *house) (string, error) {
	arm, err := emulated("qemu-aarch64", "-cpu", "max")
	if err != nil {
		return "", err
	}
	done, err := h.answersOnTiers(ctx, "amd64", nil, kernel.Tiers())
	if err != nil {
		return "", err
	}
	more, err := h.answersOnTiers(ctx, "arm64", arm, []string{"dotprod", "neon", "generic"})
	if err != nil {
		return "", err
	}
	return "100 of 100 equal on each of " + strings.Join(append(done, more...), ", "), nil
}

// answersOnTiers starts an agent again for each tier and asks it over its socket.
func (h *house) answersOnTiers(ctx context.Context, goarch string, emulator, tiers []string) (done []string, err error) {
	a, end, err := h.answerOn(ctx, "tiers-"+goarch, goarch, emulator...)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := a.settled(ctx, "turbofan"); err != nil { // a kill on trial counts as a crash
		return nil, fmt.Errorf("agent %s is not done with its trial: %w", a.id, err)
	}
	for _, a.tier = range tiers {
		a.kill()
		if err := a.start(ctx); err != nil {
			return nil, err
		}
		if err := a.active(ctx, "turbofan", "turbofan:v1", a.windows["1"]); err != nil {
			return nil, err
		}
		if _, err := a.compare(func(_ string, window []byte) (reply, error) { return a.predict("turbofan", window) }); err != nil {
			return nil, fmt.Errorf("tier %s on %s: %w", a.tier, goarch, err)
		}
		done = append(done, goarch+" "+a.tier)
	}
	return done, nil
}

// brokerAddress reads where an agent's configuration says the broker is.
func brokerAddress(config string) (host, port string, err error) {
	b, err := os.ReadFile(config)
	if err != nil {
		return "", "", err
	}
	_, rest, ok := strings.Cut(string(b), `broker = "tcp://`)
	address, _, ok2 := strings.Cut(rest, `"`)
	if !ok || !ok2 {
		return "", "", fmt.Errorf("%s names no tcp:// broker", config)
	}
	return net.SplitHostPort(address)
}
