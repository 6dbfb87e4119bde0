package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// slotOf returns version n of model m with size bytes that depend on n.
func slotOf(n byte, size int) Slot {
	payload := make([]byte, size)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range payload {
		payload[i] = byte(rng.Uint32())
	}
	return Slot{
		Key:        Key{"m", protocol.Digest{n}},
		Release:    fmt.Appendf(nil, "release %d", n),
		Descriptor: fmt.Appendf(nil, "descriptor %d", n),
		Payload:    payload,
	}
}

// modelSlot is slotOf with a descriptor that fits the payload, as what has a
// file needs.
func modelSlot(t *testing.T, n byte, size int) Slot {
	t.Helper()
	s := slotOf(n, size)
	d := artifact.Descriptor{
		Digest: s.Digest, Kind: protocol.KindFull, Size: uint32(size), Decoded: uint32(size), Codecs: []artifact.Codec{0},
	}
	for at := 0; at < size; at += protocol.ChunkSize {
		d.Chunks = append(d.Chunks, sha256.Sum256(s.Payload[at:min(size, at+protocol.ChunkSize)]))
	}
	var err error
	if s.Descriptor, err = d.AppendBinary(nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCommitIsThereAfterReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a, b := slotOf(1, 70_000), slotOf(2, 70_000)
	for _, c := range []Change{
		{State: []byte("one"), Put: []Slot{a}, Events: [][]byte{[]byte("e1")}},
		{State: []byte("two"), Put: []Slot{b}, Events: [][]byte{[]byte("e2"), []byte("e3")}},
		{State: []byte("three"), Drop: []Key{a.Key}},
	} {
		if err := s.Commit(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.SetUsage([]byte("usage")), s.DropEvents(1, 99), s.SaveCounters(Counters{7, 2, 31}), s.Close()); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir)
	state, err := s.State()
	if err != nil || string(state) != "three" {
		t.Errorf("State() = %q, %v, want three", state, err)
	}
	if usage, err := s.Usage(); err != nil || string(usage) != "usage" {
		t.Errorf("Usage() = %q, %v, want usage", usage, err)
	}
	if c := s.Counters(); c != (Counters{7, 2, 31}) {
		t.Errorf("Counters() = %+v, want 7, 2 and 31", c)
	}
	keys, err := s.Slots()
	if diff := cmp.Diff([]Key{b.Key}, keys); err != nil || diff != "" {
		t.Errorf("Slots(): %v %s", err, diff)
	}
	got, err := s.Slot(b.Key)
	if diff := cmp.Diff(b, got); err != nil || diff != "" {
		t.Errorf("Slot(2): %v %s", err, diff)
	}
	if _, err := s.Slot(a.Key); !errors.Is(err, ErrMissing) {
		t.Errorf("Slot(1) = %v, want ErrMissing", err)
	}
	events, err := s.Events()
	if diff := cmp.Diff([]Pending{{2, []byte("e2")}, {3, []byte("e3")}}, events); err != nil || diff != "" {
		t.Errorf("Events(): %v %s", err, diff)
	}
	if f := s.Findings(); len(f) != 0 {
		t.Errorf("findings in a good database: %q", f)
	}
}

func TestNewStoreIsEmpty(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "new", "folder"))
	state, err1 := s.State()
	keys, err2 := s.Slots()
	events, err3 := s.Events()
	if err := errors.Join(err1, err2, err3); err != nil || state != nil || keys != nil || events != nil {
		t.Errorf("state %q, slots %v, events %v, %v; want nothing", state, keys, events, err)
	}
}

func TestEventRingLosesTheOldest(t *testing.T) {
	s := open(t, t.TempDir())
	var all [][]byte
	for i := range MaxEvents + 10 {
		all = append(all, fmt.Append(nil, i))
	}
	if err := s.Commit(Change{Events: all}); err != nil {
		t.Fatal(err)
	}
	events, err := s.Events()
	if err != nil || len(events) != MaxEvents || events[0].Seq != 11 || string(events[0].Data) != "10" {
		t.Errorf("%d events, %v, the first %v; want %d from 11", len(events), err, events[0], MaxEvents)
	}
}

