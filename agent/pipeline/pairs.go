package pipeline

import (
	"math"
	"slices"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// maxWaiting is how many outputs wait for their truth, of all streams and both
// versions: 512 KiB.
const maxWaiting = 1 << 17

// Pairs compares two versions of a model on the same inputs: the one in place,
// A, and the candidate, B. It keeps sums, and the forecasts whose truth has not
// come. Errors are absolute ones of the output or, of several outputs, their
// mean in training standard deviations.
type Pairs struct {
	std     []float32 // by output; nil for one output
	targets int
	arrives bool // the truth is among the inputs
	streams map[string][]*forecast
	queue   []*forecast // the same, oldest first, and some that are done
	live    int         // forecasts in streams
	waiting int         // their outputs
	sums    protocol.Quality
	apart   float64 // Σ|y_A − y_B|
}

// A forecast is what both versions said; nil where one said nothing.
type forecast struct {
	stream string
	t      int64  // UTC ms of the window's last row
	tick   uint64 // of that row
	y      [2][]float32
	truth  []float32
	steps  int // of the horizon, whose truth came
	done   bool
}

// NewPairs returns empty sums. std are the training standard deviations of the
// outputs, horizon steps of targets values; arrives says that truth comes to
// Arrived, so that a full memory keeps what waits and passes over what is new.
func NewPairs(std []float32, targets int, arrives bool) *Pairs {
	p := &Pairs{targets: targets, arrives: arrives, streams: make(map[string][]*forecast)}
	if len(std) > 1 {
		p.std = std
	}
	return p
}

// Add takes what A and B said at a tick about stream. An output that is not
// finite counts as missing.
func (p *Pairs) Add(stream string, t int64, tick uint64, a, b []float32) {
	f := &forecast{stream: stream, t: t, tick: tick, y: [2][]float32{whole(a), whole(b)}}
	if f.y[0] == nil && p.sums.BadA < math.MaxUint16 {
		p.sums.BadA++
	}
	if f.y[1] == nil && p.sums.BadB < math.MaxUint16 {
		p.sums.BadB++
	}
	if f.y[0] != nil && f.y[1] != nil {
		p.apart += p.distance(f.y[0], f.y[1])
	}
	n := len(f.y[0]) + len(f.y[1])
	if n == 0 {
		return
	}
	for p.arrives && len(p.queue) > 0 && p.overdue(p.queue[0], tick) {
		p.end(p.queue[0]) // its stream fell silent
	}
	for p.waiting+n > maxWaiting {
		if p.arrives || len(p.queue) == 0 {
			return
		}
		p.end(p.queue[0])
	}
	p.waiting += n
	p.streams[stream] = append(p.streams[stream], f)
	p.queue = append(p.queue, f)
	p.live++
}

// overdue reports whether the truth of f should have come before tick.
func (p *Pairs) overdue(f *forecast, tick uint64) bool {
	steps := max(len(f.y[0]), len(f.y[1])) / p.targets
	return tick > f.tick+uint64(steps)
}

// whole returns y, or nil if it is missing or not finite.
func whole(y []float32) []float32 {
	if len(y) == 0 || slices.ContainsFunc(y, func(v float32) bool { return v-v != 0 }) {
		return nil
	}
	return y
}

// end forgets f.
func (p *Pairs) end(f *forecast) {
	f.done = true
	p.live--
	p.waiting -= len(f.y[0]) + len(f.y[1])
	left := p.streams[f.stream]
	if left[0] == f { // as nearly always
		left = left[1:]
	} else {
		left = slices.DeleteFunc(left, func(o *forecast) bool { return o == f })
	}
	if p.streams[f.stream] = left; len(left) == 0 {
		delete(p.streams, f.stream)
	}
	if len(p.queue) > 2*p.live+64 { // those that are done behind one that waits long
		p.queue = slices.DeleteFunc(p.queue, func(f *forecast) bool { return f.done })
	}
	for len(p.queue) > 0 && p.queue[0].done {
		p.queue = p.queue[1:]
	}
}

// Arrived takes the targets' values of a tick: step h of a forecast is the
// truth h ticks after its last row. A forecast that a value is missing for is
// never compared.
func (p *Pairs) Arrived(stream string, tick uint64, truth []Value, now uint32) {
	for _, f := range slices.Clone(p.streams[stream]) {
		if tick <= f.tick {
			continue
		}
		outputs := max(len(f.y[0]), len(f.y[1]))
		step := int(min(tick-f.tick, math.MaxInt32))
		if step != f.steps+1 || slices.ContainsFunc(truth, func(v Value) bool { return !v.OK }) {
			p.end(f) // a tick or a value is missing
			continue
		}
		f.steps++
		for _, v := range truth {
			f.truth = append(f.truth, v.V)
		}
		if f.steps*p.targets >= outputs {
			p.compare(f, f.truth, now)
		}
	}
}

// Label takes what the forecast about a stream at a time should have been, and
// reports whether it was waiting for that.
func (p *Pairs) Label(stream string, t int64, y []float32, now uint32) bool {
	for _, f := range p.streams[stream] {
		if f.t == t && len(y) == max(len(f.y[0]), len(f.y[1])) {
			p.compare(f, y, now)
			return true
		}
	}
	return false
}

// compare adds a pair whose truth is there, if both forecasts are.
func (p *Pairs) compare(f *forecast, truth []float32, now uint32) {
	p.end(f)
	s := &p.sums
	if f.y[0] == nil || f.y[1] == nil {
		s.Skipped++
		return
	}
	if s.Pairs == 0 {
		s.FirstS = now
	}
	s.Pairs++
	s.LastS = max(s.FirstS, now)
	a, b := p.distance(f.y[0], truth), p.distance(f.y[1], truth)
	s.SumA, s.SumB = s.SumA+a, s.SumB+b
	s.SquareA, s.SquareB = s.SquareA+a*a, s.SquareB+b*b
	s.MaxA, s.MaxB = max(s.MaxA, clamp32(a)), max(s.MaxB, clamp32(b))
}

// distance is the error of y against truth.
func (p *Pairs) distance(y, truth []float32) float64 {
	if p.std == nil {
		return math.Abs(float64(y[0]) - float64(truth[0]))
	}
	sum := 0.0
	for i, v := range y {
		std := float64(p.std[i])
		if std == 0 {
			std = 1 // a constant in training
		}
		sum += math.Abs(float64(v)-float64(truth[i])) / std
	}
	return sum / float64(len(y))
}

func clamp32(v float64) float32 { return float32(min(v, math.MaxFloat32)) }

// Sums returns the sums so far; the caller says of what.
func (p *Pairs) Sums() protocol.Quality {
	q := p.sums
	q.Format = protocol.Format
	q.Disagreement = clamp32(p.apart)
	q.SquareA, q.SquareB = min(q.SquareA, math.MaxFloat64), min(q.SquareB, math.MaxFloat64)
	return q
}
