package dataset

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// numbered is a table whose features and target tell the row they stand in:
// group k (from 1) row r (from 0) has a = 1000k + r and b = -a, y = a + 0.5.
func numbered(t *testing.T, sizes ...int) *Table {
	t.Helper()
	var b strings.Builder
	b.WriteString("g,a,b,y\n")
	for k, n := range sizes {
		for r := range n {
			v := 1000*(k+1) + r
			fmt.Fprintf(&b, "m%d,%d,%d,%g\n", k+1, v, -v, float64(v)+0.5)
		}
	}
	return read(t, b.String(), Columns{Group: "g", Targets: []string{"y"}})
}

// list returns the first feature of every row of window i, then its target.
func list(w *Windows, i int) (rows, target []float32) {
	x := make([]float32, w.Inputs())
	w.Rows(i, x)
	for j := 0; j < len(x); j += w.Inputs() / w.Shape.Window {
		rows = append(rows, x[j])
	}
	target = make([]float32, w.Outputs())
	w.Target(i, target)
	return rows, target
}

func TestWindowsNeverCrossGroups(t *testing.T) {
	table := numbered(t, 7, 3, 5)
	for _, s := range []Shape{{Window: 3}, {Window: 3, Horizon: 2}, {Window: 1, Horizon: 1}, {Window: 2, Stride: 2}, {Window: 4, Pad: true}} {
		w, err := table.Windows(table.All(), s)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, n := range []int{7, 3, 5} {
			switch c := n - s.Window - s.Horizon + 1; {
			case c > 0:
				want += (c + max(s.Stride, 1) - 1) / max(s.Stride, 1)
			case s.Pad:
				want++
			}
		}
		if w.Len() != want {
			t.Errorf("%+v: %d windows, want %d", s, w.Len(), want)
		}
		for i := range w.Len() {
			rows, target := list(w, i)
			for _, v := range append(rows, target...) {
				if int(v)/1000 != int(rows[0])/1000 {
					t.Errorf("%+v: window %d reads %v → %v", s, i, rows, target)
				}
			}
			if want := fmt.Sprintf("m%d", int(rows[0])/1000); w.Group(i) != want {
				t.Errorf("%+v: window %d is of group %s, want %s", s, i, w.Group(i), want)
			}
		}
	}
}

func TestWindowContent(t *testing.T) {
	table := numbered(t, 6)
	w, err := table.Windows(table.All(), Shape{Window: 3, Horizon: 2})
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, w.Inputs())
	w.Rows(1, x)
	_, y := list(w, 1)
	if diff := cmp.Diff([]float32{1001, -1001, 1002, -1002, 1003, -1003}, x); diff != "" {
		t.Errorf("rows: %s", diff)
	}
	if diff := cmp.Diff([]float32{1004.5, 1005.5}, y); diff != "" {
		t.Errorf("target: %s", diff)
	}
	last := make([]float32, 1)
	if !w.Before(1, 1, last) || last[0] != 1003.5 {
		t.Errorf("Before(1, 1) = %v, want 1003.5", last)
	}
	if !w.Before(1, 4, last) || last[0] != 1000.5 {
		t.Errorf("Before(1, 4) = %v, want 1000.5", last)
	}
	if w.Before(1, 5, last) {
		t.Error("Before(1, 5) reads before the group")
	}
	if w.Time(1) != "4" {
		t.Errorf("Time(1) = %s, want 4", w.Time(1))
	}
}

