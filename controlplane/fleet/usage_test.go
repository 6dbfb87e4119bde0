package fleet

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TestUsageByDay: reports are cumulative, come late, twice and out of order, and
// each prediction is counted once, on the day on which it was heard of.
func TestUsageByDay(t *testing.T) {
	f, _ := newFleet(t)
	day := func(n int) time.Time { return time.Date(2026, 11, n, 23, 59, 0, 0, time.UTC) }
	report := func(device string, boot, seq uint64, at time.Time, counts ...protocol.UsageCount) {
		t.Helper()
		err := f.store.Update(t.Context(), func(tx store.Tx) error {
			return tx.PutUsage(t.Context(), device, protocol.Usage{Boot: boot, Seq: seq, Counts: counts}, at)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ann := func(answered uint64) protocol.UsageCount {
		return protocol.UsageCount{Model: "pump", User: "ann", Answered: answered, Micros: 10 * answered}
	}
	bob := protocol.UsageCount{Model: "fan", User: "bob", Refused: 1, Busy: 2}
	report("d1", 1, 1, day(1), ann(3))
	report("d1", 1, 2, day(2), ann(5), bob)
	report("d1", 1, 2, day(3), ann(5), bob) // again
	report("d1", 1, 1, day(3), ann(3))      // late
	report("d1", 2, 1, day(3), ann(1))      // a start later
	report("d2", 1, 1, day(3), ann(10))
	for _, tt := range []struct {
		name string
		q    UsageQuery
		want []string // key: answered refused busy us
	}{
		{"all", UsageQuery{}, []string{": 16 1 2 160"}},
		{"by user", UsageQuery{By: []string{"user"}}, []string{"ann: 16 0 0 160", "bob: 0 1 2 0"}},
		{"by day", UsageQuery{By: []string{"day"}}, []string{"2026-11-01: 3 0 0 30", "2026-11-02: 2 1 2 20", "2026-11-03: 11 0 0 110"}},
		{"by user and device", UsageQuery{By: []string{"user", "device"}}, []string{"ann d1: 6 0 0 60", "ann d2: 10 0 0 100", "bob d1: 0 1 2 0"}},
		{"of one device", UsageQuery{By: []string{"model"}, Device: "d1"}, []string{"fan: 0 1 2 0", "pump: 6 0 0 60"}},
		{"of one user and model", UsageQuery{User: "ann", Model: "pump"}, []string{": 16 0 0 160"}},
		{"from a day", UsageQuery{From: "2026-11-02"}, []string{": 13 1 2 130"}},
		{"to a day", UsageQuery{To: "2026-11-02"}, []string{": 5 1 2 50"}},
		{"one day", UsageQuery{From: "2026-11-02", To: "2026-11-02", By: []string{"user"}}, []string{"ann: 2 0 0 20", "bob: 0 1 2 0"}},
		{"nothing", UsageQuery{From: "2027-01-01"}, nil},
	} {
		for _, limit := range []int{1000, 1} { // by pages too
			var got []string
			for q := tt.q; ; {
				q.Limit = limit
				sums, next, err := f.Usage(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range sums {
					key := strings.Join(strings.Fields(u.Day+" "+u.User+" "+u.Device+" "+u.Model), " ")
					got = append(got, fmt.Sprintf("%s: %d %d %d %d", key, u.Answered, u.Refused, u.Busy, u.Micros))
				}
				if q.After = next; next == "" {
					break
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s, pages of %d (-want +got):\n%s", tt.name, limit, diff)
			}
		}
	}
}

func TestUsageQueriesThatMeanNothing(t *testing.T) {
	f, _ := newFleet(t)
	for _, tt := range []struct {
		q    UsageQuery
		want string
	}{
		{UsageQuery{By: []string{"users"}}, `did you mean "user"`},
		{UsageQuery{By: []string{"user", "user"}}, "by user twice"},
		{UsageQuery{From: "yesterday"}, "no day; write YYYY-MM-DD"},
		{UsageQuery{To: "2026-13-01"}, "no day"},
		{UsageQuery{From: "2026-11-03", To: "2026-11-02"}, "no range"},
		{UsageQuery{By: []string{"user"}, After: "a/b"}, "of another query"},
	} {
		if _, _, err := f.Usage(t.Context(), tt.q); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want ErrUsage with %q", tt.q, err, tt.want)
		}
	}
}
