package dataset

import (
	"fmt"
	"math"
	"sync"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
)

// NewScaler returns the z-score scaler of features with the given moments
// (population standard deviation, of training rows only). The outputs are left
// to the caller, who knows the task. The columns that are constant, and so
// scale to 0 whatever they later hold, are returned by index.
func NewScaler(features []Moments) (s *kernel.Scaler, constant []int) {
	s = &kernel.Scaler{}
	for i, m := range features {
		std, inv := float32(m.Std), float32(0)
		if m.Constant() {
			constant = append(constant, i)
		} else {
			inv = float32(1 / m.Std)
		}
		s.Mean = append(s.Mean, float32(m.Mean))
		s.Std = append(s.Std, std)
		s.Inv = append(s.Inv, inv)
	}
	return s, constant
}

// A Source serves windows prepared as the device will prepare them, with their
// targets scaled by the inverse of what the device does to the outputs. It is
// a bptt.Source.
type Source struct {
	w    *Windows
	plan *prepare.Plan
	cap  float32
	raw  *sync.Pool // of *[]float32, raw windows; where they are not as long as prepared ones
	skip *skipPath  // nil: none
}

// A skipPath is a skip path with memory for its calls.
type skipPath struct {
	*kernel.Skip
	space sync.Pool // *skipSpace
}

type skipSpace struct {
	space *kernel.SkipSpace
	y     []float32
}

// WithSkip returns a source of the same windows whose targets are what the skip
// path leaves of them: what a network beside it has to give.
func (s *Source) WithSkip(skip *kernel.Skip) *Source {
	c := *s
	c.skip = &skipPath{Skip: skip}
	c.skip.space.New = func() any { return &skipSpace{skip.NewSpace(), make([]float32, s.w.Outputs())} }
	return &c
}

// leave takes the path's outputs for the scaled window x from y.
func (p *skipPath) leave(y, x []float32) {
	s := p.space.Get().(*skipSpace)
	defer p.space.Put(s)
	clear(s.y)
	if err := p.Add(s.space, s.y, x); err != nil {
		panic(err) // a path of another shape: the caller's bug
	}
	for o, v := range s.y {
		y[o] -= v
	}
}

// NewSource checks that every window can be prepared. Targets are limited to
// at most cap before scaling; +Inf sets no limit.
func NewSource(w *Windows, plan *prepare.Plan, cap float32) (*Source, error) {
	if plan.Width() != len(w.t.Features) || len(plan.Scaler.OutMean) != w.Outputs() {
		return nil, fmt.Errorf("scaler of %d features and %d outputs for windows of %d and %d: %w",
			plan.Width(), len(plan.Scaler.OutMean), len(w.t.Features), w.Outputs(), kernel.ErrShape)
	}
	s := &Source{w: w, plan: plan, cap: cap, raw: &sync.Pool{New: func() any { v := make([]float32, w.Inputs()); return &v }}}
	x := make([]float32, s.Inputs())
	for i := range w.Len() {
		if err := s.prepare(i, x, nil); err != nil {
			return nil, fmt.Errorf("window ending at %s of group %q: %w", w.Time(i), w.Group(i), err)
		}
	}
	return s, nil
}

// Inputs is the number of values of a prepared window.
func (s *Source) Inputs() int { return s.w.Shape.Window * s.plan.Inputs() }

// prepare fills x with window i prepared. rows, unless nil, sees it raw, before.
func (s *Source) prepare(i int, x []float32, rows func(raw []float32)) error {
	raw := x
	if len(x) != s.w.Inputs() {
		p := s.raw.Get().(*[]float32)
		defer s.raw.Put(p)
		raw = *p
	}
	s.w.Rows(i, raw)
	if rows != nil {
		rows(raw)
	}
	return s.plan.In(x, raw)
}

// Unlimited is the cap that limits nothing.
var Unlimited = float32(math.Inf(1))

// Len returns the number of windows.
func (s *Source) Len() int { return s.w.Len() }

// Steps returns the rows of a window.
func (s *Source) Steps() int { return s.w.Shape.Window }

// WindowWeight returns the weight of window i, of a table with a weight column.
func (s *Source) WindowWeight(i int) float32 { return s.w.Weight(i) }

// Padding returns how many of the first rows of window i stand for none.
func (s *Source) Padding(i int) int { return s.w.Padding(i) }

// Window fills x with window i prepared, oldest row first, and y with its scaled
// target. An output without spread has target 0.
func (s *Source) Window(i int, x, y []float32) {
	s.w.Target(i, y)
	if err := s.prepare(i, x, func(raw []float32) { s.scale(y, raw[len(raw)-s.plan.Width():]) }); err != nil {
		panic(err) // NewSource has prepared this window before
	}
	if s.skip != nil {
		s.skip.leave(y, x)
	}
}

// scale scales the targets y of a row, last being its features.
func (s *Source) scale(y, last []float32) {
	sc := &s.plan.Scaler
	for o, v := range y {
		mean := sc.OutMean[o]
		if len(sc.Anchor) > 0 && sc.Anchor[o] >= 0 {
			mean = last[sc.Anchor[o]]
		}
		y[o] = 0
		if std := sc.OutStd[o]; std > 0 {
			y[o] = (min(v, s.cap) - mean) / std
		}
	}
}
