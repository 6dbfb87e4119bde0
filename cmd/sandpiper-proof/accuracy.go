package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/gonum/stat"
)

// accuracySeeds are how many seeds an accuracy is the mean of.
const accuracySeeds = 5

// A recipe is the commands that a page of docs/recipes shows for one model:
// what is measured is what a reader types.
type recipe struct{ train, eval []string }

// recipeOf reads the commands for a model. A page without them is an error.
func (h *house) recipeOf(page, model string) (recipe, error) {
	text, err := os.ReadFile(filepath.Join(h.root, "docs", "recipes", page))
	if err != nil {
		return recipe{}, err
	}
	r := parseRecipe(string(text), model)
	if r.train == nil || r.eval == nil {
		return r, fmt.Errorf("docs/recipes/%s does not train and evaluate %s", page, model)
	}
	return r, nil
}

// parseRecipe finds the first `sandpiper train` and `sandpiper eval` of a model
// in the shell blocks of a page.
func parseRecipe(page, model string) (r recipe) {
	for _, block := range strings.Split(page, "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", "")) {
			switch f := strings.Fields(line); {
			case len(f) < 3 || f[0] != "sandpiper" || f[2] != model:
			case f[1] == "train" && r.train == nil:
				r.train = f[1:]
			case f[1] == "eval" && r.eval == nil:
				r.eval = f[1:]
			}
		}
	}
	return r
}

// with returns the arguments for a seed and a folder of data, and JSON.
func with(args []string, data string, seed int) []string {
	out := make([]string, 0, len(args)+2)
	for i, a := range args {
		if i > 0 && args[i-1] == "--seed" {
			a = fmt.Sprint(seed)
		}
		out = append(out, strings.ReplaceAll(a, "$SANDPIPER_DATA", data))
	}
	if i := indexOf(out, "-o"); i >= 0 {
		out = append(out[:i], out[i+2:]...)
	}
	return append(out, "-o", "json")
}

func indexOf(args []string, arg string) int {
	for i, a := range args {
		if a == arg && i+1 < len(args) {
			return i
		}
	}
	return -1
}

// seeds runs a recipe once for each seed, in a control plane of its own each,
// and returns the reports of its evaluations.
func (h *house) seeds(ctx context.Context, page, model string) ([]report, error) {
	data := os.Getenv("SANDPIPER_DATA")
	if data == "" {
		return nil, needs("SANDPIPER_DATA is not set")
	}
	r, err := h.recipeOf(page, model)
	if err != nil {
		return nil, err
	}
	reports := make([]report, accuracySeeds)
	for i := range reports {
		h.logf("training %s with seed %d of %d", model, i+1, accuracySeeds)
		s, err := h.newSite(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := s.run(ctx, with(r.train, data, i+1)...); err != nil {
			return nil, err
		}
		out, err := s.run(ctx, with(r.eval, data, i+1)...)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(out, &reports[i]); err != nil {
			return nil, fmt.Errorf("sandpiper %s: %w", strings.Join(r.eval, " "), err)
		}
	}
	return reports, nil
}

// A bound is the most that the mean of a figure may be.
type bound struct {
	metric string
	most   float64
}

// An accuracy is a claim about the int8 models of a recipe's seeds.
type accuracy struct {
	page, model string
	bounds      []bound
	// apart is how far any seed's int8 figure of a metric may be from float32's, as
	// a part of it, or in the metric's unit.
	apart    bound
	relative bool
	below    string // a baseline that every seed has to beat in the first metric
}

func (a accuracy) check(ctx context.Context, h *house) (string, error) {
	reports, err := h.seeds(ctx, a.page, a.model)
	if err != nil {
		return "", err
	}
	return a.judge(reports)
}

// judge words the figures and says which bounds they miss.
func (a accuracy) judge(reports []report) (string, error) {
	var words []string
	var missed error
	for _, b := range a.bounds {
		v := make([]float64, len(reports))
		for i, r := range reports {
			v[i] = figureOf(r.Metrics.Int8, b.metric)
		}
		mean, deviation := stat.MeanStdDev(v, nil)
		words = append(words, fmt.Sprintf("%s %.4g ± %.2g", b.metric, mean, deviation))
		if !(mean <= b.most) { // NaN too
			missed = errors.Join(missed, fmt.Errorf("%s: over the bar of %g", b.metric, b.most))
		}
	}
	worst := 0.0
	for _, r := range reports {
		f, q := figureOf(r.Metrics.Float32, a.apart.metric), figureOf(r.Metrics.Int8, a.apart.metric)
		d := math.Abs(q - f)
		if a.relative {
			d /= f
		}
		worst = max(worst, d)
	}
	unit := fmt.Sprintf("%.3g", worst)
	if a.relative {
		unit = fmt.Sprintf("%.2g %%", 100*worst)
	}
	words = append(words, fmt.Sprintf("int8 at most %s from float32", unit))
	if !(worst <= a.apart.most) {
		missed = errors.Join(missed, fmt.Errorf("int8: %s is more than %.3g away from float32's %s", unit, a.apart.most, a.apart.metric))
	}
	if a.below != "" {
		metric := a.bounds[0].metric
		for i, r := range reports {
			if base := figureOf(r.Baselines[a.below], metric); !(figureOf(r.Metrics.Int8, metric) < base) {
				missed = errors.Join(missed, fmt.Errorf("seed %d does not beat %s, %.4g", i+1, a.below, base))
			}
		}
		words = append(words, fmt.Sprintf("%s %.4g", a.below, figureOf(reports[0].Baselines[a.below], metric)))
	}
	return strings.Join(words, ", ") + fmt.Sprintf("; %d items", reports[0].Items), missed
}

// figureOf is a figure, NaN, which no bound admits, if it is absent.
func figureOf(m map[string]float64, name string) float64 {
	if v, ok := m[name]; ok {
		return v
	}
	return math.NaN()
}

// The accuracies, by the claim.
var (
	accuracyFD001 = accuracy{
		page: "fd001.md", model: "turbofan",
		bounds: []bound{{"rmse", 14.9}, {"rmse_uncapped", 16.0}, {"cmapss_score", 450}},
		apart:  bound{"rmse", 0.10},
	}
	accuracyETTh1 = accuracy{
		page: "etth1.md", model: "power", bounds: []bound{{"mse_scaled", 0.36}, {"mae_scaled", 0.40}},
		apart: bound{"mse_scaled", 0.005}, relative: true, below: "repeat_last",
	}
	accuracyOil = accuracy{
		page: "etth1.md", model: "oil", bounds: []bound{{"mse_scaled", 0.0281}, {"mae_scaled", 0.129}},
		apart: bound{"mse_scaled", 0.005}, relative: true, below: "repeat_last",
	}
	accuracyBeijing = accuracy{
		page: "beijing-pm25.md", model: "tutorial", bounds: []bound{{"rmse", 26.4}},
		apart: bound{"rmse", 0.005}, relative: true, below: "repeat_last",
	}
	// One series more or less is 1 of 370, and of 157.
	accuracyVowels = accuracy{
		page: "series.md", model: "vowels", bounds: []bound{{"error", 0.035}}, apart: bound{"error", 1.01 / 370}, below: "majority",
	}
	accuracyMovement = accuracy{
		page: "series.md", model: "movement", bounds: []bound{{"error", 0.18}}, apart: bound{"error", 1.01 / 157}, below: "majority",
	}
)
