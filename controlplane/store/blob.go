package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const blobDir = "blobs"

type blobs struct{ dir string }

// PutBlob stores data under its SHA-256 and returns that in hex. It is on disk
// when PutBlob returns: written to a temporary file, fsynced, renamed, and both
// folders fsynced. A blob that is already there is checked, and replaced if it
// was damaged.
func (s *Store) PutBlob(data []byte) (string, error) {
	sum := sha256.Sum256(data)
	id := hex.EncodeToString(sum[:])
	if err := s.blobs.put(id, data); err != nil {
		return "", fmt.Errorf("put blob %s: %w", id, diskError(s.dir, err))
	}
	return id, nil
}

func (b blobs) path(id string) string { return filepath.Join(b.dir, id[:2], id) }

func (b blobs) put(id string, data []byte) error {
	path := b.path(id)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		// Perhaps left by a put that was cut before its last fsync.
		return errors.Join(syncDir(filepath.Dir(path)), syncDir(b.dir))
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(WriteFile(path, data, 0o600), syncDir(b.dir))
}

// Blob returns the blob named id, verified: ErrNotFound, or ErrCorrupt if its
// bytes are no longer the ones that were stored.
func (s *Store) Blob(id string) ([]byte, error) {
	if len(id) != 2*sha256.Size {
		return nil, fmt.Errorf("blob %q: %w", id, ErrNotFound)
	}
	data, err := os.ReadFile(s.blobs.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != id {
		return nil, fmt.Errorf("blob %s: %w", id, ErrCorrupt)
	}
	return data, nil
}

// WriteFile replaces path by data so that after a power cut it holds either
// the old or the new bytes: temporary file, fsync, rename, fsync of the folder.
// Without room it returns ErrFull. A killed process leaves the temporary file
// behind, whose name begins with a dot.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return diskError(filepath.Dir(path), writeFile(path, data, mode))
}

func writeFile(path string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreNotExist(os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncDir makes names created in dir survive a power cut (fsync(2), NOTES).
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Rename moves the folder from to the name to, in the same parent, for good:
// everything in it must have been synced.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}
