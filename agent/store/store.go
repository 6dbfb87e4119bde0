// Package store is the agent's cache on flash: model versions, the state that
// decisions are made from, and events that wait for the control plane.
//
// One bbolt file, cache.db, in the data folder:
//
//	bucket                 key                 value
//	meta                   format              "2"
//	meta                   state               the caller's device state
//	meta                   usage               the caller's counters
//	slot/MODEL/DIGEST      release             signed release envelope
//	slot/MODEL/DIGEST      descriptor          transfer descriptor
//	slot/MODEL/DIGEST      payload             the transfer's bytes, if at most MaxInBucket
//	slot/MODEL/DIGEST      file                SHA-256 and size of its file, if they are more
//	events                 sequence, 8 bytes   one event; big-endian, from 1
//
// Every value begins with the first 16 bytes of SHA-256 over bucket, key and
// value, because bbolt's pages have no checksum: of 900 random damages to a
// file, 58 gave silently wrong data. All of them are verified by Open, which
// takes no longer than it is given, and by Check.
//
// A slot has a bucket of its own, and its blob, its release and the state that
// points to it are written in one transaction: 1.2 bytes written per useful
// byte, against 7.2 with a transaction for each 4 KB. A large blob is written
// once, as it arrives, into slot-MODEL-DIGEST.part (see Part), which becomes
// slot-MODEL-DIGEST.bin before the transaction that points to it.
//
// Beside it are golden-MODEL.bin, the last confirmed version of each model as
// an artifact file, from which a damaged database is rebuilt, and counters, a copy
// of the number of starts, which must not repeat when the database is lost. The
// golden copy of a version that has a file is a second name of that file, where
// the file system has such.
//
// Format 1 had no files. It is read, and becomes format 2 with the first
// transaction. A newer format than 2 is left untouched.
package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Errors of a Store.
var (
	// ErrLocked: another process has the cache open.
	ErrLocked = errors.New("model cache is in use by another process")
	// ErrQuota: the change does not fit in the quota. The text says how much is
	// in use, and what to do.
	ErrQuota = errors.New("model cache quota reached")
	// ErrFull: the disk has no space left.
	ErrFull = errors.New("disk is full")
	// ErrReadOnly: the data folder cannot be written.
	ErrReadOnly = errors.New("data folder is read-only")
	// ErrDamaged: a value does not match its checksum, or the file is not
	// readable as a database.
	ErrDamaged = errors.New("damaged")
	// ErrMissing: there is no such slot.
	ErrMissing = errors.New("no such slot")
	// ErrFormat: the cache was written by a newer agent.
	ErrFormat = errors.New("model cache has a newer format; update the agent")
)

const (
	fileName     = "cache.db"
	damagedName  = "cache.db.damaged"
	countersName = "counters"
	format       = "2"
	firstFormat  = "1" // the oldest that is read
	pageSize     = 4096
	lockTimeout  = time.Second

	// DefaultQuota is the most that cache.db and the files of slots take, bytes.
	DefaultQuota = 64 << 20
	// DefaultOpenLimit is how long a database may take to open and to be checked.
	DefaultOpenLimit = time.Minute
	// MaxEvents is how many events wait; the oldest gives way.
	MaxEvents = 256
)

var (
	metaBucket   = []byte("meta")
	eventsBucket = []byte("events")
	formatKey    = []byte("format")
	stateKey     = []byte("state")
	usageKey     = []byte("usage")
	slotPrefix   = []byte("slot/")
	slotKeys     = [3][]byte{[]byte("release"), []byte("descriptor"), []byte("payload")}
	fileKey      = []byte("file")
)

// Config says where a Store lives.
type Config struct {
	Dir   string // the data folder; created with mode 0700
	Quota int64  // most that cache.db and the files of slots take, bytes; 0 takes DefaultQuota
	// OpenLimit is how long the database may take to open and to be checked;
	// then it is taken for damaged. 0 takes DefaultOpenLimit.
	OpenLimit time.Duration
	// Disk is asked before each step that changes the folder, and told of each
	// transaction: an error is what the disk says. For simulated faults.
	Disk func(Step) error
}

