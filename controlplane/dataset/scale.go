package dataset

import (
	"fmt"
	"slices"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// Ways to scale a column.
const (
	ZScore = "zscore" // (x − mean) / standard deviation
	MinMax = "minmax" // (x − minimum) / (maximum − minimum)
	Robust = "robust" // (x − median) / (interquartile range / 1.349), which is 1 deviation of a normal distribution
)

// Scales are all of them, the default first.
var Scales = []string{ZScore, MinMax, Robust}

// normalIQR is the interquartile range of a normal distribution of deviation 1.
const normalIQR = 1.3489795003921634

// Scaler returns the scaler of the features by the rows of p alone, how[f] being
// how feature f is scaled. The outputs are left to the caller, who knows the task.
// Features that are constant there, and so scale to 0 whatever they later hold, are
// returned by index. Notes say where another way than how's was taken, and why.
func (t *Table) Scaler(p Part, how []string) (s *kernel.Scaler, constant []int, notes []string) {
	all := t.FeatureMoments(p)
	for f := range all {
		m := &all[f]
		switch {
		case m.Constant():
		case how[f] == MinMax:
			m.Mean, m.Std = float64(m.Min), float64(m.Max)-float64(m.Min)
		case how[f] == Robust:
			low, median, high := t.quartiles(p, f)
			if r := (Moments{Std: (high - low) / normalIQR}); !r.Constant() {
				m.Mean, m.Std = median, r.Std
				break
			}
			notes = append(notes, fmt.Sprintf("column %q has one value in half of the training rows, which leaves robust scaling nothing to divide by: it is scaled by its standard deviation", t.Features[f]))
		}
	}
	s, constant = NewScaler(all)
	return s, constant, notes
}

// quartiles of feature f over the rows of p, interpolated between values.
func (t *Table) quartiles(p Part, f int) (low, median, high float64) {
	v := make([]float32, 0, p.Rows())
	for _, s := range p {
		for row := s.Start; row < s.End; row++ {
			v = append(v, t.X[row*len(t.Features)+f])
		}
	}
	slices.Sort(v)
	at := func(q float64) float64 {
		x := q * float64(len(v)-1)
		i := int(x)
		j := min(i+1, len(v)-1)
		return float64(v[i]) + (x-float64(i))*(float64(v[j])-float64(v[i]))
	}
	return at(0.25), at(0.5), at(0.75)
}
