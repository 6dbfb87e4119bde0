package dataset

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// CheckOverlap refuses windows of held-out rows that reach back into rows which are
// trained on, or chosen by. It is for windows whose target stands in their last row:
// two that overlap have nearly the same answer. A forecast may look back, since what
// it predicts lies in the rows that follow.
func (t *Table) CheckOverlap(p Parts, s Shape) error {
	if s.Horizon > 0 {
		return nil
	}
	type end struct {
		row  int
		part string
	}
	ends := map[int][]end{} // of the spans of each group, earlier parts first
	for k, part := range []Part{p.Train, p.Validation, p.Test} {
		for _, span := range part {
			for _, e := range ends[span.Group] {
				if e.row > span.Start || t.broken(e.row, span.Start) {
					continue
				}
				if gap := span.Start - e.row; gap < s.Window-1 {
					return fmt.Errorf("%w: windows of %d rows in the %s part reach into the %s part, which ends %d rows before it%s; leave a gap of %d rows or more, or hold out whole groups",
						ErrLeak, s.Window, partNames[k], e.part, gap, inGroup(t.Groups[span.Group]), s.Window-1)
				}
			}
			ends[span.Group] = append(ends[span.Group], end{span.End, partNames[k]})
		}
	}
	return nil
}

// broken reports whether no window crosses from the row before row a to row b.
func (t *Table) broken(a, b int) bool {
	i, _ := slices.BinarySearch(t.breaks, a)
	return i < len(t.breaks) && t.breaks[i] <= b
}

// CheckTarget refuses a feature that is the target in the rows of p: by its name, or
// by its values. Of one target that is not a class these are the same, or one more,
// as are numbers of rows that count from 1, whole or limited to cap; of classes it has
// a value of its own for each. Features that lie on another line with the target are
// suspect, and returned.
func (t *Table) CheckTarget(p Part, classes bool, cap float32) (suspect []string, err error) {
	for f, name := range t.Features {
		what := ""
		switch {
		case slices.Contains(t.Targets, name):
			what = "is the target"
		case len(t.Targets) != 1:
		case classes:
			if t.codes(p, f) {
				what = fmt.Sprintf("has a value of its own for each class of the target %q in the training rows", t.Targets[0])
			}
		default:
			l := t.line(p, f, Unlimited)
			if l == (line{}) {
				l = t.line(p, f, cap)
			}
			if l.slope == 1 && (l.offset == 0 || l.offset == 1) {
				what = fmt.Sprintf("is equal to the target %q in the training rows", t.Targets[0])
			} else if l != (line{}) {
				suspect = append(suspect, name)
			}
		}
		if what != "" {
			return nil, fmt.Errorf("%w: feature %q %s: it holds the answer, which no device will know; leave it out of the features", ErrLeak, name, what)
		}
	}
	return suspect, nil
}

// measured calls yield with the values of feature f and of the only target in the rows of p
// whose target was measured, until it returns false.
func (t *Table) measured(p Part, f int, yield func(x, y float32) bool) {
	n := len(t.Features)
	for _, s := range p {
		for row := s.Start; row < s.End; row++ {
			if (t.unknown == nil || !t.unknown[row]) && !yield(t.X[row*n+f], t.Y[row]) {
				return
			}
		}
	}
}

// A line is slope·y + offset, the zero value none.
type line struct{ slope, offset float64 }

// line returns the line on which feature f lies with the target, limited to cap, in
// every row of p, but for the rounding of float32; none if there is none, or fewer
// than 3 values.
func (t *Table) line(p Part, f int, cap float32) line {
	var lo, hi [2]float64 // the rows with the smallest and the largest target
	first := true
	values := map[float32]bool{}
	t.measured(p, f, func(x, y float32) bool {
		at := [2]float64{float64(x), float64(min(y, cap))}
		if first || at[1] < lo[1] {
			lo = at
		}
		if first || at[1] > hi[1] {
			hi = at
		}
		if first = false; len(values) < 3 {
			values[x] = true
		}
		return true
	})
	if len(values) < 3 || lo[1] == hi[1] || lo[0] == hi[0] {
		return line{}
	}
	l := line{slope: (hi[0] - lo[0]) / (hi[1] - lo[1])}
	l.offset = lo[0] - l.slope*lo[1]
	tolerance := 4e-7 * max(math.Abs(lo[0]), math.Abs(hi[0]))
	t.measured(p, f, func(x, y float32) bool {
		if math.Abs(l.slope*float64(min(y, cap))+l.offset-float64(x)) > tolerance {
			l = line{}
		}
		return l != line{}
	})
	return l
}

