package train

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// walk is a walk at random.
func walk(n int) string {
	rng := rand.New(rand.NewPCG(11, 1))
	var b strings.Builder
	b.WriteString("t,x\n")
	x := 0.0
	for i := range n {
		x += rng.NormFloat64()
		fmt.Fprintf(&b, "%d,%.3f\n", i, x)
	}
	return b.String()
}

var walkOptions = Options{
	Model: "m", Task: Forecast, Time: "t", Targets: []string{"x"}, Features: []string{"x"}, Window: 8, Horizon: 2, Anchor: "last",
	Split: "400,100,400", Units: []int{4}, Epochs: 2, Seed: 1,
}

// Of several targets and steps the parts add up to the whole, for the model and
// every baseline.
func TestFiguresOfTargetsAndSteps(t *testing.T) {
	o := skipOptions
	o.Predictions, o.Epochs = true, 1
	r := trained(t, o, seasons(0, 600)).Report
	if len(r.ByTarget) != 2 || r.ByTarget[0].Target != "load" || r.ByTarget[1].Target != "heat" {
		t.Fatalf("by target: %+v", r.ByTarget)
	}
	for _, metric := range []string{"mse_scaled", "mae_scaled", "smape"} {
		almost(t, metric, (r.ByTarget[0].Metrics.Int8[metric]+r.ByTarget[1].Metrics.Int8[metric])/2, r.Metrics.Int8[metric])
		almost(t, "float32 "+metric, (r.ByTarget[0].Metrics.Float32[metric]+r.ByTarget[1].Metrics.Float32[metric])/2, r.Metrics.Float32[metric])
		for name, b := range r.Baselines {
			almost(t, name+" "+metric, (r.ByTarget[0].Baselines[name][metric]+r.ByTarget[1].Baselines[name][metric])/2, b[metric])
		}
	}
	sum := 0.0
	for _, v := range r.BySteps.Values["repeat_last"] {
		sum += float64(v) / 3
	}
	almost(t, "mean over the steps", sum, r.Baselines["repeat_last"]["mse_scaled"])
	// heat, two steps ahead, from the predictions.
	heat := 0.0
	for _, p := range r.Predictions {
		d := float64(p.Int8[3]) - float64(p.Truth[3])
		heat += d * d / float64(len(r.Predictions))
	}
	if heat == 0 || heat > 3*r.ByTarget[1].Metrics.Int8["mse"] {
		t.Errorf("heat after two steps has mse %v, %v over all three", heat, r.ByTarget[1].Metrics.Int8["mse"])
	}
	for _, name := range []string{"mean", "repeat_last", "linear", "skip"} {
		if len(r.BySteps.Values[name]) != 3 || r.Baselines[name] == nil {
			t.Errorf("no baseline %s", name)
		}
	}
	m, naive := r.Metrics.Int8, r.Baselines["repeat_last"]
	almost(t, "skill", m["skill"], 1-m["mse_scaled"]/naive["mse_scaled"])
	almost(t, "skill of the naive forecast", naive["skill"], 0)
}

func TestFiguresThatAreNotFiniteAreNull(t *testing.T) {
	i := Interval{Figure(math.Inf(-1)), 2}
	b, err := json.Marshal(Comparison{Baseline: "mean", Model: Figure(math.NaN()), Interval: &i})
	if want := `{"baseline":"mean","model":null,"other":0,"better":0,"interval":[null,2]}`; err != nil || string(b) != want {
		t.Errorf("Marshal = %s, %v, want %s", b, err, want)
	}
	var back Comparison
	if err := json.Unmarshal(b, &back); err != nil || back.Interval[1] != 2 {
		t.Errorf("Unmarshal = %+v, %v", back, err)
	}
}
