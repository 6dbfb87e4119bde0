package tune

import (
	"fmt"
	"strconv"

	"github.com/sandpiper-edge/sandpiper/controlplane/chart"
)

// Chart draws the losses of the trials over what they cost. ErrState before one
// has a loss.
func (s *Study) Chart() (*chart.Chart, error) {
	var list []chart.Choice
	for _, t := range s.Trials {
		if t.measured() {
			list = append(list, chart.Choice{Name: strconv.Itoa(t.N), Loss: t.ValLoss, Bytes: t.Bytes, US: t.US, Best: t.Pareto})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w %s has no epoch behind it: there is nothing to draw", ErrState, s.ID)
	}
	return chart.Choices(s.ID, s.Tier, list)
}
