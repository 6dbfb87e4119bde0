package dataset

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, text string, c Columns) *Table {
	t.Helper()
	table, err := Read(strings.NewReader(text), c)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return table
}

func TestReadRefusesBadFiles(t *testing.T) {
	all := Columns{Time: "t", Group: "g", Targets: []string{"y"}, Features: []string{"a", "b"}}
	weightsToo := all
	weightsToo.Weight = "w"
	const head = "g,t,a,b,y\n"
	wide := strings.Repeat("c,", MaxColumns) + "a\n1\n"
	for _, test := range []struct {
		name, text string
		columns    Columns
		want       error
		says       []string
	}{
		{"empty file", "", all, ErrEmpty, []string{"empty"}},
		{"only blank lines", "\n\n  \n", all, ErrEmpty, nil},
		{"header alone", head, all, ErrEmpty, []string{"no rows; add rows below it"}},
		{"no header", "1,2,3\n4,5,6\n", all, ErrMalformed, []string{"header (line 1)", "must name the columns"}},
		{"no header and a value twice", "1,2,2\n4,5,6\n", all, ErrMalformed, []string{"header (line 1)", "must name the columns"}},
		{"column twice", "g,t,a,a,y\n", all, ErrMalformed, []string{`"a"`, "twice"}},
		{"missing feature", head + "x,1,2,3,4\n", Columns{Features: []string{"a", "bb"}}, ErrColumn, []string{`feature`, `"bb"`, `did you mean "b"`}},
		{"missing target", head + "x,1,2,3,4\n", Columns{Targets: []string{"temperature"}}, ErrColumn, []string{"target", "the header has g, t, a, b, y"}},
		{"missing time", head + "x,1,2,3,4\n", Columns{Time: "cycle"}, ErrColumn, []string{"time", `"cycle"`}},
		{"missing group", head + "x,1,2,3,4\n", Columns{Group: "unit"}, ErrColumn, []string{"group", `"unit"`}},
		{"feature twice", head + "x,1,2,3,4\n", Columns{Features: []string{"a", "a"}}, ErrColumn, []string{"twice"}},
		{"group as feature", head + "x,1,2,3,4\n", Columns{Group: "g", Features: []string{"g"}}, ErrColumn, []string{"group column"}},
		{"text only", "g,t\nx,y\n", Columns{}, ErrColumn, []string{"no numeric column"}},
		{"short row", head + "x,1,2,3,4\nx,2,2,3\n", all, ErrMalformed, []string{"row 2 (line 3)", `column "y"`, "4 fields, the header has 5"}},
		{"long row", head + "x,1,2,3,4,5\n", all, ErrMalformed, []string{"row 1 (line 2)", "6 fields"}},
		{"row after a blank line", head + "x,1,2,3,4\n\nx,2,2,oops,4\n", all, ErrMalformed, []string{"row 2 (line 4)", `column "b"`, `"oops" is not a number; correct it, or leave the cell empty`}},
		{"text beyond the sample", "a\n" + strings.Repeat("1\n", 100) + "bad\n", Columns{}, ErrMalformed, []string{"row 101 (line 102)", `column "a"`}},
		{"decimal comma", "a;b\n1,5;2\n", Columns{Features: []string{"a"}}, ErrMalformed, []string{`"1,5" is not a number with a decimal comma; write decimal points`}},
		{"open quote", head + `x,1,"2,3,4` + "\n", all, ErrMalformed, []string{"row 1 (line 2)", "a quote is not closed on its line; close it"}},
		{"text behind a quote", head + `x,1,"2"2,3,4` + "\n", all, ErrMalformed, []string{"quote"}},
		{"infinite feature", head + "x,1,inf,3,4\n", all, ErrMalformed, []string{`column "a"`, "finite"}},
		{"feature beyond float32", head + "x,1,1e39,3,4\n", all, ErrMalformed, []string{"finite float32"}},
		{"feature beyond float64", head + "x,1,1e999,3,4\n", all, ErrMalformed, []string{"finite float32"}},
		{"NaN target", head + "x,1,2,3,4\nx,2,2,3,NaN\n", all, ErrTarget, []string{"row 2 (line 3)", `column "y"`, "missing"}},
		{"NaN target in another case", head + "x,1,2,3,Nan\n", all, ErrTarget, []string{`column "y"`}},
		{"empty target", head + "x,1,2,3,\n", all, ErrTarget, []string{`column "y"`}},
		{"negative weight", "g,t,a,b,y,w\nx,1,1,2,3,1\nx,2,1,2,3,-0.5\n", weightsToo, ErrWeight, []string{"row 2 (line 3)", `column "w"`, `"-0.5"`, "0 or more"}},
		{"infinite weight", "g,t,a,b,y,w\nx,1,1,2,3,1e39\n", weightsToo, ErrWeight, []string{`"1e39"`}},
		{"NaN weight", "g,t,a,b,y,w\nx,1,1,2,3,nan\n", weightsToo, ErrWeight, []string{`"nan"`}},
		{"missing weight", "g,t,a,b,y,w\nx,1,1,2,3,\n", weightsToo, ErrWeight, []string{`""`}},
		{"no such weight", head + "x,1,1,2,3\n", weightsToo, ErrColumn, []string{"weight:", `"w"`}},
		{"infinite target", head + "x,1,2,3,-Inf\n", all, ErrTarget, []string{"finite"}},
		{"text target", head + "x,1,2,3,high\n", all, ErrMalformed, []string{`column "y"`, `"high" is not a number; correct it, or remove the row`}},
		{"missing group cell", head + ",1,2,3,4\n", all, ErrMalformed, []string{`column "g"`, "missing"}},
		{"long group", head + strings.Repeat("x", MaxName+1) + ",1,2,3,4\n", all, ErrTooLarge, []string{`column "g"`, "256 bytes"}},
		{"time goes back", head + "x,2,2,3,4\nx,1,2,3,4\n", all, ErrOrder, []string{"row 2 (line 3)", `column "t"`, `"1" does not come after "2" in group "x"`}},
		{"time stands still", head + "x,2,2,3,4\ny,2,2,3,4\nx,2,2,3,4\n", all, ErrOrder, []string{"row 3"}},
		{"no time", head + "x,soon,2,3,4\n", all, ErrMalformed, []string{"ISO 8601"}},
		{"mixed times", head + "x,2020-01-01,2,3,4\nx,7,2,3,4\n", all, ErrMalformed, []string{"row 2", `"2020-01-01"`}},
		{"nothing to fill from", head + "x,1,2,3,4\nz,1,,3,4\n", all, ErrMalformed, []string{`column "a"`, `group "z"`, "every value is missing"}},
		{"long line", head + "x,1," + strings.Repeat("2", MaxLine) + ",3,4\n", all, ErrTooLarge, []string{"line 2", "longer than"}},
		{"long header", strings.Repeat("h", MaxLine+1), all, ErrTooLarge, []string{"line 1"}},
		{"wide header", wide, all, ErrTooLarge, []string{"4097 columns"}},
		{"spreadsheet", "PK\x03\x04....", all, ErrMalformed, []string{"spreadsheet", "UTF-8"}},
		{"UTF-16", "\xff\xfeg\x00,\x00", all, ErrMalformed, []string{"UTF-16"}},
		{"cut gzip", string(zip(t, head+"x,1,2,3,4\n")[:30]), all, ErrMalformed, []string{"cut short"}},
		// Not what is wrong with the half of a line that is there.
		{"cut in a line", string(cutZip(t)), Columns{}, ErrMalformed, []string{"cut short"}},
		{"bad gzip header", "\x1f\x8b\x00\x00", all, ErrMalformed, []string{"gzip"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(test.text), test.columns)
			if !errors.Is(err, test.want) {
				t.Fatalf("Read = %v, want %v", err, test.want)
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
		})
	}
}

