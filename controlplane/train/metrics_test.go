package train

import (
	"encoding/json"
	"math"
	"testing"
)

func almost(t *testing.T, name string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*max(1, math.Abs(want)) {
		t.Errorf("%s = %v, want %v", name, got, want)
	}
}

// figures are those of windows of len(s.std) outputs.
func figures(s scorer, predicted, truth []float64) Metrics {
	n := len(s.std)
	s.windows = len(predicted) / n
	t := sums{windows: float64(s.windows)}
	for i, p := range predicted {
		t.add(s.of(i%n, p, truth[i]))
	}
	return s.metrics(t)
}

func TestRULMetricsByHand(t *testing.T) {
	// Errors against min(truth, 125): 10, -13, -5, 0; against truth: 10, -13, -30, 0.
	m := figures(scorer{task: RUL, std: []float64{1}, cap: 125}, []float64{20, 37, 120, 0}, []float64{10, 50, 150, 0})
	almost(t, "mse", m["mse"], (100+169+25)/4.0)
	almost(t, "mae", m["mae"], 28/4.0)
	almost(t, "rmse", m["rmse"], math.Sqrt(294/4.0))
	almost(t, "rmse_uncapped", m["rmse_uncapped"], math.Sqrt((100+169+900)/4.0))
	almost(t, "cmapss_score", m["cmapss_score"], (math.E-1)+(math.E-1)+(math.Exp(30.0/13)-1))
	almost(t, "cmapss_score_capped", m["cmapss_score_capped"], (math.E-1)+(math.E-1)+(math.Exp(5.0/13)-1))
	almost(t, "smape", m["smape"], (200*10/30.0+200*13/87.0+200*5/245.0+0)/4)
	m = figures(scorer{task: RUL, std: []float64{1}, cap: math.Inf(1)}, []float64{100}, []float64{150})
	almost(t, "rmse without cap", m["rmse"], 50)
}

func TestForecastMetricsByHand(t *testing.T) {
	// Two windows of 1 step × 2 targets; standard deviations 2 and 5.
	m := figures(scorer{task: Forecast, std: []float64{2, 5}}, []float64{1, 10, 4, 20}, []float64{3, 10, 3, 30})
	almost(t, "mse", m["mse"], (4+0+1+100)/4.0)
	almost(t, "mae", m["mae"], 13/4.0)
	almost(t, "rmse", m["rmse"], math.Sqrt(105/4.0))
	almost(t, "mse_scaled", m["mse_scaled"], (1+0+0.25+4)/4)
	almost(t, "mae_scaled", m["mae_scaled"], (1+0+0.5+2)/4)
	almost(t, "smape", m["smape"], (100+0+200/7.0+40)/4)
	m = figures(scorer{task: Forecast, std: []float64{0}}, []float64{1}, []float64{3})
	almost(t, "mse_scaled of a constant target", m["mse_scaled"], 4)
}

func TestMetricsThatAreNotFiniteAreNull(t *testing.T) {
	b, err := json.Marshal(Metrics{"a": math.Inf(1), "b": 2})
	if err != nil || string(b) != `{"a":null,"b":2}` {
		t.Errorf("Marshal = %s, %v", b, err)
	}
	b, err = json.Marshal(Pair{Int8: Metrics{"mse": 1}})
	if err != nil || string(b) != `{"float32":null,"int8":{"mse":1}}` {
		t.Errorf("Marshal of a pair without float32 = %s, %v", b, err)
	}
	var m Metrics
	if err := json.Unmarshal([]byte(`{"a":null,"b":2}`), &m); err != nil || m["b"] != 2 {
		t.Errorf("Unmarshal = %v, %v", m, err)
	}
}
