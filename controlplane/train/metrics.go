package train

import (
	"encoding/json"
	"math"
)

// Metrics are figures by name, in lower snake case:
//
//	mse, mae, rmse            in the target's own units; of `rul`, against min(truth, cap)
//	mse_scaled, mae_scaled    forecasts: errors divided by the standard deviation of the
//	                          target's training rows, as papers on ETT report them
//	rmse_uncapped             rul: against the truth as it is
//	cmapss_score              rul: the asymmetric score of the C-MAPSS data set against the
//	                          truth as it is (Saxena et al., PHM08, 2008)
//	cmapss_score_capped       the same against min(truth, cap)
//
// Means are over all windows, steps and targets; the scores are sums.
type Metrics map[string]float64

// MarshalJSON writes a figure that is not finite as null.
func (m Metrics) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("null"), nil
	}
	out := make(map[string]*float64, len(m))
	for k, v := range m {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			out[k] = &v
		} else {
			out[k] = nil
		}
	}
	return json.Marshal(out)
}

// forecastMetrics compares predictions with truth, both windows × outputs in
// raw units. std is the standard deviation of each target; outputs are steps ×
// targets, so output o is of target o mod len(std). A target without spread
// counts unscaled.
func forecastMetrics(predicted, truth []float32, std []float64) Metrics {
	var se, ae, ses, aes float64
	for i, p := range predicted {
		d := float64(p) - float64(truth[i])
		s := std[i%len(std)]
		if s == 0 {
			s = 1
		}
		se += d * d
		ae += math.Abs(d)
		ses += d / s * (d / s)
		aes += math.Abs(d / s)
	}
	n := float64(len(predicted))
	return Metrics{"mse": se / n, "mae": ae / n, "rmse": math.Sqrt(se / n), "mse_scaled": ses / n, "mae_scaled": aes / n}
}

// rulMetrics compares predictions with truth, one of each a window, in rows.
func rulMetrics(predicted, truth []float32, cap float64) Metrics {
	var se, ae, seu, score, scoreCapped float64
	for i, p := range predicted {
		full := float64(p) - float64(truth[i])
		d := float64(p) - math.Min(float64(truth[i]), cap)
		se += d * d
		ae += math.Abs(d)
		seu += full * full
		score += cmapssScore(full)
		scoreCapped += cmapssScore(d)
	}
	n := float64(len(predicted))
	return Metrics{
		"mse": se / n, "mae": ae / n, "rmse": math.Sqrt(se / n), "rmse_uncapped": math.Sqrt(seu / n),
		"cmapss_score": score, "cmapss_score_capped": scoreCapped,
	}
}

// cmapssScore is the penalty of predicting d more than is left: a late warning
// (d > 0) costs more than an early one.
func cmapssScore(d float64) float64 {
	if d < 0 {
		return math.Exp(-d/13) - 1
	}
	return math.Exp(d/10) - 1
}
