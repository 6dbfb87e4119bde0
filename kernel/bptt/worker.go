package bptt

import "github.com/sandpiper-edge/sandpiper/kernel"

// A layer is a recurrent one, a dense or a dropout. n is the number of windows at hand.
type layer interface {
	// forward returns the output for the input x; it reads x until backward.
	forward(w *weights, x []float32, n int) []float32
	// upstream is where ∂L/∂output has to be before backward.
	upstream(n int) []float32
	// backward sets the layer's part of grad, and dx to ∂L/∂x unless it is nil.
	backward(w *weights, grad, dx []float32, n int)
}

// A recurrent layer carries a state from step to step. Its forward pass starts
// from what begin sets for each of the n windows.
type recurrent interface {
	layer
	// stateLen is how many values the state of a window has.
	stateLen() int
	// begin sets the state before the first step of window i; nil is zero.
	begin(i int, state []float32)
	// end gives the state after the last step of window i of n.
	end(i, n int, state []float32)
}

// setState sets a part of a layer's initial state; nil is zero.
func setState(part, state []float32) {
	if state == nil {
		clear(part)
		return
	}
	copy(part, state)
}

// A shard is the outcome of one part of a batch.
type shard struct {
	grad []float32 // of all parameters
	loss float64   // summed over the windows, undivided
}

// A worker runs shards, one after another: it holds the windows and activations
// of the one at hand. There is one a core rather than one a shard, so that less
// memory goes through the caches.
type worker struct {
	cfg              *Config
	pass             pass // under way, of the shard's windows
	steps, features  int
	outRows, outputs int // output rows a window, values a row
	layers           []layer
	recurrent        []recurrent // those of layers that are
	x, y             []float32   // [step][window][feature], [row][window][output]
	window, target   []float32   // one of the Source
	weights          []float32   // [window], if the Source is Weighted
	weighted         bool
	padding          padding
}

// newWorker makes a worker for shards of up to rows windows.
func newWorker(cfg *Config, g kernel.Graph, layers []tensors, packed []packer, steps, rows int) *worker {
	k := &worker{
		cfg: cfg, steps: steps, features: g.Features, outputs: g.Outputs(), outRows: g.OutputLen(steps) / g.Outputs(),
	}
	k.window = make([]float32, steps*k.features)
	k.target = make([]float32, k.outRows*k.outputs)
	k.x = make([]float32, rows*len(k.window))
	k.y = make([]float32, rows*len(k.target))
	k.weights = make([]float32, rows)
	for i, l := range g.Layers {
		if l.Kind.Recurrent() {
			var p packer
			if packed != nil {
				p = packed[i]
			}
			r := newRecurrent(l, layers[i], &k.padding, p, g.In(i), steps, rows)
			k.layers, k.recurrent = append(k.layers, r), append(k.recurrent, r)
		} else {
			d := newDense(layers[i], g.In(i), l, rows, k.outRows)
			d.logits = i == len(g.Layers)-1 && ofLogits(cfg.Loss)
			k.layers = append(k.layers, d)
		}
		if i < len(cfg.Dropout) && cfg.Dropout[i] > 0 {
			perWindow := k.outRows
			if l.Sequences {
				perWindow = steps
			}
			k.layers = append(k.layers, newDropout(cfg.Seed, i, cfg.Dropout[i], &k.pass, rows*perWindow, l.Units))
		}
	}
	return k
}

// newRecurrent makes layer l, on packed weights unless they are nil.
func newRecurrent(l kernel.Layer, p tensors, pad *padding, packed packer, in, steps, rows int) recurrent {
	switch w := packed.(type) {
	case *packedLSTMWeights:
		return newPackedLSTM(p, pad, w, in, l.Units, steps, rows, l.Sequences)
	case *packedGRUWeights:
		return newPackedGRU(p, pad, w, in, l.Units, steps, rows, l.Sequences)
	}
	if l.Kind == kernel.GRU {
		return newGRU(p, pad, in, l.Units, steps, rows, l.Sequences)
	}
	return newLSTM(p, pad, in, l.Units, steps, rows, l.Sequences)
}

// evaluate reads the windows of p.batch, the shard's, runs them, and sets
// out.loss. If p.terms is not 0, it sets out.grad to this shard's share of the
// mean loss's gradient.
func (k *worker) evaluate(out *shard, w *weights, p pass) {
	k.pass = p
	n := len(p.batch)
	k.read(p.src, p.batch)
	k.begin(p.batch)
	v := k.x[:n*len(k.window)]
	for _, l := range k.layers {
		v = l.forward(w, v, n)
	}
	k.end(p.batch)
	top := len(k.layers) - 1
	if p.terms == 0 {
		out.loss = k.loss(v, nil, n, 0)
		return
	}
	out.loss = k.loss(v, k.layers[top].upstream(n), n, 1/float32(p.terms))
	for i := top; i > 0; i-- {
		k.layers[i].backward(w, out.grad, k.layers[i-1].upstream(n), n)
	}
	k.layers[0].backward(w, out.grad, nil, n)
}

// loss is that of the outputs y of n windows; see loss.
func (k *worker) loss(y, dy []float32, n int, scale float32) float64 {
	if k.weighted {
		return weightedLoss(k.cfg, y, k.y, dy, k.outputs, k.weights[:n], scale)
	}
	return loss(k.cfg, y, k.y, dy, k.outputs, scale)
}

// read turns windows of the Source into steps of all windows.
func (k *worker) read(src Source, indices []int) {
	n := len(indices)
	var weights Weighted
	weights, k.weighted = src.(Weighted)
	k.padding.begin(src, k.cfg, n)
	for i, index := range indices {
		if k.weighted {
			k.weights[i] = weights.Weight(index)
		}
		src.Window(index, k.window, k.target)
		k.disturb(i, index)
		interleave(k.x, k.window, k.features, i, n)
		interleave(k.y, k.target, k.outputs, i, n)
	}
	k.padding.end()
}

// interleave writes row r of v, of width values, to row r·n+i of all.
func interleave(all, v []float32, width, i, n int) {
	for r := 0; r*width < len(v); r++ {
		copy(all[(r*n+i)*width:], v[r*width:(r+1)*width])
	}
}
