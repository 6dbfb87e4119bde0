package dataset

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readWith(t *testing.T, text string, c Columns, o Options) *Table {
	t.Helper()
	table, err := ReadFiles(One(strings.NewReader(text)), c, o)
	if err != nil {
		t.Fatalf("ReadFiles: %v", err)
	}
	return table
}

// times are the times of a table's rows.
func times(t *Table) (s []string) {
	for row := range t.Rows() {
		s = append(s, t.Time(row))
	}
	return s
}

func wantValues(t *testing.T, what string, got []float32, want ...float32) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestMissingValues(t *testing.T) {
	c := Columns{Time: "t", Features: []string{"a"}, Targets: []string{"y"}}
	const text = "t,a,y\n0,,1\n1,2,2\n2,,3\n5,,4\n6,6,5\n7,,\n8,9,7\n"
	for _, test := range []struct {
		name    string
		o       Options
		x, y    []float32
		breaks  []int
		unknown []bool
		want    Cleaning
	}{
		{"ffill", Options{Missing: FillForward}, []float32{2, 2, 2, 2, 6, 6, 9}, []float32{1, 2, 3, 4, 5, 5, 7}, nil,
			[]bool{false, false, false, false, false, true, false},
			Cleaning{Rows: 7, Used: 7, NoTarget: 1, Filled: []Filled{{Column: "a", Forward: 3, Backward: 1}}}},
		{"ffill with a limit", Options{Missing: FillForward, FillLimit: 1}, []float32{2, 2, 2, 6, 6, 9}, []float32{1, 2, 3, 5, 5, 7}, []int{3},
			[]bool{false, false, false, false, true, false},
			Cleaning{Rows: 7, Used: 6, Dropped: 1, NoTarget: 1, Filled: []Filled{{Column: "a", Forward: 2, Backward: 1}}}},
		// On the line in time: 2 at 1, 6 at 6.
		{"interpolate", Options{Missing: Interpolate}, []float32{2, 2, 2.8, 5.2, 6, 7.5, 9}, []float32{1, 2, 3, 4, 5, 5, 7}, nil,
			[]bool{false, false, false, false, false, true, false},
			Cleaning{Rows: 7, Used: 7, NoTarget: 1, Filled: []Filled{{Column: "a", Interpolated: 3, Backward: 1}}}},
		{"zero", Options{Missing: FillZero}, []float32{0, 2, 0, 0, 6, 0, 9}, []float32{1, 2, 3, 4, 5, 0, 7}, nil, nil,
			Cleaning{Rows: 7, Used: 7, Filled: []Filled{{Column: "a", Zero: 4}}}},
		{"drop", Options{Missing: DropRows}, []float32{2, 6, 9}, []float32{2, 5, 7}, []int{1, 2}, nil,
			Cleaning{Rows: 7, Used: 3, Dropped: 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readWith(t, text, c, test.o)
			wantValues(t, "features", got.X, test.x...)
			wantValues(t, "targets", got.Y, test.y...)
			if diff := cmp.Diff([]any{test.breaks, test.unknown}, []any{got.breaks, got.unknown}); diff != "" {
				t.Errorf("breaks and unknown targets: %s", diff)
			}
			if diff := cmp.Diff(test.want, got.Cleaning, cmp.AllowUnexported(Cleaning{})); diff != "" {
				t.Errorf("cleaning: %s", diff)
			}
		})
	}
}

