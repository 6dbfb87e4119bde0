package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A User may ask devices for predictions.
type User struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

// AddUser adds a user and returns the token they connect with, which is not
// stored and cannot be shown again. ErrExists, ErrReserved or protocol.ErrID.
func (f *Fleet) AddUser(ctx context.Context, id string) (User, string, error) {
	if err := protocol.CheckID(id); err != nil {
		return User{}, "", fmt.Errorf("add user: %w", err)
	}
	if id == ControlUser {
		return User{}, "", fmt.Errorf("add user %q: %w: it is the control plane's own; choose another", id, ErrReserved)
	}
	token := NewToken()
	row := store.User{ID: id, Token: hashToken(token), Created: now()}
	err := f.store.Update(ctx, func(tx store.Tx) error {
		if err := tx.PutUser(ctx, row); err != nil {
			return err
		}
		return tx.Audit(ctx, audit.Entry{Action: audit.UserAdd, Detail: id})
	})
	if errors.Is(err, ErrExists) {
		err = ErrExists
	}
	if err != nil {
		return User{}, "", fmt.Errorf("add user %s: %w", id, err)
	}
	return User{ID: row.ID, Created: row.Created}, token, nil
}

// Users returns up to limit users (default 100, at most 1,000) in the order of
// their ids, after the given one, and the after of the next page, "" at the end.
func (f *Fleet) Users(ctx context.Context, after string, limit int) (users []User, next string, err error) {
	limit = pageSize(limit)
	var rows []store.User
	err = f.store.View(ctx, func(tx store.Tx) (err error) {
		rows, err = tx.Users(ctx, after, limit+1)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list users: %w", err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].ID
	}
	users = make([]User, 0, len(rows))
	for _, row := range rows {
		users = append(users, User{ID: row.ID, Created: row.Created})
	}
	return users, next, nil
}
