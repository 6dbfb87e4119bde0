package train

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// A linearMap is the closed-form baseline: every output is a weighted sum of
// all values of the scaled window, fitted by least squares. A network that does
// not beat it is not worth shipping.
type linearMap struct {
	inputs, outputs int
	weights         []float32 // (inputs+1) × outputs, row-major; the last row is the intercept
}

const (
	// maxLinearInputs bounds the normal equations: 2048² float64 is 32 MiB.
	maxLinearInputs = 2048
	// maxLinearStored bounds what a report carries: 512 KiB before base64.
	maxLinearStored = 1 << 17
	// ridge is the weight of ‖B‖² beside the mean squared error, in scaled units.
	// It is far below any noise and keeps the normal equations positive definite
	// when sensors repeat each other.
	ridge = 1e-7
)

var errLinearTooLarge = errors.New("window too large for the linear baseline")

// windows are scaled windows with their scaled targets.
type windows interface {
	Len() int
	Window(i int, x, y []float32)
}

// fitLinear solves (XᵀX/n + ridge·I)·B = XᵀY/n over centred X and Y.
func fitLinear(ctx context.Context, src windows, inputs, outputs int) (*linearMap, error) {
	if inputs > maxLinearInputs {
		return nil, fmt.Errorf("%w: %d values, at most %d", errLinearTooLarge, inputs, maxLinearInputs)
	}
	s, err := sumsOf(ctx, src, inputs, outputs)
	if err != nil {
		return nil, err
	}
	b, err := s.solve()
	if err != nil {
		return nil, err
	}
	return s.linearMap(b), nil
}

// linearSums are what least squares need to know of windows: the means of
// inputs and outputs, and over the centred ones XᵀX/n, its upper triangle, XᵀY/n
// and the mean square of each output.
type linearSums struct {
	xm, ym, yy []float64
	gram       blas64.Symmetric
	cross      blas64.General // inputs × outputs
}

// sumsOf streams the windows in blocks, which are never held as a matrix.
func sumsOf(ctx context.Context, src windows, inputs, outputs int) (*linearSums, error) {
	n := src.Len()
	xm, ym, err := means(ctx, src, inputs, outputs)
	if err != nil {
		return nil, err
	}
	s := &linearSums{
		xm: xm, ym: ym, yy: make([]float64, outputs),
		gram:  blas64.Symmetric{N: inputs, Stride: inputs, Data: make([]float64, inputs*inputs), Uplo: blas.Upper},
		cross: blas64.General{Rows: inputs, Cols: outputs, Stride: outputs, Data: make([]float64, inputs*outputs)},
	}
	const block = 256
	xs, ys := make([]float64, block*inputs), make([]float64, block*outputs)
	x, y := make([]float32, inputs), make([]float32, outputs)
	for at := 0; at < n; at += block {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		rows := min(block, n-at)
		for r := range rows {
			src.Window(at+r, x, y)
			for j, v := range x {
				xs[r*inputs+j] = float64(v) - xm[j]
			}
			for j, v := range y {
				d := float64(v) - ym[j]
				ys[r*outputs+j] = d
				s.yy[j] += d * d / float64(n)
			}
		}
		xb := blas64.General{Rows: rows, Cols: inputs, Stride: inputs, Data: xs[:rows*inputs]}
		yb := blas64.General{Rows: rows, Cols: outputs, Stride: outputs, Data: ys[:rows*outputs]}
		blas64.Syrk(blas.Trans, 1/float64(n), xb, 1, s.gram)
		blas64.Gemm(blas.Trans, blas.NoTrans, 1/float64(n), xb, yb, 1, s.cross)
	}
	return s, nil
}

