package train

import (
	"errors"
	"slices"
	"testing"
)

func TestChartsOfPredictions(t *testing.T) {
	r := &Report{Targets: []string{"a", "b"}, Horizon: 2}
	if _, err := r.Charts(); !errors.Is(err, ErrOptions) {
		t.Errorf("without predictions: %v", err)
	}
	r.Predictions = []Prediction{
		{Truth: []float32{1, 2, 3, 4}, Int8: []float32{10, 20, 30, 40}},
		{Truth: []float32{5, 6, 7, 8}, Int8: []float32{50, 60, 70, 80}},
	}
	v := r.values()
	if len(v) != 2 || v[1].Steps != 2 || !slices.Equal(v[1].Actual, []float64{2, 4, 6, 8}) || !slices.Equal(v[0].Predicted, []float64{10, 30, 50, 70}) {
		t.Errorf("values %+v", v)
	}
	charts, err := r.Charts()
	if err != nil || charts["predicted"] == nil || charts["residuals"] == nil {
		t.Errorf("Charts = %v, %v", charts, err)
	}
}
