package train

import (
	"errors"
	"fmt"
	"math"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// ErrInt8: the int8 model is worse than its float32 network by more than its
// task allows.
var ErrInt8 = errors.New("int8 costs too much")

// A Quantization says what making the int8 model of a float32 network cost.
type Quantization struct {
	Tensors []TensorError `json:"tensors"` // those that became int8, in the order of the layers
	Gate    Gate          `json:"gate"`
}

// A TensorError compares the values of an int8 tensor with the float32 weights
// it was made from.
type TensorError struct {
	Name  string  `json:"name"`      // as Keras names it: lstm/kernel, lstm_1/recurrent_kernel
	Shape [2]int  `json:"shape"`     // rows × columns; each column has its own scale
	Max   float64 `json:"max_error"` // largest |int8 − float32|
	// RMS is √(Σ(int8 − float32)² / Σ float32²): the size of the error as a part
	// of that of the weights, 0 of a tensor of zeros.
	RMS float64 `json:"rms_error"`
}

// A Gate bounds one figure of the int8 model, of the windows that the report is
// of: at most the float32 network's and the larger of Relative times that and
// Absolute.
type Gate struct {
	Metric   string  `json:"metric"` // lower is better
	Relative float64 `json:"relative"`
	Absolute float64 `json:"absolute"` // in the metric's unit
	Passed   bool    `json:"passed"`
}

// Allowed is the largest figure that passes.
func (g Gate) Allowed(float32s float64) float64 {
	return float32s + max(g.Relative*float32s, g.Absolute)
}

// gates are the bounds of the tasks. int8 costs at most 1 % of the metric on
// every data set measured (docs/training.md). The absolute part keeps the gate
// from a network that is nearly perfect, whose figure int8 may double without
// anybody being able to tell: a tenth of a row of remaining life, a thousandth
// of the variance of the targets, a hundredth of the windows told wrong, two of
// the rows told otherwise than by the float32 network.
var gates = map[string]Gate{
	RUL:      {Metric: "rmse", Relative: 0.01, Absolute: 0.1},
	Forecast: {Metric: "mse_scaled", Relative: 0.01, Absolute: 0.001},
	Classify: {Metric: "error", Relative: 0, Absolute: 0.01},
	Anomaly:  {Metric: "differs", Relative: 0, Absolute: 0.02},
}

// gate is that of the options for as many windows, not yet passed. One window more or
// less is chance.
func (o Options) gate(items int) Gate {
	g := gates[o.Task]
	if o.Task == Classify || o.Task == Anomaly {
		g.Absolute = max(g.Absolute, 1/float64(items))
		if o.Int8Bound != nil { // of windows
			g.Absolute = *o.Int8Bound
		}
		return g
	}
	if o.Int8Bound != nil {
		g.Relative, g.Absolute = *o.Int8Bound, 0
	}
	return g
}

// pass holds the figures against the gate.
func (g Gate) pass(figures Pair) Gate {
	g.Passed = figures.Int8[g.Metric] <= g.Allowed(figures.Float32[g.Metric]) // false of NaN
	return g
}

// CheckInt8 returns an error that wraps ErrInt8, with the figures and what to do
// about them, if the report is of a training whose gate refused the int8 model.
func (r Report) CheckInt8() error {
	if r.Quantization == nil || r.Quantization.Gate.Passed {
		return nil
	}
	g := r.Quantization.Gate
	float32s, int8s := r.Metrics.Float32[g.Metric], r.Metrics.Int8[g.Metric]
	worst := TensorError{RMS: -1}
	for _, t := range r.Quantization.Tensors {
		if t.RMS > worst.RMS {
			worst = t
		}
	}
	return fmt.Errorf("%w: %s %.5g in float32, %.5g in int8, at most %.5g passes; the tensor with the largest error is %s, %.2g %% of its weights: "+
		"train it longer, with a smaller learning rate or an L2 penalty, or allow more with --int8-bound",
		ErrInt8, g.Metric, float32s, int8s, g.Allowed(float32s), worst.Name, 100*worst.RMS)
}

// tensorErrors compares q with the weights it was made from.
func tensorErrors(w *kernel.Weights, q *kernel.QuantWeights) []TensorError {
	errs := []TensorError{}
	seen := map[kernel.Kind]int{}
	for i, l := range w.Graph.Layers {
		if !l.Kind.Recurrent() {
			continue
		}
		layer := l.Kind.String()
		if n := seen[l.Kind]; n > 0 {
			layer = fmt.Sprintf("%s_%d", layer, n)
		}
		seen[l.Kind]++
		errs = append(errs,
			tensorError(layer+"/kernel", w.Layers[i].Kernel, q.Layers[i].Kernel, q.Layers[i].KernelScale),
			tensorError(layer+"/recurrent_kernel", w.Layers[i].Recurrent, q.Layers[i].Recurrent, q.Layers[i].RecurrentScale))
	}
	return errs
}

// tensorError compares a row-major tensor with its int8 form, scale being that
// of each column.
func tensorError(name string, w []float32, q []int8, scale []float32) TensorError {
	e := TensorError{Name: name, Shape: [2]int{len(w) / len(scale), len(scale)}}
	var errs, weights float64
	for i, v := range w {
		d := float64(float32(q[i])*scale[i%len(scale)]) - float64(v)
		e.Max = max(e.Max, math.Abs(d))
		errs += d * d
		weights += float64(v) * float64(v)
	}
	if weights > 0 {
		e.RMS = math.Sqrt(errs / weights)
	}
	return e
}
