package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

var at = time.UnixMilli(1_700_000_000_000).UTC()

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func update(t *testing.T, s *Store, f func(ctx context.Context, tx Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx Tx) error { return f(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
}

func digest(b byte) protocol.Digest { return protocol.Digest{b} }

func version(name string, number uint64, d byte) Version {
	return Version{
		Name: name, Number: number, Digest: digest(d), Task: "rul", Created: at,
		Payload: []byte{d}, Hash: fmt.Sprintf("%032x", d), Bytes: int64(d),
	}
}

func putVersion(ctx context.Context, tx Tx, v Version) error {
	err := tx.PutTransfer(ctx, Transfer{Hash: v.Hash, Digest: v.Digest, Kind: "full", Size: v.Bytes, Descriptor: []byte{1}, Payload: "x"})
	return errors.Join(err, tx.PutVersion(ctx, v))
}

// crash copies what is on disk while the store is open: what a killed process
// leaves behind.
func crash(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, name := range []string{dbFile, dbFile + "-wal"} { // the -shm file is rebuilt
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestEveryAckedWriteIsFoundAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	steps := []struct {
		name  string
		write func(context.Context, Tx) error
		read  func(context.Context, Tx) (any, error)
		want  any
	}{
		{"meta", func(ctx context.Context, tx Tx) error { return tx.SetMeta(ctx, "fleet", []byte("default")) },
			func(ctx context.Context, tx Tx) (any, error) { return tx.Meta(ctx, "fleet") }, []byte("default")},
		{"version", func(ctx context.Context, tx Tx) error { return putVersion(ctx, tx, version("m", 1, 7)) },
			func(ctx context.Context, tx Tx) (any, error) { return tx.LatestVersion(ctx, "m") }, version("m", 1, 7)},
		{"alias", func(ctx context.Context, tx Tx) error { return tx.SetAlias(ctx, "m", "prod", 1) },
			func(ctx context.Context, tx Tx) (any, error) { return tx.VersionByAlias(ctx, "m", "prod") }, version("m", 1, 7)},
		{"device", func(ctx context.Context, tx Tx) error {
			return tx.PutDevice(ctx, Device{ID: "d1", Token: []byte{1}, Created: at, Labels: map[string]string{"site": "oslo"}})
		}, func(ctx context.Context, tx Tx) (any, error) { return tx.DeviceIDs(ctx, where("site=oslo"), "", 9) }, []string{"d1"}},
		{"user", func(ctx context.Context, tx Tx) error {
			return tx.PutUser(ctx, User{ID: "ann", Token: []byte{2}, Created: at})
		}, func(ctx context.Context, tx Tx) (any, error) { return tx.User(ctx, "ann") }, User{ID: "ann", Token: []byte{2}, Created: at}},
		{"have", func(ctx context.Context, tx Tx) error { return tx.SetHave(ctx, "d1", []byte("{}"), nil) },
			func(ctx context.Context, tx Tx) (any, error) { d, err := tx.Device(ctx, "d1"); return d.Have, err }, []byte("{}")},
		{"rollout", func(ctx context.Context, tx Tx) error {
			_, err := tx.PutRollout(ctx, Rollout{Kind: KindStart, Model: "m", Number: 1, Digest: digest(7), Target: "all", Created: at})
			return err
		}, func(ctx context.Context, tx Tx) (any, error) { return tx.NewestRollout(ctx, "m") },
			Rollout{ID: 1, Kind: KindStart, Model: "m", Number: 1, Digest: digest(7), Target: "all", Created: at}},
		{"desired", func(ctx context.Context, tx Tx) error {
			return tx.PutDesired(ctx, Desired{Device: "d1", Model: "m", Digest: digest(7), Rollout: 1, Rev: 1, State: "pending", Changed: at})
		}, func(ctx context.Context, tx Tx) (any, error) { return tx.Counts(ctx, 1) }, map[string]int{"pending": 1}},
		{"want", func(ctx context.Context, tx Tx) error {
			return tx.PutWant(ctx, Want{Device: "d1", Rev: 1, Envelope: []byte{3}})
		}, func(ctx context.Context, tx Tx) (any, error) { return tx.Want(ctx, "d1") }, Want{Device: "d1", Rev: 1, Envelope: []byte{3}}},
		{"event", func(ctx context.Context, tx Tx) error {
			_, err := tx.PutEvent(ctx, Event{Device: "d1", Boot: 1, Seq: 2, At: at, Received: at, Kind: "activated", Model: "m", Digest: digest(7)})
			return err
		}, func(ctx context.Context, tx Tx) (any, error) { return tx.Events(ctx, "d1", 9) },
			[]Event{{Device: "d1", Boot: 1, Seq: 2, At: at, Received: at, Kind: "activated", Model: "m", Digest: digest(7)}}},
	}
	for i, step := range steps {
		update(t, s, step.write)
		after := openStore(t, crash(t, dir))
		for _, done := range steps[:i+1] {
			err := after.View(t.Context(), func(tx Tx) error {
				got, err := done.read(t.Context(), tx)
				if d := cmp.Diff(done.want, got); err != nil || d != "" {
					t.Errorf("killed after %s: %s: %v (-want +got)\n%s", step.name, done.name, err, d)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFailedUpdateLeavesNothing(t *testing.T) {
	s := openStore(t, t.TempDir())
	boom := errors.New("boom")
	err := s.Update(t.Context(), func(tx Tx) error {
		if err := tx.SetMeta(t.Context(), "k", []byte("v")); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("Update = %v, want boom", err)
	}
	err = s.View(t.Context(), func(tx Tx) error { _, err := tx.Meta(t.Context(), "k"); return err })
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("Meta after a failed update = %v, want ErrNotFound", err)
	}
}

func TestViewCannotWrite(t *testing.T) {
	s := openStore(t, t.TempDir())
	err := s.View(t.Context(), func(tx Tx) error { return tx.SetMeta(t.Context(), "k", []byte("v")) })
	if err == nil {
		t.Error("SetMeta in View = nil, want an error")
	}
}

func TestOpenRefusesNewerSchema(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if _, err := s.w.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir); !errors.Is(err, ErrNewer) {
		t.Errorf("Open = %v, want ErrNewer", err)
	}
}

func TestOpenReportsDamage(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, dbFile), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, dbFile), []byte("this is not a database, not at all, whatever its name says"+string(make([]byte, 4096))), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Open(not a database) = %v, want ErrCorrupt", err)
	}
}

func TestLockedAndFullAreNamed(t *testing.T) {
	dir := t.TempDir()
	s, other := openStore(t, dir), openStore(t, dir)
	if _, err := s.w.Exec(`PRAGMA busy_timeout = 1`); err != nil {
		t.Fatal(err)
	}
	set := func(value []byte) error {
		return s.Update(t.Context(), func(tx Tx) error { return tx.SetMeta(t.Context(), "k", value) })
	}
	update(t, other, func(ctx context.Context, tx Tx) error {
		if err := set([]byte("v")); !errors.Is(err, ErrBusy) {
			t.Errorf("Update beside another program's = %v, want ErrBusy", err)
		}
		return nil
	})
	if _, err := s.w.Exec(`PRAGMA max_page_count = 1`); err != nil { // SQLite raises it to the present size
		t.Fatal(err)
	}
	if err := set(make([]byte, 1<<20)); !errors.Is(err, ErrFull) {
		t.Errorf("Update on a full disk = %v, want ErrFull", err)
	}
	if _, err := s.w.Exec(`PRAGMA max_page_count = 1000000`); err != nil {
		t.Fatal(err)
	}
	if err := set([]byte("v")); err != nil {
		t.Errorf("Update after space was freed = %v", err)
	}
}

func TestVersionsAreImmutable(t *testing.T) {
	s := openStore(t, t.TempDir())
	update(t, s, func(ctx context.Context, tx Tx) error {
		if err := putVersion(ctx, tx, version("m", 1, 1)); err != nil {
			return err
		}
		return putVersion(ctx, tx, version("m", 2, 2))
	})
	for _, tt := range []struct {
		name string
		v    Version
	}{
		{"same number", version("m", 1, 9)},
		{"same digest", version("other", 1, 1)},
	} {
		err := s.Update(t.Context(), func(tx Tx) error { return putVersion(t.Context(), tx, tt.v) })
		if !errors.Is(err, ErrExists) {
			t.Errorf("PutVersion(%s) = %v, want ErrExists", tt.name, err)
		}
	}
	if _, err := s.w.Exec(`UPDATE versions SET task = 'other'`); err == nil {
		t.Error("a version's task was changed")
	}
	sign := func(sig byte) error {
		return s.Update(t.Context(), func(tx Tx) error { return tx.SignVersion(t.Context(), "m", 1, []byte{sig}) })
	}
	if err := sign(1); err != nil {
		t.Fatal(err)
	}
	if err := sign(2); err == nil {
		t.Error("a signed version was signed again")
	}
}

func TestWantsCannotGoBack(t *testing.T) {
	s := openStore(t, t.TempDir())
	update(t, s, func(ctx context.Context, tx Tx) error {
		return tx.PutDevice(ctx, Device{ID: "d", Token: []byte{1}, Created: at})
	})
	for _, tt := range []struct {
		epoch, rev uint64
		ok         bool
	}{{1, 5, true}, {1, 4, false}, {1, 6, true}, {2, 1, true}, {1, 9, false}} {
		err := s.Update(t.Context(), func(tx Tx) error {
			return tx.PutWant(t.Context(), Want{Device: "d", Epoch: tt.epoch, Rev: tt.rev})
		})
		if (err == nil) != tt.ok {
			t.Errorf("PutWant(%d, %d) = %v, want ok %v", tt.epoch, tt.rev, err, tt.ok)
		}
	}
}

// Random writes against a map: the counters are what counting would give.
func TestCountersEqualTheRowsTheyCount(t *testing.T) {
	s := openStore(t, t.TempDir())
	const devices, rollouts = 5, 3
	states := []string{"pending", "fetching", "active", "failed"}
	update(t, s, func(ctx context.Context, tx Tx) error {
		for i := range devices {
			if err := tx.PutDevice(ctx, Device{ID: fmt.Sprint("d", i), Token: []byte{1}, Created: at}); err != nil {
				return err
			}
		}
		for range rollouts {
			if _, err := tx.PutRollout(ctx, Rollout{Kind: KindStart, Model: "m", Target: "all", Created: at}); err != nil {
				return err
			}
		}
		return nil
	})
	const seed = 1
	rnd := rand.New(rand.NewPCG(seed, 0))
	rows := map[string]Desired{}
	for i := range 300 {
		d := Desired{
			Device: fmt.Sprint("d", rnd.IntN(devices)), Model: "m", Digest: digest(1), Changed: at,
			Rollout: int64(1 + rnd.IntN(rollouts)), State: states[rnd.IntN(len(states))],
		}
		rows[d.Device] = d
		want := map[int64]map[string]int{}
		for _, r := range rows {
			if want[r.Rollout] == nil {
				want[r.Rollout] = map[string]int{}
			}
			want[r.Rollout][r.State]++
		}
		update(t, s, func(ctx context.Context, tx Tx) error {
			if err := tx.PutDesired(ctx, d); err != nil {
				return err
			}
			for id := range int64(rollouts) {
				got, err := tx.Counts(ctx, id+1)
				if err != nil {
					return err
				}
				for _, state := range states {
					if got[state] != want[id+1][state] {
						t.Fatalf("seed %d, write %d: rollout %d has %d %s, want %d", seed, i, id+1, got[state], state, want[id+1][state])
					}
				}
			}
			return nil
		})
	}
}

func TestDevicesInPages(t *testing.T) {
	s := openStore(t, t.TempDir())
	update(t, s, func(ctx context.Context, tx Tx) error {
		for i := range 5 {
			site := map[string]string{"site": []string{"oslo", "bergen"}[i%2], "n": fmt.Sprint(i)}
			if err := tx.PutDevice(ctx, Device{ID: fmt.Sprint("d", i), Token: []byte{1}, Created: at, Labels: site}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, tt := range []struct {
		filter, after string
		limit         int
		want          []string
	}{
		{"", "", 2, []string{"d0", "d1"}},
		{"", "d1", 9, []string{"d2", "d3", "d4"}},
		{"site=oslo", "", 2, []string{"d0", "d2"}},
		{"site=oslo", "d2", 2, []string{"d4"}},
		{"site=rome", "", 2, nil},
	} {
		err := s.View(t.Context(), func(tx Tx) error {
			ids, err := tx.DeviceIDs(t.Context(), where(tt.filter), tt.after, tt.limit)
			if err != nil {
				return err
			}
			if d := cmp.Diff(tt.want, ids); d != "" {
				t.Errorf("DeviceIDs(%q, %q, %d) (-want +got)\n%s", tt.filter, tt.after, tt.limit, d)
			}
			rows, err := tx.Devices(t.Context(), where(tt.filter), tt.after, tt.limit)
			for i, row := range rows {
				if row.ID != ids[i] || row.Labels["n"] != row.ID[1:] || len(row.Labels) != 2 {
					t.Errorf("Devices()[%d] = %s %v, want %s with its labels", i, row.ID, row.Labels, ids[i])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpdatesAreWantedWhereTheyAreOffered: that a version is wanted does not
// keep an update to it that no want names.
func TestUpdatesAreWantedWhereTheyAreOffered(t *testing.T) {
	s := openStore(t, t.TempDir())
	v := version("m", 1, 1)
	delta := Transfer{Hash: strings.Repeat("d", 32), Digest: v.Digest, Kind: protocol.KindDelta, Base: digest(8), Size: 5, Descriptor: []byte{1}}
	update(t, s, func(ctx context.Context, tx Tx) error {
		if _, err := tx.PutRollout(ctx, Rollout{Kind: KindStart, Model: "m", Target: "all", Created: at}); err != nil {
			return err
		}
		return errors.Join(putVersion(ctx, tx, v), tx.PutTransfer(ctx, delta),
			tx.PutAnnounced(ctx, v.Hash, 3), tx.PutAnnounced(ctx, delta.Hash, 1),
			tx.PutDevice(ctx, Device{ID: "d", Token: []byte{1}, Created: at}))
	})
	for _, offer := range []string{delta.Hash, ""} {
		var gone []Announced
		update(t, s, func(ctx context.Context, tx Tx) (err error) {
			d := Desired{Device: "d", Model: "m", Digest: v.Digest, Rollout: 1, State: "pending", Changed: at, Offer: offer}
			if err := tx.PutDesired(ctx, d); err != nil {
				return err
			}
			if got, err := tx.Desired(ctx, "d", "m"); err != nil || got != d {
				t.Errorf("Desired = %+v, %v, want %+v", got, err, d)
			}
			gone, err = tx.MarkUnwanted(ctx, at, at)
			return err
		})
		var want []Announced
		if offer == "" {
			want = []Announced{{Hash: delta.Hash, Chunks: 1, Unwanted: at}}
		}
		if d := cmp.Diff(want, gone); d != "" {
			t.Errorf("offered %q: unwanted (-want +got)\n%s", offer, d)
		}
	}
}

func TestUnwantedTransfersWaitForTheirGrace(t *testing.T) {
	s := openStore(t, t.TempDir())
	v := version("m", 1, 1)
	mark := func(now time.Time) (gone []Announced) {
		update(t, s, func(ctx context.Context, tx Tx) (err error) {
			gone, err = tx.MarkUnwanted(ctx, now, now.Add(-time.Hour))
			return err
		})
		return gone
	}
	desire := func(d protocol.Digest) {
		update(t, s, func(ctx context.Context, tx Tx) error {
			return tx.PutDesired(ctx, Desired{Device: "d", Model: "m", Digest: d, Rollout: 1, State: "pending", Changed: at})
		})
	}
	update(t, s, func(ctx context.Context, tx Tx) error {
		if _, err := tx.PutRollout(ctx, Rollout{Kind: KindStart, Model: "m", Target: "all", Created: at}); err != nil {
			return err
		}
		return errors.Join(putVersion(ctx, tx, v), tx.PutAnnounced(ctx, v.Hash, 3),
			tx.PutDevice(ctx, Device{ID: "d", Token: []byte{1}, Created: at}))
	})
	desire(v.Digest)
	if gone := mark(at); gone != nil {
		t.Errorf("wanted, yet %v", gone)
	}
	desire(digest(9))
	if gone := mark(at); gone != nil {
		t.Errorf("just unwanted, yet %v", gone)
	}
	desire(v.Digest) // wanted again: the clock starts anew
	mark(at.Add(30 * time.Minute))
	desire(digest(9))
	mark(at.Add(40 * time.Minute))
	if gone := mark(at.Add(70 * time.Minute)); gone != nil {
		t.Errorf("unwanted for 30 minutes, yet %v", gone)
	}
	gone := mark(at.Add(100 * time.Minute))
	want := []Announced{{Hash: v.Hash, Chunks: 3, Unwanted: at.Add(40 * time.Minute)}}
	if d := cmp.Diff(want, gone); d != "" {
		t.Errorf("unwanted for an hour (-want +got)\n%s", d)
	}
}
