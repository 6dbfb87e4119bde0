package tune

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"

	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/kernel"
)

// ErrSpace: a space that nothing can be drawn from. The text says why.
var ErrSpace = errors.New("search space")

// A Space is what trials are drawn from. A dimension that is empty is not searched:
// every trial has the training's own value.
type Space struct {
	Units        []int     `json:"units,omitempty" doc:"Units of every recurrent layer"`
	Layers       []int     `json:"layers,omitempty" doc:"Numbers of recurrent layers"`
	Window       []int     `json:"window,omitempty" doc:"Rows of a window"`
	LearningRate []float64 `json:"learning_rate,omitempty" doc:"Least and largest learning rate, drawn evenly on a logarithmic scale"`
	Dropout      []float64 `json:"dropout,omitempty" doc:"Least and largest part that is dropped after every recurrent layer, drawn evenly"`
}

// Check returns what is wrong with s.
func (s Space) Check() error {
	for _, d := range []struct {
		name   string
		values []int
		most   int
	}{{"units", s.Units, kernel.MaxUnits}, {"layers", s.Layers, kernel.MaxLayers}, {"window", s.Window, 1 << 16}} {
		for _, v := range d.values {
			if v < 1 || v > d.most {
				return fmt.Errorf("%w: %s of %d; use 1 to %d", ErrSpace, d.name, v, d.most)
			}
		}
	}
	for _, d := range []struct {
		name   string
		values []float64
		most   float64
		zero   bool
	}{{"learning rate", s.LearningRate, 10, false}, {"dropout", s.Dropout, 0.95, true}} {
		if len(d.values) == 0 {
			continue
		}
		if len(d.values) != 2 {
			return fmt.Errorf("%w: %s has %d values; give the least and the largest", ErrSpace, d.name, len(d.values))
		}
		lo, hi := d.values[0], d.values[1]
		if !(lo <= hi) || !(hi <= d.most) || lo < 0 || lo == 0 && !d.zero {
			return fmt.Errorf("%w: %s from %v to %v; use an order, above 0 and up to %v", ErrSpace, d.name, lo, hi, d.most)
		}
	}
	if reflect.ValueOf(s).IsZero() {
		return fmt.Errorf("%w: it is empty; say what to search, such as units or the learning rate", ErrSpace)
	}
	return nil
}

// A Config is one point of a space. What is zero is as the training says.
type Config struct {
	Units        []int   `json:"units,omitempty"`
	Window       int     `json:"window,omitempty"`
	LearningRate float64 `json:"learning_rate,omitempty"`
	Dropout      float64 `json:"dropout,omitempty"`
}

// apply returns o with c in it.
func (c Config) apply(o train.Options) train.Options {
	if len(c.Units) > 0 {
		o.Units = c.Units
	}
	if c.Window > 0 {
		o.Window = c.Window
	}
	if c.LearningRate > 0 {
		o.LearningRate = c.LearningRate
	}
	if c.Dropout > 0 {
		o.Dropout = []float64{c.Dropout}
	}
	return o
}

// Draw draws up to n different points; fewer if the space has no more. The same
// seed draws the same ones. Rates have three significant digits, so that what a
// table shows is what was tried.
func (s Space) Draw(n int, o train.Options, seed uint64) []Config {
	r := rand.New(rand.NewPCG(seed, 0x74756e65))
	var out []Config
	for misses := 0; len(out) < n && misses < 100; {
		c := s.draw(r, o)
		if slices.ContainsFunc(out, func(d Config) bool { return reflect.DeepEqual(c, d) }) {
			misses++
			continue
		}
		out = append(out, c)
	}
	return out
}

func (s Space) draw(r *rand.Rand, o train.Options) Config {
	pick := func(values []int, d int) int {
		if len(values) == 0 {
			return d
		}
		return values[r.IntN(len(values))]
	}
	own := o.Units
	if len(own) == 0 {
		own = []int{128} // Options' default
	}
	units, layers := pick(s.Units, own[0]), pick(s.Layers, len(own))
	var c Config
	if len(s.Units)+len(s.Layers) > 0 {
		c.Units = slices.Repeat([]int{units}, layers)
	}
	c.Window = pick(s.Window, 0)
	if len(s.LearningRate) > 0 {
		lo, hi := math.Log(s.LearningRate[0]), math.Log(s.LearningRate[1])
		c.LearningRate = round3(math.Exp(lo + r.Float64()*(hi-lo)))
	}
	if len(s.Dropout) > 0 {
		c.Dropout = round3(s.Dropout[0] + r.Float64()*(s.Dropout[1]-s.Dropout[0]))
	}
	return c
}

// round3 rounds v to three significant digits.
func round3(v float64) float64 {
	if v == 0 {
		return 0
	}
	e := math.Pow(10, 2-math.Floor(math.Log10(v)))
	return math.Round(v*e) / e
}
