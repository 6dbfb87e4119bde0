// Package agent is the daemon on a device: it keeps the wanted versions of its
// models in a cache on flash, verified and on trial before they stay, and
// answers prediction requests over MQTT and locally, with or without its
// control plane.
//
// Deciding and doing are apart. step is a function of the durable state and an
// event; the loop of Run persists what it returns and then runs the effects,
// each of which may be run twice. Everything else (the MQTT session, downloads,
// requests, local clients) sends events to that loop or reads what it published.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/broker"
	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// SocketName is the file in the data folder that local clients talk to.
const SocketName = "agent.sock"

// A Config is all that an agent needs. Fleet, Device, Root and DataDir are
// required, and Broker or Dial.
type Config struct {
	Fleet, Device string
	Broker        string // tcp://host:port or tls://host:port
	Username      string // d.DEVICE by default; also the MQTT client id
	Token         string // broker password; secret
	Root          []byte // signed root document: the keys this device trusts
	DataDir       string // model cache; created if missing
	Version       string // of the agent, for the birth message
	Log           *slog.Logger

	QuotaBytes int64         // size of the cache file; 0 takes 64 MiB
	DailyBytes int64         // most that downloads may cost in 24 hours, at least MinDailyBytes; 0: no limit
	QueueLen   int           // requests that may wait, one more answers busy; 0 takes 256
	Trial      time.Duration // how long a new version is on trial; 0 takes 10 s
	// MaxSlowdown is how many times as long as the version it replaces a new one
	// may take for a prediction, on this device; 0 takes 8, below 0 any.
	MaxSlowdown float64

	// Simple answers requests on sp1/F/d/D/p/MODEL, which name nobody, on
	// sp1/F/d/D/o/MODEL, for tools that know fixed topics only.
	Simple bool
	// Local is the agent's own MQTT listener.
	Local Local
	// HomeAssistant shows the device there.
	HomeAssistant HomeAssistant
	// Socket is the path of the Unix socket for local clients, usually
	// SocketName in DataDir; none if empty. Paths are limited to 107 bytes.
	Socket string
	// Fallback is what is fetched when no update from a version in the cache can
	// be used: FallbackFull, the default, or FallbackNever.
	Fallback string
	// Dial connects to the broker in place of Broker.
	Dial func(ctx context.Context) (net.Conn, error)
	// Disk is asked before each step that changes the data folder: a simulated
	// fault, see store.Config.
	Disk func(store.Step) error
	// Tamper may change an output before it is judged: a simulated fault.
	Tamper func(model string, version protocol.Digest, y []float32)
	// BackoffMax is the longest wait between two attempts to connect; 0 takes 1 min.
	BackoffMax time.Duration
}

