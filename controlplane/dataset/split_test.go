package dataset

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func byGroup(f ...float64) Split {
	s := Split{By: ByGroup}
	copy(s.Fractions[:], f)
	return s
}

func TestDivideByGroupKeepsGroupsWhole(t *testing.T) {
	table := numbered(t, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4)
	for _, test := range []struct {
		split Split
		want  [3]int
	}{
		{byGroup(0.7, 0.3), [3]int{7, 3, 0}},
		{byGroup(0.5, 0, 0.5), [3]int{5, 0, 5}},
		{byGroup(0.6, 0.2, 0.2), [3]int{6, 2, 2}},
		{byGroup(0.2, 0.2, 0.2), [3]int{2, 2, 2}},
		{byGroup(0.99, 0.01), [3]int{9, 1, 0}},
		{byGroup(1), [3]int{10, 0, 0}},
		{Split{By: ByGroup, Rows: [3]int{4, 1, Rest}}, [3]int{4, 1, 5}},
		{Split{By: ByGroup, Rows: [3]int{3, 1, 2}}, [3]int{3, 1, 2}},
	} {
		choices := map[string]bool{}
		for seed := range uint64(20) {
			parts, err := table.Divide(test.split, seed)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := table.Divide(test.split, seed); !cmp.Equal(parts, again) {
				t.Fatalf("%+v, seed %d twice: %v and %v", test.split, seed, parts, again)
			}
			if got := [3]int{len(parts.Train), len(parts.Validation), len(parts.Test)}; got != test.want {
				t.Fatalf("%+v: %v groups, want %v", test.split, got, test.want)
			}
			seen := map[int]bool{}
			for _, s := range slices.Concat(parts.Train, parts.Validation, parts.Test) {
				if seen[s.Group] || s.End-s.Start != 4 {
					t.Fatalf("%+v: span %v is in two parts, or cut", test.split, s)
				}
				seen[s.Group] = true
			}
			choices[fmt.Sprint(parts)] = true
		}
		if test.split.Fractions[0] != 1 && len(choices) < 8 {
			t.Errorf("%+v: 20 seeds gave %d different choices", test.split, len(choices))
		}
	}
	for _, s := range []Split{byGroup(0.1, 0.9), byGroup(0, 1), {By: ByGroup, Rows: [3]int{9, 1, 1}}, {By: "file", Fractions: [3]float64{1}}, {By: ByGroup, Fractions: [3]float64{1}, Gap: 1}} {
		if _, err := numbered(t, 9).Divide(s, 1); !errors.Is(err, ErrSplit) {
			t.Errorf("Divide(%+v) of one group = %v, want ErrSplit", s, err)
		}
	}
}

