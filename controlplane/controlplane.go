// Package controlplane is the server side of Sandpiper: the registry of
// models, the fleet, its rollouts, and the broker that carries them, over one
// data folder.
//
//	DIR/lock             held by the one process that has DIR open; its pid
//	DIR/control.db       see package store
//	DIR/blobs/
//	DIR/runs/            see package run
//	DIR/tunings/         see package tune
//	DIR/data/            see package recording
//	DIR/root.cbor        signed root document: every device's trust anchor
//	DIR/keys/            0700
//	    root.key         ed25519, PKCS #8 in PEM, as are the other two
//	    release.key      signs versions; may be kept elsewhere
//	    rollout.key      signs what devices should run
//	    admin.token      of the HTTP API
//
// Init makes the folder, Open opens it, Run serves the fleet. What needs no
// broker works without Run.
package controlplane

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/recording"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/run"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/controlplane/tune"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

var (
	// ErrLocked: another process has the data folder open.
	ErrLocked = errors.New("data folder is in use")
	// ErrNotInitialized: the folder is no data folder.
	ErrNotInitialized = errors.New("not a data folder")
	// ErrExists: Init found something where the folder should be.
	ErrExists = store.ErrExists
	// ErrNoBroker: there is no connection to a broker.
	ErrNoBroker = broker.ErrNotConnected
	// ErrOffline: the device is not connected to the broker.
	ErrOffline = errors.New("device is offline")
	// ErrTimeout: the device did not answer in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrTooLarge: the payload does not fit in a message.
	ErrTooLarge = errors.New("payload is too large")
)

// Config configures a ControlPlane.
type Config struct {
	Dir string // data folder; required

	// Listen is where the embedded broker listens; default
	// broker.DefaultListen. Port 0 picks a free one.
	Listen string
	// Listener, if set, is where it listens instead.
	Listener net.Listener
	TLS      *tls.Config   // of the embedded broker; nil: none, loopback only
	Limits   broker.Limits // of the embedded broker

	// BrokerURL, tcp:// or tls://, is an external broker to use instead.
	// BrokerUsername defaults to c.FLEET.
	BrokerURL                      string
	BrokerUsername, BrokerPassword string
	BrokerTLS                      *tls.Config // nil: the system's roots

	// LockWait is how long to wait for another process to close Dir; default
	// 10 s, negative not at all.
	LockWait time.Duration
	// PredictTimeout is how long Predict waits if its context has no deadline;
	// default 10 s.
	PredictTimeout time.Duration
	// Grace is how long a transfer stays on the broker once no device wants
	// it; default 1 h.
	Grace time.Duration
	// Log receives what an operator acts on; nil discards it.
	Log *slog.Logger
}

const (
	defaultLockWait       = 10 * time.Second
	defaultPredictTimeout = 10 * time.Second
)

// A ControlPlane is an open data folder. Its fields are set by Open, and they
// and its methods are safe for concurrent use.
type ControlPlane struct {
	Registry *registry.Registry
	Fleet    *fleet.Fleet
	Rollout  *rollout.Rollouts
	Runs     *run.Runs
	Tunings  *tune.Tunings
	Sets     *recording.Sets

	cfg          Config
	log          *slog.Logger
	lock         *dirLock
	store        *store.Store
	rootDocument []byte
	root         *artifact.Root
	controlToken string // what we connect to the embedded broker with
	broker       *broker.Broker
	session      atomic.Pointer[broker.Session] // set while Run runs
	replies      replies
	inbox        inbox
}

// Open opens the data folder cfg.Dir for this process alone. ErrNotInitialized,
// or ErrLocked naming the process that has it. Nothing is served before Run.
func Open(ctx context.Context, cfg Config) (_ *ControlPlane, err error) {
	cfg = cfg.withDefaults()
	rootDocument, err := os.ReadFile(filepath.Join(cfg.Dir, rootFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it has no %s; run `sandpiper init` or name another with --dir", cfg.Dir, ErrNotInitialized, rootFile)
	}
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{cfg: cfg, log: cfg.Log, rootDocument: rootDocument, controlToken: fleet.NewToken()}
	c.inbox.init()
	if c.root, err = artifact.OpenRoot(rootDocument); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(cfg.Dir, rootFile), err)
	}
	if c.lock, err = lockDir(ctx, cfg.Dir, cfg.LockWait); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.store, err = store.Open(ctx, cfg.Dir); err != nil {
		return nil, err
	}
	return c, c.build(ctx)
}

