package kernel

import "fmt"

// A Model is a graph with its weights packed for one tier. It is immutable and
// safe for concurrent use; it keeps nothing of the weights it was made from.
type Model struct {
	graph   Graph
	int8    bool
	tier    tier
	recur   int            // recurrent layers
	int8s   []int8Layer    // of an int8 model on the generic tier
	floats  []float32Layer // of a float32 model on the generic tier
	vectors []*vectorLayer // of either on another tier
	denses  []*dense
	outputs int
}

// An int8Layer is a recurrent layer packed for the generic tier: one of the two.
// It is no interface, through which the caller's rows would escape.
type int8Layer struct {
	lstm *lstmInt8
	gru  *gruInt8
}

func packInt8(l *QuantLayer, in int, layer Layer, first bool) int8Layer {
	if layer.Kind == GRU {
		return int8Layer{gru: packGRUInt8(l, in, layer.Units, first)}
	}
	return int8Layer{lstm: packLSTMInt8(l, in, layer.Units, first)}
}

func (l int8Layer) step(s *layerState, x []float32, xq [][2]float64) {
	if l.gru != nil {
		l.gru.step(s, x, xq)
	} else {
		l.lstm.step(s, x, xq)
	}
}

// A float32Layer is what int8Layer is, of a float32 model.
type float32Layer struct {
	lstm *lstmFloat32
	gru  *gruFloat32
}

func packFloat32(l *LayerWeights, in int, layer Layer) float32Layer {
	if layer.Kind == GRU {
		return float32Layer{gru: packGRUFloat32(l, in, layer.Units)}
	}
	return float32Layer{lstm: packLSTMFloat32(l, in, layer.Units)}
}

func (l float32Layer) step(s *layerState, x [][2]float32) {
	if l.gru != nil {
		l.gru.step(s, x)
	} else {
		l.lstm.step(s, x)
	}
}

// NewInt8 packs an int8 model. It takes 4 bytes an int8 weight on the generic
// tier. Errors are those of QuantWeights.Validate and Select, and ErrRange if
// an input within MaxInput could take a sum out of float32.
func NewInt8(q *QuantWeights) (*Model, error) {
	t, err := selected()
	if err != nil {
		return nil, err
	}
	return newInt8(t, q)
}

// NewInt8On is NewInt8 on the named tier, one of Tiers, whatever is selected:
// for measuring and comparing tiers in one process.
func NewInt8On(name string, q *QuantWeights) (*Model, error) {
	t, err := selectTier(name)
	if err != nil {
		return nil, err
	}
	return newInt8(t, q)
}

// newInt8 is NewInt8 on a given tier.
func newInt8(t tier, q *QuantWeights) (*Model, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	m := newModel(t, q.Graph, true)
	bound := float64(MaxInput)
	for i := range q.Layers {
		l, ql, in := q.Graph.Layers[i], &q.Layers[i], q.Graph.In(i)
		sums := newSums(ql.Bias, l.columns())
		if l.Kind == Dense {
			sums.addFloats(ql.Dense, bound)
			bound = sums.outputBound(l.Activation)
			m.denses = append(m.denses, packDense(t, ql.Dense, ql.Bias, in, l))
		} else {
			sums.addInt8(ql.Kernel, ql.KernelScale, bound)
			sums.addInt8(ql.Recurrent, ql.RecurrentScale, hiddenBound)
			bound = hiddenBound
			if t == generic {
				m.int8s = append(m.int8s, packInt8(ql, in, l, i == 0))
			} else {
				m.vectors = append(m.vectors, packVectorInt8(t, ql, in, l, i == 0))
			}
		}
		if err := sums.check(); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return m, nil
}

// NewFloat32 packs a float32 model. Errors are as for NewInt8.
func NewFloat32(w *Weights) (*Model, error) {
	t, err := selected()
	if err != nil {
		return nil, err
	}
	return newFloat32(t, w)
}

// NewFloat32On is NewFloat32 on the named tier.
func NewFloat32On(name string, w *Weights) (*Model, error) {
	t, err := selectTier(name)
	if err != nil {
		return nil, err
	}
	return newFloat32(t, w)
}

// newFloat32 is NewFloat32 on a given tier.
func newFloat32(t tier, w *Weights) (*Model, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	m := newModel(t, w.Graph, false)
	bound := float64(MaxInput)
	for i := range w.Layers {
		l, lw, in := w.Graph.Layers[i], &w.Layers[i], w.Graph.In(i)
		sums := newSums(lw.Bias, l.columns())
		sums.addFloats(lw.Kernel, bound)
		if l.Kind == Dense {
			bound = sums.outputBound(l.Activation)
			m.denses = append(m.denses, packDense(t, lw.Kernel, lw.Bias, in, l))
		} else {
			sums.addFloats(lw.Recurrent, hiddenBound)
			bound = hiddenBound
			if t == generic {
				m.floats = append(m.floats, packFloat32(lw, in, l))
			} else {
				m.vectors = append(m.vectors, packVectorFloat32(t, lw, in, l, i == 0))
			}
		}
		if err := sums.check(); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return m, nil
}

func newModel(t tier, g Graph, int8 bool) *Model {
	return &Model{graph: g.Clone(), int8: int8, tier: t, recur: g.Recurrent(), outputs: g.Outputs()}
}

// Graph returns a copy of the model's graph.
func (m *Model) Graph() Graph { return m.graph.Clone() }

// Int8 reports whether the model is int8, whose outputs are equal bits on
// every CPU.
func (m *Model) Int8() bool { return m.int8 }

// Tier is the tier the model is packed for.
func (m *Model) Tier() string { return m.tier.String() }
