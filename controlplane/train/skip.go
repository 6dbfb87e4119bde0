package train

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
)

// skipRidges are the penalties tried for a skip path, as parts of the mean
// variance of its inputs, the weakest first.
var skipRidges = []float64{1e-4, 1e-3, 1e-2, 1e-1, 1}

// defaultSkipRidge is taken without validation windows.
const defaultSkipRidge = 1e-2

// fitSkip fits the skip path, unless the run goes on from a version, whose
// weights belong to the one it has: ridge regression of each target's outputs on
// its own column of the window, with the penalty that has the least error on the
// validation windows.
func (r *run) fitSkip(ctx context.Context) error {
	if !r.o.Skip {
		return nil
	}
	if r.o.From != nil {
		r.skip = predictor.Skip(r.o.From.Model)
	} else {
		var err error
		if r.skip, err = r.newSkip(ctx); err != nil {
			return err
		}
	}
	path, err := kernel.NewSkip(r.skip, r.plan.Inputs())
	if err != nil {
		return err
	}
	r.src = r.src.WithSkip(path)
	if r.val != nil {
		r.val = r.val.WithSkip(path)
	}
	return nil
}

func (r *run) newSkip(ctx context.Context) (*kernel.SkipWeights, error) {
	if r.o.Window > maxLinearInputs {
		return nil, fmt.Errorf("%w: a skip path of a window of %d rows, at most %d", ErrOptions, r.o.Window, maxLinearInputs)
	}
	targets, outputs := len(r.table.Targets), r.train.Outputs()
	weights, bias, features := make([]float32, r.o.Window*outputs), make([]float32, outputs), make([]int, outputs)
	for t, name := range r.table.Targets {
		f := slices.Index(r.table.Features, name)
		if f >= 0 {
			f = r.plan.InputOf(f)
		}
		for o := t; o < outputs; o += targets {
			features[o] = f
		}
		if f < 0 {
			r.warn("target %q is not a feature and has no skip path", name)
			continue
		}
		m, lambda, err := r.fitColumn(ctx, t, f)
		if err != nil {
			return nil, err
		}
		r.skipRidge = append(r.skipRidge, lambda)
		for h := range m.outputs {
			for row := range m.inputs {
				weights[row*outputs+h*targets+t] = m.weights[row*m.outputs+h]
			}
			bias[h*targets+t] = m.weights[m.inputs*m.outputs+h]
		}
	}
	if len(r.skipRidge) == 0 {
		return nil, fmt.Errorf("%w: a skip path needs a target among the features", ErrOptions)
	}
	return kernel.QuantizeSkip(weights, bias, features)
}

// fitColumn fits the outputs of target t to the column of input f, and returns
// the penalty it chose.
func (r *run) fitColumn(ctx context.Context, t, f int) (*linearMap, float64, error) {
	steps := r.train.Outputs() / len(r.table.Targets)
	column := func(src *dataset.Source) *columnWindows {
		return &columnWindows{
			src: src, features: r.plan.Inputs(), feature: f, targets: len(r.table.Targets), target: t,
			x: make([]float32, r.src.Inputs()), y: make([]float32, r.train.Outputs()),
		}
	}
	train, err := sumsOf(ctx, column(r.src), r.o.Window, steps)
	if err != nil {
		return nil, 0, err
	}
	ridges := []float64{defaultSkipRidge}
	var val *linearSums
	if r.val != nil {
		ridges = skipRidges
		if val, err = sumsOf(ctx, column(r.val), r.o.Window, steps); err != nil {
			return nil, 0, err
		}
	}
	var best *linearMap
	chosen, least := 0.0, math.Inf(1)
	for _, lambda := range ridges {
		b := train.solveRidge(lambda)
		if b == nil {
			continue
		}
		m := train.linearMap(b)
		if e := val.errorOf(m); best == nil || e < least {
			best, chosen, least = m, lambda, e
		}
	}
	if best == nil {
		return nil, 0, fmt.Errorf("skip path of target %q: the normal equations cannot be solved", r.table.Targets[t])
	}
	return best, chosen, nil
}

// errorOf is the mean squared error of m on the windows that s is of; 0 if s is
// nil.
func (s *linearSums) errorOf(m *linearMap) float64 {
	if s == nil {
		return 0
	}
	n, sum := s.gram.N, 0.0
	gram := mat.NewSymDense(n, s.gram.Data)
	w, gw := mat.NewVecDense(n, nil), mat.NewVecDense(n, nil)
	for o := range m.outputs {
		shift := s.ym[o] - float64(m.weights[n*m.outputs+o])
		dot := 0.0
		for j := range n {
			v := float64(m.weights[j*m.outputs+o])
			w.SetVec(j, v)
			shift -= v * s.xm[j]
			dot += v * s.cross.Data[j*m.outputs+o]
		}
		gw.MulVec(gram, w)
		sum += s.yy[o] - 2*dot + mat.Dot(w, gw) + shift*shift
	}
	return sum / float64(m.outputs)
}

// columnWindows are the windows of a source as one target's column and outputs.
type columnWindows struct {
	src               *dataset.Source
	features, feature int
	targets, target   int
	x, y              []float32 // of the source
}

// Len is the number of windows.
func (c *columnWindows) Len() int { return c.src.Len() }

// Window fills x with the column of window i and y with the target's outputs.
func (c *columnWindows) Window(i int, x, y []float32) {
	c.src.Window(i, c.x, c.y)
	for r := range x {
		x[r] = c.x[r*c.features+c.feature]
	}
	for h := range y {
		y[h] = c.y[h*c.targets+c.target]
	}
}