// A Key names a slot.
type Key struct {
	Model  string
	Digest protocol.Digest
}

// A Slot is one cached version: what arrived, byte for byte.
type Slot struct {
	Key
	Release    []byte
	Descriptor []byte
	Payload    []byte
}

// A Store is safe for concurrent use. No method keeps a transaction open.
type Store struct {
	cfg      Config
	dir      string
	disk     disk
	check    func(*Store, *bbolt.DB) error // (*Store).verify, but for tests
	readOnly bool                          // set by Open

	mu       sync.Mutex // guards what follows, not what bbolt does: it has its own locks
	db       *bbolt.DB  // nil when closed, or when the folder is read-only and has no database
	older    bool       // db has a format before ours
	findings []string
}

// Open opens or creates the cache. A database that does not open or is damaged
// is set aside as cache.db.damaged and a new one begun, with what of the old
// one is readable and whole; Findings tells.
//
// In a folder that cannot be written it opens what is there for reading, and
// every change fails with ErrReadOnly. The error is ErrLocked, ErrFormat, or
// of the operating system.
func Open(c Config) (*Store, error) { return openWith(c, (*Store).verify) }

func openWith(c Config, check func(*Store, *bbolt.DB) error) (*Store, error) {
	if c.Quota == 0 {
		c.Quota = DefaultQuota
	}
	if c.OpenLimit == 0 {
		c.OpenLimit = DefaultOpenLimit
	}
	s := &Store{cfg: c, dir: c.Dir, disk: disk{c.Disk}, check: check}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil && !isReadOnly(err) {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Join(c.Dir, fileName), err)
	}
	return s, nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// open sets db. Its caller has mu, or is the only one.
func (s *Store) open() error {
	path := s.path(fileName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := s.create(nil); isReadOnly(err) {
			s.readOnly = true
			return nil
		} else if err != nil {
			return err
		}
	}
	o := s.openWithin(false)
	if isReadOnly(o.err) {
		s.readOnly = true
		o = s.openWithin(true)
	}
	switch {
	case o.err == nil:
		s.db, s.older = o.db, o.older
		return s.dropDamagedFiles()
	case !errors.Is(o.err, ErrDamaged):
		return o.err
	}
	s.findings = append(s.findings, o.err.Error())
	if s.readOnly {
		return nil
	}
	if err := s.disk.rename(path, s.path(damagedName)); err != nil {
		return mapped(err)
	}
	if err := s.create(o.saved); err != nil {
		return err
	}
	if o = s.openWithin(false); o.err != nil {
		return o.err
	}
	s.db, s.older = o.db, false
	return s.dropDamagedFiles()
}

// An opened is a database that opened, or why it did not.
type opened struct {
	db    *bbolt.DB
	older bool     // it has a format before ours
	saved *content // what is whole, if it is damaged
	err   error    // wraps ErrDamaged if it is
}

// openWithin opens and checks the database within the limit. A disk, or a
// damaged file, may hold it up for ever: then it is left to that, with its lock
// on a file that is about to be set aside.
func (s *Store) openWithin(readOnly bool) opened {
	done := make(chan opened, 1)
	go func() { done <- s.openChecked(readOnly) }()
	limit := time.NewTimer(s.cfg.OpenLimit)
	defer limit.Stop()
	select {
	case o := <-done:
		return o
	case <-limit.C:
		go func() {
			if o := <-done; o.db != nil {
				_ = o.db.Close() // nothing was written
			}
		}()
		return opened{err: fmt.Errorf("%w: not opened and checked within %s", ErrDamaged, s.cfg.OpenLimit)}
	}
}

func options(quota int64, readOnly bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout:      lockTimeout,
		PageSize:     pageSize,
		FreelistType: bbolt.FreelistMapType,
		MaxSize:      int(min(quota, math.MaxInt32)),
		ReadOnly:     readOnly,
		NoStatistics: true,
	}
}

