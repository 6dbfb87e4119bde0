package recording

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A set is a Set with its files.
type set struct {
	dir string

	mu       sync.Mutex // guards what follows
	set      Set
	segments []segment // oldest first; the last is written to
	file     *os.File  // of the last segment, nil before there is one
	failed   error     // why the last write failed
	stop     context.CancelFunc
	done     chan struct{} // closed when nobody records any more; nil while nobody does
}

// A segment is one file.
type segment struct {
	N       int   `json:"n"`
	Bytes   int64 `json:"bytes"`
	Samples int64 `json:"samples"`
}

// onDisk is set.json. Counts of the last segment are not in it: they change with every
// sample, and are counted when the set is opened.
type onDisk struct {
	Set
	Segments []segment `json:"segments"`
}

const recordFile = "set.json"

func (s *set) segmentPath(n int) string { return filepath.Join(s.dir, fmt.Sprintf("%08d.lp", n)) }

func newSet(dir string, record Set) (*set, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &set{dir: dir, set: record}
	s.set.State = Stopped
	return s, s.keep()
}

// openSet reads a set back. fs.ErrNotExist if it was never made.
func openSet(dir string) (*set, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, err
	}
	var record onDisk
	if err := json.Unmarshal(b, &record); err != nil {
		return nil, fmt.Errorf("%s: %w", recordFile, err)
	}
	s := &set{dir: dir, set: record.Set, segments: record.Segments}
	if n := len(s.segments); n > 0 {
		last := &s.segments[n-1]
		if s.file, last.Bytes, last.Samples, err = openSegment(s.segmentPath(last.N)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// openSegment opens a file to go on with, cuts off what is no whole line, and counts.
func openSegment(path string) (f *os.File, size, lines int64, err error) {
	if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, 0, 0, err
	}
	buf, read := make([]byte, 64<<10), int64(0)
	for {
		n, err := f.Read(buf)
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			size = read + int64(i) + 1
			lines += int64(bytes.Count(buf[:n], []byte("\n")))
		}
		read += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, 0, errors.Join(err, f.Close())
		}
	}
	if err = f.Truncate(size); err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		return nil, 0, 0, errors.Join(err, f.Close())
	}
	return f, size, lines, nil
}

// keep writes set.json. The caller has mu, or is alone.
func (s *set) keep() error {
	return writeRecord(filepath.Join(s.dir, recordFile), onDisk{s.set, s.segments})
}

func (s *set) show() Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.set
	out.Bytes, out.Samples = 0, 0
	for _, g := range s.segments {
		out.Bytes += g.Bytes
		out.Samples += g.Samples
	}
	return out
}

func (s *set) start(topic string, until time.Time, maxBytes int64) (Set, error) {
	s.mu.Lock()
	switch {
	case s.set.State == Recording:
		s.mu.Unlock()
		return Set{}, fmt.Errorf("%w %s is recorded already; stop it first with `sandpiper data stop %s`", ErrState, s.set.Name, s.set.Name)
	case s.set.Topic != topic:
		s.mu.Unlock()
		return Set{}, fmt.Errorf("%w %s is of %s; record %s into another one", ErrState, s.set.Name, s.set.Topic, topic)
	}
	if maxBytes != 0 {
		s.set.MaxBytes = maxBytes
	}
	s.set.State, s.set.Reason, s.set.Until, s.set.Updated, s.failed = Recording, "", until, now(), nil
	err := s.keep()
	s.mu.Unlock()
	return s.show(), err
}

// take gives the set to the caller to record, if it is to be recorded and nobody does.
func (s *set) take(ctx context.Context) (context.Context, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil || s.set.State != Recording || s.done != nil {
		return nil, false
	}
	if s.set.Until.IsZero() {
		ctx, s.stop = context.WithCancel(ctx)
	} else {
		ctx, s.stop = context.WithDeadline(ctx, s.set.Until)
	}
	s.done = make(chan struct{})
	return ctx, true
}

// release ends take.
func (s *set) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	close(s.done)
	s.done = nil
}

