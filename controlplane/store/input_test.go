package store

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

func TestInputsAreOfAboutADay(t *testing.T) {
	s := openStore(t, t.TempDir())
	ctx := context.Background()
	put := func(boot uint64, hours int, version byte, bins ...uint64) {
		t.Helper()
		c := protocol.InputCount{Model: "wear", Bins: bins}
		c.Version[0] = version
		if err := s.Update(ctx, func(tx Tx) error {
			return tx.PutInputs(ctx, "cellar", boot, int64(hours)*time.Hour.Milliseconds(), c)
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, since, until int, counts ...uint64) {
		t.Helper()
		var got []Inputs
		if err := s.View(ctx, func(tx Tx) (err error) {
			got, err = tx.Inputs(ctx, "cellar")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		hours := func(t time.Time) int { return int(t.UnixMilli() / time.Hour.Milliseconds()) }
		if len(got) != 1 || !slices.Equal(got[0].Counts, counts) || hours(got[0].Since) != since || hours(got[0].T) != until {
			t.Errorf("%s: %+v, want %v from %d to %d", what, got, counts, since, until)
		}
	}
	put(1, 1, 7, 5, 1)
	want("the first", 1, 1, 5, 1)
	put(1, 10, 7, 9, 2)
	want("the same day", 1, 10, 9, 2)
	put(1, 26, 7, 20, 3)
	want("a day later, from the report before", 10, 26, 11, 1)
	put(1, 27, 7, 22, 3)
	want("an hour later", 10, 27, 13, 1)
	put(2, 30, 7, 4, 4)
	want("another start", 30, 30, 4, 4)
	put(1, 31, 7, 99, 99)
	want("a late report of the start before", 30, 30, 4, 4)
	put(2, 32, 8, 1, 1)
	want("another version", 32, 32, 1, 1)
}
