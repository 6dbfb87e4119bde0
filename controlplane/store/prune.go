package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
)

// A Held is a version and why its bytes must stay; Why is empty if they need not.
type Held struct {
	Number uint64
	Why    string
}

func scanHeld(row scanner) (Held, error) {
	var h Held
	err := row.Scan(&h.Number, &h.Why)
	return h, mapError(err)
}

// Holders returns the versions of a model whose bytes are here, in order, and what
// needs them.
func (t Tx) Holders(ctx context.Context, name string) ([]Held, error) {
	return collect(ctx, t.tx, scanHeld, `SELECT v.number, CASE
		WHEN EXISTS (SELECT 1 FROM aliases a WHERE a.name = v.name AND a.number = v.number) THEN 'an alias names it'
		WHEN EXISTS (SELECT 1 FROM slots s WHERE s.digest = v.digest AND s.slot = 'active') THEN 'a device runs it'
		WHEN EXISTS (SELECT 1 FROM slots s WHERE s.digest = v.digest AND s.slot <> 'failed') THEN 'a device has it'
		WHEN EXISTS (SELECT 1 FROM desired d WHERE d.digest = v.digest) THEN 'a device is to run it'
		WHEN EXISTS (SELECT 1 FROM desired d WHERE d.previous = v.digest) THEN 'a device could return to it'
		WHEN EXISTS (SELECT 1 FROM trials t WHERE t.shadow = v.digest) THEN 'a device is to run it in shadow'
		WHEN EXISTS (SELECT 1 FROM rollouts r WHERE r.digest = v.digest AND r.phase NOT IN ('', 'done', 'stopped', 'aborted', 'superseded'))
			THEN 'a rollout spreads it'
		WHEN EXISTS (SELECT 1 FROM transfers t JOIN announced a ON a.hash = t.hash WHERE t.digest = v.digest) THEN 'the broker still has it'
		ELSE '' END
		FROM versions v JOIN transfers f ON f.hash = v.hash WHERE v.name = ? AND f.payload <> '' ORDER BY v.number`, name)
}

// Prune forgets the bytes of a version: its weights, its transfers, and the updates
// that start from it. What is known of the version stays. It returns the blobs that
// nothing refers to any more.
func (t Tx) Prune(ctx context.Context, name string, number uint64) (blobs []string, err error) {
	v, err := t.Version(ctx, name, number)
	if err != nil {
		return nil, err
	}
	d := v.Digest[:]
	freed, err := collect(ctx, t.tx, scanString, `SELECT payload FROM transfers WHERE digest = ? OR base = ?`, d, d)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{`UPDATE transfers SET payload = '' WHERE hash = ?`, []any{v.Hash}},
		{`DELETE FROM transfers WHERE (digest = ? OR base = ?) AND hash <> ?`, []any{d, d, v.Hash}},
		{`UPDATE versions SET weights = '' WHERE name = ? AND number = ?`, []any{name, number}},
	} {
		if _, err := t.tx.ExecContext(ctx, s.sql, s.args...); err != nil {
			return nil, mapError(err)
		}
	}
	for _, id := range append(freed, v.Weights) {
		var one int
		err := t.tx.QueryRowContext(ctx, `SELECT 1 FROM transfers WHERE payload = ?1 UNION ALL SELECT 1 FROM versions WHERE weights = ?1 LIMIT 1`, id).Scan(&one)
		switch {
		case errors.Is(err, sql.ErrNoRows) && id != "":
			blobs = append(blobs, id)
		case err != nil && !errors.Is(err, sql.ErrNoRows):
			return nil, mapError(err)
		}
	}
	return blobs, nil
}

// DropBlob removes a blob that nothing refers to, and returns how many bytes it had.
func (s *Store) DropBlob(id string) (int64, error) {
	path := s.blobs.path(id)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), os.Remove(path)
}
