package main

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/controlplane/rehearse"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	firmwaresim "github.com/sandpiper-edge/sandpiper/firmware-sim"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TestRehearsalIsWhatHappens carries out plans with a whole control plane and light
// devices over MQTT, on the clock of a bubble, and compares every move, and the
// devices that are named, with the rehearsal of the same plan, scenario and seed.
func TestRehearsalIsWhatHappens(t *testing.T) {
	const devices = 120
	shadowFirst, canaryFirst := plan.ShadowFirst(devices), plan.CanaryFirst(devices)
	shadowFirst.Stages[0].Devices.Count, shadowFirst.Minimum = 60, -1
	blind := plan.Plan{Deadline: plan.Duration(10 * time.Minute), Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 30}, Quality: plan.Off}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	quick := plan.Plan{Every: plan.Duration(time.Second), Minimum: plan.Duration(time.Second), Deadline: plan.Duration(time.Minute), Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 80}, Quality: plan.Off}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	does := func(b scenario.Behaviour) scenario.Scenario {
		return scenario.Scenario{Ratio: 0.8, Behaviours: []scenario.Behaviour{b}}
	}
	for name, tt := range map[string]struct {
		plan     plan.Plan
		scenario scenario.Scenario
		final    plan.Phase
	}{
		"good":             {shadowFirst, scenario.Scenario{Ratio: 0.9}, plan.Done},
		"20 % worse":       {canaryFirst, scenario.Scenario{Ratio: 1.2}, plan.Stopped},
		"bad in a group":   {shadowFirst, scenario.Scenario{Groups: []scenario.Group{{Name: "a", Share: 0.7}, {Name: "b", Share: 0.3, Ratio: 1.5}}}, plan.Stopped},
		"silent":           {canaryFirst, does(scenario.Behaviour{Kind: scenario.Silent, Share: 0.3}), plan.Stopped},
		"silent, unjudged": {blind, does(scenario.Behaviour{Kind: scenario.Silent, Share: 0.05}), plan.Done},
		"silent later":     {blind, does(scenario.Behaviour{Kind: scenario.Silent, Share: 0.3, After: plan.Duration(time.Minute)}), plan.Stopped},
		"silent, quick":    {quick, does(scenario.Behaviour{Kind: scenario.Silent, Share: 0.3}), plan.Stopped},
		"failing":          {canaryFirst, does(scenario.Behaviour{Kind: scenario.Failing, Share: 0.2}), plan.Stopped},
		"crashing":         {canaryFirst, does(scenario.Behaviour{Kind: scenario.Crashing, Share: 0.3, After: plan.Duration(time.Minute)}), plan.Stopped},
		"away for a while": {canaryFirst, does(scenario.Behaviour{Kind: scenario.Offline, Share: 0.2, For: plan.Duration(3 * time.Minute)}), plan.Done},
	} {
		t.Run(name, func(t *testing.T) {
			if raceDetector && name != "20 % worse" && name != "silent, quick" {
				t.Skip("the same code as the others, and minutes of it under the race detector")
			}
			t.Parallel()
			p, s := tt.plan, tt.scenario
			p.Seed, p.Watch = 5, plan.Duration(5*time.Minute)
			s.Devices, s.Seed, s.Silent, s.Broken, s.Sample = devices, 1, 0.02, 0.02, plan.Duration(5*time.Second)
			s = s.WithDefaults()
			want, err := rehearse.Run(t.Context(), p, s)
			if err != nil {
				t.Fatal(err)
			}
			if want.Final != tt.final {
				t.Errorf("the rehearsal ended %s: %s", want.Final, want.State.Reason)
			}
			var lost []string
			for _, f := range want.Lost {
				lost = append(lost, f.Device)
			}
			slices.Sort(lost)
			moments, named := carryOut(t, p, s)
			if diff := cmp.Diff(want.Moments, moments); diff != "" {
				t.Errorf("the rehearsal (-) and what happened (+):\n%s", diff)
			}
			if diff := cmp.Diff(lost, named); diff != "" {
				t.Errorf("lost devices of the rehearsal (-) and those that are named (+):\n%s", diff)
			}
		})
	}
}