// A window neither crosses a gap nor has a target that nobody measured.
func TestWindowsKeepAwayFromGapsAndUnknownTargets(t *testing.T) {
	var b strings.Builder
	b.WriteString("t,a,y\n")
	for i := range 20 {
		at, y := i, fmt.Sprint(i)
		if i >= 8 {
			at += 10 // a gap before row 8
		}
		if i == 15 {
			y = ""
		}
		fmt.Fprintf(&b, "%d,%d,%s\n", at, i, y)
	}
	c := Columns{Time: "t", Features: []string{"a"}, Targets: []string{"y"}}
	table := readWith(t, b.String(), c, Options{MaxGap: "5", Missing: FillForward})
	w, err := table.Windows(table.All(), Shape{Window: 3, Horizon: 2})
	if err != nil {
		t.Fatal(err)
	}
	x, y := make([]float32, 3), make([]float32, 2)
	var firsts []float32
	for i := range w.Len() {
		w.Rows(i, x)
		w.Target(i, y)
		firsts = append(firsts, x[0])
		if x[2] != x[0]+2 || y[0] != x[2]+1 || y[1] != x[2]+2 {
			t.Errorf("window %d: %v → %v, want consecutive values", i, x, y)
		}
		if from, _ := w.Span(i); from != 0 && from != 8 {
			t.Errorf("window %d: Span = %d, want the row after the gap", i, from)
		}
	}
	wantValues(t, "first rows", firsts, 0, 1, 2, 3, 8, 9, 10, 13, 14, 15)
	if w.Unknown != 2 || w.Short != 0 {
		t.Errorf("%d windows without a target and %d short groups, want 2 and 0", w.Unknown, w.Short)
	}
	last, err := table.LastWindows(Shape{Window: 12})
	if err != nil {
		t.Fatal(err)
	}
	last.Rows(0, make([]float32, 12))
	if _, err := table.LastWindows(Shape{Window: 13}); !errors.Is(err, ErrTooFewRows) {
		t.Errorf("a window over the gap: %v, want ErrTooFewRows", err)
	}
	sc, _ := NewScaler(table.FeatureMoments(table.All()))
	sc.OutMean, sc.OutStd = []float32{0, 0}, []float32{1, 1}
	if _, err := table.NewStream(table.All(), Shape{Window: 3, Horizon: 2}, 0, plain(t, sc), Unlimited); !errors.Is(err, ErrTarget) {
		t.Errorf("NewStream with unknown targets = %v, want ErrTarget", err)
	}
	table.unknown = nil
	s, err := table.NewStream(table.All(), Shape{Window: 3, Horizon: 2, Stride: 3}, 0, plain(t, sc), Unlimited)
	if err != nil {
		t.Fatal(err)
	}
	chains := 0
	for i := range s.Len() {
		if !s.Continues(i) {
			chains++
		}
	}
	if chains != 2 {
		t.Errorf("%d chains, want one on either side of the gap", chains)
	}
	if m := table.TargetMoments(table.All()); m[0].Max != 19 {
		t.Errorf("TargetMoments = %+v", m)
	}
}

func TestOrderAndDuplicates(t *testing.T) {
	c := Columns{Time: "t", Group: "g", Features: []string{"a", "b"}}
	const text = "g,t,a,b\nx,3,30,\nx,1,10,1\ny,1,5,5\nx,2,20,2\nx,3,,33\nx,3,90,\ny,2,6,6\n"
	for how, want := range map[string][]float32{
		KeepFirst: {30, 33}, KeepLast: {90, 33}, TakeMean: {60, 33},
	} {
		got := readWith(t, text, c, Options{Order: OrderSort, Duplicates: how})
		if diff := cmp.Diff([]string{"1", "2", "3", "1", "2"}, times(got)); diff != "" {
			t.Errorf("%s: times: %s", how, diff)
		}
		wantValues(t, how, got.X[4:6], want...)
		if k := got.Cleaning; k.OutOfOrder != 2 || k.Duplicates != 2 || k.Used != 5 {
			t.Errorf("%s: %+v, want 2 out of order, 2 duplicates, 5 used", how, k)
		}
		if len(got.Warnings()) < 2 {
			t.Errorf("Warnings = %q", got.Warnings())
		}
	}
	for _, o := range []Options{{}, {Order: OrderSort}, {Duplicates: KeepLast}} {
		if _, err := ReadFiles(One(strings.NewReader(text)), c, o); !errors.Is(err, ErrOrder) {
			t.Errorf("%+v: %v, want ErrOrder", o, err)
		}
	}
	// A duplicate that sorting brings to light.
	_, err := ReadFiles(One(strings.NewReader("t,a\n3,1\n1,2\n2,3\n1,4\n")), Columns{Time: "t"}, Options{Order: OrderSort})
	if !errors.Is(err, ErrOrder) || !strings.Contains(err.Error(), `two rows with the time "1"`) {
		t.Errorf("duplicates after sorting: %v, want ErrOrder", err)
	}
}

