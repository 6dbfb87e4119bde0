// Package kernel runs small LSTM and GRU networks on one CPU core, in float32 and
// in int8, one step at a time with the state kept.
//
// The int8 numbers are part of the model format: the same model and inputs
// give the same output bits on every CPU, stepping, over a window or in a
// batch. The rules that make it so are written where they are applied; in
// short, sums of int8 products are exact int32, and every other multiply and
// add is float32 rounded separately (written float32(x*y) + z, which no Go
// compiler fuses), in one fixed order, with our own tanh and exp.
//
// A Model is packed once by NewInt8 or NewFloat32, is immutable and serves any
// number of goroutines; each brings its own State.
package kernel

import (
	"fmt"
	"math"
)

// ABI numbers the numeric rules and tensor layouts. A release names the ABI
// its golden outputs were recorded under.
const ABI = 1

// Limits of a Graph. Int32 sums of int8 products are exact up to MaxUnits:
// 1024·127² < 2³¹.
const (
	MaxFeatures = 256
	MaxUnits    = 1024
	MaxLayers   = 8
)

// gates is the number of gates of an LSTM, in Keras's order everywhere in this
// project: input i, forget f, cell candidate c, output o.
const gates = 4

const (
	gateI = iota
	gateF
	gateC
	gateO
)

// gruGates is the number of gates of a GRU, in Keras's order: update z, reset r,
// candidate h.
const gruGates = 3

const (
	gateZ = iota
	gateR
	gateH
)

// A Kind is the kind of a Layer.
type Kind uint8

const (
	// LSTM is the forget-gate LSTM of Gers et al. 2000 as Keras computes it:
	// sigmoid gates, tanh candidate and output, no peepholes.
	LSTM Kind = iota + 1
	// Dense is a matrix product, a bias and an Activation.
	Dense
	// GRU is the gated recurrent unit of Cho et al. 2014 as Keras computes it by
	// default: reset after the product (reset_after), the form of cuDNN.
	GRU
)

// Recurrent reports whether layers of kind k carry a state from step to step.
func (k Kind) Recurrent() bool { return k == LSTM || k == GRU }

// Gates is how many gates a unit has: 4 in an LSTM (i, f, c, o), 3 in a GRU (z,
// r, h), 0 in a Dense layer.
func (k Kind) Gates() int {
	switch k {
	case LSTM:
		return gates
	case GRU:
		return gruGates
	}
	return 0
}

