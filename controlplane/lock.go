package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	lockFile  = "lock"
	lockRetry = 50 * time.Millisecond
)

// errHeld is what tryLock returns while another open file holds the lock.
var errHeld = errors.New("lock is held")

// A LockedError says which process has a data folder open. It is ErrLocked.
type LockedError struct {
	Dir    string
	PID    int // 0 if unknown
	Waited time.Duration
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("%s: %v by %s (waited %v); stop it, or ask it over its API", e.Dir, ErrLocked, who, e.Waited)
}

// Is makes errors.Is(e, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// A dirLock is an advisory lock on a folder (flock(2) on its file lock). The
// kernel releases it when the process ends, however it ends; the file stays.
type dirLock struct{ f *os.File }

// lockDir takes the lock of dir, waiting up to wait for who has it.
func lockDir(ctx context.Context, dir string, wait time.Duration) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, lockError(err)
	}
	deadline := time.Now().Add(wait)
	for {
		err := tryLock(f)
		if err == nil {
			_ = writePID(f) // for LockedError alone, and the disk may be full
			return &dirLock{f}, nil
		}
		if !errors.Is(err, errHeld) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
		}
		if !time.Now().Before(deadline) {
			return nil, errors.Join(&LockedError{Dir: dir, PID: readPID(f), Waited: max(wait, 0)}, f.Close())
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		}
	}
}

// lockError says what to do about a lock file that cannot be opened.
func lockError(err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; make it writable, or name a folder on another disk with --dir", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; free some space", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run this as the owner of the folder", err)
	}
	return err
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

func (l *dirLock) release() error { return l.f.Close() }
