package bptt

import (
	"math"
	"testing"
)

// Updates of one parameter, by hand from keras/src/optimizers/adam.py:
//
//	m += (g−m)·0.1   v += (g²−v)·0.001   p −= 0.001·√(1−0.999ᵗ)/(1−0.9ᵗ)·m/(√v + 1e-7)
//
// The corrections of t = 1, 2, 3 are 0.000316227766, 0.000235316725,
// 0.000202010597. The tiny gradients show where epsilon is added: after a
// corrected root, as in the paper, p would be −0.000909 and −0.001818.
func TestAdamFollowsHandDerivedMoments(t *testing.T) {
	type update struct{ gradient, m, v, p float64 }
	for name, c := range map[string]struct {
		start   float32
		updates []update
	}{
		"changing gradients": {1, []update{
			{0.5, 0.05, 0.00025, 0.9990000063},
			{-0.25, 0.02, 0.00031225, 0.9987336708},
			{2, 0.218, 0.00431193775, 0.9980630242},
		}},
		"tiny gradients": {0, []update{
			{1e-6, 1e-7, 1e-15, -0.00024025307},
			{1e-6, 1.9e-7, 1.999e-15, -0.00054921668},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Config{}.withDefaults(graph(1, lstmLayer(1)))
			if err != nil {
				t.Fatal(err)
			}
			a := newOptimizer(cfg, 3)
			p := []float32{c.start, c.start, c.start}
			for i, u := range c.updates {
				a.begin()
				a.update(span{1, 2}, p, []float32{9, float32(u.gradient), 9})
				for what, pair := range map[string][2]float64{
					"m": {float64(a.slots[0].values[1]), u.m}, "v": {float64(a.slots[1].values[1]), u.v}, "p": {float64(p[1]), u.p},
				} {
					if got, want := pair[0], pair[1]; math.Abs(got-want) > 5e-7*math.Abs(want) {
						t.Errorf("update %d: %s = %v, want %v", i+1, what, got, want)
					}
				}
			}
			if p[0] != c.start || p[2] != c.start {
				t.Error("update wrote outside its span")
			}
		})
	}
}

