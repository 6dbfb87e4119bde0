package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Device is a row of the fleet. Birth and Have are what it last reported, as
// it sent them; nil if it never did.
type Device struct {
	ID      string
	Token   []byte // SHA-256
	Created time.Time
	Online  bool
	Seen    time.Time
	Birth   []byte
	Have    []byte
	Labels  map[string]string
}

const deviceColumns = `d.id, d.token, d.created, d.online, d.seen, d.birth, d.have`

func scanDevice(row scanner) (Device, error) {
	var d Device
	var created, seen int64
	err := row.Scan(&d.ID, &d.Token, &created, &d.Online, &seen, &d.Birth, &d.Have)
	d.Created, d.Seen = fromMillis(created), fromMillis(seen)
	return d, mapError(err)
}

// PutDevice adds a device and its labels: ErrExists if the id is taken. The
// rollouts have not looked at it yet.
func (t Tx) PutDevice(ctx context.Context, d Device) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO devices (id, token, created) VALUES (?, ?, ?)`, d.ID, d.Token, millis(d.Created))
	if err != nil {
		return mapError(err)
	}
	return t.putLabels(ctx, d.ID, d.Labels)
}

// SetLabels replaces the labels of a device; the rollouts have to look at it again.
func (t Tx) SetLabels(ctx context.Context, id string, labels map[string]string) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET joined = 0 WHERE id = ?`, id)
	if err := oneRow(res, err); err != nil {
		return err
	}
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM labels WHERE device = ?`, id); err != nil {
		return mapError(err)
	}
	return t.putLabels(ctx, id, labels)
}

func (t Tx) putLabels(ctx context.Context, id string, labels map[string]string) error {
	for k, v := range labels {
		if _, err := t.tx.ExecContext(ctx, `INSERT INTO labels VALUES (?, ?, ?)`, id, k, v); err != nil {
			return mapError(err)
		}
	}
	return nil
}

// Device returns a device with its labels.
func (t Tx) Device(ctx context.Context, id string) (Device, error) {
	d, err := scanDevice(t.tx.QueryRowContext(ctx, `SELECT `+deviceColumns+` FROM devices d WHERE d.id = ?`, id))
	if err != nil {
		return d, err
	}
	return d, t.labels(ctx, &d)
}

// DeviceToken returns the hash of a device's token.
func (t Tx) DeviceToken(ctx context.Context, id string) ([]byte, error) {
	var token []byte
	err := t.tx.QueryRowContext(ctx, `SELECT token FROM devices WHERE id = ?`, id).Scan(&token)
	return token, mapError(err)
}

func (t Tx) labels(ctx context.Context, d *Device) error {
	rows, err := t.tx.QueryContext(ctx, `SELECT key, value FROM labels WHERE device = ?`, d.ID)
	if err != nil {
		return mapError(err)
	}
	defer rows.Close()
	d.Labels = map[string]string{}
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			return mapError(err)
		}
		d.Labels[k] = v
	}
	return mapError(rows.Err())
}

// Devices returns up to limit devices with their labels that w selects, in the
// order of their ids, after the given one.
func (t Tx) Devices(ctx context.Context, w Where, after string, limit int) ([]Device, error) {
	where, args := w.sql()
	devices, err := collect(ctx, t.tx, scanDevice, `SELECT `+deviceColumns+` FROM devices d WHERE d.id > ? AND `+where+` ORDER BY d.id LIMIT ?`,
		append(append([]any{after}, args...), limit)...)
	if err != nil || len(devices) == 0 {
		return nil, err
	}
	return devices, t.allLabels(ctx, devices)
}

// allLabels reads the labels of devices, which are in the order of their ids.
func (t Tx) allLabels(ctx context.Context, devices []Device) error {
	// Not those between the first and the last: a filter may select few of many.
	ids := make([]string, len(devices))
	for i, d := range devices {
		ids[i] = d.ID
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	rows, err := t.tx.QueryContext(ctx, `SELECT device, key, value FROM labels WHERE device IN (SELECT value FROM json_each(?)) ORDER BY device`, string(list))
	if err != nil {
		return mapError(err)
	}
	defer rows.Close()
	for i := range devices {
		devices[i].Labels = map[string]string{}
	}
	for i := 0; rows.Next(); {
		var device, k, v string
		if err := rows.Scan(&device, &k, &v); err != nil {
			return mapError(err)
		}
		for devices[i].ID < device && i+1 < len(devices) {
			i++
		}
		if devices[i].ID == device {
			devices[i].Labels[k] = v
		}
	}
	return mapError(rows.Err())
}

// DeviceIDs returns up to limit ids of devices that w selects, in order, after
// the given one.
func (t Tx) DeviceIDs(ctx context.Context, w Where, after string, limit int) ([]string, error) {
	where, args := w.sql()
	return collect(ctx, t.tx, scanString, `SELECT d.id FROM devices d WHERE d.id > ? AND `+where+` ORDER BY d.id LIMIT ?`,
		append(append([]any{after}, args...), limit)...)
}

// Selects reports whether w selects a device.
func (t Tx) Selects(ctx context.Context, w Where, device string) (selected bool, err error) {
	where, args := w.sql()
	err = t.tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM devices d WHERE d.id = ? AND `+where+`)`,
		append([]any{device}, args...)...).Scan(&selected)
	return selected, mapError(err)
}