func TestPaddingRepeatsTheFirstRow(t *testing.T) {
	table := numbered(t, 2, 5)
	w, err := table.Windows(table.All(), Shape{Window: 4, Pad: true})
	if err != nil {
		t.Fatal(err)
	}
	rows, target := list(w, 0)
	if diff := cmp.Diff([]float32{1000, 1000, 1000, 1001}, rows); diff != "" {
		t.Errorf("padded window: %s", diff)
	}
	if target[0] != 1001.5 || w.Padded != 1 || w.Short != 0 || w.Len() != 3 {
		t.Errorf("target %v, padded %d, short %d, windows %d, want 1001.5, 1, 0, 3", target, w.Padded, w.Short, w.Len())
	}
	if w, err = table.Windows(table.All(), Shape{Window: 4}); err != nil || w.Short != 1 || w.Len() != 2 {
		t.Errorf("without padding: %+v, %v, want one short group and 2 windows", w, err)
	}
	w, err = table.Windows(table.All(), Shape{Window: 4, Pad: true, Starts: true})
	if err != nil || w.Len() != 7 || w.Padded != 1 {
		t.Fatalf("from the first rows on: %d windows of 7 rows, %d short groups, %v", w.Len(), w.Padded, err)
	}
	for i, want := range [][]float32{{1000, 1000, 1000, 1000}, {1000, 1000, 1000, 1001}, {2000, 2000, 2000, 2000}, {2000, 2000, 2000, 2001}, {2000, 2000, 2001, 2002}} {
		if rows, _ := list(w, i); !cmp.Equal(rows, want) {
			t.Errorf("window %d from the first rows on is %v, want %v", i, rows, want)
		}
	}
	for _, pad := range []bool{false, true} {
		last, err := table.LastWindows(Shape{Window: 4, Pad: pad})
		if err != nil {
			t.Fatal(err)
		}
		rows, _ := list(last, last.Len()-1)
		if want := 1 + btoi(pad); last.Len() != want || rows[3] != 2004 {
			t.Errorf("LastWindows(pad %v): %d windows, last ends in %v, want %d and 2004", pad, last.Len(), rows[3], want)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestTooFewRowsSaysWhatIsNeeded(t *testing.T) {
	table := numbered(t, 5, 9)
	_, err := table.Windows(table.All(), Shape{Window: 8, Horizon: 4})
	if !errors.Is(err, ErrTooFewRows) || !strings.Contains(err.Error(), "needs 12 in one group, the longest has 9") {
		t.Errorf("Windows = %v", err)
	}
	if _, err = table.LastWindows(Shape{Window: 10}); !errors.Is(err, ErrTooFewRows) {
		t.Errorf("LastWindows = %v", err)
	}
	if _, err = table.Windows(nil, Shape{Window: 1}); !errors.Is(err, ErrTooFewRows) {
		t.Errorf("Windows of no rows = %v", err)
	}
	if _, err = table.Windows(table.All(), Shape{}); !errors.Is(err, ErrTooFewRows) {
		t.Errorf("Windows of no length = %v", err)
	}
}

// The counts are those of the Informer and LTSF code on ETTh1: 8640−96−24+1,
// and for the others, whose windows look back into the part before, 2880−24+1.
func TestSplitBoundsOfETTh1(t *testing.T) {
	table := numbered(t, 17420)
	split, err := ParseSplit("8640,2880,2880")
	if err != nil {
		t.Fatal(err)
	}
	parts, err := table.Divide(split, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := Shape{Window: 96, Horizon: 24}
	for _, p := range []struct {
		name             string
		part             Part
		windows          int
		firstIn, lastOut float32
	}{
		{"train", parts.Train, 8521, 1000, 1000 + 8639.5},
		{"validation", parts.Validation, 2857, 1000 + 8640 - 96, 1000 + 8640 + 2879.5},
		{"test", parts.Test, 2857, 1000 + 11520 - 96, 1000 + 14399.5},
	} {
		w, err := table.Windows(p.part, s)
		if err != nil {
			t.Fatal(err)
		}
		rows, _ := list(w, 0)
		_, target := list(w, w.Len()-1)
		if w.Len() != p.windows || rows[0] != p.firstIn || target[23] != p.lastOut {
			t.Errorf("%s: %d windows from %v to %v, want %d, %v, %v", p.name, w.Len(), rows[0], target[23], p.windows, p.firstIn, p.lastOut)
		}
	}
}

// No target row of one part is a target or an input of an earlier part.
func TestPartsDoNotLeak(t *testing.T) {
	table := numbered(t, 200, 90)
	for _, split := range []Split{{Fractions: [3]float64{0.7, 0.1, 0.2}}, {Fractions: [3]float64{0.6, 0.2, 0.2}, Gap: 5}, {Rows: [3]int{50, 20, 20}, Gap: 3}} {
		parts, err := table.Divide(split, 0)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[float32]string{} // what earlier parts have read, input or target
		for _, p := range []struct {
			name string
			part Part
		}{{"train", parts.Train}, {"validation", parts.Validation}, {"test", parts.Test}} {
			w, err := table.Windows(p.part, Shape{Window: 10, Horizon: 4})
			if err != nil {
				t.Fatal(err)
			}
			read := map[float32]bool{}
			for i := range w.Len() {
				rows, target := list(w, i)
				for _, v := range target {
					if other := seen[v]; other != "" {
						t.Fatalf("%+v: %s predicts row %v that %s has read", split, p.name, v, other)
					}
					read[v] = true
				}
				for _, v := range rows {
					read[v+0.5] = true
				}
			}
			for v := range read {
				seen[v] = p.name
			}
		}
	}
}

func TestGapLeavesRowsToNobody(t *testing.T) {
	table := numbered(t, 100)
	parts, err := table.Divide(Split{Fractions: [3]float64{0.7, 0.1, 0.2}, Gap: 3}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := Parts{Part{{0, 0, 70}}, Part{{0, 73, 80}}, Part{{0, 83, 100}}}
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Error(diff)
	}
}

func TestParseSplit(t *testing.T) {
	for s, want := range map[string]Split{
		"8640,2880,2880":  {Rows: [3]int{8640, 2880, 2880}},
		"0.7, 0.1, 0.2":   {Fractions: [3]float64{0.7, 0.1, 0.2}},
		"0.8,0,0.2":       {Fractions: [3]float64{0.8, 0, 0.2}},
		"1,0,0":           {Fractions: [3]float64{1, 0, 0}},
		"100,0,20":        {Rows: [3]int{100, 0, 20}},
		"0.5,0.25,0.25":   {Fractions: [3]float64{0.5, 0.25, 0.25}},
		"0.33,0.33,0.34":  {Fractions: [3]float64{0.33, 0.33, 0.34}},
		"10,10,0.0000000": {Rows: [3]int{10, 10, 0}},
		"9,1":             {Rows: [3]int{9, 1}},
		"0.9,0.1":         {Fractions: [3]float64{0.9, 0.1}},
		"400,100,rest":    {Rows: [3]int{400, 100, Rest}},
		"rest,0,1":        {Rows: [3]int{Rest, 0, 1}},
	} {
		if got, err := ParseSplit(s); err != nil || got != want {
			t.Errorf("ParseSplit(%q) = %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "12", "1,1,1,1", "a,b,c", "rest,rest,1", "0.5,0.5,rest", "0,1,rest", "-1,2,3", "0,5,5", "0.7,0.7,0.7", "1e99,1,1", "NaN,1,1", "0.5,100,100"} {
		if got, err := ParseSplit(s); !errors.Is(err, ErrSplit) {
			t.Errorf("ParseSplit(%q) = %+v, %v, want ErrSplit", s, got, err)
		}
	}
	table := numbered(t, 100)
	if _, err := table.Divide(Split{Rows: [3]int{80, 20, 20}}, 0); !errors.Is(err, ErrSplit) || !strings.Contains(err.Error(), "takes 120 rows, group \"m1\" has 100") {
		t.Errorf("Divide beyond the rows = %v", err)
	}
	if _, err := table.Divide(Split{Rows: [3]int{8, 2, 2}, Gap: -1}, 0); !errors.Is(err, ErrSplit) {
		t.Errorf("Divide with a negative gap = %v", err)
	}
}

func TestSetRemaining(t *testing.T) {
	table := numbered(t, 3, 2)
	if err := table.SetRemaining(nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{2, 1, 0, 1, 0}, table.Y); diff != "" {
		t.Errorf("run to failure: %s", diff)
	}
	if err := table.SetRemaining(map[string]float32{"m1": 10, "m2": 7, "other": 1}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{12, 11, 10, 8, 7}, table.Y); diff != "" {
		t.Errorf("cut before failure: %s", diff)
	}
	if err := table.SetRemaining(map[string]float32{"m1": 10}); !errors.Is(err, ErrTruth) || !strings.Contains(err.Error(), `"m2"`) {
		t.Errorf("truth without m2: %v", err)
	}
}

func TestMomentsAreOfTheTrainingRows(t *testing.T) {
	table := read(t, "a,c\n1,0.1\n3,0.1\n5,0.1\n1000,7\n", Columns{})
	m := table.FeatureMoments(Part{{0, 0, 3}})
	if m[0].Mean != 3 || math.Abs(m[0].Std-math.Sqrt(8.0/3)) > 1e-12 || m[0].Min != 1 || m[0].Max != 5 {
		t.Errorf("moments of 1, 3, 5 = %+v", m[0])
	}
	if !m[1].Constant() || m[1].Mean != float64(float32(0.1)) || m[0].Constant() {
		t.Errorf("constant column: %+v", m[1])
	}
	if all := table.FeatureMoments(table.All()); all[1].Constant() {
		t.Errorf("column that changes after training: %+v", all[1])
	}
	if got := read(t, "a\n"+strings.Repeat("0.1\n", 1001), Columns{}); !got.FeatureMoments(got.All())[0].Constant() {
		t.Error("1001 times 0.1 is not constant")
	}
	if got := table.FeatureMoments(nil); !got[0].Constant() {
		t.Errorf("moments of no rows = %+v", got[0])
	}
}

// The rows of two groups take turns in the file: each weight goes with its row.
func TestWeightOfAWindowIsThatOfItsLastRow(t *testing.T) {
	table := read(t, "g,a,y,w\n1,5,1,0.5\n2,6,1,10\n1,5,2,0\n2,6,2,20\n1,5,3,2\n", Columns{Group: "g", Targets: []string{"y"}, Weight: "w"})
	if diff := cmp.Diff([]string{"a"}, table.Features); diff != "" {
		t.Errorf("features: %s", diff)
	}
	w, err := table.Windows(table.All(), Shape{Window: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float32{0, 2, 20} {
		if got := w.Weight(i); got != want {
			t.Errorf("weight of window %d = %v, want %v", i, got, want)
		}
	}
}