func TestGapsAreCountedWithoutAnOption(t *testing.T) {
	var b strings.Builder
	b.WriteString("t,a\n")
	for i := range 40 {
		minute := i
		if i >= 20 {
			minute += 5
		}
		fmt.Fprintf(&b, "2024-01-01 00:%02d:00,%d\n", minute, i)
	}
	got := readWith(t, b.String(), Columns{Time: "t"}, Options{})
	if k := got.Cleaning; k.Period != "1m0s" || k.Gaps != 1 || k.LongestGap != "6m0s" || got.breaks != nil {
		t.Errorf("cleaning %+v, breaks %v", k, got.breaks)
	}
	if w := strings.Join(got.Warnings(), "\n"); !strings.Contains(w, "windows cross these gaps; the option max_gap") {
		t.Errorf("warnings: %s", w)
	}
	got = readWith(t, b.String(), Columns{Time: "t"}, Options{MaxGap: "2m"})
	if diff := cmp.Diff([]int{20}, got.breaks); diff != "" {
		t.Errorf("breaks: %s", diff)
	}
	if w := strings.Join(got.Warnings(), "\n"); !strings.Contains(w, "1 gaps, the longest 6m0s: no window crosses them") {
		t.Errorf("warnings: %s", w)
	}
}

func TestResample(t *testing.T) {
	const text = "t,a\n2024-01-01 00:00:10,1\n2024-01-01 00:00:50,3\n2024-01-01 00:01:00,5\n2024-01-01 00:03:59,7\n2024-01-01 01:00:30,9\n"
	c := Columns{Time: "t"}
	got := readWith(t, text, c, Options{Resample: "1m", MaxGap: "10m"})
	wantValues(t, "means", got.X, 2, 5, 5, 7, 9)
	if diff := cmp.Diff([]string{"2024-01-01 00:00:00", "2024-01-01 00:01:00", "2024-01-01 00:02:00", "2024-01-01 00:03:00", "2024-01-01 01:00:00"}, times(got)); diff != "" {
		t.Errorf("times: %s", diff)
	}
	if diff := cmp.Diff([]int{4}, got.breaks); diff != "" {
		t.Errorf("breaks: %s", diff)
	}
	if k := got.Cleaning; k.Rows != 5 || k.Resampled != 5 || k.Empty != 1 || k.Filled[0].Forward != 1 {
		t.Errorf("cleaning: %+v", k)
	}
	for by, want := range map[string]float32{"min": 1, "max": 3, "first": 1, "last": 3, "sum": 4} {
		if got := readWith(t, text, c, Options{Resample: "1m", ResampleBy: by}); got.X[0] != want {
			t.Errorf("%s = %v, want %v", by, got.X[0], want)
		}
	}
	// Steps before 0, and with a fraction.
	wantValues(t, "steps", readWith(t, "t,a\n-3,1\n-1,2\n0,3\n4,4\n", c, Options{Resample: "2"}).X, 1, 2, 3, 3, 4)
	wantValues(t, "fractions", readWith(t, "t,a\n0,1\n0.5,2\n1.25,3\n", c, Options{Resample: "0.5"}).X, 1, 2, 3)
	if _, err := ReadFiles(One(strings.NewReader("t,a\n2000-01-01,1\n2024-01-01,2\n")), c, Options{Resample: "1s"}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a billion rows: %v, want ErrTooLarge", err)
	}
	// Two stretches that meet in one bin are one row there.
	wantValues(t, "meeting", readWith(t, "t,a\n0,1\n6,2\n9,4\n20,5\n", c, Options{Resample: "10", MaxGap: "5", ResampleBy: "sum"}).X, 7, 5)
}

func TestConversionAndUnits(t *testing.T) {
	got := readWith(t, "a,b\n212,1\n32,2\n", Columns{}, Options{Convert: []string{"a=0.5555555555555556*x-17.777777777777779"}})
	if math.Abs(float64(got.X[0])-100) > 1e-5 || math.Abs(float64(got.X[2])) > 1e-5 || got.X[1] != 1 {
		t.Errorf("converted: %v, want 100, 1, 0, 2", got.X)
	}
	for formula, want := range map[string]float32{"x": 8, "x+1": 9, "2*x": 16, "x/4": 2, "-1*x-1e1": -18, " 2 * x - 3 ": 13} {
		if got := readWith(t, "a\n8\n", Columns{}, Options{Convert: []string{"a=" + formula}}); got.X[0] != want {
			t.Errorf("%s of 8 = %v, want %v", formula, got.X[0], want)
		}
	}
	units, err := Options{ColumnUnits: []string{"a=b=m/s"}}.Units()
	if diff := cmp.Diff(map[string]string{"a=b": "m/s"}, units); diff != "" || err != nil {
		t.Errorf("Units: %s, %v", diff, err)
	}
}

