package dataset

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// MaxClasses is the largest number of classes of a label column.
const MaxClasses = 256

// Labels are the column that says what each row is.
type Labels struct {
	Column  string
	Classes []string // as written, whole numbers without a point: ascending, as numbers if all are
	Of      []int32  // class of each row
}

// addLabel takes the label of a row. Classes get numbers as they come; sortClasses
// makes them ascending.
func (b *builder) addLabel(cells []cell) error {
	if b.label < 0 {
		return nil
	}
	c, name := &cells[b.label], b.names[b.label]
	v, ok := b.dialect.value(c)
	if ok && v != v {
		return b.bad(name, ErrLabel, "the label is missing; fill it in or remove the row")
	}
	text := c.appendTo(b.scratch[:0])
	if ok && v == math.Trunc(v) && math.Abs(v) < 1<<53 { // 1, 1.0 and 1e0 are one class
		text = strconv.AppendInt(text[:0], int64(v), 10)
	}
	b.scratch = text
	class, known := b.classOf[string(text)]
	if !known {
		switch {
		case len(b.classes) == MaxClasses:
			return b.bad(name, ErrLabel, fmt.Sprintf("%.40q is one class more than %d; is this the label column?", text, MaxClasses))
		case len(text) > MaxName || !utf8.Valid(text):
			return b.bad(name, ErrLabel, fmt.Sprintf("%.40q: a label is UTF-8 of at most %d bytes", text, MaxName))
		}
		class = int32(len(b.classes))
		b.classes = append(b.classes, string(text))
		b.classOf[string(text)] = class
	}
	b.labels = append(b.labels, class)
	return nil
}

// sortClasses returns the labels with ascending classes.
func (b *builder) sortClasses() *Labels {
	if b.label < 0 {
		return nil
	}
	l := &Labels{Column: b.columns.Label, Classes: slices.Clone(b.classes), Of: b.labels}
	numbers := !slices.ContainsFunc(l.Classes, func(s string) bool { _, err := strconv.ParseFloat(s, 64); return err != nil })
	slices.SortFunc(l.Classes, func(x, y string) int {
		if numbers {
			x, _ := strconv.ParseFloat(x, 64)
			y, _ := strconv.ParseFloat(y, 64)
			return cmp.Compare(x, y)
		}
		return cmp.Compare(x, y)
	})
	place := make([]int32, len(l.Classes))
	for i, c := range l.Classes {
		place[b.classOf[c]] = int32(i)
	}
	for i, class := range l.Of {
		l.Of[i] = place[class]
	}
	return l
}

// OneLabel reports whether the rows of every group have one label, that of the group.
func (t *Table) OneLabel() bool {
	for _, g := range t.Groups {
		of := t.Labels.Of[g.Start:g.End]
		if slices.ContainsFunc(of, func(class int32) bool { return class != of[0] }) {
			return false
		}
	}
	return true
}

// AsTarget makes the label the only target, a class its number.
func (t *Table) AsTarget() {
	t.Targets, t.Y, t.unknown = []string{t.Labels.Column}, make([]float32, t.Rows()), nil
	for row, class := range t.Labels.Of {
		t.Y[row] = float32(class)
	}
}

// AsTargets makes the classes the targets, 1 for the label of a row and 0 for the
// others, or of two the second alone if single. classes are those of a model, nil for
// the table's own; a label that is none of them is ErrLabel.
func (t *Table) AsTargets(classes []string, single bool) error {
	if classes == nil {
		classes = t.Labels.Classes
	}
	place := make([]int, len(t.Labels.Classes))
	for i, c := range t.Labels.Classes {
		if place[i] = slices.Index(classes, c); place[i] < 0 {
			row := slices.Index(t.Labels.Of, int32(i))
			return fmt.Errorf("%w: %q, of %d rows, first at %s%s, is no class that the model knows: %s; leave these rows out, or train with them",
				ErrLabel, c, t.count(int32(i)), t.Time(row), inGroup(t.Groups[t.groupOf(row)]), quoted(classes[:min(len(classes), 12)]))
		}
	}
	first := 0
	if single {
		first = 1
	}
	t.Targets, t.unknown = slices.Clone(classes[first:]), nil
	n := len(t.Targets)
	if t.Rows() > MaxValues/n {
		return fmt.Errorf("%w: %d rows of %d classes", ErrTooLarge, t.Rows(), n)
	}
	t.Y = make([]float32, t.Rows()*n)
	for row, class := range t.Labels.Of {
		if c := place[class] - first; c >= 0 {
			t.Y[row*n+c] = 1
		}
	}
	return nil
}

