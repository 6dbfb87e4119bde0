package firmwaresim

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"github.com/sandpiper-edge/sandpiper/agent/store"
)

// flashPage is what flash is written in, at the least, bytes.
const flashPage = 4096

// errDead is what a process gets from its disk between its death and its end.
var errDead = errors.New("simulated death: nothing reaches the flash any more")

// A cut is how a process dies.
type cut uint8

const (
	kill  cut = iota + 1 // of the process: what it wrote stays
	power                // of everything: of what was not synced, some stays
)

// A flash is what a device's agent writes to. It counts, and at a chosen step
// it lets the process die. After a power cut every page that was written and
// not synced is the new or the old one by chance, and so is every name.
//
// A transaction of the database is one step for its store; here it may break
// off between its pages and the page that makes them count, with any of them
// written (bbolt syncs in between).
type flash struct {
	mu      sync.Mutex // guards what follows
	rng     *rand.Rand
	written int64 // bytes, in whole pages
	torn    int   // transactions broken off
	steps   int   // to the death of the process, if dies is set
	dies    cut
	dead    bool
	end     func() // ends the process, soon
	undo    []undo // what may be lost, oldest first
	lost    bool   // the undo of a power cut is to be done
}

// An undo takes back what was not synced.
type undo struct {
	path string // file or, for names, folder that a sync makes durable
	back func(*rand.Rand) error
}

// Written returns how many bytes the agent has written, in whole pages.
func (f *flash) Written() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written
}

// arm makes the process die at the given step, from 1; 0 disarms.
func (f *flash) arm(how cut, steps int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dies, f.steps = how, steps
}

// now makes the process die at once.
func (f *flash) now(how cut) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dead && f.end != nil {
		f.dies = how
		_ = f.die()
	}
}

// boot begins a process, which end will end.
func (f *flash) boot(end func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead, f.end = false, end
	lost, undo := f.lost, f.undo
	f.undo, f.lost = nil, false
	if !lost {
		return nil
	}
	for i := len(undo) - 1; i >= 0; i-- {
		if err := undo[i].back(f.rng); err != nil {
			return err
		}
	}
	return nil
}

// step is the agent's Config.Disk.
func (f *flash) step(s store.Step) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return errDead
	}
	if s.Op == store.OpCommit && f.dies == power && f.steps == 1 {
		return f.tear(s.Path)
	}
	if f.dies != 0 {
		if f.steps--; f.steps <= 0 {
			return f.die()
		}
	}
	switch s.Op {
	case store.OpWrite:
		f.written += pages(s.Off, s.Len)
		return f.note(s)
	case store.OpCommitted:
		f.written += s.Len
	case store.OpSync, store.OpSyncDir:
		f.synced(s.Path)
	case store.OpRename, store.OpRemove:
		return f.note(s)
	}
	return nil
}

func pages(off, n int64) int64 {
	return (off+n+flashPage-1)/flashPage*flashPage - off/flashPage*flashPage
}

// die ends the process. What it was about to do is not done.
func (f *flash) die() error {
	f.dead, f.lost = true, f.dies == power
	f.dies = 0
	f.end()
	return errDead
}

// synced forgets what is durable now.
func (f *flash) synced(path string) {
	left := f.undo[:0]
	for _, u := range f.undo {
		if u.path != path {
			left = append(left, u)
		}
	}
	f.undo = left
}

// note keeps what it takes to undo s.
func (f *flash) note(s store.Step) error {
	switch s.Op {
	case store.OpWrite:
		before, err := readAt(s.Path, s.Off, s.Len)
		if err != nil {
			return err
		}
		f.undo = append(f.undo, undo{s.Path, func(r *rand.Rand) error { return writeBack(r, s.Path, s.Off, before) }})
	case store.OpRename:
		replaced, err := os.ReadFile(s.To)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		there := err == nil
		f.undo = append(f.undo, undo{filepath.Dir(s.To), func(r *rand.Rand) error {
			if r.IntN(2) == 0 {
				return nil
			}
			if err := os.Rename(s.To, s.Path); err != nil || !there {
				return err
			}
			return os.WriteFile(s.To, replaced, 0o600)
		}})
	case store.OpRemove:
		removed, err := os.ReadFile(s.Path)
		if err != nil {
			return err
		}
		f.undo = append(f.undo, undo{filepath.Dir(s.Path), func(r *rand.Rand) error {
			if r.IntN(2) == 0 {
				return nil
			}
			return os.WriteFile(s.Path, removed, 0o600)
		}})
	}
	return nil
}

// tear lets a transaction be written and dies with it: afterwards the file has
// some of its pages, and neither of the two at its beginning, which would make
// them count.
func (f *flash) tear(path string) error {
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f.torn++
	f.undo = append(f.undo, undo{path, func(r *rand.Rand) error {
		const metas = 2 * flashPage
		if err := writeBack(nil, path, 0, before[:metas]); err != nil {
			return err
		}
		return writeBack(r, path, metas, before[metas:])
	}})
	return nil
}

// readAt returns what a file has in a range; zeros behind its end.
func readAt(path string, off, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	if got, err := f.ReadAt(b, off); err != nil && got == 0 {
		clear(b)
	}
	return b, nil
}

// writeBack puts old bytes back, each page by chance; all without r.
func writeBack(r *rand.Rand, path string, off int64, old []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) { // its name was undone
		return nil
	}
	if err != nil {
		return err
	}
	for at := int64(0); at < int64(len(old)); {
		end := min((off+at)/flashPage*flashPage+flashPage-off, int64(len(old)))
		if r == nil || r.IntN(2) == 0 {
			_, err = f.WriteAt(old[at:end], off+at)
		}
		at = end
	}
	return errors.Join(err, f.Close())
}
