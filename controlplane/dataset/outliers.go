package dataset

import (
	"math"
	"slices"
)

// WithoutOutliers returns a table whose rows of p have no outliers, the others
// being those of t: values further than z robust standard deviations from the
// median, both of the rows of p. 1.4826 times the median of the distances from the
// median is the standard deviation of normal values (Iglewicz and Hoaglin 1993); a
// column in which more than half of the values are one has none. A feature that is
// an outlier is as its group had it before, or as the median where there is
// nothing before; a target is one that nobody measured.
func (t *Table) WithoutOutliers(p Part, z float64) *Table {
	out := *t
	out.X, out.unknown = slices.Clone(t.X), slices.Clone(t.unknown)
	if out.unknown == nil {
		out.unknown = make([]bool, t.Rows())
	}
	out.Cleaning.Outliers = nil
	count := map[string]int{}
	for f, name := range t.Features {
		if t.IsText(f) {
			continue
		}
		median, limit := robust(t.X, len(t.Features), f, p, z)
		for _, s := range p {
			before := float32(median)
			for row := s.Start; row < s.End; row++ {
				v := out.X[row*len(t.Features)+f]
				if math.Abs(float64(v)-median) <= limit {
					before = v
					continue
				}
				out.X[row*len(t.Features)+f] = before
				count[name]++
			}
		}
	}
	for f, name := range t.Targets {
		median, limit := robust(t.Y, len(t.Targets), f, p, z)
		n := 0
		for _, s := range p {
			for row := s.Start; row < s.End; row++ {
				if math.Abs(float64(t.Y[row*len(t.Targets)+f])-median) > limit {
					out.unknown[row] = true
					n++
				}
			}
		}
		count[name] = max(count[name], n)
	}
	for _, name := range slices.Concat(t.Features, t.Targets) {
		if n := count[name]; n > 0 {
			out.Cleaning.Outliers = append(out.Cleaning.Outliers, Count{name, n})
			delete(count, name)
		}
	}
	return &out
}

// robust returns the median of a column over the rows of p, and how far from it a
// value is no outlier.
func robust(v []float32, n, f int, p Part, z float64) (median, limit float64) {
	var column []float32
	for _, s := range p {
		for row := s.Start; row < s.End; row++ {
			column = append(column, v[row*n+f])
		}
	}
	if len(column) == 0 {
		return 0, math.Inf(1)
	}
	sortValues(column)
	m := column[len(column)/2]
	for i, x := range column {
		column[i] = float32(math.Abs(float64(x) - float64(m)))
	}
	sortValues(column)
	if mad := float64(column[len(column)/2]); mad > 0 {
		return float64(m), z * 1.4826 * mad
	}
	return float64(m), math.Inf(1)
}

// Without returns the table without the features at the given indices.
func (t *Table) Without(features []int) *Table {
	out := *t
	n, kept := len(t.Features), []int{}
	out.Features = nil
	for f, name := range t.Features {
		if slices.Contains(features, f) {
			out.Cleaning.Constant = append(slices.Clip(out.Cleaning.Constant), name)
			continue
		}
		kept = append(kept, f)
		out.Features = append(out.Features, name)
	}
	out.X = make([]float32, 0, t.Rows()*len(kept))
	for row := range t.Rows() {
		for _, f := range kept {
			out.X = append(out.X, t.X[row*n+f])
		}
	}
	return &out
}
