package store

import (
	"context"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Desired row says what one device should run of one model, since when, and
// how far it is.
type Desired struct {
	Device, Model string
	Digest        protocol.Digest
	Previous      protocol.Digest // where a rollback goes; zero: nowhere
	Rollout       int64           // that last chose it
	Epoch, Rev    uint64          // of the want that first named Digest
	State         string
	Code, Message string // why it failed
	Changed       time.Time
	Offer         string // hash of the update that the want offers, "" for none, or FromCache
}

// FromCache is the Offer of a row whose device had the version when it was decided,
// and fetches nothing.
const FromCache = "cache"

const desiredColumns = `device, model, digest, previous, rollout, epoch, rev, state, code, message, changed, offer`

func scanDesired(row scanner) (Desired, error) {
	var d Desired
	var digest, previous []byte
	var changed int64
	err := row.Scan(&d.Device, &d.Model, &digest, &previous, &d.Rollout, &d.Epoch, &d.Rev, &d.State, &d.Code, &d.Message, &changed, &d.Offer)
	if err != nil {
		return d, mapError(err)
	}
	d.Changed = fromMillis(changed)
	if d.Digest, err = scanDigest(digest); err != nil {
		return d, err
	}
	d.Previous, err = scanDigest(previous)
	return d, err
}

// PutDesired adds or replaces the row of (device, model); the counters of the
// rollouts follow.
func (t Tx) PutDesired(ctx context.Context, d Desired) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO desired VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (device, model) DO UPDATE SET digest = excluded.digest, previous = excluded.previous,
			rollout = excluded.rollout, epoch = excluded.epoch, rev = excluded.rev, state = excluded.state,
			code = excluded.code, message = excluded.message, changed = excluded.changed, offer = excluded.offer`,
		d.Device, d.Model, d.Digest[:], digestArg(d.Previous), d.Rollout, d.Epoch, d.Rev, d.State, d.Code, d.Message, millis(d.Changed), d.Offer)
	return mapError(err)
}

// Desired returns the row of (device, model).
func (t Tx) Desired(ctx context.Context, device, model string) (Desired, error) {
	return scanDesired(t.tx.QueryRowContext(ctx, `SELECT `+desiredColumns+` FROM desired WHERE device = ? AND model = ?`, device, model))
}

// DesiredIn returns all rows of the given devices, in any order.
func (t Tx) DesiredIn(ctx context.Context, devices []string) ([]Desired, error) {
	return collectOf(ctx, t.tx, scanDesired, `SELECT `+desiredColumns+` FROM desired WHERE device IN `, devices)
}

// DesiredPage returns up to limit rows of a model in the order of the devices'
// ids, after the given one.
func (t Tx) DesiredPage(ctx context.Context, model, after string, limit int) ([]Desired, error) {
	return collect(ctx, t.tx, scanDesired, `SELECT `+desiredColumns+` FROM desired
		WHERE model = ? AND device > ? ORDER BY device LIMIT ?`, model, after, limit)
}

// A Want is a device's signed desired state, as published.
type Want struct {
	Device     string
	Epoch, Rev uint64
	Envelope   []byte // nil: nothing is desired, only the numbers are taken
}

func scanWant(row scanner) (Want, error) {
	var w Want
	err := row.Scan(&w.Device, &w.Epoch, &w.Rev, &w.Envelope)
	return w, mapError(err)
}

// PutWant adds or replaces a device's want. (epoch, rev) must not go back.
func (t Tx) PutWant(ctx context.Context, w Want) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO wants VALUES (?, ?, ?, ?)
		ON CONFLICT (device) DO UPDATE SET epoch = excluded.epoch, rev = excluded.rev, envelope = excluded.envelope`,
		w.Device, w.Epoch, w.Rev, w.Envelope)
	return mapError(err)
}

// Want returns a device's want.
func (t Tx) Want(ctx context.Context, device string) (Want, error) {
	return scanWant(t.tx.QueryRowContext(ctx, `SELECT device, epoch, rev, envelope FROM wants WHERE device = ?`, device))
}

// Wants returns the wants of those of the given devices that have one, in any order.
func (t Tx) Wants(ctx context.Context, devices []string) ([]Want, error) {
	return collectOf(ctx, t.tx, scanWant, `SELECT device, epoch, rev, envelope FROM wants WHERE device IN `, devices)
}

// WantedDevices returns up to limit devices that have a want to publish, in
// order, after the given one.
func (t Tx) WantedDevices(ctx context.Context, after string, limit int) ([]string, error) {
	return collect(ctx, t.tx, scanString, `SELECT device FROM wants WHERE device > ? AND envelope IS NOT NULL
		ORDER BY device LIMIT ?`, after, limit)
}
