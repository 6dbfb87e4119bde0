package bptt

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt/gemm"
)

// rangeSize is how many parameters are reduced and updated at a time.
const rangeSize = 8 << 10

// An engine computes losses, gradients and updates of one set of weights,
// batch by batch, on as many cores as there are, up to one a shard.
type engine struct {
	cfg       Config
	graph     kernel.Graph
	layers    []tensors
	w         weights
	shards    []shard
	optimizer *optimizer
	penalties []penalty
	frozen    int // the parameters before it are not trained

	pool    *pool
	workers []*worker

	lanes *lanes // nil unless Stateful

	// The batch at hand, read by the tasks.
	pass pass
	used int // shards with windows

	// Method values, made once because making one allocates.
	tasks struct {
		shard, transpose, reduce, update, reduceAndUpdate func(worker, i int)
	}
}

// A pass is one run of a batch.
type pass struct {
	src    Source
	batch  []int  // windows
	terms  int    // of the loss in the whole batch; 0: no gradient, an evaluation
	update int    // updates made before it
	first  int    // the shard's first window in batch
	lanes  *lanes // nil: every window starts from zero
}

// startEngine makes an engine for windows of the given steps; the caller stops
// its pool. cfg is complete and w valid.
func startEngine(cfg Config, w *kernel.Weights, steps, windows int) (*engine, error) {
	e := &engine{cfg: cfg, graph: w.Graph}
	var size int
	e.layers, size = layout(w)
	e.cfg.BatchSize = min(cfg.BatchSize, windows)
	e.cfg.Shards = min(cfg.Shards, e.cfg.BatchSize)
	rows := ceilDiv(e.cfg.BatchSize, e.cfg.Shards)
	if err := checkMemory(w.Graph, steps, e.cfg.BatchSize); err != nil {
		return nil, err
	}
	e.w = weights{flat: make([]float32, size), transposed: make([]float32, size)}
	if gemm.Accelerated() {
		e.w.packed = make([]packer, len(e.layers))
		for i := range e.w.packed {
			e.w.packed[i] = newPacker(w.Graph, i)
		}
	}
	load(e.w.flat, e.layers, w)
	for range e.cfg.Shards {
		e.shards = append(e.shards, shard{grad: make([]float32, size)})
	}
	e.pool = startPool(min(runtime.GOMAXPROCS(0), e.cfg.Shards) - 1)
	for range e.pool.helpers + 1 {
		e.workers = append(e.workers, newWorker(&e.cfg, w.Graph, e.layers, e.w.packed, steps, rows))
	}
	if cfg.Stateful {
		e.lanes = newLanes(w.Graph, e.cfg.BatchSize)
	}
	e.optimizer = newOptimizer(cfg, size)
	copy(e.optimizer.slot("average", span{0, size}), e.w.flat) // of frozen ones too
	e.penalties = penalties(cfg, e.layers)
	if cfg.HeadOnly {
		e.frozen = e.layers[len(e.layers)-1].whole().lo
	}
	e.tasks.shard, e.tasks.transpose = e.runShard, e.transpose
	e.tasks.reduce, e.tasks.update, e.tasks.reduceAndUpdate = e.reduce, e.update, e.reduceAndUpdate
	return e, nil
}

// shown are the weights that are validated and handed out: their average, if
// one is kept.
func (e *engine) shown() []float32 {
	if average := e.optimizer.slot("average", span{0, len(e.w.flat)}); average != nil {
		return average
	}
	return e.w.flat
}

// state is what a checkpoint keeps of e: all that the next batch depends on. A
// run that takes it back trains as e would.
func (e *engine) state() []field {
	s := append([]field{{"weights", e.w.flat}}, e.optimizer.state()...)
	if e.lanes != nil {
		s = append(s, field{"lanes", e.lanes.states})
	}
	return s
}

// checkMemory refuses a batch whose activations, at 4 bytes each, do not fit
// in an int with room to spare.
func checkMemory(g kernel.Graph, steps, batch int) error {
	width := g.Features
	for _, l := range g.Layers {
		width += 8 * l.Units
	}
	if total := float64(width) * float64(steps) * float64(batch); total > math.MaxInt/16 {
		return fmt.Errorf("batch of %d windows of %d steps needs %.0f values: %w", batch, steps, total, kernel.ErrShape)
	}
	return nil
}

// loss is the mean loss of the shown weights over the windows of src, run batch by batch, with the
// penalties. Its error is the cause of ctx's end.
func (e *engine) loss(ctx context.Context, src Source, p *plan) (float64, error) {
	e.follow(p)
	trained := e.w.flat
	e.w.flat = e.shown()
	defer func() { e.w.flat = trained }()
	var sum float64
	for b := range p.ends {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		sum += e.run(src, p.batch(b), 0)
	}
	return sum/float64(len(p.order)*e.termsPerWindow()) + e.penalty(), nil
}

