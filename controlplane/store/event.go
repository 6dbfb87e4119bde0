package store

import (
	"context"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// An Event is something a device told, once.
type Event struct {
	Device    string
	Boot, Seq uint64
	At        time.Time // the device's clock
	Received  time.Time
	Kind      string
	Model     string
	Digest    protocol.Digest
	Detail    string
}

func scanEvent(row scanner) (Event, error) {
	var e Event
	var at, received int64
	var digest []byte
	err := row.Scan(&e.Device, &e.Boot, &e.Seq, &at, &received, &e.Kind, &e.Model, &digest, &e.Detail)
	if err != nil {
		return e, mapError(err)
	}
	e.At, e.Received = fromMillis(at), fromMillis(received)
	e.Digest, err = scanDigest(digest)
	return e, err
}

// PutEvent stores an event. false: it was told before (same device, boot and seq),
// and is kept as it was then.
func (t Tx) PutEvent(ctx context.Context, e Event) (added bool, err error) {
	r, err := t.tx.ExecContext(ctx, `INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		e.Device, e.Boot, e.Seq, millis(e.At), millis(e.Received), e.Kind, e.Model, digestArg(e.Digest), e.Detail)
	if err != nil {
		return false, mapError(err)
	}
	n, err := r.RowsAffected()
	return n > 0, mapError(err)
}

// Events returns the last limit events of a device, newest first.
func (t Tx) Events(ctx context.Context, device string, limit int) ([]Event, error) {
	return collect(ctx, t.tx, scanEvent, `SELECT device, boot, seq, t, received, kind, model, digest, detail
		FROM events WHERE device = ? ORDER BY boot DESC, seq DESC LIMIT ?`, device, limit)
}
