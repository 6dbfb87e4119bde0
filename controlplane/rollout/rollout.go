// Package rollout decides what devices should run, publishes it and follows
// how far they are.
//
// A rollout is desired state, not a procedure: starting one writes, for each
// device of its target, a signed want with a higher (epoch, rev), in one
// transaction. Everything after that is retained on the broker and can be
// published again at any time; a rollout that is stuck blocks no later one.
//
// A staged rollout has a plan besides (package plan): which devices get the
// version when, and on what condition. Its state is stored before any device is
// told, and a device is told what follows from that state, page by page.
//
// Deciding (decide.go, and package plan) is pure. Start, Rollback, JoinNew and Handle
// load rows, decide, and store in one transaction: when they return, the outcome is
// on disk. Run publishes what was stored.
package rollout

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

var (
	// ErrNotFound: no such version, device or rollout.
	ErrNotFound = store.ErrNotFound
	// ErrUnsigned: the version has no signature of the role release.
	ErrUnsigned = registry.ErrUnsigned
	// ErrNoPrevious: a device has no version to go back to.
	ErrNoPrevious = errors.New("no previous version")
	// ErrNoDevices: the target selects no device.
	ErrNoDevices = errors.New("no devices")
	// ErrTarget: text that is no target.
	ErrTarget = errors.New("invalid target")
	// ErrNoKey: the rollout key is not here, so nothing can be wanted.
	ErrNoKey = errors.New("no rollout key")
)

// A Publisher sends one MQTT message at QoS 1 and returns once the broker has
// it. It must be safe for concurrent use.
type Publisher interface {
	Publish(ctx context.Context, topic string, payload []byte, retain bool) error
}

// Config configures Rollouts.
type Config struct {
	Store     *store.Store
	Registry  *registry.Registry
	Fleet     string
	Key       ed25519.PrivateKey // of the role rollout; nil: nothing can be started
	Publisher Publisher
	// Grace is how long the topics of a transfer stay after the last want that
	// names it; default 1 h.
	Grace time.Duration
	// Connected reports whether devices can be heard; nil: always. Staged rollouts
	// wait while they cannot.
	Connected func() bool
	Log       *slog.Logger // nil: none
}

const defaultGrace = time.Hour

// Rollouts is safe for concurrent use.
type Rollouts struct {
	store    transactions
	registry *registry.Registry
	fleet    string
	key      ed25519.PrivateKey
	pub      Publisher
	grace    time.Duration
	log      *slog.Logger

	connected func() bool
	clock     func() time.Time // time.Now, but for tests

	outbox outbox
	asks   asks
	// idle is set once no staged rollout is under way and all devices of those that
	// were are told.
	idle atomic.Bool
	// settled counts the seconds since the start, or the last connection.
	settled atomic.Int64
}

// transactions is a store, as it is used here.
type transactions interface {
	Update(ctx context.Context, f func(store.Tx) error) error
	View(ctx context.Context, f func(store.Tx) error) error
}

