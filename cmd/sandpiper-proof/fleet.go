package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	firmwaresim "github.com/sandpiper-edge/sandpiper/firmware-sim"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

const (
	// fleetSize is how many light devices the claims about fleets are of.
	fleetSize = 10_000
	// fleetTrial is how long they keep a version on trial.
	fleetTrial = time.Second
)

// A lightFleet is light devices in this process, on a site whose control plane is
// a process of its own.
type lightFleet struct {
	*site
	client *api.Client
	tokens map[string]string // by device
	id     string            // of the fleet
	root   []byte
	broker string // host:port
	sim    *firmwaresim.Lights
	end    func() // ends the simulation, if there is one

	took    time.Duration // from the start of boiler:v1 until 99 % had it
	payload int64         // bytes of its transfer
	wire    float64       // bytes that a device received and sent meanwhile
}

// lightFleet returns 10,000 devices, on all of which boiler:v1 was installed; the
// claims that need them share them.
func (h *house) lightFleet(ctx context.Context) (*lightFleet, error) {
	if h.fleet != nil {
		return h.fleet, nil
	}
	s, err := h.newSite(ctx)
	if err != nil {
		return nil, err
	}
	f := &lightFleet{site: s, client: api.NewSocketClient(s.dir), tokens: map[string]string{}, end: func() {}}
	if err := f.begin(ctx); err != nil {
		f.close()
		return nil, err
	}
	h.fleet = f
	return f, nil
}

// begin trains three versions, serves the control plane, and installs the first on
// devices that are new.
func (f *lightFleet) begin(ctx context.Context) error {
	for seed := range 3 {
		if _, err := f.boiler(ctx, 128, seed+1); err != nil {
			return err
		}
	}
	if err := f.serve(context.WithoutCancel(ctx)); err != nil { // it outlives this claim
		return err
	}
	everyone := scenario.Scenario{Devices: fleetSize}
	if err := f.enrol(ctx, everyone.WithDefaults().Fleet()); err != nil {
		return err
	}
	if err := f.run(ctx, everyone, "boiler:v2"); err != nil {
		return err
	}
	return f.install(ctx)
}

// close ends the simulation and the control plane.
func (f *lightFleet) close() {
	f.end()
	f.site.close()
}

// enrol adds the devices to the fleet.
func (f *lightFleet) enrol(ctx context.Context, devices []*scenario.Device) error {
	began := time.Now()
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, d := range devices {
		g.Go(func() error {
			added, err := f.client.AddDevice(gctx, api.NewDevice{ID: d.ID, Labels: map[string]string{"site": "site-" + d.ID[len(d.ID)-1:]}})
			if err != nil {
				return err
			}
			u, err := url.Parse(added.Broker)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			f.tokens[d.ID], f.id, f.root, f.broker = added.Token, added.Fleet, added.Root, u.Host
			return nil
		})
	}
	err := g.Wait()
	f.h.logf("%d devices added after %s", len(devices), since(began))
	return err
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }

// run lets the devices of a scenario run in the place of those before, with nothing
// installed, and returns when all that are not away are connected.
func (f *lightFleet) run(ctx context.Context, sc scenario.Scenario, candidate string) error {
	f.end()
	sim, err := firmwaresim.NewLights(firmwaresim.LightsConfig{
		Fleet: f.id, Root: f.root, Dial: firmwaresim.DialTCP(f.broker), Scenario: sc, Candidate: candidate,
		Token: func(id string) string { return f.tokens[id] }, Trial: fleetTrial,
	})
	if err != nil {
		return err
	}
	began := time.Now()
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { _ = sim.Run(running); close(done) }()
	f.sim, f.end = sim, func() { cancel(); <-done }
	present := 0
	for _, d := range sc.WithDefaults().Fleet() {
		if !d.Away {
			present++
		}
	}
	err = f.until(ctx, 2*time.Minute, present, func(d firmwaresim.LightStatus) bool { return d.Connected })
	f.h.logf("%d devices connected after %s", present, since(began))
	return err
}

func (f *lightFleet) count(is func(firmwaresim.LightStatus) bool) int {
	n := 0
	for _, d := range f.sim.Devices() {
		if is(d) {
			n++
		}
	}
	return n
}

