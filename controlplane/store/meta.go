package store

import "context"

// Meta returns the value of a setting that belongs to the store as a whole
// (such as the fleet's name), or ErrNotFound.
func (t Tx) Meta(ctx context.Context, key string) ([]byte, error) {
	var v []byte
	err := t.tx.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = ?`, key).Scan(&v)
	return v, mapError(err)
}

// SetMeta sets it.
func (t Tx) SetMeta(ctx context.Context, key string, value []byte) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO meta VALUES (?, ?)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
	return mapError(err)
}
