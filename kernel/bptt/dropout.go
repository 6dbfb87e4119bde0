package bptt

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// A dropout stands behind a layer whose outputs are dropped in training with a
// probability of rate and divided by 1−rate otherwise (Srivastava et al. 2014, in
// the form of keras-team/keras keras/src/layers/regularization/dropout.py). Each
// value of each step has its own draw.
//
// A draw is a function of the seed, the layer, the number of updates made, the
// window's place in the batch, the step and the unit alone: one value of
// splitmix64 (Steele et al. 2014), for which these are the counters.
type dropout struct {
	seed  uint64 // of the run and the layer
	below uint64 // draws below this drop
	scale float32
	width int
	pass  *pass // that the worker is running

	mask  []float32 // [step][n][width]: 0 or scale
	y, dy []float32 // likewise
}

// newDropout makes the layer for up to rows rows of width values.
func newDropout(seed uint64, layer int, rate float64, p *pass, rows, width int) *dropout {
	return &dropout{
		seed: splitmix(splitmix(seed) + uint64(layer)), below: uint64(rate * (1 << 32) * (1 << 32)),
		scale: float32(1 / (1 - rate)), width: width, pass: p,
		mask: make([]float32, rows*width), y: make([]float32, rows*width), dy: make([]float32, rows*width),
	}
}

// forward drops from x, unless the pass is an evaluation.
func (d *dropout) forward(_ *weights, x []float32, n int) []float32 {
	if d.pass.terms == 0 {
		return x
	}
	for r := range len(x) / d.width {
		d.draw(d.mask[r*d.width:][:d.width], d.pass.update, d.pass.first+r%n, r/n)
	}
	y := d.y[:len(x)]
	for k, v := range x {
		y[k] = v * d.mask[k]
	}
	return y
}

// draw sets the mask of one step of a window.
func (d *dropout) draw(mask []float32, update, window, step int) {
	key := d.seed
	for _, counter := range [...]int{update, window, step} {
		key = splitmix(key + uint64(counter))
	}
	for u := range mask {
		mask[u] = d.scale
		if splitmix(key+uint64(u)) < d.below {
			mask[u] = 0
		}
	}
}

// splitmix is the output function of splitmix64 after its first step from x.
func splitmix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (d *dropout) upstream(n int) []float32 { return d.dy }

func (d *dropout) backward(_ *weights, _, dx []float32, n int) {
	for k := range dx {
		dx[k] = d.dy[k] * d.mask[k]
	}
}

// checkDropout wants a rate for each layer but the last, or none.
func (c *Config) checkDropout(g kernel.Graph) error {
	if want := len(g.Layers) - 1; c.Dropout != nil && len(c.Dropout) != want {
		return fmt.Errorf("dropout has %d rates, want %d, one for each layer but the last: %w", len(c.Dropout), want, ErrConfig)
	}
	for i, rate := range c.Dropout {
		if !(rate >= 0 && rate < 1) {
			return fmt.Errorf("dropout %v after layer %d, want 0 or more and below 1: %w", rate, i, ErrConfig)
		}
	}
	return nil
}
