package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A recorder notes the steps of a Store and fails them when told to.
type recorder struct {
	steps   []Step
	fail    func(Step) error
	written int64 // bytes, in whole pages
}

func (r *recorder) disk(s Step) error {
	if r.fail != nil {
		if err := r.fail(s); err != nil {
			return err
		}
	}
	r.steps = append(r.steps, s)
	switch s.Op {
	case OpWrite:
		r.written += (s.Off+s.Len+pageSize-1)/pageSize*pageSize - s.Off/pageSize*pageSize
	case OpCommitted:
		r.written += s.Len
	}
	return nil
}

func openRecorded(t *testing.T, dir string) (*Store, *recorder) {
	t.Helper()
	r := new(recorder)
	s, err := Open(Config{Dir: dir, Disk: r.disk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, r
}

func descriptorOf(t *testing.T, s Slot) artifact.Descriptor {
	t.Helper()
	var d artifact.Descriptor
	if err := d.UnmarshalBinary(s.Descriptor); err != nil {
		t.Fatal(err)
	}
	return d
}

func chunk(s Slot, n int) []byte {
	return s.Payload[n*protocol.ChunkSize : min(len(s.Payload), (n+1)*protocol.ChunkSize)]
}

// download puts chunks of slot into p.
func download(t *testing.T, p *Part, slot Slot, chunks ...int) {
	t.Helper()
	for _, n := range chunks {
		if err := p.Put(n, chunk(slot, n)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPartGoesOnAndBecomesTheSlot(t *testing.T) {
	dir := t.TempDir()
	slot := modelSlot(t, 1, 300_000) // 10 chunks, the last shorter
	s := open(t, dir)
	if _, err := s.OpenPart(slot.Key); !errors.Is(err, ErrMissing) {
		t.Errorf("OpenPart before any = %v, want ErrMissing", err)
	}
	p, err := s.NewPart(slot.Key, slot.Release, descriptorOf(t, slot))
	if err != nil {
		t.Fatal(err)
	}
	download(t, p, slot, 0, 9, 4)
	if err := errors.Join(p.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir)
	if p, err = s.OpenPart(slot.Key); err != nil {
		t.Fatal(err)
	}
	want := make([]bool, 10)
	want[0], want[4], want[9] = true, true, true
	if have := p.Have(); !slices.Equal(have, want) || !bytes.Equal(p.Release, slot.Release) {
		t.Errorf("have %v, want %v, and the release", have, want)
	}
	download(t, p, slot, 1, 2, 3, 5, 6, 7, 8)
	if b, err := p.Payload(); err != nil || !bytes.Equal(b, slot.Payload) {
		t.Errorf("Payload: %v, or other bytes", err)
	}
	if err := errors.Join(p.Close(), s.Commit(Change{State: []byte("s"), Put: []Slot{slot}}), s.Close()); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir)
	got, err := s.Slot(slot.Key)
	if err != nil || !bytes.Equal(got.Payload, slot.Payload) || len(s.Findings()) > 0 {
		t.Errorf("the slot after that: %v, findings %q", err, s.Findings())
	}
	if err := s.WriteGolden(got); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(Change{State: []byte("s"), Drop: []Key{slot.Key}}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Golden("m")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, tr, err := artifact.ReadFile(r); err != nil || !bytes.Equal(tr.Payload, slot.Payload) {
		t.Errorf("the copy once its slot is gone: %v", err)
	}
	if paths, size := s.slotFiles(); size != 0 {
		t.Errorf("left behind: %q", paths)
	}
}

// Whatever part of the last writes reached the disk, a chunk that is not whole
// is not believed.
func TestPartBelievesDigestsOnly(t *testing.T) {
	dir := t.TempDir()
	slot := modelSlot(t, 1, 200_000)
	s := open(t, dir)
	p, err := s.NewPart(slot.Key, slot.Release, descriptorOf(t, slot))
	if err != nil {
		t.Fatal(err)
	}
	download(t, p, slot, 0, 1)
	if err := errors.Join(s.disk.writeAt(p.f, make([]byte, pageSize), p.at(1)+pageSize), p.Close()); err != nil { // a page is lost
		t.Fatal(err)
	}
	p, err = s.OpenPart(slot.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if have := p.Have(); !slices.Equal(have, []bool{true, false, false, false, false, false, false}) {
		t.Errorf("have %v, want chunk 0 alone", have)
	}
}

// TestDiskFullAtEachStep fails each step of a download and an installation in
// turn: what was there stays, and once there is room the same calls go through.
func TestDiskFullAtEachStep(t *testing.T) {
	old, slot, small := modelSlot(t, 1, 300_000), modelSlot(t, 2, 200_000), modelSlot(t, 3, 20_000)
	install := func(s *Store) error {
		p, err := s.OpenPart(slot.Key)
		if errors.Is(err, ErrMissing) {
			p, err = s.NewPart(slot.Key, slot.Release, descriptorOf(t, slot))
		}
		if err != nil {
			return err
		}
		for n, have := range p.Have() {
			if !have {
				err = errors.Join(err, p.Put(n, chunk(slot, n)))
			}
		}
		if err := errors.Join(err, p.Close()); err != nil {
			return err
		}
		return errors.Join(s.Commit(Change{State: []byte("new"), Put: []Slot{slot, small}, Drop: []Key{old.Key}}),
			s.WriteGolden(slot), s.SaveCounters(Counters{Boot: 1}), s.SetUsage([]byte("u")))
	}
	for k := 0; ; k++ {
		s, r := openRecorded(t, t.TempDir())
		if err := s.Commit(Change{State: []byte("old"), Put: []Slot{old}}); err != nil {
			t.Fatal(err)
		}
		seen := 0
		var failed Step
		r.fail = func(step Step) error {
			if step.Op == OpCommitted || step.Op == OpRemove {
				return nil // takes no space
			}
			if seen++; seen <= k {
				return nil
			}
			if failed.Op == 0 {
				failed = step
			}
			return syscall.ENOSPC
		}
		err := install(s)
		r.fail = nil
		if failed.Op == 0 {
			if err != nil || k < 20 {
				t.Errorf("%d steps: %v", k, err)
			}
			break
		}
		if failed.Op != OpLink && !errors.Is(err, ErrFull) { // without links there is a copy
			t.Errorf("full at step %d %+v: %v, want ErrFull", k, failed, err)
		}
		state, err := s.State()
		if err != nil {
			t.Fatal(err)
		}
		if string(state) == "old" {
			if _, err := s.Slot(old.Key); err != nil {
				t.Errorf("full at step %d %+v: the old version: %v", k, failed, err)
			}
		} else if _, err := s.Slot(slot.Key); err != nil {
			t.Errorf("full at step %d %+v: the new version: %v", k, failed, err)
		}
		if err := install(s); err != nil {
			t.Errorf("full at step %d %+v, and with room: %v", k, failed, err)
		}
		if got, err := s.Slot(slot.Key); err != nil || !bytes.Equal(got.Payload, slot.Payload) {
			t.Errorf("full at step %d %+v, and with room, the new version: %v", k, failed, err)
		}
		if err := s.Tidy(func(Key) bool { return false }); err != nil {
			t.Error(err)
		}
		if paths, _ := s.slotFiles(); len(paths) != 1 || !strings.HasSuffix(paths[0], slotFile(slot.Key)) {
			t.Errorf("full at step %d %+v: files %q", k, failed, paths)
		}
		s.Close()
	}
}

func TestQuotaCountsFiles(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir(), Quota: 700_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	slot := modelSlot(t, 1, 300_000)
	if err := s.Commit(Change{State: []byte("s"), Put: []Slot{slot}}); err != nil {
		t.Fatal(err)
	}
	second := modelSlot(t, 2, 400_000)
	_, err = s.NewPart(second.Key, second.Release, descriptorOf(t, second))
	if !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), "of 700000 bytes") || !strings.Contains(err.Error(), "quota_bytes") {
		t.Errorf("NewPart = %v, want ErrQuota, how much is in use, and what to do", err)
	}
	if err := s.Commit(Change{State: []byte("s"), Put: []Slot{slotOf(3, 120_000), slotOf(4, 120_000)}}); !errors.Is(err, ErrQuota) {
		t.Errorf("Commit = %v, want ErrQuota", err)
	}
	if err := s.Commit(Change{State: []byte("s"), Drop: []Key{slot.Key}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(Change{State: []byte("s"), Put: []Slot{slotOf(3, 120_000)}}); err != nil {
		t.Errorf("Commit once there is room: %v", err)
	}
}

func TestTidyRemovesWhatWasGivenUp(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	kept, wanted, gone := modelSlot(t, 1, 200_000), modelSlot(t, 2, 200_000), modelSlot(t, 3, 200_000)
	if err := s.Commit(Change{State: []byte("s"), Put: []Slot{kept}}); err != nil {
		t.Fatal(err)
	}
	for _, slot := range []Slot{wanted, gone} {
		p, err := s.NewPart(slot.Key, slot.Release, descriptorOf(t, slot))
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
	if err := os.WriteFile(filepath.Join(dir, "slot-notes.txt"), nil, 0o600); err != nil { // somebody else's
		t.Fatal(err)
	}
	if err := s.Tidy(func(k Key) bool { return k == wanted.Key }); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "slot-*"))
	if err != nil || len(left) != 3 {
		t.Errorf("left %q, want the slot, the download and the note", left)
	}
	if _, err := s.Slot(kept.Key); err != nil {
		t.Error(err)
	}
}

// TestBytesWrittenPerInstall holds what an installation costs the flash, in
// whole pages, to 1.25 times what is useful: payload, release and descriptor.
func TestBytesWrittenPerInstall(t *testing.T) {
	for _, size := range []int{70_000, 4_000_000} {
		s, r := openRecorded(t, t.TempDir())
		var drop []Key
		for n := range byte(4) {
			slot := modelSlot(t, n+1, size)
			r.written = 0
			if size > MaxInBucket {
				p, err := s.NewPart(slot.Key, slot.Release, descriptorOf(t, slot))
				if err != nil {
					t.Fatal(err)
				}
				for i := range p.Have() {
					download(t, p, slot, i)
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			}
			c := Change{State: make([]byte, 600), Put: []Slot{slot}, Events: [][]byte{make([]byte, 100)}}
			if n >= 3 {
				c.Drop = append(drop, Key{"m", protocol.Digest{n - 2}})
			}
			if err := s.Commit(c); err != nil {
				t.Fatal(err)
			}
			useful := int64(len(slot.Payload) + len(slot.Descriptor) + len(slot.Release))
			factor := float64(r.written) / float64(useful)
			t.Logf("version %d of %d bytes: %d bytes written, %.3f times", n+1, useful, r.written, factor)
			if factor < 1 || factor > 1.25 {
				t.Errorf("%d bytes written for %d, want at most 1.25 times", r.written, useful)
			}
		}
	}
}
