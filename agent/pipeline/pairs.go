package pipeline

import (
	"math"
	"slices"
)

const (
	// maxWaiting is how many bytes of outputs wait for their truth, of all streams
	// and both versions, with what it takes to find them again.
	maxWaiting = 1 << 20
	// waitingCost is what a forecast takes beside its outputs, in bytes.
	waitingCost = 256
)

// Pairs keeps what two versions of a model said until the truth comes, and gives
// both to Sums.
type Pairs struct {
	sums    *Sums
	targets int
	arrives bool                   // the truth is among the inputs
	by      map[string][]*forecast // by each of its keys
	queue   []*forecast            // the same, oldest first, and some that are done
	live    int                    // forecasts that wait
	waiting int                    // what they take, bytes
}

// A Name is how a label may name an output: by stream and time, by who asked
// under which correlation id, or by either. An empty one is none.
type Name struct {
	Stream     string
	T          int64 // UTC ms of the window's last row
	User, Corr string
}

// keys are under which a forecast is found; ids have none of these signs.
func (n Name) keys() (keys []string) {
	if n.Stream != "" {
		keys = append(keys, n.Stream)
	}
	if n.Corr != "" {
		keys = append(keys, "#"+n.Corr)
	}
	return keys
}

// A forecast is what both versions said; nil where one said nothing.
type forecast struct {
	name  Name
	tick  uint64 // of its last row
	y     [2][]float32
	naive []float32 // what would be said if nothing changed; nil: not known
	truth []float32
	steps int // of the horizon, whose truth came
	done  bool
}

func (f *forecast) outputs() int { return max(len(f.y[0]), len(f.y[1])) }

func (f *forecast) cost() int {
	return waitingCost + 4*(len(f.y[0])+len(f.y[1])+len(f.naive)+f.outputs())
}

// NewPairs returns an empty memory. Outputs are a horizon of steps of targets
// values; arrives says that truth comes to Arrived, so that a full memory keeps
// what waits and passes over what is new.
func NewPairs(sums *Sums, targets int, arrives bool) *Pairs {
	return &Pairs{sums: sums, targets: targets, arrives: arrives, by: make(map[string][]*forecast)}
}

// Add keeps what Said returned at a tick. Last are the targets' values at that
// tick, from which the naive forecast is made; nil where there are none. An
// output for the same request as one that waits takes its place.
func (p *Pairs) Add(name Name, tick uint64, y [2][]float32, last []Value) {
	f := &forecast{name: name, tick: tick, y: y}
	keys := name.keys()
	if f.outputs() == 0 || len(keys) == 0 {
		return
	}
	if len(last) > 0 && !missing(last) && f.outputs()%len(last) == 0 {
		for i := range f.outputs() {
			f.naive = append(f.naive, last[i%len(last)].V)
		}
	}
	for p.arrives && len(p.queue) > 0 && p.overdue(p.queue[0], tick) {
		p.end(p.queue[0]) // its stream fell silent
	}
	if name.Corr != "" {
		for _, old := range slices.Clone(p.by[keys[len(keys)-1]]) {
			if old.name == name {
				p.end(old)
			}
		}
	}
	for p.waiting+f.cost() > maxWaiting {
		if p.arrives || len(p.queue) == 0 {
			return
		}
		p.end(p.queue[0])
	}
	p.waiting += f.cost()
	for _, k := range keys {
		p.by[k] = append(p.by[k], f)
	}
	p.queue = append(p.queue, f)
	p.live++
}

// overdue reports whether the truth of f should have come before tick.
func (p *Pairs) overdue(f *forecast, tick uint64) bool {
	return tick > f.tick+uint64(f.outputs()/p.targets)
}

// end forgets f.
func (p *Pairs) end(f *forecast) {
	f.done = true
	p.live--
	p.waiting -= f.cost()
	for _, k := range f.name.keys() {
		left := p.by[k]
		if left[0] == f { // as nearly always
			left = left[1:]
		} else {
			left = slices.DeleteFunc(left, func(o *forecast) bool { return o == f })
		}
		if p.by[k] = left; len(left) == 0 {
			delete(p.by, k)
		}
	}
	if len(p.queue) > 2*p.live+64 { // those that are done behind one that waits long
		p.queue = slices.DeleteFunc(p.queue, func(f *forecast) bool { return f.done })
	}
	for len(p.queue) > 0 && p.queue[0].done {
		p.queue = p.queue[1:]
	}
}

// Clear forgets all that waits.
func (p *Pairs) Clear() {
	clear(p.by)
	p.queue, p.live, p.waiting = nil, 0, 0
}

// Arrived takes the targets' values of a tick: step h of a forecast is the
// truth h ticks after its last row. A forecast that a value is missing for is
// never compared.
func (p *Pairs) Arrived(stream string, tick uint64, truth []Value, now uint32) {
	for _, f := range slices.Clone(p.by[stream]) {
		if tick <= f.tick {
			continue
		}
		step := int(min(tick-f.tick, math.MaxInt32))
		if step != f.steps+1 || missing(truth) {
			p.end(f) // a tick or a value is missing
			continue
		}
		f.steps++
		for _, v := range truth {
			f.truth = append(f.truth, v.V)
		}
		if f.steps*p.targets >= f.outputs() {
			p.compare(f, f.truth, now)
		}
	}
}

func missing(values []Value) bool {
	return slices.ContainsFunc(values, func(v Value) bool { return !v.OK })
}

// Label takes what the output of that name should have been, and reports
// whether it was waiting for that. A correlation id without a user names the
// newest output under it, if one user alone has asked under it.
func (p *Pairs) Label(name Name, y []float32, now uint32) bool {
	var found *forecast
	for _, k := range name.keys() {
		for _, f := range p.by[k] {
			switch {
			case len(y) != f.outputs() || name.Stream != "" && f.name.T != name.T || name.User != "" && f.name.User != name.User:
				continue
			case found != nil && name.Corr != "" && found.name.User != f.name.User:
				return false
			}
			found = f
		}
	}
	if found != nil {
		p.compare(found, y, now)
	}
	return found != nil
}

// compare hands on f, whose truth is there.
func (p *Pairs) compare(f *forecast, truth []float32, now uint32) {
	p.end(f)
	p.sums.Compare(f.y, f.naive, truth, now)
}
