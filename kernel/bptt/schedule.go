package bptt

import (
	"fmt"
	"math"
	"sort"
)

// The schedules of the learning rate. Keras calls them PiecewiseConstantDecay,
// ExponentialDecay and CosineDecay.
const (
	StepDecay        = "step"
	ExponentialDecay = "exponential"
	CosineDecay      = "cosine" // Loshchilov and Hutter 2017; warm-up Goyal et al. 2017
)

// Schedules are the names that Schedule.Kind can have.
var Schedules = []string{StepDecay, ExponentialDecay, CosineDecay}

// A Schedule is how the learning rate goes with the updates, counted from 0
// through all epochs (keras-team/keras
// keras/src/optimizers/schedules/learning_rate_schedule.py). Config.LearningRate
// is Keras's initial_learning_rate; with StepDecay it has no effect.
type Schedule struct {
	Kind string // "": the rate stays

	// StepDecay: updates up to and with Boundaries[0] have the rate Values[0],
	// later ones up to and with Boundaries[1] Values[1], and so on. There is one
	// value more than boundaries.
	Boundaries []int
	Values     []float64

	// DecaySteps is the updates in which an exponential decays by DecayRate, and
	// a cosine to its end.
	DecaySteps int

	DecayRate float64 // ExponentialDecay: factor every DecaySteps
	Staircase bool    // ExponentialDecay: all at once every DecaySteps

	// CosineDecay: Alpha is the last rate as a part of the first. WarmupSteps
	// updates before the decay the rate rises evenly from Config.LearningRate,
	// which may be 0 then, to WarmupTarget.
	Alpha        float64
	WarmupTarget float64
	WarmupSteps  int
}

// rate is the learning rate of an update, from 0.
func (s *Schedule) rate(initial float64, update int) float64 {
	switch s.Kind {
	case StepDecay:
		return s.Values[sort.SearchInts(s.Boundaries, update)]
	case ExponentialDecay:
		p := float64(update) / float64(s.DecaySteps)
		if s.Staircase {
			p = math.Floor(p)
		}
		return initial * math.Pow(s.DecayRate, p)
	}
	if update < s.WarmupSteps {
		return initial + (s.WarmupTarget-initial)*float64(update)/float64(s.WarmupSteps)
	}
	if s.WarmupSteps > 0 {
		initial = s.WarmupTarget
	}
	done := min(float64(update-s.WarmupSteps)/float64(s.DecaySteps), 1)
	return initial * ((1-s.Alpha)*0.5*(1+math.Cos(math.Pi*done)) + s.Alpha)
}

// warmsUp reports whether the first rate may be 0.
func (s *Schedule) warmsUp() bool { return s.Kind == CosineDecay && s.WarmupTarget != 0 }

func (s *Schedule) check() error {
	if err := checkName("schedule", s.Kind, append([]string{""}, Schedules...)); err != nil {
		return err
	}
	if err := checkSettings("schedule", s.Kind, []setting{
		{"boundaries", len(s.Boundaries) > 0, []string{StepDecay}},
		{"values", len(s.Values) > 0, []string{StepDecay}},
		{"decay steps", s.DecaySteps != 0, []string{ExponentialDecay, CosineDecay}},
		{"decay rate", s.DecayRate != 0, []string{ExponentialDecay}},
		{"staircase", s.Staircase, []string{ExponentialDecay}},
		{"alpha", s.Alpha != 0, []string{CosineDecay}},
		{"warmup target", s.WarmupTarget != 0, []string{CosineDecay}},
		{"warmup steps", s.WarmupSteps != 0, []string{CosineDecay}},
	}); err != nil {
		return err
	}
	switch s.Kind {
	case StepDecay:
		return s.checkSteps()
	case ExponentialDecay:
		return checkRanges([]bounded{
			{"decay steps", float64(s.DecaySteps), s.DecaySteps > 0, "at least 1"},
			{"decay rate", s.DecayRate, positive(s.DecayRate), "above 0"},
		})
	case CosineDecay:
		if (s.WarmupSteps == 0) != (s.WarmupTarget == 0) {
			return fmt.Errorf("warmup target %v and warmup steps %d: set both or neither: %w", s.WarmupTarget, s.WarmupSteps, ErrConfig)
		}
		return checkRanges([]bounded{
			{"decay steps", float64(s.DecaySteps), s.DecaySteps > 0, "at least 1"},
			{"alpha", s.Alpha, s.Alpha >= 0 && s.Alpha <= 1, "0 to 1"},
			{"warmup target", s.WarmupTarget, s.WarmupTarget == 0 || positive(s.WarmupTarget), "above 0"},
			{"warmup steps", float64(s.WarmupSteps), s.WarmupSteps >= 0, "at least 1"},
		})
	}
	return nil
}

func (s *Schedule) checkSteps() error {
	if len(s.Boundaries) == 0 || len(s.Values) != len(s.Boundaries)+1 {
		return fmt.Errorf("schedule step has %d boundaries and %d values: want at least one boundary, and one value more: %w",
			len(s.Boundaries), len(s.Values), ErrConfig)
	}
	for i, b := range s.Boundaries {
		if b < 0 || i > 0 && b <= s.Boundaries[i-1] {
			return fmt.Errorf("schedule step: boundary %d is out of order, want updates from 0 that rise: %w", b, ErrConfig)
		}
	}
	for _, v := range s.Values {
		if !positive(v) {
			return fmt.Errorf("schedule step: value %v is no learning rate: %w", v, ErrConfig)
		}
	}
	return nil
}
