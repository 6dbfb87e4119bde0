package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Version is a row of the registry.
type Version struct {
	Name     string
	Number   uint64
	Digest   protocol.Digest
	Task     string
	Created  time.Time
	Payload  []byte // the release, as it is or would be signed
	Envelope []byte // the signed release; nil while unsigned
	Hash     string // of its full transfer
	Bytes    int64  // of the full transfer's payload; read only
	Weights  string // blob, "" after an import
	Report   string // JSON, "" after an import
}

const versionColumns = `v.name, v.number, v.digest, v.task, v.created, v.payload, v.envelope, v.hash, v.weights, v.report,
	(SELECT size FROM transfers t WHERE t.hash = v.hash)`

type scanner interface{ Scan(...any) error }

func scanVersion(row scanner) (Version, error) {
	var v Version
	var created int64
	var digest []byte
	err := row.Scan(&v.Name, &v.Number, &digest, &v.Task, &created, &v.Payload, &v.Envelope, &v.Hash, &v.Weights, &v.Report, &v.Bytes)
	if err != nil {
		return v, mapError(err)
	}
	v.Created = fromMillis(created)
	v.Digest, err = scanDigest(digest)
	return v, err
}

// scanDigest turns a column, NULL included, into a digest.
func scanDigest(b []byte) (protocol.Digest, error) {
	var d protocol.Digest
	if b != nil && len(b) != len(d) {
		return d, fmt.Errorf("digest of %d bytes: %w", len(b), ErrCorrupt)
	}
	copy(d[:], b)
	return d, nil
}

// digestArg is NULL for the zero digest.
func digestArg(d protocol.Digest) any {
	if d.IsZero() {
		return nil
	}
	return d[:]
}

// PutVersion adds a version: ErrExists if its name and number, or its digest,
// are taken. Its transfer must be there already.
func (t Tx) PutVersion(ctx context.Context, v Version) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		v.Name, v.Number, v.Digest[:], v.Task, millis(v.Created), v.Payload, v.Envelope, v.Hash, v.Weights, v.Report)
	return mapError(err)
}

// VersionNumber returns the number of the version of a model with that digest, or
// ErrNotFound.
func (t Tx) VersionNumber(ctx context.Context, name string, d protocol.Digest) (number uint64, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT number FROM versions WHERE digest = ? AND name = ?`, d[:], name).Scan(&number)
	return number, mapError(err)
}

// SignVersion adds the signature to an unsigned version.
func (t Tx) SignVersion(ctx context.Context, name string, number uint64, envelope []byte) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE versions SET envelope = ? WHERE name = ? AND number = ?`, envelope, name, number)
	return oneRow(res, err)
}

// oneRow is ErrNotFound if a statement changed nothing.
func oneRow(res sql.Result, err error) error {
	if err != nil {
		return mapError(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return mapError(cmpOr(err, sql.ErrNoRows))
	}
	return nil
}

func cmpOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Version returns version number of name.
func (t Tx) Version(ctx context.Context, name string, number uint64) (Version, error) {
	return scanVersion(t.tx.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM versions v WHERE v.name = ? AND v.number = ?`, name, number))
}

// LatestVersion returns the version of name with the highest number.
func (t Tx) LatestVersion(ctx context.Context, name string) (Version, error) {
	return scanVersion(t.tx.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM versions v WHERE v.name = ? ORDER BY v.number DESC LIMIT 1`, name))
}

// VersionByAlias returns the version an alias of name stands at.
func (t Tx) VersionByAlias(ctx context.Context, name, alias string) (Version, error) {
	return scanVersion(t.tx.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM versions v JOIN aliases a USING (name, number)
		WHERE a.name = ? AND a.alias = ?`, name, alias))
}

// VersionByDigest returns the version whose model has this digest.
func (t Tx) VersionByDigest(ctx context.Context, d protocol.Digest) (Version, error) {
	return scanVersion(t.tx.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM versions v WHERE v.digest = ?`, d[:]))
}

// Versions returns up to limit versions in the order (name, number), after
// (afterName, afterNumber), of one model or, if name is "", of all.
func (t Tx) Versions(ctx context.Context, name, afterName string, afterNumber uint64, limit int) ([]Version, error) {
	return collect(ctx, t.tx, scanVersion, `SELECT `+versionColumns+` FROM versions v
		WHERE (? = '' OR v.name = ?) AND (v.name, v.number) > (?, ?) ORDER BY v.name, v.number LIMIT ?`,
		name, name, afterName, afterNumber, limit)
}

// ModelNames returns the names of all models, in order.
func (t Tx) ModelNames(ctx context.Context) ([]string, error) {
	return collect(ctx, t.tx, scanString, `SELECT DISTINCT name FROM versions ORDER BY name`)
}

// SetAlias puts alias of name at version number, which must exist.
func (t Tx) SetAlias(ctx context.Context, name, alias string, number uint64) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO aliases VALUES (?, ?, ?)
		ON CONFLICT (name, alias) DO UPDATE SET number = excluded.number`, name, alias, number)
	return mapError(err)
}

// Aliases returns where the aliases of name stand.
func (t Tx) Aliases(ctx context.Context, name string) (map[string]uint64, error) {
	type pair struct {
		alias  string
		number uint64
	}
	pairs, err := collect(ctx, t.tx, func(row scanner) (p pair, err error) {
		return p, row.Scan(&p.alias, &p.number)
	}, `SELECT alias, number FROM aliases WHERE name = ?`, name)
	m := make(map[string]uint64, len(pairs))
	for _, p := range pairs {
		m[p.alias] = p.number
	}
	return m, err
}

func scanString(row scanner) (s string, err error) { return s, row.Scan(&s) }

// collectOf is collect for the rows of many ids: query ends before the list of them,
// and takes no other argument.
func collectOf[T any](ctx context.Context, tx statements, scan func(scanner) (T, error), query string, ids []string) ([]T, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	return collect(ctx, tx, scan, query+`(SELECT value FROM json_each(?))`, string(list))
}

func collect[T any](ctx context.Context, tx statements, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, mapError(err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, mapError(err)
		}
		out = append(out, v)
	}
	return out, mapError(rows.Err())
}
