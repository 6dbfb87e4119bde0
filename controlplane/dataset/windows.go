package dataset

import (
	"fmt"
	"math"
)

// A Shape says how windows are cut.
type Shape struct {
	Window  int // rows of input
	Horizon int // rows after the window that are its target; 0: the target stands in the window's last row
	Stride  int // rows from one window to the next; 0 means 1
	// Pad keeps a group shorter than the window, as one window that repeats its
	// first row on the left. Horizon 0 only.
	Pad bool
	// Starts adds the windows that end in a group's first rows, padded likewise:
	// what a machine sends that has not run for a whole window yet. Horizon 0 only.
	Starts bool
}

// Windows are the windows of a part. The rows that are predicted lie in the
// part; the rows before them may lie in the part before, as they would be known
// when the prediction is made. Nothing comes from another group, from the other
// side of a gap, or has a target that nobody measured.
type Windows struct {
	Shape   Shape
	Short   int // groups of the part that were left out: too short for one window
	Padded  int // groups of the part that were padded
	Unknown int // windows that were left out for want of a target

	t      *Table
	series bool    // of different length: see Series
	last   []int32 // last input row of each window
	from   []int32 // first row of its group, or after the gap before it
}

// Windows cuts the part. ErrTooFewRows says what would be needed if there is
// not one window.
func (t *Table) Windows(p Part, s Shape) (*Windows, error) {
	s.Stride = max(s.Stride, 1)
	if s.Window < 1 || s.Horizon < 0 || s.Window > MaxValues || s.Horizon > MaxValues {
		return nil, fmt.Errorf("window %d, horizon %d: %w: a window needs at least 1 row", s.Window, s.Horizon, ErrTooFewRows)
	}
	w := &Windows{Shape: s, t: t}
	longest := 0
	for _, span := range p {
		found := w.Len()
		t.segments(t.Groups[span.Group], func(start, end int) {
			if end = min(end, span.End); end > span.Start {
				longest = max(longest, end-start)
				w.cut(start, max(start, span.Start), end)
			}
		})
		if w.Len() == found {
			w.Short++
		}
	}
	if w.Len() == 0 {
		return nil, tooFew(s, longest)
	}
	return w, nil
}

// cut adds the windows whose target lies in [start, end), their rows from from on.
func (w *Windows) cut(from, start, end int) {
	s := w.Shape
	first := max(from+s.Window-1, start-min(s.Horizon, 1))
	last := end - s.Horizon // one behind the last input row
	if first >= last && s.Pad && s.Horizon == 0 && w.known(end-1) {
		w.Padded++
		if !s.Starts {
			w.add(end-1, from)
		}
	}
	if s.Starts && s.Horizon == 0 {
		first = start
	}
	for row := first; row < last; row += s.Stride {
		if w.known(row) {
			w.add(row, from)
		} else {
			w.Unknown++
		}
	}
}

// known reports whether the whole target of the window whose last row is row was
// measured.
func (w *Windows) known(row int) bool {
	if w.t.unknown == nil {
		return true
	}
	if w.Shape.Horizon > 0 {
		row++
	}
	for i := range max(w.Shape.Horizon, 1) {
		if w.t.unknown[row+i] {
			return false
		}
	}
	return true
}

// LastWindows gives one window a group, the one that ends in its last row:
// what a machine in the field would send now.
func (t *Table) LastWindows(s Shape) (*Windows, error) {
	w := &Windows{Shape: s, t: t}
	longest := 0
	for _, g := range t.Groups {
		var from int
		t.segments(g, func(start, _ int) { from = start })
		longest = max(longest, g.End-from)
		switch {
		case !w.known(g.End - 1):
			w.Unknown++
		case g.End-from >= s.Window:
			w.add(g.End-1, from)
		case s.Pad:
			w.Padded++
			w.add(g.End-1, from)
		default:
			w.Short++
		}
	}
	if w.Len() == 0 {
		return nil, tooFew(s, longest)
	}
	return w, nil
}

func tooFew(s Shape, longest int) error {
	hint := "; give more rows or a smaller window"
	if s.Horizon == 0 && !s.Pad && longest > 0 {
		hint = "; give more rows, a smaller window, or allow padding"
	}
	return fmt.Errorf("%w: a window of %d rows and %d to predict needs %d in one group, the longest has %d%s",
		ErrTooFewRows, s.Window, s.Horizon, s.Window+s.Horizon, longest, hint)
}

func (w *Windows) add(last, from int) {
	w.last = append(w.last, int32(last))
	w.from = append(w.from, int32(from))
}

// Len returns the number of windows.
func (w *Windows) Len() int { return len(w.last) }

// Outputs returns the number of target values of a window.
func (w *Windows) Outputs() int { return max(w.Shape.Horizon, 1) * len(w.t.Targets) }

