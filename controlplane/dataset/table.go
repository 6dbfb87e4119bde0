package dataset

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// Columns says which columns of a file are used, and for what.
type Columns struct {
	Time    string   // ISO 8601, epoch or integer step, ascending within a group; empty: the order of the rows
	Group   string   // rows of one machine or run; empty: the file is one group
	Targets []string // numeric; a missing value is an error
	Weight  string   // how much each row counts, 0 or more; empty: all the same
	// Features are numeric, in the order the model takes them. Empty: every
	// numeric column except time, group and weight, and except the targets unless
	// TargetsAsFeatures.
	Features          []string
	TargetsAsFeatures bool
}

// A Group is a run of rows that belong together, in time order.
type Group struct {
	Name       string // the cell as written; empty without a group column
	Start, End int    // rows [Start, End) of the table
}

// A Table holds the columns of a file that are used, grouped, in raw units. It
// is not changed by anything that reads it.
type Table struct {
	Features, Targets []string
	X                 []float32 // rows × Features, row-major, finite
	Y                 []float32 // rows × Targets, row-major, finite
	Weights           []float32 // of the rows, nil without a weight column
	Groups            []Group   // in order of first appearance; they cover every row
	Digest            [32]byte  // SHA-256 of the bytes read, compressed as they came
	Filled            []Filled  // missing feature values that were filled in
	Skipped           []string  // columns with text in them, left out of the default features

	times timeColumn
}

// Filled counts the missing values of one feature: carried forward from the
// row before, or back from the first value where a group begins without one.
type Filled struct {
	Column            string
	Forward, Backward int
}

// Rows returns the number of rows.
func (t *Table) Rows() int {
	if len(t.Groups) == 0 {
		return 0
	}
	return t.Groups[len(t.Groups)-1].End
}

// Time returns the time of a row as the file writes it, and the row's number
// in its group from 1 where there is no time column.
func (t *Table) Time(row int) string {
	if t.times.kind != noTime {
		return t.times.format(row)
	}
	g := t.Groups[t.groupOf(row)]
	return strconv.Itoa(row - g.Start + 1)
}

func (t *Table) groupOf(row int) int {
	i, _ := slices.BinarySearchFunc(t.Groups, row, func(g Group, row int) int {
		if g.End <= row {
			return -1
		}
		return 1
	})
	return i
}

// Warnings tells in plain words what was done to the data.
func (t *Table) Warnings() []string {
	var w []string
	for _, f := range t.Filled {
		w = append(w, fmt.Sprintf("column %q: %d missing values filled (%d from the row before, %d from the first value of the group)",
			f.Column, f.Forward+f.Backward, f.Forward, f.Backward))
	}
	for _, c := range t.Skipped {
		w = append(w, fmt.Sprintf("column %q holds text and is not used as a feature", c))
	}
	return w
}

// Read reads a CSV file, gzip-compressed or not: a header, then one row a line,
// fields separated by comma, semicolon or tab, whichever the header uses.
//
// Rows of a group need not be neighbours, but must be in time order. The empty
// cell, NA, N/A, NaN, null, None and ? are missing values: those of features
// are carried forward (and counted in Filled), those of targets are an error.
// Errors are *CellError where a row or a column is to blame.
func Read(r io.Reader, c Columns) (*Table, error) {
	sum := sha256.New()
	tee := io.TeeReader(r, sum)
	lines, err := newLineReader(tee)
	if err != nil {
		return nil, err
	}
	p, err := newParser(lines, c)
	if err != nil {
		return nil, err
	}
	if err := p.run(); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil { // what gzip leaves unread belongs to the digest
		return nil, err
	}
	t, err := p.table()
	if err != nil {
		return nil, err
	}
	sum.Sum(t.Digest[:0])
	return t, nil
}

// sampleRows is how many rows decide which columns are numeric.
const sampleRows = 64

// A use is what a parsed column is for.
type use struct {
	column int    // in the file
	name   string // for errors
	target bool
}

type parser struct {
	lines  *lineReader
	sep    byte
	header []string
	fields [][]byte
	row    int // data rows read so far
	line   int // line of the row at hand

	time, group, weight int // columns, -1 without
	features            []use
	targets             []use
	skipped             []string

	x, y    []float32
	weights []float32
	missing bool
	times   timeColumn
	groups  []*groupRows
	byName  map[string]*groupRows
	current *groupRows
	rowOf   []int32 // group of each row
	mixed   bool    // some group's rows are not neighbours
}

