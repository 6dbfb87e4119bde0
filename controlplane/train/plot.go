package train

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/chart"
)

// maxDrawn is how many targets a picture holds.
const maxDrawn = 8

// Charts draws the predictions of a report, by the name of the picture. ErrOptions for
// a report without.
func (r *Report) Charts() (map[string]*chart.Chart, error) {
	if len(r.Predictions) == 0 {
		return nil, fmt.Errorf("%w: a report without predictions has nothing to draw", ErrOptions)
	}
	values := r.values()
	predicted, err := chart.Predicted(values)
	if err != nil {
		return nil, err
	}
	residuals, err := chart.Residuals(values)
	if err != nil {
		return nil, err
	}
	return map[string]*chart.Chart{"predicted": predicted, "residuals": residuals}, nil
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
