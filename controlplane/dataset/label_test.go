package dataset

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const gaits = `s,t,ax,ay,gait
1,0,0.1,1,walk
1,1,0.2,2,walk
2,0,0.3,3,run
1,2,0.4,4,walk
2,1,0.5,5,run
3,0,0.6,6,walk
`

func readLabelled(t *testing.T, data string, c Columns, o Options) *Table {
	t.Helper()
	table, err := ReadFiles(One(strings.NewReader(data)), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestLabelIsOfTheRowAndNoFeature(t *testing.T) {
	table := readLabelled(t, gaits, Columns{Group: "s", Time: "t", Label: "gait"}, Options{})
	if fmt.Sprint(table.Features) != "[ax ay]" || fmt.Sprint(table.Labels.Classes) != "[run walk]" || fmt.Sprint(table.Labels.Of) != "[1 1 1 0 0 1]" {
		t.Errorf("features %v, classes %v, rows %v", table.Features, table.Labels.Classes, table.Labels.Of)
	}
	if !table.OneLabel() {
		t.Error("every group has one label, and none is seen")
	}
	if table = readLabelled(t, gaits, Columns{Label: "gait"}, Options{}); table.OneLabel() {
		t.Error("one group has two labels, and one is seen")
	}
}

func TestNumbersAreClassesInTheirOrder(t *testing.T) {
	table := readLabelled(t, "x,y\n1,10\n2,9.0\n3,1e1\n4,-1\n", Columns{Label: "y"}, Options{})
	if fmt.Sprint(table.Labels.Classes) != "[-1 9 10]" || fmt.Sprint(table.Labels.Of) != "[2 1 2 0]" {
		t.Errorf("classes %v, rows %v", table.Labels.Classes, table.Labels.Of)
	}
}

func TestLabelsMoveWithTheirRows(t *testing.T) {
	const data = "t,x,y\n3,1,c\n1,2,a\n1,3,b\n2,4,a\n6,5,b\n"
	for keep, want := range map[string]string{KeepFirst: "[0 0 2 1]", KeepLast: "[1 0 2 1]", TakeMean: "[1 0 2 1]"} {
		table := readLabelled(t, data, Columns{Time: "t", Label: "y"}, Options{Order: OrderSort, Duplicates: keep})
		if got := fmt.Sprint(table.Labels.Of); got != want {
			t.Errorf("duplicates %s: %s, want %s", keep, got, want)
		}
	}
	table := readLabelled(t, data, Columns{Time: "t", Label: "y"}, Options{Order: OrderSort, Duplicates: KeepFirst, Resample: "2"})
	if got := fmt.Sprint(table.Labels.Of); got != "[0 2 2 1]" { // 0, 2, 4 without rows, 6
		t.Errorf("resampled: %s", got)
	}
	table = readLabelled(t, "t,x,y\n1,,a\n2,1,b\n3,2,c\n", Columns{Time: "t", Label: "y"}, Options{Missing: DropRows})
	if got := fmt.Sprint(table.Labels.Of); got != "[1 2]" {
		t.Errorf("a row dropped: %s", got)
	}
}

func TestLabelRefuses(t *testing.T) {
	var many strings.Builder
	many.WriteString("x,y\n")
	for i := range MaxClasses + 1 {
		fmt.Fprintf(&many, "1,c%d\n", i)
	}
	for name, c := range map[string]struct {
		data string
		c    Columns
		want error
		text string
	}{
		"missing":   {"x,y\n1,a\n2,\n", Columns{Label: "y"}, ErrLabel, `row 2 (line 3), column "y"`},
		"too many":  {many.String(), Columns{Label: "y"}, ErrLabel, "is this the label column?"},
		"too long":  {"x,y\n1," + strings.Repeat("a", MaxName+1) + "\n", Columns{Label: "y"}, ErrLabel, "at most 256 bytes"},
		"no UTF-8":  {"x,y\n1,\xff\n", Columns{Label: "y"}, ErrLabel, "UTF-8"},
		"no column": {"x,y\n1,a\n", Columns{Label: "z"}, ErrColumn, `label: no such column: "z"`},
		"a feature": {"x,y\n1,1\n", Columns{Label: "y", Features: []string{"x", "y"}}, ErrColumn, "it holds the answer"},
	} {
		_, err := ReadFiles(One(strings.NewReader(c.data)), c.c, Options{})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.want, c.text)
		}
	}
}

