package dataset

import (
	"fmt"
	"math"
	"math/rand/v2"
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

// Ways to split, of Split.By.
const (
	ByTime  = "time"  // each group in time order; the zero value means it too
	ByGroup = "group" // whole groups, which ones depending on a seed
)

// Rest in Split.Rows stands for what the other parts leave.
const Rest = -1

// A Split says how the rows that no file of their own holds out are divided: as
// counts, Rows, of which one may be Rest, or, where these are zero, as Fractions.
//
// By time they are of the rows of each group: first training, then validation, then
// test, and what is left to nobody. Gap rows before validation and before test go to
// nobody either. By group they are of the groups.
type Split struct {
	By        string     `json:"by,omitempty"`
	Rows      [3]int     `json:"rows,omitzero"`
	Fractions [3]float64 `json:"fractions,omitzero"`
	Gap       int        `json:"gap,omitempty"`
}

// ParseSplit reads counts, "8640,2880,2880" or "400,100,rest", and fractions,
// "0.7,0.1,0.2". Two of them are training and validation.
func ParseSplit(s string) (Split, error) {
	var out Split
	bad := func(why string) (Split, error) {
		return Split{}, fmt.Errorf("%w %q: %s; write counts (8640,2880,2880 or 400,100,rest) or fractions (0.7,0.1,0.2) for training, validation, test", ErrSplit, s, why)
	}
	fields := strings.Split(s, ",")
	if len(fields) != 2 && len(fields) != 3 {
		return bad(fmt.Sprintf("%d numbers", len(fields)))
	}
	whole, rests, sum := true, 0, 0.0
	for i, f := range fields {
		if f = strings.TrimSpace(f); f == "rest" {
			rests++
			out.Rows[i] = Rest
			continue
		}
		v, err := strconv.ParseFloat(f, 64)
		if err != nil || !(v >= 0 && v <= math.MaxInt32) {
			return bad(fmt.Sprintf("%q is not a count or a fraction", f))
		}
		out.Fractions[i] = v
		sum += v
		whole = whole && v == math.Trunc(v)
	}
	switch {
	case rests > 1:
		return bad("only one part can be the rest")
	case out.Fractions[0] == 0 && out.Rows[0] == 0:
		return bad("nothing is left for training")
	case rests == 1 && !whole:
		return bad("the rest is of counts")
	case whole && (sum > 1 || rests == 1):
		for i, v := range out.Fractions {
			if out.Rows[i] != Rest {
				out.Rows[i] = int(v)
			}
		}
		out.Fractions = [3]float64{}
	case sum > 1+1e-9:
		return bad("the parts sum to more than 1")
	}
	return out, nil
}

// part returns whether the split gives anything to part k.
func (s Split) part(k int) bool { return s.Rows[k] != 0 || s.Fractions[k] != 0 }

// counts returns how many of n things each part gets, whose name is for errors.
func (s Split) counts(n int, name, unit string) (counts [3]int, err error) {
	if s.Rows == [3]int{} {
		sum, before := 0.0, 0
		for k, f := range s.Fractions {
			sum += f
			upTo := int(sum*float64(n) + 1e-9)
			counts[k], before = upTo-before, upTo
		}
		return counts, nil
	}
	left, rest := n, -1
	for k, c := range s.Rows {
		if counts[k] = c; c == Rest {
			rest, counts[k] = k, 0
		}
		left -= counts[k]
	}
	if left < 0 {
		return counts, fmt.Errorf("%w: %d,%d,%d takes %d %s, %s has %d", ErrSplit, counts[0], counts[1], counts[2], n-left, unit, name, n)
	}
	if rest >= 0 {
		counts[rest] = left
	}
	return counts, nil
}

// Divide gives the groups of files that are held out to the part of their file, and
// divides the others as s says; by group, seed and their number alone decide which
// go where.
func (t *Table) Divide(s Split, seed uint64) (Parts, error) {
	if s.Gap < 0 {
		return Parts{}, fmt.Errorf("%w: a gap of %d rows", ErrSplit, s.Gap)
	}
	var parts Parts
	var own Part // groups that are to be divided
	for _, span := range t.All() {
		switch t.Groups[span.Group].Part {
		case PartValidation:
			parts.Validation = append(parts.Validation, span)
		case PartTest:
			parts.Test = append(parts.Test, span)
		default:
			own = append(own, span)
		}
	}
	for k, held := range [3]Part{nil, parts.Validation, parts.Test} {
		if len(held) > 0 && s.part(k) {
			return Parts{}, fmt.Errorf("%w: the %s part is in a file of its own, and the split takes one from the data too; give it 0 there", ErrSplit, partNames[k])
		}
	}
	var err error
	switch s.By {
	case ByTime, "":
		err = t.divideTime(&parts, own, s)
	case ByGroup:
		if s.Gap > 0 {
			return Parts{}, fmt.Errorf("%w: a gap is of rows, between parts of one group; whole groups need none", ErrSplit)
		}
		err = divideGroups(&parts, own, s, seed)
	default:
		err = fmt.Errorf("%w: by %.40q; there are %s and %s", ErrSplit, s.By, ByTime, ByGroup)
	}
	if err != nil {
		return Parts{}, err
	}
	return parts, nil
}

var partNames = [3]string{PartTraining, PartValidation, PartTest}

// divideTime divides every group in time order.
func (t *Table) divideTime(parts *Parts, own Part, s Split) error {
	for _, g := range own {
		name := "the data"
		if n := t.Groups[g.Group].Name; n != "" {
			name = fmt.Sprintf("group %q", n)
		}
		rows, err := s.counts(g.End-g.Start, name, "rows")
		if err != nil {
			return err
		}
		at := g.Start
		for k, p := range []*Part{&parts.Train, &parts.Validation, &parts.Test} {
			start, end := at, at+rows[k]
			at = end
			if k > 0 {
				start = min(start+s.Gap, end)
			}
			if start < end {
				*p = append(*p, Span{Group: g.Group, Start: start, End: end})
			}
		}
	}
	return nil
}

// divideGroups divides the groups. Fractions are rounded, to at least one group
// where they are above 0; training has what they leave.
func divideGroups(parts *Parts, own Part, s Split, seed uint64) error {
	n := len(own)
	counts, err := s.counts(n, "the data", "groups")
	if err != nil {
		return err
	}
	if s.Rows == [3]int{} {
		held := 0
		for k := 1; k < 3; k++ {
			if counts[k] = int(math.Round(s.Fractions[k] * float64(n))); s.Fractions[k] > 0 {
				counts[k] = max(counts[k], 1)
			}
			held += counts[k]
		}
		counts[0] = n - held
		if sum := s.Fractions[0] + s.Fractions[1] + s.Fractions[2]; sum < 1-1e-9 {
			counts[0] = min(counts[0], int(math.Round(s.Fractions[0]*float64(n))))
		}
	}
	if counts[0] < 1 {
		held := fmt.Sprintf("%d of %d groups for validation leaves", counts[1], n)
		if counts[2] > 0 {
			held = fmt.Sprintf("%d of %d groups for validation and %d for test leave", counts[1], n, counts[2])
		}
		return fmt.Errorf("%w: %s none for training; name the group column, hold out fewer, or hold out none (validation -1)", ErrSplit, held)
	}
	order := rand.New(rand.NewPCG(seed, 0x73706c6974)).Perm(n) // "split"
	of := make([]*Part, n)                                     // of each group
	for _, k := range []int{1, 2, 0} {
		for _, i := range order[:counts[k]] {
			of[i] = []*Part{&parts.Train, &parts.Validation, &parts.Test}[k]
		}
		order = order[counts[k]:]
	}
	for i, p := range of {
		if p != nil {
			*p = append(*p, own[i])
		}
	}
	return nil
}