// codes reports whether feature f is a number of the class in every row of p.
func (t *Table) codes(p Part, f int) bool {
	class, value := map[float32]float32{}, map[float32]float32{}
	same := true
	t.measured(p, f, func(x, y float32) bool {
		if _, ok := value[y]; !ok {
			value[y] = x
		}
		if _, ok := class[x]; !ok {
			class[x] = y
		}
		same = value[y] == x && class[x] == y
		return same
	})
	return same && len(value) > 1
}

// copyRows is how many rows in a row make a copy, and copyValues how many of them
// must differ: fewer may be equal by chance where sensors are coarse or idle. A group
// that is shorter is compared as a whole.
const copyRows, copyValues = 8, 4

// CheckCopies refuses held-out rows that stand in another group too, which is
// trained on: copyRows rows in a row with the same times and values.
func (t *Table) CheckCopies(p Parts) error {
	if len(t.Groups) < 2 {
		return nil
	}
	lengths := map[int]bool{}
	for _, s := range slices.Concat(p.Train, p.Validation, p.Test) {
		lengths[min(copyRows, s.End-s.Start)] = true
	}
	for n := copyValues; n <= copyRows; n++ {
		if lengths[n] {
			if err := t.checkCopies(p, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// A copyRun is some rows in a row.
type copyRun struct {
	hash  uint64
	group int
	row   int  // first one
	whole bool // there are no others in its span, or there are enough
	part  string
}

// checkCopies compares n rows in a row by their hashes, 8 bytes a row that is trained
// on, and looks again where some are equal.
func (t *Table) checkCopies(p Parts, n int) error {
	hashes := make([]uint64, 0, p.Train.Rows())
	t.runs(p.Train, n, func(r copyRun) bool {
		hashes = append(hashes, r.hash)
		return true
	})
	slices.Sort(hashes)
	const enough = 4096 // equal ones are looked at
	held := map[uint64]copyRun{}
	for k, part := range [3]Part{nil, p.Validation, p.Test} {
		t.runs(part, n, func(r copyRun) bool {
			_, equal := slices.BinarySearch(hashes, r.hash)
			if _, known := held[r.hash]; equal && !known {
				r.part = partNames[k]
				held[r.hash] = r
			}
			return len(held) < enough
		})
	}
	if len(held) == 0 {
		return nil
	}
	var err error
	t.runs(p.Train, n, func(r copyRun) bool {
		h, equal := held[r.hash]
		if equal && r.group != h.group && (r.whole || h.whole) {
			err = fmt.Errorf("%w: rows of the %s part are copies of training rows: those from %s%s and those from %s%s; remove one of them",
				ErrLeak, h.part, t.Time(h.row), inGroup(t.Groups[h.group]), t.Time(r.row), inGroup(t.Groups[r.group]))
		}
		return err == nil
	})
	return err
}

// runs calls yield with every n rows in a row of the spans of p, of which copyValues
// differ, until it returns false.
func (t *Table) runs(p Part, n int, yield func(copyRun) bool) {
	for _, s := range p {
		var values, timed [copyRows]uint64 // hashes of the last n rows
		for row := s.Start; row < s.End; row++ {
			values[row%n], timed[row%n] = t.hash(row)
			if row-s.Start < n-1 || different(values[:n]) < copyValues {
				continue
			}
			r := copyRun{group: s.Group, row: row - n + 1, whole: n == copyRows || s.End-s.Start == n}
			for k := range n {
				r.hash = mix(r.hash ^ timed[(row+1+k)%n])
			}
			if !yield(r) {
				return
			}
		}
	}
}

// different returns how many values differ.
func different(v []uint64) (n int) {
	for i, x := range v {
		if !slices.Contains(v[:i], x) {
			n++
		}
	}
	return n
}

// hash returns a hash of the values of a row, and one of these and its time.
func (t *Table) hash(row int) (values, timed uint64) {
	for _, v := range t.X[row*len(t.Features):][:len(t.Features)] {
		values = mix(values ^ uint64(math.Float32bits(v)))
	}
	if !t.counted {
		for _, v := range t.Y[row*len(t.Targets):][:len(t.Targets)] {
			values = mix(values ^ uint64(math.Float32bits(v)))
		}
	}
	timed = values
	if t.times.kind != noTime {
		timed = mix(values ^ uint64(t.times.at[row]))
	}
	return values, timed
}

// mix is a step of a hash of 64 bits: the multiplication of wyhash (Wang Yi 2019).
func mix(v uint64) uint64 {
	hi, lo := bits.Mul64(v^0xa0761d6478bd642f, 0xe7037ed1a0b428db)
	return hi ^ lo
}