func TestClassesAsTargets(t *testing.T) {
	table := readLabelled(t, gaits, Columns{Group: "s", Time: "t", Label: "gait"}, Options{})
	table.AsTarget()
	if fmt.Sprint(table.Targets, table.Y) != "[gait] [1 1 1 0 0 1]" {
		t.Errorf("one target: %v %v", table.Targets, table.Y)
	}
	if err := table.AsTargets(nil, false); err != nil || fmt.Sprint(table.Targets, table.Y) != "[run walk] [0 1 0 1 0 1 1 0 1 0 0 1]" {
		t.Errorf("its own classes: %v, %v %v", err, table.Targets, table.Y)
	}
	if err := table.AsTargets(nil, true); err != nil || fmt.Sprint(table.Targets, table.Y) != "[walk] [1 1 1 0 0 1]" {
		t.Errorf("the second alone: %v, %v %v", err, table.Targets, table.Y)
	}
	if err := table.AsTargets([]string{"walk", "fall", "run"}, false); err != nil || fmt.Sprint(table.Y[:3], table.Y[9:12]) != "[1 0 0] [0 0 1]" {
		t.Errorf("a model's classes: %v, %v", err, table.Y)
	}
	err := table.AsTargets([]string{"walk", "fall"}, false)
	if !errors.Is(err, ErrLabel) || !strings.Contains(err.Error(), `"run", of 2 rows, first at 0 in group "2"`) {
		t.Errorf("a class that the model never saw: %v", err)
	}
}

func TestSeriesAreOfTheirOwnLength(t *testing.T) {
	table := readLabelled(t, gaits, Columns{Group: "s", Time: "t", Label: "gait"}, Options{})
	for _, c := range []struct {
		window, steps, truncated int
		padding                  []int
	}{{0, 3, 0, []int{0, 1, 2}}, {2, 2, 1, []int{0, 0, 1}}, {5, 5, 0, []int{2, 3, 4}}} {
		w, truncated, err := table.Series(table.All(), c.window)
		if err != nil {
			t.Fatal(err)
		}
		var padding []int
		for i := range w.Len() {
			padding = append(padding, w.Padding(i))
		}
		if w.Shape.Window != c.steps || truncated != c.truncated || !slices.Equal(padding, c.padding) {
			t.Errorf("window %d: %d rows, %d truncated, padding %v", c.window, w.Shape.Window, truncated, padding)
		}
		x := make([]float32, w.Inputs())
		if w.Rows(1, x); x[len(x)-4] != 0.3 || x[len(x)-1] != 5 || w.Label(1) != 0 || w.Label(2) != 1 {
			t.Errorf("window %d: rows %v, labels %d and %d", c.window, x, w.Label(1), w.Label(2))
		}
	}
	if _, _, err := table.Series(nil, 0); !errors.Is(err, ErrTooFewRows) {
		t.Errorf("no series: %v", err)
	}
}

func TestKeepLeavesWindowsOfOneClass(t *testing.T) {
	table := readLabelled(t, "x,y\n1,0\n2,0\n3,0\n4,1\n5,0\n6,0\n7,0\n8,0\n", Columns{Label: "y"}, Options{})
	if err := table.Watch(nil); err != nil {
		t.Fatal(err)
	}
	for horizon, want := range map[int]string{0: "[1 2 5 6 7]", 1: "[1 5 6]"} {
		w, err := table.Windows(table.All(), Shape{Window: 2, Horizon: horizon})
		if err != nil {
			t.Fatal(err)
		}
		n := w.Len()
		if dropped := w.Keep(0); fmt.Sprint(w.last) != want || dropped != n-w.Len() {
			t.Errorf("horizon %d: windows that end in %v, %d left out, want %s", horizon, w.last, dropped, want)
		}
	}
}

func TestWatchedFeaturesAreTargets(t *testing.T) {
	table := readLabelled(t, gaits, Columns{Group: "s", Time: "t", Label: "gait"}, Options{})
	if err := table.Watch([]string{"ay"}); err != nil || fmt.Sprint(table.Targets, table.Y) != "[ay] [1 2 4 3 5 6]" {
		t.Errorf("%v, %v %v", err, table.Targets, table.Y)
	}
	for _, names := range [][]string{{"gait"}, {"ay", "ay"}} {
		if err := table.Watch(names); !errors.Is(err, ErrColumn) {
			t.Errorf("Watch(%v) = %v, want ErrColumn", names, err)
		}
	}
}
