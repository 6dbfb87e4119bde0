package store

import (
	"context"
	"database/sql"
)

// statements runs the statements of one transaction, each of which SQLite compiles
// once: that costs more than to look a row up by its key, and a transaction does
// the same for every device. A statement must not begin again while its rows are
// read.
type statements struct {
	tx       *sql.Tx // closes them when it ends
	compiled map[string]*sql.Stmt
}

func (s statements) of(ctx context.Context, query string) (*sql.Stmt, error) {
	if c, ok := s.compiled[query]; ok {
		return c, nil
	}
	c, err := s.tx.PrepareContext(ctx, query)
	if err == nil {
		s.compiled[query] = c
	}
	return c, err
}

func (s statements) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	c, err := s.of(ctx, query) //nolint:sqlclosecheck // its transaction closes it
	if err != nil {
		return nil, err
	}
	return c.ExecContext(ctx, args...)
}

func (s statements) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	c, err := s.of(ctx, query) //nolint:sqlclosecheck // its transaction closes it
	if err != nil {
		return nil, err
	}
	return c.QueryContext(ctx, args...)
}

func (s statements) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	c, err := s.of(ctx, query) //nolint:sqlclosecheck // its transaction closes it
	if err != nil {
		return s.tx.QueryRowContext(ctx, query, args...) // has the error
	}
	return c.QueryRowContext(ctx, args...)
}
