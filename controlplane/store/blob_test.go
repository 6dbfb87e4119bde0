package store

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

func TestBlobIsVerifiedWhenRead(t *testing.T) {
	s := openStore(t, t.TempDir())
	data := []byte("some weights")
	id, err := s.PutBlob(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Blob(id)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("Blob = %q, %v, want %q", got, err, data)
	}
	path := s.blobs.path(id)
	for _, damage := range [][]byte{{}, data[:5], []byte("some weighty")} {
		if err := os.WriteFile(path, damage, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Blob(id); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Blob of %q = %v, want ErrCorrupt", damage, err)
		}
	}
	if _, err := s.PutBlob(data); err != nil { // storing it again repairs it
		t.Fatal(err)
	}
	if got, err := s.Blob(id); err != nil || !bytes.Equal(got, data) {
		t.Errorf("Blob after PutBlob over damage = %q, %v", got, err)
	}
	for _, id := range []string{"", "..", "0123", id[:63] + "x", id[:62] + "00"} {
		if _, err := s.Blob(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("Blob(%q) = %v, want ErrNotFound", id, err)
		}
	}
}

func TestFailedBlobLeavesNoFile(t *testing.T) {
	s := openStore(t, t.TempDir())
	id, err := s.PutBlob([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	path := s.blobs.path(id)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // in the way of the rename
		t.Fatal(err)
	}
	if _, err := s.PutBlob([]byte("x")); err == nil {
		t.Fatal("PutBlob over a folder = nil")
	}
	left, err := os.ReadDir(path[:len(path)-len(id)])
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