// What a reader returns is not the database's memory, which cannot be written
// to, and is unmapped when the file grows.
func TestWhatIsReadIsTheCallers(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	s := open(t, t.TempDir())
	in := slotOf(1, 9_000)
	big := make([]byte, pageSize) // or bbolt keeps the whole bucket inside another's value, and may copy that
	if err := errors.Join(s.Commit(Change{State: big, Put: []Slot{in}, Events: [][]byte{big}}), s.SetUsage(big)); err != nil {
		t.Fatal(err)
	}
	events, err1 := s.Events()
	state, err2 := s.State()
	usage, err3 := s.Usage()
	slot, err4 := s.Slot(in.Key)
	if err := errors.Join(err1, err2, err3, err4); err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for name, b := range map[string][]byte{
		"event": events[0].Data, "state": state, "usage": usage, "release": slot.Release, "descriptor": slot.Descriptor, "payload": slot.Payload,
	} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s: %v", name, r)
				}
			}()
			b[0]++
		}()
	}
}

func TestSecondOpenerIsTold(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
}

func TestQuotaRefusesTheWholeChange(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir(), Quota: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Commit(Change{State: []byte("old"), Put: []Slot{slotOf(1, 70_000)}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(Change{State: []byte("new"), Put: []Slot{modelSlot(t, 2, 400_000)}}); !errors.Is(err, ErrQuota) {
		t.Errorf("Commit beyond the quota = %v, want ErrQuota", err)
	}
	if state, err := s.State(); err != nil || string(state) != "old" {
		t.Errorf("State() = %q, %v, want old", state, err)
	}
	if err := s.Commit(Change{State: []byte("newer")}); err != nil {
		t.Errorf("a small change after that: %v", err)
	}
}

func TestReadOnlyFolderIsRead(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes where it likes")
	}
	dir := t.TempDir()
	s := open(t, dir)
	if err := errors.Join(s.Commit(Change{State: []byte("kept")}), s.Close(), os.Chmod(filepath.Join(dir, fileName), 0o400), os.Chmod(dir, 0o500)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	s = open(t, dir)
	if state, err := s.State(); err != nil || string(state) != "kept" || !s.ReadOnly() {
		t.Errorf("State() = %q, %v, read-only %t; want kept, true", state, err, s.ReadOnly())
	}
	if err := s.Commit(Change{State: []byte("new")}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Commit = %v, want ErrReadOnly", err)
	}
}

// filled returns a folder with a database of two slots, and the file's bytes.
func filled(t *testing.T) (string, []byte, []Slot) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	slots := []Slot{slotOf(1, 9_000), slotOf(2, 9_000)}
	err := s.Commit(Change{State: []byte("the state"), Put: slots, Events: [][]byte{[]byte("e1"), []byte("e2")}})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return dir, b, slots
}

func TestDamagedSlotIsSetAside(t *testing.T) {
	dir, b, slots := filled(t)
	i := bytes.Index(b, slots[1].Payload)
	if i < 0 {
		t.Fatal("payload not found in the file")
	}
	b[i+5000] ^= 1
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if len(s.Findings()) != 1 {
		t.Errorf("findings %q, want one", s.Findings())
	}
	if aside, err := os.ReadFile(filepath.Join(dir, damagedName)); err != nil || !bytes.Equal(aside, b) {
		t.Errorf("the damaged file was not kept: %v", err)
	}
	if got, err := s.Slot(slots[0].Key); err != nil || !bytes.Equal(got.Payload, slots[0].Payload) {
		t.Errorf("whole slot: %v", err)
	}
	if _, err := s.Slot(slots[1].Key); !errors.Is(err, ErrMissing) {
		t.Errorf("damaged slot: %v, want ErrMissing", err)
	}
	if state, err := s.State(); err != nil || string(state) != "the state" {
		t.Errorf("State() = %q, %v", state, err)
	}
	if events, err := s.Events(); err != nil || len(events) != 2 {
		t.Errorf("events %v, %v, want 2", events, err)
	}
}

// TestRandomDamage: whatever happens to the file, Open gives a store that works,
// and no value that was not written.
func TestRandomDamage(t *testing.T) {
	dir, good, slots := filled(t)
	path := filepath.Join(dir, fileName)
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, seed))
	set := 0
	for run := range 80 {
		b := bytes.Clone(good)
		what := ""
		switch rng.IntN(4) {
		case 0:
			b = b[:rng.IntN(len(b))]
			what = fmt.Sprintf("cut to %d", len(b))
		case 1:
			i := rng.IntN(len(b))
			b[i] ^= 1 << rng.IntN(8)
			what = fmt.Sprintf("bit of byte %d", i)
		case 2:
			i := rng.IntN(len(b)/512) * 512
			clear(b[i : i+512])
			what = fmt.Sprintf("sector at %d zeroed", i)
		case 3:
			i, j := rng.IntN(len(b)/4096)*4096, rng.IntN(len(b)/4096)*4096
			copy(b[i:i+4096], good[j:j+4096])
			what = fmt.Sprintf("page at %d replaced by that at %d", i, j)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		context := fmt.Sprintf("seed %d run %d, %s", seed, run, what)
		s, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatalf("%s: Open: %v", context, err)
		}
		if len(s.Findings()) > 0 {
			set++
		}
		if state, err := s.State(); err != nil || state != nil && string(state) != "the state" {
			t.Fatalf("%s: State() = %q, %v", context, state, err)
		}
		for _, want := range slots {
			got, err := s.Slot(want.Key)
			if err == nil && !cmp.Equal(got, want) {
				t.Fatalf("%s: a slot that was never written", context)
			} else if err != nil && !errors.Is(err, ErrMissing) {
				t.Fatalf("%s: %v", context, err)
			}
		}
		if err := s.Commit(Change{State: []byte("after"), Put: []Slot{slotOf(3, 9_000)}}); err != nil {
			t.Fatalf("%s: Commit: %v", context, err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("%s: Close: %v", context, err)
		}
	}
	if set == 0 {
		t.Error("no damage was ever found")
	}
}

