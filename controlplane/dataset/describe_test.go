package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDescribe(t *testing.T) {
	var b strings.Builder
	b.WriteString("unit,when,site,temp,count,fixed,none,odd\n")
	for i := range 101 {
		temp, odd := fmt.Sprintf("%.1f", float64(i)/2), fmt.Sprint(i)
		minute := i
		switch i {
		case 30:
			temp = "NA"
		case 50:
			minute = 40 // again
		case 60:
			odd = "high"
		}
		if i > 90 {
			minute += 30
		}
		fmt.Fprintf(&b, "p%d,2024-01-01 %02d:%02d:00,oslo,%s,%d,7,,%s\n", i/100, minute/60, minute%60, temp, 100-i, odd)
	}
	got, err := Describe(One(strings.NewReader(b.String())), Columns{Group: "unit"}, Options{Missing: DropRows})
	if err != nil {
		t.Fatal(err)
	}
	temps := make([]float32, 0, 100)
	for i := range 101 {
		if i != 30 {
			temps = append(temps, float32(i)/2)
		}
	}
	want := &Description{
		Files: 1, Rows: 101, Groups: 2, Fewest: 1, Most: 100, Data: got.Data,
		Time: &TimeDescription{
			Column: "when", First: "2024-01-01 00:00:00", Last: "2024-01-01 02:10:00", Period: "1m0s", Gaps: 2, LongestGap: "31m0s",
			OutOfOrder: 1, Duplicates: 1,
		},
		Columns: []ColumnDescription{
			{Name: "unit", Type: TypeText, Text: 101, Example: "p0"},
			{Name: "when", Type: TypeTime},
			{Name: "site", Type: TypeText, Text: 101, Example: "oslo"},
			{Name: "temp", Type: TypeNumber, Missing: 1, Numbers: numbersOf(temps)},
			{Name: "count", Type: TypeInteger, Numbers: &Numbers{Min: 0, P5: 5, P25: 25, Median: 50, P75: 75, P95: 95, Max: 100, Mean: 50, Std: math.Sqrt(850)}},
			{Name: "fixed", Type: TypeInteger, Constant: true, Numbers: &Numbers{7, 7, 7, 7, 7, 7, 7, 7, 0}},
			{Name: "none", Type: TypeEmpty, Missing: 101},
			{Name: "odd", Type: TypeMixed, Text: 1, Example: "high", At: "row 61", Numbers: got.Columns[7].Numbers},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Describe (-want +got):\n%s", diff)
	}
	if len(got.Data) != 64 {
		t.Errorf("data %q", got.Data)
	}
}

func TestQuantilesLieBetweenValues(t *testing.T) {
	n := numbersOf([]float32{4, 1, 2})
	if n.P5 != 1.1 || n.Median != 2 || n.P75 != 3 || n.P95 != 3.8 {
		t.Errorf("%+v", n)
	}
}

func TestDescribeOtherFiles(t *testing.T) {
	// Columns by name over files; a conversion; no time.
	got, err := Describe(filesOf("a.csv", "x,y\n1,2\n2,4\n", "b.csv", "y,z\n6,1e99\n"), Columns{}, Options{Convert: []string{"y=x/2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Files != 2 || got.Groups != 2 || got.Time != nil || len(got.Columns) != 3 {
		t.Errorf("%+v", got)
	}
	if y := got.Columns[1]; y.Max != 3 || got.Columns[0].Missing != 1 || got.Columns[2].Type != TypeText {
		t.Errorf("columns %+v", got.Columns)
	}
	lp, err := Describe(One(strings.NewReader("m,s=a v=1 5\nm,s=b v=2 5\n")), Columns{}, Options{})
	if err != nil || lp.Time == nil || lp.Groups != 2 || lp.Time.Duplicates != 0 {
		t.Errorf("line protocol: %+v, %v", lp, err)
	}
	pq, err := Describe(One(strings.NewReader(parquetFile(t, "p1", 1.5, -1, 2.5))), Columns{}, Options{})
	if err != nil || pq.Time == nil || pq.Time.Column != "at" || pq.Columns[2].Missing != 1 || pq.Columns[0].Type != TypeTime {
		t.Errorf("Parquet: %+v, %v", pq, err)
	}
	for text, want := range map[string]error{"": ErrEmpty, "a,b\n": ErrEmpty, "a,a\n1,2\n": ErrMalformed, "\x1f\x8bx": ErrMalformed} {
		if _, err := Describe(One(strings.NewReader(text)), Columns{}, Options{}); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	if _, err := Describe(One(strings.NewReader("a,b\n1,2\n")), Columns{Time: "c"}, Options{}); !errors.Is(err, ErrColumn) {
		t.Errorf("no such time: %v", err)
	}
}

// What is written reads back as the same table.
func TestWriteCSVReadsBack(t *testing.T) {
	text := "unit;when;\"a,b\";time\nx;2024-01-01 00:00;0.1;5\ny;2024-01-01 00:00;;6\ny;2024-01-01 00:30;3e-7;7\n"
	table := readWith(t, text, Columns{Time: "when", Group: "unit"}, Options{})
	var b strings.Builder
	if err := table.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "group,_time,\"a,b\",time\nx,2024-01-01 00:00,0.1,5\n") {
		t.Errorf("written:\n%s", b.String())
	}
	again := readWith(t, b.String(), Columns{Time: "_time", Group: "group"}, Options{})
	if !slices.Equal(again.X, table.X) || !slices.Equal(times(again), times(table)) || !slices.Equal(again.Groups, table.Groups) {
		t.Errorf("read back: %v %v %v", again.X, times(again), again.Groups)
	}
}

func BenchmarkDescribe(b *testing.B) {
	src := func() *made { return &made{rows: 1_000_000, columns: 10} }
	for b.Loop() {
		if _, err := Describe(One(src()), Columns{}, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestChartOfATable(t *testing.T) {
	table := numbered(t, 5, 7)
	c, err := table.Chart()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.WriteSVG(&b); err != nil || strings.Count(b.String(), ">a<") != 1 || strings.Count(b.String(), ">b<") != 1 {
		t.Errorf("a picture of a and b: %v", err)
	}
	table.Features = make([]string, maxDrawn+1)
	if _, err := table.Chart(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("of %d columns: %v", maxDrawn+1, err)
	}
}