// follow makes p the plan that the next batches are of.
func (e *engine) follow(p *plan) {
	if e.lanes != nil {
		e.lanes.of = p.lane
	}
}

func (e *engine) termsPerWindow() int {
	k := e.workers[0]
	return lossTerms(e.cfg.Loss, len(k.target), k.outputs)
}

// train runs one batch forward and backward, updates the weights and returns
// the mean loss and penalties before the update. A loss that is not finite updates nothing.
func (e *engine) train(src Source, batch []int) float64 {
	terms := len(batch) * e.termsPerWindow()
	mean := e.run(src, batch, terms)/float64(terms) + e.penalty()
	if !isFinite(mean) {
		return mean
	}
	ranges := ceilDiv(len(e.w.flat), rangeSize)
	e.optimizer.begin()
	if e.cfg.clips() == 0 {
		e.pool.run(ranges, e.tasks.reduceAndUpdate)
		return mean
	}
	e.pool.run(ranges, e.tasks.reduce)
	clipGradients(e.cfg, e.layers, e.gradient())
	e.pool.run(ranges, e.tasks.update)
	return mean
}

// run runs a batch through the shards and returns the loss, undivided. If terms,
// the number of loss terms in the batch, is not 0, the shards have gradients too.
func (e *engine) run(src Source, batch []int, terms int) float64 {
	if terms > 0 || e.w.packed != nil {
		e.pool.run(2*len(e.layers), e.tasks.transpose)
	}
	e.pass = pass{src: src, batch: batch, terms: terms, update: e.optimizer.updates, lanes: e.lanes}
	e.used = ceilDiv(len(batch), e.perShard())
	e.pool.run(e.used, e.tasks.shard)
	var sum float64
	for _, s := range e.shards[:e.used] {
		sum += s.loss
	}
	return sum
}

// perShard is how many windows of the batch a shard gets; the last has the rest.
func (e *engine) perShard() int { return ceilDiv(len(e.pass.batch), len(e.shards)) }

func (e *engine) runShard(worker, i int) {
	n := e.perShard()
	p := e.pass
	p.first, p.batch = i*n, p.batch[i*n:min((i+1)*n, len(p.batch))]
	e.workers[worker].evaluate(&e.shards[i], &e.w, p)
}

// penalty is the part of the loss that is of the weights alone.
func (e *engine) penalty() float64 {
	var sum float64
	for _, p := range e.penalties {
		sum += p.of(e.w.flat)
	}
	return sum
}

// gradient is that of the whole batch once reduced.
func (e *engine) gradient() []float32 { return e.shards[0].grad }

// reduce adds the shards' gradients in a range of parameters, in shard order,
// and those of the penalties. Frozen ones have none, so that no norm counts them.
func (e *engine) reduce(_, i int) {
	all, r := e.parameters(i), e.trained(i)
	clear(span{all.lo, min(r.lo, all.hi)}.of(e.gradient()))
	sum := r.of(e.gradient())
	for _, s := range e.shards[1:e.used] {
		addTo(sum, r.of(s.grad))
	}
	for _, p := range e.penalties {
		p.addGradient(r, e.w.flat, e.gradient())
	}
}

func (e *engine) update(_, i int) { e.optimizer.update(e.trained(i), e.w.flat, e.gradient()) }

func (e *engine) reduceAndUpdate(worker, i int) {
	e.reduce(worker, i)
	e.update(worker, i)
}

func (e *engine) parameters(i int) span {
	return span{i * rangeSize, min((i+1)*rangeSize, len(e.w.flat))}
}

// trained is what of a range of parameters is not frozen; it may be empty.
func (e *engine) trained(i int) span {
	r := e.parameters(i)
	return span{max(r.lo, e.frozen), max(r.hi, e.frozen)}
}

// transpose renews w.transposed: kernels are the even tasks, recurrent kernels
// the odd ones. Of packed weights the even tasks renew those of the forward
// pass, the odd ones those of the backward pass.
func (e *engine) transpose(_, task int) {
	i := task / 2
	if e.w.packed != nil && e.w.packed[i] != nil {
		e.w.packed[i].pack(e.w.flat, e.layers[i], e.graph.Layers[i].Units, task%2 == 1)
		return
	}
	s, rows := e.layers[i].kernel, e.graph.In(i)
	if task%2 == 1 {
		s, rows = e.layers[i].recurrent, e.graph.Layers[i].Units
	}
	if s.lo == s.hi || task == 0 { // no recurrent kernel, or that of the input
		return
	}
	cols := (s.hi - s.lo) / rows
	transpose(mat(cols, rows, s.of(e.w.transposed)), mat(rows, cols, s.of(e.w.flat)))
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