// LabelKeys returns the keys of all devices' labels, in order.
func (t Tx) LabelKeys(ctx context.Context) ([]string, error) {
	return collect(ctx, t.tx, scanString, `SELECT DISTINCT key FROM labels ORDER BY key`)
}

// UnjoinedDevices returns up to limit devices that the rollouts have not
// looked at since they were added or relabelled.
func (t Tx) UnjoinedDevices(ctx context.Context, limit int) ([]string, error) {
	return collect(ctx, t.tx, scanString, `SELECT id FROM devices WHERE joined = 0 ORDER BY id LIMIT ?`, limit)
}

// Joined reports whether the rollouts have looked at a device.
func (t Tx) Joined(ctx context.Context, id string) (joined bool, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT joined FROM devices WHERE id = ?`, id).Scan(&joined)
	return joined, mapError(err)
}

// SetJoined records that the rollouts have looked at a device.
func (t Tx) SetJoined(ctx context.Context, id string) error {
	_, err := t.tx.ExecContext(ctx, `UPDATE devices SET joined = 1 WHERE id = ? AND joined = 0`, id)
	return mapError(err)
}

// DeviceHave returns what a device last reported, as sent; nil if it never did.
func (t Tx) DeviceHave(ctx context.Context, id string) (have []byte, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT have FROM devices WHERE id = ?`, id).Scan(&have)
	return have, mapError(err)
}

// Haves returns what devices last reported, as sent: nil where one never did, no
// entry where there is no such device.
func (t Tx) Haves(ctx context.Context, ids []string) (map[string][]byte, error) {
	type row struct {
		id   string
		have []byte
	}
	rows, err := collectOf(ctx, t.tx, func(s scanner) (r row, err error) {
		return r, s.Scan(&r.id, &r.have)
	}, `SELECT id, have FROM devices WHERE id IN `, ids)
	haves := make(map[string][]byte, len(rows))
	for _, r := range rows {
		haves[r.id] = r.have
	}
	return haves, err
}

// A Slot is where a device has a version of a model.
type Slot struct {
	Model  string
	Slot   string // one of the Slot constants
	Digest protocol.Digest
}

// Slots of a model on a device.
const (
	SlotActive    = "active"
	SlotPrevious  = "previous"
	SlotCandidate = "candidate"
	SlotShadow    = "shadow" // runs beside the active one
	SlotFailed    = "failed" // the last version that did not make it
)

// SetHave stores what a device reported, as sent, and its slots.
func (t Tx) SetHave(ctx context.Context, id string, have []byte, slots []Slot) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET have = ? WHERE id = ?`, have, id)
	if err := oneRow(res, err); err != nil {
		return err
	}
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM slots WHERE device = ?`, id); err != nil {
		return mapError(err)
	}
	for _, s := range slots {
		if _, err := t.tx.ExecContext(ctx, `INSERT INTO slots VALUES (?, ?, ?, ?)`, id, s.Model, s.Slot, s.Digest[:]); err != nil {
			return mapError(err)
		}
	}
	return nil
}

// A Birth is what a device reported of itself at its start.
type Birth struct {
	Agent, Kernel, OS, Arch string
	FreeBytes, Boot         uint64
	Raw                     []byte // as sent
}

// SetBirth stores what a device reported at its start.
func (t Tx) SetBirth(ctx context.Context, id string, b Birth) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET birth = ?, agent = ?, kernel = ?, os = ?, arch = ?, free = ?, boot = ? WHERE id = ?`,
		b.Raw, b.Agent, b.Kernel, b.OS, b.Arch, b.FreeBytes, b.Boot, id)
	return oneRow(res, err)
}

// Boot returns the number of a device's last start, 0 if it never told.
func (t Tx) Boot(ctx context.Context, id string) (boot uint64, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT coalesce(boot, 0) FROM devices WHERE id = ?`, id).Scan(&boot)
	return boot, mapError(err)
}

// SetOnline stores a device's presence.
func (t Tx) SetOnline(ctx context.Context, id string, online bool) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET online = ? WHERE id = ?`, online, id)
	return oneRow(res, err)
}

// OnlineIn returns which of the given devices are connected.
func (t Tx) OnlineIn(ctx context.Context, ids []string) (map[string]bool, error) {
	rows, err := collectOf(ctx, t.tx, scanString, `SELECT id FROM devices WHERE online <> 0 AND id IN `, ids)
	online := make(map[string]bool, len(rows))
	for _, id := range rows {
		online[id] = true
	}
	return online, err
}

// SetAllOffline forgets every device's presence.
func (t Tx) SetAllOffline(ctx context.Context) error {
	_, err := t.tx.ExecContext(ctx, `UPDATE devices SET online = 0 WHERE online <> 0`)
	return mapError(err)
}

// SetSeen stores when a device was last heard of.
func (t Tx) SetSeen(ctx context.Context, id string, at time.Time) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET seen = ? WHERE id = ?`, millis(at), id)
	return oneRow(res, err)
}

// CountDevices returns how many devices there are, and how many are online.
func (t Tx) CountDevices(ctx context.Context) (all, online int, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(online), 0) FROM devices`).Scan(&all, &online)
	return all, online, mapError(err)
}
