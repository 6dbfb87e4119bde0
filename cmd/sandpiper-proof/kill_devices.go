package main

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	firmwaresim "github.com/sandpiper-edge/sandpiper/firmware-sim"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// devices are those of a stand, while they run.
type devices interface {
	Run(context.Context) error
	// runs is the version, NAME:vN, that each runs which has no other under way.
	runs() map[string]string
}

type agents struct{ *firmwaresim.Sim }

func (a agents) runs() map[string]string {
	out := map[string]string{}
	for _, d := range a.Devices() {
		if s, ok := d.Status(); ok && s.Models[killModel].Phase == protocol.PhaseIdle {
			out[d.ID()] = s.Models[killModel].Version
		}
	}
	return out
}

type lights struct{ *firmwaresim.Lights }

func (l lights) runs() map[string]string {
	out := map[string]string{}
	for _, s := range l.Devices() {
		if !s.Trying {
			out[s.ID] = s.Active
		}
	}
	return out
}

// devicesOf makes the devices of a tale.
func (d *stand) devicesOf(t tale) (devices, error) {
	if t.ratio != 0 {
		tokens := map[string]string{}
		for _, x := range d.devices {
			tokens[x.ID] = x.Token
		}
		l, err := firmwaresim.NewLights(firmwaresim.LightsConfig{
			Fleet: d.fleet, Dial: firmwaresim.DialTCP(d.broker), Root: d.root, Token: func(id string) string { return tokens[id] },
			Scenario:  scenario.Scenario{Devices: len(d.devices), Ratio: t.ratio, Sample: protocol.Duration(time.Second)},
			Candidate: killModel + ":v2", Trial: 300 * time.Millisecond,
		})
		return lights{l}, err
	}
	cfg := firmwaresim.Config{
		Fleet: d.fleet, Dial: firmwaresim.DialTCP(d.broker), Root: d.root, DataDir: filepath.Join(filepath.Dir(d.site.dir), "devices"),
		Devices: slices.Clone(d.devices), Interval: -1, Trial: 300 * time.Millisecond, Reconnect: time.Second,
	}
	for i := range cfg.Devices {
		if t.crashes != nil && t.crashes(i) {
			cfg.Devices[i].Faults.CrashOn = []string{killModel + ":v2"}
		}
	}
	s, err := firmwaresim.New(cfg)
	return agents{s}, err
}

// with runs the devices of a tale while f runs.
func (d *stand) with(ctx context.Context, t tale, f func(context.Context, devices) error) error {
	all, err := d.devicesOf(t)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	g.Go(func() error { return all.Run(ctx) })
	g.Go(func() error { defer stop(); return f(ctx, all) })
	return g.Wait()
}