// create makes a new database holding saved: a temporary file, synced, renamed,
// and the folder synced, so that a cut leaves all or none.
func (s *Store) create(saved *content) (err error) {
	path := s.path(fileName)
	temp := path + newSuffix
	if err := s.disk.remove(temp); err != nil {
		return mapped(err)
	}
	if err := s.disk.step(Step{Op: OpCreate, Path: temp}); err != nil {
		return mapped(err)
	}
	defer func() {
		if err != nil {
			_ = s.disk.remove(temp)
		}
	}()
	db, err := bbolt.Open(temp, 0o600, options(s.cfg.Quota, false))
	if err != nil {
		return mapped(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if err := put(tx, metaBucket, formatKey, []byte(format)); err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(eventsBucket); err != nil {
			return err
		}
		return saved.write(tx)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return mapped(err)
	}
	return mapped(s.disk.rename(temp, path))
}

// openChecked opens the database and verifies every value. When that finds
// damage the error wraps ErrDamaged, the database is closed, and content holds
// what is whole. bbolt panics on some damage, and a page beyond the end of the
// file is a memory fault: both are turned into that error.
func (s *Store) openChecked(readOnly bool) (out opened) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	path := s.path(fileName)
	if err := checkTreeOf(path); errors.Is(err, ErrDamaged) {
		return opened{err: err}
	}
	var file *os.File
	o := options(s.cfg.Quota, readOnly)
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	defer func() {
		if r := recover(); r != nil {
			out.err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
		if out.err != nil && file != nil {
			// After a panic bbolt may hold its own locks, so it is not asked to
			// close. Closing the file releases the lock on it.
			file.Close()
			out.db = nil
		}
	}()
	if out.db, out.err = bbolt.Open(path, 0o600, o); out.err != nil {
		out.err = openError(mapped(out.err))
		return out
	}
	if out.err = s.check(s, out.db); errors.Is(out.err, ErrDamaged) {
		out.saved = &content{}
		out.err = out.saved.read(out.db) // a panic in here leaves in saved what came before it
	}
	if out.err == nil {
		out.older, out.err = isOlder(out.db)
	}
	return out
}

// verify checks every value of db.
func (*Store) verify(db *bbolt.DB) error { return verify(db) }

// isOlder reports whether db has a format before ours.
func isOlder(db *bbolt.DB) (older bool, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		version, err := get(tx, metaBucket, formatKey)
		older = string(version) != format
		return err
	})
	return older, err
}

// Close waits for the transaction under way and closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	return db.Close()
}

// Findings returns what Open and Repair had to repair, in words; usually nothing.
func (s *Store) Findings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.findings)
}

// ReadOnly reports whether the folder could not be opened for writing.
func (s *Store) ReadOnly() bool { return s.readOnly }

// view and update run f in a transaction of their own. What makes bbolt panic
// in one is damage that came after Open, and is returned as such.
func (s *Store) view(f func(*bbolt.Tx) error) (err error) {
	s.mu.Lock()
	db := s.db
	s.mu.Unlock()
	if db == nil {
		return ErrMissing
	}
	defer recovered(&err, debug.SetPanicOnFault(true))
	return db.View(f)
}

func (s *Store) update(f func(*bbolt.Tx) error) (err error) {
	s.mu.Lock()
	db, older := s.db, s.older
	s.mu.Unlock()
	if db == nil || s.readOnly {
		return ErrReadOnly
	}
	if err := s.disk.step(Step{Op: OpCommit, Path: db.Path()}); err != nil {
		return mapped(err)
	}
	defer recovered(&err, debug.SetPanicOnFault(true))
	_, files := s.slotFiles()
	var done *bbolt.Tx
	err = db.Update(func(tx *bbolt.Tx) error {
		done = tx
		db.MaxSize = int(min(max(s.cfg.Quota-files, pageSize), math.MaxInt32)) // what grows with f, which nobody else writes
		if older {
			if err := put(tx, metaBucket, formatKey, []byte(format)); err != nil {
				return err
			}
		}
		return f(tx)
	})
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		return s.overQuota(0)
	}
	if err != nil {
		return mapped(err)
	}
	stats := done.Stats()
	s.mu.Lock()
	s.older = s.older && s.db != db
	s.mu.Unlock()
	written := stats.GetPageAlloc() + pageSize // and the meta page
	return mapped(s.disk.step(Step{Op: OpCommitted, Path: db.Path(), Len: written}))
}