func TestGoldenIsReplacedWhole(t *testing.T) {
	dir := t.TempDir()
	var fail error
	s, err := Open(Config{Dir: dir, Disk: func(step Step) error {
		if step.Op == OpSync {
			return fail
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, second := modelSlot(t, 1, 9_000), modelSlot(t, 2, 9_000)
	if err := s.WriteGolden(first); err != nil {
		t.Fatal(err)
	}
	fail = syscall.ENOSPC
	if err := s.WriteGolden(second); !errors.Is(err, ErrFull) {
		t.Errorf("WriteGolden on a full disk = %v, want ErrFull", err)
	}
	if models, err := s.Goldens(); err != nil || !cmp.Equal(models, []string{"m"}) {
		t.Errorf("Goldens() = %v, %v", models, err)
	}
	r, err := s.Golden("m")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, got, err := artifact.ReadFile(r); err != nil || !bytes.Equal(got.Payload, first.Payload) {
		t.Errorf("the copy is not the first one: %v", err)
	}
}

func TestDamagedCountersAreNotTrusted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.SaveCounters(Counters{Boot: 12}); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(filepath.Join(dir, countersName))
	b[0] ^= 1
	if err := os.WriteFile(filepath.Join(dir, countersName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := s.Counters(); c != (Counters{}) {
		t.Errorf("Counters() = %+v from a damaged file, want zeros", c)
	}
}

// TestWriteAmplification holds the bytes that a version of 70 KB costs to 1.25
// times its size.
func TestWriteAmplification(t *testing.T) {
	s := open(t, t.TempDir())
	for n := range 3 {
		if err := s.Commit(Change{State: make([]byte, 600), Put: []Slot{slotOf(byte(n), 70_000)}}); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := s.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	c := Change{State: make([]byte, 600), Put: []Slot{slotOf(9, 70_000)}, Drop: []Key{{"m", protocol.Digest{1}}}}
	if err := errors.Join(c.write(tx, nil), tx.Commit()); err != nil {
		t.Fatal(err)
	}
	stats := tx.Stats()
	written := stats.GetPageAlloc() + pageSize // and the meta page
	t.Logf("%d bytes written for 70000: %.2f", written, float64(written)/70_000)
	if written <= 70_000 || written > 87_500 {
		t.Errorf("%d bytes written for 70000, want at most 1.25 times", written)
	}
}
