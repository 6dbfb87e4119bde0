package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
)

// openFile opens a file argument for reading; "-" is stdin.
func (a *app) openFile(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(a.stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, usagef("%s is a folder; name a file in it", path)
	}
	return f, nil
}

// upload turns a file argument into a part of a request.
func (a *app) upload(path string) api.File {
	return api.File{Name: filepath.Base(path), Open: func() (io.ReadCloser, error) { return a.openFile(path) }}
}

// checkReadable reports the first path that cannot be opened, before anything
// is sent.
func (a *app) checkReadable(paths ...string) error {
	for _, path := range paths {
		if path == "-" || path == "" {
			continue
		}
		f, err := a.openFile(path)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// An outFile is a file argument that is written completely or not at all.
// It is made before the work that fills it, so that an answer which comes only
// once, a token, is never lost to a folder that cannot be written.
type outFile struct {
	path string
	f    *os.File // the new file; nil: what w is
	w    io.Writer
	pipe io.Closer // w, where it is a pipe or the like
}

// createFile starts the file at path, "-" for stdout, with the given mode.
func (a *app) createFile(path string, mode fs.FileMode) (*outFile, error) {
	if path == "-" {
		return &outFile{path: path, w: a.stdout}, nil
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return nil, usagef("%s is a folder; name a file in it", path)
	case err == nil && !info.Mode().IsRegular(): // a pipe, say
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("write file: %w", err)
		}
		return &outFile{path: path, w: f, pipe: f}, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("write file: %w", err)
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, fmt.Errorf("write file: %w", err)
	}
	return &outFile{path: path, f: f, w: f}, nil
}

func (o *outFile) Write(b []byte) (int, error) { return o.w.Write(b) }

// commit makes the file appear, synced.
func (o *outFile) commit() error {
	if o.pipe != nil {
		return o.pipe.Close()
	}
	if o.f == nil {
		return nil
	}
	if err := o.f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	if err := o.f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	if err := os.Rename(o.f.Name(), o.path); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	o.f = nil
	return nil
}

// discard removes what was written unless it was committed.
func (o *outFile) discard() {
	if o.f != nil {
		o.f.Close()
		os.Remove(o.f.Name())
		o.f = nil
	}
}
