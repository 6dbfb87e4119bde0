package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Ran is a version that answered on a device: from when on, by whose decision,
// and where it comes from.
type Ran struct {
	Model      string          `json:"model"`
	Version    string          `json:"version"`               // NAME:vN as known here, else as the device named it; empty: none
	Digest     protocol.Digest `json:"digest,omitzero"`       // zero: the device stopped having one
	From       time.Time       `json:"from"`                  // when it became active
	Until      time.Time       `json:"until,omitzero"`        // when the next one did; zero: it is still active
	Reported   time.Time       `json:"reported"`              // when this control plane heard of it
	Rollout    int64           `json:"rollout,omitempty"`     // 0: not asked for by a rollout
	StartedBy  string          `json:"started_by,omitempty"`  // the rollout
	ReleasedBy string          `json:"released_by,omitempty"` // who signed the version, or brought it here
	ReleasedAt time.Time       `json:"released_at,omitzero"`  //
	Data       string          `json:"data,omitempty"`        // digest of its training data
	Run        string          `json:"run,omitempty"`         // that trained it
	Parent     string          `json:"parent,omitempty"`      // digest of the version it was trained from
}

// A HistoryQuery selects what ran on a device.
type HistoryQuery struct {
	Device string
	Model  string    // "" for all
	At     time.Time // what ran then; zero: everything, newest first
	Limit  int       // without At: default 100, at most 1,000 of each model
}

// History returns what ran on a device, as it reported, by models and newest first.
// ErrNotFound if the device is neither known nor in the record.
func (c *ControlPlane) History(ctx context.Context, q HistoryQuery) ([]Ran, error) {
	out := []Ran{}
	limit := min(q.Limit, 1000)
	if limit <= 0 {
		limit = 100
	}
	err := c.store.View(ctx, func(tx store.Tx) error {
		models := []string{q.Model}
		if q.Model == "" {
			var err error
			if models, err = tx.ActiveModels(ctx, q.Device); err != nil {
				return err
			}
		}
		until := time.Now().Add(time.Hour)
		if !q.At.IsZero() {
			until, limit = q.At, 1
		}
		for _, model := range models {
			entries, err := tx.Activations(ctx, q.Device, model, until, limit)
			if err != nil {
				return err
			}
			for i, e := range entries {
				r, err := ran(ctx, tx, e)
				if err != nil {
					return err
				}
				switch {
				case i > 0:
					r.Until = entries[i-1].At
				case !q.At.IsZero():
					next, err := tx.NextActivation(ctx, e)
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						return err
					}
					r.Until = next.At
				}
				out = append(out, r)
			}
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		_, err = c.Fleet.Device(ctx, q.Device)
	}
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", q.Device, err)
	}
	return out, nil
}

// ran says of an activation who decided and released.
func ran(ctx context.Context, tx store.Tx, e audit.Entry) (Ran, error) {
	r := Ran{Model: e.Model, Version: e.Detail, Digest: e.Digest, From: e.At, Reported: e.Received, Rollout: e.Rollout}
	if e.Rollout != 0 {
		started, err := tx.RolloutEntry(ctx, e.Rollout)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return r, err
		}
		r.StartedBy = started.Who
	}
	if e.Number == 0 {
		return r, nil
	}
	r.Version = registry.Ref(e.Model, e.Number)
	released, err := tx.Released(ctx, e.Model, e.Number)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	r.ReleasedBy, r.ReleasedAt = released.Who, released.Received
	v, err := tx.Version(ctx, e.Model, e.Number)
	if err != nil {
		return r, err
	}
	lineage, err := registry.Lineage(v)
	if err != nil {
		return r, err
	}
	r.Data, r.Run = lineage.Data, lineage.Run
	if lineage.Parent != nil {
		r.Parent = lineage.Parent.String()
	}
	return r, nil
}

// Audit returns up to limit entries of the record, newest first, before the given
// one (0: the newest), of a device and a model; "" stands for any.
func (c *ControlPlane) Audit(ctx context.Context, device, model string, before uint64, limit int) (entries []audit.Entry, err error) {
	err = c.store.View(ctx, func(tx store.Tx) error {
		entries, err = tx.AuditOf(ctx, device, model, before, limit)
		return err
	})
	return entries, err
}

const (
	// verifyNewest is how many entries of the record are checked at the start, in some
	// ten milliseconds, and verifyEvery is how often all are.
	verifyNewest = 10_000
	verifyEvery  = 24 * time.Hour
)

// checkRecord checks the newest part of the record, and all of it at each tick, until
// ctx ends. What it finds it says in the log, and again each time: nothing here can
// mend it, and nothing waits for it.
func (c *ControlPlane) checkRecord(ctx context.Context, tick <-chan time.Time) {
	known, err := c.store.VerifyNewest(ctx, verifyNewest)
	for {
		switch {
		case errors.Is(err, audit.ErrBroken):
			c.log.Error("the record of changes is not what was written", "err", err)
		case err != nil && ctx.Err() == nil:
			c.log.Warn("the record of changes was not checked", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		var head audit.Head
		if head, err = c.store.VerifyAudit(ctx, known); err == nil {
			known = head
		}
	}
}

// VerifyAudit checks the whole record, and against a head that was kept elsewhere
// unless that is zero, and returns where it ends. audit.ErrBroken names the entry
// that is not what it was.
func (c *ControlPlane) VerifyAudit(ctx context.Context, known audit.Head) (audit.Head, error) {
	return c.store.VerifyAudit(ctx, known)
}
