package store

import (
	"context"
	"time"
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

// Devices returns up to limit devices with their labels in the order of their
// ids, after the given one: all, or those with label key = value.
func (t Tx) Devices(ctx context.Context, key, value, after string, limit int) ([]Device, error) {
	var out []Device
	var err error
	if key == "" {
		out, err = collect(ctx, t.tx, scanDevice, `SELECT `+deviceColumns+` FROM devices d WHERE d.id > ? ORDER BY d.id LIMIT ?`, after, limit)
	} else {
		out, err = collect(ctx, t.tx, scanDevice, `SELECT `+deviceColumns+` FROM labels l JOIN devices d ON d.id = l.device
			WHERE l.key = ? AND l.value = ? AND l.device > ? ORDER BY l.device LIMIT ?`, key, value, after, limit)
	}
	for i := range out {
		if err := t.labels(ctx, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, err
}

// DeviceIDs returns up to limit ids, in order, after the given one: of all
// devices, or of those with label key = value.
func (t Tx) DeviceIDs(ctx context.Context, key, value, after string, limit int) ([]string, error) {
	if key == "" {
		return collect(ctx, t.tx, scanString, `SELECT id FROM devices WHERE id > ? ORDER BY id LIMIT ?`, after, limit)
	}
	return collect(ctx, t.tx, scanString, `SELECT device FROM labels WHERE key = ? AND value = ? AND device > ?
		ORDER BY device LIMIT ?`, key, value, after, limit)
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

// SetHave stores what a device reported, as sent.
func (t Tx) SetHave(ctx context.Context, id string, have []byte) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET have = ? WHERE id = ?`, have, id)
	return oneRow(res, err)
}

// SetBirth stores what a device reported at its start, as sent.
func (t Tx) SetBirth(ctx context.Context, id string, birth []byte) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET birth = ? WHERE id = ?`, birth, id)
	return oneRow(res, err)
}

// SetOnline stores a device's presence.
func (t Tx) SetOnline(ctx context.Context, id string, online bool) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET online = ? WHERE id = ?`, online, id)
	return oneRow(res, err)
}

// Online returns a device's presence.
func (t Tx) Online(ctx context.Context, id string) (online bool, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT online FROM devices WHERE id = ?`, id).Scan(&online)
	return online, mapError(err)
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
