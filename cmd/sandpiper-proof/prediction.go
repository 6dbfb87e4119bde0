package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/controlplane/broker/brokerproof"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/client"
)

// Steps and features of the window that predictions are measured with.
const steps, features = 50, 8

// A testbed is a device that runs LSTM(128) on 50×8 windows, behind the embedded
// broker of a server, and a client that asks it.
type testbed struct {
	*site
	device *device
	client *client.Client
	echo   func() // stops the echo
	rows   [][]float32
}

// newTestbed trains versions of the model and starts a device with the first.
func (h *house) newTestbed(ctx context.Context, versions int) (b *testbed, err error) {
	agent, err := h.build(ctx, nativeArch(), "./cmd/sandpiper-agent")
	if err != nil {
		return nil, err
	}
	echo, err := h.build(ctx, nativeArch(), "./cmd/sandpiper-proof/echo")
	if err != nil {
		return nil, err
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return nil, err
	}
	b = &testbed{site: s}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	data := filepath.Join(filepath.Dir(s.dir), "waves.csv")
	if err := b.waves(data); err != nil {
		return nil, err
	}
	for seed := range versions {
		if _, err := s.run(ctx, "train", "waves", "--data", data, "--task", "forecast", "--time", "t", "--target", "f0",
			"--window", strconv.Itoa(steps), "--units", "128", "--epochs", "1", "--seed", strconv.Itoa(seed+1)); err != nil {
			return nil, err
		}
	}
	if err := s.serve(ctx); err != nil {
		return nil, err
	}
	if b.device, err = s.addDevice(ctx, "cellar", agent); err != nil {
		return nil, err
	}
	if err := b.device.start(ctx); err != nil {
		return nil, err
	}
	if b.client, err = s.newClient(ctx, "ann"); err != nil {
		return nil, err
	}
	if _, err := s.run(ctx, "rollout", "start", "waves:v1", "--to", "cellar"); err != nil {
		return nil, err
	}
	err = until(ctx, 30*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := b.client.Predict(ctx, "cellar", "waves", b.rows)
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("no answer through the broker: %w: %s", err, b.device.logged())
	}
	d, err := s.addDevice(ctx, "echo", echo)
	if err != nil {
		return nil, err
	}
	if b.echo, _, err = start(h.command(ctx, echo, d.config)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, time.Second)
		_, err = b.client.Ask(once, "echo", "waves", []byte("[]"))
		cancel()
		if err == nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("the echo does not answer: %w", err)
}

// newClient adds a user and returns a client for it.
func (s *site) newClient(ctx context.Context, user string) (*client.Client, error) {
	var r struct{ Token string }
	if err := s.runJSON(ctx, &r, "user", "add", user); err != nil {
		return nil, err
	}
	c, err := config.LoadServer(filepath.Join(s.dir, "sandpiper.toml"))
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Broker: "tcp://" + c.Broker.Listen, Fleet: c.Fleet, User: user, Token: r.Token})
}

// waves writes a table of eight noisy sines, and keeps its last window.
func (b *testbed) waves(path string) error {
	rng := rand.New(rand.NewPCG(1, 1))
	var out strings.Builder
	out.WriteString("t")
	for f := range features {
		fmt.Fprintf(&out, ",f%d", f)
	}
	out.WriteByte('\n')
	for t := range 600 {
		row := make([]float32, features)
		fmt.Fprint(&out, t)
		for f := range row {
			v := 100 + 10*float64(f) + 3*rng.NormFloat64() + float64(t%(20+3*f))
			row[f] = float32(v)
			fmt.Fprintf(&out, ",%.4f", v)
		}
		out.WriteByte('\n')
		b.rows = append(b.rows, row)
	}
	b.rows = b.rows[len(b.rows)-steps:]
	return os.WriteFile(path, []byte(out.String()), 0o600)
}

func (b *testbed) close() {
	if b.client != nil {
		b.client.Close()
	}
	if b.echo != nil {
		b.echo()
	}
	if b.device != nil {
		b.device.remove()
	}
	b.site.close()
}