// until waits until so many devices are what is asks for.
func (f *lightFleet) until(ctx context.Context, limit time.Duration, devices int, is func(firmwaresim.LightStatus) bool) error {
	n := 0
	err := until(ctx, limit, func() bool { n = f.count(is); return n >= devices })
	if err != nil {
		return fmt.Errorf("%d of %d devices: %w", n, devices, err)
	}
	return nil
}

// install ships boiler:v1 to all devices at once.
func (f *lightFleet) install(ctx context.Context) error {
	received, sent := f.sim.Traffic()
	began := time.Now()
	if _, err := f.client.StartRollout(ctx, api.NewRollout{Ref: "boiler:v1", To: "all", Plan: plan.Plan{Name: "direct"}}); err != nil {
		return err
	}
	var s rollout.Status
	var failed error
	err := until(ctx, 5*time.Minute, func() bool {
		s, failed = f.client.RolloutCounts(ctx, "boiler")
		return failed != nil || s.Counts[rollout.Active] >= fleetSize*99/100
	})
	if err := errors.Join(failed, err); err != nil {
		return fmt.Errorf("%v: %w", s.Counts, err)
	}
	f.took = time.Since(began)
	if err := f.atRest(ctx, fleetSize); err != nil {
		return err
	}
	r, w := f.sim.Traffic()
	f.wire = float64(r-received+w-sent) / fleetSize
	d, err := f.client.RolloutStatus(ctx, "boiler")
	if err != nil {
		return err
	}
	f.payload = d.Devices[0].Bytes
	return nil
}

// fleetPush is how long an installation on 10,000 devices took, and what it cost.
func fleetPush(ctx context.Context, h *house) (string, error) {
	f, err := h.lightFleet(ctx)
	if err != nil {
		return "", err
	}
	figure := fmt.Sprintf("99 %% of %d active and past their trial of %s after %.1f s; %.0f bytes a device received and sent, its payload %d",
		fleetSize, fleetTrial, f.took.Seconds(), f.wire, f.payload)
	if most := 1.15*float64(f.payload) + 1000; f.wire > most {
		return figure, fmt.Errorf("more than %.0f bytes", most)
	}
	return figure, atMost(f.took.Seconds(), 60)
}

// A load is what a process used so far.
type load struct {
	at  time.Time
	cpu time.Duration // user and system
	rss int64         // bytes, at this moment
}

// load reads that of the control plane's process (proc(5)).
func (s *site) load() (l load, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		return l, needs("the resources of another process: %v", err)
	}
	l.at = time.Now()
	_, rest, _ := bytes.Cut(b[bytes.LastIndexByte(b, ')'):], []byte(" "))
	fields := bytes.Fields(rest) // from the third on
	number := func(field int) int64 {
		n, convErr := strconv.ParseInt(string(fields[field-3]), 10, 64)
		err = errors.Join(err, convErr)
		return n
	}
	const ticks = 100 // a second, whatever the kernel
	l.cpu = time.Duration(number(14)+number(15)) * time.Second / ticks
	l.rss = number(24) * int64(os.Getpagesize())
	return l, err
}

// reporting is how long a fleet is watched while it reports, once it is at rest.
const reporting = 2 * time.Minute

