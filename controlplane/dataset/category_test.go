package dataset

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// texts are those of a category column, "" for a missing one.
func texts(t *Table, feature int) (list []string) {
	for row := range t.Rows() {
		s, words := "", t.texts[t.Features[feature]]
		if n := int(t.X[row*len(t.Features)+feature]); n >= 0 && n < len(words) {
			s = words[n]
		}
		list = append(list, s)
	}
	return list
}

func TestCategoriesAreReadAsTheyAreWritten(t *testing.T) {
	c := Columns{Features: []string{"mode", "a", "size"}, Categories: []string{"mode", "size"}}
	table, err := ReadFiles(One(strings.NewReader("a,mode,size\n1,run,10\n2,,9\n3, run ,10\n4,NA,1e1\n5,none,-999\n")), c, Options{Null: []string{"-999"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := texts(table, 0), []string{"run", "", "run", "NA", "none"}; !slices.Equal(got, want) {
		t.Errorf("modes %q, want %q", got, want)
	}
	if got, want := texts(table, 2), []string{"10", "9", "10", "1e1", ""}; !slices.Equal(got, want) {
		t.Errorf("sizes %q, want %q", got, want)
	}
	if !table.IsText(0) || table.IsText(1) || !table.IsText(2) {
		t.Error("which features are texts")
	}
	without := table.Without([]int{1})
	if !slices.Equal(texts(without, 1), texts(table, 2)) || !without.IsText(1) {
		t.Errorf("without a column: %q", texts(without, 1))
	}
}

func TestCategoriesAreDefaultFeatures(t *testing.T) {
	table := read(t, "a,mode,remark\n1,run,x\n2,off,y\n", Columns{Categories: []string{"mode"}})
	if !slices.Equal(table.Features, []string{"a", "mode"}) || !slices.Equal(table.Skipped, []string{"remark"}) {
		t.Errorf("features %q, skipped %q", table.Features, table.Skipped)
	}
}

func TestCategoriesOfSeveralFilesShareTexts(t *testing.T) {
	files := func(yield func(File, error) bool) {
		_ = yield(File{Name: "1.csv", Reader: strings.NewReader("a,mode\n1,run\n2,off\n")}, nil) &&
			yield(File{Name: "2.csv", Reader: strings.NewReader("mode,a\noff,3\nidle,4\n")}, nil)
	}
	table, err := ReadFiles(files, Columns{Categories: []string{"mode"}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := texts(table, 1), []string{"run", "off", "off", "idle"}; !slices.Equal(got, want) {
		t.Errorf("modes %q, want %q", got, want)
	}
}

// Cleaning never makes a text of two.
func TestCleaningOfCategories(t *testing.T) {
	const rows = "t,a,mode\n0,1,run\n0,3,off\n1,1,idle\n5,9,run\n"
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"mean of one time": {Options{Duplicates: TakeMean}, []string{"off", "idle", "run"}},
		"first":            {Options{Duplicates: KeepFirst}, []string{"run", "idle", "run"}},
		"resampled":        {Options{Duplicates: KeepLast, Resample: "2", ResampleBy: "mean", Missing: Interpolate}, []string{"idle", "idle", "run"}},
		"with zeros":       {Options{Duplicates: KeepLast, Resample: "2", Missing: FillZero}, []string{"idle", "idle", "run"}},
		"first of a step":  {Options{Duplicates: KeepLast, Resample: "2", ResampleBy: "first"}, []string{"off", "off", "run"}},
		"dropped":          {Options{Duplicates: KeepLast, Resample: "2", Missing: DropRows}, []string{"idle", "run"}},
	} {
		table, err := ReadFiles(One(strings.NewReader(rows)), Columns{Time: "t", Categories: []string{"mode"}}, c.o)
		if err != nil {
			t.Fatal(name, err)
		}
		if got := texts(table, 1); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestDictionaryIsOfTheMostFrequent(t *testing.T) {
	table := read(t, "mode,n\nb,0\na,0\nb,0\nc,0\n,0\nd,0\nd,0\n", Columns{Features: []string{"mode"}, Categories: []string{"mode"}})
	for _, c := range []struct {
		rows, limit int
		want        []string
		others      int
	}{
		{7, 9, []string{"a", "b", "c", "d"}, 1}, {7, 2, []string{"b", "d"}, 3}, {7, 3, []string{"a", "b", "d"}, 2}, {3, 9, []string{"a", "b"}, 0},
	} {
		if got, others := table.Dictionary(Part{{0, 0, c.rows}}, 0, c.limit); !slices.Equal(got, c.want) || others != c.others {
			t.Errorf("%d rows, at most %d: %q and %d others, want %q and %d", c.rows, c.limit, got, others, c.want, c.others)
		}
	}
	encoded := table.Encode([][]string{{"b", "d"}})
	if want := []float32{0, 2, 0, 2, 2, 1, 1}; !slices.Equal(encoded.X, want) {
		t.Errorf("encoded %v, want %v", encoded.X, want)
	}
	if notes := encoded.Cleaning.Notes; len(notes) != 1 || !strings.Contains(notes[0], `2 rows have a text that the model does not know, such as "a"`) || len(table.Cleaning.Notes) != 0 {
		t.Errorf("notes %q, of the table itself %q", notes, table.Cleaning.Notes)
	}
}

func TestCategoriesRefuse(t *testing.T) {
	var many strings.Builder
	many.WriteString("id\n")
	for i := range MaxTexts + 1 {
		fmt.Fprintf(&many, "x%d\n", i)
	}
	for name, c := range map[string]struct {
		data string
		c    Columns
		want error
		text string
	}{
		"identifier": {many.String(), Columns{Categories: []string{"id"}}, ErrTooLarge, "identifier"},
		"long":       {"a\n" + strings.Repeat("x", 65) + "\n", Columns{Categories: []string{"a"}}, ErrTooLarge, "65 bytes"},
		"not UTF-8":  {"a\n\xff\n", Columns{Categories: []string{"a"}}, ErrMalformed, "UTF-8"},
		"no column":  {"a,mode\n1,x\n", Columns{Categories: []string{"mod"}}, ErrColumn, `did you mean "mode"`},
		"no feature": {"a,mode\n1,x\n", Columns{Features: []string{"a"}, Categories: []string{"mode"}}, ErrColumn, "not among the features"},
		"the target": {"a,mode\n1,x\n", Columns{Targets: []string{"a"}, TargetsAsFeatures: true, Categories: []string{"a", "mode"}}, ErrColumn, "is a target"},
		"group":      {"a,mode\n1,x\n", Columns{Group: "mode", Categories: []string{"mode"}}, ErrColumn, "not among the features"},
	} {
		if _, err := Read(strings.NewReader(c.data), c.c); !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.want, c.text)
		}
	}
}

func TestARareTextIsNoOutlier(t *testing.T) {
	var b strings.Builder
	b.WriteString("a,mode\n")
	for i := range 200 {
		mode := i % 4
		if i >= 170 {
			mode = i
		}
		fmt.Fprintf(&b, "%d,m%d\n", i%5, mode)
	}
	table := read(t, b.String(), Columns{Categories: []string{"mode"}})
	if got := table.WithoutOutliers(table.All(), 3); !slices.Equal(texts(got, 1), texts(table, 1)) {
		t.Errorf("texts %q", texts(got, 1))
	}
}

func TestWhatIsWatchedIsANumber(t *testing.T) {
	table := read(t, "a,mode,b\n1,x,2\n3,y,4\n", Columns{Categories: []string{"mode"}})
	if err := table.Watch(nil); err != nil || !slices.Equal(table.Targets, []string{"a", "b"}) || !slices.Equal(table.Y, []float32{1, 2, 3, 4}) {
		t.Errorf("targets %q, %v: %v", table.Targets, table.Y, err)
	}
	if err := table.Watch([]string{"a", "mode"}); !errors.Is(err, ErrColumn) || !strings.Contains(err.Error(), `"mode" is a category`) {
		t.Errorf("a category that is watched: %v", err)
	}
}
