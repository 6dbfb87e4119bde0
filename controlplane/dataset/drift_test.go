package dataset

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// twoSets are a reference and what is compared with it.
func twoSets(reference, current string) Files {
	return func(yield func(File, error) bool) {
		_ = yield(File{Name: "a.csv", Reader: strings.NewReader(reference)}, nil) &&
			yield(File{Name: "b.csv", Reader: strings.NewReader(current), Part: PartTest}, nil)
	}
}

func TestCompareTellsWhatDrifted(t *testing.T) {
	rows := func(seed uint64, n int, shift, constant float64, empty int) string {
		rng := rand.New(rand.NewPCG(seed, 1))
		var b strings.Builder
		b.WriteString("time,unit,same,shifted,constant,holes,name\n")
		for i := range n {
			hole := fmt.Sprint(rng.Float64())
			if i%10 < empty {
				hole = ""
			}
			fmt.Fprintf(&b, "%d,u,%v,%v,%v,%s,x\n", i, rng.NormFloat64(), rng.NormFloat64()+shift, constant, hole)
		}
		return b.String()
	}
	d, err := Compare(twoSets(rows(1, 2000, 0, 7, 0), rows(2, 1500, 1, 8, 4)), Columns{Time: "time", Group: "unit"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range d.Columns {
		got = append(got, c.Name+" "+c.Verdict)
	}
	if s := strings.Join(got, ", "); s != "same stable, shifted drifted, constant drifted, holes drifted" {
		t.Errorf("verdicts: %s", s)
	}
	if c := d.Columns[3]; c.Missing != [2]float64{0, 0.4} || c.P < 0.001 {
		t.Errorf("holes: %+v", c)
	}
	if c := d.Columns[1]; c.KS < 0.3 || c.P > 1e-6 || c.Median[1]-c.Median[0] < 0.8 {
		t.Errorf("shifted: %+v", c)
	}
	if s := strings.Join(d.Notes, "\n"); s != `column "name" holds text and is not compared` {
		t.Errorf("notes: %s", s)
	}
	// The very same file is no drift, and no mistake.
	if d, err = Compare(twoSets(rows(1, 500, 0, 7, 0), rows(1, 500, 0, 7, 0)), Columns{Time: "time", Group: "unit"}, Options{}); err != nil || d.Columns[1].PSI != 0 || d.Columns[1].P != 1 {
		t.Errorf("of itself: %+v, %v", d, err)
	}
	if d, err = Compare(twoSets("a,b\n1,2\n2,3\n", "a,c\n1,2\n"), Columns{}, Options{}); err != nil || d.Columns[0].Verdict != "unknown" || len(d.Notes) != 2 {
		t.Errorf("of few rows: %+v, %v", d, err)
	}
	if _, err := Compare(One(strings.NewReader("a\n1\n")), Columns{}, Options{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("with nothing: %v", err)
	}
}
