package dataset

import (
	"fmt"
	"slices"
)

// fill does with missing values what the options say.
func (t *Table) fill(r *rules) error {
	n := len(t.Features)
	if r.Missing != DropRows && r.Missing != FillZero {
		for f, name := range t.Features {
			if err := t.someValue(t.X, n, f, name); err != nil {
				return err
			}
		}
	}
	for f, name := range t.Features {
		count := Filled{Column: name}
		for _, g := range t.Groups {
			t.segments(g, func(start, end int) {
				s := series{t.X, n, f, start, end}
				missing := r.Missing
				if missing != DropRows && t.IsText(f) { // in a row that resampling made
					missing = FillForward
				}
				switch missing {
				case FillZero:
					count.Zero += s.zero()
				case Interpolate:
					count.Interpolated += s.interpolate(&t.times, r.FillLimit)
					s.carry(&count, r.FillLimit)
				case DropRows:
				default:
					s.carry(&count, r.FillLimit)
				}
			})
		}
		if count.Forward+count.Backward+count.Interpolated+count.Zero > 0 {
			t.Cleaning.Filled = append(t.Cleaning.Filled, count)
		}
	}
	if err := t.fillTargets(r); err != nil {
		return err
	}
	t.dropIncomplete(r.Missing == DropRows)
	return nil
}

// someValue returns an error if a column has none in some group.
func (t *Table) someValue(v []float32, n, f int, name string) error {
	for _, g := range t.Groups {
		row := g.Start
		for row < g.End && v[row*n+f] != v[row*n+f] {
			row++
		}
		if row < g.End {
			continue
		}
		return fmt.Errorf("column %q: %w: every value is missing%s; leave the column or the group out", name, ErrMalformed, inGroup(g))
	}
	return nil
}

// fillTargets makes the targets finite, remembering which nobody measured. Those
// are what was measured last, for the baselines that repeat it.
func (t *Table) fillTargets(r *rules) error {
	n := len(t.Targets)
	for f, name := range t.Targets {
		for _, g := range t.Groups {
			s := series{t.Y, n, f, g.Start, g.End}
			switch r.Missing {
			case DropRows:
				continue
			case FillZero:
				s.zero()
				continue
			}
			for row := g.Start; row < g.End; row++ {
				if v := t.Y[row*n+f]; v != v {
					if t.unknown == nil {
						t.unknown = make([]bool, t.Rows())
					}
					t.unknown[row] = true
				}
			}
			s.carry(&Filled{}, 0)
		}
		if r.Missing != DropRows && r.Missing != FillZero {
			if err := t.someValue(t.Y, n, f, name); err != nil {
				return err
			}
		}
	}
	for _, u := range t.unknown {
		if u {
			t.Cleaning.NoTarget++
		}
	}
	return nil
}

// dropIncomplete leaves out rows that still have a missing value; the rows around
// one are no neighbours.
func (t *Table) dropIncomplete(targets bool) {
	nx, ny := len(t.Features), len(t.Targets)
	incomplete := func(row int) bool {
		bad := slices.ContainsFunc(t.X[row*nx:][:nx], func(v float32) bool { return v != v })
		return bad || targets && slices.ContainsFunc(t.Y[row*ny:][:ny], func(v float32) bool { return v != v })
	}
	var breaks []int
	var groups []Group
	to, next := 0, 0 // next of t.breaks
	for _, g := range t.Groups {
		start, broken := to, false
		for row := g.Start; row < g.End; row++ {
			if next < len(t.breaks) && t.breaks[next] == row {
				next, broken = next+1, true
			}
			if incomplete(row) {
				broken = true
				continue
			}
			if broken && to > start {
				breaks = append(breaks, to)
			}
			broken = false
			t.move(row, to)
			to++
		}
		if to > start {
			groups = append(groups, Group{Name: g.Name, Start: start, End: to, Part: g.Part})
		}
	}
	t.Cleaning.Dropped = t.Rows() - to
	t.truncate(to)
	t.Groups, t.breaks = groups, breaks
}

// A series is rows [start, end) of column f of a row-major matrix of n columns.
type series struct {
	v          []float32
	n, f       int
	start, end int
}

func (s series) at(row int) *float32 { return &s.v[row*s.n+s.f] }

func (s series) isMissing(row int) bool { v := *s.at(row); return v != v }

// zero makes missing values 0 and returns how many.
func (s series) zero() (n int) {
	for row := s.start; row < s.end; row++ {
		if s.isMissing(row) {
			*s.at(row) = 0
			n++
		}
	}
	return n
}

// carry carries values forward over missing ones, and the first one back over
// those before it, at most limit rows far unless that is 0.
func (s series) carry(count *Filled, limit int) {
	first := s.start
	for first < s.end && s.isMissing(first) {
		first++
	}
	if first == s.end {
		return
	}
	for row := first - 1; row >= s.start && (limit == 0 || first-row <= limit); row-- {
		*s.at(row) = *s.at(first)
		count.Backward++
	}
	last := first // the last one measured
	for row := first + 1; row < s.end; row++ {
		switch {
		case !s.isMissing(row):
			last = row
		case limit == 0 || row-last <= limit:
			*s.at(row) = *s.at(last)
			count.Forward++
		}
	}
}

// interpolate puts missing values between two others on the line between them, in
// time where there is one, and returns how many. Runs longer than limit rows are
// left, unless it is 0.
func (s series) interpolate(times *timeColumn, limit int) (n int) {
	when := func(row int) float64 {
		if times.kind == noTime {
			return float64(row)
		}
		return times.float(row)
	}
	last := -1
	for row := s.start; row < s.end; row++ {
		if s.isMissing(row) {
			continue
		}
		if gap := row - last - 1; last >= 0 && gap > 0 && (limit == 0 || gap <= limit) {
			a, b := float64(*s.at(last)), float64(*s.at(row))
			for k := last + 1; k < row; k++ {
				part := (when(k) - when(last)) / (when(row) - when(last))
				*s.at(k) = float32(a + (b-a)*part)
				n++
			}
		}
		last = row
	}
	return n
}
