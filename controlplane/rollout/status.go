package rollout

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Counts is the number of devices in each state; all States are there.
type Counts map[string]int

// A Progress is a rollout with the devices it was the last to choose for.
type Progress struct {
	Rollout Rollout `json:"rollout"`
	Counts  Counts  `json:"counts"`
	Staged  *Staged `json:"staged,omitempty"` // where its plan stands; nil without one
}

// A DeviceStatus is how far one device is.
type DeviceStatus struct {
	Device  string          `json:"device"`
	Ref     string          `json:"ref"` // of the version it should run
	Digest  protocol.Digest `json:"digest"`
	Rollout int64           `json:"rollout"`
	State   string          `json:"state"`
	Code    string          `json:"code,omitempty"`    // why it failed
	Message string          `json:"message,omitempty"` // why it failed
	Online  bool            `json:"online"`
	// Transfer and Bytes are the kind and size of the smallest transfer that its
	// want offers: full, or an update from a version it has; cache and 0 where it
	// had the version as it was told to run it.
	Transfer string    `json:"transfer"`
	Bytes    int64     `json:"bytes"`
	Since    time.Time `json:"since"` // of the state
}

// A Status is how far the devices of a model are.
type Status struct {
	Model    string         `json:"model"`
	Total    int            `json:"total"`
	Counts   Counts         `json:"counts"`
	Rollouts []Progress     `json:"rollouts"` // newest first: the newest, and those that still have devices
	Devices  []DeviceStatus `json:"devices"`
	Next     string         `json:"next,omitempty"` // Query.After of the next page; "" at the end
}

// A Query selects a page of devices.
type Query struct {
	After string // device id
	Limit int    // default 100, at most 1,000
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// Status returns how far the devices of a model are, with a page of them in
// the order of their ids. Its counters are kept, not counted. ErrNotFound if
// the model has had no rollout.
func (r *Rollouts) Status(ctx context.Context, model string, q Query) (Status, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	s := Status{Model: model, Counts: zeroCounts(), Devices: []DeviceStatus{}}
	err := r.store.View(ctx, func(tx store.Tx) error {
		if err := s.progress(ctx, tx); err != nil {
			return err
		}
		return s.page(ctx, tx, q.After, limit)
	})
	if err != nil {
		return Status{}, fmt.Errorf("rollouts of %q: %w", model, err)
	}
	return s, nil
}

func zeroCounts() Counts {
	c := Counts{}
	for _, state := range States {
		c[state] = 0
	}
	return c
}

// noRollout says that a model has no rollout of that kind, or that there is no such
// model: an ErrNotFound.
func noRollout(ctx context.Context, tx store.Tx, model, kind string) error {
	models, err := tx.ModelNames(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(models, model) {
		return fmt.Errorf("model %w%s", ErrNotFound, suggest(near.Match(model, models)))
	}
	return fmt.Errorf("%s %w; `sandpiper rollout start` begins one", kind, ErrNotFound)
}

func (s *Status) progress(ctx context.Context, tx store.Tx) error {
	rows, err := tx.Rollouts(ctx, s.Model)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return noRollout(ctx, tx, s.Model, "rollout")
	}
	for i := len(rows) - 1; i >= 0; i-- {
		counts, err := tx.Counts(ctx, rows[i].ID)
		if err != nil {
			return err
		}
		p, n := Progress{Rollout: fromRow(rows[i]), Counts: zeroCounts()}, 0
		for state, k := range counts {
			p.Counts[state] += k
			s.Counts[state] += k
			n += k
		}
		s.Total += n
		if rows[i].Phase != "" && (len(s.Rollouts) == 0 || plan.Phase(rows[i].Phase).Live()) {
			loaded, err := loadPlan(ctx, tx, rows[i])
			if err != nil {
				return err
			}
			at, err := staged(ctx, tx, loaded)
			if err != nil {
				return err
			}
			p.Staged = &at
		}
		if n > 0 || len(s.Rollouts) == 0 || p.Staged != nil {
			s.Rollouts = append(s.Rollouts, p)
		}
	}
	return nil
}

func (s *Status) page(ctx context.Context, tx store.Tx, after string, limit int) error {
	rows, err := tx.DesiredPage(ctx, s.Model, after, limit+1)
	if err != nil {
		return err
	}
	if len(rows) > limit {
		rows = rows[:limit]
		s.Next = rows[limit-1].Device
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.Device
	}
	online, err := tx.OnlineIn(ctx, ids)
	if err != nil {
		return err
	}
	type choice struct { // which few devices differ in
		digest protocol.Digest
		offer  string
	}
	known := map[choice]offered{}
	for _, row := range rows {
		key := choice{row.Digest, row.Offer}
		o, ok := known[key]
		if !ok {
			if o, err = offerOf(ctx, tx, row); err != nil {
				return err
			}
			known[key] = o
		}
		s.Devices = append(s.Devices, DeviceStatus{
			Device: row.Device, Ref: o.ref, Digest: row.Digest, Rollout: row.Rollout,
			State: row.State, Code: row.Code, Message: row.Message, Online: online[row.Device], Since: row.Changed,
			Transfer: o.kind, Bytes: o.bytes,
		})
	}
	return nil
}

// Models returns the names of the models that have rollouts.
func (r *Rollouts) Models(ctx context.Context) (names []string, err error) {
	err = r.store.View(ctx, func(tx store.Tx) error {
		names, err = tx.RolloutModels(ctx)
		return err
	})
	return names, err
}