func TestOutliersAreTakenFromTrainingRowsOnly(t *testing.T) {
	var b strings.Builder
	b.WriteString("a,y\n")
	for i := range 40 {
		a := 10 + i%5
		if i == 7 || i == 30 {
			a = 1000
		}
		y := i % 7
		if i == 12 {
			y = 500
		}
		fmt.Fprintf(&b, "%d,%d\n", a, y)
	}
	table := readWith(t, b.String(), Columns{Features: []string{"a"}, Targets: []string{"y"}}, Options{})
	before := append([]float32(nil), table.X...)
	got := table.WithoutOutliers(Part{{0, 0, 20}}, 6)
	if got.X[7] != got.X[6] || got.X[30] != 1000 {
		t.Errorf("rows 6, 7, 30 = %v %v %v, want row 7 as before it and row 30 as it was", got.X[6], got.X[7], got.X[30])
	}
	wantValues(t, "the table itself", table.X, before...)
	if !got.unknown[12] || got.unknown[7] {
		t.Errorf("unknown targets of rows 12 and 7: %v %v, want true false", got.unknown[12], got.unknown[7])
	}
	if diff := cmp.Diff([]Count{{"a", 1}, {"y", 1}}, got.Cleaning.Outliers); diff != "" {
		t.Errorf("counts: %s", diff)
	}
	// A column that is mostly one value has no scale to judge by.
	flat := readWith(t, "a\n1\n1\n1\n9\n", Columns{}, Options{})
	if got := flat.WithoutOutliers(flat.All(), 3); len(got.Cleaning.Outliers) > 0 || got.X[3] != 9 {
		t.Errorf("outliers of a column that is mostly 1: %v", got.Cleaning.Outliers)
	}
}

func TestWithoutLeavesColumnsOut(t *testing.T) {
	table := readWith(t, "a,b,c\n1,7,2\n3,7,4\n", Columns{}, Options{})
	got := table.Without([]int{1})
	wantValues(t, "rest", got.X, 1, 2, 3, 4)
	if diff := cmp.Diff([]any{[]string{"a", "c"}, []string{"b"}}, []any{got.Features, got.Cleaning.Constant}); diff != "" {
		t.Error(diff)
	}
}

