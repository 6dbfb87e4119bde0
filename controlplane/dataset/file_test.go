package dataset

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// filesOf is a data set of pairs of name and text.
func filesOf(pairs ...string) Files {
	return func(yield func(File, error) bool) {
		for i := 0; i < len(pairs); i += 2 {
			if !yield(File{Name: pairs[i], Reader: strings.NewReader(pairs[i+1])}, nil) {
				return
			}
		}
	}
}

func TestSeveralFilesAreGroups(t *testing.T) {
	got, err := ReadFiles(filesOf("valve1/0.csv", "t;a;b\n1;5;6\n2;7;8\n", "valve2/0.csv.gz", string(zip(t, "b;t;a;c\n9;1;10;0\n"))), Columns{Time: "t"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Group{{Name: "valve1/0", End: 2}, {Name: "valve2/0", Start: 2, End: 3}}, got.Groups); diff != "" {
		t.Errorf("groups: %s", diff)
	}
	if w := strings.Join(got.Warnings(), "\n"); !strings.Contains(w, `columns that the first file lacks are not used: "c"`) {
		t.Errorf("warnings: %s", w)
	}
	wantValues(t, "columns by name", got.X, 5, 6, 7, 8, 10, 9)
	list := fmt.Sprintf("%x  valve1/0.csv\n%x  valve2/0.csv.gz\n", sha256.Sum256([]byte("t;a;b\n1;5;6\n2;7;8\n")), sha256.Sum256(zip(t, "b;t;a;c\n9;1;10;0\n")))
	if got.Digest != sha256.Sum256([]byte(list)) {
		t.Error("the digest is not that of sha256sum's list")
	}
	named, err := ReadFiles(filesOf("a.csv", "t,g,a\n1,x,5\n1,y,6\n", "b.csv", "t,g,a\n2,x,7\n"), Columns{Time: "t", Group: "g"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Group{{Name: "x", End: 2}, {Name: "y", Start: 2, End: 3}}, named.Groups); diff != "" {
		t.Errorf("a column that is the group: %s", diff)
	}
	one, err := ReadFiles(filesOf("a.csv", "t,a\n1,5\n"), Columns{Time: "t"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if one.Groups[0].Name != "" || one.Digest != sha256.Sum256([]byte("t,a\n1,5\n")) {
		t.Errorf("one file is group %q, want no name", one.Groups[0].Name)
	}
}

func TestFoldersOfSparkAreColumns(t *testing.T) {
	got, err := ReadFiles(filesOf(
		"site=oslo/year=2024/part-00000.csv", "t,a\n1,5\n", "site=oslo/year=2025/part-00000.csv", "t,a\n2,6\n",
		"site=__HIVE_DEFAULT_PARTITION__/year=2024/part-00000.csv", "t,a\n1,7\n",
	), Columns{Time: "t", Features: []string{"a", "year"}}, Options{Missing: FillForward, Order: OrderSort, Duplicates: KeepFirst})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Groups) != 1 || got.Groups[0].Name != "" {
		t.Errorf("groups %v, want one: pieces of a data set are no groups", got.Groups)
	}
	wantValues(t, "values", got.X, 5, 2024, 6, 2025)
	_, err = ReadFiles(filesOf("site=oslo/a.csv", "t,a\n1,5\n", "site=__HIVE_DEFAULT_PARTITION__/a.csv", "t,a\n1,7\n"), Columns{Group: "site"}, Options{})
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "the group is missing") {
		t.Errorf("a null group: %v", err)
	}
	_, err = ReadFiles(filesOf("a=1/x.csv", "a,b\n1,5\n"), Columns{}, Options{})
	if !errors.Is(err, ErrColumn) || !strings.Contains(err.Error(), `"a" is both a column and a folder`) {
		t.Errorf("a folder that is a column: %v", err)
	}
}

func TestFilesThatDoNotFit(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, test := range []struct {
		name  string
		files Files
		want  error
		says  string
	}{
		{"none", filesOf(), ErrEmpty, "no file"},
		{"another schema", filesOf("a.csv", "t,a,b\n1,5,6\n", "b.csv", "t,a\n1,5\n"), ErrColumn, `b.csv: feature: no such column: "b"; did you mean "t" or "a"? (the first file has it)`},
		{"a text that was a number", filesOf("a.csv", "t,a\n1,5\n", "b.csv", "t,a\n1,high\n"), ErrMalformed, `b.csv: row 1 (line 2), column "a"`},
		{"an empty one", filesOf("a.csv", "t,a\n1,5\n", "b.csv", ""), ErrEmpty, "b.csv: no data"},
		{"an error between them", func(yield func(File, error) bool) { yield(File{}, broken) }, broken, "fire"},
		{"not UTF-8", filesOf("a.csv", "t,temp \xb0C\n1,5\n"), ErrMalformed, `a.csv: header (line 1): malformed CSV: "temp \xb0C" is not UTF-8; save the file as UTF-8, or convert it with iconv`},
	} {
		_, err := ReadFiles(test.files, Columns{Time: "t"}, Options{})
		if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%s: %v, want %v that says %q", test.name, err, test.want, test.says)
		}
	}
	if _, err := Read(strings.NewReader("g,a\n\xb0,5\n"), Columns{Group: "g"}); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("a group that is not UTF-8: %v", err)
	}
}

// A made is a CSV file that is made as it is read.
type made struct {
	rows, columns, at int
	buf               []byte
}

func (m *made) Read(b []byte) (int, error) {
	for len(m.buf) == 0 {
		if m.at > m.rows {
			return 0, io.EOF
		}
		for c := range m.columns {
			if m.at == 0 {
				m.buf = append(m.buf, "column"...)
			} else {
				m.buf = append(strconv.AppendInt(m.buf, int64(m.at), 10), '.')
			}
			m.buf = append(strconv.AppendInt(m.buf, int64(c), 10), ',')
		}
		m.buf[len(m.buf)-1] = '\n'
		m.at++
	}
	n := copy(b, m.buf)
	m.buf = m.buf[:copy(m.buf, m.buf[n:])]
	return n, nil
}

// All that reading a large file ever allocates, freed or not, is a small multiple
// of what is kept of it.
func TestReadKeepsTheColumnsOnly(t *testing.T) {
	const rows, columns, kept = 60_000, 60, 2
	src := &made{rows: rows, columns: columns}
	count := &counter{r: src}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	table, err := ReadFiles(One(count), Columns{Time: "column0", Features: []string{"column7", "column3"}}, Options{})
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	keeps := uint64(rows * (4*kept + 8 + 4)) // values, time, group
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("a file of %d bytes, of which %d are kept: %d allocated", count.n, keeps, allocated)
	if count.n < 10*keeps || table.Rows() != rows {
		t.Fatalf("%d rows of %d bytes", table.Rows(), count.n)
	}
	// append grows a slice by a quarter or more, so that all its lives add up to 5
	// times the last, which may be a quarter too long; 1 MiB is for the rest.
	if most := 25*keeps/4 + 1<<20; allocated > most {
		t.Errorf("allocated %d bytes, want at most %d", allocated, most)
	}
}

type counter struct {
	r io.Reader
	n uint64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += uint64(n)
	return n, err
}
