package dataset

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/chart"
)

// maxDrawn is how many columns a picture holds.
const maxDrawn = 32

// Chart draws every feature over the rows, group by group. ErrTooLarge where there are
// more than can be told apart.
func (t *Table) Chart() (*chart.Chart, error) {
	n := len(t.Features)
	if n > maxDrawn {
		return nil, fmt.Errorf("%w: %d columns, a picture holds %d; name the features to draw", ErrTooLarge, n, maxDrawn)
	}
	list := make([]chart.Series, n)
	for f, name := range t.Features {
		values := make([]float64, t.Rows())
		for row := range values {
			values[row] = float64(t.X[row*n+f])
		}
		list[f] = chart.Series{Name: name, Values: values}
	}
	var starts []int
	for _, g := range t.Groups {
		starts = append(starts, g.Start)
	}
	return chart.Columns(list, starts, t.Time)
}
