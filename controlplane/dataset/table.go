package dataset

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Columns says which columns of a file are used, and for what.
type Columns struct {
	// Time is ISO 8601, an epoch or an integer step, ascending within a group.
	// Several columns with commas between are a date and a time of day, or year,
	// month, day and so on, as numbers. Empty: the order of the rows; of line
	// protocol its timestamps.
	Time string
	// Group is of rows of one machine or run. Empty: each file is a group; of line
	// protocol each series.
	Group   string
	Targets []string // numeric; a missing value is an error unless Options.Missing says otherwise
	Label   string   // text or a number: what the row is; never a feature. Empty: nothing says so
	Weight  string   // how much each row counts, 0 or more; empty: all the same
	// Features are numeric, in the order the model takes them. Empty: every
	// numeric column except time, group, label and weight, and except the targets unless
	// TargetsAsFeatures.
	Features          []string
	TargetsAsFeatures bool
	// Categories are those of the features that are texts, whatever they look like.
	Categories []string
}

// A Group is a run of rows that belong together, in time order.
type Group struct {
	Name       string // the cell as written; empty without a group column
	Start, End int    // rows [Start, End) of the table
	Part       string // that its file is held out for; empty: the split decides
}

// A Table holds the columns of a data set that are used, grouped, in raw units. It
// is not changed by anything that reads it.
type Table struct {
	Features, Targets []string
	X                 []float32         // rows × Features, row-major, finite
	Y                 []float32         // rows × Targets, row-major, finite
	Weights           []float32         // of the rows, nil without a weight column
	Labels            *Labels           // of the rows, nil without a label column
	Groups            []Group           // in order of first appearance; they cover every row
	Digest            [32]byte          // SHA-256 of the bytes read, compressed as they came; of several files that of their list
	PartDigests       map[string]string // the same of each part's files, hex; nil if no file is held out
	Cleaning          Cleaning          // what was done to the rows
	Skipped           []string          // columns with text in them, left out of the default features

	texts   map[string][]string // of category columns; X has places in them, or noText
	times   timeColumn
	breaks  []int  // rows, ascending, that do not go on where the row before ended
	counted bool   // the target is not from the file: it counts rows
	unknown []bool // rows whose target nobody measured; nil where there is none
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

// Read reads one file: see ReadFiles.
func Read(r io.Reader, c Columns) (*Table, error) { return ReadFiles(One(r), c, Options{}) }

// ReadFiles reads a data set: CSV or InfluxDB line protocol, gzip-compressed or
// not, or Parquet, each file told by its first bytes. CSV is a header, then one row
// a line, fields separated by comma, semicolon or tab, whichever the header uses.
//
// Rows of a group need not be neighbours, but must be in time order. The empty
// cell, NA, N/A, NaN, null, None and ? are missing values: those of features
// are carried forward, those of targets are an error, unless the options say
// otherwise; whatever is done is counted in Cleaning. Errors are *CellError or
// *SyntaxError where a place in a file is to blame.
//
// What is kept of a file is the columns used, 4 bytes a value, whatever its size.
func ReadFiles(files Files, c Columns, o Options) (*Table, error) {
	rules, err := o.rules()
	if err != nil {
		return nil, err
	}
	b := newBuilder(rules, c)
	var sums digest
	for f, err := range files {
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		tee := io.TeeReader(f, sum)
		if err := b.read(f, tee); err != nil {
			return nil, f.blame(err)
		}
		if _, err := io.Copy(io.Discard, tee); err != nil { // what gzip leaves unread belongs to the digest
			return nil, f.blame(err)
		}
		if err := sums.add(f, sum.Sum(nil)); err != nil {
			return nil, f.blame(err)
		}
	}
	if sums.files == 0 {
		return nil, fmt.Errorf("%w: no file", ErrEmpty)
	}
	t, err := b.table(sums.files)
	if err != nil {
		return nil, err
	}
	t.Digest, t.PartDigests = sums.sum(), sums.byPart()
	return t, nil
}

// blame says in which file err is.
func (f File) blame(err error) error {
	if f.Name == "" || f.Name == "-" {
		return err
	}
	return fmt.Errorf("%s: %w", printable(f.Name), err)
}

// open finds out what a file is. want are columns that are asked for.
func open(f File, r io.Reader, rules *rules, want []string) (decoder, error) {
	keys, values := f.partitions()
	want = slices.DeleteFunc(slices.Clone(want), func(name string) bool { return slices.Contains(keys, name) })
	d, err := decode(r, rules, want)
	if err != nil || len(keys) == 0 {
		return d, err
	}
	p := &partitioned{decoder: d, names: slices.Clone(d.header()), values: values}
	for _, k := range keys {
		if slices.Contains(p.names, k) {
			return nil, columnErrorf("%q is both a column and a folder; rename one", k)
		}
		p.names = append(p.names, k)
	}
	return p, nil
}

func decode(r io.Reader, rules *rules, want []string) (decoder, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic, err := br.Peek(4)
	if rules.Format == FormatParquet || rules.Format == "" && err == nil && string(magic) == "PAR1" {
		return newParquetDecoder(br)
	}
	lines, err := newLineReader(br)
	if err != nil {
		return nil, err
	}
	isLine := rules.Format == FormatLine
	if rules.Format == "" {
		first, err := lines.peek()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		var p point
		isLine = len(first) > 0 && (first[0] == '#' || p.parse(first) == nil && p.timed)
	}
	if isLine {
		return newLineDecoder(lines, rules, want)
	}
	return newCSVDecoder(lines, rules.separator)
}

// partitioned adds the columns that a file's folders name.
type partitioned struct {
	decoder
	names  []string
	values []cell
	cells  []cell
}

func (p *partitioned) header() []string { return p.names }

func (p *partitioned) next() ([]cell, error) {
	cells, err := p.decoder.next()
	p.cells = append(append(p.cells[:0], cells...), p.values...)
	return p.cells, err
}

// sampleRows is how many rows decide which columns are numeric.
const sampleRows = 64

// A use is what a parsed column is for.
type use struct {
	column int    // in the file at hand
	name   string // for errors
	target bool
	conversion
	lexicon *lexicon // of a category; nil: it is a number
}

// A builder gathers the rows of all files.
type builder struct {
	*rules
	columns Columns

	dec    decoder
	inner  decoder // dec without the columns of folders
	names  []string
	line   *lineDecoder // dec, where it is one
	file   string       // group that the file is, if it is one of several
	part   string       // that the file is held out for
	files  int
	inFile int // rows of the file
	at     int // line of the row at hand

	time     []int // columns
	group    int   // column, -1 without
	label    int   // likewise
	weight   int   // likewise
	features []use
	targets  []use
	skipped  []string
	first    []string // columns of the first file
	lexicons map[string]*lexicon

	rows     int
	partOf   map[string]string // of each named group
	x, y     []float32
	weights  []float32
	labels   []int32 // class of each row, in the order of classes
	classes  []string
	classOf  map[string]int32
	missing  bool
	times    timeColumn
	scratch  []byte
	groups   []*groupRows
	byName   map[groupKey]*groupRows
	current  *groupRows
	rowOf    []int32 // group of each row
	mixed    bool    // some group's rows are not neighbours
	cleaning Cleaning
}

type groupKey struct{ part, file, name string }

type groupRows struct {
	groupKey
	index, rows, last int // last is the latest row so far
}

func newBuilder(r *rules, c Columns) *builder {
	b := &builder{rules: r, columns: c, byName: map[groupKey]*groupRows{}, classOf: map[string]int32{}, label: -1, partOf: map[string]string{}}
	b.times = timeColumn{layout: r.layout, given: r.layout != "", unit: r.unit}
	return b
}

// read reads the rows of a file.
func (b *builder) read(f File, r io.Reader) error {
	if err := b.begin(f, r); err != nil {
		return err
	}
	return errors.Join(b.readRows(), b.close())
}

// begin opens a file.
func (b *builder) begin(f File, r io.Reader) (err error) {
	b.files++
	b.inFile, b.at, b.file, b.part, b.current = 0, 0, f.group(), f.Part, nil
	if b.dec, err = open(f, r, b.rules, b.wanted()); err != nil {
		return err
	}
	b.inner = b.dec
	if p, ok := b.dec.(*partitioned); ok {
		b.inner = p.decoder
	}
	b.line, _ = b.inner.(*lineDecoder)
	b.names = b.dec.header()
	return nil
}

// close ends a file.
func (b *builder) close() error {
	if b.line != nil && len(b.line.late) > 0 {
		b.cleaning.note("%s first come after the first %d points and are not used: name them to use them", quoted(b.line.late), sampleRows)
	}
	if c, ok := b.inner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// readRows reads the rows of the file.
func (b *builder) readRows() error {
	if err := b.bind(); err != nil {
		return err
	}
	if k, ok := b.inner.(interface{ keep(columns []int) }); ok {
		k.keep(b.used())
	}
	for {
		cells, err := b.dec.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := b.add(cells, b.place()); err != nil {
			return err
		}
	}
}

// used are the columns that are read.
func (b *builder) used() []int {
	list := append(slices.Clone(b.time), b.group, b.label, b.weight)
	for _, u := range slices.Concat(b.features, b.targets) {
		list = append(list, u.column)
	}
	return list
}

// wanted are the columns that are asked for by name.
func (b *builder) wanted() []string {
	c := b.columns
	w := slices.Concat(timeNames(c.Time, nil), []string{c.Group, c.Label, c.Weight}, c.Targets, c.Features)
	for _, u := range b.features {
		w = append(w, u.name)
	}
	return w
}

// timeNames are the columns that make the time.
func timeNames(s string, header []string) []string {
	if s == "" {
		return nil
	}
	if slices.Contains(header, s) { // a name with a comma in it
		return []string{s}
	}
	names := strings.Split(s, ",")
	for i, n := range names {
		names[i] = strings.TrimSpace(n)
	}
	return names
}

// bindKeys finds the columns of the file at hand that place a row.
func (b *builder) bindKeys() (err error) {
	b.time = b.time[:0]
	wanted := timeNames(cmp.Or(b.columns.Time, b.typedTime()), b.names)
	if wanted == nil && b.line != nil {
		wanted = []string{timeName}
	}
	for _, name := range wanted {
		i, err := b.find(name, "time")
		if err != nil {
			return err
		}
		b.time = append(b.time, i)
	}
	b.group = -1
	if b.columns.Group != "" {
		if b.group, err = b.find(b.columns.Group, "group"); err != nil {
			return err
		}
	}
	b.label = -1
	if b.columns.Label != "" {
		if b.label, err = b.find(b.columns.Label, "label"); err != nil {
			return err
		}
	}
	b.weight = -1
	if b.columns.Weight != "" {
		if b.weight, err = b.find(b.columns.Weight, "weight"); err != nil {
			return err
		}
	}
	return nil
}

// bind finds the columns of the file at hand.
func (b *builder) bind() error {
	if err := b.bindKeys(); err != nil {
		return err
	}
	b.targets = b.targets[:0]
	if err := b.choose(&b.targets, b.columns.Targets, "target"); err != nil {
		return err
	}
	if b.files > 1 {
		return b.rebind()
	}
	b.first = slices.Clone(b.names)
	for _, list := range []struct {
		what  string
		names []string
	}{{"type", slices.Sorted(maps.Keys(b.types))}, {"convert", slices.Sorted(maps.Keys(b.convert))}} {
		for _, name := range list.names {
			if _, err := b.find(name, list.what); err != nil {
				return err
			}
		}
	}
	if err := b.choose(&b.features, b.columns.Features, "feature"); err != nil {
		return err
	}
	return b.sample()
}

// rebind finds the features of the first file in a later one.
func (b *builder) rebind() error {
	var names []string
	for _, u := range b.features {
		names = append(names, u.name)
	}
	var extra []string
	for _, name := range b.names {
		if !slices.Contains(b.first, name) {
			extra = append(extra, name)
		}
	}
	if len(b.columns.Features) == 0 && len(extra) > 0 {
		b.cleaning.note("columns that the first file lacks are not used: %s", quoted(extra[:min(len(extra), 8)]))
	}
	b.features = b.features[:0]
	if err := b.choose(&b.features, names, "feature"); err != nil {
		return fmt.Errorf("%w (the first file has it)", err)
	}
	return nil
}

// find returns the index of a column.
func (b *builder) find(name, what string) (int, error) {
	if i := slices.Index(b.names, name); i >= 0 && name != "" {
		return i, nil
	}
	if name == "" {
		return 0, columnErrorf("%s: a column without a name", what)
	}
	return 0, fmt.Errorf("%s: %w: %q; %s", what, ErrColumn, name, suggest(name, b.names))
}

func (b *builder) choose(dst *[]use, names []string, what string) error {
	for _, n := range names {
		i, err := b.find(n, what)
		if err != nil {
			return err
		}
		if i == b.group {
			return columnErrorf("%s: %q is the group column; a group's name says nothing about its rows", what, n)
		}
		if i == b.label {
			return columnErrorf("%s: %q is the label column; it holds the answer", what, n)
		}
		for _, u := range *dst {
			if u.column == i {
				return columnErrorf("%s: %q is named twice", what, n)
			}
		}
		*dst = append(*dst, b.use(i, what == "target"))
	}
	return nil
}

func (b *builder) use(column int, target bool) use {
	u := use{column: column, name: b.names[column], target: target, conversion: conversion{factor: 1}}
	if c, ok := b.convert[u.name]; ok {
		u.conversion = c
	}
	if !target {
		u.lexicon = b.lexiconOf(u.name)
	}
	return u
}

// sample reads the first rows, chooses the default features by them, and then
// parses them like all others.
func (b *builder) sample() error {
	type sampled struct {
		cells []cell
		place place
	}
	var rows []sampled
	var broken error
	for len(rows) < sampleRows {
		cells, err := b.dec.next()
		if errors.Is(err, io.EOF) {
			break
		} else if broken = err; err != nil {
			break // the rows before may be wrong too
		}
		row := sampled{make([]cell, len(cells)), b.place()}
		row.place.series = slices.Clone(row.place.series)
		for i, c := range cells {
			row.cells[i] = c.clone()
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 && broken == nil {
		return fmt.Errorf("%w: a header and no rows; add rows below it", ErrEmpty)
	}
	if len(b.features) == 0 && len(rows) > 0 {
		text := make([]bool, len(b.names))
		for i, name := range b.names {
			text[i] = b.noNumber(name) || b.line != nil && b.line.tags[name] && b.types[name] == ""
		}
		for _, r := range rows {
			for i := range r.cells {
				if _, ok := b.dialect.value(&r.cells[i]); !ok && b.types[b.names[i]] != TypeNumber {
					text[i] = true
				}
			}
		}
		b.defaultFeatures(text)
		if len(b.features) == 0 {
			return columnErrorf("no numeric column is left for the features; name them")
		}
	}
	if err := b.checkCategories(); err != nil {
		return err
	}
	for _, r := range rows {
		if err := b.add(r.cells, r.place); err != nil {
			return err
		}
	}
	return broken
}

func (b *builder) defaultFeatures(text []bool) {
	for i, name := range b.names {
		isTarget := slices.ContainsFunc(b.targets, func(u use) bool { return u.column == i })
		switch {
		case name == "", slices.Contains(b.time, i), i == b.group, i == b.label, i == b.weight, isTarget && !b.columns.TargetsAsFeatures:
		case text[i] && !slices.Contains(b.columns.Categories, name):
			b.skipped = append(b.skipped, name)
		default:
			b.features = append(b.features, b.use(i, false))
		}
	}
}

// A place is where a row comes from.
type place struct {
	line   int
	series []byte // of line protocol; valid until the next row
}

// place is that of the row read last.
func (b *builder) place() place {
	p := place{line: b.dec.line()}
	if b.line != nil {
		p.series = b.line.series()
	}
	return p
}

// add parses one row.
func (b *builder) add(cells []cell, from place) error {
	b.inFile++
	b.at = from.line
	const others = 5 // time, an int64, group and label, int32, and weight
	if b.rows >= MaxValues/(len(b.features)+len(b.targets)+others) {
		return b.bad("", ErrTooLarge, fmt.Sprintf("more than %d values; use fewer features or a part of the data", MaxValues))
	}
	if err := b.addGroup(cells, from.series); err != nil {
		return err
	}
	if err := b.addTime(cells); err != nil {
		return err
	}
	for i := range b.features {
		value := b.number
		if b.features[i].lexicon != nil {
			value = b.text
		}
		v, err := value(&b.features[i], cells)
		if err != nil {
			return err
		}
		b.x = append(b.x, v)
	}
	for i := range b.targets {
		v, err := b.number(&b.targets[i], cells)
		if err != nil {
			return err
		}
		b.y = append(b.y, v)
	}
	if err := b.addLabel(cells); err != nil {
		return err
	}
	if err := b.addWeight(cells); err != nil {
		return err
	}
	if len(b.time) == 0 || b.times.compare(b.rows, b.current.last) > 0 {
		b.current.last = b.rows
	}
	b.rows++
	return nil
}

func (b *builder) addGroup(cells []cell, series []byte) error {
	name := b.scratch[:0]
	file := ""
	switch {
	case b.group >= 0:
		c := &cells[b.group]
		if name = c.appendTo(name); len(name) == 0 {
			return b.bad(b.names[b.group], ErrMalformed, "the group is missing; fill it in or remove the row")
		}
	default:
		file, name = b.file, append(name, series...)
	}
	b.scratch = name
	if b.current == nil || b.current.name != string(name) || b.current.file != file {
		key := groupKey{b.part, file, string(name)}
		g := b.byName[key]
		if g == nil {
			column := ""
			if b.group >= 0 {
				column = b.names[b.group]
			}
			switch {
			case len(file)+len(name) > MaxName || len(b.groups) == MaxGroups:
				return b.bad(column, ErrTooLarge, fmt.Sprintf("group %.40q: at most %d groups with names of %d bytes; is this the group column?", name, MaxGroups, MaxName))
			case !utf8.Valid(name):
				return b.bad(column, ErrMalformed, fmt.Sprintf("%.40q is not UTF-8; save the file as UTF-8, or convert it with iconv", name))
			}
			if err := b.onePart(key, column); err != nil {
				return err
			}
			g = &groupRows{index: len(b.groups), groupKey: key}
			b.byName[g.groupKey] = g
			b.groups = append(b.groups, g)
		} else {
			b.mixed = true
		}
		b.current = g
	}
	if b.current.rows++; b.current.rows == 1 {
		b.current.last = b.rows
	}
	b.rowOf = append(b.rowOf, int32(b.current.index))
	return nil
}

// onePart refuses a new group that a file of another part has too. Files are
// themselves, whatever they are called.
func (b *builder) onePart(g groupKey, column string) error {
	if b.SameNames || b.group < 0 && (g.file != "" || g.name == "") {
		return nil
	}
	if there, ok := b.partOf[g.name]; ok && there != g.part {
		return b.bad(column, ErrLeak, fmt.Sprintf("group %q is in the %s file and in the %s file: what is held out would be known already; take it out of one, or say with the option same_names that the files are of different machines",
			g.name, cmp.Or(there, PartTraining), cmp.Or(g.part, PartTraining)))
	}
	b.partOf[g.name] = g.part
	return nil
}

func (b *builder) addTime(cells []cell) error {
	if len(b.time) == 0 {
		return nil
	}
	name := b.names[b.time[0]]
	if !b.times.compose(cells, b.time) {
		written := b.written(cells)
		if len(b.times.at) == 0 {
			return b.bad(name, ErrMalformed, fmt.Sprintf("%.60q is not a time; use ISO 8601 (2006-01-02 15:04:05), an epoch or an integer step, or give its time format", written))
		}
		return b.bad(name, ErrMalformed, fmt.Sprintf("%.60q is not a time like those above, %q; write all in one form", written, b.times.format(0)))
	}
	if b.current.rows == 1 {
		return nil
	}
	order := b.times.compare(b.rows, b.current.last)
	if order < 0 {
		b.cleaning.OutOfOrder++
	}
	if order > 0 || order < 0 && b.sorts() || order == 0 && b.merges() {
		return nil
	}
	in := ""
	if b.current.name != "" {
		in = fmt.Sprintf(" in group %q", b.current.name)
	}
	return b.bad(name, ErrOrder, fmt.Sprintf("%q does not come after %q%s; sort the rows and remove duplicates, or have it done with the options order and duplicates", b.written(cells), b.times.format(b.current.last), in))
}

func (b *builder) addWeight(cells []cell) error {
	if b.weight < 0 {
		return nil
	}
	c := &cells[b.weight]
	v, ok := b.dialect.value(c)
	if f := float32(v); !ok || !(f >= 0) || math.IsInf(float64(f), 0) {
		return b.bad(b.names[b.weight], ErrWeight, fmt.Sprintf("%.60q; write a number of 0 or more", c.appendTo(nil)))
	}
	b.weights = append(b.weights, float32(v))
	return nil
}

// written is the time of a row as the file has it.
func (b *builder) written(cells []cell) (s []byte) {
	for k, i := range b.time {
		if k > 0 {
			s = append(s, ' ')
		}
		s = cells[i].appendTo(s)
	}
	return s
}

var nan32 = float32(math.NaN())

// number parses a cell; NaN stands for a missing value.
func (b *builder) number(u *use, cells []cell) (float32, error) {
	c := &cells[u.column]
	v, ok := b.dialect.value(c)
	if ok && v == v {
		if f := float32(v*u.factor + u.offset); f-f == 0 {
			return f, nil
		}
	}
	switch {
	case ok && v != v: // ParseFloat takes NaN in any case and sign
		if u.target && b.Missing == "" {
			return 0, b.bad(u.name, ErrTarget, fmt.Sprintf("the target is missing (%q); fill it in or remove the row, or say with the option missing what to do", c.appendTo(nil)))
		}
		b.missing = true
		return nan32, nil
	case !ok:
		hint := "; correct it, or leave the cell empty"
		switch {
		case c.kind == text && slices.Contains(c.text, ',') && b.dialect.decimal != ',':
			hint = " with a decimal comma; write decimal points, or say that the decimal point is a comma"
		case u.target: // needs a value
			hint = "; correct it, or remove the row"
		}
		return 0, b.bad(u.name, ErrMalformed, fmt.Sprintf("%.60q is not a number%s", c.appendTo(nil), hint))
	}
	sentinel := ErrMalformed
	if u.target {
		sentinel = ErrTarget
	}
	return 0, b.bad(u.name, sentinel, fmt.Sprintf("%.60q is not a finite float32; remove it or leave the cell empty", c.appendTo(nil)))
}

func (b *builder) bad(column string, sentinel error, reason string) error {
	return &CellError{Row: b.inFile, Line: b.at, Column: column, Reason: reason, Err: sentinel}
}

// table brings the rows of each group together and cleans them. files is how many
// there were: one is no group of its own.
func (b *builder) table(files int) (*Table, error) {
	t := &Table{X: b.x, Y: b.y, Weights: b.weights, Labels: b.sortClasses(), times: b.times, Skipped: b.skipped, Cleaning: b.cleaning}
	b.x, b.y, b.weights, b.labels, b.times.at = nil, nil, nil, nil, nil // or there would be two of each while rows move
	for _, u := range b.features {
		t.Features = append(t.Features, u.name)
		if u.lexicon != nil {
			if t.texts == nil {
				t.texts = map[string][]string{}
			}
			t.texts[u.name] = append([]string{}, u.lexicon.texts...) // not nil where all are missing
		}
	}
	for _, u := range b.targets {
		t.Targets = append(t.Targets, u.name)
	}
	start := 0
	for _, g := range b.groups {
		name := g.name
		switch {
		case files == 1 || g.file == "":
		case name == "":
			name = g.file
		default:
			name = g.file + "/" + name
		}
		t.Groups = append(t.Groups, Group{Name: name, Start: start, End: start + g.rows, Part: g.part})
		start += g.rows
	}
	if b.mixed {
		b.gather(t)
	}
	b.rowOf = nil
	return t, t.clean(b.rules, b.missing)
}

// gather moves each row to its group, keeping the order within the group.
func (b *builder) gather(t *Table) {
	next := make([]int, len(t.Groups))
	for i, g := range t.Groups {
		next[i] = g.Start
	}
	order := make([]int32, len(b.rowOf))
	for row, g := range b.rowOf {
		order[next[g]] = int32(row)
		next[g]++
	}
	t.arrange(order)
}

// arrange puts row order[i] in place i.
func (t *Table) arrange(order []int32) {
	t.X, t.Y = arranged(t.X, len(t.Features), order), arranged(t.Y, len(t.Targets), order)
	if t.Weights != nil {
		t.Weights = arranged(t.Weights, 1, order)
	}
	if t.Labels != nil {
		t.Labels.Of = arranged(t.Labels.Of, 1, order)
	}
	if t.times.kind != noTime {
		t.times.at = arranged(t.times.at, 1, order)
	}
}

// arranged is v, rows of n values, in another order.
func arranged[T any](v []T, n int, order []int32) []T {
	out := make([]T, 0, len(v))
	for _, row := range order {
		out = append(out, v[int(row)*n:][:n]...)
	}
	return out
}

// move copies row from to row to.
func (t *Table) move(from, to int) {
	nx, ny := len(t.Features), len(t.Targets)
	copy(t.X[to*nx:][:nx], t.X[from*nx:])
	copy(t.Y[to*ny:][:ny], t.Y[from*ny:])
	if t.Weights != nil {
		t.Weights[to] = t.Weights[from]
	}
	if t.Labels != nil {
		t.Labels.Of[to] = t.Labels.Of[from]
	}
	if t.times.kind != noTime {
		t.times.at[to] = t.times.at[from]
	}
	if t.unknown != nil {
		t.unknown[to] = t.unknown[from]
	}
}