// recovered turns a panic into *err, and sets back what panics on a fault.
func recovered(err *error, panicOnFault bool) {
	debug.SetPanicOnFault(panicOnFault)
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", ErrDamaged, r)
	}
}

// State returns the device state of the last Commit, nil before the first.
func (s *Store) State() ([]byte, error) { return s.meta(stateKey) }

// Usage returns what SetUsage stored last, nil before the first.
func (s *Store) Usage() ([]byte, error) { return s.meta(usageKey) }

// SetUsage stores small counters. It costs a transaction: once a minute is
// often enough.
func (s *Store) SetUsage(b []byte) error {
	return s.update(func(tx *bbolt.Tx) error { return put(tx, metaBucket, usageKey, b) })
}

func (s *Store) meta(key []byte) (value []byte, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		value, err = get(tx, metaBucket, key)
		return err
	})
	if errors.Is(err, ErrMissing) {
		return nil, nil
	}
	return value, err
}

// A Change is written in one transaction, all of it or nothing.
type Change struct {
	State  []byte   // the new device state
	Put    []Slot   // versions to add, or to write again
	Drop   []Key    // versions to let go
	Events [][]byte // appended to the ring, see Pending
}

// Commit makes c durable. The error is ErrReadOnly, ErrFull, ErrQuota, or of
// the operating system; then nothing has changed.
func (s *Store) Commit(c Change) error {
	if err := s.commit(c); err != nil {
		return fmt.Errorf("write model cache: %w", err)
	}
	return nil
}

func (s *Store) commit(c Change) error {
	if s.readOnly {
		return ErrReadOnly
	}
	files := make(map[Key][]byte)
	for _, slot := range c.Put {
		if len(slot.Payload) <= MaxInBucket {
			continue
		}
		record, err := s.putFile(slot)
		if err != nil {
			return err
		}
		files[slot.Key] = record
	}
	if err := s.update(func(tx *bbolt.Tx) error { return c.write(tx, files) }); err != nil {
		return err
	}
	for _, k := range c.Drop {
		_ = s.disk.remove(s.path(slotFile(k))) // Tidy comes again
	}
	return nil
}

func (c Change) write(tx *bbolt.Tx, files map[Key][]byte) error {
	for _, k := range c.Drop {
		if err := dropSlot(tx, k); err != nil {
			return err
		}
	}
	for _, slot := range c.Put {
		if err := slot.write(tx, files[slot.Key]); err != nil {
			return err
		}
	}
	for _, e := range c.Events {
		if err := appendEvent(tx, e); err != nil {
			return err
		}
	}
	return put(tx, metaBucket, stateKey, c.State)
}

func dropSlot(tx *bbolt.Tx, k Key) error {
	if err := tx.DeleteBucket(slotBucket(k)); !errors.Is(err, berrors.ErrBucketNotFound) {
		return err
	}
	return nil
}

// write puts s into the database: its payload, or the record of its file.
func (s Slot) write(tx *bbolt.Tx, file []byte) error {
	values := map[string][]byte{"release": s.Release, "descriptor": s.Descriptor}
	if file != nil {
		values[string(fileKey)] = file
	} else {
		values["payload"] = s.Payload
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := put(tx, slotBucket(s.Key), []byte(key), values[key]); err != nil {
			return err
		}
	}
	return nil
}