func TestTimeOfSeveralColumns(t *testing.T) {
	got := readWith(t, "year,month,day,hour,a\n2010,1,1,23,5\n2010,01,02,0,6\n", Columns{Time: "year,month,day,hour"}, Options{})
	if diff := cmp.Diff([]string{"2010-01-01 23:00:00", "2010-01-02 00:00:00"}, times(got)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a"}, got.Features); diff != "" {
		t.Errorf("features: %s", diff)
	}
	got = readWith(t, "d,h,a\n2010-01-01,10:00:00,5\n2010-01-01,10:30:00,6\n", Columns{Time: "d, h"}, Options{})
	if got.Time(1) != "2010-01-01 10:30:00" {
		t.Errorf("Time(1) = %s", got.Time(1))
	}
	if got := readWith(t, "\"a,b\",c\n1,5\n2,6\n", Columns{Time: "a,b"}, Options{}); got.Time(1) != "2" {
		t.Errorf("a column with a comma in its name: Time(1) = %s", got.Time(1))
	}
	for _, text := range []string{"2010,2,30,1,5", "2010,13,1,1,5", "2010,1,1,24,5", "1600,1,1,1,5", "2010,x,1,1,5"} {
		_, err := ReadFiles(One(strings.NewReader("year,month,day,hour,a\n"+text+"\n")), Columns{Time: "year,month,day,hour"}, Options{})
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "is not a time") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestReadFollowsOptions(t *testing.T) {
	for _, test := range []struct {
		name, text string
		o          Options
		times      []string
		x          []float32
	}{
		{"separator", "t|a\n1|5\n", Options{Separator: "|"}, []string{"1"}, []float32{5}},
		{"tab", "t\ta,b\n1\t5\n", Options{Separator: "tab"}, []string{"1"}, []float32{5}},
		{"decimal comma", "t;a\n1;5,25\n2;-1,5e3\n", Options{Decimal: ","}, []string{"1", "2"}, []float32{5.25, -1500}},
		{"time format", "t,a\n03.02.2024 10:30,5\n04.02.2024 10:30,6\n", Options{TimeFormat: "%d.%m.%Y %H:%M"}, []string{"03.02.2024 10:30", "04.02.2024 10:30"}, []float32{5, 6}},
		{"null", "t,a\n1,5\n2,-999\n3,n.a.\n", Options{Null: []string{"-999", "n.a."}}, []string{"1", "2", "3"}, []float32{5, 5, 5}},
		{"text", "t,a,id\n1,5,7\n", Options{Text: []string{"id"}}, []string{"1"}, []float32{5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readWith(t, test.text, Columns{Time: "t"}, test.o)
			wantValues(t, "features", got.X, test.x...)
			if diff := cmp.Diff(test.times, times(got)); diff != "" {
				t.Errorf("times: %s", diff)
			}
		})
	}
	// An epoch with a unit has days.
	for unit, second := range map[string]int{"s": 1, "ms": 1000, "us": 1e6} {
		var b strings.Builder
		b.WriteString("t,a\n")
		for i := range 30 {
			fmt.Fprintf(&b, "%d,1\n", i*3600*second)
		}
		got := readWith(t, b.String(), Columns{Time: "t"}, Options{TimeFormat: unit, Resample: "2h"})
		if got.RowsPerDay() != 12 || got.Rows() != 15 {
			t.Errorf("epoch in %s: %d rows a day of %d, want 12 of 15", unit, got.RowsPerDay(), got.Rows())
		}
	}
}

func TestOptionsAreRefused(t *testing.T) {
	for _, test := range []struct {
		o    Options
		says string
	}{
		{Options{Format: "xls"}, `format "xls"; there are csv`},
		{Options{Separator: ";;"}, "one ASCII character"},
		{Options{Separator: ",", Decimal: ","}, "a comma both"},
		{Options{Decimal: "'"}, "decimal"},
		{Options{TimeFormat: "%Q"}, "not known"},
		{Options{TimeFormat: "hours"}, "give s, ms, us or ns"},
		{Options{Missing: "mean"}, "there are ffill, interpolate, zero, drop"},
		{Options{Missing: "drop", FillLimit: 2}, "of ffill and interpolate"},
		{Options{FillLimit: -1}, "1 or more"},
		{Options{Order: "random"}, "order"},
		{Options{Duplicates: "all"}, "duplicates"},
		{Options{MaxGap: "-3"}, "above 0"},
		{Options{MaxGap: "soon"}, "write a duration"},
		{Options{MaxGap: "10s"}, "steps that have no unit"},
		{Options{MaxGap: "1.5"}, "whole steps"},
		{Options{Resample: "0"}, "above 0"},
		{Options{ResampleBy: "mean"}, "resample_by without resample"},
		{Options{Resample: "2", ResampleBy: "mode"}, "resample_by"},
		{Options{Convert: []string{"a=x*2"}}, "COLUMN=A*x+B"},
		{Options{Convert: []string{"a=0*x"}}, "COLUMN=A*x+B"},
		{Options{Convert: []string{"a=x", "a=2*x"}}, "once"},
		{Options{Convert: []string{"c=2*x"}}, `"c"`},
		{Options{ColumnUnits: []string{"a"}}, "COLUMN=UNIT"},
		{Options{Text: []string{"c"}}, `"c"`},
	} {
		_, err := ReadFiles(One(strings.NewReader("t,a\n1,5\n2,6\n")), Columns{Time: "t"}, test.o)
		if err == nil || !strings.Contains(err.Error(), test.says) || !errors.Is(err, ErrOptions) && !errors.Is(err, ErrColumn) {
			t.Errorf("%+v: %v, want an error that says %q", test.o, err, test.says)
		}
	}
	for _, o := range []Options{{MaxGap: "3"}, {Resample: "3"}, {Order: OrderSort}} {
		if _, err := ReadFiles(One(strings.NewReader("a\n5\n6\n")), Columns{}, o); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "time column") {
			t.Errorf("%+v without a time: %v", o, err)
		}
	}
	if _, err := ReadFiles(One(strings.NewReader("t,a\n2024-01-01,5\n2024-01-02,6\n")), Columns{Time: "t"}, Options{MaxGap: "3"}); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "without a unit") {
		t.Errorf("steps of timestamps: %v", err)
	}
	if _, err := ReadFiles(One(strings.NewReader("a,b\n,1\n2,\n")), Columns{}, Options{Missing: DropRows}); !errors.Is(err, ErrEmpty) || !strings.Contains(err.Error(), "every one of 2 rows") {
		t.Errorf("nothing left: %v", err)
	}
}

