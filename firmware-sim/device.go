package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A DeviceConfig is one simulated device. ID and Token are required.
type DeviceConfig struct {
	ID    string
	Token string // broker password
	// Flash is what the agent's cache may take, in bytes; default 4 MiB.
	Flash int64
	// Link is the quality of its connection.
	Link Link
	// Faults is what goes wrong with it.
	Faults Faults
	// Restart is how long the process stays dead; default 500 ms.
	Restart time.Duration
}

// A Device is a pump, its sensors, and the agent of this project in process,
// with a cache on disk and a connection of its own.
type Device struct {
	cfg  DeviceConfig
	sim  *Config
	log  *slog.Logger
	dir  string
	pump *Pump // owned by the sensors' goroutine once Run has begun

	flash flash

	restarts atomic.Uint64
	samples  atomic.Uint64

	mu      sync.Mutex // guards what follows
	agent   *agent.Agent
	serving map[protocol.Digest]string // NAME:vN by digest, for Tamper
	link    *uplink
	offline bool
	dead    bool // the process is about to end and dials no more
}

// ID returns the device's id.
func (d *Device) ID() string { return d.cfg.ID }

// DataDir returns the folder of the agent's cache. It outlives the process.
func (d *Device) DataDir() string { return d.dir }

// Restarts returns how often the process has died.
func (d *Device) Restarts() uint64 { return d.restarts.Load() }

// Samples returns how many sensor samples were sent.
func (d *Device) Samples() uint64 { return d.samples.Load() }

// Written returns how many bytes the agent has written to its flash, in whole
// pages.
func (d *Device) Written() int64 { return d.flash.Written() }

// Status returns what the agent says about itself; ok is false while its
// process is dead.
func (d *Device) Status() (s agent.Status, ok bool) {
	d.mu.Lock()
	a := d.agent
	d.mu.Unlock()
	if a == nil {
		return agent.Status{}, false
	}
	return a.Status(), true
}

// run lives through the device's life until ctx ends.
func (d *Device) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { d.network(ctx); return nil })
	g.Go(func() error { d.sense(ctx); return nil })
	g.Go(func() error { return d.processes(ctx) })
	return g.Wait()
}

// processes runs one agent process after the other. An agent that cannot even
// open its cache is an error of the simulation.
func (d *Device) processes(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := d.process(ctx); err != nil {
			return fmt.Errorf("device %s: %w", d.cfg.ID, err)
		}
		if ctx.Err() == nil {
			d.restarts.Add(1)
			d.log.Info("simulated crash", "restarts", d.restarts.Load())
			sleep(ctx, d.cfg.Restart)
		}
	}
	return nil
}

// process is one life of the agent: until ctx ends, or a simulated crash.
func (d *Device) process(ctx context.Context) error {
	ctx, die := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer die()
	// The flash decides inside a step of the agent, which is not to be waited for.
	if err := d.flash.boot(func() { watch.Go(func() { d.kill(die) }) }); err != nil {
		return err
	}
	a, err := agent.New(agent.Config{
		Fleet:      d.sim.Fleet,
		Device:     d.cfg.ID,
		Token:      d.cfg.Token,
		Root:       d.sim.Root,
		DataDir:    d.dir,
		Version:    d.sim.Version,
		Log:        d.sim.Log,
		QuotaBytes: d.cfg.Flash,
		Trial:      d.sim.Trial,
		BackoffMax: d.sim.Reconnect,
		Dial:       d.dial,
		Tamper:     d.tamper,
		Disk:       d.flash.step,
	})
	if errors.Is(err, errDead) {
		return nil
	}
	if err != nil {
		return err
	}
	d.setAgent(a)
	defer d.setAgent(nil)

	if len(d.cfg.Faults.CrashOn)+len(d.cfg.Faults.NaNOn) > 0 {
		watch.Go(func() { d.watch(ctx, a, die) })
	}
	return a.Run(ctx)
}

func (d *Device) setAgent(a *agent.Agent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.agent = a
	d.dead = false
	d.serving = make(map[protocol.Digest]string)
}

// watchPeriod is how soon a fault notices what the agent does.
const watchPeriod = 10 * time.Millisecond