// Updates of one parameter that starts at 1 (tiny gradients: at 0), by hand from
// keras/src/optimizers/sgd.py, rmsprop.py, adam.py and base_optimizer.py:
//
//	SGD      v = μ·v − α·g   p += v   Nesterov: p += μ·v − α·g
//	RMSprop  v = ρ·v + (1−ρ)·g²   a = ρ·a + (1−ρ)·g   s = α·g/√(v [−a²] + 1e-7)
//	         m = μ·m + s   p −= s, or m with momentum
//	decay    p −= p·wd·α, then the update
//
// RMSprop's tiny gradients show that epsilon is inside the root: outside of it
// the first step would be 0.315. Adam's steps are those of the test above, from
// the decayed parameter.
func TestOptimizersFollowHandDerivedValues(t *testing.T) {
	changing := []float64{0.5, -0.25, 2}
	for _, c := range []struct {
		name      string
		cfg       Config
		start     float64
		gradients []float64
		p         []float64
		slots     map[string]float64 // after the last update
	}{
		{"sgd", Config{Optimizer: SGD}, 1, changing, []float64{0.995, 0.9975, 0.9775}, nil},
		{"sgd momentum", Config{Optimizer: SGD, LearningRate: 0.1, Momentum: 0.9}, 1, changing,
			[]float64{0.95, 0.93, 0.712}, map[string]float64{"momentum": -0.218}},
		{"sgd nesterov", Config{Optimizer: SGD, LearningRate: 0.1, Momentum: 0.9, Nesterov: true}, 1, changing,
			[]float64{0.905, 0.912, 0.5158}, map[string]float64{"momentum": -0.218}},
		{"sgd nesterov without momentum", Config{Optimizer: SGD, LearningRate: 0.1, Nesterov: true}, 1, changing, []float64{0.95, 0.975, 0.775}, nil},
		{"sgd decay", Config{Optimizer: SGD, LearningRate: 0.1, WeightDecay: 0.5}, 1, changing, []float64{0.9, 0.88, 0.636}, nil},
		{"rmsprop", Config{Optimizer: RMSprop, LearningRate: 0.1}, 1, changing,
			[]float64{0.6837728664, 0.8312145662, 0.5247439289}, map[string]float64{"velocity": 0.425875}},
		{"rmsprop momentum", Config{Optimizer: RMSprop, LearningRate: 0.1, Momentum: 0.5}, 1, changing,
			[]float64{0.6837728664, 0.6731009994, 0.3612944286}, map[string]float64{"velocity": 0.425875, "momentum": 0.3118065708}},
		{"rmsprop centered", Config{Optimizer: RMSprop, LearningRate: 0.1, Centered: true}, 1, changing,
			[]float64{0.6666674074, 0.8151456133, 0.489996559}, map[string]float64{"velocity": 0.425875, "average_gradient": 0.218}},
		{"rmsprop centered momentum", Config{Optimizer: RMSprop, LearningRate: 0.1, Centered: true, Momentum: 0.5}, 1, changing,
			[]float64{0.6666674074, 0.648479317, 0.3142362175}, map[string]float64{"velocity": 0.425875, "average_gradient": 0.218, "momentum": 0.3342430995}},
		{"rmsprop tiny gradients", Config{Optimizer: RMSprop, LearningRate: 0.1}, 0, []float64{1e-4, 1e-4},
			[]float64{-0.0314658388, -0.0627924133}, map[string]float64{"velocity": 1.9e-9}},
		{"adam", Config{}, 1, changing, []float64{0.9990000063, 0.9987336708, 0.9980630242}, map[string]float64{"momentum": 0.218, "velocity": 0.00431193775}},
		{"adamw", Config{Optimizer: AdamW}, 1, changing, []float64{0.998996006325, 0.998725674808, 0.998051033279}, map[string]float64{"momentum": 0.218, "velocity": 0.00431193775}},
		{"adamw on a schedule", Config{Optimizer: AdamW, WeightDecay: 0.5, Schedule: Schedule{Kind: StepDecay, Boundaries: []int{0}, Values: []float64{0.1, 0.01}}}, 1, changing,
			[]float64{0.850000632452, 0.843087273965, 0.832165371334}, map[string]float64{"momentum": 0.218, "velocity": 0.00431193775}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := c.cfg.withDefaults(graph(1, lstmLayer(1)))
			if err != nil {
				t.Fatal(err)
			}
			o := newOptimizer(cfg, 3)
			start := float32(c.start)
			p := []float32{start, start, start}
			for i, g := range c.gradients {
				o.begin()
				o.update(span{1, 2}, p, []float32{9, float32(g), 9})
				if got, want := float64(p[1]), c.p[i]; math.Abs(got-want) > 5e-7*math.Abs(want) {
					t.Errorf("update %d: p = %.9g, want %.9g", i+1, got, want)
				}
			}
			if len(o.slots) != len(c.slots) || o.updates != len(c.gradients) {
				t.Errorf("%d slots and %d updates, want %d and %d", len(o.slots), o.updates, len(c.slots), len(c.gradients))
			}
			for _, s := range o.slots {
				if got, want := float64(s.values[1]), c.slots[s.name]; math.Abs(got-want) > 5e-7*math.Abs(want) {
					t.Errorf("%s = %.9g, want %.9g", s.name, got, want)
				}
				if s.values[0] != 0 || s.values[2] != 0 {
					t.Errorf("update wrote %s outside its span", s.name)
				}
			}
			if p[0] != start || p[2] != start {
				t.Error("update wrote outside its span")
			}
		})
	}
}

// The variance of a steady gradient is 0, and that of its float32 averages can
// be less: of a tenth of all gradients, so much that epsilon does not help.
func TestCenteredRMSpropOfSteadyGradientsIsFinite(t *testing.T) {
	cfg, err := Config{Optimizer: RMSprop, Centered: true, LearningRate: 1e-6}.withDefaults(graph(1, lstmLayer(1)))
	if err != nil {
		t.Fatal(err)
	}
	gradients := make([]float32, 200)
	for k := range gradients {
		gradients[k] = 1.1 * float32(k)
	}
	o, p := newOptimizer(cfg, len(gradients)), make([]float32, len(gradients))
	for range 500 {
		o.begin()
		o.update(span{0, len(p)}, p, gradients)
	}
	for k, v := range p {
		if !isFinite(float64(v)) {
			t.Errorf("steady gradient %v led to %v", gradients[k], v)
		}
	}
}
