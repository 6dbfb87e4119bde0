package predictor

import (
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// Plan is how a model of that schema and scaler prepares rows, on a device and in
// training. It shares nothing with its arguments. Errors are ErrModel, and those of
// kernel.Scaler.Validate.
func Plan(schema artifact.Schema, scaler kernel.Scaler) (*prepare.Plan, error) {
	c := prepare.Config{
		Columns: len(schema.Features), Scaler: cloneScaler(scaler), Stream: schema.State == artifact.StateStream,
	}
	if p := clonePreparation(schema.Prepare); p != nil {
		for _, k := range p.Categories {
			c.Categories = append(c.Categories, prepare.Category{Column: k.Feature, Values: len(k.Values)})
		}
		for _, name := range p.Calendar {
			cycle, err := prepare.ParseCycle(name)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrModel, err)
			}
			c.Calendar = append(c.Calendar, cycle)
		}
		c.PeriodMS = p.PeriodMS
		if r := p.Regimes; r != nil {
			c.Regimes = &prepare.Regimes{Centers: r.Centers, Mean: r.Mean, Inv: r.Inv}
			for _, f := range r.Features {
				c.Regimes.Inputs = append(c.Regimes.Inputs, inputOf(c.Categories, f))
			}
		}
	}
	plan, err := prepare.New(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	return plan, nil
}

// inputOf is the first input of a feature.
func inputOf(categories []prepare.Category, feature int) int {
	n := feature
	for _, c := range categories {
		if c.Column < feature {
			n += c.Values
		}
	}
	return n
}

// PlanOf is the plan of a model.
func PlanOf(m *artifact.Model) (*prepare.Plan, error) { return Plan(m.Schema, fromScaler(m.Scaler)) }

func clonePreparation(p *artifact.Preparation) *artifact.Preparation {
	if p == nil {
		return nil
	}
	q := *p
	q.Categories = slices.Clone(p.Categories)
	for i, c := range q.Categories {
		q.Categories[i].Values = slices.Clone(c.Values)
	}
	q.Calendar = slices.Clone(p.Calendar)
	if p.Regimes != nil {
		q.Regimes = &artifact.Regimes{
			Features: slices.Clone(p.Regimes.Features), Centers: slices.Clone(p.Regimes.Centers),
			Mean: slices.Clone(p.Regimes.Mean), Inv: slices.Clone(p.Regimes.Inv),
		}
	}
	return &q
}
