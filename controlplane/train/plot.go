package train

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/chart"
)

// How many targets, and how many groups of a detector, a picture holds.
const (
	maxDrawn       = 8
	maxDrawnGroups = 16
)

// Charts draws the predictions of a report, by the name of the picture: of a
// classifier its confusion, of a detector its scores, and of others what they
// predicted and how far they were off. ErrOptions for a report without predictions.
func (r *Report) Charts() (map[string]*chart.Chart, error) {
	if len(r.Predictions) == 0 {
		return nil, fmt.Errorf("%w: a report without predictions has nothing to draw", ErrOptions)
	}
	charts := map[string]*chart.Chart{}
	keep := func(name string, c *chart.Chart, err error) error {
		charts[name] = c
		return err
	}
	switch {
	case r.Classification != nil:
		c, err := chart.Confusion(r.Classification.Labels, r.Classification.Int8.Confusion)
		return charts, keep("confusion", c, err)
	case r.Detection != nil:
		c, err := chart.Anomalies(r.timelines())
		return charts, keep("anomalies", c, err)
	}
	values := r.values()
	c, err := chart.Predicted(values)
	if err := keep("predicted", c, err); err != nil {
		return nil, err
	}
	c, err = chart.Residuals(values)
	return charts, keep("residuals", c, err)
}

// values are the int8 model's predictions of the first maxDrawn targets.
func (r *Report) values() []chart.Values {
	n := len(r.Targets)
	list := make([]chart.Values, min(n, maxDrawn))
	for k := range list {
		v := &list[k]
		v.Name, v.Steps = r.Targets[k], max(r.Horizon, 1)
		for _, p := range r.Predictions {
			for i := k; i < len(p.Truth); i += n {
				v.Actual = append(v.Actual, float64(p.Truth[i]))
				v.Predicted = append(v.Predicted, float64(p.Int8[i]))
			}
		}
	}
	return list
}

// timelines are the int8 model's scores, of the first maxDrawnGroups groups.
func (r *Report) timelines() []chart.Timeline {
	var list []chart.Timeline
	for i, p := range r.Predictions {
		if i == 0 || p.Group != r.Predictions[i-1].Group {
			if len(list) == maxDrawnGroups {
				break
			}
			list = append(list, chart.Timeline{
				Name: p.Group, Threshold: float64(r.Detection.Threshold),
				Label: func(row int) string { return r.Predictions[i+row].Time },
			})
		}
		t := &list[len(list)-1]
		t.Scores = append(t.Scores, float64(p.Int8[0]))
		t.Alarms = append(t.Alarms, p.Alarm != nil && *p.Alarm)
		t.Anomalies = append(t.Anomalies, len(p.Truth) > 0 && p.Truth[0] == 1)
	}
	return list
}
