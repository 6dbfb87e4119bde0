// Package recording keeps the samples of a topic as named data sets, which grow while
// the control plane serves:
//
//	DIR/data/NAME/set.json     the Set
//	DIR/data/NAME/00000001.lp  InfluxDB line protocol, oldest first
//	DIR/data/NAME/00000002.lp
//
// A set has a largest size; the oldest file gives way when there is no room. What was
// written survives the death of the process, and a file is synced when the next one
// begins and when a recording stops: a power cut can cost the end of the last one,
// whose half line is cut off when the folder is opened again.
package recording

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/near"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

var (
	// ErrNotFound: there is no set of this name. The text suggests one.
	ErrNotFound = store.ErrNotFound
	// ErrState: a set that is recorded already, from another topic, or that is empty.
	ErrState = errors.New("data set")
	// ErrGone: the oldest rows of what was asked for have given way to newer ones.
	ErrGone = errors.New("rows have given way to newer ones")
	// ErrLimit: a size or a number beyond what is kept.
	ErrLimit = errors.New("beyond a limit of data sets")
)

// Bounds of what is kept.
const (
	MaxSets         = 64
	MinBytes        = 1 << 20
	DefaultMaxBytes = 1 << 30
	maxSegment      = 64 << 20
)

// States of a set.
const (
	Recording = "recording"
	Stopped   = "stopped"
	Failed    = "failed" // the folder could not be written to
)

// A Set is what is recorded under one name.
type Set struct {
	Name     string    `json:"name"`
	Topic    string    `json:"topic" doc:"sp1/FLEET/d/DEVICE/s/STREAM, with + for any device or stream"`
	State    string    `json:"state" doc:"recording, stopped or failed"`
	Reason   string    `json:"reason,omitempty" doc:"Why it failed"`
	Until    time.Time `json:"until,omitzero" doc:"When it stops by itself; none: never"`
	MaxBytes int64     `json:"max_bytes" doc:"Of all its files; the oldest gives way"`
	Bytes    int64     `json:"bytes"`
	Samples  int64     `json:"samples"`
	Dropped  int64     `json:"samples_dropped" doc:"Samples that gave way to newer ones"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated" doc:"When a sample came last, or it was started or stopped"`
}

// A Cut says which rows of a set are meant: the files First to Last, and of the last one
// so many bytes. The zero value means all there are now.
type Cut struct {
	First int   `json:"first"`
	Last  int   `json:"last"`
	Bytes int64 `json:"bytes"`
}

// Sets are the sets of one data folder, which belongs to this process. It is safe for
// concurrent use.
type Sets struct {
	dir  string
	log  *slog.Logger
	wake chan struct{} // a set is to be recorded

	mu   sync.Mutex // guards sets
	sets map[string]*set
}

// Open opens the sets in the data folder dir.
func Open(dir string, log *slog.Logger) (*Sets, error) {
	s := &Sets{dir: filepath.Join(dir, "data"), log: log, wake: make(chan struct{}, 1), sets: map[string]*set{}}
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open data sets: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || protocol.CheckID(e.Name()) != nil {
			continue
		}
		one, err := openSet(filepath.Join(s.dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) { // a process died before it was made
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open data set %s: %w", e.Name(), err)
		}
		s.sets[e.Name()] = one
	}
	return s, nil
}

// Close closes the files. Run must have returned.
func (s *Sets) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, one := range s.sets {
		errs = append(errs, one.close())
	}
	return errors.Join(errs...)
}

