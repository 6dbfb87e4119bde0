package store

import (
	"context"
	"time"
)

// A User may ask devices for predictions.
type User struct {
	ID      string
	Token   []byte // SHA-256
	Created time.Time
}

func scanUser(row scanner) (User, error) {
	var u User
	var created int64
	err := row.Scan(&u.ID, &u.Token, &created)
	u.Created = fromMillis(created)
	return u, mapError(err)
}

// PutUser adds a user: ErrExists if the id is taken.
func (t Tx) PutUser(ctx context.Context, u User) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO users VALUES (?, ?, ?)`, u.ID, u.Token, millis(u.Created))
	return mapError(err)
}

// User returns a user.
func (t Tx) User(ctx context.Context, id string) (User, error) {
	return scanUser(t.tx.QueryRowContext(ctx, `SELECT id, token, created FROM users WHERE id = ?`, id))
}

// Users returns up to limit users in the order of their ids, after the given one.
func (t Tx) Users(ctx context.Context, after string, limit int) ([]User, error) {
	return collect(ctx, t.tx, scanUser, `SELECT id, token, created FROM users WHERE id > ? ORDER BY id LIMIT ?`, after, limit)
}