// request is the window, in JSON or CBOR.
func (b *testbed) request(json bool) ([]byte, error) {
	r := protocol.PredictRequest{Steps: steps, Features: features, Rows: slices.Concat(b.rows...)}
	if json {
		return r.AppendJSON(nil)
	}
	return r.AppendCBOR(nil)
}

// predictionOverEcho asks the device and an echo of the same bytes in turns,
// and compares the medians.
func predictionOverEcho(json bool, bar float64) check {
	return func(ctx context.Context, h *house) (string, error) {
		b, err := h.newTestbed(ctx, 1)
		if err != nil {
			return "", err
		}
		defer b.close()
		request, err := b.request(json)
		if err != nil {
			return "", err
		}
		const rounds, pairs = 7, 500
		var ratios, echoes, predictions []float64
		for range rounds {
			var echo, prediction []float64
			for range pairs {
				for _, one := range []struct {
					device string
					times  *[]float64
				}{{"echo", &echo}, {"cellar", &prediction}} {
					began := time.Now()
					reply, err := b.client.Ask(ctx, one.device, "waves", request)
					*one.times = append(*one.times, float64(time.Since(began).Nanoseconds())/1e3)
					if err != nil {
						return "", err
					}
					if one.device == "cellar" && !strings.Contains(string(reply), "waves:v1") {
						return "", fmt.Errorf("the device answers %q", reply)
					}
				}
			}
			e, p := median(echo), median(prediction)
			ratios, echoes, predictions = append(ratios, p/e), append(echoes, e), append(predictions, p)
		}
		r := median(ratios)
		return fmt.Sprintf("%.2f: %.0f µs beside %.0f µs for an echo of %d bytes", r, median(predictions), median(echoes), len(request)), atMost(r, bar)
	}
}

// swapLoad asks 1,000 times a second, in turns in peace and while the version
// changes every second.
func swapLoad(ctx context.Context, h *house) (string, error) {
	const rate, turns, quietSeconds, loudSeconds = 1000, 6, 5, 10
	b, err := h.newTestbed(ctx, 2)
	if err != nil {
		return "", err
	}
	defer b.close()
	var files [2]string
	answers := map[string][]float32{}
	for i := range files {
		files[i] = filepath.Join(filepath.Dir(b.dir), fmt.Sprintf("v%d.spm", i+1))
		if _, err := b.run(ctx, "model", "export", fmt.Sprintf("waves:v%d", i+1), files[i]); err != nil {
			return "", err
		}
	}
	for _, i := range []int{1, 0} { // what each answers, in peace
		if err := b.device.install(ctx, files[i]); err != nil {
			return "", err
		}
		r, err := b.client.Predict(ctx, "cellar", "waves", b.rows)
		if err != nil {
			return "", err
		}
		answers[r.Version] = r.Y
	}
	if len(answers) != 2 || slices.Equal(answers["waves:v1"], answers["waves:v2"]) {
		return "", fmt.Errorf("two versions answer %v", answers)
	}

	// In turns, so that what else the machine does meets both.
	var rss, quietP99, loudP99 []float64
	var all loaded
	swaps := 0
	swap := func() error {
		swaps++
		kb, err := residentKB(b.device.cmd.Process.Pid)
		if err != nil {
			return err
		}
		rss = append(rss, kb)
		return b.device.install(ctx, files[swaps%2])
	}
	for range turns {
		quiet, err := b.load(ctx, rate, quietSeconds, answers, nil)
		if err != nil {
			return "", err
		}
		loud, err := b.load(ctx, rate, loudSeconds, answers, swap)
		if err != nil {
			return "", err
		}
		if loud.versions != 2 {
			return "", fmt.Errorf("%d versions answered in %d s of swaps", loud.versions, loudSeconds)
		}
		quietP99, loudP99 = append(quietP99, quiet.p99), append(loudP99, loud.p99)
		for _, l := range []loaded{quiet, loud} {
			all.sent, all.lost, all.mixed = all.sent+l.sent, all.lost+l.lost, all.mixed+l.mixed
			all.example += l.example
		}
	}
	third := len(rss) / 3
	early, late := median(rss[:third]), median(rss[len(rss)-third:])
	peace, war := median(quietP99), median(loudP99)
	figure := fmt.Sprintf("%d requests, %d swaps: %d lost, %d mixed, p99 %.2f ms beside %.2f in peace, RSS %.1f to %.1f MB",
		all.sent, swaps, all.lost, all.mixed, war, peace, early/1e3, late/1e3)
	switch {
	case all.lost+all.mixed > 0:
		return figure, fmt.Errorf("lost or mixed answers: %.200s", all.example)
	case late > 1.1*early:
		return figure, fmt.Errorf("memory grows")
	}
	return figure, atMost(war/peace, 1.5)
}