func (c *Config) setDefaults() error {
	if err := errors.Join(protocol.CheckFleet(c.Fleet), protocol.CheckID(c.Device)); err != nil {
		return err
	}
	if c.DataDir == "" {
		return errors.New("no data folder")
	}
	if c.Username == "" {
		c.Username = "d." + c.Device
	}
	if c.QueueLen == 0 {
		c.QueueLen = 256
	}
	if c.DailyBytes != 0 && c.DailyBytes < MinDailyBytes {
		return fmt.Errorf("a budget of %d bytes a day; give at least %d, or 0 for none", c.DailyBytes, MinDailyBytes)
	}
	if c.Trial == 0 {
		c.Trial = 10 * time.Second
	}
	if c.MaxSlowdown == 0 {
		c.MaxSlowdown = slowFactor
	}
	if c.Fallback == "" {
		c.Fallback = FallbackFull
	}
	if c.Fallback != FallbackFull && c.Fallback != FallbackNever {
		return fmt.Errorf("fallback %q, want %s or %s", c.Fallback, FallbackFull, FallbackNever)
	}
	if h := c.HomeAssistant; h.Prefix != "" && !h.Broker && c.Local.Listen == "" && c.Local.Listener == nil {
		return errors.New("no local listener, by which Home Assistant shall see the device")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("device", c.Device)
	return nil
}

// A cache is what the agent needs of its store; tests put failing ones in place.
type cache interface {
	Commit(store.Change) error
	Slot(store.Key) (store.Slot, error)
	Slots() ([]store.Key, error)
	State() ([]byte, error)
	Usage() ([]byte, error)
	SetUsage([]byte) error
	Events() ([]store.Pending, error)
	DropEvents(...uint64) error
	Close() error
}

// An Agent serves one device. Its methods are safe for concurrent use.
type Agent struct {
	cfg   Config
	root  *artifact.Root
	files *store.Store // exported copies and the boot counter, beside the cache
	cache cache
	link  *link.Link

	// owner holds one token: who has it decides, and owns the fields below.
	// Run keeps it while it runs.
	owner      chan struct{}
	state      state
	deferred   map[string]delivery    // waiting for a disk that can be written, by model and kind
	unexported map[string]effect      // copies that the disk did not take, by model
	trials     map[string]*time.Timer // clocks of trials, by model
	fetches    map[string]*fetch      // downloads under way, by model
	storage    string                 // what is wrong with the disk, in words; "" when nothing is

	snapshot atomic.Pointer[state]  // the state last persisted
	problem  atomic.Pointer[string] // the same as storage
	diskTold atomic.Bool            // the control plane knows that the disk takes nothing
	running  atomic.Bool
	boot     atomic.Uint64

	deliveries chan delivery                            // events for the loop
	installs   chan delivery                            // the same, unbuffered: taken only while the loop runs
	control    chan link.Message                        // want and ack, for the loop
	wall       func() time.Time                         // time.Now, but for tests: the device's clock, for people and schedules
	measure    func(*predictor.Predictor) time.Duration // measure, but for tests
	scrubEvery time.Duration                            // scrubPeriod, but for tests
	scrubbed   chan error                               // what a check of the cache found, for the loop
	changed    chan struct{}                            // capacity 1: there is something to announce
	waiting    sync.Map                                 // why a download does not go on: string, by model
	network    network                                  // what was found out about the broker
	budget     *budget                                  // of downloads
	mail       mailbox                                  // chunks, for the downloads
	inFlight   chan struct{}                            // capacity chunksInFlight: chunks being fetched
	models     models                                   // what answers
	service    *service                                 // prediction requests
	local      *broker.Broker                           // clients beside the device; nil if there shall be none
	board      board                                    // what Home Assistant was told
	turns      turns                                    // versions that wait for their hour
	localHave  []byte                                   // the report they were told last; owned by publishChanges
	batches    bool                                     // requests that wait for one model are computed together
	usage      *usage                                   // counters
	pipelines  *pipelines                               // predictions that nobody asks for
	notices    *notices                                 // events that the disk could not take
	closed     sync.Once
	closeErr   error
}

// New opens the cache of c.DataDir; nothing starts. The error wraps
// store.ErrLocked when another agent has it open, and is one when it belongs to
// another device, whose models would not verify here and be given up.
func New(c Config) (*Agent, error) {
	if err := c.setDefaults(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	root, err := artifact.OpenRoot(c.Root)
	if err != nil {
		return nil, fmt.Errorf("agent: root document: %w", err)
	}
	a := &Agent{
		cfg:        c,
		root:       root,
		owner:      make(chan struct{}, 1),
		deferred:   make(map[string]delivery),
		unexported: make(map[string]effect),
		trials:     make(map[string]*time.Timer),
		fetches:    make(map[string]*fetch),
		deliveries: make(chan delivery, 16),
		installs:   make(chan delivery),
		control:    make(chan link.Message, 2*store.MaxEvents),
		wall:       time.Now,
		measure:    measure,
		scrubEvery: scrubPeriod,
		scrubbed:   make(chan error),
		changed:    make(chan struct{}, 1),
		inFlight:   make(chan struct{}, chunksInFlight),
		batches:    batches(kernel.Tier()),
		usage:      newUsage(),
		notices:    &notices{},
	}
	a.service = newService(a, c.QueueLen)
	if a.local, err = a.newLocal(); err != nil {
		return nil, fmt.Errorf("agent: local listener: %w", err)
	}
	a.pipelines = newPipelines(a)
	a.models.changed = make(chan struct{}, 1)
	if a.link, err = link.New(a.linkConfig()); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if a.files, err = store.Open(store.Config{Dir: c.DataDir, Quota: c.QuotaBytes, Disk: c.Disk}); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.cache = a.files
	a.budget = newBudget(c.DailyBytes, a.files)
	if err := a.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("agent: %w", err), a.files.Close())
	}
	a.owner <- struct{}{}
	return a, nil
}

// load reads the durable state. One that cannot be read is begun anew: the
// exported copies are found by restore.
func (a *Agent) load() error {
	b, err := a.cache.State()
	if err != nil {
		return err
	}
	s, err := decodeState(b)
	if err != nil {
		a.cfg.Log.Error("device state is not readable, beginning anew", "err", err)
	}
	if f, d := a.cfg.Fleet, a.cfg.Device; s.Device != "" && (s.Fleet != f || s.Device != d) {
		return fmt.Errorf("data folder %s belongs to device %s of fleet %s, and this is device %s of fleet %s; use another folder, or remove that one",
			a.cfg.DataDir, s.Device, s.Fleet, d, f)
	}
	s.Fleet, s.Device = a.cfg.Fleet, a.cfg.Device
	a.state = s
	a.publishState()
	a.setStorage("")
	for _, f := range a.files.Findings() {
		a.cfg.Log.Error("model cache was damaged", "err", f)
	}
	if a.files.ReadOnly() {
		a.setStorage("write model cache: " + store.ErrReadOnly.Error()) // as Commit says it
	}
	return nil
}

// Close closes the cache. Run does it at its end; it is for an Agent that was
// never run.
func (a *Agent) Close() error {
	a.closed.Do(func() { a.closeErr = a.cache.Close() })
	return a.closeErr
}

func (a *Agent) publishState() {
	s := a.state
	a.snapshot.Store(&s)
	a.models.poke()
}

// announce says that there may be something to publish.
func (a *Agent) announce() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

func (a *Agent) linkConfig() link.Config {
	f, d := a.cfg.Fleet, a.cfg.Device
	up := func(text string) link.Message {
		return link.Message{Topic: protocol.UpTopic(f, d), Payload: []byte(text), QoS: 1, Retained: true}
	}
	return link.Config{
		URL:        a.cfg.Broker,
		Dial:       a.cfg.Dial,
		ClientID:   a.cfg.Username,
		Username:   a.cfg.Username,
		Password:   a.cfg.Token,
		Will:       up(protocol.Offline),
		Goodbye:    up(protocol.Offline),
		BackoffMax: a.cfg.BackoffMax,
		Connected:  a.connected,
		Received:   a.received,
		Log:        a.cfg.Log,
	}
}

// DefaultSocket returns the socket's path for the data folder dir.
func DefaultSocket(dir string) string { return filepath.Join(dir, SocketName) }

func platform() (string, string) { return runtime.GOOS, runtime.GOARCH }