// cutZip is a file of which the bytes to the middle of its last line can be read.
func cutZip(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte("a,b\n1,2\n1,2\n1")) // to memory
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zip(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadGivesTheSameTableForEveryDialect(t *testing.T) {
	c := Columns{Time: "t", Group: "g", Targets: []string{"y"}, Features: []string{"b", "a"}}
	want := read(t, "g,t,a,b,y\nm1,1,0.1,2,3\nm1,2,-4,5e-3,6\n", c)
	if diff := cmp.Diff([]float32{2, 0.1, 5e-3, -4}, want.X); diff != "" {
		t.Fatalf("features in the order asked for: %s", diff)
	}
	for name, text := range map[string]string{
		"semicolon":        "g;t;a;b;y\nm1;1;0.1;2;3\nm1;2;-4;5e-3;6\n",
		"tab":              "g\tt\ta\tb\ty\nm1\t1\t0.1\t2\t3\nm1\t2\t-4\t5e-3\t6\n",
		"CRLF and BOM":     "\xef\xbb\xbfg,t,a,b,y\r\nm1,1,0.1,2,3\r\nm1,2,-4,5e-3,6\r\n",
		"quotes":           `"g","t","a","b","y"` + "\n" + `"m1","1","0.1","2","3"` + "\n" + `m1, "2" ,-4,5e-3,6` + "\n",
		"spaces":           "g, t, a, b, y\nm1, 1, 0.1, 2, 3\nm1, 2, -4, 5e-3, 6\n",
		"no last line end": "g,t,a,b,y\nm1,1,0.1,2,3\nm1,2,-4,5e-3,6",
		"unused text":      "g,t,a,b,y,note\nm1,1,0.1,2,3,fine\nm1,2,-4,5e-3,6,\"x, \"\"y\"\"\"\n",
		"gzip":             string(zip(t, "g,t,a,b,y\nm1,1,0.1,2,3\nm1,2,-4,5e-3,6\n")),
	} {
		got := read(t, text, c)
		if diff := cmp.Diff([]any{want.X, want.Y, want.Groups, want.Time(1)}, []any{got.X, got.Y, got.Groups, got.Time(1)}); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got.Digest != sha256.Sum256([]byte(text)) {
			t.Errorf("%s: Digest is not the SHA-256 of the bytes", name)
		}
	}
}

func TestReadChoosesNumericColumns(t *testing.T) {
	const text = "id,when,a,site,b,y\nm,1,1,north,NA,5\nm,2,2,south,7,6\n"
	c := Columns{Time: "when", Group: "id", Targets: []string{"y"}}
	got := read(t, text, c)
	if diff := cmp.Diff([]string{"a", "b"}, got.Features); diff != "" {
		t.Errorf("features: %s", diff)
	}
	if diff := cmp.Diff([]string{"site"}, got.Skipped); diff != "" {
		t.Errorf("skipped: %s", diff)
	}
	c.TargetsAsFeatures = true
	if diff := cmp.Diff([]string{"a", "b", "y"}, read(t, text, c).Features); diff != "" {
		t.Errorf("features with the targets: %s", diff)
	}
}

func TestReadFillsMissingFeaturesWithinTheGroup(t *testing.T) {
	got := read(t, "g,a,b\n1,5,1\n1,,2\n1,nAn,3\n2,,4\n2,9,?\n", Columns{Group: "g"})
	if diff := cmp.Diff([]float32{5, 1, 5, 2, 5, 3, 9, 4, 9, 4}, got.X); diff != "" {
		t.Errorf("values: %s", diff)
	}
	if diff := cmp.Diff([]Filled{{Column: "a", Forward: 2, Backward: 1}, {Column: "b", Forward: 1}}, got.Cleaning.Filled); diff != "" {
		t.Errorf("counts: %s", diff)
	}
	if w := got.Warnings(); len(w) != 3 || !strings.Contains(w[0], `"a": 3 missing`) {
		t.Errorf("Warnings() = %q", w)
	}
}

func TestReadGathersInterleavedGroups(t *testing.T) {
	got := read(t, "t,g,a,y\n1,x,10,1\n1,y,20,2\n2,x,11,3\n2,y,21,4\n3,x,12,5\n", Columns{Time: "t", Group: "g", Targets: []string{"y"}})
	want := []Group{{Name: "x", End: 3}, {Name: "y", Start: 3, End: 5}}
	if diff := cmp.Diff(want, got.Groups); diff != "" {
		t.Errorf("groups: %s", diff)
	}
	if diff := cmp.Diff([]float32{10, 11, 12, 20, 21}, got.X); diff != "" {
		t.Errorf("features: %s", diff)
	}
	if diff := cmp.Diff([]float32{1, 3, 5, 2, 4}, got.Y); diff != "" {
		t.Errorf("targets: %s", diff)
	}
	if got.Time(2) != "3" || got.Time(3) != "1" {
		t.Errorf("times of rows 2 and 3 are %s and %s, want 3 and 1", got.Time(2), got.Time(3))
	}
}

func TestTimesPrintAsWritten(t *testing.T) {
	for _, times := range [][]string{
		{"-1", "0", "17"},
		{"0", "0.5", "1.25"},
		{"2016-07-01 00:00:00", "2016-07-01 01:00:00"},
		{"2016-07-01 00:00", "2016-07-01 00:15"},
		{"2016-07-01T00:00:00", "2016-07-01T00:00:00.25", "2016-07-01T00:00:01"},
		{"2016-07-01T00:00:00+02:00", "2016-07-01T02:00:00+02:00"},
		{"2016-07-01T00:00:00Z", "2016-07-01T00:00:00.000001Z"},
		{"2016-07-01", "2016-07-02"},
	} {
		table := read(t, "t,a\n"+strings.Join(times, ",1\n")+",1\n", Columns{Time: "t"})
		for i, want := range times {
			if got := table.Time(i); got != want {
				t.Errorf("Time(%d) = %q, want %q", i, got, want)
			}
		}
	}
	if got := read(t, "a\n5\n6\n", Columns{}).Time(1); got != "2" {
		t.Errorf("without a time column Time(1) = %q, want 2", got)
	}
}

func TestReadTruth(t *testing.T) {
	want := map[string]float32{"1": 112, "2": 98.5}
	for _, text := range []string{"unit,rul\n1,112\n2,98.5\n", "rul,unit\n112,1\n98.5,2\n", "engine;left\n1;112\n2;98.5\n", "unit,note,RUL\n1,x,112\n2,y,98.5\n"} {
		got, err := ReadTruth(strings.NewReader(text), "unit")
		if err != nil {
			t.Errorf("ReadTruth(%q): %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ReadTruth(%q): %s", text, diff)
		}
	}
	for text, want := range map[string]error{
		"":                     ErrEmpty,
		"unit,rul\n":           ErrEmpty,
		"unit\n1\n":            ErrColumn,
		"unit,a,b\n1,2,3\n":    ErrColumn,
		"unit,rul\n1,2\n1,3\n": ErrMalformed,
		"unit,rul\n1,\n":       ErrTarget,
		"unit,rul\n1,2,3\n":    ErrMalformed,
		"unit,rul\n" + nines + nines + nines + nines + nines + ",2\n": ErrTooLarge,
		"unit,rul\n1," + nines + "":                                   ErrTarget,
	} {
		if _, err := ReadTruth(strings.NewReader(text), "unit"); !errors.Is(err, want) {
			t.Errorf("ReadTruth(%q) = %v, want %v", text, err, want)
		}
	}
}

var nines = strings.Repeat("9", 60)

// FuzzRead holds that any bytes either give a table whose rows all belong to a
// group and whose values are finite, or an error.
func FuzzRead(f *testing.F) {
	f.Add([]byte("g,t,a\nx,1,2\nx,2,\ny,1,4\n"))
	f.Add([]byte("g;t;a\n\"x\";2020-01-01;2\n"))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range []Columns{{}, {Time: "t", Group: "g"}} {
			table, err := Read(bytes.NewReader(b), c)
			if err != nil {
				continue
			}
			if len(table.X) != table.Rows()*len(table.Features) || table.Rows() == 0 {
				t.Fatalf("%d values for %d rows of %d features", len(table.X), table.Rows(), len(table.Features))
			}
			for i, v := range table.X {
				if v-v != 0 {
					t.Fatalf("value %d is %v", i, v)
				}
			}
			for row := range table.Rows() {
				_ = table.Time(row)
			}
		}
	})
}

