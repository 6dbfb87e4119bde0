package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestStreamsAreWholeOrDamaged(t *testing.T) {
	dir := t.TempDir()
	full := false
	s, err := Open(Config{Dir: dir, Disk: func(Step) error {
		if full {
			return ErrFull
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if b, err := s.Streams(); b != nil || err != nil {
		t.Errorf("Streams of a new folder = %q, %v", b, err)
	}
	if err := s.SaveStreams([]byte("states")); err != nil {
		t.Fatal(err)
	}
	full = true
	if err := s.SaveStreams([]byte("newer")); !errors.Is(err, ErrFull) {
		t.Errorf("SaveStreams on a full disk = %v, want ErrFull", err)
	}
	full = false
	if b, err := s.Streams(); string(b) != "states" || err != nil {
		t.Errorf("Streams after a full disk = %q, %v; want what was there", b, err)
	}
	if err := s.SaveStreams(make([]byte, MaxStreams+1)); !errors.Is(err, ErrQuota) {
		t.Errorf("SaveStreams of too much = %v, want ErrQuota", err)
	}
	path := filepath.Join(dir, streamsName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Streams(); !errors.Is(err, ErrDamaged) {
			t.Errorf("Streams of %d of %d bytes = %q, %v; want ErrDamaged", n, len(whole), b, err)
		}
	}
}
