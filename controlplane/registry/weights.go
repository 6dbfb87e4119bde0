package registry

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// Float32 weights are kept as
//
//	offset  size  field
//	0       4     "SPW1"
//	4       4     n, length of the graph, little-endian
//	8       n     the graph, JSON
//	8+n     4·…   for each layer kernel, recurrent kernel, bias in Keras's
//	              layout, float32 little-endian
//
// Lengths follow from the graph. The blob they are in is named by its SHA-256,
// so there is no checksum of their own.
const weightsMagic = "SPW1"

const maxGraphJSON = 64 << 10

var errWeights = errors.New("not float32 weights")

type jsonGraph struct {
	Features int         `json:"features"`
	Layers   []jsonLayer `json:"layers"`
}

type jsonLayer struct {
	Kind       string `json:"kind"`
	Units      int    `json:"units"`
	Sequences  bool   `json:"sequences,omitempty"`
	Activation string `json:"activation"`
}

func appendWeights(b []byte, w *kernel.Weights) ([]byte, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	g := jsonGraph{Features: w.Graph.Features}
	for _, l := range w.Graph.Layers {
		g.Layers = append(g.Layers, jsonLayer{l.Kind.String(), l.Units, l.Sequences, l.Activation.String()})
	}
	text, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	b = append(b, weightsMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	for _, l := range w.Layers {
		for _, t := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for _, v := range t {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		}
	}
	return b, nil
}

func parseWeights(b []byte) (*kernel.Weights, error) {
	const head = len(weightsMagic) + 4
	if len(b) < head || string(b[:len(weightsMagic)]) != weightsMagic {
		return nil, errWeights
	}
	n := binary.LittleEndian.Uint32(b[len(weightsMagic):])
	b = b[head:]
	if n > maxGraphJSON || int(n) > len(b) {
		return nil, fmt.Errorf("graph of %d bytes: %w", n, errWeights)
	}
	g, err := parseGraph(b[:n])
	if err != nil {
		return nil, err
	}
	b = b[n:]
	w := &kernel.Weights{Graph: g}
	take := func(n int) []float32 {
		if len(b)/4 < n {
			err = fmt.Errorf("ends early: %w", errWeights)
			return nil
		}
		t := make([]float32, n)
		for i := range t {
			t[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		b = b[4*n:]
		return t
	}
	for i, l := range g.Layers {
		var lw kernel.LayerWeights
		columns, biases := l.Units, 1
		if l.Kind.Recurrent() {
			columns *= l.Kind.Gates()
		}
		if l.Kind == kernel.GRU {
			biases = 2
		}
		lw.Kernel = take(g.In(i) * columns)
		if l.Kind.Recurrent() {
			lw.Recurrent = take(l.Units * columns)
		}
		lw.Bias = take(biases * columns)
		if err != nil {
			return nil, err
		}
		w.Layers = append(w.Layers, lw)
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes too many: %w", len(b), errWeights)
	}
	return w, w.Validate()
}

func parseGraph(text []byte) (g kernel.Graph, err error) {
	var j jsonGraph
	if err := json.Unmarshal(text, &j); err != nil {
		return g, fmt.Errorf("graph: %w: %v", errWeights, err)
	}
	g.Features = j.Features
	for _, l := range j.Layers {
		layer := kernel.Layer{Units: l.Units, Sequences: l.Sequences}
		if layer.Kind, err = kernel.ParseKind(l.Kind); err != nil {
			return g, err
		}
		if layer.Activation, err = kernel.ParseActivation(l.Activation); err != nil {
			return g, err
		}
		g.Layers = append(g.Layers, layer)
	}
	return g, g.Validate() // bounds every length below
}