// carryOut has a control plane carry out p on the devices of s. It returns the moves
// and the devices that it names as lost.
func carryOut(t *testing.T, p plan.Plan, s scenario.Scenario) (moments []rehearse.Moment, lost []string) {
	dir, first, tokens := populated(t, s)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(audit.By(t.Context(), "ann"))
		c, err := controlplane.Open(ctx, controlplane.Config{Dir: dir, Listener: &quietListener{closed: make(chan struct{})}})
		must(t, err)
		must(t, c.Listen())
		lights, err := firmwaresim.NewLights(firmwaresim.LightsConfig{
			Fleet: c.Fleet.Name(), Root: c.RootDocument(), Scenario: s, Candidate: "m:v2", Counters: time.Hour,
			Token: func(id string) string { return tokens[id] },
			Dial: func(ctx context.Context) (net.Conn, error) {
				conn, err := c.Broker().Pipe(ctx)
				if err != nil {
					return nil, err
				}
				// No two messages of different length arrive at the same time.
				return firmwaresim.Link{Latency: 20 * time.Millisecond, Down: 1e6}.Shape(conn), nil
			},
		})
		must(t, err)
		var g errgroup.Group
		g.Go(func() error { return c.Run(ctx) })
		g.Go(func() error { return lights.Run(ctx) })
		defer func() {
			stop()
			must(t, g.Wait())
			must(t, c.Close())
		}()
		time.Sleep(15 * time.Second) // the control plane waits for what everybody says at its start
		all := rollout.Target{All: true}
		_, err = c.Rollout.Start(ctx, "m:v1", all)
		must(t, err)
		time.Sleep(time.Minute)
		must(t, c.Rollout.Handle(ctx, formerly(t, s, first)...))
		draft, err := c.Rollout.Draft(ctx, "m:v2", all, func(int, int, bool) (*plan.Plan, error) { return &p, nil })
		must(t, err)
		started, err := c.Rollout.StartPlan(ctx, draft)
		must(t, err)
		// Between two looks from here on.
		for time.Sleep(500 * time.Millisecond); ; time.Sleep(time.Second) {
			now, err := c.Rollout.Staged(ctx, "m")
			must(t, err)
			if now.State.Phase != plan.Preparing {
				break
			}
		}
		interval := p.WithDefaults().Interval()
		time.Sleep((interval / 2).Truncate(time.Second))
		var began time.Time
		var was plan.State
		for {
			now, err := c.Rollout.Staged(ctx, "m")
			must(t, err)
			if began.IsZero() {
				began = now.State.At
			}
			m := rehearse.Moment{
				At: plan.Duration(now.State.At.Sub(began)), Phase: now.State.Phase, Stage: now.Plan.Stages[now.State.Stage].Name, Reason: now.State.Reason,
			}
			for _, d := range lights.Devices() {
				if d.Active == "m:v2" {
					m.Have++
				}
			}
			if was.Phase != m.Phase || was.Stage != now.State.Stage || was.Widened != now.State.Widened {
				moments = append(moments, m)
			}
			was = now.State
			if !m.Phase.Live() {
				break
			}
			time.Sleep(interval)
		}
		faults, err := c.Rollout.Faults(ctx, started.Rollout.ID, "", s.Devices)
		must(t, err)
		for _, f := range faults {
			if f.Loss != "" {
				lost = append(lost, f.Device)
			}
		}
	})
	return moments, lost
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// populated makes a data folder with two versions of a model and the devices of s,
// and returns the digest of the first, and the devices' tokens.
func populated(t *testing.T, s scenario.Scenario) (dir string, first protocol.Digest, tokens map[string]string) {
	dir = filepath.Join(t.TempDir(), "data")
	_, err := controlplane.Init(t.Context(), dir, "")
	must(t, err)
	c, err := controlplane.Open(t.Context(), controlplane.Config{Dir: dir})
	must(t, err)
	first = registrytest.Add(t, c.Registry, "m", 1).Digest
	registrytest.Add(t, c.Registry, "m", 2)
	tokens = map[string]string{}
	for _, d := range s.Fleet() {
		labels := map[string]string{}
		if d.Group != "" {
			labels["hw"] = d.Group
		}
		_, tokens[d.ID], err = c.Fleet.Add(t.Context(), d.ID, labels)
		must(t, err)
	}
	must(t, c.Close())
	return dir, first, tokens
}

// formerly is what devices that are away said before: they run a version.
func formerly(t *testing.T, s scenario.Scenario, version protocol.Digest) (reports []rollout.Report) {
	have := protocol.Have{Format: protocol.Format, Boot: 1, Models: map[string]protocol.ModelHave{"m": {Active: version, Phase: protocol.PhaseIdle}}}
	b, err := have.AppendBinary(nil)
	must(t, err)
	for _, d := range s.Fleet() {
		if d.Away {
			reports = append(reports, rollout.Report{Device: d.ID, Kind: protocol.TopicHave, Payload: b})
		}
	}
	return reports
}

// quietListener is nobody's way in: devices come through the broker's pipe, on
// which a bubble can wait.
type quietListener struct {
	closed chan struct{}
	once   sync.Once
}

func (l *quietListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *quietListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *quietListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
