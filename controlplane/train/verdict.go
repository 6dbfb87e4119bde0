package train

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Worth says whether a model should be shipped.
type Worth string

const (
	WorthYes    Worth = "yes"    // it beats every baseline, and not by luck of the rows
	WorthUnsure Worth = "unsure" // the rows do not tell
	WorthNo     Worth = "no"     // a baseline is as good
)

// A Verdict holds a model against the baselines in plain words.
type Verdict struct {
	Worth Worth  `json:"worth_shipping"`
	Text  string `json:"text"`
	// Metric is the figure compared, lower being better but of accuracy and f1.
	Metric  string       `json:"metric"`
	Against []Comparison `json:"against"` // by name of the baseline
}

// A Comparison is the int8 model beside one baseline on the same windows.
type Comparison struct {
	Baseline string `json:"baseline"`
	Model    Figure `json:"model"`
	Other    Figure `json:"other"`
	// Better is by which part of the baseline's figure the model's is lower, of
	// accuracy and f1 what they lack to 1; negative if it is higher.
	Better   Figure    `json:"better"`
	Interval *Interval `json:"interval,omitempty"` // of Better; absent where windows are too few
}

// sure reports whether the model is better on other rows like these, as far as
// can be told.
func (c Comparison) sure() bool { return c.Interval == nil || c.Interval[0] > 0 }

// words is a name as people write it.
func words(name string) string {
	switch name {
	case "linear":
		return "the linear map"
	case skipBaseline:
		return "its own skip path"
	case "mean":
		return "the mean"
	}
	return strings.ReplaceAll(name, "_", "-")
}

// verdictMetrics are the figures that models are judged by.
var verdictMetrics = map[string]string{RUL: "rmse", Forecast: "mse_scaled", Classify: "accuracy", Anomaly: "f1"}

// compare makes the comparisons. differences has, of each baseline, Better of
// each resample; nil without.
func compare(r *Report, metric string, differences map[string][]float64) []Comparison {
	var all []Comparison
	for _, name := range slices.Sorted(maps.Keys(r.Baselines)) {
		model, other := r.Metrics.Int8[metric], r.Baselines[name][metric]
		c := Comparison{Baseline: name, Model: Figure(model), Other: Figure(other), Better: Figure(better(loss(metric, model), loss(metric, other)))}
		if d := differences[name]; d != nil {
			i := percentile(d)
			c.Interval = &i
		}
		all = append(all, c)
	}
	return all
}

// better is by which part model is lower than other.
func better(model, other float64) float64 {
	if other == 0 {
		return -model // nothing is lower
	}
	return 1 - model/other
}

// judge words a verdict.
func judge(evaluated, metric string, against []Comparison) *Verdict {
	v := &Verdict{Metric: metric, Against: against}
	var lost, unsure, won []string
	for _, c := range against {
		name := words(c.Baseline)
		switch percent := fmt.Sprintf("%.3g %%", 100*math.Abs(float64(c.Better))); {
		case c.Baseline == skipBaseline: // a part of the model, not what it competes with
		case !(c.Better > 0):
			lost = append(lost, fmt.Sprintf("%s (%s %.4g against %.4g)", name, metric, float64(c.Model), float64(c.Other)))
		case !c.sure():
			unsure = append(unsure, fmt.Sprintf("%s by %s, but not surely: 95 %% interval %.3g to %.3g %%", name, percent, float64(100*c.Interval[0]), float64(100*c.Interval[1])))
		default:
			won = append(won, fmt.Sprintf("%s by %s", name, percent))
		}
	}
	switch {
	case len(lost) > 0:
		v.Worth, v.Text = WorthNo, "does not beat "+and(lost)+": not worth shipping"
	case len(unsure) > 0:
		v.Worth, v.Text = WorthUnsure, "beats "+and(append(won, unsure...))+": evaluate it on more rows"
	case len(won) > 0:
		v.Worth, v.Text = WorthYes, "beats "+and(won)+": worth shipping"
	default:
		v.Worth, v.Text = WorthUnsure, "there is no baseline to hold it against"
	}
	if evaluated == "training" && v.Worth == WorthYes {
		v.Worth, v.Text = WorthUnsure, v.Text+", were these not the rows it was trained on"
	}
	for _, c := range against {
		if c.Baseline == skipBaseline && !(c.Better > 0) {
			v.Text += "; the network adds nothing to its skip path"
		}
	}
	return v
}

// and joins words: a, b and c.
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return list(words, "and")
}
