package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	firmwaresim "github.com/sandpiper-edge/sandpiper/firmware-sim"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

const (
	// simulatedLabel tells devices of a simulation from real ones.
	simulatedLabel = "simulated"
	// simulatedAdds is how many devices are added at a time.
	simulatedAdds = 16
	// simulatedPeriod is the time between two lines about the devices.
	simulatedPeriod = time.Second
)

func newFleetSimulateCommand(a *app) *cobra.Command {
	var file, candidate, group string
	var devices int
	var trial time.Duration
	cmd := &cobra.Command{
		Use:   "simulate --candidate REF",
		Short: "Run thousands of simulated devices against this control plane",
		Long: `Add simulated devices to the fleet and run them in this process, over MQTT, until
Ctrl-C. They take what is rolled out to them and report as agents do, verify every
byte, and predict nothing: the errors, the speed and the faults that they report on
the candidate, NAME:vN, are those of the scenario (see "rollout rehearse"). Their
ids are device-00001 and so on, and they are labelled simulated=yes; what an earlier
simulation left of them is replaced.`,
		Example: `  sandpiper fleet simulate --candidate boiler:v2 --scenario docs/examples/worse.toml`,
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s scenario.Scenario
			if file != "" {
				var err error
				if s, err = readScenario(file); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("devices") {
				if s.Devices = devices; devices < 1 {
					return usagef("--devices %d: use 1 or more", devices)
				}
			}
			s = s.WithDefaults()
			if err := s.Check(); err != nil {
				return usagef("%v", err)
			}
			cfg := firmwaresim.LightsConfig{Scenario: s, Candidate: candidate, Trial: trial}
			if err := cfg.CheckCandidate(); err != nil {
				return usagef("%v", err)
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *api.Client) error {
				err := a.simulate(ctx, c, cfg, group)
				if ctx.Err() != nil { // Ctrl-C, which ends it well whatever it met
					err = nil
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&candidate, "candidate", "", "version that the devices behave on as the scenario says, NAME:vN")
	f.StringVar(&file, "scenario", "", "file that says what the fleet is like, TOML (default: one of good devices)")
	f.IntVar(&devices, "devices", 0, "how many, instead of the scenario's")
	f.StringVar(&group, "group", "hw", "label that holds a device's group of the scenario")
	f.DurationVar(&trial, "trial", 10*time.Second, "how long they keep a new version on trial")
	_ = cmd.MarkFlagRequired("candidate")
	return cmd
}

// simulate adds the devices and runs them until ctx ends.
func (a *app) simulate(ctx context.Context, c *api.Client, cfg firmwaresim.LightsConfig, group string) error {
	server, err := c.Server(ctx)
	if err != nil {
		return err
	}
	if !server.Serving {
		return fmt.Errorf("%w: no server runs the fleet; start `sandpiper serve` first", api.ErrUnreachable)
	}
	broker, err := url.Parse(server.Broker)
	if err != nil || broker.Scheme != "tcp" {
		return fmt.Errorf("simulated devices connect in the clear, and the broker is %s; try a control plane of its own, `sandpiper init --dir DIR`", server.Broker)
	}
	var mu sync.Mutex
	tokens := map[string]string{}
	g, adding := errgroup.WithContext(ctx)
	g.SetLimit(simulatedAdds)
	for _, d := range cfg.Scenario.Fleet() {
		g.Go(func() error {
			added, err := addSimulated(adding, c, d, group)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			tokens[d.ID], cfg.Root, cfg.Fleet = added.Token, added.Root, added.Fleet
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	cfg.Token = func(id string) string { return tokens[id] }
	cfg.Dial = firmwaresim.DialTCP(net.JoinHostPort(broker.Hostname(), broker.Port()))
	sim, err := firmwaresim.NewLights(cfg)
	if err != nil {
		return err
	}
	a.notef("%d devices added; Ctrl-C ends the simulation", len(tokens))
	running, end := context.WithCancel(ctx)
	defer end()
	g, running = errgroup.WithContext(running)
	g.Go(func() error { return sim.Run(running) })
	g.Go(func() error {
		tick := time.NewTicker(simulatedPeriod)
		defer tick.Stop()
		for last := ""; ; {
			if line := simulatedLine(sim.Devices()); line != last {
				a.notef("%s", line)
				last = line
			}
			select {
			case <-running.Done():
				return nil
			case <-tick.C:
			}
		}
	})
	return g.Wait()
}

// addSimulated adds a device, in the place of one that an earlier simulation left.
func addSimulated(ctx context.Context, c *api.Client, d *scenario.Device, group string) (api.DeviceAdded, error) {
	labels := map[string]string{simulatedLabel: "yes"}
	if d.Group != "" {
		labels[group] = d.Group
	}
	n := api.NewDevice{ID: d.ID, Labels: labels}
	added, err := c.AddDevice(ctx, n)
	var p *api.Problem
	if !errors.As(err, &p) || p.Code() != api.CodeExists {
		return added, err
	}
	there, err := c.Device(ctx, d.ID)
	if err != nil {
		return added, err
	}
	if there.Labels[simulatedLabel] != "yes" {
		return added, fmt.Errorf("device %s is in the fleet and no simulated one; simulate on a control plane of its own, `sandpiper init --dir DIR`", d.ID)
	}
	if err := c.RemoveDevice(ctx, d.ID); err != nil {
		return added, err
	}
	return c.AddDevice(ctx, n)
}

// simulatedLine says how many devices are connected and what they run.
func simulatedLine(devices []firmwaresim.LightStatus) string {
	connected, active, trying := 0, map[string]int{}, 0
	for _, d := range devices {
		if d.Connected {
			connected++
		}
		if d.Trying {
			trying++
		}
		if d.Active != "" {
			active[d.Active]++
		}
		if d.Beside != "" {
			active[d.Beside+" in shadow"]++
		}
	}
	out := []string{fmt.Sprintf("%d of %d connected", connected, len(devices))}
	for _, v := range slices.Sorted(maps.Keys(active)) {
		out = append(out, fmt.Sprintf("%d run %s", active[v], v))
	}
	if trying > 0 {
		out = append(out, fmt.Sprintf("%d of them on trial", trying))
	}
	return strings.Join(out, ", ")
}
