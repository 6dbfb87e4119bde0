package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// The states of streams are in a file of their own: they change more often than
// all else, and losing them costs a warm-up.
const (
	streamsName = "streams"
	// MaxStreams is the largest file of stream states, in bytes.
	MaxStreams = 4 << 20
)

// SaveStreams stores the states of streams, with a checksum.
func (s *Store) SaveStreams(b []byte) error {
	if s.readOnly {
		return ErrReadOnly
	}
	if len(b) > MaxStreams {
		return fmt.Errorf("store the states of streams: %w: %d bytes, at most %d", ErrQuota, len(b), MaxStreams)
	}
	err := s.disk.replace(s.path(streamsName), func(w io.Writer) error {
		_, err := w.Write(append(sum([]byte(streamsName), nil, b), b...))
		return err
	})
	if err != nil {
		return fmt.Errorf("store the states of streams: %w", err)
	}
	return nil
}

// Streams returns what SaveStreams stored last; nil if there is nothing. The
// error wraps ErrDamaged for a file that is not whole.
func (s *Store) Streams() ([]byte, error) {
	f, err := os.Open(s.path(streamsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, mapped(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxStreams+1024))
	if err != nil {
		return nil, mapped(err)
	}
	n := len(sum(nil, nil, nil))
	if len(b) < n || !bytes.Equal(b[:n], sum([]byte(streamsName), nil, b[n:])) {
		return nil, fmt.Errorf("%w: the states of streams do not match their checksum", ErrDamaged)
	}
	return b[n:], nil
}
