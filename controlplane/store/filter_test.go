package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/filter"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

func where(s string) Where {
	if s == "" {
		return Where{}
	}
	e, err := filter.Parse(s)
	if err != nil {
		panic(err)
	}
	return Where{e, at.Add(time.Hour)}
}

// TestFilters: a and b reported, c is new; a runs v2 and has v1 to go back to, b
// runs v1 and v2 failed on it. a is connected, and said nothing for an hour.
func TestFilters(t *testing.T) {
	s := openStore(t, t.TempDir())
	v1, v2 := version("m", 1, 1), version("m", 2, 2)
	slot := func(slot string, v Version) Slot { return Slot{"m", slot, v.Digest} }
	update(t, s, func(ctx context.Context, tx Tx) error {
		for _, v := range []Version{v1, v2} {
			if err := putVersion(ctx, tx, v); err != nil {
				return err
			}
		}
		for id, labels := range map[string]map[string]string{"a": {"site": "oslo"}, "b": {"site": "o*[x]"}, "c": {"kernel": "odd"}} {
			if err := tx.PutDevice(ctx, Device{ID: id, Token: []byte{1}, Created: at, Labels: labels}); err != nil {
				return err
			}
		}
		for _, d := range []struct {
			id    string
			birth Birth
			seen  time.Duration
			slots []Slot
		}{
			{"a", Birth{Agent: "1.0", Kernel: "avx2", OS: "linux", Arch: "amd64", FreeBytes: 10e6, Boot: 3}, 0, []Slot{slot(SlotActive, v2), slot(SlotPrevious, v1)}},
			{"b", Birth{Agent: "1.1", Kernel: "generic", OS: "linux", Arch: "arm", FreeBytes: 9e6, Boot: 1}, 50 * time.Minute, []Slot{slot(SlotActive, v1), slot(SlotShadow, v1), slot(SlotFailed, v2)}},
		} {
			if err := tx.SetBirth(ctx, d.id, d.birth); err != nil {
				return err
			}
			if err := tx.SetHave(ctx, d.id, []byte("{}"), d.slots); err != nil {
				return err
			}
			if err := tx.SetSeen(ctx, d.id, at.Add(d.seen)); err != nil {
				return err
			}
		}
		return tx.SetOnline(ctx, "a", true)
	})
	for _, tt := range []struct{ filter, want string }{
		{"site=oslo", "a"},
		{"site!=oslo", "b c"},
		{`site~"o*[x]"`, "b"},
		{`site~o*`, "a b"},
		{`site~osl?`, "a"},
		{`site!~*l*`, "b c"},
		{"site in (oslo, rome)", "a"},
		{"site not in (oslo, rome)", "b c"},
		{"id in (a, c)", "a c"},
		{"label.kernel=odd", "c"},
		{"kernel=avx2", "a"},
		{"kernel!=avx2", "b c"}, // a device that never reported is not avx2
		{"kernel=odd", ""},
		{"not kernel~*", "c"},
		{"agent~1.* and arch=arm", "b"},
		{"os=linux and not arch=arm", "a"},
		{"up=online", "a"},
		{"up=offline", "b"},
		{"up=new", "c"},
		{"up!=new", "a b"},
		{"seen<5m", "a"},
		{"seen<11m", "a b"},
		{"seen>5m", "b"},
		{"seen>=10m", "b"},
		{"seen>11m", ""},
		{"seen<=1h", "a b"},
		{"not seen<7d", "c"}, // never seen: neither less nor more
		{"added<=1h", "a b c"},
		{"added<1h", ""},
		{"free<10MB", "b"},
		{"free>=10MB", "a"},
		{"free=10MB or boot=1", "a b"},
		{"boot>1", "a"},
		{"model.m=v2", "a"},
		{"model.m!=v2", "b c"},
		{"model.m<v2", "b"},
		{"model.m>=1", "a b"},
		{"model.m=none", "c"},
		{"model.m!=none", "a b"},
		{"model.n=none", "a b c"},
		{"previous.m=v1", "a"},
		{"cached.m=v1", "a b"},
		{"cached.m=v2", "a"},
		{"failed.m=v2", "b"},
		{"shadow.m=v1", "b"},
		{"model.m in (v2, none)", "a c"},
		{"site=oslo or arch=arm and boot=7", "a"},
		{"(site=oslo or arch=arm) and boot=7", ""},
		{`id="' OR 1 --"`, ""},
	} {
		err := s.View(t.Context(), func(tx Tx) error {
			got, err := tx.DeviceIDs(t.Context(), where(tt.filter), "", 9)
			if err == nil && strings.Join(got, " ") != tt.want {
				t.Errorf("%s selects %v, want %s", tt.filter, got, tt.want)
			}
			for _, id := range []string{"a", "b", "c"} {
				one, err := tx.Selects(t.Context(), where(tt.filter), id)
				if err != nil || one != strings.Contains(tt.want, id) {
					t.Errorf("%s selects %s = %v, %v", tt.filter, id, one, err)
				}
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", tt.filter, err)
		}
	}
}

// TestInventoryOfAnOlderStore: the columns that filters compare are filled from
// what devices had reported before there were any.
func TestInventoryOfAnOlderStore(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	v := version("m", 1, 1)
	birth := protocol.Birth{Format: 1, Boot: 7, Agent: "1.0", Kernel: "avx2", OS: "linux", Arch: "amd64", FreeBytes: 5}
	rawBirth, err := birth.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	have := protocol.Have{Format: 1, Models: map[string]protocol.ModelHave{"m": {Phase: protocol.PhaseIdle, Active: v.Digest,
		Failed: &protocol.Failure{Digest: digest(9), Code: "corrupt"}}}}
	rawHave, err := have.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(ctx context.Context, tx Tx) error {
		if err := putVersion(ctx, tx, v); err != nil {
			return err
		}
		return tx.PutDevice(ctx, Device{ID: "a", Token: []byte{1}, Created: at})
	})
	down, err := migrationsOf(s.w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := down.DownTo(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.w.Exec(`UPDATE devices SET birth = ?, have = ? WHERE id = 'a'`, rawBirth, rawHave); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	err = s.View(t.Context(), func(tx Tx) error {
		for _, filter := range []string{"model.m=v1", "kernel=avx2 and os=linux and arch=amd64 and agent=1.0", "free=5 and boot=7", "failed.m!=none and previous.m=none"} {
			one, err := tx.Selects(t.Context(), where(filter), "a")
			if err != nil || !one {
				t.Errorf("%s selects a = %v, %v", filter, one, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What selects few of many devices does not pass all of them, nor all that they have.
func TestFiltersSearchByAnIndex(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, text := range []string{"site=oslo", "site=oslo and kernel!=generic", "model.pump=v7", "cached.pump=v7 and site~os*", "not failed.pump=v7 and id=d1"} {
		where, args := where(text).sql()
		err := s.View(t.Context(), func(tx Tx) error {
			rows, err := collect(t.Context(), tx.tx, func(row scanner) (step string, err error) {
				var id, parent, unused int
				return step, row.Scan(&id, &parent, &unused, &step)
			}, `EXPLAIN QUERY PLAN SELECT d.id FROM devices d WHERE d.id > ? AND `+where, append([]any{""}, args...)...)
			for _, step := range rows {
				if strings.HasPrefix(step, "SCAN") {
					t.Errorf("%s: %s", text, step)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
