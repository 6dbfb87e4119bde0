package dataset

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

// An endless reader gives a byte again and again.
type endless struct {
	of    byte
	left  int64
	given int64
}

func (e *endless) Read(b []byte) (int, error) {
	n := int(min(int64(len(b)), e.left))
	for i := range b[:n] {
		b[i] = e.of
	}
	e.left, e.given = e.left-int64(n), e.given+int64(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestTenGigabytesOfOneLine reads no more of it than a line may have.
func TestTenGigabytesOfOneLine(t *testing.T) {
	const size = 10_000_000_000
	for name, head := range map[string]string{
		"first line": "", "header": "a,b", "row": "a,b\n1,2\n3,", "quoted": "a,b\n1,\"", "line protocol": "m a=1 1\nm a=",
	} {
		for _, read := range []func(io.Reader) error{
			func(r io.Reader) error { _, err := Read(r, Columns{}); return err },
			func(r io.Reader) error { _, err := Describe(One(r), Columns{}, Options{}); return err },
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			line := &endless{of: '7', left: size}
			err := read(io.MultiReader(strings.NewReader(head), line))
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "longer than 1048576 bytes") {
				t.Errorf("%s: %v", name, err)
			}
			if line.given > 3*MaxLine {
				t.Errorf("%s: read %d bytes of the line", name, line.given)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
				t.Errorf("%s: allocated %d bytes", name, used)
			}
		}
	}
	// Of a gzip file that holds as much, no more is unpacked.
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := io.Copy(w, &endless{of: 'x', left: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(&zipped, Columns{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("gzip: %v", err)
	}
}

func TestTimesOfSeveralZones(t *testing.T) {
	got, err := ReadFiles(One(strings.NewReader("time,a\n2024-03-31T01:30:00+01:00,1\n2024-03-31T03:00:00+02:00,2\n")), Columns{Time: "time"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Time(1) != "2024-03-31T02:00:00+01:00" || !strings.Contains(strings.Join(got.Warnings(), "\n"), "several zones, such as +01:00 and +02:00: rows are ordered by the moment") {
		t.Errorf("second time %s, warnings %q", got.Time(1), got.Warnings())
	}
	_, err = ReadFiles(filesOf("a.csv", "time,a\n2024-01-01T00:00:00Z,1\n", "b.csv", "time,a\n2024-01-01T01:00:00,2\n"), Columns{Time: "time"}, Options{})
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "b.csv: row 1 (line 2)") {
		t.Errorf("a file without a zone among others: %v", err)
	}
}
