package firmwaresim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

// LightsConfig configures Lights. Fleet, Dial, Root and Token are required.
type LightsConfig struct {
	Fleet string
	// Dial opens a connection to the broker.
	Dial func(ctx context.Context) (net.Conn, error)
	Root []byte // signed root document that the devices trust
	// Scenario is the fleet, and what its devices do once they have Candidate,
	// NAME:vN. Without one they have nothing to do but to run what is wanted.
	Scenario  scenario.Scenario
	Candidate string
	// Token returns a device's broker password. A device without one, "", does not
	// exist.
	Token func(id string) string
	// Trial is how long a device keeps a new version on trial; default 10 s.
	Trial time.Duration
	// Counters is the time between two reports of counters; default 1 min.
	Counters time.Duration
	// Dials is how many connections are made at a time; default 64.
	Dials int
	Log   *slog.Logger // nil discards
}

// Lights is a fleet of light devices in one process: each is an [agent.Light]
// with an MQTT session of its own, two goroutines, and does what the scenario
// says.
type Lights struct {
	cfg     LightsConfig
	root    *artifact.Root
	library *agent.Library
	devices []*lightDevice
	dialing chan struct{} // capacity Dials

	received, sent atomic.Int64 // bytes, of all connections
}

// CheckCandidate reports a Candidate that is no NAME:vN.
func (c LightsConfig) CheckCandidate() error {
	name, _, ok := strings.Cut(c.Candidate, ":v")
	if c.Candidate != "" && (!ok || protocol.CheckID(name) != nil) {
		return fmt.Errorf("candidate %q, want a version such as pump:v2", c.Candidate)
	}
	return nil
}

