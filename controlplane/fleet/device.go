package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/filter"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Device is a machine of the fleet and what it last reported.
type Device struct {
	ID      string            `json:"id"`
	Labels  map[string]string `json:"labels"`
	Created time.Time         `json:"created"`
	Online  bool              `json:"online"`
	Seen    time.Time         `json:"seen,omitzero"`   // last heard of
	Birth   *protocol.Birth   `json:"birth,omitempty"` // nil: never reported
	Have    *protocol.Have    `json:"have,omitempty"`  // nil: never reported
}

// Add adds a device and returns the token it connects with, which is not
// stored and cannot be shown again. ErrExists, ErrReserved, ErrLabel, or
// protocol.ErrID.
func (f *Fleet) Add(ctx context.Context, id string, labels map[string]string) (Device, string, error) {
	if err := protocol.CheckID(id); err != nil {
		return Device{}, "", fmt.Errorf("add device: %w", err)
	}
	if id == AllDevices {
		return Device{}, "", fmt.Errorf("add device %q: %w: it names every device in a rollout's target; choose another", id, ErrReserved)
	}
	if err := checkLabels(labels); err != nil {
		return Device{}, "", fmt.Errorf("add device %s: %w", id, err)
	}
	token := NewToken()
	row := store.Device{ID: id, Token: hashToken(token), Created: now(), Labels: labels}
	err := f.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.PutDevice(ctx, row); err != nil {
			return err
		}
		return tx.Audit(ctx, audit.Entry{Action: audit.DeviceAdd, Device: id, Detail: labelText(labels)})
	})
	if errors.Is(err, ErrExists) {
		err = ErrExists
	}
	if err != nil {
		return Device{}, "", fmt.Errorf("add device %s: %w", id, err)
	}
	d, err := device(row)
	return d, token, err
}

// SetLabels replaces the labels of a device.
func (f *Fleet) SetLabels(ctx context.Context, id string, labels map[string]string) (Device, error) {
	if err := checkLabels(labels); err != nil {
		return Device{}, fmt.Errorf("label device %s: %w", id, err)
	}
	err := f.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.SetLabels(ctx, id, labels); err != nil {
			return err
		}
		return tx.Audit(ctx, audit.Entry{Action: audit.DeviceLabel, Device: id, Detail: labelText(labels)})
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Device{}, fmt.Errorf("label device %s: %w", id, err)
	}
	return f.Device(ctx, id)
}

// RenewToken gives a device another token and returns it; it is not stored and
// cannot be shown again. The one before no longer works. ErrNotFound.
func (f *Fleet) RenewToken(ctx context.Context, id string) (token string, err error) {
	if _, err := f.Device(ctx, id); err != nil { // with a suggestion
		return "", err
	}
	token = NewToken()
	err = f.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.SetDeviceToken(ctx, id, hashToken(token)); err != nil {
			return err
		}
		return tx.Audit(ctx, audit.Entry{Action: audit.DeviceToken, Device: id})
	})
	if err != nil {
		return "", fmt.Errorf("new token of device %s: %w", id, err)
	}
	return token, nil
}

// Device returns the device called id, or ErrNotFound with a suggestion.
func (f *Fleet) Device(ctx context.Context, id string) (Device, error) {
	var row store.Device
	err := f.store.View(ctx, func(tx store.Tx) (err error) {
		if row, err = tx.Device(ctx, id); !errors.Is(err, ErrNotFound) {
			return err
		}
		ids, err := tx.DeviceIDs(ctx, store.Where{}, "", suggestFrom)
		if err != nil {
			return err
		}
		return notFound("device", id, ids)
	})
	if err != nil {
		return Device{}, err
	}
	return device(row)
}

// A Query selects devices.
type Query struct {
	Filter string // see package filter; "" for all
	After  string // id after which to start: Next of the page before
	Limit  int    // default 100, at most 1,000
}

// A Page is one part of a list in the order of the ids.
type Page struct {
	Devices []Device `json:"devices"`
	Next    string   `json:"next,omitempty"` // Query.After of the next page; "" at the end
}

// List returns a page of the devices that q selects, or filter.ErrFilter.
func (f *Fleet) List(ctx context.Context, q Query) (Page, error) {
	w := store.Where{Now: now()}
	if q.Filter != "" {
		var err error
		if w.Expr, err = filter.Parse(q.Filter); err != nil {
			return Page{}, err
		}
	}
	limit := pageSize(q.Limit)
	var rows []store.Device
	err := f.store.View(ctx, func(tx store.Tx) (err error) {
		labels, err := tx.LabelKeys(ctx)
		if err != nil {
			return err
		}
		models, err := tx.ModelNames(ctx)
		if err != nil {
			return err
		}
		if err := filter.Check(q.Filter, w.Expr, labels, models); err != nil {
			return err
		}
		rows, err = tx.Devices(ctx, w, q.After, limit+1)
		return err
	})
	if err != nil {
		return Page{}, fmt.Errorf("list devices: %w", err)
	}
	p := Page{Devices: make([]Device, 0, len(rows))}
	if len(rows) > limit {
		rows = rows[:limit]
		p.Next = rows[limit-1].ID
	}
	for _, row := range rows {
		d, err := device(row)
		if err != nil {
			return Page{}, err
		}
		p.Devices = append(p.Devices, d)
	}
	return p, nil
}

// Count returns how many devices there are, and how many are online.
func (f *Fleet) Count(ctx context.Context) (all, online int, err error) {
	err = f.store.View(ctx, func(tx store.Tx) error {
		all, online, err = tx.CountDevices(ctx)
		return err
	})
	return all, online, err
}

func device(row store.Device) (Device, error) {
	d := Device{ID: row.ID, Labels: row.Labels, Created: row.Created, Online: row.Online, Seen: row.Seen}
	if d.Labels == nil {
		d.Labels = map[string]string{}
	}
	if row.Birth != nil {
		d.Birth = new(protocol.Birth)
		if err := d.Birth.UnmarshalBinary(row.Birth); err != nil {
			return d, fmt.Errorf("stored birth of %s: %w", row.ID, err)
		}
	}
	if row.Have != nil {
		d.Have = new(protocol.Have)
		if err := d.Have.UnmarshalBinary(row.Have); err != nil {
			return d, fmt.Errorf("stored have of %s: %w", row.ID, err)
		}
	}
	return d, nil
}
