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
//	smape                     percent: |error| by the mean of |predicted| and |truth|, 0 where
//	                          both are 0 (Makridakis 1993)
//	skill                     1 − mse ÷ that of the naive forecast (Murphy 1988), of scaled
//	                          errors: repeat_last of a forecast, mean of `rul`. 1 is perfect,
//	                          0 no better than naive
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

// A Figure is a number that JSON has as null where it is not finite.
type Figure float64

// MarshalJSON implements json.Marshaler.
func (f Figure) MarshalJSON() ([]byte, error) {
	if v := float64(f); math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// sums are what windows add to the figures; those of parts add up to those of
// the whole.
type sums struct {
	windows, values            float64 // counts; a window has outputs values
	squared, absolute, percent float64 // of errors in the targets' units
	squaredScaled, absScaled   float64 // forecast
	squaredFull                float64 // rul, against the truth as it is
	score, scoreCapped         float64
}

func (s *sums) add(o sums) {
	s.windows += o.windows
	s.values += o.values
	s.squared += o.squared
	s.absolute += o.absolute
	s.percent += o.percent
	s.squaredScaled += o.squaredScaled
	s.absScaled += o.absScaled
	s.squaredFull += o.squaredFull
	s.score += o.score
	s.scoreCapped += o.scoreCapped
}

// A scorer makes figures of predictions in raw units.
type scorer struct {
	task string
	// std is the standard deviation of each target of a forecast; outputs are steps
	// × targets, so output o is of target o mod len(std). A target without spread
	// counts unscaled.
	std     []float64
	cap     float64 // of rul; +Inf: none
	windows int     // that are evaluated: what a score is the sum of
}

// of are the sums of output o.
func (s scorer) of(o int, predicted, truth float64) sums {
	t := sums{values: 1}
	d := predicted - truth
	if s.task == RUL {
		t.squaredFull = d * d
		t.score = cmapssScore(d)
		truth = math.Min(truth, s.cap)
		d = predicted - truth
		t.scoreCapped = cmapssScore(d)
	} else {
		std := s.std[o%len(s.std)]
		if std == 0 {
			std = 1
		}
		t.squaredScaled = d / std * (d / std)
		t.absScaled = math.Abs(d / std)
	}
	t.squared = d * d
	t.absolute = math.Abs(d)
	if size := math.Abs(predicted) + math.Abs(truth); size > 0 {
		t.percent = 200 * math.Abs(d) / size
	}
	return t
}

// metrics are the figures that t sums up to. A score is that of as many windows
// as are evaluated.
func (s scorer) metrics(t sums) Metrics {
	m := Metrics{
		"mse": t.squared / t.values, "mae": t.absolute / t.values, "rmse": math.Sqrt(t.squared / t.values), "smape": t.percent / t.values,
	}
	if s.task == RUL {
		all := float64(s.windows) / t.windows
		m["rmse_uncapped"] = math.Sqrt(t.squaredFull / t.values)
		m["cmapss_score"], m["cmapss_score_capped"] = t.score*all, t.scoreCapped*all
	} else {
		m["mse_scaled"], m["mae_scaled"] = t.squaredScaled/t.values, t.absScaled/t.values
	}
	return m
}

// skill is that of m beside the naive figures.
func (s scorer) skill(m, naive Metrics) float64 { return 1 - m[s.mse()]/naive[s.mse()] }

// mse is the name of the squared error that models are compared by.
func (s scorer) mse() string {
	if s.task == RUL {
		return "mse"
	}
	return "mse_scaled"
}

// cmapssScore is the penalty of predicting d more than is left: a late warning
// (d > 0) costs more than an early one.
func cmapssScore(d float64) float64 {
	if d < 0 {
		return math.Exp(-d/13) - 1
	}
	return math.Exp(d/10) - 1
}
