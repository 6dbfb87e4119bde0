package bptt

import (
	"math/rand/v2"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// A Continuer is a Source whose windows form chains, for Config.Stateful.
type Continuer interface {
	Source
	// Continues reports whether window i starts with the row after the last one of
	// window i−1. It is not asked of window 0.
	Continues(i int) bool
}

// continues reports whether window i of src goes on where the one before ended.
func continues(src Source, i int) bool {
	c, ok := src.(Continuer)
	return ok && i > 0 && c.Continues(i)
}

// A plan is the order in which an epoch visits the windows of a Source.
//
// In stateful training the windows of a chain are visited in order, each in the
// batch after that of the one before and in the same lane. There are as many lanes
// as windows in a batch; a lane that has come to the end of its chain takes the
// next one that has not begun, and is left out when there is none.
type plan struct {
	order []int  // windows, batch after batch
	ends  []int  // of the batches in order
	chain []span // of windows; nil: each by itself
	lane  []int  // of each window, nil likewise
}

// newPlan makes a plan that arrange has to fill.
func newPlan(src Source, stateful bool) plan {
	p := plan{order: make([]int, src.Len())}
	if !stateful {
		return p
	}
	p.lane = make([]int, src.Len())
	for i := range p.lane {
		if !continues(src, i) {
			p.chain = append(p.chain, span{lo: i})
		}
		p.chain[len(p.chain)-1].hi = i + 1
	}
	return p
}

// arrange plans batches of up to size windows, in an order drawn from rng or,
// if it is nil, in that of the Source.
func (p *plan) arrange(size int, rng *rand.Rand) {
	p.ends = p.ends[:0]
	if p.chain != nil {
		p.deal(size, rng)
		return
	}
	ascending(p.order)
	if rng != nil {
		rng.Shuffle(len(p.order), func(i, j int) { p.order[i], p.order[j] = p.order[j], p.order[i] })
	}
	for end := 0; end < len(p.order); {
		end = min(end+size, len(p.order))
		p.ends = append(p.ends, end)
	}
}

// deal deals the chains to lanes.
func (p *plan) deal(lanes int, rng *rand.Rand) {
	next := ascending(make([]int, len(p.chain)))
	if rng != nil {
		rng.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
	}
	p.order = p.order[:0]
	at := make([]span, lanes) // what is left of each lane's chain
	for len(p.order) < len(p.lane) {
		for l := range at {
			if at[l].lo == at[l].hi {
				if len(next) == 0 {
					continue
				}
				at[l], next = p.chain[next[0]], next[1:]
			}
			p.lane[at[l].lo] = l
			p.order = append(p.order, at[l].lo)
			at[l].lo++
		}
		p.ends = append(p.ends, len(p.order))
	}
}

// batch is the windows of batch b.
func (p *plan) batch(b int) []int {
	lo := 0
	if b > 0 {
		lo = p.ends[b-1]
	}
	return p.order[lo:p.ends[b]]
}

// ascending sets order to 0, 1, 2 ….
func ascending(order []int) []int {
	for i := range order {
		order[i] = i
	}
	return order
}

// lanes are the states that windows leave to those that go on where they end.
// The gradient is cut there: truncated backpropagation through time (Williams
// and Peng 1990).
type lanes struct {
	of     []int     // lane of each window of the plan under way
	states []float32 // [lane][width]
	width  int       // that of all layers
}

func newLanes(g kernel.Graph, n int) *lanes {
	l := &lanes{}
	for _, layer := range g.Layers {
		switch layer.Kind {
		case kernel.LSTM:
			l.width += 2 * layer.Units
		case kernel.GRU:
			l.width += layer.Units
		}
	}
	l.states = make([]float32, n*l.width)
	return l
}

// state is that which the lane of a window is in.
func (l *lanes) state(window int) []float32 { return l.states[l.of[window]*l.width:][:l.width] }

// begin sets the states that the windows at hand start from.
func (k *worker) begin(windows []int) {
	for i, window := range windows {
		var state []float32
		if k.pass.lanes != nil && continues(k.pass.src, window) {
			state = k.pass.lanes.state(window)
		}
		for _, l := range k.recurrent {
			part := state
			if state != nil {
				part, state = state[:l.stateLen()], state[l.stateLen():]
			}
			l.begin(i, part)
		}
	}
}

// end keeps the states that they end in.
func (k *worker) end(windows []int) {
	if k.pass.lanes == nil {
		return
	}
	for i, window := range windows {
		state := k.pass.lanes.state(window)
		for _, l := range k.recurrent {
			l.end(i, len(windows), state[:l.stateLen()])
			state = state[l.stateLen():]
		}
	}
}