// Inputs returns the number of values of a window.
func (w *Windows) Inputs() int { return w.Shape.Window * len(w.t.Features) }

// Rows writes window i in raw units, oldest row first: Window × Features.
func (w *Windows) Rows(i int, dst []float32) {
	n := len(w.t.Features)
	last, from := int(w.last[i]), int(w.from[i])
	first := last - w.Shape.Window + 1
	for ; first < from; first++ {
		copy(dst[:n], w.t.X[from*n:])
		dst = dst[n:]
	}
	copy(dst, w.t.X[first*n:(last+1)*n])
}

// Target writes the target of window i in raw units: Horizon × Targets, step
// by step, or the Targets of the last row when Horizon is 0.
func (w *Windows) Target(i int, dst []float32) { w.target(int(w.last[i]), dst) }

// target is that of the window whose last row is row.
func (w *Windows) target(row int, dst []float32) {
	n := len(w.t.Targets)
	if w.Shape.Horizon > 0 {
		row++
	}
	copy(dst[:w.Outputs()], w.t.Y[row*n:])
}

// Span returns the first row of the group of window i, or after its last gap, and the last row of the
// window, as rows of the table.
func (w *Windows) Span(i int) (first, last int) { return int(w.from[i]), int(w.last[i]) }

// Group returns the name of the group of window i.
func (w *Windows) Group(i int) string { return w.t.Groups[w.t.groupOf(int(w.last[i]))].Name }

// Time returns the time of the last row of window i, as the file writes it.
func (w *Windows) Time(i int) string { return w.t.Time(int(w.last[i])) }

// Weight returns the weight of window i, that of its last row. The table has a
// weight column.
func (w *Windows) Weight(i int) float32 { return w.t.Weights[w.last[i]] }

// Before writes the targets of the row k rows before the first one that window
// i predicts, telling whether the group has that row; k = 1 is the last input
// row. It serves the baselines that repeat the past.
func (w *Windows) Before(i, k int, dst []float32) bool {
	row := int(w.last[i]) - k + 1
	if row < int(w.from[i]) {
		return false
	}
	n := len(w.t.Targets)
	copy(dst[:n], w.t.Y[row*n:])
	return true
}

// SetRemaining makes the only target "rul": the rows left until the end of the
// group, 0 in its last row, plus what truth adds for a group that was cut
// before its end (nil: every group ran to its end).
func (t *Table) SetRemaining(truth map[string]float32) error {
	y := make([]float32, t.Rows())
	for _, g := range t.Groups {
		after, ok := truth[g.Name]
		if truth != nil && !ok {
			return fmt.Errorf("%w: no value for group %q", ErrTruth, g.Name)
		}
		for row := g.Start; row < g.End; row++ {
			y[row] = after + float32(g.End-1-row)
		}
	}
	t.Targets, t.Y, t.unknown, t.counted = []string{"rul"}, y, nil, true
	return nil
}

// Moments are the mean, the population standard deviation and the range of a column.
type Moments struct {
	Mean, Std float64
	Min, Max  float32
}

// Constant reports whether the column has one value only, or so little spread
// that its inverse is no float32.
func (m Moments) Constant() bool {
	s := float32(m.Std)
	return s == 0 || math.IsInf(float64(1/s), 0)
}

// moments of column f of the row-major matrix v of n columns, over the rows of p
// that are not to be skipped.
func moments(v []float32, n, f int, p Part, skip []bool) Moments {
	m := Moments{Min: float32(math.Inf(1)), Max: float32(math.Inf(-1))}
	sum, count := 0.0, 0
	each := func(f func(row int)) {
		for _, s := range p {
			for row := s.Start; row < s.End; row++ {
				if skip == nil || !skip[row] {
					f(row)
				}
			}
		}
	}
	each(func(row int) {
		x := v[row*n+f]
		sum += float64(x)
		m.Min, m.Max = min(m.Min, x), max(m.Max, x)
		count++
	})
	if count == 0 {
		return Moments{}
	}
	m.Mean = sum / float64(count)
	ss := 0.0
	each(func(row int) {
		d := float64(v[row*n+f]) - m.Mean
		ss += d * d
	})
	m.Std = math.Sqrt(ss / float64(count))
	if m.Min == m.Max { // the sums may be off by a rounding
		m.Mean, m.Std = float64(m.Min), 0
	}
	return m
}

// FeatureMoments returns the moments of every feature over the rows of p.
func (t *Table) FeatureMoments(p Part) []Moments {
	out := make([]Moments, len(t.Features))
	for f := range out {
		out[f] = moments(t.X, len(t.Features), f, p, nil)
	}
	return out
}

// TargetMoments returns the moments of every target over the rows of p.
func (t *Table) TargetMoments(p Part) []Moments {
	out := make([]Moments, len(t.Targets))
	for f := range out {
		out[f] = moments(t.Y, len(t.Targets), f, p, t.unknown)
	}
	return out
}
