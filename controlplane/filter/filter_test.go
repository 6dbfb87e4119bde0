package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// show writes e with every parenthesis.
func show(e Expr) string {
	switch e := e.(type) {
	case And:
		return "(" + show(e.L) + " and " + show(e.R) + ")"
	case Or:
		return "(" + show(e.L) + " or " + show(e.R) + ")"
	case Not:
		return "not " + show(e.X)
	case Compare:
		s := e.Field.Name
		if e.Field.Key != "" {
			s += "." + e.Field.Key
		}
		for _, v := range e.Values {
			s += fmt.Sprintf("%s%s%d%v", e.Op, v.Text, v.Number, v.Age)
		}
		return s
	}
	return "?"
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"site=oslo", "label.site=oslo00s"},
		{"label.kernel = generic", "label.kernel=generic00s"},
		{"a=1 or b=2 and c=3", "(label.a=100s or (label.b=200s and label.c=300s))"},
		{"(a=1 or b=2) and not not c=3", "((label.a=100s or label.b=200s) and not not label.c=300s)"},
		{"kernel!=generic", "not kernel=generic00s"},
		{"id !~ pump-?", "not id~pump-?00s"},
		{"seen<5m and added>=7d", "(seen<05m0s and added>=0168h0m0s)"},
		{"free<=64MiB", "free<=671088640s"},
		{"boot > 3", "boot>30s"},
		{"model.pump=v7", "model.pump=70s"},
		{"cached.pump not in (7, none)", "not cached.pump=70s=00s"},
		{`site in ("new york",oslo)`, "label.site=new york00s=oslo00s"},
		{"up=online", "up=online00s"},
		{`site=""`, "label.site=00s"},
		{`site="and"`, "label.site=and00s"},
		{`site='new york'`, "label.site=new york00s"},
		{`site='6"' and hw="it's"`, `(label.site=6"00s and label.hw=it's00s)`},
	} {
		e, err := Parse(tt.in)
		if err != nil || show(e) != tt.want {
			t.Errorf("Parse(%q) = %s, %v, want %s", tt.in, show(e), err, tt.want)
		}
	}
}

func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, tt := range []struct {
		in   string
		at   int
		want string
	}{
		{"", 1, "want a field"},
		{"site", 5, `want one of = !=`},
		{"site oslo", 6, `"oslo"`},
		{"site=", 6, "want a value, not the end"},
		{"=oslo", 1, "want a field"},
		{"site==oslo", 6, "want a value"},
		{"site=a b=c", 8, `want "and", "or" or the end, not "b"`},
		{"site=a,b=c", 7, `not ","`},
		{"(site=a", 8, `want ")"`},
		{"site=a)", 7, "the end"},
		{"site=a and", 11, "want a field, such as site or kernel, not the end"},
		{"site=a & up=new", 8, `not "&"`},
		{"site<5", 5, "text is neither less nor more"},
		{"seen=5m", 5, "a time is compared by < or >"},
		{"seen<5", 6, "such as 30s, 5m, 36h or 7d"},
		{"seen<-5m", 6, "such as"},
		{"seen<999999999d", 6, "such as"},
		{"free<10XB", 6, "such as 500KB"},
		{"free<9999999GB", 6, "such as"},
		{"boot>x", 6, "whole number"},
		{"up=onlin", 4, `did you mean "online"`},
		{"up<new", 3, "neither less nor more"},
		{"free~9", 5, "a pattern is for text"},
		{"model.pump=seven", 12, "such as v7, or none"},
		{"model.pump=v0", 12, "such as v7"},
		{"modle.pump=v7", 1, `did you mean "model.pump"`},
		{"colour.pump=v7", 1, `there are cached.NAME, failed.NAME`},
		{"model.=v7", 1, "empty"},
		{"model.Pump=v7", 1, "a-z"},
		{"Site=oslo", 1, "a-z"},
		{`site="oslo`, 6, "closing quote"},
		{`site='oslo"`, 6, "closing quote"},
		{"site in oslo", 9, `want "("`},
		{"site in (oslo", 14, `want "," or ")"`},
		{"site not oslo", 10, `want "in" after "not"`},
		{"site in ()", 10, "want a value"},
		{"site=\x00", 6, "printable"},
		{"site=å", 6, "printable"},
		{strings.Repeat("(", 40) + "a=1", 33, "levels"},
		{strings.Repeat("not ", 40) + "a=1", 129, "levels"},
		{"a in (" + strings.Repeat("1,", 64) + "1)", 135, "more than 64 values"},
	} {
		_, err := Parse(tt.in)
		if !errors.Is(err, ErrFilter) || !strings.Contains(err.Error(), tt.want) ||
			!strings.Contains(err.Error(), fmt.Sprintf("character %d:", tt.at)) {
			t.Errorf("Parse(%q) = %v, want character %d: %s", tt.in, err, tt.at, tt.want)
		}
	}
	if _, err := Parse(strings.Repeat("x", MaxBytes+1)); !errors.Is(err, ErrFilter) {
		t.Errorf("a long filter: %v", err)
	}
}

func TestErrorsPointAtTheirPlace(t *testing.T) {
	_, err := Parse("site=oslo and kernel<x")
	want := "filter, character 21: text is neither less nor more; use = != ~ !~ or in\n" +
		"  site=oslo and kernel<x\n" +
		"                      ^"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"site=oslo and hw=rev2", ""},
		{"kernel=generic", ""},
		{"kernal=generic", `character 1: no device has a label "kernal", and it is no other field; did you mean "kernel"?`},
		{"site=oslo and wh=rev2", `character 15: no device has a label "wh"`},
		{"label.kernel=generic", `no device has a label "kernel"`},
		{"zzzzzzzz=1", "there are added, agent, arch, boot"},
		{"model.pump=v7 and cached.fan!=v1", ""},
		{"site=oslo and model.pmup!=v7", `character 15: there is no model "pmup"; did you mean "model.pump"?`},
		{"failed.boiler=v7", `there is no model "boiler"`},
	} {
		e, err := Parse(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		err = Check(tt.in, e, []string{"hw", "site"}, []string{"fan", "pump"})
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrFilter)) {
			t.Errorf("Check(%q) = %v, want %s", tt.in, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"site=oslo and kernel!=generic", `not (a in ("x", y) or seen<5m)`, "model.m>=v7", `"`, "((("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrFilter) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if show(e) == "?" {
			t.Errorf("%q has no meaning", s)
		}
		_ = Check(s, e, nil, nil)
	})
}
