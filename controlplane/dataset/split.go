package dataset

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A Part is the rows that one purpose may use, as spans in table order.
type Part []Span

// A Span is rows [Start, End) of the table, all of one group.
type Span struct{ Group, Start, End int }

// Rows returns the number of rows in the part.
func (p Part) Rows() int {
	n := 0
	for _, s := range p {
		n += s.End - s.Start
	}
	return n
}

// Parts are disjoint: no row is in two of them.
type Parts struct{ Train, Validation, Test Part }

// All returns every row.
func (t *Table) All() Part {
	p := make(Part, len(t.Groups))
	for i, g := range t.Groups {
		p[i] = Span{Group: i, Start: g.Start, End: g.End}
	}
	return p
}

// A Split says how rows are divided in time order: as counts, the first
// Rows[0] of each group to training, the next Rows[1] to validation, the next
// Rows[2] to test and the rest to nobody; or, where Rows is zero, as fractions
// of each group. Gap rows before validation and before test go to nobody.
type Split struct {
	Rows      [3]int     `json:"rows,omitzero"`
	Fractions [3]float64 `json:"fractions,omitzero"`
	Gap       int        `json:"gap,omitempty"`
}

// ParseSplit reads "8640,2880,2880" as rows and "0.7,0.1,0.2" as fractions.
func ParseSplit(s string) (Split, error) {
	var out Split
	bad := func(why string) (Split, error) {
		return Split{}, fmt.Errorf("%w %q: %s; write rows (8640,2880,2880) or fractions (0.7,0.1,0.2) for training, validation, test", ErrSplit, s, why)
	}
	fields := strings.Split(s, ",")
	if len(fields) != 3 {
		return bad(fmt.Sprintf("%d numbers", len(fields)))
	}
	whole, sum := true, 0.0
	for i, f := range fields {
		v, err := strconv.ParseFloat(strings.TrimSpace(f), 64)
		if err != nil || !(v >= 0 && v <= math.MaxInt32) {
			return bad(fmt.Sprintf("%q is not a count or a fraction", f))
		}
		out.Fractions[i] = v
		sum += v
		whole = whole && v == math.Trunc(v)
	}
	switch {
	case out.Fractions[0] == 0:
		return bad("nothing is left for training")
	case whole && sum > 1:
		for i, v := range out.Fractions {
			out.Rows[i] = int(v)
		}
		out.Fractions = [3]float64{}
	case sum > 1+1e-9:
		return bad("the parts sum to more than 1")
	}
	return out, nil
}

// SplitTime divides every group in time order.
func (t *Table) SplitTime(s Split) (Parts, error) {
	var parts Parts
	if s.Gap < 0 {
		return parts, fmt.Errorf("%w: a gap of %d rows", ErrSplit, s.Gap)
	}
	for i, g := range t.Groups {
		n := g.End - g.Start
		rows := s.Rows
		if rows == [3]int{} {
			a := int(s.Fractions[0]*float64(n) + 1e-9)
			b := int((s.Fractions[0]+s.Fractions[1])*float64(n) + 1e-9)
			c := int((s.Fractions[0]+s.Fractions[1]+s.Fractions[2])*float64(n) + 1e-9)
			rows = [3]int{a, b - a, c - b}
		} else if sum := rows[0] + rows[1] + rows[2]; sum > n {
			name := "the data"
			if g.Name != "" {
				name = fmt.Sprintf("group %q", g.Name)
			}
			return Parts{}, fmt.Errorf("%w: %d,%d,%d takes %d rows, %s has %d", ErrSplit, rows[0], rows[1], rows[2], sum, name, n)
		}
		at := g.Start
		for k, p := range []*Part{&parts.Train, &parts.Validation, &parts.Test} {
			start, end := at, at+rows[k]
			at = end
			if k > 0 {
				start = min(start+s.Gap, end)
			}
			if start < end {
				*p = append(*p, Span{Group: i, Start: start, End: end})
			}
		}
	}
	return parts, nil
}

// SplitGroups holds out whole groups for validation: the given fraction of
// them, rounded, at least one if the fraction is above 0. Which ones depends
// on the seed and on the number of groups alone.
func (t *Table) SplitGroups(validation float64, seed uint64) (Parts, error) {
	if !(validation >= 0 && validation < 1) {
		return Parts{}, fmt.Errorf("%w: %g of the groups for validation; give a fraction below 1", ErrSplit, validation)
	}
	n := len(t.Groups)
	held := int(math.Round(validation * float64(n)))
	if validation > 0 {
		held = max(held, 1)
	}
	if held >= n {
		return Parts{}, fmt.Errorf("%w: %d of %d groups for validation leaves none for training; give the group column, or hold out none (validation -1)", ErrSplit, held, n)
	}
	order := rand.New(rand.NewPCG(seed, 0x73706c6974)).Perm(n) // "split"
	out := order[:held]
	var parts Parts
	for _, s := range t.All() {
		if slices.Contains(out, s.Group) {
			parts.Validation = append(parts.Validation, s)
		} else {
			parts.Train = append(parts.Train, s)
		}
	}
	return parts, nil
}
