package train

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
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

// fitLinear solves (XᵀX/n + ridge·I)·B = XᵀY/n over centred X and Y, by
// Cholesky. The scaled windows are streamed in blocks, never held as a matrix.
func fitLinear(ctx context.Context, src *dataset.Source, inputs, outputs int) (*linearMap, error) {
	if inputs > maxLinearInputs {
		return nil, fmt.Errorf("%w: %d values, at most %d", errLinearTooLarge, inputs, maxLinearInputs)
	}
	n := src.Len()
	xm, ym, err := means(ctx, src, inputs, outputs)
	if err != nil {
		return nil, err
	}
	gram := blas64.Symmetric{N: inputs, Stride: inputs, Data: make([]float64, inputs*inputs), Uplo: blas.Upper}
	cross := blas64.General{Rows: inputs, Cols: outputs, Stride: outputs, Data: make([]float64, inputs*outputs)}
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
				ys[r*outputs+j] = float64(v) - ym[j]
			}
		}
		xb := blas64.General{Rows: rows, Cols: inputs, Stride: inputs, Data: xs[:rows*inputs]}
		yb := blas64.General{Rows: rows, Cols: outputs, Stride: outputs, Data: ys[:rows*outputs]}
		blas64.Syrk(blas.Trans, 1/float64(n), xb, 1, gram)
		blas64.Gemm(blas.Trans, blas.NoTrans, 1/float64(n), xb, yb, 1, cross)
	}
	b, err := solve(gram, cross)
	if err != nil {
		return nil, err
	}
	m := &linearMap{inputs: inputs, outputs: outputs, weights: make([]float32, (inputs+1)*outputs)}
	for o := range outputs {
		intercept := ym[o]
		for j := range inputs {
			m.weights[j*outputs+o] = float32(b.At(j, o))
			intercept -= xm[j] * b.At(j, o)
		}
		m.weights[inputs*outputs+o] = float32(intercept)
	}
	return m, nil
}

func means(ctx context.Context, src *dataset.Source, inputs, outputs int) (xm, ym []float64, err error) {
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
func solve(gram blas64.Symmetric, cross blas64.General) (*mat.Dense, error) {
	n := gram.N
	trace := 0.0
	for i := range n {
		trace += gram.Data[i*n+i]
	}
	added := 0.0
	for _, lambda := range []float64{ridge, 1e-4, 1e-2} {
		lambda *= max(trace/float64(n), math.SmallestNonzeroFloat32)
		for i := range n {
			gram.Data[i*n+i] += lambda - added
		}
		added = lambda
		var c mat.Cholesky
		if !c.Factorize(mat.NewSymDense(n, gram.Data)) {
			continue
		}
		var b mat.Dense
		err := c.SolveTo(&b, mat.NewDense(cross.Rows, cross.Cols, cross.Data))
		var condition mat.Condition
		if err == nil || errors.As(err, &condition) { // badly conditioned, but solved
			return &b, nil
		}
	}
	return nil, errors.New("linear baseline: the normal equations cannot be solved")
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