// steady watches the control plane while every device reports once a minute.
func (f *lightFleet) steady(ctx context.Context) (rss, cpu float64, err error) {
	if err := pause(ctx, time.Minute); err != nil { // all have reported once
		return 0, 0, err
	}
	first, err := f.load()
	if err != nil {
		return 0, 0, err
	}
	most, last := first.rss, first
	for last.at.Sub(first.at) < reporting {
		if err := pause(ctx, 5*time.Second); err != nil {
			return 0, 0, err
		}
		if last, err = f.load(); err != nil {
			return 0, 0, err
		}
		most = max(most, last.rss)
	}
	return float64(most) / 1e6, (last.cpu - first.cpu).Seconds() / last.at.Sub(first.at).Seconds(), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fleetLoad is what 10,000 devices that report once a minute cost the control
// plane, with its own broker and with another process's.
func fleetLoad(ctx context.Context, h *house) (string, error) {
	f, err := h.lightFleet(ctx)
	if err != nil {
		return "", err
	}
	rss, cpu, err := f.steady(ctx)
	if err != nil {
		return "", err
	}
	h.logf("%.0f MB, %.0f %% of a core with its own broker", rss, 100*cpu)
	embedded, err := os.ReadFile(f.conf())
	if err != nil {
		return "", err
	}
	address, end, err := h.externalBroker(ctx, f.id)
	if err != nil {
		return "", err
	}
	defer end()
	own := f.broker
	url := regexp.MustCompile(`(?m)^url = .*$`) // of the broker, the first there is
	outside := []byte(url.ReplaceAllString(string(embedded), fmt.Sprintf("url = %q", "tcp://"+address)))
	var rssOutside, cpuOutside float64
	if err = f.serveAnew(ctx, outside, address); err == nil {
		rssOutside, cpuOutside, err = f.steady(ctx)
	}
	if err := errors.Join(err, f.serveAnew(ctx, embedded, own)); err != nil {
		return "", fmt.Errorf("with a broker outside: %w", err)
	}
	figure := fmt.Sprintf("%.0f MB and %.0f %% of a core with its own broker; %.0f MB and %.0f %% with another", rss, 100*cpu, rssOutside, 100*cpuOutside)
	return figure, errors.Join(atMost(rss, 900), atMost(rssOutside, 300), atMost(100*max(cpu, cpuOutside), 50))
}

func (f *lightFleet) conf() string { return filepath.Join(f.dir, "sandpiper.toml") }

// serveAnew serves the control plane with another configuration and broker, and
// returns once every device is back at rest.
func (f *lightFleet) serveAnew(ctx context.Context, conf []byte, broker string) error {
	f.close()
	f.broker = broker
	if err := os.WriteFile(f.conf(), conf, 0o600); err != nil {
		return err
	}
	if err := f.serve(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := f.run(ctx, scenario.Scenario{Devices: fleetSize}, "boiler:v2"); err != nil {
		return err
	}
	return f.atRest(ctx, fleetSize)
}

// atRest waits until so many devices run boiler:v1.
func (f *lightFleet) atRest(ctx context.Context, devices int) error {
	return f.until(ctx, 2*time.Minute, devices, func(d firmwaresim.LightStatus) bool { return d.Active == "boiler:v1" && !d.Trying })
}

// externalBroker starts another process of this program as the broker of a fleet.
func (h *house) externalBroker(ctx context.Context, fleet string) (address string, end func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	if address, err = freePort(); err != nil {
		return "", nil, err
	}
	end, logged, err := start(h.command(ctx, self, brokerCommand, address, fleet))
	if err != nil {
		return "", nil, err
	}
	dial := firmwaresim.DialTCP(address)
	if err := until(ctx, 10*time.Second, func() bool {
		c, err := dial(ctx)
		if err == nil {
			c.Close()
		}
		return err == nil
	}); err != nil {
		end()
		return "", nil, fmt.Errorf("broker: %w: %s", err, logged())
	}
	return address, end, nil
}

// brokerCommand is the first argument of a process that is a broker.
const brokerCommand = "--broker"

// openBroker returns a broker that lets everybody in under the name they give.
func openBroker(address, fleet string) (*broker.Broker, error) {
	return broker.New(broker.Config{Listen: address, Fleet: fleet, Auth: func(username, _, _ string) (broker.Identity, bool) {
		kind, id, ok := strings.Cut(username, ".")
		if !ok || len(kind) != 1 {
			return broker.Identity{}, false
		}
		return broker.Identity{Kind: kind[0], ID: id}, true
	}})
}

// serveBroker runs such a broker until ctx ends.
func serveBroker(ctx context.Context, address, fleet string) error {
	b, err := openBroker(address, fleet)
	if err != nil {
		return err
	}
	return b.Run(ctx)
}

// fleetPlan judges a version on 1 % of a fleet, then on 10 %.
func fleetPlan() plan.Plan {
	p := plan.CanaryFirst(fleetSize)
	p.Every, p.Watch = plan.Duration(10*time.Second), -1
	return p
}

// try ships a version to a fleet that behaves as a scenario says, with v1 in place,
// and returns what the rollout came to and when the control plane said so.
func (f *lightFleet) try(ctx context.Context, sc scenario.Scenario, ref string, p plan.Plan, limit time.Duration) (rollout.Staged, time.Time, error) {
	var s rollout.Staged
	if err := f.run(ctx, sc, ref); err != nil {
		return s, time.Time{}, err
	}
	present := f.count(func(d firmwaresim.LightStatus) bool { return d.Connected })
	if err := f.atRest(ctx, present); err != nil {
		return s, time.Time{}, err
	}
	if _, err := f.client.StartRollout(ctx, api.NewRollout{Ref: ref, To: "all", Plan: p}); err != nil {
		return s, time.Time{}, err
	}
	var failed error
	looked := time.Time{}
	err := until(ctx, limit, func() bool {
		s, failed = f.client.StagedRollout(ctx, "boiler")
		if time.Since(looked) > 30*time.Second {
			looked = time.Now()
			f.h.logf("%s: %s", s.State.Phase, s.Text)
		}
		return failed != nil || !s.State.Phase.Live()
	})
	return s, time.Now(), errors.Join(failed, err)
}

// fleetWorse ships a version that is 20 % worse.
func fleetWorse(ctx context.Context, h *house) (string, error) {
	f, err := h.lightFleet(ctx)
	if err != nil {
		return "", err
	}
	sc := scenario.Scenario{Devices: fleetSize, Ratio: 1.2, Silent: 0.05, Broken: 0.02, Sample: plan.Duration(10 * time.Second)}
	s, verdict, err := f.try(ctx, sc, "boiler:v2", fleetPlan(), 30*time.Minute)
	if err != nil {
		return "", err
	}
	had := f.count(func(d firmwaresim.LightStatus) bool { return d.Had })
	err = f.until(ctx, time.Minute, fleetSize, func(d firmwaresim.LightStatus) bool { return d.Active != "boiler:v2" && d.Beside != "boiler:v2" })
	back := time.Since(verdict)
	figure := fmt.Sprintf("%s at stage %q (%s) after %s; %d devices had it, all were back %.1f s after the verdict",
		s.State.Phase, s.Plan.Stages[s.State.Stage].Name, s.State.Reason, s.State.Ran, had, back.Seconds())
	switch {
	case err != nil:
		return figure, err
	case s.State.Phase != plan.Stopped || s.State.Stage != 0:
		return figure, errors.New("it was not stopped at the first stage")
	case had > s.State.Sizes[0] || f.count(func(d firmwaresim.LightStatus) bool { return d.Had }) != had:
		return figure, fmt.Errorf("more than the %d devices of the first stage had it", s.State.Sizes[0])
	}
	return figure, atMost(back.Seconds(), 30)
}

// fleetSilent ships a version on which 5 % of the devices fall silent, by a plan
// that looks at updates alone.
func fleetSilent(ctx context.Context, h *house) (string, error) {
	f, err := h.lightFleet(ctx)
	if err != nil {
		return "", err
	}
	few := 0.03
	p := plan.Plan{Every: plan.Duration(10 * time.Second), Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 10}, Quality: plan.Off, Minimum: plan.Duration(10 * time.Second), Deadline: plan.Duration(2 * time.Minute)}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	p.Stages[0].Checks.MaxFailed = &few
	sc := scenario.Scenario{Devices: fleetSize, Behaviours: []scenario.Behaviour{{Kind: scenario.Silent, Share: 0.05}}}
	s, _, err := f.try(ctx, sc, "boiler:v3", p, 5*time.Minute)
	if err != nil {
		return "", err
	}
	var silent []string
	for _, d := range f.sim.Devices() {
		if d.Had && !d.Connected {
			silent = append(silent, d.ID)
		}
	}
	named := 0
	for _, l := range s.State.Lost {
		if slices.Contains(silent, l.Device) {
			named++
		}
	}
	figure := fmt.Sprintf("%s after %s (%s); %d devices fell silent, %d are counted and %d named", s.State.Phase, s.State.Ran, s.State.Reason, len(silent), s.State.LostN, named)
	if s.State.Phase != plan.Stopped || s.State.LostN != len(silent) || named != min(len(silent), len(s.State.Lost)) {
		return figure, errors.New("it was not stopped, or not all of them are named")
	}
	still := func(d firmwaresim.LightStatus) bool { return d.Connected && d.Active == "boiler:v3" }
	if err := until(ctx, 30*time.Second, func() bool { return f.count(still) == 0 }); err != nil {
		return figure, fmt.Errorf("%d devices still run it: %w", f.count(still), err)
	}
	return figure, nil
}