func (k Kind) String() string {
	switch k {
	case LSTM:
		return "lstm"
	case Dense:
		return "dense"
	case GRU:
		return "gru"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// ParseKind is the inverse of Kind.String.
func ParseKind(s string) (Kind, error) {
	switch s {
	case "lstm":
		return LSTM, nil
	case "dense":
		return Dense, nil
	case "gru":
		return GRU, nil
	}
	return 0, fmt.Errorf("layer kind %q: want lstm, gru or dense: %w", s, ErrShape)
}

// An Activation is the function after a Dense layer. An LSTM or GRU has none of
// its own: its field is Linear.
type Activation uint8

const (
	Linear Activation = iota
	ReLU
	Sigmoid
	Softmax
)

var activationNames = [...]string{Linear: "linear", ReLU: "relu", Sigmoid: "sigmoid", Softmax: "softmax"}

func (a Activation) String() string {
	if int(a) < len(activationNames) {
		return activationNames[a]
	}
	return fmt.Sprintf("Activation(%d)", uint8(a))
}

// ParseActivation is the inverse of Activation.String; "" is Linear.
func ParseActivation(s string) (Activation, error) {
	if s == "" {
		return Linear, nil
	}
	for a, name := range activationNames {
		if s == name {
			return Activation(a), nil
		}
	}
	return 0, fmt.Errorf("activation %q: want linear, relu, sigmoid or softmax: %w", s, ErrShape)
}

// A Layer is one layer of a Graph.
type Layer struct {
	Kind  Kind
	Units int // hidden size of an LSTM or GRU, outputs of a Dense
	// Sequences is Keras's return_sequences: the layer hands on its hidden state
	// after every step rather than after the last one.
	Sequences  bool
	Activation Activation // of a Dense
}

// columns is the number of sums a row of inputs gives: units times gates.
func (l Layer) columns() int { return max(l.Kind.Gates(), 1) * l.Units }

// A Graph is a stack of LSTM and GRU layers followed by Dense layers.
//
// Every recurrent layer but the last must have Sequences. If the last one has it
// too, the Dense layers are applied to each step and a window of n steps gives n
// rows of output; otherwise it gives one row, that of its last step.
type Graph struct {
	Features int // values in one input row
	Layers   []Layer
}

// Validate reports the first thing wrong with g; its errors match ErrShape.
func (g Graph) Validate() error {
	if g.Features < 1 || g.Features > MaxFeatures {
		return fmt.Errorf("graph has %d features, want 1 to %d: %w", g.Features, MaxFeatures, ErrShape)
	}
	if len(g.Layers) < 1 || len(g.Layers) > MaxLayers {
		return fmt.Errorf("graph has %d layers, want 1 to %d: %w", len(g.Layers), MaxLayers, ErrShape)
	}
	for i, l := range g.Layers {
		if err := g.validateLayer(i, l); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return nil
}

func (g Graph) validateLayer(i int, l Layer) error {
	switch {
	case l.Units < 1 || l.Units > MaxUnits:
		return fmt.Errorf("%d units, want 1 to %d: %w", l.Units, MaxUnits, ErrShape)
	case !l.Kind.Recurrent() && l.Kind != Dense:
		return fmt.Errorf("%v, want lstm, gru or dense: %w", l.Kind, ErrShape)
	case int(l.Activation) >= len(activationNames):
		return fmt.Errorf("%v is unknown: %w", l.Activation, ErrShape)
	case l.Kind.Recurrent() && l.Activation != Linear:
		return fmt.Errorf("activation %v on %v, want none: %w", l.Activation, l.Kind, ErrShape)
	case l.Kind == Dense && l.Sequences:
		return fmt.Errorf("sequences on a dense layer, want it on the recurrent one before: %w", ErrShape)
	case i == 0 && !l.Kind.Recurrent():
		return fmt.Errorf("the first layer is %v, want lstm or gru: %w", l.Kind, ErrShape)
	case i > 0 && l.Kind.Recurrent() && !g.Layers[i-1].Kind.Recurrent():
		return fmt.Errorf("%v after a dense layer: %w", l.Kind, ErrShape)
	case i > 0 && l.Kind.Recurrent() && !g.Layers[i-1].Sequences:
		return fmt.Errorf("%v after a layer that hands on its last state only, want sequences there: %w", l.Kind, ErrShape)
	}
	return nil
}

// In is the number of inputs of a layer.
func (g Graph) In(layer int) int {
	if layer == 0 {
		return g.Features
	}
	return g.Layers[layer-1].Units
}

// Outputs is the number of values in one row of output, the units of the last
// layer.
func (g Graph) Outputs() int { return g.Layers[len(g.Layers)-1].Units }

// Recurrent is the number of LSTM and GRU layers; they are the first ones.
func (g Graph) Recurrent() int {
	n := 0
	for n < len(g.Layers) && g.Layers[n].Kind.Recurrent() {
		n++
	}
	return n
}

// Sequences reports whether a window gives a row of output for each step.
func (g Graph) Sequences() bool { return g.Layers[g.Recurrent()-1].Sequences }

// OutputLen is the number of values that a window of the given steps gives;
// math.MaxInt, which no slice has, if an int cannot hold it.
func (g Graph) OutputLen(steps int) int {
	if g.Sequences() {
		return product(steps, g.Outputs())
	}
	return g.Outputs()
}

// product is a·b for sizes, math.MaxInt if an int cannot hold it: 32 bits are
// full at 1024 outputs of 2²² steps, a window of 16 MiB.
func product(a, b int) int {
	if b > 0 && a > math.MaxInt/b {
		return math.MaxInt
	}
	return a * b
}

// Clone returns a copy that shares nothing with g.
func (g Graph) Clone() Graph {
	g.Layers = append([]Layer(nil), g.Layers...)
	return g
}

// LayerWeights are the float32 parameters of one layer in Keras's layout, all
// row-major:
//
//	LSTM   Kernel [in][4·units], Recurrent [units][4·units], Bias [4·units],
//	       the columns of a row being gates i, f, c, o of units columns each
//	       (keras-team/keras keras/src/layers/rnn/lstm.py)
//	GRU    Kernel [in][3·units], Recurrent [units][3·units], Bias [2][3·units],
//	       columns likewise being gates z, r, h; the first row of the bias is
//	       added to the input's product, the second to the recurrent one's
//	       (keras-team/keras keras/src/layers/rnn/gru.py, reset_after)
//	Dense  Kernel [in][units], Bias [units]
type LayerWeights struct {
	Kernel, Recurrent, Bias []float32
}

// Weights are the float32 parameters of a Graph.
type Weights struct {
	Graph  Graph
	Layers []LayerWeights
}

// NewWeights returns zero weights of g's shapes.
func NewWeights(g Graph) (*Weights, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	w := &Weights{Graph: g.Clone(), Layers: make([]LayerWeights, len(g.Layers))}
	for i := range g.Layers {
		k, r, b := g.sizes(i)
		w.Layers[i] = LayerWeights{make([]float32, k), make([]float32, r), make([]float32, b)}
	}
	return w, nil
}

// sizes are the lengths of a layer's kernel, recurrent kernel and bias. The
// limits keep them within 2²² + 2²², far from overflow in 32 bits.
func (g Graph) sizes(layer int) (kernel, recurrent, bias int) {
	l, in := g.Layers[layer], g.In(layer)
	switch n := l.columns(); l.Kind {
	case LSTM:
		return in * n, l.Units * n, n
	case GRU:
		return in * n, l.Units * n, 2 * n
	default:
		return in * n, 0, n
	}
}

// Validate checks the shapes and that every weight is finite.
func (w *Weights) Validate() error {
	if err := w.Graph.Validate(); err != nil {
		return err
	}
	if len(w.Layers) != len(w.Graph.Layers) {
		return fmt.Errorf("weights of %d layers for a graph of %d: %w", len(w.Layers), len(w.Graph.Layers), ErrShape)
	}
	for i, l := range w.Layers {
		k, r, b := w.Graph.sizes(i)
		for _, t := range []tensor{{"kernel", k, l.Kernel}, {"recurrent kernel", r, l.Recurrent}, {"bias", b, l.Bias}} {
			if err := t.validate(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// Clone returns a copy that shares nothing with w.
func (w *Weights) Clone() *Weights {
	c := &Weights{Graph: w.Graph.Clone(), Layers: make([]LayerWeights, len(w.Layers))}
	for i, l := range w.Layers {
		c.Layers[i] = LayerWeights{
			append([]float32(nil), l.Kernel...), append([]float32(nil), l.Recurrent...), append([]float32(nil), l.Bias...),
		}
	}
	return c
}

// A tensor is a float32 parameter under validation.
type tensor struct {
	name string
	want int
	v    []float32
}

func (t tensor) validate(layer int) error {
	if len(t.v) != t.want {
		return &ShapeError{fmt.Sprintf("layer %d %s", layer, t.name), t.want, len(t.v)}
	}
	for i, v := range t.v {
		if !finite(v) {
			return fmt.Errorf("layer %d %s value %d is %v: %w", layer, t.name, i, v, ErrNonFinite)
		}
	}
	return nil
}

// finite reports whether v is neither NaN nor infinite.
func finite(v float32) bool { return math.Float32bits(v)&0x7f800000 != 0x7f800000 }
