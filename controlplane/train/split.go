package train

import (
	"encoding/hex"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

// Fractions of a split that nobody asked for.
var (
	forecastFractions = [3]float64{0.7, 0.1, 0.2}
	groupValidation   = 0.15 // of RUL
)

// checkSplit checks what needs no data.
func (o Options) checkSplit() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
	}
	switch {
	case o.SplitBy != "" && o.SplitBy != dataset.ByTime && o.SplitBy != dataset.ByGroup:
		return unknown("way to split", o.SplitBy, []string{dataset.ByTime, dataset.ByGroup})
	case o.Gap != nil && *o.Gap < 0:
		return bad("a gap of %d rows", *o.Gap)
	case o.Gap != nil && o.splitBy() == dataset.ByGroup:
		return bad("a gap is of a split by time; whole groups need none")
	case o.Validation != 0 && o.Split != "":
		return bad("both a split and a validation fraction; write the fraction into the split")
	case o.Validation != 0 && o.splitBy() == dataset.ByTime:
		return bad("a validation fraction is of whole groups; by time give a split such as 0.7,0.1,0.2")
	case o.Split == "":
		return nil
	}
	if _, err := dataset.ParseSplit(o.Split); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return nil
}

// splitBy is how the data are split: what has an answer for a machine as a whole by
// machines, and what goes on in time by time. A split of counts or fractions without a
// word is by time.
func (o Options) splitBy() string {
	switch {
	case o.SplitBy != "":
		return o.SplitBy
	case o.Task == Classify:
		return dataset.ByGroup
	case o.Task == Forecast, o.Task == Anomaly, o.Split != "":
		return dataset.ByTime
	}
	return dataset.ByGroup
}

// split returns the split of data of which files hold out a validation or a test part.
func (o Options) split(validation, test bool) (s dataset.Split, err error) {
	by := o.splitBy()
	switch {
	case o.Split != "":
		if s, err = dataset.ParseSplit(o.Split); err != nil {
			return s, fmt.Errorf("%w: %w", ErrOptions, err)
		}
	case by == dataset.ByTime:
		s.Fractions = forecastFractions
	case o.Validation == NoValidation:
	case o.Validation > 0:
		s.Fractions[1] = o.Validation
	default:
		s.Fractions[1] = groupValidation
	}
	if o.Split == "" { // what a file holds out, the data need not
		if validation {
			s.Fractions[1] = 0
		}
		if test {
			s.Fractions[2] = 0
		}
		s.Fractions[0] = 1 - s.Fractions[1] - s.Fractions[2]
	}
	if s.By = by; by == dataset.ByTime {
		s.Gap = o.gap()
	}
	return s, nil
}

// gap is how many rows a split by time leaves between its parts. Windows whose target
// stands in their last row must not reach into the part before; a forecast may, and
// published splits have no gap.
func (o Options) gap() int {
	switch {
	case o.Gap != nil:
		return *o.Gap
	case o.Task == Anomaly: // nothing that is learned stands in a held-out row
		return 0
	case o.Task != Forecast:
		return max(o.Window, 1) - 1
	case o.Split == "":
		return o.Horizon
	}
	return 0
}

// split divides the rows, and refuses parts of which one gives another away.
func (r *run) split() error {
	held := map[string]bool{}
	for _, g := range r.table.Groups {
		held[g.Part] = true
	}
	split, err := r.o.split(held[dataset.PartValidation], held[dataset.PartTest])
	if err != nil {
		return err
	}
	r.setup.Split = &split
	if r.parts, err = r.table.Divide(split, r.o.Seed); err != nil {
		return err
	}
	if r.o.Task != Anomaly {
		if err := r.table.CheckOverlap(r.parts, r.o.shape()); err != nil {
			return err
		}
	}
	if r.o.Task == RUL || r.o.Task == Classify {
		suspect, err := r.table.CheckTarget(r.parts.Train, r.o.Task == Classify, r.o.limit())
		if err != nil {
			return err
		}
		for _, name := range suspect {
			r.warn("column %q lies on a line with the target in every training row: leave it out if it is computed from it", name)
		}
	}
	return r.table.CheckCopies(r.parts)
}

// limit is the largest target that is learned.
func (o Options) limit() float32 {
	if o.Cap > 0 {
		return float32(o.Cap)
	}
	return dataset.Unlimited
}

// splitOf is the split that a version was trained with; nil: nothing was held out of
// its data.
func (s *Setup) splitOf() *dataset.Split {
	if s.Split == nil && s.Validation > 0 {
		return &dataset.Split{By: dataset.ByGroup, Fractions: [3]float64{1 - s.Validation, s.Validation}}
	}
	return s.Split
}

// partWindows are the windows that are evaluated: of the part that the split asked for
// holds out, or, if this is the data that were trained on, the one they were trained
// with; or else of all rows.
func (e *evaluated) partWindows(o EvalOptions, s dataset.Shape) (*dataset.Windows, error) {
	part, err := e.choosePart(o)
	if err != nil {
		return nil, err
	}
	return e.table.Windows(part, s)
}

// choosePart chooses the rows of partWindows.
func (e *evaluated) choosePart(o EvalOptions) (dataset.Part, error) {
	digest := hex.EncodeToString(e.table.Digest[:])
	var split *dataset.Split
	switch files := e.setup.Files; {
	case o.Split != "":
		asked, err := o.split()
		if err != nil {
			return nil, err
		}
		split = &asked
	case digest == e.setup.Data, files != nil && digest == files[dataset.PartTraining]:
		if split = e.setup.splitOf(); split == nil {
			split = &dataset.Split{Fractions: [3]float64{1}}
		}
	default:
		e.part = "all"
		for _, part := range []string{dataset.PartValidation, dataset.PartTest} {
			if files != nil && digest == files[part] {
				e.part = part
			}
		}
		return e.table.All(), nil
	}
	parts, err := e.table.Divide(*split, e.setup.Seed)
	if err != nil {
		return nil, err
	}
	part, name := heldOut(parts)
	if e.part = name; name == dataset.PartTraining {
		e.warnings = append(e.warnings, flatters)
	}
	return part, nil
}

// split is the one asked for, without a gap: nothing is trained on.
func (o EvalOptions) split() (dataset.Split, error) {
	s, err := dataset.ParseSplit(o.Split)
	s.By = o.SplitBy
	return s, err
}

const flatters = "no rows were held out: the figures are of the training rows and flatter the model"

// heldOut returns the part that a model is judged by, and its name.
func heldOut(p dataset.Parts) (dataset.Part, string) {
	switch {
	case len(p.Test) > 0:
		return p.Test, dataset.PartTest
	case len(p.Validation) > 0:
		return p.Validation, dataset.PartValidation
	}
	return p.Train, dataset.PartTraining
}
