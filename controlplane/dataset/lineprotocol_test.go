package dataset

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLineProtocol(t *testing.T) {
	const text = `# pumps
pump,site=a,unit=1 flow=1.5,on=true,state="run, \"fast\"",count=3i 1700000000000000000
pump,site=b flow=-2e1,on=F,count=4u 1700000000000000000

pump,site=a,unit=1 flow=2.5 1700000001000000000
`
	got := readWith(t, text, Columns{}, Options{})
	if diff := cmp.Diff([]Group{{Name: "site=a,unit=1", End: 2}, {Name: "site=b", Start: 2, End: 3}}, got.Groups); diff != "" {
		t.Errorf("each series is a group: %s", diff)
	}
	if diff := cmp.Diff([]string{"flow", "on", "count"}, got.Features); diff != "" {
		t.Errorf("features, tags being text: %s", diff)
	}
	got = readWith(t, text, Columns{Features: []string{"flow", "count"}, Group: "site"}, Options{})
	wantValues(t, "values", got.X, 1.5, 3, 2.5, 3, -20, 4)
	if diff := cmp.Diff([]string{"2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z", "2023-11-14T22:13:20Z"}, times(got)); diff != "" {
		t.Errorf("times: %s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, []string{got.Groups[0].Name, got.Groups[1].Name}); diff != "" {
		t.Errorf("the tag is the group: %s", diff)
	}
	seconds := readWith(t, "m a=1 1700000000\nm a=2 1700000001\n", Columns{}, Options{TimeFormat: "s"})
	if seconds.Time(1) != "2023-11-14T22:13:21Z" {
		t.Errorf("a timestamp in seconds: %s", seconds.Time(1))
	}
	escaped := readWith(t, `my\ pump,the\,tag=a\=b\ c wa\=ter=5,x\y=6 1`+"\n", Columns{Group: "the,tag"}, Options{})
	if diff := cmp.Diff([]any{[]string{"wa=ter", `x\y`}, "a=b c"}, []any{escaped.Features, escaped.Groups[0].Name}); diff != "" {
		t.Errorf("escapes: %s", diff)
	}
	// What influx_inspect exports: one field a line. InfluxDB's rule for points of
	// one series and time is that they are one, the last value counting.
	export := readWith(t, "m a=1 1\nm a=2 2\nm b=5 1\nm b=6 2\nm b=7 2\n", Columns{}, Options{Order: OrderSort, Duplicates: KeepLast})
	wantValues(t, "one field a line", export.X, 1, 5, 2, 7)
}

func TestLineProtocolNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		text string
		o    Options
		c    Columns
		want error
		says string
	}{
		{"m a=1 1\nm,=x a=1 2\n", Options{}, Columns{}, ErrLine, "line 2, column 3: malformed line protocol: a tag is missing"},
		{"m a=1 1\n,x=y a=1 2\n", Options{}, Columns{}, ErrLine, "line 2, column 1: malformed line protocol: the measurement is missing"},
		{"m a=1 1\n\nm,x a=1 2\n", Options{}, Columns{}, ErrLine, `line 3, column 4: malformed line protocol: the tag "x" has no value`},
		{"m a=1 1\nm,x= a=1 2\n", Options{}, Columns{}, ErrLine, `line 2, column 5: malformed line protocol: the tag "x" has no value`},
		{"m a=1 1\nm,x=y=z a=1 2\n", Options{}, Columns{}, ErrLine, "column 6: malformed line protocol: an equals sign in a tag value"},
		{"m a=1 1\nm\n", Options{}, Columns{}, ErrLine, "line 2, column 2: malformed line protocol: a field is missing"},
		{"m a=1 1\nm a 2\n", Options{}, Columns{}, ErrLine, `line 2, column 4: malformed line protocol: the field "a" has no value`},
		{"m a=1 1\nm a=1,b=yes 2\n", Options{}, Columns{}, ErrLine, `line 2, column 9: malformed line protocol: "yes" is no value`},
		{"m a=1 1\nm a=0x10 2\n", Options{}, Columns{}, ErrLine, `"0x10" is no value`},
		{"m a=1 1\nm a=9999999999999999999i 2\n", Options{}, Columns{}, ErrLine, "is no value"},
		{"m a=1 1\nm a=1e999 2\n", Options{}, Columns{}, ErrLine, "is no value"},
		{"m a=1 1\nm a=\"x 2\n", Options{}, Columns{}, ErrLine, "line 2, column 5: malformed line protocol: the string is not closed"},
		{"m a=1 1\nm a=\"x\"y 2\n", Options{}, Columns{}, ErrLine, "column 8: malformed line protocol: text behind a string"},
		{"m a=1 1\nm a=1 now\n", Options{}, Columns{}, ErrLine, `line 2, column 7: malformed line protocol: "now" is no timestamp`},
		{"m a=1 1\nm a=1\n", Options{}, Columns{}, ErrLine, "line 2, column 6: malformed line protocol: the timestamp is missing"},
		{"m a=1 1\nm a=1,a=2 2\n", Options{}, Columns{}, ErrLine, `line 2, column 7: malformed line protocol: "a" comes twice`},
		{"m a=1 1\nm time=2 2\n", Options{}, Columns{}, ErrLine, `"time" comes twice in the line, or is the time`},
		{"m a=1 1\nm \xff=1 2\n", Options{}, Columns{}, ErrLine, "not UTF-8"},
		{"m a=1 1\nm a=1 99999999999\n", Options{TimeFormat: "s"}, Columns{}, ErrLine, "out of range"},
		{"m a=1 1\nn a=1 2\n", Options{}, Columns{}, ErrColumn, `line 2: a second measurement, "n" beside "m"; say in measurement which one to read`},
		{"m a=1 1\nn a=1 2\n", Options{Measurement: "k"}, Columns{}, ErrEmpty, `no line of the measurement "k"; there are "m", "n"`},
		{"# nothing\n", Options{}, Columns{}, ErrEmpty, "no points"},
		{"m alpha=1 1\n", Options{}, Columns{Features: []string{"alhpa"}}, ErrColumn, `did you mean "alpha"?`},
		{"m a=1 1\n", Options{TimeFormat: "%Y"}, Columns{}, ErrOptions, "timestamps of line protocol"},
		{"m a=1 2\nm a=1 1\n", Options{}, Columns{}, ErrOrder, "the options order and duplicates"},
	} {
		_, err := ReadFiles(One(strings.NewReader(test.text)), test.c, test.o)
		if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%q: %v, want %v that says %q", test.text, err, test.want, test.says)
		}
	}
}