// linearMap is the map with the weights b, inputs × outputs, and the intercept
// that makes it right in the mean.
func (s *linearSums) linearMap(b *mat.Dense) *linearMap {
	inputs, outputs := s.cross.Rows, s.cross.Cols
	m := &linearMap{inputs: inputs, outputs: outputs, weights: make([]float32, (inputs+1)*outputs)}
	for o := range outputs {
		intercept := s.ym[o]
		for j := range inputs {
			m.weights[j*outputs+o] = float32(b.At(j, o))
			intercept -= s.xm[j] * b.At(j, o)
		}
		m.weights[inputs*outputs+o] = float32(intercept)
	}
	return m
}

func means(ctx context.Context, src windows, inputs, outputs int) (xm, ym []float64, err error) {
	xm, ym = make([]float64, inputs), make([]float64, outputs)
	x, y := make([]float32, inputs), make([]float32, outputs)
	for i := range src.Len() {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		src.Window(i, x, y)
		for j, v := range x {
			xm[j] += float64(v)
		}
		for j, v := range y {
			ym[j] += float64(v)
		}
	}
	for j := range xm {
		xm[j] /= float64(src.Len())
	}
	for j := range ym {
		ym[j] /= float64(src.Len())
	}
	return xm, ym, nil
}

// solve tries the ridge, and a larger one where rounding has made the matrix
// indefinite all the same.
func (s *linearSums) solve() (*mat.Dense, error) {
	for _, lambda := range []float64{ridge, 1e-4, 1e-2} {
		if b := s.solveRidge(lambda); b != nil {
			return b, nil
		}
	}
	return nil, errors.New("linear baseline: the normal equations cannot be solved")
}

// solveRidge solves with lambda times the mean of the inputs' variances added
// to each of them; nil if the matrix is not positive definite.
func (s *linearSums) solveRidge(lambda float64) *mat.Dense {
	n := s.gram.N
	trace := 0.0
	for i := range n {
		trace += s.gram.Data[i*n+i]
	}
	lambda *= max(trace/float64(n), math.SmallestNonzeroFloat32)
	gram := slices.Clone(s.gram.Data)
	for i := range n {
		gram[i*n+i] += lambda
	}
	var c mat.Cholesky
	if !c.Factorize(mat.NewSymDense(n, gram)) {
		return nil
	}
	var b mat.Dense
	err := c.SolveTo(&b, mat.NewDense(s.cross.Rows, s.cross.Cols, s.cross.Data))
	var condition mat.Condition
	if err == nil || errors.As(err, &condition) { // badly conditioned, but solved
		return &b
	}
	return nil
}

// predict writes the scaled outputs of one scaled window.
func (m *linearMap) predict(y, x []float32) {
	copy(y, m.weights[m.inputs*m.outputs:])
	for j, v := range x {
		row := m.weights[j*m.outputs:][:m.outputs]
		for o, w := range row {
			y[o] += v * w
		}
	}
}

// linearJSON is a linearMap in a report: weights as base64 of little-endian
// float32.
type linearJSON struct {
	Inputs  int    `json:"inputs"`
	Outputs int    `json:"outputs"`
	Weights string `json:"weights"`
}

// MarshalJSON implements json.Marshaler.
func (m *linearMap) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 4*len(m.weights))
	for _, w := range m.weights {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(w))
	}
	return json.Marshal(linearJSON{m.inputs, m.outputs, base64.StdEncoding.EncodeToString(b)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *linearMap) UnmarshalJSON(b []byte) error {
	var j linearJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	w, err := base64.StdEncoding.DecodeString(j.Weights)
	if err != nil {
		return fmt.Errorf("linear baseline: %w", err)
	}
	if j.Inputs < 1 || j.Inputs > maxLinearInputs || j.Outputs < 1 || j.Outputs > maxLinearStored || len(w) != 4*(j.Inputs+1)*j.Outputs {
		return fmt.Errorf("linear baseline of %d inputs and %d outputs with %d bytes of weights", j.Inputs, j.Outputs, len(w))
	}
	m.inputs, m.outputs = j.Inputs, j.Outputs
	m.weights = make([]float32, len(w)/4)
	for i := range m.weights {
		m.weights[i] = math.Float32frombits(binary.LittleEndian.Uint32(w[4*i:]))
	}
	return nil
}
