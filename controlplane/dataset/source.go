package dataset

import (
	"fmt"
	"math"
	"sync"

	"github.com/sandpiper-edge/sandpiper/kernel"
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

// A Source serves windows scaled as the device will scale them, with their
// targets scaled by the inverse of what the device does to the outputs. It is
// a bptt.Source.
type Source struct {
	w    *Windows
	sc   *kernel.Scaler
	cap  float32
	skip *skipPath // nil: none
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

// NewSource checks that every window can be scaled. Targets are limited to
// at most cap before scaling; +Inf sets no limit.
func NewSource(w *Windows, sc *kernel.Scaler, cap float32) (*Source, error) {
	if err := sc.Validate(); err != nil {
		return nil, err
	}
	if len(sc.Mean) != len(w.t.Features) || len(sc.OutMean) != w.Outputs() {
		return nil, fmt.Errorf("scaler of %d features and %d outputs for windows of %d and %d: %w",
			len(sc.Mean), len(sc.OutMean), len(w.t.Features), w.Outputs(), kernel.ErrShape)
	}
	x := make([]float32, w.Inputs())
	for i := range w.Len() {
		w.Rows(i, x)
		if err := sc.In(x, x); err != nil {
			return nil, fmt.Errorf("window ending at %s of group %q: %w", w.Time(i), w.Group(i), err)
		}
	}
	return &Source{w: w, sc: sc, cap: cap}, nil
}

// Unlimited is the cap that limits nothing.
var Unlimited = float32(math.Inf(1))

// Len returns the number of windows.
func (s *Source) Len() int { return s.w.Len() }

// Steps returns the rows of a window.
func (s *Source) Steps() int { return s.w.Shape.Window }

// WindowWeight returns the weight of window i, of a table with a weight column.
func (s *Source) WindowWeight(i int) float32 { return s.w.Weight(i) }

// Window fills x with window i scaled, oldest row first, and y with its scaled
// target. An output without spread has target 0.
func (s *Source) Window(i int, x, y []float32) {
	s.w.Rows(i, x)
	s.w.Target(i, y)
	s.scale(y, x[len(x)-len(s.sc.Mean):])
	if err := s.sc.In(x, x); err != nil {
		panic(err) // NewSource has scaled this window before
	}
	if s.skip != nil {
		s.skip.leave(y, x)
	}
}

// scale scales the targets y of a row, last being its features.
func (s *Source) scale(y, last []float32) {
	for o, v := range y {
		mean := s.sc.OutMean[o]
		if len(s.sc.Anchor) > 0 && s.sc.Anchor[o] >= 0 {
			mean = last[s.sc.Anchor[o]]
		}
		y[o] = 0
		if std := s.sc.OutStd[o]; std > 0 {
			y[o] = (min(v, s.cap) - mean) / std
		}
	}
}
