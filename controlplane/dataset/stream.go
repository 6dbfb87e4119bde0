package dataset

import (
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
)

// A Stream serves a part in chains of windows, each of which begins with the row
// after the last one of the window before, and with a target for every row: what
// a model learns from whose state is carried on. It is a bptt.Continuer.
//
// A group has a row of windows for each multiple of the stride below the window,
// which ends so many rows before the part does: with stride 1 the windows are
// those of a Source, in another order.
type Stream struct {
	*Source
	begins []bool // whether a window is the first of its chain
}

// NewStream cuts the part. A row has a target if what it predicts lies in the
// part. Groups with fewer such rows than a window are left out; ErrTooFewRows
// says what would be needed if that leaves none. Targets are limited as by
// NewSource, and relative to their own row where plan anchors them.
//
// A chain has at most chain windows, 0 setting no limit. Where the rows of windows
// are cut for that differs from one to the next, so that chains begin all over a
// group, as a device does that starts in the middle of it.
func (t *Table) NewStream(p Part, s Shape, chain int, plan *prepare.Plan, cap float32) (*Stream, error) {
	s.Stride, s.Pad = max(s.Stride, 1), false
	if s.Window < 1 || s.Horizon < 0 || s.Window > MaxValues || s.Horizon > MaxValues {
		return nil, fmt.Errorf("window %d, horizon %d: %w: a window needs at least 1 row", s.Window, s.Horizon, ErrTooFewRows)
	}
	if slices.Contains(t.unknown, true) {
		return nil, fmt.Errorf("%w: a stream model learns from every row, and some have no target; drop these rows, take them as 0, or train a window model", ErrTarget)
	}
	w := &Windows{Shape: s, t: t}
	var begins []bool
	longest := 0
	for _, span := range p {
		found := w.Len()
		t.segments(t.Groups[span.Group], func(from, end int) {
			if end = min(end, span.End); end <= span.Start {
				return
			}
			longest = max(longest, end-max(from, span.Start))
			first, end := max(from, span.Start-min(s.Horizon, 1)), end-s.Horizon
			for phase := 0; phase < s.Window && end-phase-first >= s.Window; phase += s.Stride {
				n := (end - phase - first) / s.Window
				for k := range n {
					w.add(end-phase-1-(n-1-k)*s.Window, from)
					begins = append(begins, k == 0 || chain > 0 && k%chain == phase%chain)
				}
			}
		})
		if w.Len() == found {
			w.Short++
		}
	}
	if w.Len() == 0 {
		return nil, tooFew(s, longest)
	}
	src, err := NewSource(w, plan, cap)
	if err != nil {
		return nil, err
	}
	return &Stream{Source: src, begins: begins}, nil
}

// Short returns the number of groups that were left out.
func (s *Stream) Short() int { return s.w.Short }

// Continues reports whether window i goes on where window i−1 ended.
func (s *Stream) Continues(i int) bool { return !s.begins[i] }

// Window fills x with window i prepared, oldest row first, and y with the scaled
// target of every row.
func (s *Stream) Window(i int, x, y []float32) {
	n, steps, width := s.w.Outputs(), s.w.Shape.Window, s.plan.Width()
	first := int(s.w.last[i]) - steps + 1
	err := s.prepare(i, x, func(raw []float32) {
		for r := range steps {
			s.w.target(first+r, y[r*n:][:n])
			s.scale(y[r*n:][:n], raw[r*width:][:width])
		}
	})
	if err != nil {
		panic(err) // NewSource has prepared this window before
	}
}
