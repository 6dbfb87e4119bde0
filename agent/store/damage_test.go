package store

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// writeCache makes b the database of dir.
func writeCache(t *testing.T, dir string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, fileName), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// format1 is the database of an agent that wrote format 1: two versions of the
// model pump, state, events and usage.
func format1(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open("testdata/cache-format-1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func formatOf(t *testing.T, s *Store) string {
	t.Helper()
	var version []byte
	err := s.view(func(tx *bbolt.Tx) (err error) {
		version, err = get(tx, metaBucket, formatKey)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(version)
}

func TestOlderFormatIsReadAndBecomesOurs(t *testing.T) {
	dir := t.TempDir()
	writeCache(t, dir, format1(t))
	s := open(t, dir)
	keys, err := s.Slots()
	if err != nil || len(keys) != 2 {
		t.Fatalf("Slots() = %v, %v, want two", keys, err)
	}
	state, err := s.State()
	if err != nil || !bytes.Contains(state, []byte(`"device":"d1"`)) {
		t.Errorf("State() = %q, %v", state, err)
	}
	before, err := s.Slot(keys[1])
	if err != nil || len(before.Payload) == 0 {
		t.Errorf("Slot: %d bytes, %v", len(before.Payload), err)
	}
	if f := formatOf(t, s); f != "1" || len(s.Findings()) > 0 {
		t.Errorf("format %s, findings %q; reading changes nothing", f, s.Findings())
	}
	big := modelSlot(t, 1, 200_000)
	if err := s.Commit(Change{State: state, Put: []Slot{big}}); err != nil {
		t.Fatal(err)
	}
	if f := formatOf(t, s); f != "2" {
		t.Errorf("format %s after a change, want 2: an agent before files must not read it", f)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if got, err := s.Slot(keys[1]); err != nil || !bytes.Equal(got.Payload, before.Payload) {
		t.Errorf("the old slot afterwards: %v", err)
	}
	if got, err := s.Slot(big.Key); err != nil || !bytes.Equal(got.Payload, big.Payload) {
		t.Errorf("the new slot afterwards: %v", err)
	}
}

func TestNewerFormatIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	err := s.update(func(tx *bbolt.Tx) error { return put(tx, metaBucket, formatKey, []byte("3")) })
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), `"3"`) {
		t.Errorf("Open = %v, want ErrFormat and which", err)
	}
	after, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("files beside it: %v", left)
	}
}

// bbolt follows a page that is its own child until memory is gone.
func TestCycleOfPagesIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := range byte(200) { // enough slots for a root with branches
		if err := s.Commit(Change{State: []byte("s"), Put: []Slot{slotOf(n, 100)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkTree(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatalf("a good database: %v", err)
	}
	root, _, ok := newestMeta(bytes.NewReader(b))
	page := b[root*pageSize:]
	if !ok || native.Uint16(page[8:]) != branchFlag {
		t.Fatal("the root is no branch: the test needs more slots")
	}
	native.PutUint64(page[pageHeader+8:], root) // its first child is itself
	writeCache(t, dir, b)
	s = open(t, dir)
	if f := s.Findings(); len(f) != 1 || !strings.Contains(f[0], "two parents") {
		t.Errorf("findings %q", f)
	}
	if err := s.Commit(Change{State: []byte("after")}); err != nil {
		t.Error(err)
	}
}

func TestOpeningTakesNoLongerThanItIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, b, _ := filled(t)
		hang := make(chan struct{})
		var opened atomic.Bool
		s, err := openWith(Config{Dir: dir, OpenLimit: 30 * time.Second}, func(s *Store, db *bbolt.DB) error {
			if !opened.Swap(true) {
				<-hang // a disk that does not answer
			}
			return s.verify(db)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if f := s.Findings(); len(f) != 1 || !strings.Contains(f[0], "within 30s") {
			t.Errorf("findings %q, want the limit", f)
		}
		if err := s.Commit(Change{State: []byte("new")}); err != nil {
			t.Error(err)
		}
		close(hang)
		synctest.Wait()
		if aside, err := os.ReadFile(filepath.Join(dir, damagedName)); err != nil || !bytes.Equal(aside, b) {
			t.Errorf("what was set aside: %v, or it was changed", err)
		}
	})
}

// damageFile changes a byte in the middle of a file.
func damageFile(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], 150_000); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], 150_000); err != nil {
		t.Fatal(err)
	}
}

func TestCheckFindsDamageThatCameLater(t *testing.T) {
	for _, where := range []string{"database", "file"} {
		dir := t.TempDir()
		s := open(t, dir)
		small, big := slotOf(1, 20_000), modelSlot(t, 2, 200_000)
		if err := s.Commit(Change{State: []byte("s"), Put: []Slot{small, big}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("Check of a good cache = %v", err)
		}
		broken, whole := big.Key, small
		if where == "file" {
			damageFile(t, s.path(slotFile(big.Key)))
		} else {
			broken, whole = small.Key, big
			b, err := os.ReadFile(s.path(fileName))
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(s.path(fileName), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{^small.Payload[9000]}, int64(bytes.Index(b, small.Payload)+9000)); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		if err := s.Check(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Check = %v, want ErrDamaged", where, err)
		}
		if _, err := s.Slot(broken); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Slot = %v, want ErrDamaged", where, err)
		}
		if err := s.Repair(); err != nil || len(s.Findings()) != 1 {
			t.Errorf("%s: Repair = %v, findings %q", where, err, s.Findings())
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: Check after Repair = %v", where, err)
		}
		if _, err := s.Slot(broken); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: the damaged slot after Repair: %v, want ErrMissing", where, err)
		}
		if got, err := s.Slot(whole.Key); err != nil || !bytes.Equal(got.Payload, whole.Payload) {
			t.Errorf("%s: the other slot after Repair: %v", where, err)
		}
	}
}

// A download takes over what is whole of a damaged file.
func TestDamagedFileIsTakenOver(t *testing.T) {
	s := open(t, t.TempDir())
	slot := modelSlot(t, 2, 200_000)
	if err := s.Commit(Change{State: []byte("s"), Put: []Slot{slot}}); err != nil {
		t.Fatal(err)
	}
	damageFile(t, s.path(slotFile(slot.Key)))
	if err := s.Repair(); err != nil {
		t.Fatal(err)
	}
	p, err := s.OpenPart(slot.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	missing := 0
	for _, have := range p.Have() {
		if !have {
			missing++
		}
	}
	if missing != 1 {
		t.Errorf("%d chunks to fetch again, want 1", missing)
	}
}
