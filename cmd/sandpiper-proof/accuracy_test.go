package main

import (
	"slices"
	"strings"
	"testing"
)

const recipePage = "# A page\n\n```sh\nsandpiper init\nsandpiper train oil --data $SANDPIPER_DATA/a.csv \\\n    --units 32 --seed 1\n" +
	"sandpiper eval oil --data $SANDPIPER_DATA/a.csv -o json\nsandpiper train power --data b.csv --seed 1\n```\n"

func TestRecipeIsWhatThePageShows(t *testing.T) {
	r := parseRecipe(recipePage, "oil")
	want := strings.Fields("train oil --data /d/a.csv --units 32 --seed 4 -o json")
	if got := with(r.train, "/d", 4); !slices.Equal(got, want) {
		t.Errorf("train: %q, want %q", got, want)
	}
	want = strings.Fields("eval oil --data /d/a.csv -o json")
	if got := with(r.eval, "/d", 4); !slices.Equal(got, want) {
		t.Errorf("eval: %q, want %q", got, want)
	}
	if r := parseRecipe(recipePage, "power"); r.train == nil || r.eval != nil {
		t.Errorf("power: %+v, want no eval", r)
	}
}

// Every accuracy has its page, with both commands and a seed.
func TestAccuraciesHaveTheirRecipes(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{root: root}
	for _, a := range []accuracy{accuracyFD001, accuracyETTh1, accuracyOil, accuracyBeijing} {
		r, err := h.recipeOf(a.page, a.model)
		if err != nil {
			t.Error(err)
		} else if indexOf(r.train, "--seed") < 0 {
			t.Errorf("%s: %s is trained without a seed", a.page, a.model)
		}
	}
}

func TestAccuracyIsHeldToItsBounds(t *testing.T) {
	of := func(float32s, int8s, naive float64) report {
		var r report
		r.Items = 9
		r.Metrics.Float32 = map[string]float64{"rmse": float32s}
		r.Metrics.Int8 = map[string]float64{"rmse": int8s}
		r.Baselines = map[string]map[string]float64{"repeat_last": {"rmse": naive}}
		return r
	}
	a := accuracy{bounds: []bound{{"rmse", 10}}, apart: bound{"rmse", 0.5}, below: "repeat_last"}
	for _, c := range []struct {
		reports []report
		want    string // "": passes
	}{
		{[]report{of(9, 9.2, 12), of(10.4, 10.5, 12)}, ""},
		{[]report{of(10, 10.1, 12), of(10, 10.2, 12)}, "rmse: "},
		{[]report{of(9, 9.6, 12), of(9, 9, 12)}, "int8: "},
		{[]report{of(9, 9, 12), of(9, 9, 9)}, "seed 2 does not beat repeat_last"},
		{[]report{{Items: 9}}, "rmse: "},
	} {
		figure, err := a.judge(c.reports)
		if c.want == "" && (err != nil || !strings.Contains(figure, "rmse 9.85 ± 0.92, int8 at most 0.2 from float32, repeat_last 12; 9 items")) {
			t.Errorf("%q, %v", figure, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q, %v, want %q", figure, err, c.want)
		}
	}
	a.relative = true
	if _, err := a.judge([]report{of(9, 9.6, 12)}); err != nil {
		t.Errorf("7 %% apart with 50 %% allowed: %v", err)
	}
}
