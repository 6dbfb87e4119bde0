// Package store keeps the control plane's state in one folder: an SQLite
// database for everything that is looked up, and content-addressed files for
// model payloads and float32 weights.
//
//	DIR/control.db      SQLite, write-ahead log, synchronous FULL
//	DIR/blobs/ab/abcd…  one file per blob, named by its SHA-256 in hex
//
// All SQL of the control plane is in this package, one file per noun. What
// Update returned nil for survives a power cut; Close is never needed for that.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrNotFound: no such row. registry and fleet return it too.
	ErrNotFound = errors.New("not found")
	// ErrExists: a row or file with this identity is already there.
	ErrExists = errors.New("already exists")
	// ErrBusy: another program holds the database for longer than the busy timeout.
	ErrBusy = errors.New("store is locked by another program")
	// ErrFull: no space left for the database or a blob.
	ErrFull = errors.New("store is full")
	// ErrCorrupt: bytes on disk are not what was written.
	ErrCorrupt = errors.New("store is damaged")
	// ErrNewer: the database was written by a later version of this program.
	ErrNewer = errors.New("store was written by a newer version")
)

const (
	dbFile      = "control.db"
	busyTimeout = 5 * time.Second
	readers     = 4
)

//go:embed migrations/*.sql
var migrations embed.FS

// A Store is safe for concurrent use. Writers take turns; readers see the last
// committed state and wait for nobody.
type Store struct {
	dir   string
	w, r  *sql.DB
	blobs blobs
}

// A Tx is one transaction. Its methods, one file per noun, are the only SQL of
// the control plane. It must not be used after the function it was given to.
type Tx struct{ tx statements }

// Open opens or creates the store in dir and brings its schema up to date.
func Open(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, dbFile)
	s, err := open(ctx, dir, path)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, diskError(dir, mapError(err)))
	}
	return s, nil
}

func open(ctx context.Context, dir, path string) (_ *Store, err error) {
	if err := os.MkdirAll(filepath.Join(dir, blobDir), 0o700); err != nil {
		return nil, err
	}
	// SQLite would create it with the umask's mode.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, blobs: blobs{filepath.Join(dir, blobDir)}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.w, err = openDB(path, "_txlock=immediate"); err != nil {
		return nil, err
	}
	s.w.SetMaxOpenConns(1)
	if err := migrate(ctx, s.w); err != nil {
		return nil, err
	}
	if s.r, err = openDB(path, "_pragma=query_only(1)"); err != nil {
		return nil, err
	}
	s.r.SetMaxOpenConns(readers)
	s.r.SetMaxIdleConns(readers)
	return s, syncDir(dir)
}

func openDB(path, extra string) (*sql.DB, error) {
	// synchronous FULL: in WAL mode each commit is fsynced, where NORMAL would
	// lose the last ones on a power cut (sqlite.org/pragma.html#pragma_synchronous).
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String() +
		fmt.Sprintf("?_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&%s",
			busyTimeout.Milliseconds(), extra)
	return sql.Open("sqlite", dsn)
}

func migrationsOf(db *sql.DB) (*goose.Provider, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, sub, goose.WithDisableGlobalRegistry(true))
}

func migrate(ctx context.Context, db *sql.DB) error {
	p, err := migrationsOf(db)
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("schema %d, this program knows %d: %w", current, target, ErrNewer)
	}
	_, err = p.Up(ctx)
	return err
}

// Close waits for transactions under way.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.r, s.w} { // the writer last: it checkpoints the log
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Update runs f in a write transaction. When it returns nil, what f wrote is
// on disk; otherwise nothing of it is. f must not call Update or View.
func (s *Store) Update(ctx context.Context, f func(Tx) error) error {
	return diskError(s.dir, run(ctx, s.w, nil, f))
}

// View runs f in a read transaction: one consistent state.
func (s *Store) View(ctx context.Context, f func(Tx) error) error {
	return diskError(s.dir, run(ctx, s.r, &sql.TxOptions{ReadOnly: true}, f))
}

func run(ctx context.Context, db *sql.DB, opts *sql.TxOptions, f func(Tx) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return mapError(err)
	}
	if err := f(Tx{statements{tx, map[string]*sql.Stmt{}}}); err != nil {
		return errors.Join(mapError(err), mapError(ignoreDone(tx.Rollback())))
	}
	return mapError(tx.Commit())
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) { // the context ended first
		return nil
	}
	return err
}

// mapError turns what SQLite says into this package's errors.
func mapError(err error) error {
	var e *sqlite.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case !errors.As(err, &e):
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: %v", ErrBusy, err)
	case sqlite3.SQLITE_FULL:
		return full(err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	case sqlite3.SQLITE_CONSTRAINT:
		if c := e.Code(); c == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || c == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
			return fmt.Errorf("%w: %v", ErrExists, err)
		}
	}
	return err
}

func full(err error) error { return fmt.Errorf("%w: %v; free some space on its disk", ErrFull, err) }

// diskError turns an error for want of space in dir into ErrFull.
//
// SQLite says so of a failed write, but calls the same a disk I/O error when
// it is the shared memory of the log that does not grow (os_unix.c, "unixShmMap").
func diskError(dir string, err error) error {
	var e *sqlite.Error
	switch {
	case errors.Is(err, ErrFull):
		return err
	case noSpace(err):
		return full(err)
	case errors.As(err, &e):
		switch e.Code() {
		case sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE:
			if noSpace(tryDisk(dir)) {
				return full(err)
			}
		}
	}
	return err
}

func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// tryDisk writes what SQLite needs to go on, and takes it away again. Asking the
// file system how much is free would miss the quota of a user.
func tryDisk(dir string) (err error) {
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

func millis(t time.Time) int64 { return t.UnixMilli() }

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