func (t *Table) count(class int32) (n int) {
	for _, c := range t.Labels.Of {
		if c == class {
			n++
		}
	}
	return n
}

// Watch makes the named features the targets, all that are numbers if there is no
// name.
func (t *Table) Watch(names []string) error {
	all := len(names) == 0
	var columns []int
	for i, f := range t.Features {
		switch text := t.IsText(i); {
		case text && slices.Contains(names, f):
			return columnErrorf("target: %q is a category; what is watched for anomalies is a number", f)
		case !text && (all || slices.Contains(names, f)):
			columns = append(columns, i)
		}
	}
	if len(columns) < len(names) {
		for _, n := range names {
			if !slices.Contains(t.Features, n) {
				return columnErrorf("target: %q is no feature; what is watched for anomalies is read too", n)
			}
		}
		return columnErrorf("target: a column is named twice")
	}
	nx, ny := len(t.Features), len(columns)
	t.Targets, t.Y, t.unknown = nil, make([]float32, t.Rows()*ny), nil
	for k, c := range columns {
		t.Targets = append(t.Targets, t.Features[c])
		for row := range t.Rows() {
			t.Y[row*ny+k] = t.X[row*nx+c]
		}
	}
	return nil
}

// GroupOf returns the index of the group of a row.
func (t *Table) GroupOf(row int) int { return t.groupOf(row) }

// RowsOf returns the rows of p that are of a class.
func (t *Table) RowsOf(p Part, class int) Part {
	var out Part
	for _, s := range p {
		for row := s.Start; row < s.End; row++ {
			if int(t.Labels.Of[row]) != class {
				continue
			}
			if n := len(out); n > 0 && out[n-1].Group == s.Group && out[n-1].End == row {
				out[n-1].End++
			} else {
				out = append(out, Span{Group: s.Group, Start: row, End: row + 1})
			}
		}
	}
	return out
}

// Series gives one window for each span of p, its last rows: up to window, or all if
// that is 0. The windows are as long as the longest of them; what a shorter one lacks
// is Padding. Truncated counts those that were longer. Nothing before the last break
// in a group is part of its window.
func (t *Table) Series(p Part, window int) (w *Windows, truncated int, err error) {
	w = &Windows{t: t}
	for _, span := range p {
		from := span.Start
		t.segments(t.Groups[span.Group], func(start, end int) {
			if start < span.End && end > span.Start {
				from = max(span.Start, start)
			}
		})
		if window > 0 && span.End-from > window {
			from = span.End - window
			truncated++
		}
		if w.Shape.Window = max(w.Shape.Window, span.End-from); span.End > from {
			w.add(span.End-1, from)
		}
	}
	if w.Len() == 0 {
		return nil, 0, fmt.Errorf("%w: not one series", ErrTooFewRows)
	}
	if window > 0 {
		w.Shape.Window = window
	}
	w.series = true
	return w, truncated, nil
}

// Padding returns how many of the first rows of window i stand for none: of a series
// shorter than the window.
func (w *Windows) Padding(i int) int {
	if !w.series {
		return 0
	}
	return max(0, w.Shape.Window-1-int(w.last[i]-w.from[i]))
}

// Label returns the class of the last row of window i, of a table with labels.
func (w *Windows) Label(i int) int { return int(w.t.Labels.Of[w.last[i]]) }

// Keep leaves the windows all of whose rows, and the ones they predict, are of the
// class, and returns how many it left out.
func (w *Windows) Keep(class int) (dropped int) {
	kept := 0
	of := w.t.Labels.Of
	for i, last := range w.last {
		rows := of[max(int(w.from[i]), int(last)-w.Shape.Window+1) : int(last)+1+w.Shape.Horizon]
		if slices.ContainsFunc(rows, func(c int32) bool { return int(c) != class }) {
			continue
		}
		w.last[kept], w.from[kept] = last, w.from[i]
		kept++
	}
	dropped = w.Len() - kept
	w.last, w.from = w.last[:kept], w.from[:kept]
	return dropped
}
