package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// errChanged: a file that was written to while it was read. Its last row may be half a
// row, and what was trained on could not be told from its digest.
var errChanged = errors.New("the file changed while it was read")

// A steadyFile is a file that is to stay as it was when it was opened. A Read that
// sees it is longer, at its end shorter, or written to, returns errChanged.
type steadyFile struct {
	*os.File
	size, read int64
	written    time.Time
}

// openSteady opens a file argument as openFile does, and a regular file so that it is
// watched.
func (a *app) openSteady(path string) (io.ReadCloser, error) {
	r, err := a.openFile(path)
	if err != nil {
		return nil, err
	}
	f, ok := r.(*os.File)
	if !ok {
		return r, nil
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() { // a pipe ends when it ends
		return r, nil //nolint:nilerr // what cannot be watched is read all the same
	}
	return &steadyFile{File: f, size: info.Size(), written: info.ModTime()}, nil
}

func (s *steadyFile) Read(b []byte) (int, error) {
	n, err := s.File.Read(b)
	s.read += int64(n)
	if s.read > s.size {
		return 0, fmt.Errorf("%w: it had %d bytes and has more now; copy it first, or record into a data set of the control plane", errChanged, s.size)
	}
	if err == io.EOF {
		info, failed := s.Stat()
		if s.read < s.size || failed == nil && !info.ModTime().Equal(s.written) {
			return n, fmt.Errorf("%w: it had %d bytes, and %d were read; copy it first, or give it again when nobody writes to it", errChanged, s.size, s.read)
		}
	}
	return n, err
}

// WriteTo hides that of os.File, which would not look.
func (s *steadyFile) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{s})
}
