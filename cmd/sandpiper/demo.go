package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/configfile"
	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	firmwaresim "github.com/sandpiper-edge/sandpiper/firmware-sim"
)

const (
	demoPumps   = 25
	demoRows    = 400 // cycles of each pump in the training data
	demoModel   = "pump"
	demoTarget  = "vibration"
	demoWindow  = 24
	demoHorizon = 6
	demoUser    = "demo"
	demoSeed    = 1
	// demoBroken is the device that cannot run the second version.
	demoBroken = "pump-13"
	// demoMarker tells a folder that the demo made from any other.
	demoMarker = "made-by-sandpiper-demo"
)

func newDemoCommand(a *app) *cobra.Command {
	var exit, clean bool
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Tell the whole story with 25 simulated pumps",
		Long: `Start a control plane and 25 simulated pumps in this process, train a model on
what the pumps measure, ship it to all of them, ship a second version to two and
then to all, and watch one pump fail on it and go back by itself. Afterwards it
stays up until Ctrl-C, with commands to paste.

Every figure is of the run at hand. Everything is in one folder.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if clean {
				return removeDemo(dir)
			}
			d := &demo{app: a, out: cmd.OutOrStdout(), dir: dir, began: time.Now()}
			return d.run(cmd.Context(), exit)
		},
	}
	cmd.Flags().BoolVar(&exit, "exit", false, "end after the story instead of waiting for Ctrl-C")
	cmd.Flags().BoolVar(&clean, "clean", false, "remove the folder of an earlier demo and do nothing else")
	// Its own --dir, so that it cannot touch the folder of a real fleet.
	cmd.Flags().StringVar(&dir, "dir", "sandpiper-demo", "folder of the demo")
	return cmd
}

// removeDemo removes dir if a demo made it.
func removeDemo(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, demoMarker)); err != nil {
		return usagef("%s was not made by the demo and is left alone; name another folder with --dir", dir)
	}
	return os.RemoveAll(dir)
}

// A demo tells one story.
type demo struct {
	app    *app
	out    io.Writer
	dir    string
	began  time.Time
	client *api.Client
	sim    *firmwaresim.Sim
	broker string // URL
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%5.1f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// more continues what was said last.
func (d *demo) more(format string, args ...any) {
	fmt.Fprintf(d.out, "         %s\n", fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context, exit bool) error {
	d.say("Sandpiper demo: a control plane and %d simulated pumps, all in %s", demoPumps, d.dir)
	if err := removeDemo(d.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, demoMarker), nil, 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.dir, "demo.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	logger := slog.New(slog.NewTextHandler(log, nil))

	// The background ends with the story; whichever fails first ends the other.
	ctx, end := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	defer func() { end(); _ = g.Wait() }()
	if err := d.startControlPlane(ctx, g, log); err != nil {
		return err
	}
	if err := d.startPumps(ctx, g, logger); err != nil {
		return err
	}
	g.Go(func() error {
		defer end()
		if err := d.story(ctx); err != nil {
			return err
		}
		if !exit {
			d.more("Ctrl-C ends the demo; `sandpiper demo --clean` removes its folder.")
			<-ctx.Done()
		}
		return nil
	})
	return g.Wait()
}

// dataDir is the control plane's folder inside the demo's.
func (d *demo) dataDir() string { return filepath.Join(d.dir, "data") }

// startControlPlane makes a control plane and serves it, as init and serve do,
// on free ports.
func (d *demo) startControlPlane(ctx context.Context, g *errgroup.Group, log io.Writer) error {
	served := *d.app
	served.dir, served.server, served.stderr = d.dataDir(), "", log
	if _, err := controlplane.Init(ctx, served.dir, controlplane.DefaultFleet); err != nil {
		return err
	}
	cfg := config.DefaultServer()
	cfg.Broker.Listen, cfg.HTTP.Listen = "127.0.0.1:0", "127.0.0.1:0"
	if err := configfile.WriteServer(served.configFile(), cfg); err != nil {
		return err
	}
	g.Go(func() error { return served.serve(ctx, cfg) })
	d.client = api.NewSocketClient(served.dir)
	err := await(ctx, 10*time.Second, "the control plane to start", func() (bool, error) {
		s, err := d.client.Server(ctx)
		d.broker = s.Broker
		return err == nil && s.Connected, nil
	})
	if err == nil {
		d.say("control plane is up: MQTT broker at %s, SQLite and blobs, HTTP API", d.broker)
	}
	return err
}

// startPumps adds the pumps to the fleet and lets them connect. One of them
// will break on v2.
func (d *demo) startPumps(ctx context.Context, g *errgroup.Group, log *slog.Logger) error {
	cfg := firmwaresim.Config{
		Seed: demoSeed, DataDir: filepath.Join(d.dir, "pumps"), Log: log.With("side", "pump"),
		Trial: time.Second,
	}
	for i := range demoPumps {
		site := []string{"north", "south"}[i%2]
		added, err := d.client.AddDevice(ctx, api.NewDevice{ID: pumpID(i), Labels: map[string]string{"site": site}})
		if err != nil {
			return err
		}
		device := firmwaresim.DeviceConfig{ID: added.Device.ID, Token: added.Token, Restart: 100 * time.Millisecond}
		if device.ID == demoBroken {
			device.Faults.CrashOn = []string{demoModel + ":v2"}
		}
		cfg.Fleet, cfg.Root = added.Fleet, added.Root
		cfg.Devices = append(cfg.Devices, device)
	}
	u, err := url.Parse(d.broker)
	if err != nil {
		return err
	}
	cfg.Dial = firmwaresim.DialTCP(u.Host)
	if d.sim, err = firmwaresim.New(cfg); err != nil {
		return err
	}
	g.Go(func() error { return d.sim.Run(ctx) })
	err = await(ctx, 20*time.Second, "the pumps to connect", func() (bool, error) {
		devices, err := d.client.Devices(ctx, "")
		return !slices.ContainsFunc(devices, func(d fleet.Device) bool { return !d.Online }), err
	})
	if err == nil {
		d.say("%d pumps are connected, each with its own identity, cache and signed root of trust", demoPumps)
	}
	return err
}

func pumpID(i int) string { return fmt.Sprintf("pump-%02d", i+1) }

// story is what the demo is about.
func (d *demo) story(ctx context.Context) error {
	data := filepath.Join(d.dir, "pumps.csv")
	if err := d.writeData(data); err != nil {
		return err
	}
	d.say("training v1: LSTM(32) on %d cycles of each pump, %s %d cycles ahead", demoRows, demoTarget, demoHorizon)
	if err := d.train(ctx, data, 3); err != nil {
		return err
	}
	if err := d.rollOut(ctx, 1, "all", demoPumps, 0); err != nil {
		return err
	}
	if err := d.ask(ctx, pumpID(0)); err != nil {
		return err
	}
	d.say("training v2: the same for longer")
	if err := d.train(ctx, data, 10); err != nil {
		return err
	}
	if err := d.rollOut(ctx, 2, pumpID(0)+","+pumpID(1), 2, 0); err != nil {
		return err
	}
	d.say("both run v2; now all. %s is made to crash whenever it runs v2", demoBroken)
	if err := d.rollOut(ctx, 2, "all", demoPumps-1, 1); err != nil {
		return err
	}
	if err := d.ask(ctx, demoBroken); err != nil {
		return err
	}
	return d.invite(ctx)
}

func (d *demo) writeData(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(d.sim.WriteCSV(f, demoRows), f.Close())
}

// train trains the next version and shows its figures beside the baselines.
func (d *demo) train(ctx context.Context, data string, epochs int) error {
	raw, err := d.client.Train(ctx, api.TrainOptions{
		Model: demoModel, Task: train.Forecast, Group: "unit", Time: "cycle", Targets: []string{demoTarget},
		Features: firmwaresim.Features, Window: demoWindow, Horizon: demoHorizon, Anchor: "last",
		Units: []int{32}, Epochs: epochs, Seed: demoSeed,
	}, []api.File{d.app.upload(data)}, func(p api.Progress) {
		if p.Epoch > 0 && p.ValLoss != nil {
			d.more("epoch %2d of %d: loss %.4f, validation %.4f", p.Epoch, p.Epochs, p.Loss, *p.ValLoss)
		}
	})
	if err != nil {
		return err
	}
	r, err := train.ParseReport(raw)
	if err != nil {
		return err
	}
	v, err := d.client.Version(ctx, r.Version)
	if err != nil {
		return err
	}
	d.say("%s on %d windows nobody trained on, error in mm/s:", v.Ref, r.Items)
	d.more("%-14s %8s %8s", "", "RMSE", "MAE")
	rows := []struct {
		name string
		m    train.Metrics
	}{{"LSTM float32", r.Metrics.Float32}, {"LSTM int8", r.Metrics.Int8}}
	for _, name := range slices.Sorted(maps.Keys(r.Baselines)) {
		rows = append(rows, struct {
			name string
			m    train.Metrics
		}{name, r.Baselines[name]})
	}
	for _, row := range rows {
		d.more("%-14s %8.4f %8.4f", row.name, row.m["rmse"], row.m["mae"])
	}
	d.more("int8, packed and signed: %d bytes, digest %s", v.Bytes, v.Digest.Short())
	return nil
}

// rollOut ships version n and waits until every device is done with it: active
// of them run it and failed of them have gone back.
func (d *demo) rollOut(ctx context.Context, n int, to string, active, failed int) error {
	ref := fmt.Sprintf("%s:v%d", demoModel, n)
	began := time.Now()
	if _, err := d.client.StartRollout(ctx, api.NewRollout{Ref: ref, To: to}); err != nil {
		return err
	}
	var status rollout.Status
	err := await(ctx, 30*time.Second, ref+" to arrive", func() (_ bool, err error) {
		status, err = d.client.RolloutStatus(ctx, demoModel)
		on := 0
		for _, s := range status.Devices {
			if s.Ref == ref && s.State == rollout.Active {
				on++
			}
		}
		return on == active && status.Counts[rollout.Failed] == failed, err
	})
	if err != nil {
		return err
	}
	d.say("%s verified and active on %d devices %.1f s after the command", ref, active, time.Since(began).Seconds())
	for _, s := range status.Devices {
		if s.State == rollout.Failed {
			d.say("%s went back to v%d by itself: %s", s.Device, n-1, cmp.Or(s.Message, s.Code))
		}
	}
	return nil
}

// ask asks a device for a prediction over MQTT.
func (d *demo) ask(ctx context.Context, device string) error {
	request, err := d.request(device)
	if err != nil {
		return err
	}
	raw, err := d.client.Predict(ctx, device, demoModel, request)
	if err != nil {
		return err
	}
	var reply struct {
		Version string    `json:"version"`
		Y       []float32 `json:"y"`
		US      int       `json:"us"`
	}
	if err := json.Unmarshal(raw, &reply); err != nil {
		return err
	}
	d.say("asked %s: %s says %s next is %v mm/s, computed there in %d µs", device, reply.Version, demoTarget, reply.Y, reply.US)
	return nil
}

// request is the last window of a device's pump as a prediction request.
func (d *demo) request(device string) ([]byte, error) {
	i := slices.IndexFunc(d.sim.Devices(), func(s *firmwaresim.Device) bool { return s.ID() == device })
	var rows [][]float64
	for _, r := range d.sim.Window(i, demoRows, demoWindow) {
		v := r.Values()
		rows = append(rows, v[:])
	}
	return json.Marshal(map[string]any{"x": rows})
}

// invite prints what to paste.
func (d *demo) invite(ctx context.Context) error {
	window := filepath.Join(d.dir, "window.json")
	request, err := d.request(pumpID(0))
	if err != nil {
		return err
	}
	if err := os.WriteFile(window, append(request, '\n'), 0o600); err != nil {
		return err
	}
	user, err := d.client.AddUser(ctx, api.NewUser{ID: demoUser})
	if err != nil {
		return err
	}
	u, err := url.Parse(d.broker)
	if err != nil {
		return err
	}
	self := "sandpiper"
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		self = "go run ./cmd/sandpiper" // what the README says to start the demo with
	}
	d.say("the story is told. Ask a pump yourself, from another terminal:")
	fmt.Fprintf(d.out, "\n  %s predict %s %s --window %s --dir %s\n", self, pumpID(0), demoModel, window, d.dataDir())
	fmt.Fprintf(d.out, "  %s rollout status %s --dir %s      # sandpiper rollout rollback takes all back\n", self, demoModel, d.dataDir())
	fmt.Fprintf(d.out, "  mosquitto_rr -h %s -p %s -u %s -P %s -i %s -t sp1/%s/d/%s/p/%s/%s/1 -e sp1/%s/r/%s/%s/1 -m \"$(cat %s)\"\n\n",
		u.Hostname(), u.Port(), user.Username, user.Token, user.Username,
		user.Fleet, pumpID(0), demoModel, demoUser, user.Fleet, demoUser, pumpID(0), window)
	return nil
}

// await polls done until it says so, up to limit.
func await(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %s for %s; the log may know more", limit, what))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