// FuzzReadTruth holds that any bytes give finite values or an error.
func FuzzReadTruth(f *testing.F) {
	f.Add([]byte("unit,rul\n1,112\n2,98\n"))
	f.Add([]byte("rul;note;unit\n112;\"a\";1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		truth, err := ReadTruth(bytes.NewReader(b), "unit")
		if err == nil && len(truth) == 0 {
			t.Fatal("no groups and no error")
		}
		for g, v := range truth {
			if v-v != 0 {
				t.Fatalf("group %q: %v", g, v)
			}
		}
	})
}

func TestRealFiles(t *testing.T) {
	dir := os.Getenv("SANDPIPER_DATA")
	if dir == "" {
		t.Skip("SANDPIPER_DATA is not set")
	}
	for _, test := range []struct {
		file             string
		columns          Columns
		rows, cols       int
		groups, windows  int
		shape            Shape
		lastTime, lastOf string
	}{
		{"cmapss-fd001/train.csv.gz", Columns{Time: "cycle", Group: "unit"}, 20631, 24, 100, 20631 - 100*29, Shape{Window: 30}, "200", "100"},
		{"cmapss-fd001/test.csv.gz", Columns{Time: "cycle", Group: "unit"}, 13096, 24, 100, 13096 - 100*29, Shape{Window: 30}, "198", "100"},
		{"etth1/ETTh1.csv.gz", Columns{Time: "date", Targets: []string{"OT"}, TargetsAsFeatures: true}, 17420, 7, 1, 17420 - 96 - 24 + 1, Shape{Window: 96, Horizon: 24}, "2018-06-26 19:00:00", ""},
	} {
		t.Run(test.file, func(t *testing.T) {
			f, err := os.Open(filepath.Join(dir, test.file))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			table, err := Read(f, test.columns)
			if err != nil {
				t.Fatal(err)
			}
			if len(table.Targets) == 0 {
				if err := table.SetRemaining(nil); err != nil {
					t.Fatal(err)
				}
			}
			w, err := table.Windows(table.All(), test.shape)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(table.Rows(), len(table.Features), len(table.Groups), w.Len(), table.Time(table.Rows()-1), w.Group(w.Len()-1))
			want := fmt.Sprint(test.rows, test.cols, test.groups, test.windows, test.lastTime, test.lastOf)
			if got != want {
				t.Errorf("rows, features, groups, windows, last time, last group = %s, want %s", got, want)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	var text bytes.Buffer
	text.WriteString("t,g,a,b,c,d,e,f,h,i\n")
	for i := range 100_000 {
		fmt.Fprintf(&text, "%d,m%d,%g,%g,%g,%g,%g,%g,%g,%g\n", i, i/1000, float64(i)*0.1, 21.61, 554.36, 2388.06, 9046.19, 47.47, 521.66, 0.03)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, err := Read(bytes.NewReader(text.Bytes()), Columns{Time: "t", Group: "g"}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRowsPerDay(t *testing.T) {
	for _, test := range []struct {
		times []string
		want  int
	}{
		{[]string{"2020-01-01 00:00:00", "2020-01-01 01:00:00", "2020-01-01 02:00:00"}, 24},
		{[]string{"2020-01-01 00:00", "2020-01-01 00:15"}, 96},
		{[]string{"2020-01-01", "2020-01-02", "2020-01-03"}, 1},
		{[]string{"2020-01-01", "2020-01-08"}, 0},
		{[]string{"2020-01-01 00:00:00", "2020-01-01 01:00:00", "2020-01-01 01:10:00"}, 0}, // irregular
		{[]string{"2020-01-01 00:00:00", "2020-01-01 00:07:00"}, 0},                        // does not divide a day
		{[]string{"1", "2", "3"}, 0},
		{[]string{"2020-01-01"}, 0},
	} {
		table := read(t, "t,a\n"+strings.Join(test.times, ",1\n")+",1\n", Columns{Time: "t"})
		if got := table.RowsPerDay(); got != test.want {
			t.Errorf("RowsPerDay of %v = %d, want %d", test.times, got, test.want)
		}
	}
}