// NewLights checks cfg; nothing starts. The error wraps scenario.ErrScenario for
// a scenario that cannot be played.
func NewLights(cfg LightsConfig) (*Lights, error) {
	cfg.Scenario = cfg.Scenario.WithDefaults()
	if err := errors.Join(protocol.CheckFleet(cfg.Fleet), cfg.Scenario.Check(), cfg.CheckCandidate()); err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	if cfg.Dial == nil || cfg.Token == nil {
		return nil, errors.New("simulation: no broker or no passwords")
	}
	if cfg.Dials <= 0 {
		cfg.Dials = 64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	root, err := artifact.OpenRoot(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	s := &Lights{cfg: cfg, root: root, library: agent.NewLibrary(), dialing: make(chan struct{}, cfg.Dials)}
	for _, script := range cfg.Scenario.Fleet() {
		token := cfg.Token(script.ID)
		if token == "" {
			continue
		}
		d := &lightDevice{sim: s, script: script, token: token, status: LightStatus{ID: script.ID}}
		if d.light, err = agent.NewLight(agent.LightConfig{
			Fleet: cfg.Fleet, Device: script.ID, Version: "light", Root: root, Library: s.library, Acts: d,
			Trial: cfg.Trial, Every: cfg.Counters,
		}); err != nil {
			return nil, err
		}
		s.devices = append(s.devices, d)
	}
	return s, nil
}

// Run runs every device until ctx ends.
func (s *Lights) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range s.devices {
		g.Go(func() error { d.run(ctx); return nil })
	}
	return g.Wait()
}

// A LightStatus is what a light device runs, NAME:vN or "" for nothing.
type LightStatus struct {
	ID             string
	Connected      bool
	Active, Beside string // of the candidate's model
	Trying         bool
	Had            bool // it has had the candidate, active or beside
	Starts         int
}

// Devices returns the state of every device, in the order of the scenario.
func (s *Lights) Devices() []LightStatus {
	out := make([]LightStatus, len(s.devices))
	for i, d := range s.devices {
		d.mu.Lock()
		out[i] = d.status
		d.mu.Unlock()
	}
	return out
}

// Traffic returns the bytes that all devices have received and sent.
func (s *Lights) Traffic() (received, sent int64) { return s.received.Load(), s.sent.Load() }

const (
	lightKeepAlive = 30 * time.Second // as an agent's
	lightTimeout   = 30 * time.Second // of a handshake, and of a write
	lightRetryMin  = 200 * time.Millisecond
	lightRetryMax  = 5 * time.Second
	lightWatch     = time.Second     // how often a device looks what its script wants
	lightCrash     = 2 * time.Second // between two starts of one that crashes
	// lightSoon is as soon as a timer of theirs runs: one that is due as it is made
	// has crashed Go's runtime under the fake clock and the race detector.
	lightSoon = time.Microsecond
)

// A lightDevice is a Light, its script, and its connection. run owns all but
// status.
type lightDevice struct {
	sim    *Lights
	script *scenario.Device
	token  string
	light  *agent.Light

	conn    *lightConn // nil: not connected
	dial    time.Time  // when to connect next
	retry   time.Duration
	ping    time.Time
	crash   time.Time // when it crashes next; zero: it does not
	stage   uint32
	sampled time.Time // up to when its errors are compared

	mu     sync.Mutex // guards status
	status LightStatus
}

// run lives through the device's life until ctx ends.
func (d *lightDevice) run(ctx context.Context) {
	d.start(time.Now())
	d.dial, d.retry = time.Now(), lightRetryMin
	defer d.hangUp()
	wake := time.NewTimer(lightSoon)
	defer wake.Stop()
	for {
		var packets <-chan packetRead
		if d.conn != nil {
			packets = d.conn.packets
		}
		select {
		case <-ctx.Done():
			return
		case p := <-packets:
			d.take(p)
		case <-wake.C:
		}
		now := time.Now()
		d.act(now)
		if next := d.light.Next(); !now.Before(next) && !next.IsZero() {
			d.send(now, d.light.Advance(now))
		}
		if d.conn == nil && !now.Before(d.dial) && !d.script.Unheard(now) {
			d.connect(ctx)
		}
		d.note(now)
		wake.Reset(max(lightSoon, time.Until(d.next(now))))
	}
}

// next is when there is something to do if nothing comes.
func (d *lightDevice) next(now time.Time) time.Time {
	next := now.Add(time.Hour)
	for _, t := range []time.Time{d.light.Next(), d.crash} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	switch {
	case d.conn != nil && d.ping.Before(next):
		next = d.ping
	case d.conn == nil && d.dial.After(now) && d.dial.Before(next):
		next = d.dial
	}
	if role, _ := d.script.Role(); role == scenario.Active && len(d.sim.cfg.Scenario.Behaviours) > 0 && now.Add(lightWatch).Before(next) {
		next = now.Add(lightWatch)
	}
	return next
}

// act does what the script wants of the device's network and process.
func (d *lightDevice) act(now time.Time) {
	if d.conn != nil && d.script.Unheard(now) {
		d.hangUp()
	}
	if d.script.Does(scenario.Crashing, now) == nil {
		d.crash = time.Time{}
	} else if d.crash.IsZero() {
		d.crash = now.Add(lightCrash)
	} else if !now.Before(d.crash) {
		d.crash = now.Add(lightCrash)
		d.hangUp()
		d.start(now)
		d.dial = now
	}
	if d.conn != nil && !now.Before(d.ping) {
		d.ping = now.Add(lightKeepAlive)
		d.write(now, packet.AppendEmpty(nil, packet.Pingreq))
	}
}

// start starts the process. Sums are counted from here.
func (d *lightDevice) start(now time.Time) {
	role, _ := d.script.Role()
	d.script.Take(role, 0, now)
	d.light.Start(now)
	d.mu.Lock()
	d.status.Starts++
	d.mu.Unlock()
	d.note(now)
}

// note tells the script and Devices what the device runs.
func (d *lightDevice) note(now time.Time) {
	model, _, _ := strings.Cut(d.sim.cfg.Candidate, ":v")
	active, beside := d.light.Active(model)
	role := scenario.Idle
	switch d.sim.cfg.Candidate {
	case "":
	case active:
		role = scenario.Active
	case beside:
		role = scenario.Shadow
	}
	p := d.light.Compared()
	if p.Stage != 0 { // else what is being activated was its shadow, and its sums go on
		if _, judge := d.script.Role(); judge != p.Stage {
			d.sampled = now
		}
		d.stage = p.Stage
	}
	d.script.Take(role, d.stage, now)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = LightStatus{
		ID: d.script.ID, Connected: d.conn != nil, Active: active, Beside: beside, Trying: d.light.Trying(model),
		Had: d.status.Had || role != scenario.Idle, Starts: d.status.Starts,
	}
}

// Clock implements agent.Acts, as do the three below.
func (d *lightDevice) Clock(now time.Time) time.Time { return d.script.Clock(now) }

func (d *lightDevice) Try(version string, now time.Time) error {
	if version != d.sim.cfg.Candidate {
		return nil
	}
	d.note(now) // it runs the candidate from here
	if d.script.Does(scenario.Failing, now) != nil {
		return fmt.Errorf("simulated: %w", predictor.ErrGolden)
	}
	return nil
}

func (d *lightDevice) Compare(_ agent.Pair, now time.Time) protocol.Quality {
	d.note(now)
	sample := time.Duration(d.sim.cfg.Scenario.Sample)
	n := int(now.Sub(d.sampled) / sample)
	d.sampled = d.sampled.Add(time.Duration(n) * sample)
	d.script.Compare(n, now)
	return d.script.Pairs
}

func (d *lightDevice) Ran(version string, now time.Time) (int, time.Duration) {
	took := scenario.Took
	if version == d.sim.cfg.Candidate {
		took = time.Duration(float64(took) * d.script.Latency(now))
	}
	return 1, took
}

// take takes what came from the broker, or that the connection ended.
func (d *lightDevice) take(p packetRead) {
	now := time.Now()
	if p.err != nil {
		d.sim.cfg.Log.Debug("connection lost", "device", d.script.ID, "err", p.err)
		d.hangUp()
		return
	}
	m, ack, ok := d.conn.message(p)
	if ack != nil {
		d.write(now, ack)
	}
	if ok && d.conn != nil {
		d.send(now, d.light.Receive(now, m))
	}
}

// connect makes a session and announces the device.
func (d *lightDevice) connect(ctx context.Context) {
	select {
	case d.sim.dialing <- struct{}{}:
		defer func() { <-d.sim.dialing }()
	case <-ctx.Done():
		return
	}
	c, err := d.sim.open(ctx, d.script.ID, d.token, d.light.Will())
	now := time.Now()
	if err != nil {
		if ctx.Err() == nil {
			d.sim.cfg.Log.Info("no connection", "device", d.script.ID, "err", err, "retry_in", d.retry)
		}
		d.dial = now.Add(d.retry)
		d.retry = min(2*d.retry, lightRetryMax)
		return
	}
	d.conn, d.retry, d.ping = c, lightRetryMin, now.Add(lightKeepAlive)
	d.send(now, d.light.Connected(now))
}

// hangUp ends the connection as a power cut does, if there is one.
func (d *lightDevice) hangUp() {
	if d.conn == nil {
		return
	}
	d.conn.close()
	d.conn = nil
	d.light.Lost()
	d.dial = time.Now().Add(d.retry)
}

func (d *lightDevice) send(now time.Time, o agent.Out) {
	if d.conn != nil {
		d.write(now, d.conn.encode(o))
	}
}

func (d *lightDevice) write(now time.Time, b []byte) {
	if len(b) == 0 || d.conn == nil {
		return
	}
	_ = d.conn.nc.SetWriteDeadline(now.Add(lightTimeout)) // a connection without deadlines has none to miss
	if _, err := d.conn.nc.Write(b); err != nil {
		d.hangUp()
	}
}
