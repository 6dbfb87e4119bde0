package dataset

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
)

// plain is the plan that scales and no more.
func plain(t testing.TB, sc *kernel.Scaler) *prepare.Plan {
	t.Helper()
	p, err := prepare.Plain(*sc)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// identity scales nothing.
func identity(features, outputs int) *kernel.Scaler {
	sc := &kernel.Scaler{}
	for range features {
		sc.Mean, sc.Std, sc.Inv = append(sc.Mean, 0), append(sc.Std, 1), append(sc.Inv, 1)
	}
	for range outputs {
		sc.OutMean, sc.OutStd = append(sc.OutMean, 0), append(sc.OutStd, 1)
	}
	return sc
}

// streamed is the windows of s by their first feature, and the targets of each row.
func streamed(s *Stream) (rows, targets [][]float32) {
	features, outputs := s.plan.Inputs(), s.w.Outputs()
	for i := range s.Len() {
		x, y := make([]float32, s.Steps()*features), make([]float32, s.Steps()*outputs)
		s.Window(i, x, y)
		var first []float32
		for r := range s.Steps() {
			first = append(first, x[r*features])
		}
		rows, targets = append(rows, first), append(targets, y)
	}
	return rows, targets
}

func TestStreamGivesEveryRowATarget(t *testing.T) {
	table := numbered(t, 8, 2, 7)
	s, err := table.NewStream(Part{{0, 2, 8}, {1, 8, 10}, {2, 10, 17}}, Shape{Window: 2, Horizon: 1, Stride: 2}, 2, plain(t, identity(2, 1)), Unlimited)
	if err != nil {
		t.Fatal(err)
	}
	// The part of m1 begins in row 2, which row 1 predicts; the last row of a part
	// predicts what is not in it. Group m2 is too short.
	rows, targets := streamed(s)
	if want := [][]float32{{1001, 1002}, {1003, 1004}, {1005, 1006}, {3000, 3001}, {3002, 3003}, {3004, 3005}}; !cmp.Equal(rows, want) {
		t.Errorf("windows: %s", cmp.Diff(want, rows))
	}
	if want := [][]float32{{1002.5, 1003.5}, {1004.5, 1005.5}, {1006.5, 1007.5}, {3001.5, 3002.5}, {3003.5, 3004.5}, {3005.5, 3006.5}}; !cmp.Equal(targets, want) {
		t.Errorf("targets: %s", cmp.Diff(want, targets))
	}
	if want := []bool{true, false, true, true, false, true}; !cmp.Equal(s.begins, want) || s.Short() != 1 {
		t.Errorf("chains begin at %v, %d groups are short; want %v and 1", s.begins, s.Short(), want)
	}
}

func TestStreamHasTheWindowsOfASource(t *testing.T) {
	table := numbered(t, 23, 9)
	shape := Shape{Window: 4, Horizon: 2}
	w, err := table.Windows(table.All(), shape)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]float32
	for i := range w.Len() {
		rows, _ := list(w, i)
		want = append(want, rows)
	}
	for _, chain := range []int{0, 1, 3} {
		s, err := table.NewStream(table.All(), shape, chain, plain(t, identity(2, 2)), Unlimited)
		if err != nil {
			t.Fatal(err)
		}
		rows, targets := streamed(s)
		length := 0
		for i, r := range rows {
			for k, x := range r { // numbered: y is a + 0.5
				if targets[i][2*k] != x+1.5 || targets[i][2*k+1] != x+2.5 {
					t.Errorf("row %v has targets %v", x, targets[i][2*k:2*k+2])
				}
			}
			if length++; i == 0 || !s.Continues(i) {
				length = 1
			} else if rows[i][0] != rows[i-1][3]+1 {
				t.Errorf("window %v continues %v", rows[i], rows[i-1])
			}
			if chain > 0 && length > chain {
				t.Errorf("a chain of %d windows, at most %d", length, chain)
			}
		}
		var begins []float32 // in m1
		for i, r := range rows {
			if s.begins[i] && r[0] < 2000 {
				begins = append(begins, r[0]-1000)
			}
		}
		if want := []float32{1, 13, 0, 4, 16, 3, 11, 2, 14}; chain == 3 && !cmp.Equal(begins, want) {
			t.Errorf("chains begin in rows %v, want %v", begins, want)
		}
		slices.SortFunc(rows, slices.Compare)
		if diff := cmp.Diff(want, rows); diff != "" {
			t.Errorf("chains of %d: windows %s", chain, diff)
		}
	}
}

func TestStreamLimitsTargetsAndRefusesTooFewRows(t *testing.T) {
	table := numbered(t, 6)
	sc := identity(2, 1)
	sc.OutMean[0], sc.OutStd[0] = 1000, 2
	s, err := table.NewStream(table.All(), Shape{Window: 3}, 0, plain(t, sc), 1003)
	if err != nil {
		t.Fatal(err)
	}
	if _, targets := streamed(s); !cmp.Equal(targets[1], []float32{1.5, 1.5, 1.5}) || !cmp.Equal(targets[0], []float32{0.25, 0.75, 1.25}) {
		t.Errorf("targets %v of a cap of 1003", targets)
	}
	for _, shape := range []Shape{{Window: 7}, {Window: 4, Horizon: 3}, {Window: 0}, {Window: 2, Horizon: -1}} {
		if _, err := table.NewStream(table.All(), shape, 0, plain(t, sc), Unlimited); !errors.Is(err, ErrTooFewRows) {
			t.Errorf("%+v: %v, want ErrTooFewRows", shape, err)
		}
	}
	if _, err := table.NewStream(table.All(), Shape{Window: 7}, 0, plain(t, sc), Unlimited); !strings.Contains(err.Error(), "the longest has 6") {
		t.Errorf("error %q does not say what there is", err)
	}
}