type groupRows struct {
	index, rows, last int // last is the row read last
	name              string
}

func newParser(lines *lineReader, c Columns) (*parser, error) {
	head, err := lines.next()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the file is empty; its first line must name the columns", ErrEmpty)
	} else if err != nil {
		return nil, err
	}
	p := &parser{lines: lines, sep: separatorOf(head), byName: map[string]*groupRows{}, line: lines.line}
	if err := p.readHeader(head); err != nil {
		return nil, err
	}
	if p.time, err = p.find(c.Time, "time"); err != nil {
		return nil, err
	}
	if p.group, err = p.find(c.Group, "group"); err != nil {
		return nil, err
	}
	if p.weight, err = p.find(c.Weight, "weight"); err != nil {
		return nil, err
	}
	if err := p.choose(&p.targets, c.Targets, "target"); err != nil {
		return nil, err
	}
	for i := range p.targets {
		p.targets[i].target = true
	}
	if err := p.choose(&p.features, c.Features, "feature"); err != nil {
		return nil, err
	}
	return p, p.sample(c)
}

const openQuote = "a quote is not closed on its line; close it, and take line breaks out of the cell"

func (p *parser) readHeader(head []byte) error {
	fields, ok := splitFields(nil, head, p.sep)
	if !ok {
		return p.bad("", ErrMalformed, openQuote)
	}
	if len(fields) > MaxColumns {
		return p.bad("", ErrTooLarge, fmt.Sprintf("%d columns, at most %d are read", len(fields), MaxColumns))
	}
	numbers := 0
	for _, f := range fields {
		if _, err := strconv.ParseFloat(string(f), 64); err == nil {
			numbers++
		}
	}
	if numbers == len(fields) { // before names are compared: a row of data may repeat a value
		return p.bad("", ErrMalformed, "only numbers; the first line must name the columns")
	}
	seen := make(map[string]bool, len(fields))
	for _, f := range fields {
		name := string(f)
		if name != "" && seen[name] {
			return p.bad(name, ErrMalformed, "the header names this column twice; rename one")
		}
		seen[name] = true
		p.header = append(p.header, name)
	}
	return nil
}

