package dataset

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pq "github.com/parquet-go/parquet-go"
)

type reading struct {
	At   time.Time `parquet:"at,timestamp(millisecond)"`
	Unit string    `parquet:"unit"`
	Flow *float64  `parquet:"flow,optional"`
	Heat int32     `parquet:"heat"`
}

// parquetFile holds a reading an hour.
func parquetFile(t *testing.T, unit string, flows ...float64) string {
	t.Helper()
	var rows []reading
	for i, f := range flows {
		r := reading{time.Date(2024, 1, 1, i, 0, 0, 0, time.UTC), unit, &f, int32(i)}
		if f < 0 {
			r.Flow = nil
		}
		rows = append(rows, r)
	}
	var b bytes.Buffer
	if err := pq.Write(&b, rows); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReadParquet(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	c := Columns{Time: "at", Group: "unit", Targets: []string{"flow"}, TargetsAsFeatures: true}
	text := parquetFile(t, "p1", 1.5, -1, 2.5)
	got := readWith(t, text, c, Options{Missing: FillForward})
	if diff := cmp.Diff([]any{[]string{"flow", "heat"}, []Group{{Name: "p1", End: 3}}}, []any{got.Features, got.Groups}); diff != "" {
		t.Errorf("features and groups: %s", diff)
	}
	wantValues(t, "values", got.X, 1.5, 0, 1.5, 1, 2.5, 2)
	if diff := cmp.Diff([]bool{false, true, false}, got.unknown); diff != "" {
		t.Errorf("a null target: %s", diff)
	}
	if got.Time(1) != "2024-01-01T01:00:00Z" || got.Digest != sha256.Sum256([]byte(text)) {
		t.Errorf("Time(1) = %s, or the digest is another", got.Time(1))
	}
	// A folder as Spark writes it, with rows of one group in several pieces.
	folder, err := ReadFiles(filesOf(
		"day=1/part-00000-x.snappy.parquet", parquetFile(t, "p1", 1, 2),
		"day=2/part-00000-x.snappy.parquet", parquetFile(t, "p2", 3),
	), Columns{Time: "at", Group: "unit", Features: []string{"day", "flow"}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Group{{Name: "p1", End: 2}, {Name: "p2", Start: 2, End: 3}}, folder.Groups); diff != "" {
		t.Errorf("groups: %s", diff)
	}
	wantValues(t, "values", folder.X, 1, 1, 1, 2, 2, 3)

	for _, test := range []struct {
		name, text string
		want       error
		says       string
	}{
		{"cut short", text[:len(text)-20], ErrParquet, "malformed Parquet: damaged or not readable: it does not end in PAR1: it was cut short; write the file again"},
		{"magic alone", "PAR1", ErrParquet, "4 bytes are no Parquet file"},
		{"damaged", text[:6] + "\xff\xff\xff\xff" + text[10:], ErrParquet, "malformed Parquet"},
	} {
		if _, err := Read(strings.NewReader(test.text), c); !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%s: %v, want %v that says %q", test.name, err, test.want, test.says)
		}
	}
	_, err = ReadFiles(filesOf("a.parquet", text, "b.parquet", "at,unit,flow\n2024-01-01,p1,5\n"), c, Options{Missing: FillForward})
	if !errors.Is(err, ErrColumn) || !strings.Contains(err.Error(), `b.parquet: feature: no such column: "heat"`) {
		t.Errorf("another schema: %v", err)
	}
	if _, err := Read(strings.NewReader(text), Columns{Targets: []string{"unit"}}); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), `row 1, column "unit"`) || !strings.Contains(err.Error(), `"p1" is not a number`) {
		t.Errorf("text as a target: %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
