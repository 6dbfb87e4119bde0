package dataset

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestScalesOfColumns(t *testing.T) {
	const rows = "0,1,5,7\n1,2,5,7\n2,3,5,7\n3,4,5,7\n14,900,6,7\n" // and one row that is no training row
	table := read(t, "a,b,c,d\n"+rows+"1000,1000,1000,1000\n", Columns{Features: []string{"a", "b", "c", "d"}})
	s, constant, notes := table.Scaler(Part{{0, 0, 5}}, []string{MinMax, Robust, Robust, MinMax})
	if !slices.Equal(s.Mean, []float32{0, 3, 5.2, 7}) || s.Std[0] != 14 || s.Inv[0] != float32(1.0/14) {
		t.Errorf("means %v, deviations %v", s.Mean, s.Std)
	}
	if want := 2 / 1.3489795; math.Abs(float64(s.Std[1])-want) > 1e-6 { // quartiles 2 and 4, whatever 900 is
		t.Errorf("robust deviation %v, want %v", s.Std[1], want)
	}
	if math.Abs(float64(s.Std[2])-0.4) > 1e-6 || len(notes) != 1 || !strings.Contains(notes[0], `"c"`) {
		t.Errorf("a column whose quartiles are equal: deviation %v, notes %q", s.Std[2], notes)
	}
	if !slices.Equal(constant, []int{3}) || s.Inv[3] != 0 {
		t.Errorf("constant %v, factor %v", constant, s.Inv[3])
	}
}

func TestQuartilesLieBetweenValues(t *testing.T) {
	table := read(t, "a\n4\n1\n2\n3\n", Columns{Features: []string{"a"}})
	low, median, high := table.quartiles(table.All(), 0)
	if low != 1.75 || median != 2.5 || high != 3.25 { // as NumPy's percentile
		t.Errorf("quartiles %v, %v, %v, want 1.75, 2.5, 3.25", low, median, high)
	}
	if low, _, high = table.quartiles(Part{{0, 0, 1}}, 0); low != 4 || high != 4 {
		t.Errorf("quartiles of one row %v, %v", low, high)
	}
}
