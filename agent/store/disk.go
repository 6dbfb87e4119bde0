package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// An Op is something that a Store does to its data folder.
type Op uint8

// The operations, in no order. What was written is durable after the next
// OpSync of its file, a name after the next OpSyncDir, a transaction at
// OpCommitted.
const (
	OpCreate    Op = iota + 1 // make Path
	OpReserve                 // make Path Len bytes long, on disk if the system can
	OpWrite                   // Len bytes at Off of Path
	OpSync                    // Path
	OpRename                  // Path becomes To, in place of what is there
	OpLink                    // To becomes another name of Path
	OpRemove                  // Path
	OpSyncDir                 // Path, a folder
	OpCommit                  // write a transaction into Path
	OpCommitted               // Len bytes of it were written and synced
)

// A Step is one operation, for Config.Disk.
type Step struct {
	Op       Op
	Path, To string
	Off, Len int64
}

// A disk does what a Store does to its folder, all but what bbolt writes.
type disk struct {
	hook func(Step) error // asked before each step; nil: nothing is in the way
}

func (d disk) step(s Step) error {
	if d.hook == nil {
		return nil
	}
	return d.hook(s)
}

// create opens a new, empty file for reading and writing, in place of one that
// a cut left behind.
func (d disk) create(path string) (*os.File, error) {
	if err := d.step(Step{Op: OpCreate, Path: path}); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
}

func (d disk) reserve(f *os.File, size int64) error {
	if err := d.step(Step{Op: OpReserve, Path: f.Name(), Len: size}); err != nil {
		return err
	}
	return reserve(f, size)
}

func (d disk) writeAt(f *os.File, b []byte, off int64) error {
	if err := d.step(Step{Op: OpWrite, Path: f.Name(), Off: off, Len: int64(len(b))}); err != nil {
		return err
	}
	_, err := f.WriteAt(b, off)
	return err
}

func (d disk) sync(f *os.File) error {
	if err := d.step(Step{Op: OpSync, Path: f.Name()}); err != nil {
		return err
	}
	return f.Sync()
}

// rename makes from the file that to names, durably.
func (d disk) rename(from, to string) error {
	if err := d.step(Step{Op: OpRename, Path: from, To: to}); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(to))
}

// link gives the file a second name.
func (d disk) link(from, to string) error {
	if err := d.remove(to); err != nil {
		return err
	}
	if err := d.step(Step{Op: OpLink, Path: from, To: to}); err != nil {
		return err
	}
	return os.Link(from, to)
}

// remove removes a file; one that is gone already is fine.
func (d disk) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.step(Step{Op: OpRemove, Path: path}); err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d disk) syncDir(dir string) error {
	if err := d.step(Step{Op: OpSyncDir, Path: dir}); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// replace writes path whole or not at all: a temporary file, synced, renamed.
func (d disk) replace(path string, write func(io.Writer) error) (err error) {
	f, err := d.create(path + newSuffix)
	if err != nil {
		return mapped(err)
	}
	defer func() {
		if err != nil {
			_ = d.remove(f.Name())
		}
	}()
	err = write(&writer{disk: d, f: f})
	if err == nil {
		err = d.sync(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return mapped(err)
	}
	return mapped(d.rename(f.Name(), path))
}

// newSuffix ends the name of a file that is not complete yet.
const newSuffix = ".new"

// A writer writes to the end of f.
type writer struct {
	disk disk
	f    *os.File
	off  int64
}

func (w *writer) Write(b []byte) (int, error) {
	if err := w.disk.writeAt(w.f, b, w.off); err != nil {
		return 0, err
	}
	w.off += int64(len(b))
	return len(b), nil
}
