// Package firmwaresim simulates devices: pumps with sensors (see [Pump]), each
// running the agent of this project, unchanged, in process, on a cache of
// limited size and a connection of limited quality, with faults on schedule.
//
// It is also where a demo's training data comes from: [WriteCSV] writes what
// the same pumps would have measured, 50,000 rows in 50 ms.
package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Stream is the stream that a device's sensors publish on.
const Stream = "pump"

// Config configures a Sim. Fleet, Dial, Root, DataDir and Devices are required
// to run; Seed alone determines what the pumps do.
type Config struct {
	Fleet string
	Seed  uint64
	// Dial opens a connection to the broker.
	Dial func(ctx context.Context) (net.Conn, error)
	Root []byte // signed root document that the devices trust
	// DataDir holds one folder for each device.
	DataDir string
	Devices []DeviceConfig
	// Interval is the time between two samples of a device; default 1 s,
	// negative for none.
	Interval time.Duration
	// Trial is how long a device keeps a new version on trial; default 2 s.
	Trial time.Duration
	// Reconnect is the longest wait of a device between two attempts to connect;
	// default 1 min.
	Reconnect time.Duration
	Version   string // of the firmware; default "sim"
	// Log receives what the devices' agents log; nil discards it.
	Log *slog.Logger
}

// DialTCP returns a Config.Dial for host:port.
func DialTCP(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// A Sim is a set of devices. Device i has pump i of the seed.
type Sim struct {
	cfg     Config
	devices []*Device
}

// New checks cfg; nothing starts. The error wraps protocol.ErrID for an id
// outside the alphabet.
func New(cfg Config) (*Sim, error) {
	if err := protocol.CheckFleet(cfg.Fleet); err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	if cfg.Dial == nil || cfg.DataDir == "" {
		return nil, errors.New("simulation: no broker or no data folder")
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	if cfg.Trial <= 0 {
		cfg.Trial = 2 * time.Second
	}
	if cfg.Version == "" {
		cfg.Version = "sim"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sim{cfg: cfg}
	seen := make(map[string]bool)
	for i, dc := range cfg.Devices {
		if err := protocol.CheckID(dc.ID); err != nil {
			return nil, fmt.Errorf("simulation: device %d: %w", i, err)
		}
		if seen[dc.ID] {
			return nil, fmt.Errorf("simulation: two devices %s", dc.ID)
		}
		seen[dc.ID] = true
		if dc.Flash <= 0 {
			dc.Flash = 4 << 20
		}
		if dc.Restart <= 0 {
			dc.Restart = 500 * time.Millisecond
		}
		s.devices = append(s.devices, &Device{
			cfg: dc, sim: &s.cfg, log: cfg.Log.With("device", dc.ID),
			dir: folder(cfg.DataDir, dc.ID), pump: NewPump(cfg.Seed, i),
			flash: flash{rng: rand.New(rand.NewPCG(cfg.Seed, uint64(i)))},
		})
	}
	return s, nil
}

// Devices returns the devices in the order of the configuration.
func (s *Sim) Devices() []*Device { return s.devices }

// Device returns the device with the given id, or nil.
func (s *Sim) Device(id string) *Device {
	for _, d := range s.devices {
		if d.cfg.ID == id {
			return d
		}
	}
	return nil
}

// WriteCSV writes what the pumps of all devices measure in their first rows
// cycles; see the function of that name.
func (s *Sim) WriteCSV(w io.Writer, rows int) error {
	units := make([]string, len(s.devices))
	for i, d := range s.devices {
		units[i] = d.cfg.ID
	}
	return WriteCSV(w, s.cfg.Seed, units, rows)
}

// Window returns the last rows readings of pump i in those first of rows
// cycles that WriteCSV writes: what a prediction request would carry next.
func (s *Sim) Window(i, of, rows int) []Reading {
	h := History(s.cfg.Seed, i, of)
	return h[max(0, len(h)-rows):]
}

// Run runs every device until ctx ends, or one of them cannot go on.
func (s *Sim) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range s.devices {
		g.Go(func() error { return d.run(ctx) })
	}
	return g.Wait()
}
