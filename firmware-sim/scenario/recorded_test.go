package scenario

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadErrors(t *testing.T) {
	got, err := ReadErrors(strings.NewReader("b,device,hour,a\n2,x,0,-1\n20,y,0,10\n4,x,1,3e0\n"))
	if want := [][]Pair{{{-1, 2}, {3, 4}}, {{10, 20}}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":     {"", "want device, a and b"},
		"no column":   {"device,a,c\nx,1,2\n", "line 1: the columns are"},
		"no rows":     {"device,a,b\n", "no errors"},
		"word":        {"device,a,b\nx,1,2\nx,1,two\n", `line 3: "two" is not an error`},
		"no number":   {"device,a,b\nx,NaN,2\n", `line 2: "NaN"`},
		"huge":        {"device,a,b\nx,1,1e19\n", `line 2: "1e19"`},
		"short row":   {"device,a,b\nx,1\n", "line 2: wrong number of fields"},
		"broken head": {"\"device,a,b\n", "line 1"},
	} {
		if _, err := ReadErrors(strings.NewReader(tt.text)); !errors.Is(err, ErrScenario) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want ErrScenario, %s", name, err, tt.want)
		}
	}
	cut := io.MultiReader(strings.NewReader("device,a,b\nx,1,2\n"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := ReadErrors(cut); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrScenario) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// TestRecordedErrorsAreReplayed: in their order, both of the same row, from a random
// row on, over the end of a series to its own beginning.
func TestRecordedErrorsAreReplayed(t *testing.T) {
	// A row's errors say which it is: series, row, and twice that.
	var series [][]Pair
	for i, n := range []int{1, 3, 6} {
		var s []Pair
		for k := range n {
			at := float64(100*(i+1) + k)
			s = append(s, Pair{at, -2 * at})
		}
		series = append(series, s)
	}
	s := Scenario{Devices: 4000, Ratio: 1.5, Recorded: series}.WithDefaults()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	starts := map[float64]int{}
	for _, d := range s.Fleet() {
		d.Take(Active, 1, begin)
		var rows []float64
		last := 0.0
		for n := range 8 {
			d.Compare(1, minutes(n))
			rows = append(rows, d.Pairs.SumA-last)
			last = d.Pairs.SumA
		}
		starts[rows[0]]++
		own := series[int(rows[0])/100-1]
		first := int(rows[0]) % 100
		for n, at := range rows {
			if want := own[(first+n)%len(own)].A; at != want {
				t.Fatalf("%s replays %v, want %v after %d", d.ID, rows, want, n)
			}
		}
		if q := d.Pairs; q.Pairs != 8 || q.SumB != 3*q.SumA || q.SquareB != 9*q.SquareA || float64(q.MaxB) != 3*float64(q.MaxA) || float64(q.Disagreement) != 4*q.SumA {
			t.Fatalf("%s reports %+v", d.ID, q)
		}
	}
	if len(starts) != 10 {
		t.Errorf("devices start at %v, want each of 10 rows", starts)
	}
	for row, n := range starts {
		if n < 300 || n > 500 {
			t.Errorf("%d of 4,000 devices start at %v, want about 400", n, row)
		}
	}
}
