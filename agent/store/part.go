package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A Part is a download that outlives the process: slot-MODEL-DIGEST.part, the
// file that the slot will have, with its whole length set aside. Put writes a
// chunk and syncs it, 32 KB at a time.
//
// Nothing says which chunks were written but their digests in the descriptor.
// A bitmap would have to be checked against those all the same, because it and
// the chunks reach the disk in any order, and its page beside each chunk's nine
// made 1.26 bytes written per useful byte of what is 1.13.
//
// It is used by one download; Put may be called concurrently.
type Part struct {
	Release    []byte
	Descriptor artifact.Descriptor

	s    *Store
	f    *os.File
	head int64 // bytes before the payload
}

// NewPart begins a download, in place of one of the same slot. The error wraps
// ErrQuota, ErrFull or ErrReadOnly.
func (s *Store) NewPart(k Key, release []byte, d artifact.Descriptor) (*Part, error) {
	if s.readOnly {
		return nil, ErrReadOnly
	}
	head, err := artifact.AppendFileHead(nil, release, &d)
	if err != nil {
		return nil, err
	}
	path := s.path(partFile(k))
	if err := s.disk.remove(path); err != nil {
		return nil, mapped(err)
	}
	p := &Part{Release: release, Descriptor: d, s: s, head: int64(len(head))}
	if err := s.room(p.size()); err != nil {
		return nil, err
	}
	if p.f, err = s.disk.create(path + newSuffix); err != nil {
		return nil, mapped(err)
	}
	if err := errors.Join(p.begin(head, path), p.f.Close()); err != nil {
		return nil, errors.Join(mapped(err), s.disk.remove(p.f.Name()))
	}
	if p.f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil { // by its own name, which steps tell
		return nil, mapped(err)
	}
	return p, nil
}

// begin sets the length aside and gives the file its name.
func (p *Part) begin(head []byte, path string) error {
	if err := p.s.disk.reserve(p.f, p.size()); err != nil {
		return err
	}
	if err := p.s.disk.writeAt(p.f, head, 0); err != nil {
		return err
	}
	if err := p.s.disk.sync(p.f); err != nil {
		return err
	}
	return p.s.disk.rename(p.f.Name(), path)
}

// Begun reports whether there is a download of k.
func (s *Store) Begun(k Key) bool {
	_, err := os.Stat(s.path(partFile(k)))
	return err == nil
}

// OpenPart opens a download that was begun. The error wraps ErrMissing if there
// is none, or none that can be read.
func (s *Store) OpenPart(k Key) (*Part, error) {
	path := s.path(partFile(k))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// It was complete, and the transaction that should follow was not made.
		if err = s.disk.rename(s.path(slotFile(k)), path); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR, 0)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrMissing
	}
	if err != nil {
		return nil, mapped(err)
	}
	p := &Part{s: s, f: f}
	if p.Release, p.Descriptor, err = artifact.ReadFileHead(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrMissing, err), f.Close())
	}
	if p.head, err = f.Seek(0, io.SeekCurrent); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// size is that of the file.
func (p *Part) size() int64 { return p.head + int64(p.Descriptor.Size) }

// at is where chunk n is.
func (p *Part) at(n int) int64 { return p.head + int64(n)*protocol.ChunkSize }

// Have reads everything and returns which chunks are there and whole.
func (p *Part) Have() []bool {
	have := make([]bool, len(p.Descriptor.Chunks))
	buf := make([]byte, protocol.ChunkSize)
	for n := range have {
		b := buf[:min(p.size()-p.at(n), protocol.ChunkSize)]
		_, err := p.f.ReadAt(b, p.at(n))
		have[n] = err == nil && p.Descriptor.CheckChunk(n, b) == nil
	}
	return have
}

// Put writes chunk n, whose digest was checked, durably.
func (p *Part) Put(n int, chunk []byte) error {
	if err := p.s.disk.writeAt(p.f, chunk, p.at(n)); err != nil {
		return mapped(err)
	}
	return mapped(p.s.disk.sync(p.f))
}

// Payload reads the whole, once all chunks are there.
func (p *Part) Payload() ([]byte, error) {
	b := make([]byte, p.Descriptor.Size)
	_, err := p.f.ReadAt(b, p.head)
	return b, err
}

// Close leaves the file for Commit, or for the next OpenPart.
func (p *Part) Close() error { return p.f.Close() }