// A loaded is what came of a load.
type loaded struct {
	sent, lost, mixed, versions int
	p99                         float64 // ms
	example                     string  // of what was lost or mixed
}

// load asks rate times a second for so many seconds, whatever the answers take,
// and calls swap once a second.
func (b *testbed) load(ctx context.Context, rate, seconds int, answers map[string][]float32, swap func() error) (loaded, error) {
	var mu sync.Mutex
	var times []float64
	var out loaded
	versions := map[string]bool{}
	one := func() {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		began := time.Now()
		r, err := b.client.Predict(ctx, "cellar", "waves", b.rows)
		ms := float64(time.Since(began).Nanoseconds()) / 1e6
		mu.Lock()
		defer mu.Unlock()
		times = append(times, ms)
		switch {
		case err != nil:
			out.lost++
			out.example = err.Error()
		case !slices.Equal(r.Y, answers[r.Version]):
			out.mixed++
			out.example = fmt.Sprintf("%s answers %v", r.Version, r.Y)
			fallthrough
		default:
			versions[r.Version] = true
		}
	}
	failed := make(chan error, 1)
	var g sync.WaitGroup
	began := time.Now()
	for out.sent = 0; out.sent < rate*seconds && ctx.Err() == nil; out.sent++ {
		time.Sleep(time.Until(began.Add(time.Duration(out.sent) * time.Second / time.Duration(rate))))
		g.Go(one)
		if swap != nil && out.sent%rate == rate/2 {
			g.Go(func() {
				if err := swap(); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
	g.Wait()
	slices.Sort(times)
	out.p99, out.versions = times[len(times)*99/100], len(versions)
	select {
	case err := <-failed:
		return out, err
	default:
		return out, ctx.Err()
	}
}

// install puts a model file in place through the agent's socket.
func (d *device) install(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/install", f)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("install: %s", body)
	}
	return nil
}

// residentKB returns the resident memory of a process, KB of 1,000 bytes.
func residentKB(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, needs("%v", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib * 1.024, err
		}
	}
	return 0, needs("/proc has no VmRSS")
}

// idleDevice measures a process that is nothing but the broker, with and
// without 2,000 devices that are connected and silent.
func idleDevice(ctx context.Context, h *house) (string, error) {
	bin, err := h.build(ctx, nativeArch(), "./controlplane/broker/brokerproof/alone")
	if err != nil {
		return "", err
	}
	cmd := h.command(ctx, bin)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", err
	}
	addr = strings.TrimSpace(addr)
	const warm, n = 100, 2000
	closeWarm, err := brokerproof.Idle(ctx, addr, 0, warm) // what the first ones cost alone
	if err != nil {
		return "", err
	}
	defer closeWarm()
	before, err := residentKB(cmd.Process.Pid)
	if err != nil {
		return "", err
	}
	closeAll, err := brokerproof.Idle(ctx, addr, warm, warm+n)
	if err != nil {
		return "", err
	}
	defer closeAll()
	after, err := residentKB(cmd.Process.Pid)
	if err != nil {
		return "", err
	}
	each := (after - before) / n
	return fmt.Sprintf("%.1f KB for each of %d", each, n), atMost(each, 60)
}

// dayOffline runs the test of a day without a link.
func dayOffline(ctx context.Context, h *house) (string, error) {
	out, err := output(h.command(ctx, "go", "test", "-count=1", "-v", "-run", "^TestADayOffline$", "./agent"))
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out[max(0, len(out)-1500):])
	}
	if !strings.Contains(string(out), "--- PASS: TestADayOffline") {
		return "", fmt.Errorf("the test was not run")
	}
	return "24 h and 6 restarts offline: 600 of 600 requests answered, every usage record and event told once", nil
}