// Start records the samples of topic into the set of that name, which is made if there
// is none. One that was stopped or failed goes on; its topic must be the same. until
// zero means for good, maxBytes 0 DefaultMaxBytes, or what it was.
func (s *Sets) Start(name, topic string, until time.Time, maxBytes int64) (Set, error) {
	if err := protocol.CheckID(name); err != nil {
		return Set{}, err
	}
	if maxBytes != 0 && maxBytes < MinBytes {
		return Set{}, fmt.Errorf("%w: at most %d bytes; a set has %d or more", ErrLimit, maxBytes, MinBytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.sets[name]
	if one == nil {
		if len(s.sets) == MaxSets {
			return Set{}, fmt.Errorf("%w: there are %d; remove one with `sandpiper data rm`", ErrLimit, MaxSets)
		}
		var err error
		if one, err = newSet(filepath.Join(s.dir, name), Set{Name: name, Topic: topic, MaxBytes: DefaultMaxBytes, Created: now()}); err != nil {
			return Set{}, fmt.Errorf("make data set %s: %w", name, err)
		}
		s.sets[name] = one
	}
	out, err := one.start(topic, until, maxBytes)
	if err == nil {
		s.again()
	}
	return out, err
}

// again has Run look for sets that are to be recorded.
func (s *Sets) again() {
	select {
	case s.wake <- struct{}{}:
	default: // it will
	}
}

// Stop ends a recording and returns once what came is on disk. One that is stopped
// stays so.
func (s *Sets) Stop(name string) (Set, error) {
	one, err := s.find(name)
	if err != nil {
		return Set{}, err
	}
	return one.end(Stopped, "")
}

// Remove ends a recording and removes what it has.
func (s *Sets) Remove(name string) error {
	s.mu.Lock()
	one := s.sets[name]
	delete(s.sets, name)
	s.mu.Unlock()
	if one == nil {
		return s.unknown(name)
	}
	if _, err := one.end(Stopped, ""); err != nil {
		s.log.Warn("end of a data set that is removed not kept", "set", name, "err", err)
	}
	one.wait()
	if err := one.close(); err != nil {
		s.log.Warn("file of a data set that is removed not closed", "set", name, "err", err)
	}
	if err := os.RemoveAll(one.dir); err != nil {
		return fmt.Errorf("remove data set %s: %w", name, err)
	}
	return nil
}

// List returns all sets by their names.
func (s *Sets) List() []Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Set{}
	for _, one := range s.sets {
		list = append(list, one.show())
	}
	slices.SortFunc(list, func(a, b Set) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list
}

// Show returns a set, or ErrNotFound.
func (s *Sets) Show(name string) (Set, error) {
	one, err := s.find(name)
	if err != nil {
		return Set{}, err
	}
	return one.show(), nil
}

// Read returns the rows of a set up to now, or those that cut says, and which these
// are. ErrGone if some of them are no longer there. The caller closes it.
func (s *Sets) Read(name string, cut Cut) (io.ReadCloser, Cut, error) {
	one, err := s.find(name)
	if err != nil {
		return nil, cut, err
	}
	r, cut, err := one.read(cut)
	if err != nil {
		return nil, cut, fmt.Errorf("data set %s: %w", name, err)
	}
	return r, cut, nil
}

func (s *Sets) find(name string) (*set, error) {
	s.mu.Lock()
	one := s.sets[name]
	s.mu.Unlock()
	if one == nil {
		return nil, s.unknown(name)
	}
	return one, nil
}

func (s *Sets) unknown(name string) error {
	var names []string
	for _, set := range s.List() {
		names = append(names, set.Name)
	}
	if meant := near.Match(name, names); meant != "" {
		return fmt.Errorf("data set %.60q: %w; did you mean %q?", name, ErrNotFound, meant)
	}
	return fmt.Errorf("data set %.60q: %w", name, ErrNotFound)
}

// retry is how long a recording waits for a broker that is not there.
const retry = time.Second

// Run records what is to be recorded until ctx ends; then the sets stay as they are and
// go on with the next Run. record writes lines until its context ends, which is no
// error.
func (s *Sets) Run(ctx context.Context, record func(ctx context.Context, topic string, w io.Writer) error) error {
	var g errgroup.Group
	for {
		s.mu.Lock()
		for _, one := range s.sets {
			if ctx, ok := one.take(ctx); ok {
				g.Go(func() error {
					s.record(ctx, one, record)
					s.again() // it may have been started meanwhile
					return nil
				})
			}
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-s.wake:
		}
	}
}

// record records a set until it is stopped, its time is over, or ctx ends.
func (s *Sets) record(ctx context.Context, one *set, record func(context.Context, string, io.Writer) error) {
	defer one.release()
	for {
		err := record(ctx, one.show().Topic, one)
		switch until := one.show().Until; {
		case ctx.Err() != nil && !until.IsZero() && !time.Now().Before(until):
			if _, err := one.end(Stopped, ""); err != nil {
				s.log.Error("end of a recording not kept", "set", one.show().Name, "err", err)
			}
			return
		case ctx.Err() != nil:
			return
		case one.broken() != nil:
			s.log.Error("recording failed", "set", one.show().Name, "err", one.broken())
			if _, err := one.end(Failed, one.broken().Error()); err != nil {
				s.log.Error("end of a recording not kept", "set", one.show().Name, "err", err)
			}
			return
		case err != nil:
			s.log.Debug("recording waits", "set", one.show().Name, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// writeRecord replaces the file at path as a whole.
func writeRecord(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".set-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}
