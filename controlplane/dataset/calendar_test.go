package dataset

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
)

func TestCalendarOfEveryKindOfTime(t *testing.T) {
	at := time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct{ rows, format string }{
		"ISO 8601":       {"2026-11-24 06:00:00,1\n2026-11-24 07:00:00,2\n", ""},
		"with a zone":    {"2026-11-24T08:00:00+02:00,1\n2026-11-24T09:00:00+02:00,2\n", ""},
		"s":              {"1795500000,1\n1795503600,2\n", "s"},
		"ms":             {"1795500000000,1\n1795503600000,2\n", "ms"},
		"us":             {"1795500000000999,1\n1795503600000999,2\n", "us"}, // below a millisecond is cut off
		"s with decimal": {"1795500000.0004,1\n1795503600.0004,2\n", "s"},
	} {
		table, err := ReadFiles(One(strings.NewReader("t,a\n"+c.rows)), Columns{Time: "t", Features: []string{"a"}}, Options{TimeFormat: c.format})
		if err != nil {
			t.Fatal(err)
		}
		got, err := table.WithCalendar([]prepare.Cycle{prepare.Hour, prepare.Yearday})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var want []float32
		for i := range 2 {
			ms := at.Add(time.Duration(i) * time.Hour).UnixMilli()
			want = append(want, float32(i+1))
			for _, cycle := range []prepare.Cycle{prepare.Hour, prepare.Yearday} {
				sin, cos := cycle.At(ms)
				want = append(want, sin, cos)
			}
		}
		if !slices.Equal(got.X, want) || len(got.Features) != 5 {
			t.Errorf("%s: %v of %v, want %v", name, got.X, got.Features, want)
		}
		if ms, err := got.PeriodMS(); ms != 3600_000 || err != nil {
			t.Errorf("%s: a period of %d ms, %v, want an hour", name, ms, err)
		}
		if len(table.Features) != 1 || len(table.X) != 2 {
			t.Errorf("%s: the table itself changed", name)
		}
	}
}

func TestCalendarRefuses(t *testing.T) {
	for name, c := range map[string]struct{ time, rows, format, want string }{
		"no time":       {"", "1,1\n2,2\n", "", "needs a time column"},
		"steps":         {"t", "1,1\n2,2\n", "", "holds numbers, such as 1"},
		"far future":    {"t", "1795500000000,1\n1795503600000,2\n", "s", "beyond the year 10000"},
		"very far":      {"t", "9223372036854775000,1\n9223372036854775001,2\n", "s", "beyond the year 10000"},
		"very far back": {"t", "-1e300,1\n1e300,2\n", "s", "beyond the year 10000"},
	} {
		table, err := ReadFiles(One(strings.NewReader("t,a\n"+c.rows)), Columns{Time: c.time, Features: []string{"a"}}, Options{TimeFormat: c.format})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := table.WithCalendar([]prepare.Cycle{prepare.Hour}); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrOptions with %q", name, err, c.want)
		}
	}
	for name, c := range map[string]struct{ rows, want string }{
		"irregular": {"2026-01-01,1\n2026-01-02,2\n2026-01-05,3\n", "equally far apart"},
		"fast":      {"2026-01-01 00:00:00.0001,1\n2026-01-01 00:00:00.0002,2\n", "1 ms to 366 days"},
		"slow":      {"2026-01-01,1\n2028-01-01,2\n", "1 ms to 366 days"},
	} {
		table := read(t, "t,a\n"+c.rows, Columns{Time: "t", Features: []string{"a"}})
		if _, err := table.PeriodMS(); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrOptions with %q", name, err, c.want)
		}
	}
}
