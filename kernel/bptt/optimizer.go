package bptt

import "math"

// The optimizers, named as in Keras.
const (
	Adam    = "adam"    // Kingma and Ba 2015
	AdamW   = "adamw"   // Loshchilov and Hutter 2019: Adam with weight decay
	SGD     = "sgd"     // with Momentum, and Nesterov's
	RMSprop = "rmsprop" // Hinton 2012, also centered
)

// Optimizers are the names that Config.Optimizer can have, the default first.
var Optimizers = []string{Adam, AdamW, SGD, RMSprop}

// An optimizer moves a flat vector of parameters by their gradients, with the
// arithmetic of keras-team/keras keras/src/optimizers: base_optimizer.py for the
// weight decay, adam.py, sgd.py and rmsprop.py.
type optimizer struct {
	cfg Config
	optimizerState

	// Of the update under way.
	current float64 // learning rate
	step    float32 // that of Adam with both corrections in it
}

// An optimizerState is what goes from one update to the next. A checkpoint reads
// and sets it between two updates.
type optimizerState struct {
	updates int // made so far, Keras's iterations
	// rate is the learning rate where there is no schedule: Config.LearningRate,
	// lowered by ReduceLR.
	rate  float64
	slots []slot
}

// A slot is one value for each parameter, under the name of Keras's variable.
type slot struct {
	name   string
	values []float32
}

// newOptimizer makes the optimizer of a complete configuration for size
// parameters.
func newOptimizer(c Config, size int) *optimizer {
	o := &optimizer{cfg: c, optimizerState: optimizerState{rate: c.LearningRate}}
	add := func(name string) {
		o.slots = append(o.slots, slot{name, make([]float32, size)})
	}
	switch c.Optimizer {
	case Adam, AdamW:
		add("momentum")
		add("velocity")
	case RMSprop:
		add("velocity")
		if c.Centered {
			add("average_gradient")
		}
	}
	if c.Momentum > 0 {
		add("momentum")
	}
	if c.UseEMA {
		add("average")
	}
	return o
}

// state is what a checkpoint keeps of o.
func (o *optimizer) state() []field {
	s := []field{{"updates", &o.updates}, {"rate", &o.rate}, {"current rate", &o.current}}
	for _, v := range o.slots {
		s = append(s, field{v.name, v.values})
	}
	return s
}

// begin starts the next update. Adam's step is rate·√(1−β₂ᵗ)/(1−β₁ᵗ).
func (o *optimizer) begin() {
	o.current = o.rate
	if o.cfg.Schedule.Kind != "" {
		o.current = o.cfg.Schedule.rate(o.cfg.LearningRate, o.updates)
	}
	o.updates++
	t := float64(o.updates)
	o.step = float32(o.current * math.Sqrt(1-math.Pow(o.cfg.Beta2, t)) / (1 - math.Pow(o.cfg.Beta1, t)))
}

// update moves the parameters in s by their gradients. Calls for spans that do
// not overlap may run at once.
func (o *optimizer) update(s span, parameters, gradients []float32) {
	c := &o.cfg
	p, g, rate := s.of(parameters), s.of(gradients), float32(o.current)
	if c.WeightDecay > 0 {
		decay(p, float32(c.WeightDecay), rate)
	}
	switch c.Optimizer {
	case SGD:
		if c.Momentum > 0 {
			updateMomentum(p, g, o.slot("momentum", s), float32(c.Momentum), rate, c.Nesterov)
		} else {
			updateSGD(p, g, rate)
		}
	case RMSprop:
		o.updateRMSprop(s, p, g, rate)
	default:
		updateAdam(p, g, o.slot("momentum", s), o.slot("velocity", s), float32(1-c.Beta1), float32(1-c.Beta2), o.step, float32(c.Epsilon))
	}
	if c.UseEMA {
		o.updateAverage(p, o.slot("average", s))
	}
}

// updateAverage moves the average towards the parameters, or the parameters to
// it where they are overwritten. The first average is the parameters.
func (o *optimizer) updateAverage(p, average []float32) {
	keep, rest := float32(o.cfg.EMAMomentum), float32(1-o.cfg.EMAMomentum)
	if o.updates == 1 {
		keep, rest = 0, 1
	}
	for k, v := range p {
		average[k] = float32(keep*average[k]) + float32(rest*v)
	}
	if n := o.cfg.EMAOverwriteFrequency; n > 0 && o.updates%n == 0 {
		copy(p, average)
	}
}

// slot is the part of a slot that belongs to the parameters in s, nil if there
// is no such slot.
func (o *optimizer) slot(name string, s span) []float32 {
	for i := range o.slots {
		if o.slots[i].name == name {
			return s.of(o.slots[i].values)
		}
	}
	return nil
}

// decay takes p·wd·rate from each p.
func decay(p []float32, wd, rate float32) {
	for k, x := range p {
		p[k] = x - float32(float32(x*wd)*rate)
	}
}

func updateSGD(p, g []float32, rate float32) {
	for k, d := range g[:len(p)] {
		p[k] -= float32(d * rate)
	}
}

// updateMomentum sets v to momentum·v − rate·g and adds it to p, or, looking
// ahead as Nesterov, momentum·v − rate·g again.
func updateMomentum(p, g, v []float32, momentum, rate float32, nesterov bool) {
	g, v = g[:len(p)], v[:len(p)]
	for k, d := range g {
		step := float32(d * rate)
		v[k] = float32(v[k]*momentum) - step
		if nesterov {
			p[k] += float32(v[k]*momentum) - step
		} else {
			p[k] += v[k]
		}
	}
}

// updateRMSprop divides the gradient by the root of its mean square, or
// variance if Centered. Epsilon is added inside the root.
func (o *optimizer) updateRMSprop(s span, p, g []float32, rate float32) {
	rho, rest, epsilon := float32(o.cfg.Rho), float32(1-o.cfg.Rho), float32(o.cfg.Epsilon)
	keep := float32(o.cfg.Momentum)
	v, average, momentum := o.slot("velocity", s), o.slot("average_gradient", s), o.slot("momentum", s)
	for k, d := range g {
		v[k] = float32(rho*v[k]) + float32(rest*float32(d*d))
		square := v[k]
		if average != nil {
			average[k] = float32(rho*average[k]) + float32(rest*d)
			// Of a steady gradient rounding can leave less than nothing, and
			// Keras a root that is NaN.
			square = max(square-float32(average[k]*average[k]), 0)
		}
		step := float32(rate*d) / float32(math.Sqrt(float64(square+epsilon)))
		if momentum != nil {
			momentum[k] = float32(keep*momentum[k]) + step
			step = momentum[k]
		}
		p[k] -= step
	}
}
