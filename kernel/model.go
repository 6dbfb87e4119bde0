package kernel

import (
	"fmt"
	"math"
)

// A Model is a graph with its weights packed for one tier. It is immutable and
// safe for concurrent use; it keeps nothing of the weights it was made from.
type Model struct {
	graph   Graph
	int8    bool
	tier    tier
	recur   int            // LSTM layers
	int8s   []*lstmInt8    // of an int8 model
	floats  []*lstmFloat32 // of a float32 model
	denses  []*dense
	outputs int
}

// NewInt8 packs an int8 model. It takes 4 bytes an int8 weight on the generic
// tier. Errors are those of QuantWeights.Validate and Select, and ErrRange if
// an input within MaxInput could take a sum out of float32.
func NewInt8(q *QuantWeights) (*Model, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	m, err := newModel(q.Graph, true)
	if err != nil {
		return nil, err
	}
	bound := float64(MaxInput)
	for i := range q.Layers {
		l, ql, in := q.Graph.Layers[i], &q.Layers[i], q.Graph.In(i)
		if l.Kind == Dense {
			if bound, err = denseBound(ql.Dense, ql.Bias, bound, l.Activation); err != nil {
				return nil, fmt.Errorf("layer %d: %w", i, err)
			}
			m.denses = append(m.denses, packDense(ql.Dense, ql.Bias, in, l))
			continue
		}
		err := lstmBound(ql.Bias, bound,
			func(j int) float64 { return math.Abs(float64(ql.Kernel[j])) * float64(ql.KernelScale[j%len(ql.Bias)]) }, len(ql.Kernel),
			func(j int) float64 {
				return math.Abs(float64(ql.Recurrent[j])) * float64(ql.RecurrentScale[j%len(ql.Bias)])
			}, len(ql.Recurrent))
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		bound = hiddenBound
		m.int8s = append(m.int8s, packLSTMInt8(ql, in, l.Units, i == 0))
	}
	return m, nil
}

// NewFloat32 packs a float32 model. Errors are as for NewInt8.
func NewFloat32(w *Weights) (*Model, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	m, err := newModel(w.Graph, false)
	if err != nil {
		return nil, err
	}
	bound := float64(MaxInput)
	for i := range w.Layers {
		l, lw, in := w.Graph.Layers[i], &w.Layers[i], w.Graph.In(i)
		if l.Kind == Dense {
			if bound, err = denseBound(lw.Kernel, lw.Bias, bound, l.Activation); err != nil {
				return nil, fmt.Errorf("layer %d: %w", i, err)
			}
			m.denses = append(m.denses, packDense(lw.Kernel, lw.Bias, in, l))
			continue
		}
		err := lstmBound(lw.Bias, bound,
			func(j int) float64 { return math.Abs(float64(lw.Kernel[j])) }, len(lw.Kernel),
			func(j int) float64 { return math.Abs(float64(lw.Recurrent[j])) }, len(lw.Recurrent))
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		bound = hiddenBound
		m.floats = append(m.floats, packLSTMFloat32(lw, in, l.Units))
	}
	return m, nil
}

func newModel(g Graph, int8 bool) (*Model, error) {
	t, err := selected()
	if err != nil {
		return nil, err
	}
	return &Model{graph: g.Clone(), int8: int8, tier: t, recur: g.Recurrent(), outputs: g.Outputs()}, nil
}

// Graph returns a copy of the model's graph.
func (m *Model) Graph() Graph { return m.graph.Clone() }

// Int8 reports whether the model is int8, whose outputs are equal bits on
// every CPU.
func (m *Model) Int8() bool { return m.int8 }

// Tier is the tier the model is packed for.
func (m *Model) Tier() string { return m.tier.String() }

// maxSum is what the exact magnitudes of a sum's terms may add up to: half the
// largest float32, so that rounding, at most 2¹¹ operations of 2⁻²⁴ each,
// cannot reach infinity.
const maxSum = math.MaxFloat32 / 2

// hiddenBound is above any |h|: the rational tanh stays within 1 + 4e-7.
const hiddenBound = 1 + 1e-6

// lstmBound checks that every gate's sum stays within maxSum for inputs up to
// bound, given the magnitudes of the kernel's and recurrent kernel's weights.
func lstmBound(bias []float32, bound float64, kernel func(int) float64, nk int, recurrent func(int) float64, nr int) error {
	sum := make([]float64, len(bias))
	for j, b := range bias {
		sum[j] = math.Abs(float64(b))
	}
	for i := range nk {
		sum[i%len(sum)] += kernel(i) * bound
	}
	for i := range nr {
		sum[i%len(sum)] += recurrent(i) * hiddenBound
	}
	return checkSums(sum)
}

// denseBound is lstmBound for a dense layer; it returns a bound of its outputs.
func denseBound(kernel, bias []float32, bound float64, a Activation) (float64, error) {
	sum := make([]float64, len(bias))
	for j, b := range bias {
		sum[j] = math.Abs(float64(b))
	}
	for i, w := range kernel {
		sum[i%len(sum)] += math.Abs(float64(w)) * bound
	}
	if err := checkSums(sum); err != nil {
		return 0, err
	}
	if a == Sigmoid || a == Softmax {
		return hiddenBound, nil
	}
	top := 0.0
	for _, s := range sum {
		top = max(top, s)
	}
	return top * (1 + 1e-3), nil // the rounding of its own sum
}

func checkSums(sum []float64) error {
	for j, s := range sum {
		if s > maxSum {
			return fmt.Errorf("weights of column %d sum to %.3g for the largest input, want at most %.3g: %w", j, s, maxSum, ErrRange)
		}
	}
	return nil
}
