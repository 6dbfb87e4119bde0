package run

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/chart"
)

// Chart draws what the epochs of a run gave. ErrState before there is one.
func (r *Run) Chart() (*chart.Chart, error) {
	if len(r.History) == 0 {
		return nil, stateErrorf("run %s has no epoch behind it: there is nothing to draw", r.ID)
	}
	losses := []chart.Curve{{Name: "loss"}}
	var rates []float64
	for _, e := range r.History {
		losses[0].Values = append(losses[0].Values, e.Loss)
		rates = append(rates, e.LearningRate)
		if e.ValLoss == nil {
			continue
		}
		if len(losses) == 1 {
			losses = append(losses, chart.Curve{Name: "validation loss"})
		}
		losses[1].Values = append(losses[1].Values, *e.ValLoss)
	}
	best := 0
	if b := r.Best(); b != nil {
		best = b.Epoch
	}
	c, err := chart.Learning(fmt.Sprintf("run %s", r.ID), losses, rates, best)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", r.ID, err)
	}
	return c, nil
}
