package train

import (
	"strings"
	"testing"
)

func TestVerdictInPlainWords(t *testing.T) {
	sure, unsure := &Interval{0.02, 0.3}, &Interval{-0.01, 0.3}
	at := func(name string, model, other float64, i *Interval) Comparison {
		return Comparison{name, Figure(model), Figure(other), Figure(better(model, other)), i}
	}
	for _, c := range []struct {
		against []Comparison
		worth   Worth
		text    string
	}{
		{[]Comparison{at("repeat_last", 0.4, 0.39, unsure), at("linear", 0.4, 0.5, sure)}, WorthNo,
			"does not beat repeat-last (rmse 0.4 against 0.39): not worth shipping"},
		{[]Comparison{at("mean", 2, 1, nil), at("repeat_last", 2, 2, nil)}, WorthNo,
			"does not beat the mean (rmse 2 against 1) and repeat-last (rmse 2 against 2): not worth shipping"},
		{[]Comparison{at("repeat_last", 3, 4, sure), at("linear", 3, 3.125, unsure)}, WorthUnsure,
			"beats repeat-last by 25 % and the linear map by 4 %, but not surely: 95 % interval -1 to 30 %: evaluate it on more rows"},
		{[]Comparison{at("repeat_last", 3, 4, sure), at("skip", 3, 2.9, unsure)}, WorthYes,
			"beats repeat-last by 25 %: worth shipping; the network adds nothing to its skip path"},
		{[]Comparison{at("repeat_last", 3, 4, nil), at("skip", 3, 3.1, unsure)}, WorthYes, "beats repeat-last by 25 %: worth shipping"},
		{[]Comparison{at("repeat_last", 0, 0, nil)}, WorthNo, "does not beat repeat-last (rmse 0 against 0): not worth shipping"},
		{nil, WorthUnsure, "there is no baseline to hold it against"},
	} {
		if v := judge("test", "rmse", c.against); v.Worth != c.worth || v.Text != c.text {
			t.Errorf("%q, %q, want %q, %q", v.Worth, v.Text, c.worth, c.text)
		}
	}
	v := judge("training", "rmse", []Comparison{at("mean", 1, 2, sure)})
	if v.Worth != WorthUnsure || !strings.Contains(v.Text, "the rows it was trained on") {
		t.Errorf("of training rows: %+v", v)
	}
}

// A walk at random is best predicted by where it is: no network beats that, and
// the report says so.
func TestVerdictOfWhatCannotBePredicted(t *testing.T) {
	r := run1(t, walkOptions, walk(900)).Report
	if r.Verdict == nil || r.Verdict.Worth == WorthYes {
		t.Fatalf("verdict %+v", r.Verdict)
	}
	if n := len(r.Verdict.Against); n != len(r.Baselines) {
		t.Errorf("%d comparisons for %d baselines", n, len(r.Baselines))
	}
}