// watch kills the process when a version of CrashOn is on trial: first its
// connection, so that the broker hears nothing but the break, then the rest.
func (d *Device) watch(ctx context.Context, a *agent.Agent, die func()) {
	for ; ctx.Err() == nil; sleep(ctx, watchPeriod) {
		for _, m := range a.Status().Models {
			if m.Phase == protocol.PhaseTrying && d.cfg.Faults.crashes(m.Serving) {
				d.kill(die)
				return
			}
			d.mu.Lock()
			d.serving[m.Digest] = m.Version
			if s := m.Shadow; s != nil {
				d.serving[s.Digest] = s.Version
			}
			d.mu.Unlock()
		}
	}
}

// kill ends the process: it dials no more, its connection breaks, and then the
// rest of it ends.
func (d *Device) kill(die context.CancelFunc) {
	d.mu.Lock()
	d.dead = true
	d.mu.Unlock()
	d.cut()
	die()
}

// tamper is the fault of NaNOn.
func (d *Device) tamper(_ string, version protocol.Digest, y []float32) {
	if len(d.cfg.Faults.NaNOn) == 0 {
		return
	}
	d.mu.Lock()
	name := d.serving[version]
	d.mu.Unlock()
	for _, bad := range d.cfg.Faults.NaNOn {
		if name == bad {
			for i := range y {
				y[i] = float32(math.NaN())
			}
		}
	}
}

// dial connects the agent through the device's link.
func (d *Device) dial(ctx context.Context) (net.Conn, error) {
	if d.unreachable() {
		return nil, errOffline
	}
	conn, err := d.sim.Dial(ctx)
	if err != nil {
		return nil, err
	}
	u := newUplink(d.cfg.Link.Shape(conn))
	u.onClose = func() { d.setLink(u, nil) }
	d.setLink(nil, u)
	if d.unreachable() { // since
		return nil, errors.Join(errOffline, u.Close())
	}
	return u, nil
}

// setLink makes u the uplink. If u is nil, it removes old, unless there is
// already a newer one.
func (d *Device) setLink(old, u *uplink) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u != nil || d.link == old {
		d.link = u
	}
}

func (d *Device) unreachable() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.offline || d.dead
}

// cut breaks the connection, if there is one.
func (d *Device) cut() {
	d.mu.Lock()
	u := d.link
	d.mu.Unlock()
	if u == nil {
		return
	}
	if err := u.Close(); err != nil {
		d.log.Debug("cut connection", "err", err)
	}
}

// network keeps the schedule of outages.
func (d *Device) network(ctx context.Context) {
	start := time.Now()
	for ctx.Err() == nil {
		offline, next := d.cfg.Faults.offlineAt(time.Since(start))
		d.mu.Lock()
		changed := d.offline != offline
		d.offline = offline
		d.mu.Unlock()
		if changed {
			d.log.Info("simulated network", "offline", offline)
		}
		if offline {
			d.cut()
		}
		if next == 0 {
			return
		}
		sleep(ctx, next-time.Since(start))
	}
}

// sense reads the pump at every interval and sends what it reads. Samples of
// QoS 0 are lost while there is no session.
func (d *Device) sense(ctx context.Context) {
	if d.sim.Interval < 0 {
		return
	}
	topic := protocol.SampleTopic(d.sim.Fleet, d.cfg.ID, Stream)
	tick := time.NewTicker(d.sim.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			payload, err := sample(d.pump.Next(), now)
			if err != nil {
				d.log.Error("encode sample", "err", err)
				continue
			}
			d.mu.Lock()
			u := d.link
			d.mu.Unlock()
			if u == nil {
				continue
			}
			if err := u.publish(appendPublish(nil, topic, payload)); err == nil {
				d.samples.Add(1)
			} else if !errors.Is(err, net.ErrClosed) {
				d.log.Debug("sample not sent", "err", err)
			}
		}
	}
}

// sample encodes a reading as a sample of the sensors' stream, in JSON.
func sample(r Reading, now time.Time) ([]byte, error) {
	m := protocol.Sample{T: now.UnixMilli(), V: make(map[string]float32, len(Features))}
	for i, x := range r.Values() {
		m.V[Features[i]] = float32(x)
	}
	return m.AppendJSON(nil)
}

// folder is the device's data folder.
func folder(root, id string) string { return filepath.Join(root, id) }
