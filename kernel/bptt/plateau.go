package bptt

// A ReduceLR lowers the learning rate when the monitored loss no longer falls,
// as Keras's callback ReduceLROnPlateau.
type ReduceLR struct {
	Patience int     // epochs in a row without a lower loss, then the rate is reduced; 0: never
	Factor   float64 // new rate / old rate: 0.1
	MinDelta float64 // smallest decrease of the loss that counts: 1e-4
	Cooldown int     // epochs after a reduction that do not count: 0
	MinLR    float64 // smallest rate: 0
}

// A plateau is the state of a ReduceLR (keras-team/keras
// keras/src/callbacks/reduce_lr_on_plateau.py).
type plateau struct {
	ReduceLR

	best     float64
	seen     bool // best is set
	wait     int  // epochs since best, without those of a cooldown
	cooldown int  // epochs of it that are left
}

// observe takes the loss at the end of an epoch and the rate it had, and
// returns the rate of the next.
func (p *plateau) observe(loss, rate float64) float64 {
	if p.Patience == 0 {
		return rate
	}
	if p.cooldown > 0 {
		p.cooldown--
	}
	if !p.seen || loss < p.best-p.MinDelta {
		p.best, p.seen, p.wait = loss, true, 0
		return rate
	}
	if p.cooldown > 0 {
		return rate
	}
	p.wait++
	if p.wait < p.Patience || rate <= p.MinLR {
		return rate
	}
	p.cooldown, p.wait = p.Cooldown, 0
	return max(rate*p.Factor, p.MinLR)
}

// state is what a checkpoint keeps of p.
func (p *plateau) state() []field {
	return []field{{"plateau best", &p.best}, {"plateau seen", &p.seen}, {"plateau wait", &p.wait}, {"plateau cooldown", &p.cooldown}}
}
