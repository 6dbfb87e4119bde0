package dataset

import (
	"fmt"
	"math"

	"github.com/sandpiper-edge/sandpiper/controlplane/drift"
)

// A Drift is how far the columns of a data set are from those of a reference.
type Drift struct {
	Rows    [2]int        `json:"rows"` // of the reference, and of what is compared with it
	Columns []ColumnDrift `json:"columns"`
	Notes   []string      `json:"notes,omitempty"`
}

// A ColumnDrift is of one column of numbers. Pairs are of the reference and of what is
// compared with it.
type ColumnDrift struct {
	Name    string     `json:"name"`
	Verdict string     `json:"verdict"` // stable, shifted, drifted or unknown
	Words   string     `json:"words"`
	PSI     float64    `json:"psi"`   // population stability index; missing values are a bin
	Noise   float64    `json:"noise"` // the index that chance alone lets expect
	KS      float64    `json:"ks"`    // largest distance of the distribution functions
	P       float64    `json:"p"`     // of as large a distance by chance, were the values independent
	Missing [2]float64 `json:"missing"`
	Median  [2]float64 `json:"median"`
}

// Compare compares the files held out as PartTest with the others, which are the
// reference, column by column. Rows are taken as they are: options that clean are not
// looked at.
func Compare(files Files, c Columns, o Options) (*Drift, error) {
	reference, err := newDescriber(c, o)
	if err != nil {
		return nil, err
	}
	current, err := newDescriber(c, o)
	if err != nil {
		return nil, err
	}
	for f, err := range files {
		if err != nil {
			return nil, err
		}
		d := reference
		if f.Part == PartTest {
			d = current
		}
		if err := d.file(f); err != nil {
			return nil, f.blame(err)
		}
	}
	if reference.rows == 0 || current.rows == 0 {
		return nil, fmt.Errorf("%w: the reference has %d rows, and what is compared with it %d", ErrEmpty, reference.rows, current.rows)
	}
	out := &Drift{Rows: [2]int{reference.rows, current.rows}, Columns: []ColumnDrift{}}
	for _, t := range reference.all {
		if reference.isKey(t.name) {
			continue
		}
		other := current.byName[t.name]
		switch {
		case other == nil:
			out.Notes = append(out.Notes, fmt.Sprintf("column %q is in the reference alone", t.name))
		case t.texts > 0 || other.texts > 0 || t.stamps > 0 || other.stamps > 0:
			out.Notes = append(out.Notes, fmt.Sprintf("column %q holds text and is not compared", t.name))
		case len(t.values) == 0:
			out.Notes = append(out.Notes, fmt.Sprintf("column %q has no value in the reference", t.name))
		case len(other.values) == 0:
			out.Notes = append(out.Notes, fmt.Sprintf("column %q has no value in what is compared with the reference", t.name))
		default:
			out.Columns = append(out.Columns, compare(t, other, out.Rows))
		}
	}
	for _, t := range current.all {
		if reference.byName[t.name] == nil {
			out.Notes = append(out.Notes, fmt.Sprintf("column %q is not in the reference", t.name))
		}
	}
	return out, nil
}

// isKey reports whether a column places rows.
func (d *describer) isKey(name string) bool {
	if name == d.columns.Group {
		return true
	}
	for _, n := range timeNames(d.columns.Time, nil) {
		if n == name {
			return true
		}
	}
	return false
}

// compare compares two columns, whose values it sorts.
func compare(reference, current *tally, rows [2]int) ColumnDrift {
	c := ColumnDrift{Name: reference.name}
	sortValues(reference.values)
	sortValues(current.values)
	edges := drift.Edges(reference.values, drift.Bins)
	var counts [2][]float64
	var values [2][]float64
	for k, t := range []*tally{reference, current} {
		counts[k] = make([]float64, len(edges)+2) // the last of missing values
		counts[k][len(edges)+1] = float64(rows[k] - len(t.values))
		values[k] = make([]float64, len(t.values))
		for i, v := range t.values {
			values[k][i] = float64(v)
			counts[k][drift.Bin(edges, v)]++
		}
		c.Missing[k] = counts[k][len(edges)+1] / float64(rows[k])
		c.Median[k] = quantile(t.values, 0.5)
	}
	c.PSI = drift.PSI(counts[0], counts[1])
	c.Noise = drift.Noise(len(edges)+1, float64(rows[0]), float64(rows[1]))
	c.KS, c.P = drift.KS(values[0], values[1])
	c.Verdict = drift.Judge(c.PSI, c.Noise)
	if len(edges) == 0 && c.Verdict == drift.Stable && c.Median[0] != c.Median[1] && !math.IsNaN(c.Median[1]) {
		c.Verdict = drift.Drifted // a constant that is another one now
	}
	c.Words = drift.Words(c.Verdict)
	return c
}
