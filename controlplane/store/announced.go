package store

import (
	"context"
	"time"
)

// An Announced transfer has topics that the broker may hold.
type Announced struct {
	Hash     string
	Chunks   int
	Unwanted time.Time // when the last want that named it went away; zero: one does
}

func scanAnnounced(row scanner) (Announced, error) {
	var a Announced
	var unwanted int64
	err := row.Scan(&a.Hash, &a.Chunks, &unwanted)
	a.Unwanted = fromMillis(unwanted)
	return a, mapError(err)
}

// PutAnnounced records that a transfer's topics are about to be published.
func (t Tx) PutAnnounced(ctx context.Context, hash string, chunks int) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO announced VALUES (?, ?, 0)
		ON CONFLICT (hash) DO UPDATE SET chunks = excluded.chunks, unwanted = 0`, hash, chunks)
	return mapError(err)
}

// MarkUnwanted notes, for each announced transfer, whether a want names it, or
// will by the plan of a rollout:
// now is when it is first seen that none does. It returns those that no want
// named since before the given time.
func (t Tx) MarkUnwanted(ctx context.Context, now, before time.Time) ([]Announced, error) {
	const wanted = `(EXISTS (SELECT 1 FROM desired WHERE offer <> '' AND offer = announced.hash) OR
		EXISTS (SELECT 1 FROM transfers t JOIN desired d ON d.digest = t.digest WHERE t.hash = announced.hash AND t.base IS NULL) OR
		EXISTS (SELECT 1 FROM transfers t JOIN rollouts r ON r.digest = t.digest WHERE t.hash = announced.hash AND
			r.phase IN ('scheduled', 'preparing', 'running', 'held', 'watching')))`
	if _, err := t.tx.ExecContext(ctx, `UPDATE announced SET unwanted = 0 WHERE unwanted <> 0 AND `+wanted); err != nil {
		return nil, mapError(err)
	}
	if _, err := t.tx.ExecContext(ctx, `UPDATE announced SET unwanted = ? WHERE unwanted = 0 AND NOT `+wanted, millis(now)); err != nil {
		return nil, mapError(err)
	}
	return collect(ctx, t.tx, scanAnnounced, `SELECT hash, chunks, unwanted FROM announced
		WHERE unwanted <> 0 AND unwanted <= ? ORDER BY hash`, millis(before))
}

// Announced returns all announced transfers.
func (t Tx) Announced(ctx context.Context) ([]Announced, error) {
	return collect(ctx, t.tx, scanAnnounced, `SELECT hash, chunks, unwanted FROM announced ORDER BY hash`)
}

// DropAnnounced records that a transfer's topics were cleared.
func (t Tx) DropAnnounced(ctx context.Context, hash string) error {
	_, err := t.tx.ExecContext(ctx, `DELETE FROM announced WHERE hash = ?`, hash)
	return mapError(err)
}