// Slot reads one cached version; the bytes are the caller's. The error wraps
// ErrMissing or ErrDamaged.
func (s *Store) Slot(k Key) (Slot, error) {
	out := Slot{Key: k}
	var file []byte
	err := s.view(func(tx *bbolt.Tx) (err error) {
		for i, p := range [3]*[]byte{&out.Release, &out.Descriptor, &out.Payload} {
			if *p, err = get(tx, slotBucket(k), slotKeys[i]); errors.Is(err, ErrMissing) && p == &out.Payload {
				file, err = get(tx, slotBucket(k), fileKey)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && file != nil {
		out.Payload, err = s.readFile(k, file)
	}
	if err != nil {
		return Slot{}, fmt.Errorf("slot %s %s: %w", k.Model, k.Digest.Short(), err)
	}
	return out, nil
}

// Slots lists the cached versions, in the order of their names.
func (s *Store) Slots() ([]Key, error) {
	var keys []Key
	err := s.view(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			if k, ok := parseSlotBucket(name); ok {
				keys = append(keys, k)
			}
			return nil
		})
	})
	if errors.Is(err, ErrMissing) {
		err = nil
	}
	return keys, err
}

func slotBucket(k Key) []byte { return []byte("slot/" + k.Model + "/" + k.Digest.String()) }

func parseSlotBucket(name []byte) (Key, bool) {
	rest, ok := bytes.CutPrefix(name, slotPrefix)
	model, hex, found := strings.Cut(string(rest), "/")
	d, err := protocol.ParseDigest(hex)
	return Key{model, d}, ok && found && err == nil
}

// sum is the checksum in front of a value.
func sum(bucket, key, value []byte) []byte {
	h := sha256.New()
	var n [8]byte
	for _, b := range [3][]byte{bucket, key, value} {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	return h.Sum(nil)[:sumSize]
}

const sumSize = 16

func put(tx *bbolt.Tx, bucket, key, value []byte) error {
	b, err := tx.CreateBucketIfNotExists(bucket)
	if err != nil {
		return err
	}
	sealed := make([]byte, 0, sumSize+len(value))
	sealed = append(sealed, sum(bucket, key, value)...)
	return b.Put(key, append(sealed, value...))
}

// get returns a copy of a value whose checksum holds.
func get(tx *bbolt.Tx, bucket, key []byte) ([]byte, error) {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil, ErrMissing
	}
	value, err := unseal(bucket, key, b.Get(key))
	return bytes.Clone(value), err
}

// unseal returns the part of sealed that is the value. It is bbolt's memory,
// unmapped when the database grows: to be cloned before the transaction ends.
func unseal(bucket, key, sealed []byte) ([]byte, error) {
	if sealed == nil {
		return nil, ErrMissing
	}
	if len(sealed) < sumSize || !bytes.Equal(sealed[:sumSize], sum(bucket, key, sealed[sumSize:])) {
		return nil, fmt.Errorf("%w: %s of %s does not match its checksum", ErrDamaged, printable(key), printable(bucket))
	}
	return sealed[sumSize:], nil
}

func printable(name []byte) string {
	if len(name) > 100 {
		name = name[:100]
	}
	return fmt.Sprintf("%q", name)
}

// mapped turns errors of bbolt and of the operating system into ours.
func mapped(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrFull), errors.Is(err, ErrReadOnly), errors.Is(err, ErrQuota), errors.Is(err, ErrDamaged):
		return err // mapped already
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, berrors.ErrMaxSizeReached):
		return ErrQuota
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT),
		strings.Contains(err.Error(), syscall.ENOSPC.Error()): // bbolt formats the error of a resize with %s
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, berrors.ErrDatabaseReadOnly):
		return ErrReadOnly
	case isReadOnly(err):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch),
		errors.Is(err, berrors.ErrInvalidMapping):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// openError takes what is not ours and not of the operating system for damage,
// and a read that the disk fails.
func openError(err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, ErrLocked), errors.Is(err, ErrQuota), errors.Is(err, ErrFull), errors.Is(err, ErrReadOnly), errors.Is(err, ErrDamaged):
		return err
	case errors.As(err, &errno) && errno != syscall.EIO:
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func isReadOnly(err error) bool {
	return errors.Is(err, ErrReadOnly) || errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}
