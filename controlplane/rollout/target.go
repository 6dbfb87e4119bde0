package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/filter"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Target selects devices: exactly one of its fields is set.
type Target struct {
	All     bool
	Filter  string   // see package filter
	Devices []string // ids
}

// ParseTarget reads all, a filter such as site=oslo, or device ids with commas between.
func ParseTarget(s string) (Target, error) {
	var t Target
	switch {
	case s == "":
	case s == fleet.AllDevices:
		t.All = true
	case strings.ContainsAny(s, "=<>~("):
		t.Filter = s
	default:
		t.Devices = strings.Split(s, ",")
	}
	return t, t.check()
}

// String is the inverse of ParseTarget: equal targets give equal text.
func (t Target) String() string {
	switch {
	case t.All:
		return fleet.AllDevices
	case t.Filter != "":
		return t.Filter
	}
	return strings.Join(t.ids(), ",")
}

// short is String for a log or an error.
func (t Target) short() string {
	if ids := t.ids(); len(ids) > 3 {
		return fmt.Sprintf("%s and %d more devices", strings.Join(ids[:3], ", "), len(ids)-3)
	}
	return t.String()
}

// ids returns the named devices in order, each once.
func (t Target) ids() []string { return slices.Compact(slices.Sorted(slices.Values(t.Devices))) }

func (t Target) check() error {
	set := 0
	for _, is := range []bool{t.All, t.Filter != "", len(t.Devices) > 0} {
		if is {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("%w: want all, a filter such as site=oslo, or device ids with commas between", ErrTarget)
	}
	if t.Filter != "" {
		if _, err := filter.Parse(t.Filter); err != nil {
			return fmt.Errorf("%w: %w", ErrTarget, err)
		}
	}
	for _, id := range t.Devices {
		if err := protocol.CheckID(id); err != nil {
			return fmt.Errorf("%w: %w", ErrTarget, err)
		}
	}
	return nil
}

// selects reports whether t selects a device now.
func (t Target) selects(ctx context.Context, tx store.Tx, device string) (bool, error) {
	if t.Filter == "" {
		return t.All || slices.Contains(t.Devices, device), nil
	}
	w, err := t.where()
	if err != nil {
		return false, err
	}
	return tx.Selects(ctx, w, device)
}

// where is the filter as the store takes it; without one, every device.
func (t Target) where() (store.Where, error) {
	if t.Filter == "" {
		return store.Where{}, nil
	}
	e, err := filter.Parse(t.Filter)
	return store.Where{Expr: e, Now: time.Now()}, err
}

// devices returns the ids that t selects now, in order: ErrNotFound if a named
// one does not exist, ErrNoDevices if there is none.
func (t Target) devices(ctx context.Context, tx store.Tx) ([]string, error) {
	ids, err := t.lookup(ctx, tx)
	if err == nil && len(ids) == 0 {
		do := "add one with `sandpiper fleet add`"
		if !t.All {
			do = "`sandpiper fleet ls` with a filter shows what it selects"
		}
		err = fmt.Errorf("%s selects %w; %s", t, ErrNoDevices, do)
	}
	return ids, err
}

func (t Target) lookup(ctx context.Context, tx store.Tx) ([]string, error) {
	const most = 10_000_000
	if len(t.Devices) == 0 {
		w, err := t.where()
		if err != nil {
			return nil, err
		}
		labels, err := tx.LabelKeys(ctx)
		if err != nil {
			return nil, err
		}
		models, err := tx.ModelNames(ctx)
		if err != nil {
			return nil, err
		}
		if err := filter.Check(t.Filter, w.Expr, labels, models); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTarget, err)
		}
		return tx.DeviceIDs(ctx, w, "", most)
	}
	ids := t.ids()
	for _, id := range ids {
		if _, err := tx.DeviceToken(ctx, id); err != nil {
			return nil, unknownDevice(ctx, tx, id, err)
		}
	}
	return ids, nil
}

// unknownDevice adds the nearest id to a store.ErrNotFound.
func unknownDevice(ctx context.Context, tx store.Tx, id string, err error) error {
	const suggestFrom = 10_000
	if errors.Is(err, ErrNotFound) {
		ids, err := tx.DeviceIDs(ctx, store.Where{}, "", suggestFrom)
		if err != nil {
			return err
		}
		if s := near.Match(id, ids); s != "" {
			return fmt.Errorf("device %q: %w; did you mean %q?", id, ErrNotFound, s)
		}
	}
	return fmt.Errorf("device %q: %w", id, err)
}
