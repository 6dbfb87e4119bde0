package bptt

import (
	"fmt"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// ClassWeighted returns src with a weight for each window's class, as
// class_weight in Keras's fit: the class is that of the largest target, or of a
// single output 0 below 0.5 and else 1. If src is Weighted the weights multiply.
// It reads every target once.
//
// An error matches ErrConfig: a weight that is negative or not finite, another
// number of weights than of classes, or a graph with an output for every step.
func ClassWeighted(src Source, g kernel.Graph, weights []float32) (Source, error) {
	classes := max(g.Outputs(), 2)
	if len(weights) != classes {
		return nil, fmt.Errorf("%d class weights for %d classes: %w", len(weights), classes, ErrConfig)
	}
	for class, w := range weights {
		if !(w >= 0) || !isFinite(float64(w)) {
			return nil, fmt.Errorf("weight %v of class %d, want a finite one of at least 0: %w", w, class, ErrConfig)
		}
	}
	if g.Sequences() {
		return nil, fmt.Errorf("class weights with an output for every step: weigh the windows instead: %w", ErrConfig)
	}
	own, _ := src.(Weighted)
	c := &classWeighted{Source: src, weights: make([]float32, src.Len())}
	x, y := make([]float32, src.Steps()*g.Features), make([]float32, g.Outputs())
	for i := range c.weights {
		src.Window(i, x, y)
		c.weights[i] = weights[classOf(y)]
		if own != nil {
			c.weights[i] *= own.Weight(i)
		}
	}
	return c, nil
}

// classOf is the class that a target names.
func classOf(y []float32) int {
	if len(y) == 1 {
		if y[0] < 0.5 {
			return 0
		}
		return 1
	}
	class := 0
	for k, v := range y {
		if v > y[class] {
			class = k
		}
	}
	return class
}

// classWeighted is a Source with a weight for each window.
type classWeighted struct {
	Source
	weights []float32
}

func (c *classWeighted) Weight(i int) float32 { return c.weights[i] }

// Padding keeps the rows of a Padded that are none.
func (c *classWeighted) Padding(i int) int { return paddingOf(c.Source, i) }

// Continues keeps the chains of a Continuer.
func (c *classWeighted) Continues(i int) bool { return continues(c.Source, i) }