// end stops recording, syncs what came, and keeps the state. Whoever records ends soon
// after: what it still writes is refused.
func (s *set) end(state, reason string) (Set, error) {
	s.mu.Lock()
	if s.stop != nil {
		s.stop()
	}
	var errs []error
	if s.set.State == Recording {
		s.set.State, s.set.Reason, s.set.Updated = state, reason, now()
		if s.file != nil {
			errs = append(errs, s.file.Sync())
		}
		errs = append(errs, s.keep())
	}
	s.mu.Unlock()
	return s.show(), errors.Join(errs...)
}

// wait returns when nobody records the set any more.
func (s *set) wait() {
	s.mu.Lock()
	done := s.done
	s.mu.Unlock()
	if done != nil {
		<-done
	}
}

func (s *set) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return errors.Join(f.Sync(), f.Close())
}

// broken returns why the last write failed, nil if it did not.
func (s *set) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Write appends one line.
func (s *set) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.State != Recording {
		return 0, fmt.Errorf("%w %s is not recorded any more", ErrState, s.set.Name)
	}
	if s.failed = s.room(int64(len(line))); s.failed == nil {
		_, s.failed = s.file.Write(line)
	}
	if s.failed != nil {
		return 0, s.failed
	}
	last := &s.segments[len(s.segments)-1]
	last.Bytes += int64(len(line))
	last.Samples++
	s.set.Updated = now()
	return len(line), nil
}

// room begins another segment where the last is full, and removes the oldest ones
// where the set would be too large. set.json is written before a file is removed and
// after one is made, so that it names only files that there are, or were removed.
func (s *set) room(n int64) error {
	size := min(max(s.set.MaxBytes/16, 64<<10), maxSegment)
	last := len(s.segments) - 1
	if last >= 0 && s.segments[last].Bytes+n <= size {
		return nil
	}
	next := 1
	if last >= 0 {
		if err := errors.Join(s.file.Sync(), s.file.Close()); err != nil {
			return err
		}
		next = s.segments[last].N + 1
	}
	f, _, _, err := openSegment(s.segmentPath(next))
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil { // of a process that died before it was named
		return errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.segments = f, append(s.segments, segment{N: next})
	total := size
	for _, g := range s.segments {
		total += g.Bytes
	}
	var gone []int
	for total > s.set.MaxBytes && len(s.segments) > 1 {
		total -= s.segments[0].Bytes
		s.set.Dropped += s.segments[0].Samples
		gone, s.segments = append(gone, s.segments[0].N), s.segments[1:]
	}
	err = s.keep()
	for _, n := range gone {
		err = errors.Join(err, os.Remove(s.segmentPath(n)))
	}
	return err
}

// read opens the files of a cut.
func (s *set) read(cut Cut) (io.ReadCloser, Cut, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.segments)
	if n == 0 || s.segments[0].Bytes == 0 {
		return nil, cut, fmt.Errorf("%w: it has no samples yet", ErrState)
	}
	if cut == (Cut{}) {
		cut = Cut{s.segments[0].N, s.segments[n-1].N, s.segments[n-1].Bytes}
	}
	if cut.First < s.segments[0].N {
		return nil, cut, fmt.Errorf("%w: the files from %d on are there, and %d is needed; give it more bytes next time", ErrGone, s.segments[0].N, cut.First)
	}
	m := &multiFile{}
	var parts []io.Reader
	for _, g := range s.segments {
		if g.N < cut.First || g.N > cut.Last {
			continue
		}
		size := g.Bytes
		if g.N == cut.Last {
			size = cut.Bytes
		}
		f, err := os.Open(s.segmentPath(g.N))
		if err != nil {
			return nil, cut, errors.Join(err, m.Close())
		}
		m.files = append(m.files, f)
		parts = append(parts, io.NewSectionReader(f, 0, size))
	}
	m.Reader = io.MultiReader(parts...)
	return m, cut, nil
}

// A multiFile reads files one after the other.
type multiFile struct {
	io.Reader
	files []*os.File
}

// Close closes all files.
func (m *multiFile) Close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
