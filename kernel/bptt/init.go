package bptt

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas/blas64"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// Init returns new weights for g with the initializers that Keras gives an
// LSTM, a GRU and a Dense: glorot uniform kernels, orthogonal recurrent kernels,
// zero biases, and 1 in the bias of an LSTM's forget gates (unit_forget_bias,
// Jozefowicz et al. 2015). The seed and g determine the weights.
func Init(g kernel.Graph, seed uint64) (*kernel.Weights, error) {
	w, err := kernel.NewWeights(g)
	if err != nil {
		return nil, err
	}
	for i, l := range w.Layers {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		units := g.Layers[i].Units
		glorotUniform(rng, l.Kernel, g.In(i), len(l.Kernel)/g.In(i))
		if g.Layers[i].Kind.Recurrent() {
			orthogonal(rng, l.Recurrent, units, len(l.Recurrent)/units)
		}
		if g.Layers[i].Kind == kernel.LSTM {
			for j := gateF * units; j < (gateF+1)*units; j++ {
				l.Bias[j] = 1
			}
		}
	}
	return w, nil
}

// glorotUniform fills w, in×out, evenly from ±√(6/(in+out)) (Glorot and Bengio
// 2010, eq. 16). Keras takes all gates of a recurrent layer as out.
func glorotUniform(rng *rand.Rand, w []float32, in, out int) {
	limit := math.Sqrt(6 / float64(in+out))
	for i := range w {
		w[i] = float32((2*rng.Float64() - 1) * limit)
	}
}

// orthogonal fills w, rows×cols with rows ≤ cols, with orthonormal rows spread
// evenly over all such matrices (Saxe et al. 2014).
//
// Keras takes Q of a QR decomposition of a normal matrix, with the signs that
// make the diagonal of R positive. Gram–Schmidt gives that Q; the second pass
// over each row keeps it orthogonal to rounding (Giraud et al. 2005).
func orthogonal(rng *rand.Rand, w []float32, rows, cols int) {
	q := make([]float64, rows*cols)
	row := func(i int) blas64.Vector {
		return blas64.Vector{N: cols, Inc: 1, Data: q[i*cols : (i+1)*cols]}
	}
	for i := range rows {
		r := row(i)
		for j := range r.Data {
			r.Data[j] = rng.NormFloat64()
		}
		for range 2 {
			for k := range i {
				blas64.Axpy(-blas64.Dot(row(k), r), row(k), r)
			}
		}
		blas64.Scal(1/blas64.Nrm2(r), r)
	}
	for i, v := range q {
		w[i] = float32(v)
	}
}