// FuzzClean holds that options never make a table that is not whole.
func FuzzClean(f *testing.F) {
	f.Add([]byte("g,t,a,y\nx,3,,1\nx,1,2,\ny,2,3,4\nx,1,9,1\n"), uint8(0))
	f.Add([]byte("g,t,a,y\nx,2024-01-01,,1\nx,2024-01-03,2,\n"), uint8(77))
	f.Fuzz(func(t *testing.T, b []byte, pick uint8) {
		n := int(pick)
		o := Options{
			Order: OrderSort, Duplicates: []string{KeepFirst, KeepLast, TakeMean}[n%3],
			Missing:   []string{FillForward, Interpolate, FillZero, DropRows}[n/3%4],
			MaxGap:    []string{"", "3", "36h"}[n/12%3],
			Resample:  []string{"", "2", "1d"}[n/36%3],
			FillLimit: 0,
		}
		table, err := ReadFiles(One(strings.NewReader(string(b))), Columns{Time: "t", Group: "g", Targets: []string{"y"}}, o)
		if err != nil {
			return
		}
		checkTable(t, table)
	})
}

// checkTable holds what every table promises.
func checkTable(t *testing.T, table *Table) {
	t.Helper()
	rows := table.Rows()
	if rows == 0 || len(table.X) != rows*len(table.Features) || len(table.Y) != rows*len(table.Targets) {
		t.Fatalf("%d and %d values for %d rows of %d features and %d targets", len(table.X), len(table.Y), rows, len(table.Features), len(table.Targets))
	}
	for _, v := range append(append([]float32{}, table.X...), table.Y...) {
		if v-v != 0 {
			t.Fatalf("a value is %v", v)
		}
	}
	next := 0
	for _, g := range table.Groups {
		if g.Start != next || g.End <= g.Start {
			t.Fatalf("groups %v", table.Groups)
		}
		next = g.End
		end := g.Start
		table.segments(g, func(from, to int) {
			if from != end || to <= from {
				t.Fatalf("segments of %v with breaks %v", g, table.breaks)
			}
			end = to
		})
		if end != g.End {
			t.Fatalf("segments of %v end at %d", g, end)
		}
		for row := g.Start + 1; row < g.End; row++ {
			if table.times.kind != noTime && !table.times.after(row, row-1) {
				t.Fatalf("row %d is not after the one before", row)
			}
		}
	}
}

// A weight stays with its row through everything that is done to rows.
func TestWeightsFollowTheirRows(t *testing.T) {
	c := Columns{Time: "t", Features: []string{"a"}, Weight: "w"}
	const text = "t,a,w\n3,30,3\n1,10,1\n2,,2\n3,50,5\n9,90,9\n"
	sorted := Options{Order: OrderSort, Duplicates: TakeMean}
	wantValues(t, "sorted and merged", readWith(t, text, c, sorted).Weights, 1, 2, 4, 9)
	sorted.Missing = DropRows
	wantValues(t, "dropped", readWith(t, text, c, sorted).Weights, 1, 4, 9)
	sorted.Resample, sorted.Missing = "2", FillForward
	wantValues(t, "resampled", readWith(t, text, c, sorted).Weights, 1, 3, 4, 4, 9)
}
