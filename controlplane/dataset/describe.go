package dataset

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// A Description is what a data set holds, before anything is done to it but the
// conversion of units. Options that clean are not looked at.
type Description struct {
	Files   int                 `json:"files"`
	Rows    int                 `json:"rows"`
	Groups  int                 `json:"groups"`
	Fewest  int                 `json:"fewest_rows"` // of a group
	Most    int                 `json:"most_rows"`   // likewise
	Time    *TimeDescription    `json:"time,omitempty"`
	Columns []ColumnDescription `json:"columns"`
	Data    string              `json:"data"` // SHA-256, hex, as in a report of training
	Notes   []string            `json:"notes,omitempty"`
}

// A TimeDescription is of the column that orders the rows.
type TimeDescription struct {
	Column     string `json:"column"`
	First      string `json:"first"`
	Last       string `json:"last"`
	Period     string `json:"period,omitempty"` // between most rows of a group, if at least 9 in 10 are equally far apart
	Gaps       int    `json:"gaps"`             // more than 1.5 periods
	LongestGap string `json:"longest_gap,omitempty"`
	OutOfOrder int    `json:"out_of_order"` // rows before the latest one so far of their group
	Duplicates int    `json:"duplicates"`   // rows with the time of another one of their group
}

// Types of columns.
const (
	TypeInteger = "integer"
	TypeNumber  = "number"
	TypeTime    = "time"
	TypeText    = "text"
	TypeMixed   = "mixed" // of numbers and text: no feature
	TypeEmpty   = "empty" // no value at all
)

// A ColumnDescription is of one column.
type ColumnDescription struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Missing  int    `json:"missing"`
	Constant bool   `json:"constant,omitempty"`
	Text     int    `json:"text,omitempty"`    // cells of it that are text
	Example  string `json:"example,omitempty"` // the first of them
	At       string `json:"at,omitempty"`      // where it is, of a mixed column
	*Numbers        // of the cells that are numbers, nil where there are none
}

// Numbers describe values. A quantile lies on the line between the two values
// nearest to its place (type 7 of Hyndman and Fan 1996).
type Numbers struct {
	Min    float64 `json:"min"`
	P5     float64 `json:"p5"`
	P25    float64 `json:"p25"`
	Median float64 `json:"median"`
	P75    float64 `json:"p75"`
	P95    float64 `json:"p95"`
	Max    float64 `json:"max"`
	Mean   float64 `json:"mean"`
	Std    float64 `json:"std"` // of the population
}

// A tally counts the cells of one column.
type tally struct {
	name          string
	use           use
	values        []float32
	fractions     bool
	texts, stamps int
	example, at   string
}

// A describer tallies all columns.
type describer struct {
	*builder
	all    []*tally // in order of first appearance
	byName map[string]*tally
	here   []*tally // of the columns of the file at hand
	kept   int      // values
	sums   digest
}

// Describe describes a data set. c names the time and the group, if there are any;
// without a time the first column of timestamps is it.
func Describe(files Files, c Columns, o Options) (*Description, error) {
	d, err := newDescriber(c, o)
	if err != nil {
		return nil, err
	}
	for f, err := range files {
		if err != nil {
			return nil, err
		}
		if err := d.file(f); err != nil {
			return nil, f.blame(err)
		}
	}
	if d.rows == 0 {
		return nil, fmt.Errorf("%w: no rows", ErrEmpty)
	}
	t, err := d.table(d.sums.files)
	if err != nil {
		return nil, err
	}
	digest := d.sums.sum()
	out := d.describe(t)
	out.Files, out.Data = d.sums.files, hex.EncodeToString(digest[:])
	return out, nil
}

func newDescriber(c Columns, o Options) (*describer, error) {
	o = Options{
		Format: o.Format, Separator: o.Separator, Decimal: o.Decimal, TimeFormat: o.TimeFormat, Null: o.Null, Text: o.Text, Types: o.Types,
		Measurement: o.Measurement, Convert: o.Convert,
	}
	rules, err := o.rules()
	if err != nil {
		return nil, err
	}
	return &describer{builder: newBuilder(rules, Columns{Time: c.Time, Group: c.Group}), byName: map[string]*tally{}}, nil
}

// file tallies a file.
func (d *describer) file(f File) error {
	sum := sha256.New()
	tee := io.TeeReader(f, sum)
	if err := d.read(f, tee); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	return d.sums.add(f, sum.Sum(nil))
}

func (d *describer) read(f File, r io.Reader) error {
	if err := d.begin(f, r); err != nil {
		return err
	}
	return errors.Join(d.readRows(), d.close())
}

func (d *describer) readRows() error {
	d.here = d.here[:0]
	for i, name := range d.names {
		t := d.byName[name]
		if t == nil {
			t = &tally{name: name, use: d.builder.use(i, false)}
			d.byName[name] = t
			d.all = append(d.all, t)
		}
		d.here = append(d.here, t)
	}
	for first := true; ; first = false {
		cells, err := d.dec.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if first {
			if d.columns.Time == "" {
				d.columns.Time = d.typedTime()
			}
			if d.columns.Time == "" {
				d.columns.Time = d.timeIn(cells)
			}
			if err := d.bindKeys(); err != nil {
				return err
			}
			if len(d.time) > 0 { // what is wrong is counted
				d.Order, d.Duplicates = OrderSort, KeepFirst
			}
		}
		if err := d.add(cells, d.place()); err != nil {
			return err
		}
		for i, t := range d.here {
			d.tally(t, &cells[i])
		}
		if d.kept > MaxValues {
			return d.bad("", ErrTooLarge, fmt.Sprintf("more than %d values; describe a part of the data", MaxValues))
		}
	}
}

