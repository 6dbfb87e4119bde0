package dataset

import (
	"fmt"
	"math"
	"slices"
)

// aggregates are the values of Options.ResampleBy.
var aggregates = []string{"mean", "min", "max", "first", "last", "sum"}

// aggregateRows makes rows [row, end) of the matrix v of n columns one, row to.
// Missing values do not count; where there is nothing else the result is missing.
func aggregateRows(v []float32, n int, by string, row, end, to int) {
	if end-row == 1 {
		copy(v[to*n:][:n], v[row*n:][:n])
		return
	}
	for f := range n {
		a := aggregate{by: by}
		for r := row; r < end; r++ {
			a.add(v[r*n+f])
		}
		v[to*n+f] = a.value()
	}
}

// An aggregate is made of values.
type aggregate struct {
	by    string
	n     int
	one   float32
	total float64
}

func (a *aggregate) add(v float32) {
	if v != v {
		return
	}
	a.total += float64(v)
	if a.n++; a.n == 1 || a.by == "last" || a.by == "min" && v < a.one || a.by == "max" && v > a.one {
		a.one = v
	}
}

func (a *aggregate) value() float32 {
	switch {
	case a.n == 0:
		return nan32
	case a.by == "sum":
		return float32(a.total)
	case a.by == "mean" || a.by == "":
		return float32(a.total / float64(a.n))
	}
	return a.one
}

// maxStretch is how many times as many rows resampling may make.
const maxStretch = 1000

// resample makes rows that are all as far apart as the option says, and reports
// whether one of them has a missing value.
func (t *Table) resample(r *rules) (missing bool, err error) {
	step, err := t.times.tick("resample", r.Resample)
	if err != nil {
		return false, err
	}
	if t.times.kind == decimalTime {
		for row := range t.Rows() {
			if math.Abs(t.times.float(row)) > 1<<53*step.decimal {
				return false, fmt.Errorf("%w: resample %s: the steps are too short for times such as %s", ErrOptions, r.Resample, t.times.format(row))
			}
		}
	}
	type bins struct {
		start, end  int // rows
		first, last int64
	}
	var all []bins
	// Two rows far apart are not to fill the memory.
	rows, limit := int64(0), min(maxStretch*int64(t.Rows()), int64(MaxValues/(len(t.Features)+len(t.Targets)+4)))
	out := &Table{Features: t.Features, Targets: t.Targets, Skipped: t.Skipped, Cleaning: t.Cleaning, texts: t.texts, times: t.times}
	for _, g := range t.Groups {
		from := rows
		t.segments(g, func(start, end int) {
			b := bins{start, end, t.times.bin(start, step), t.times.bin(end-1, step)}
			if n := len(all); start > g.Start && n > 0 && all[n-1].last >= b.first {
				b.first = all[n-1].last + 1 // a gap shorter than a bin: its row belongs to what came before
			}
			if b.first > b.last {
				all[len(all)-1].end = end
				return
			}
			if start > g.Start {
				out.breaks = append(out.breaks, int(rows))
			}
			all = append(all, b)
			n := b.last - b.first + 1
			if n <= 0 || n > limit { // or more than int64 holds
				n = limit + 1
			}
			rows = min(rows+n, limit+1)
		})
		if rows > limit {
			return false, fmt.Errorf("%w: resample %s makes more than %d rows of %d; take longer steps, or keep gaps apart with max_gap", ErrTooLarge, r.Resample, limit, t.Rows())
		}
		out.Groups = append(out.Groups, Group{Name: g.Name, Start: int(from), End: int(rows), Part: g.Part})
	}
	nx, ny := len(t.Features), len(t.Targets)
	out.X, out.Y, out.times.at = make([]float32, int(rows)*nx), make([]float32, int(rows)*ny), make([]int64, rows)
	if t.Weights != nil {
		out.Weights = make([]float32, rows)
	}
	if t.Labels != nil {
		out.Labels = &Labels{Column: t.Labels.Column, Classes: t.Labels.Classes, Of: make([]int32, rows)}
	}
	to, empty := 0, 0
	one := make([]float32, nx+ny)
	for _, b := range all {
		row := b.start
		for bin := b.first; to < int(rows); bin++ {
			end := row
			for end < b.end && (t.times.bin(end, step) <= bin || bin == b.last) {
				end++
			}
			if end == row {
				empty++
			}
			t.aggregate(r.ResampleBy, row, end, one)
			copy(out.X[to*nx:][:nx], one)
			copy(out.Y[to*ny:][:ny], one[nx:])
			missing = missing || slices.ContainsFunc(one, func(v float32) bool { return v != v })
			if t.Weights != nil {
				out.Weights[to] = t.meanWeight(row, end)
			}
			if t.Labels != nil { // that of the last row up to here
				out.Labels.Of[to] = t.Labels.Of[end-1]
			}
			out.times.at[to] = t.times.begin(bin, step)
			row, to = end, to+1
			if bin == b.last {
				break
			}
		}
	}
	out.Cleaning.Resampled, out.Cleaning.Empty = int(rows), empty
	*t = *out
	return missing, nil
}

// aggregate writes the features and the targets of one row made of rows [row, end).
func (t *Table) aggregate(by string, row, end int, dst []float32) {
	nx, ny := len(t.Features), len(t.Targets)
	for f := range nx + ny {
		a := aggregate{by: by}
		if f < nx && by != "first" && t.IsText(f) {
			a.by = "last"
		}
		for r := row; r < end; r++ {
			if f < nx {
				a.add(t.X[r*nx+f])
			} else {
				a.add(t.Y[r*ny+f-nx])
			}
		}
		dst[f] = a.value()
	}
}

// meanWeight is the mean weight of rows [row, end), or that of the row before if
// there are none.
func (t *Table) meanWeight(row, end int) float32 {
	if row == end {
		return t.Weights[row-1]
	}
	a := aggregate{by: "mean"}
	for ; row < end; row++ {
		a.add(t.Weights[row])
	}
	return a.value()
}
