package bptt

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// params64 are a graph's parameters in float64, laid out as kernel.LayerWeights.
type params64 [][3][]float64

func toParams64(w *kernel.Weights) params64 {
	var p params64
	for _, l := range w.Layers {
		var t [3][]float64
		for i, v := range [][]float32{l.Kernel, l.Recurrent, l.Bias} {
			for _, x := range v {
				t[i] = append(t[i], float64(x))
			}
		}
		p = append(p, t)
	}
	return p
}

// states64 are the hidden and the cell state of every layer.
type states64 [][2][]float64

func zeroStates(g kernel.Graph) states64 {
	s := make(states64, len(g.Layers))
	for i, l := range g.Layers {
		s[i] = [2][]float64{make([]float64, l.Units), make([]float64, l.Units)}
	}
	return s
}

// referenceOutput runs one window through g by the definitions, in float64.
func referenceOutput(g kernel.Graph, p params64, window []float32) [][]float64 {
	return referenceFrom(g, p, zeroStates(g), window, func(int, [][]float64) {})
}

// referenceFrom is referenceOutput from states, which it replaces by those after
// the window; drop changes the outputs of each layer.
func referenceFrom(g kernel.Graph, p params64, states states64, window []float32, drop func(layer int, rows [][]float64)) [][]float64 {
	rows := make([][]float64, len(window)/g.Features)
	for t := range rows {
		for _, x := range window[t*g.Features : (t+1)*g.Features] {
			rows[t] = append(rows[t], float64(x))
		}
	}
	for i, l := range g.Layers {
		switch l.Kind {
		case kernel.LSTM:
			rows = referenceLSTM(l, p[i], &states[i], rows)
		case kernel.GRU:
			rows = referenceGRU(l, p[i], &states[i], rows)
		default:
			for t := range rows {
				rows[t] = referenceDense(l, p[i], rows[t])
			}
		}
		drop(i, rows)
	}
	return rows
}

func referenceLSTM(l kernel.Layer, p [3][]float64, state *[2][]float64, rows [][]float64) [][]float64 {
	sigma := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	u := l.Units
	h, c := state[0], slices.Clone(state[1])
	var out [][]float64
	for _, x := range rows {
		z := append([]float64(nil), p[2]...)
		for j := range z {
			for k, v := range x {
				z[j] += v * p[0][k*4*u+j]
			}
			for k, v := range h {
				z[j] += v * p[1][k*4*u+j]
			}
		}
		h = make([]float64, u)
		for k := range h {
			c[k] = sigma(z[u+k])*c[k] + sigma(z[k])*math.Tanh(z[2*u+k])
			h[k] = sigma(z[3*u+k]) * math.Tanh(c[k])
		}
		out = append(out, slices.Clone(h))
	}
	*state = [2][]float64{h, c}
	if !l.Sequences {
		return out[len(out)-1:]
	}
	return out
}

func referenceDense(l kernel.Layer, p [3][]float64, x []float64) []float64 {
	y := append([]float64(nil), p[2]...)
	var sum float64
	for j := range y {
		for k, v := range x {
			y[j] += v * p[0][k*l.Units+j]
		}
		switch l.Activation {
		case kernel.ReLU:
			y[j] = math.Max(y[j], 0)
		case kernel.Sigmoid:
			y[j] = 1 / (1 + math.Exp(-y[j]))
		case kernel.Softmax:
			sum += math.Exp(y[j])
		}
	}
	if l.Activation == kernel.Softmax {
		for j := range y {
			y[j] = math.Exp(y[j]) / sum
		}
	}
	return y
}

// referenceDelta is the HuberDelta of referenceLoss.
const referenceDelta = 0.4

// referenceLoss is the mean loss of the given windows of src.
func referenceLoss(kind string, g kernel.Graph, p params64, src Source, indices []int) float64 {
	x := make([]float32, src.Steps()*g.Features)
	target := make([]float32, g.OutputLen(src.Steps()))
	var sum, terms float64
	for _, i := range indices {
		src.Window(i, x, target)
		before := sum
		for r, row := range referenceOutput(g, p, x) {
			for k, v := range row {
				y := float64(target[r*len(row)+k])
				switch kind {
				case MSE:
					sum += (v - y) * (v - y)
				case MAE:
					sum += math.Abs(v - y)
				case Huber:
					if d := math.Abs(v - y); d <= referenceDelta {
						sum += d * d / 2
					} else {
						sum += referenceDelta*d - referenceDelta*referenceDelta/2
					}
				case BinaryCrossentropy:
					sum -= y*math.Log(v) + (1-y)*math.Log(1-v)
				case CategoricalCrossentropy:
					sum -= y * math.Log(v)
				}
			}
			if kind == CategoricalCrossentropy {
				terms++
			} else {
				terms += float64(len(row))
			}
		}
		if w, ok := src.(Weighted); ok {
			sum = before + float64(w.Weight(i))*(sum-before)
		}
	}
	return sum / terms
}

// referenceGradient takes central differences of referenceLoss.
func referenceGradient(kind string, w *kernel.Weights, src Source, indices []int) params64 {
	const delta = 1e-5
	p, grad := toParams64(w), toParams64(w)
	for i := range p {
		for t := range p[i] {
			for k, v := range p[i][t] {
				p[i][t][k] = v + delta
				up := referenceLoss(kind, w.Graph, p, src, indices)
				p[i][t][k] = v - delta
				down := referenceLoss(kind, w.Graph, p, src, indices)
				p[i][t][k] = v
				grad[i][t][k] = (up - down) / (2 * delta)
			}
		}
	}
	return grad
}

// windows is a Source in memory.
type windows struct {
	steps, features, outLen int
	x, y                    []float32
}

func (w *windows) Len() int   { return len(w.y) / w.outLen }
func (w *windows) Steps() int { return w.steps }
func (w *windows) Window(i int, x, y []float32) {
	copy(x, w.x[i*w.steps*w.features:(i+1)*w.steps*w.features])
	copy(y, w.y[i*w.outLen:(i+1)*w.outLen])
}

// weighted gives windows weights.
type weighted struct {
	*windows
	weights []float32
}

func (w weighted) Weight(i int) float32 { return w.weights[i] }

// randomWindows makes n windows for g with values in ±1 and targets that suit
// the loss.
func randomWindows(g kernel.Graph, kind string, n, steps int, seed uint64) *windows {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &windows{steps: steps, features: g.Features, outLen: g.OutputLen(steps)}
	for range n * steps * g.Features {
		w.x = append(w.x, 2*rng.Float32()-1)
	}
	w.y = make([]float32, n*w.outLen)
	out := g.Outputs()
	for lo := 0; lo < len(w.y); lo += out {
		hot := rng.IntN(out)
		for k := range out {
			switch kind {
			case MSE, MAE, Huber:
				w.y[lo+k] = 2*rng.Float32() - 1
			case BinaryCrossentropy:
				w.y[lo+k] = float32(rng.IntN(2))
			case CategoricalCrossentropy:
				if k == hot {
					w.y[lo+k] = 1
				}
			}
		}
	}
	return w
}
