package store

import (
	"context"
	"errors"
	"time"
)

// An APIToken lets its holder use the HTTP API.
type APIToken struct {
	Name    string
	Role    string // viewer, releaser or admin
	Token   []byte // SHA-256
	Created time.Time
}

func scanAPIToken(row scanner) (APIToken, error) {
	var a APIToken
	var created int64
	err := row.Scan(&a.Name, &a.Role, &a.Token, &created)
	a.Created = fromMillis(created)
	return a, mapError(err)
}

// PutAPIToken adds a token: ErrExists if its name is taken.
func (t Tx) PutAPIToken(ctx context.Context, a APIToken) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO api_tokens VALUES (?, ?, ?, ?)`, a.Name, a.Role, a.Token, millis(a.Created))
	return mapError(err)
}

// DropAPIToken removes a token: ErrNotFound if there is none of that name.
func (t Tx) DropAPIToken(ctx context.Context, name string) error {
	res, err := t.tx.ExecContext(ctx, `DELETE FROM api_tokens WHERE name = ?`, name)
	return oneRow(res, err)
}

// APITokens returns all tokens in the order of their names.
func (t Tx) APITokens(ctx context.Context) ([]APIToken, error) {
	return collect(ctx, t.tx, scanAPIToken, `SELECT name, role, token, created FROM api_tokens ORDER BY name`)
}

// APITokenByHash returns the token with that SHA-256, or ErrNotFound.
func (t Tx) APITokenByHash(ctx context.Context, hash []byte) (APIToken, error) {
	return scanAPIToken(t.tx.QueryRowContext(ctx, `SELECT name, role, token, created FROM api_tokens WHERE token = ?`, hash))
}

// Protect sets how many approvals the versions of a model need; 0: none.
func (t Tx) Protect(ctx context.Context, model string, approvals int) error {
	if approvals == 0 {
		_, err := t.tx.ExecContext(ctx, `DELETE FROM protections WHERE model = ?`, model)
		return mapError(err)
	}
	_, err := t.tx.ExecContext(ctx, `INSERT INTO protections VALUES (?, ?) ON CONFLICT (model) DO UPDATE SET approvals = excluded.approvals`, model, approvals)
	return mapError(err)
}

// Protection returns how many approvals the versions of a model need.
func (t Tx) Protection(ctx context.Context, model string) (approvals int, err error) {
	err = mapError(t.tx.QueryRowContext(ctx, `SELECT approvals FROM protections WHERE model = ?`, model).Scan(&approvals))
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return approvals, err
}

// Approve records an approval of a version; a repeated one is kept as it was.
func (t Tx) Approve(ctx context.Context, model string, number uint64, who string, at time.Time) (added bool, err error) {
	res, err := t.tx.ExecContext(ctx, `INSERT INTO approvals VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, model, number, who, millis(at))
	if err != nil {
		return false, mapError(err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Approvers returns who approved a version, in order.
func (t Tx) Approvers(ctx context.Context, model string, number uint64) ([]string, error) {
	return collect(ctx, t.tx, scanString, `SELECT who FROM approvals WHERE model = ? AND number = ? ORDER BY who`, model, number)
}