// New returns the rollouts of a fleet. Nothing is published before Run.
func New(cfg Config) (*Rollouts, error) {
	if err := protocol.CheckFleet(cfg.Fleet); err != nil {
		return nil, err
	}
	if cfg.Store == nil || cfg.Registry == nil || cfg.Publisher == nil {
		return nil, errors.New("rollouts need a store, a registry and a publisher")
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Connected == nil {
		cfg.Connected = func() bool { return true }
	}
	r := &Rollouts{
		store: cfg.Store, registry: cfg.Registry, fleet: cfg.Fleet, key: cfg.Key,
		pub: cfg.Publisher, grace: cfg.Grace, log: cfg.Log, connected: cfg.Connected, clock: time.Now,
		outbox: outbox{wake: make(chan struct{}, 1), flushing: make(chan struct{}, 1)},
	}
	r.asks.init()
	return r, nil
}

// A Rollout is one change of what devices should run.
type Rollout struct {
	ID      int64     `json:"id"`
	Kind    string    `json:"kind"` // start or rollback
	Model   string    `json:"model"`
	Ref     string    `json:"ref,omitempty"` // NAME:vN; "" in a rollback
	Digest  string    `json:"digest,omitempty"`
	Target  string    `json:"target"`
	Created time.Time `json:"created"`
	Phase   string    `json:"phase,omitempty"` // of its plan, if it has one
}

func fromRow(row store.Rollout) Rollout {
	r := Rollout{ID: row.ID, Kind: row.Kind, Model: row.Model, Target: row.Target, Created: row.Created, Phase: row.Phase}
	if row.Kind == store.KindStart {
		r.Ref, r.Digest = registry.Ref(row.Model, row.Number), row.Digest.String()
	}
	return r
}

// Started is what a start did.
type Started struct {
	Rollout Rollout `json:"rollout"`
	Devices int     `json:"devices"` // that the target selects now
	Changed int     `json:"changed"` // of those, that did not want this version before, or gave it up
}

// Start makes the version that ref means the desired one of every device that
// target selects, now and later; before, it makes the updates from what those
// devices run. The same start again returns the same rollout
// and changes nothing, but for devices that gave the version up: they are told
// to try again. Errors: ErrNotFound for a version or device,
// ErrUnsigned, registry.ErrNotApproved, ErrNoDevices, ErrNoKey.
func (r *Rollouts) Start(ctx context.Context, ref string, target Target) (Started, error) {
	v, err := r.releasable(ctx, ref, target)
	if err != nil {
		return Started{}, err
	}
	if err := r.prepareUpdates(ctx, v, target); err != nil {
		return Started{}, fmt.Errorf("roll out %s to %s: %w", v.Ref(), target, err)
	}
	at := r.now()
	c := r.change(at)
	var out Started
	err = r.store.Update(ctx, func(tx store.Tx) error {
		if err := registry.Approved(ctx, tx, v.Name, v.Number); err != nil {
			return err
		}
		ids, err := target.devices(ctx, tx)
		if err != nil {
			return err
		}
		row := store.Rollout{Kind: store.KindStart, Model: v.Name, Number: v.Number, Digest: v.Digest, Target: target.String(), Created: at}
		row, again, err := sameOrNew(ctx, tx, row)
		if err != nil {
			return err
		}
		out = Started{Rollout: fromRow(row), Devices: len(ids)}
		if err := c.supersedeFor(ctx, tx, row, ids); err != nil {
			return err
		}
		err = c.each(ctx, tx, ids, func(d device) error {
			if err := d.room(row.Model); err != nil {
				return err
			}
			next, changed := d.start(row)
			if changed {
				out.Changed++
			}
			return c.save(ctx, tx, d, next, changed)
		})
		if err == nil && again && out.Changed > 0 {
			err = recordRollout(ctx, tx, row)
		}
		return err
	})
	if err != nil {
		return Started{}, fmt.Errorf("roll out %s to %s: %w", v.Ref(), target, err)
	}
	r.publish(c.wants)
	if err := r.drain(ctx, at); err != nil {
		return Started{}, err
	}
	r.log.Info("rollout started", "model", v.Name, "version", registry.Ref(v.Name, v.Number), "target", target.short(), "devices", out.Devices, "changed", out.Changed)
	return out, nil
}

// releasable resolves a version that can be rolled out to a target.
func (r *Rollouts) releasable(ctx context.Context, ref string, target Target) (registry.Version, error) {
	v, err := r.registry.Resolve(ctx, ref)
	if err != nil {
		return v, err
	}
	if !v.Signed {
		return v, fmt.Errorf("%s cannot be rolled out: %w with a release key; sign it where that key is kept", v.Ref(), ErrUnsigned)
	}
	if r.key == nil {
		return v, fmt.Errorf("roll out %s: %w", v.Ref(), ErrNoKey)
	}
	return v, target.check()
}

// sameOrNew returns the model's newest rollout if it is the same start again, so that
// a repeated one adds nothing, and adds row otherwise.
func sameOrNew(ctx context.Context, tx store.Tx, row store.Rollout) (_ store.Rollout, again bool, err error) {
	newest, err := tx.NewestRollout(ctx, row.Model)
	if err == nil && newest.Kind == row.Kind && newest.Phase == row.Phase && newest.Digest == row.Digest && newest.Number == row.Number && newest.Target == row.Target {
		return newest, true, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return row, false, err
	}
	row, err = putRollout(ctx, tx, row)
	return row, false, err
}

// putRollout adds a rollout and records who asked for it.
func putRollout(ctx context.Context, tx store.Tx, row store.Rollout) (store.Rollout, error) {
	var err error
	if row.ID, err = tx.PutRollout(ctx, row); err != nil {
		return row, err
	}
	return row, recordRollout(ctx, tx, row)
}

// recordRollout records who asked for a rollout.
func recordRollout(ctx context.Context, tx store.Tx, row store.Rollout) error {
	action := audit.RolloutStart
	if row.Kind == store.KindRollback {
		action = audit.RolloutRollback
	}
	return tx.Audit(ctx, audit.Entry{Action: action, Model: row.Model, Number: row.Number, Digest: row.Digest, Rollout: row.ID, Detail: row.Target})
}

func (r *Rollouts) now() time.Time { return r.clock().UTC().Truncate(time.Millisecond) }