func (cfg Config) withDefaults() Config {
	if cfg.LockWait == 0 {
		cfg.LockWait = defaultLockWait
	}
	if cfg.PredictTimeout <= 0 {
		cfg.PredictTimeout = defaultPredictTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// build makes the parts on the open store.
func (c *ControlPlane) build(ctx context.Context) error {
	name, err := fleetName(ctx, c.store)
	if err != nil {
		return err
	}
	release, err := loadKey(c.cfg.Dir, releaseKey, c.root, artifact.RoleRelease)
	if err != nil {
		return err
	}
	online, err := loadKey(c.cfg.Dir, rolloutKey, c.root, artifact.RoleRollout)
	if err != nil {
		return err
	}
	c.Tunings = tune.Open(c.cfg.Dir)
	if c.Runs, err = run.Open(c.cfg.Dir, c.log); err != nil {
		return err
	}
	if c.Sets, err = recording.Open(c.cfg.Dir, c.log); err != nil {
		return err
	}
	if c.Fleet, err = fleet.New(c.store, name, c.controlToken); err != nil {
		return err
	}
	c.Registry, err = registry.New(registry.Config{Store: c.store, Fleet: name, Root: c.root, ReleaseKey: release})
	if err != nil {
		return err
	}
	c.Rollout, err = rollout.New(rollout.Config{
		Store: c.store, Registry: c.Registry, Fleet: name, Key: online, Publisher: publisher{c}, Grace: c.cfg.Grace, Connected: c.Connected, Log: c.log,
	})
	return err
}

// errClosing is why runs end with the control plane.
var errClosing = errors.New("the control plane was shut down")

// Close stops the training runs and releases the folder. Run must have
// returned.
func (c *ControlPlane) Close() error {
	var errs []error
	if c.Runs != nil {
		c.Runs.StopAll(errClosing)
	}
	if c.Sets != nil {
		errs = append(errs, c.Sets.Close())
	}
	if c.broker != nil {
		c.broker.Close()
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	if c.lock != nil {
		errs = append(errs, c.lock.release())
	}
	return errors.Join(errs...)
}

// RootDocument returns the signed root document that devices trust.
func (c *ControlPlane) RootDocument() []byte { return c.rootDocument }

// AdminToken returns the token of the HTTP API.
func (c *ControlPlane) AdminToken() (string, error) { return readToken(c.cfg.Dir) }

// AddDevice adds a device, which joins the newest rollouts that select it, and
// returns the token it connects with; it cannot be shown again.
func (c *ControlPlane) AddDevice(ctx context.Context, id string, labels map[string]string) (fleet.Device, string, error) {
	d, token, err := c.Fleet.Add(ctx, id, labels)
	if err != nil {
		return d, token, err
	}
	c.join(ctx, id)
	return d, token, nil
}

// RemoveDevice forgets a device, ends its connection and lets nobody in by its
// token again.
func (c *ControlPlane) RemoveDevice(ctx context.Context, id string) error {
	if _, err := c.Fleet.Device(ctx, id); err != nil { // with a suggestion
		return err
	}
	if err := c.Rollout.Remove(ctx, id); err != nil {
		return err
	}
	c.disconnect(id)
	return nil
}

// RenewToken gives a device a new token, which cannot be shown again, and ends
// its connection: it comes back with the new one, or not at all.
func (c *ControlPlane) RenewToken(ctx context.Context, id string) (token string, err error) {
	if token, err = c.Fleet.RenewToken(ctx, id); err == nil {
		c.disconnect(id)
	}
	return token, err
}

// disconnect ends the connection of a device to the embedded broker. An
// external broker has credentials of its own.
func (c *ControlPlane) disconnect(device string) {
	if c.broker != nil {
		c.broker.Disconnect(broker.Identity{Kind: broker.Device, ID: device}.String())
	}
}

// SetLabels replaces the labels of a device, which joins the newest rollouts
// that select it now.
func (c *ControlPlane) SetLabels(ctx context.Context, id string, labels map[string]string) (fleet.Device, error) {
	d, err := c.Fleet.SetLabels(ctx, id, labels)
	if err == nil {
		c.join(ctx, id)
	}
	return d, err
}

// join is not a reason to fail: the device is stored, and joins at the latest
// when it is first heard of.
func (c *ControlPlane) join(ctx context.Context, device string) {
	if err := c.Rollout.JoinNew(ctx, device); err != nil {
		c.log.Warn("device not joined to rollouts yet", "device", device, "err", err)
	}
}

// Sign signs a version with the release key in the data folder.
// registry.ErrKey if it is not there.
func (c *ControlPlane) Sign(ctx context.Context, ref string) (registry.Version, error) {
	key, err := loadKey(c.cfg.Dir, releaseKey, c.root, artifact.RoleRelease)
	if err != nil {
		return registry.Version{}, err
	}
	if key == nil {
		return registry.Version{}, fmt.Errorf("sign %s: %w: %s is not there", ref, registry.ErrKey, filepath.Join(keyDir, releaseKey))
	}
	return c.Registry.Sign(ctx, ref, key)
}

// Connected reports whether there is a connection to a broker: rollouts reach
// devices and predictions can be asked for.
func (c *ControlPlane) Connected() bool {
	s := c.session.Load()
	return s != nil && s.Connected()
}

// Listen binds the embedded broker's listener, so that BrokerURL is known and
// an address in use is reported before Run. With an external broker it does
// nothing.
func (c *ControlPlane) Listen() error {
	if c.cfg.BrokerURL != "" || c.broker != nil {
		return nil
	}
	b, err := broker.New(broker.Config{
		Listen: c.cfg.Listen, Listener: c.cfg.Listener, Fleet: c.Fleet.Name(), TLS: c.cfg.TLS, Limits: c.cfg.Limits, Auth: c.authenticate, Log: c.log,
	})
	if err != nil {
		return err
	}
	c.broker = b
	return nil
}

// BrokerURL returns where devices connect: the external broker, or the
// embedded one once Listen was called, "" before.
func (c *ControlPlane) BrokerURL() string {
	switch {
	case c.cfg.BrokerURL != "":
		return c.cfg.BrokerURL
	case c.broker == nil:
		return ""
	case c.cfg.TLS != nil:
		return "tls://" + c.broker.Addr().String()
	}
	return "tcp://" + c.broker.Addr().String()
}

// Broker returns the embedded broker once Listen was called; nil without one.
func (c *ControlPlane) Broker() *broker.Broker { return c.broker }

const authTimeout = 10 * time.Second

func (c *ControlPlane) authenticate(username, password, _ string) (broker.Identity, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), authTimeout)
	defer cancel()
	id, err := c.Fleet.Authenticate(ctx, username, password)
	if err != nil && !errors.Is(err, fleet.ErrDenied) {
		c.log.Error("authentication failed", "user", username, "err", err)
	}
	return broker.Identity{Kind: id.Kind, ID: id.ID}, err == nil
}

// Run serves the fleet until ctx ends, and then returns nil once what was
// under way is stored: the embedded broker, or the connection to the external
// one, the reports of devices and the publishing of rollouts. Training runs,
// which others begin, stop with it.
func (c *ControlPlane) Run(ctx context.Context) error {
	if err := c.Listen(); err != nil {
		return err
	}
	session, err := c.newSession(ctx)
	if err != nil {
		return err
	}
	// Presence is the broker's to tell, and it has not yet.
	err = c.forgetPresence(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	// From the outside in: the session says goodbye while the broker still
	// runs, and what it received is stored after it has ended.
	brokerCtx, stopBroker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBroker()
	inboxCtx, stopInbox := context.WithCancel(context.WithoutCancel(ctx))
	defer stopInbox()
	g, ctx := errgroup.WithContext(ctx)
	if c.broker != nil {
		g.Go(func() error { return c.broker.Run(brokerCtx) })
	}
	c.session.Store(session)
	defer c.session.Store(nil)
	g.Go(func() error {
		defer stopBroker()
		defer stopInbox()
		return session.Run(ctx)
	})
	g.Go(func() error { return c.Rollout.Run(ctx) })
	g.Go(func() error { return c.Rollout.Answer(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		c.Runs.StopAll(errClosing)
		return nil
	})
	g.Go(func() error { return c.Sets.Run(ctx, c.recordLines) })
	g.Go(func() error {
		daily := time.NewTicker(verifyEvery)
		defer daily.Stop()
		c.checkRecord(ctx, daily.C)
		return nil
	})
	g.Go(func() error { return c.inbox.run(inboxCtx, c.Rollout, c.log) })
	return g.Wait()
}

func (c *ControlPlane) newSession(ctx context.Context) (*broker.Session, error) {
	name := c.Fleet.Name()
	will, err := c.state(false)
	if err != nil {
		return nil, err
	}
	cfg := broker.SessionConfig{
		URL: c.cfg.BrokerURL, TLS: c.cfg.BrokerTLS, Username: c.cfg.BrokerUsername, Password: c.cfg.BrokerPassword,
		Will: &will, OnConnect: c.connected, OnLost: c.lost, Log: c.log,
	}
	if cfg.Username == "" {
		cfg.Username = fleet.Identity{Kind: 'c', ID: name}.String()
	}
	if c.broker != nil {
		cfg.Dial, cfg.Password = c.broker.Pipe, c.controlToken
	}
	s, err := broker.NewSession(cfg)
	if err != nil {
		return nil, err
	}
	for _, sub := range []struct {
		filter  string
		handler broker.Handler
	}{
		{protocol.HaveTopic(name, "+"), c.received},
		{protocol.UpTopic(name, "+"), c.received},
		{protocol.BirthTopic(name, "+"), c.received},
		{protocol.EventTopic(name, "+"), c.received},
		{protocol.UsageTopic(name, "+"), c.received},
		{protocol.QualityTopic(name, "+"), c.received},
		{protocol.GetTopic(name, "+"), c.asked},
		{protocol.ReplyTopic(name, fleet.ControlUser, "+", "+"), c.replied},
	} {
		if err := s.Subscribe(ctx, sub.filter, 1, sub.handler); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// connected publishes what must be on the broker after every connect.
func (c *ControlPlane) connected(ctx context.Context) error {
	m, err := c.state(true)
	if err != nil {
		return err
	}
	if err := (publisher{c}).Publish(ctx, m.Topic, m.Payload, m.Retain); err != nil {
		return err
	}
	c.Rollout.Republish()
	return nil
}

// lost forgets who is online when the broker cannot be heard: devices may leave now
// without anybody telling, and one that restarts may have lost what it retained.
func (c *ControlPlane) lost(ctx context.Context) {
	if err := c.forgetPresence(ctx); err != nil && ctx.Err() == nil {
		c.log.Error("presence of devices is not known, and was not forgotten", "err", err)
	}
}

// forgetPresence waits for a store that is full or locked: a device that left would
// be taken for online for ever.
func (c *ControlPlane) forgetPresence(ctx context.Context) error {
	return whenWritable(ctx, c.Rollout.SetAllOffline, func(err error) {
		c.log.Warn("presence of devices waits for the store", "err", err)
	})
}

// whenWritable does what writes to the store, again and again while that is full or
// locked; waits is told of it each time.
func whenWritable(ctx context.Context, do func(context.Context) error, waits func(error)) error {
	for {
		err := do(ctx)
		if err == nil || ctx.Err() != nil || !errors.Is(err, store.ErrBusy) && !errors.Is(err, store.ErrFull) {
			return err
		}
		waits(err)
		select {
		case <-time.After(storeRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *ControlPlane) state(online bool) (broker.Message, error) {
	s := protocol.State{Format: protocol.Format, Online: online, Min: protocol.Version, Max: protocol.Version, T: time.Now().UnixMilli()}
	payload, err := s.AppendBinary(nil)
	return broker.Message{Topic: protocol.StateTopic(c.Fleet.Name()), Payload: payload, Retain: true, QoS: 1}, err
}

// A publisher publishes over the session of the moment.
type publisher struct{ c *ControlPlane }

func (p publisher) Publish(ctx context.Context, topic string, payload []byte, retain bool) error {
	s := p.c.session.Load()
	if s == nil {
		return ErrNoBroker
	}
	return s.Publish(ctx, topic, payload, retain, 1)
}

// loadKey returns a private key of the folder, nil if it is kept elsewhere.
func loadKey(dir, file string, root *artifact.Root, role string) (ed25519.PrivateKey, error) {
	path := filepath.Join(dir, keyDir, file)
	key, err := readKey(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, k := range root.Roles[role].Keys {
		if key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(k)) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s is not a key that %s lists for the role %s", path, rootFile, role)
}