// timeIn returns the name of the first column that holds a timestamp.
func (d *describer) timeIn(cells []cell) string {
	if d.line != nil {
		return timeName
	}
	for i := range cells {
		c := &cells[i]
		column := timeColumn{layout: d.layout, given: d.layout != ""}
		if c.kind == stamp || c.kind == text && column.append(c) && column.kind == stampTime {
			return d.names[i]
		}
	}
	return ""
}

func (d *describer) tally(t *tally, c *cell) {
	v, ok := d.dialect.value(c)
	switch f := float32(v*t.use.factor + t.use.offset); {
	case ok && v != v: // missing
	case ok && f-f == 0:
		t.values = append(t.values, f)
		t.fractions = t.fractions || v != math.Trunc(v)
		d.kept++
	case c.kind == stamp:
		t.stamps++
	default: // an infinite number too
		if t.texts++; t.texts == 1 {
			t.example = fmt.Sprintf("%.40s", c.appendTo(nil))
			t.at = fmt.Sprintf("row %d", d.inFile)
		}
	}
}

// describe sums up; t has the rows of each group in the order of time, those of one
// time being one.
func (d *describer) describe(t *Table) *Description {
	out := &Description{Rows: d.rows, Groups: len(d.groups), Fewest: math.MaxInt, Notes: t.Cleaning.Notes}
	for _, g := range d.groups {
		out.Fewest, out.Most = min(out.Fewest, g.rows), max(out.Most, g.rows)
	}
	if t.times.kind != noTime {
		first, last := 0, 0
		for row := range t.Rows() {
			if t.times.compare(row, first) < 0 {
				first = row
			}
			if t.times.compare(row, last) > 0 {
				last = row
			}
		}
		c := t.Cleaning
		out.Time = &TimeDescription{
			Column: d.columns.Time, First: t.times.format(first), Last: t.times.format(last), Period: c.Period,
			Gaps: c.Gaps, LongestGap: c.LongestGap, OutOfOrder: c.OutOfOrder, Duplicates: c.Duplicates,
		}
	}
	out.Columns = make([]ColumnDescription, len(d.all))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, t := range d.all {
		g.Go(func() error {
			out.Columns[i] = t.describe(d.rows)
			if d.noNumber(t.name) {
				out.Columns[i].Type, out.Columns[i].Numbers = d.types[t.name], nil
			}
			t.values = nil
			return nil
		})
	}
	_ = g.Wait() // none returns an error
	return out
}

func (t *tally) describe(rows int) ColumnDescription {
	c := ColumnDescription{Name: t.name, Missing: rows - len(t.values) - t.texts - t.stamps, Text: t.texts, Example: t.example}
	var column timeColumn
	switch n := len(t.values); {
	case n == 0 && t.texts == 0 && t.stamps == 0:
		c.Type = TypeEmpty
	case n > 0 && t.texts > 0:
		c.Type, c.At = TypeMixed, t.at
	case t.stamps > 0, t.texts > 0 && column.detect(t.example):
		c.Type, c.Text, c.Example = TypeTime, 0, ""
	case t.texts > 0:
		c.Type = TypeText
	case t.fractions:
		c.Type = TypeNumber
	default:
		c.Type = TypeInteger
	}
	if len(t.values) > 0 {
		c.Numbers = numbersOf(t.values)
		c.Constant = c.Min == c.Max && c.Type != TypeMixed
	}
	return c
}

// numbersOf describes values, which it sorts.
func numbersOf(v []float32) *Numbers {
	sortValues(v)
	n := &Numbers{
		Min: float64(v[0]), P5: quantile(v, 0.05), P25: quantile(v, 0.25), Median: quantile(v, 0.5),
		P75: quantile(v, 0.75), P95: quantile(v, 0.95), Max: float64(v[len(v)-1]),
	}
	for _, x := range v {
		n.Mean += float64(x)
	}
	n.Mean /= float64(len(v))
	for _, x := range v {
		n.Std += (float64(x) - n.Mean) * (float64(x) - n.Mean)
	}
	n.Std = math.Sqrt(n.Std / float64(len(v)))
	return n
}

// quantile returns the p-quantile of sorted values.
func quantile(v []float32, p float64) float64 {
	at := p * float64(len(v)-1)
	i := int(at)
	if i+1 == len(v) {
		return float64(v[i])
	}
	a, b := float64(v[i]), float64(v[i+1])
	return a + (at-float64(i))*(b-a)
}

// WriteCSV writes the table: the group and the time where there are any, then the
// features. Values print as the shortest decimal that gives the same float32.
func (t *Table) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	grouped := len(t.Groups) > 1 || t.Groups[0].Name != ""
	timed := t.times.kind != noTime
	free := func(name string) string {
		for slices.Contains(t.Features, name) {
			name = "_" + name
		}
		return name
	}
	var record []string
	if grouped {
		record = append(record, free("group"))
	}
	if timed {
		record = append(record, free("time"))
	}
	if err := out.Write(append(record, t.Features...)); err != nil {
		return err
	}
	n := len(t.Features)
	for _, g := range t.Groups {
		for row := g.Start; row < g.End; row++ {
			record = record[:0]
			if grouped {
				record = append(record, g.Name)
			}
			if timed {
				record = append(record, t.times.format(row))
			}
			for _, v := range t.X[row*n:][:n] {
				record = append(record, strconv.FormatFloat(float64(v), 'g', -1, 32))
			}
			if err := out.Write(record); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}
