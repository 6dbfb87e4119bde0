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

func TestChartsOfClassesAndAnomalies(t *testing.T) {
	yes, no := true, false
	r := &Report{Classification: &Classification{Labels: []string{"a", "b"}, Int8: &ClassFigure{Confusion: [][]int{{3, 1}, {0, 4}}}}, Predictions: []Prediction{{Label: "a"}}}
	if charts, err := r.Charts(); err != nil || len(charts) != 1 || charts["confusion"] == nil {
		t.Errorf("of a classifier: %v, %v", charts, err)
	}
	r = &Report{Detection: &Detection{Threshold: 0.5}, Predictions: []Prediction{
		{Group: "x", Time: "1", Truth: []float32{0}, Int8: []float32{0.1}, Alarm: &no},
		{Group: "x", Time: "2", Truth: []float32{1}, Int8: []float32{0.9}, Alarm: &yes},
		{Group: "y", Time: "7", Truth: []float32{0}, Int8: []float32{0.8}, Alarm: &yes},
	}}
	lines := r.timelines()
	if len(lines) != 2 || lines[0].Label(1) != "2" || lines[1].Label(0) != "7" || !slices.Equal(lines[0].Alarms, []bool{false, true}) ||
		!slices.Equal(lines[0].Anomalies, []bool{false, true}) || lines[1].Threshold != 0.5 {
		t.Errorf("timelines %+v", lines)
	}
	if charts, err := r.Charts(); err != nil || len(charts) != 1 || charts["anomalies"] == nil {
		t.Errorf("of a detector: %v, %v", charts, err)
	}
}
