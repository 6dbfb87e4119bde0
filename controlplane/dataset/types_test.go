package dataset

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestTypesAreOverridden(t *testing.T) {
	const csv = "clock,id,a,b\n1,7,x,5\n2,8,6,6\n3,9,7,7\n"
	read := func(types ...string) (*Table, error) {
		return ReadFiles(One(strings.NewReader(csv)), Columns{}, Options{Types: types, Null: []string{"none yet"}})
	}
	got, err := read("id=text", "clock=time")
	if err != nil || fmt.Sprint(got.Features) != "[b]" || got.Time(2) != "3" || !strings.Contains(strings.Join(got.Warnings(), "\n"), `column "id" holds text`) {
		t.Errorf("text and time: %+v, %v", got, err)
	}
	if _, err := read("a=number"); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), `row 1 (line 2), column "a": malformed CSV: "x" is not a number`) {
		t.Errorf("text as a number: %v", err)
	}
	for _, types := range [][]string{{"a"}, {"a=integer"}, {"a=text", "a=number"}} {
		if _, err := read(types...); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "number, text, time") {
			t.Errorf("types %q: %v", types, err)
		}
	}
	if _, err := read("c=text"); !errors.Is(err, ErrColumn) {
		t.Errorf("a column that is not there: %v", err)
	}
	d, err := Describe(One(strings.NewReader(csv)), Columns{}, Options{Types: []string{"id=text", "clock=time"}})
	if err != nil || d.Columns[0].Type != TypeTime || d.Columns[1].Type != TypeText || d.Columns[1].Numbers != nil || d.Time == nil || d.Time.Column != "clock" {
		t.Errorf("described: %+v, %v", d, err)
	}
}