func TestLineProtocolReadsTheMeasurementAskedFor(t *testing.T) {
	got := readWith(t, "m a=1 1\nn b=5 1\nm a=2 2\nn b=6 2\n", Columns{}, Options{Measurement: "n"})
	wantValues(t, "values", got.X, 5, 6)
}

func TestLineProtocolTellsOfLateFields(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "m a=%d", i)
		if i > 80 {
			b.WriteString(",late=1")
		}
		fmt.Fprintf(&b, " %d\n", i)
	}
	got := readWith(t, b.String(), Columns{}, Options{})
	if w := strings.Join(got.Warnings(), "\n"); len(got.Features) != 1 || !strings.Contains(w, `"late" first come after the first 64 points`) {
		t.Errorf("features %v, warnings %s", got.Features, w)
	}
	if got := readWith(t, b.String(), Columns{Features: []string{"late"}}, Options{}); got.X[0] != 1 {
		t.Errorf("a late field that is asked for: %v", got.X[0])
	}
}

// FuzzLine holds that any bytes give a table or an error that is placed in the file.
func FuzzLine(f *testing.F) {
	f.Add([]byte("m,t=a f=1,g=\"x\\\"y\",h=t,i=3i 5\nm,t=a f=2 6\n"))
	f.Add([]byte("m\\ x,a\\=b=c\\,d e\\ f=1u 5\n# c\n\nm f=1e5 6"))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ReadFiles(One(strings.NewReader(string(b))), Columns{}, Options{Format: FormatLine, Order: OrderSort, Duplicates: KeepLast})
		if err == nil {
			checkTable(t, table)
		}
		var syntax *SyntaxError
		if errors.As(err, &syntax) && (syntax.Line < 1 || syntax.Column < 1) {
			t.Fatalf("line %d, column %d", syntax.Line, syntax.Column)
		}
	})
}