// find returns the index of a column, -1 for the empty name.
func (p *parser) find(name, what string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if i := slices.Index(p.header, name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%s: %w: %q; %s", what, ErrColumn, name, suggest(name, p.header))
}

func (p *parser) choose(dst *[]use, names []string, what string) error {
	for _, n := range names {
		if n == "" {
			return fmt.Errorf("%s: %w: an empty name", what, ErrColumn)
		}
		i, err := p.find(n, what)
		if err != nil {
			return err
		}
		if i == p.group {
			return fmt.Errorf("%s: %w: %q is the group column; a group's name says nothing about its rows", what, ErrColumn, n)
		}
		for _, u := range *dst {
			if u.column == i {
				return fmt.Errorf("%s: %w: %q is named twice", what, ErrColumn, n)
			}
		}
		*dst = append(*dst, use{column: i, name: n})
	}
	return nil
}

// sample reads the first rows, chooses the default features by them, and then
// parses them like all others.
func (p *parser) sample(c Columns) error {
	type sampled struct {
		b    []byte
		line int
	}
	var rows []sampled
	for len(rows) < sampleRows {
		b, err := p.lines.next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		rows = append(rows, sampled{slices.Clone(b), p.lines.line})
	}
	if len(rows) == 0 {
		return fmt.Errorf("%w: a header and no rows; add rows below it", ErrEmpty)
	}
	if len(p.features) == 0 {
		text := make([]bool, len(p.header))
		for _, r := range rows {
			fields, _ := splitFields(p.fields, slices.Clone(r.b), p.sep)
			for i := range min(len(fields), len(text)) {
				if _, err := strconv.ParseFloat(string(fields[i]), 64); err != nil && !isMissing(fields[i]) && !errors.Is(err, strconv.ErrRange) {
					text[i] = true
				}
			}
		}
		p.defaultFeatures(c, text)
		if len(p.features) == 0 {
			return fmt.Errorf("%w: no numeric column is left for the features; name them", ErrColumn)
		}
	}
	for _, r := range rows {
		if err := p.add(r.b, r.line); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) defaultFeatures(c Columns, text []bool) {
	for i, name := range p.header {
		isTarget := slices.ContainsFunc(p.targets, func(u use) bool { return u.column == i })
		switch {
		case name == "", i == p.time, i == p.group, i == p.weight, isTarget && !c.TargetsAsFeatures:
		case text[i]:
			p.skipped = append(p.skipped, name)
		default:
			p.features = append(p.features, use{column: i, name: name})
		}
	}
}

func (p *parser) run() error {
	for {
		b, err := p.lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := p.add(b, p.lines.line); err != nil {
			return err
		}
	}
}

// add parses one row.
func (p *parser) add(b []byte, line int) error {
	p.row++
	p.line = line
	var ok bool
	if p.fields, ok = splitFields(p.fields, b, p.sep); !ok {
		return p.bad("", ErrMalformed, openQuote)
	}
	if len(p.fields) != len(p.header) {
		column := ""
		if len(p.fields) < len(p.header) {
			column = p.header[len(p.fields)] // the first one without a cell
		}
		return p.bad(column, ErrMalformed, fmt.Sprintf("%d fields, the header has %d; complete or remove the row", len(p.fields), len(p.header)))
	}
	const others = 4 // time, an int64, group, an int32, and weight
	if p.row > MaxValues/(len(p.features)+len(p.targets)+others) {
		return p.bad("", ErrTooLarge, fmt.Sprintf("more than %d values; use fewer features or a part of the file", MaxValues))
	}
	if err := p.addGroup(); err != nil {
		return err
	}
	if err := p.addTime(); err != nil {
		return err
	}
	for _, u := range p.features {
		v, err := p.number(u)
		if err != nil {
			return err
		}
		p.x = append(p.x, v)
	}
	for _, u := range p.targets {
		v, err := p.number(u)
		if err != nil {
			return err
		}
		p.y = append(p.y, v)
	}
	if err := p.addWeight(); err != nil {
		return err
	}
	p.current.last = p.row - 1
	return nil
}

func (p *parser) addGroup() error {
	var name []byte
	if p.group >= 0 {
		if name = p.fields[p.group]; len(name) == 0 {
			return p.bad(p.header[p.group], ErrMalformed, "the group is missing; fill it in or remove the row")
		}
	}
	if p.current == nil || p.current.name != string(name) {
		g := p.byName[string(name)]
		if g == nil {
			if len(name) > MaxName || len(p.groups) == MaxGroups {
				return p.bad(p.header[p.group], ErrTooLarge, fmt.Sprintf("group %.40q: at most %d groups with names of %d bytes; is this the group column?", name, MaxGroups, MaxName))
			}
			g = &groupRows{index: len(p.groups), name: string(name)}
			p.byName[g.name] = g
			p.groups = append(p.groups, g)
		} else {
			p.mixed = true
		}
		p.current = g
	}
	p.current.rows++
	p.rowOf = append(p.rowOf, int32(p.current.index))
	return nil
}

func (p *parser) addTime() error {
	if p.time < 0 {
		return nil
	}
	b := p.fields[p.time]
	if !p.times.append(b) {
		if p.row == 1 {
			return p.bad(p.header[p.time], ErrMalformed, fmt.Sprintf("%q is not a time; use ISO 8601 (2006-01-02 15:04:05), an epoch or an integer step", b))
		}
		return p.bad(p.header[p.time], ErrMalformed, fmt.Sprintf("%q is not a time like those above, %q; write all in one form", b, p.times.format(0)))
	}
	if p.current.rows > 1 && !p.times.after(p.row-1, p.current.last) {
		in := ""
		if p.current.name != "" {
			in = fmt.Sprintf(" in group %q", p.current.name)
		}
		return p.bad(p.header[p.time], ErrOrder, fmt.Sprintf("%q does not come after %q%s; sort the rows and remove duplicates", b, p.times.format(p.current.last), in))
	}
	return nil
}

func (p *parser) addWeight() error {
	if p.weight < 0 {
		return nil
	}
	b := p.fields[p.weight]
	v, err := strconv.ParseFloat(string(b), 64)
	if f := float32(v); err != nil || !(f >= 0) || math.IsInf(float64(f), 0) {
		return p.bad(p.header[p.weight], ErrWeight, fmt.Sprintf("%q; write a number of 0 or more", b))
	}
	p.weights = append(p.weights, float32(v))
	return nil
}

var nan32 = float32(math.NaN())

// number parses a cell; NaN stands for a missing feature value.
func (p *parser) number(u use) (float32, error) {
	b := p.fields[u.column]
	v, err := strconv.ParseFloat(string(b), 64)
	f := float32(v)
	switch {
	case v != v || (err != nil && isMissing(b)): // ParseFloat takes NaN in any case and sign
		if u.target {
			return 0, p.bad(u.name, ErrTarget, fmt.Sprintf("the target is missing (%q); fill it in or remove the row", b))
		}
		p.missing = true
		return nan32, nil
	case err != nil && !errors.Is(err, strconv.ErrRange):
		hint := "; correct it, or leave the cell empty"
		switch {
		case p.sep == ';' && slices.Contains(b, ','):
			hint = " with a decimal comma; write decimal points"
		case u.target: // needs a value
			hint = "; correct it, or remove the row"
		}
		return 0, p.bad(u.name, ErrMalformed, fmt.Sprintf("%q is not a number%s", b, hint))
	case math.IsInf(float64(f), 0):
		sentinel := ErrMalformed
		if u.target {
			sentinel = ErrTarget
		}
		return 0, p.bad(u.name, sentinel, fmt.Sprintf("%q is not a finite float32; remove it or leave the cell empty", b))
	}
	return f, nil
}

func isMissing(b []byte) bool {
	switch string(b) {
	case "", "NA", "N/A", "n/a", "na", "NaN", "nan", "NAN", "null", "NULL", "None", "none", "?":
		return true
	}
	return false
}

func (p *parser) bad(column string, sentinel error, reason string) error {
	return &CellError{Row: p.row, Line: p.line, Column: column, Reason: reason, Err: sentinel}
}

// table brings the rows of each group together and fills missing values.
func (p *parser) table() (*Table, error) {
	t := &Table{X: p.x, Y: p.y, Weights: p.weights, times: p.times, Skipped: p.skipped}
	for _, u := range p.features {
		t.Features = append(t.Features, u.name)
	}
	for _, u := range p.targets {
		t.Targets = append(t.Targets, u.name)
	}
	start := 0
	for _, g := range p.groups {
		t.Groups = append(t.Groups, Group{Name: g.name, Start: start, End: start + g.rows})
		start += g.rows
	}
	if p.mixed {
		p.gather(t)
	}
	if p.missing {
		if err := t.fill(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// gather moves each row to its group, keeping the order within the group.
func (p *parser) gather(t *Table) {
	next := make([]int, len(t.Groups))
	for i, g := range t.Groups {
		next[i] = g.Start
	}
	nx, ny := len(t.Features), len(t.Targets)
	x, y, at := make([]float32, len(t.X)), make([]float32, len(t.Y)), make([]int64, len(t.times.at))
	weights := make([]float32, len(t.Weights))
	for row, g := range p.rowOf {
		to := next[g]
		next[g]++
		copy(x[to*nx:][:nx], t.X[row*nx:])
		copy(y[to*ny:][:ny], t.Y[row*ny:])
		if len(at) > 0 {
			at[to] = t.times.at[row]
		}
		if len(weights) > 0 {
			weights[to] = t.Weights[row]
		}
	}
	t.X, t.Y, t.times.at = x, y, at
	if t.Weights != nil {
		t.Weights = weights
	}
}

// fill carries the last value of a group forward over missing ones, and its
// first value back over those before it.
func (t *Table) fill() error {
	n := len(t.Features)
	for f, name := range t.Features {
		count := Filled{Column: name}
		for _, g := range t.Groups {
			first := g.Start
			for first < g.End && t.X[first*n+f] != t.X[first*n+f] {
				first++
			}
			if first == g.End {
				in := ""
				if g.Name != "" {
					in = fmt.Sprintf(" in group %q", g.Name)
				}
				return fmt.Errorf("column %q: %w: every value is missing%s; leave the column or the group out", name, ErrMalformed, in)
			}
			for row := g.Start; row < first; row++ {
				t.X[row*n+f] = t.X[first*n+f]
				count.Backward++
			}
			for row := first + 1; row < g.End; row++ {
				if v := t.X[row*n+f]; v != v {
					t.X[row*n+f] = t.X[(row-1)*n+f]
					count.Forward++
				}
			}
		}
		if count.Forward+count.Backward > 0 {
			t.Filled = append(t.Filled, count)
		}
	}
	return nil
}
