package bptt

import (
	"math"
	"testing"
)

// By hand from keras/src/optimizers/schedules/learning_rate_schedule.py.
func TestSchedulesFollowHandDerivedRates(t *testing.T) {
	for _, c := range []struct {
		name    string
		initial float64
		s       Schedule
		rates   map[int]float64 // by update, from 0
	}{
		{"step", 9, Schedule{Kind: StepDecay, Boundaries: []int{2, 5}, Values: []float64{1, 0.5, 0.1}},
			map[int]float64{0: 1, 2: 1, 3: 0.5, 5: 0.5, 6: 0.1, 1000: 0.1}},
		{"exponential", 0.1, Schedule{Kind: ExponentialDecay, DecaySteps: 4, DecayRate: 0.5},
			map[int]float64{0: 0.1, 2: 0.1 * math.Sqrt2 / 2, 4: 0.05, 12: 0.0125}},
		{"staircase", 0.1, Schedule{Kind: ExponentialDecay, DecaySteps: 4, DecayRate: 0.5, Staircase: true},
			map[int]float64{0: 0.1, 3: 0.1, 4: 0.05, 7: 0.05, 8: 0.025}},
		{"cosine", 0.1, Schedule{Kind: CosineDecay, DecaySteps: 12}, // cos 30° = √3/2, cos 60° = 1/2
			map[int]float64{0: 0.1, 2: 0.05 * (1 + math.Sqrt(3)/2), 4: 0.075, 6: 0.05, 8: 0.025, 12: 0, 13: 0, 1000: 0}},
		{"cosine to a part", 0.1, Schedule{Kind: CosineDecay, DecaySteps: 12, Alpha: 0.2},
			map[int]float64{0: 0.1, 4: 0.08, 6: 0.06, 12: 0.02, 20: 0.02}},
		{"cosine after a warm-up", 0, Schedule{Kind: CosineDecay, DecaySteps: 12, WarmupTarget: 0.1, WarmupSteps: 4},
			map[int]float64{0: 0, 1: 0.025, 3: 0.075, 4: 0.1, 8: 0.075, 10: 0.05, 16: 0, 20: 0}},
		{"warm-up from a rate", 0.02, Schedule{Kind: CosineDecay, DecaySteps: 12, WarmupTarget: 0.1, WarmupSteps: 4, Alpha: 0.2},
			map[int]float64{0: 0.02, 2: 0.06, 4: 0.1, 10: 0.06, 16: 0.02}},
	} {
		cfg, err := Config{LearningRate: c.initial, Schedule: c.s}.withDefaults(graph(1, lstmLayer(1)))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for update, want := range c.rates {
			if got := cfg.Schedule.rate(cfg.LearningRate, update); math.Abs(got-want) > 1e-15 {
				t.Errorf("%s: rate of update %d = %v, want %v", c.name, update, got, want)
			}
		}
	}
}