func TestRestIsOfEachGroup(t *testing.T) {
	table := numbered(t, 10, 7)
	parts, err := table.Divide(Split{Rows: [3]int{4, 1, Rest}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := Parts{Part{{0, 0, 4}, {1, 10, 14}}, Part{{0, 4, 5}, {1, 14, 15}}, Part{{0, 5, 10}, {1, 15, 17}}}
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Error(diff)
	}
}

// heldOutFiles are data of two machines with a test file of another, and a validation
// file.
func heldOutFiles(test, validation string) Files {
	return func(yield func(File, error) bool) {
		rows := func(unit string, n int) string {
			var b strings.Builder
			b.WriteString("unit,t,a,y\n")
			for i := range n {
				fmt.Fprintf(&b, "%s,%d,%g,%d\n", unit, i, math.Sin(float64(i)*float64(len(unit))), n-i)
			}
			return b.String()
		}
		for _, f := range []File{
			{Name: "train.csv", Reader: strings.NewReader(rows("m", 20) + strings.TrimPrefix(rows("mm", 20), "unit,t,a,y\n"))},
			{Name: "validation.csv", Reader: strings.NewReader(rows(validation, 9)), Part: PartValidation},
			{Name: "test.csv", Reader: strings.NewReader(rows(test, 11)), Part: PartTest},
		} {
			if f.Part == PartValidation && validation == "" {
				continue
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

func TestFilesAreHeldOut(t *testing.T) {
	c := Columns{Group: "unit", Time: "t", Targets: []string{"y"}}
	table, err := ReadFiles(heldOutFiles("mmm", "mmmm"), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := table.Divide(Split{Fractions: [3]float64{1}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := Parts{Part{{0, 0, 20}, {1, 20, 40}}, Part{{2, 40, 49}}, Part{{3, 49, 60}}}
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Error(diff)
	}
	if len(table.PartDigests) != 3 || table.PartDigests[PartTest] == table.PartDigests[PartValidation] {
		t.Errorf("digests %v", table.PartDigests)
	}
	if _, err := table.Divide(Split{Fractions: [3]float64{0.8, 0, 0.2}}, 1); !errors.Is(err, ErrSplit) || !strings.Contains(err.Error(), "the test part is in a file of its own") {
		t.Errorf("a test part from both = %v", err)
	}
	if _, err := ReadFiles(heldOutFiles("mm", ""), c, Options{}); !errors.Is(err, ErrLeak) ||
		!strings.Contains(err.Error(), `test.csv: row 1 (line 2), column "unit": leakage: group "mm" is in the training file and in the test file`) {
		t.Errorf("a group in two parts = %v", err)
	}
	table, err = ReadFiles(heldOutFiles("mm", ""), c, Options{SameNames: true})
	if err != nil || len(table.Groups) != 3 || table.Groups[2].Part != PartTest || table.Groups[2].End != 51 {
		t.Errorf("groups of the same names: %v, %v", table, err)
	}
	if _, err := ReadFiles(filesOf("a.csv", "a,b\n1,2\n", "b.csv", "a,b\n1,2\n"), Columns{}, Options{}); !errors.Is(err, ErrLeak) ||
		!strings.Contains(err.Error(), "b.csv: leakage: it is a.csv once more, with the same SHA-256; leave one out") {
		t.Errorf("the same file twice = %v", err)
	}
	if _, err := ReadFiles(filesOf("d=1/part-0.csv", "a,b\n1,2\n", "d=2/part-0.csv", "a,b\n1,2\n"), Columns{}, Options{}); err != nil {
		t.Errorf("the same rows in two partitions: %v", err)
	}
}

func TestOverlapIsRefused(t *testing.T) {
	table := numbered(t, 30)
	for _, test := range []struct {
		gap    int
		shape  Shape
		breaks []int
		leaks  string
	}{
		{0, Shape{Window: 4}, nil, `windows of 4 rows in the validation part reach into the training part, which ends 0 rows before it in group "m1"; leave a gap of 3 rows`},
		{2, Shape{Window: 4}, nil, "ends 2 rows before it"},
		{3, Shape{Window: 4}, nil, ""},
		{0, Shape{Window: 1}, nil, ""},
		{0, Shape{Window: 4, Horizon: 1}, nil, ""},
		{0, Shape{Window: 4}, []int{10, 20}, ""}, // no window crosses
		{0, Shape{Window: 4}, []int{10}, "in the test part reach into the validation part"},
	} {
		table.breaks = test.breaks
		parts, err := table.Divide(Split{Rows: [3]int{10, 10, 10}, Gap: test.gap}, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = table.CheckOverlap(parts, test.shape)
		if errors.Is(err, ErrLeak) != (test.leaks != "") || err != nil && !strings.Contains(err.Error(), test.leaks) {
			t.Errorf("gap %d, %+v, breaks %v: %v, want %q", test.gap, test.shape, test.breaks, err, test.leaks)
		}
	}
}

func TestTargetAmongFeaturesIsRefused(t *testing.T) {
	for _, test := range []struct {
		name    string
		feature func(i int, y float64) float64
		classes bool
		says    string
		suspect bool
	}{
		{"equal", func(_ int, y float64) float64 { return y }, false, `feature "f" is equal to the target "y"`, false},
		{"one more", func(_ int, y float64) float64 { return y + 1 }, false, "is equal", false},
		{"capped", func(_ int, y float64) float64 { return min(y, 20) }, false, "is equal", false},
		{"scaled", func(_ int, y float64) float64 { return y/3 + 7 }, false, "", true},
		{"nearly", func(i int, y float64) float64 { return y + 0.01*math.Sin(float64(i)) }, false, "", false},
		{"two values", func(i int, _ float64) float64 { return float64(i % 2) }, false, "", false},
		{"a code of the class", func(_ int, y float64) float64 { return 10 - y }, true, "a value of its own for each class", false},
		{"a value of two classes", func(_ int, y float64) float64 { return min(y, 20) }, true, "", false},
		{"two values of a class", func(i int, y float64) float64 { return y + float64(i%2)/2 }, true, "", false},
	} {
		var b strings.Builder
		b.WriteString("f,y\n")
		for i := range 60 {
			y := float64((60 - i) / 2)
			fmt.Fprintf(&b, "%g,%g\n", test.feature(i, y), y)
		}
		table := read(t, b.String(), Columns{Targets: []string{"y"}})
		suspect, err := table.CheckTarget(table.All(), test.classes, 20)
		if errors.Is(err, ErrLeak) != (test.says != "") || err != nil && !strings.Contains(err.Error(), test.says) || len(suspect) > 0 != test.suspect {
			t.Errorf("%s: %q, %v; want %q", test.name, suspect, err, test.says)
		}
	}
	table := read(t, "f,y\n1,2\n2,1\n", Columns{Targets: []string{"y"}, Features: []string{"f", "y"}})
	if _, err := table.CheckTarget(table.All(), false, Unlimited); !errors.Is(err, ErrLeak) || !strings.Contains(err.Error(), `feature "y" is the target`) {
		t.Errorf("the target itself: %v", err)
	}
}

func TestCopiesAcrossPartsAreRefused(t *testing.T) {
	series := func(name string, from, n int, f func(i int) float64) string {
		var b strings.Builder
		for i := from; i < from+n; i++ {
			fmt.Fprintf(&b, "%s,%d,%g\n", name, i, f(i))
		}
		return b.String()
	}
	wave := func(i int) float64 { return math.Sin(float64(i)) }
	other := func(i int) float64 { return math.Cos(float64(i)) }
	coarse := func(i int) float64 { return float64(i % 2) }
	for _, test := range []struct {
		name, rows string
		leaks      bool
	}{
		{"another series", series("a", 0, 20, wave) + series("b", 0, 20, other), false},
		{"a piece of it", series("a", 0, 30, wave) + series("b", 22, 8, wave), true},
		{"too short a piece", series("a", 0, 30, wave) + series("b", 23, 7, wave) + series("b", 30, 9, other), false},
		{"short ones as a whole", series("a", 5, 5, wave) + series("b", 5, 5, wave), true},
		{"a short one in a long one", series("a", 0, 30, wave) + series("b", 5, 5, wave), true},
		{"a long one of a short one", series("a", 5, 5, wave) + series("b", 0, 30, wave), true},
		{"too few to tell", series("a", 5, 3, wave) + series("b", 5, 3, wave), false},
		{"other times", series("a", 0, 20, wave) + series("b", 1, 20, func(i int) float64 { return wave(i - 1) }), false},
		{"coarse", series("a", 0, 20, coarse) + series("b", 0, 20, coarse), false},
	} {
		table := read(t, "g,t,x\n"+test.rows, Columns{Group: "g", Time: "t"})
		err := table.CheckCopies(Parts{Train: Part{{0, table.Groups[0].Start, table.Groups[0].End}}, Test: Part{{1, table.Groups[1].Start, table.Groups[1].End}}})
		if errors.Is(err, ErrLeak) != test.leaks {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.name == "a piece of it" && !strings.Contains(fmt.Sprint(err), `rows of the test part are copies of training rows: those from 22 in group "b" and those from 22 in group "a"`) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
