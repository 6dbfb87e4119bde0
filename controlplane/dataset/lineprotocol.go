package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A SyntaxError is a place in a file of InfluxDB line protocol that does not
// follow its syntax.
type SyntaxError struct {
	Line, Column int    // from 1; Column counts bytes
	Reason       string // what is wrong and what to do
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s: %s", e.Line, e.Column, ErrLine, e.Reason)
}

func (e *SyntaxError) Unwrap() error { return ErrLine }

// timeName is the column of the timestamps of line protocol.
const timeName = "time"

// A point is one line of line protocol:
//
//	measurement[,tag=value…] field=value[,field=value…] timestamp
//
// (docs.influxdata.com, "Line protocol reference"). In names and tag values a
// backslash escapes a comma, an equals sign and a space; in strings, between
// double quotes, a double quote and a backslash. Its slices are valid until the
// next line is parsed.
type point struct {
	measurement  []byte
	series       []byte // tags as written
	tags, fields []labelled
	time         int64 // in the file's unit
	timed        bool

	arena []byte // what had escapes
}

// A labelled value is a tag or a field.
type labelled struct {
	name  []byte
	value cell
	at    int // where it begins in the line, from 0
}

// errAt is a reason and the place in the line, from 0.
type errAt struct {
	at     int
	reason string
}

// parse reads a line.
func (p *point) parse(b []byte) *errAt {
	p.tags, p.fields, p.arena, p.timed = p.tags[:0], p.fields[:0], p.arena[:0], false
	i := skipSpaces(b, 0)
	start := i
	if i = endOf(b, i, ", "); i == start {
		return &errAt{i, "the measurement is missing; a line is `measurement,tag=value field=value timestamp`"}
	}
	p.measurement = p.unescape(b[start:i], ", ")
	tags := i
	for i < len(b) && b[i] == ',' {
		var bad *errAt
		if i, bad = p.tag(b, i+1); bad != nil {
			return bad
		}
	}
	if p.series = b[tags:i]; len(p.series) > 0 {
		p.series = p.series[1:]
	}
	i = skipSpaces(b, i)
	for {
		var bad *errAt
		if i, bad = p.field(b, i); bad != nil {
			return bad
		}
		if i == len(b) || b[i] != ',' {
			break
		}
		i++
	}
	return p.timestamp(b, i)
}

// tag reads a tag from b[i:] and returns where it ends.
func (p *point) tag(b []byte, i int) (int, *errAt) {
	name, i, bad := p.name(b, i, "tag")
	if bad != nil {
		return i, bad
	}
	start := i
	if i = endOf(b, i, ",= "); i == start {
		return i, &errAt{i, fmt.Sprintf("the tag %.40q has no value; leave it out", name.name)}
	}
	if i < len(b) && b[i] == '=' {
		return i, &errAt{i, `an equals sign in a tag value; write \=`}
	}
	name.value = textCell(p.unescape(b[start:i], ",= "))
	p.tags = append(p.tags, name)
	return i, nil
}

// name reads the name of a tag or a field, and the equals sign behind it.
func (p *point) name(b []byte, i int, what string) (labelled, int, *errAt) {
	start := i
	i = endOf(b, i, ",= ")
	if i == start {
		return labelled{}, i, &errAt{i, fmt.Sprintf("a %s is missing; write name=value", what)}
	}
	if i == len(b) || b[i] != '=' {
		return labelled{}, i, &errAt{i, fmt.Sprintf("the %s %.40q has no value; write name=value", what, b[start:i])}
	}
	l := labelled{name: p.unescape(b[start:i], ",= "), at: start}
	if !utf8.Valid(l.name) {
		return labelled{}, i, &errAt{start, "the name is not UTF-8"}
	}
	return l, i + 1, nil
}

// field reads a field from b[i:] and returns where it ends.
func (p *point) field(b []byte, i int) (int, *errAt) {
	l, i, bad := p.name(b, i, "field")
	if bad != nil {
		return i, bad
	}
	start := i
	if i < len(b) && b[i] == '"' {
		if i = p.closing(b, i+1); i == len(b) {
			return i, &errAt{start, "the string is not closed; end it with a double quote"}
		}
		l.value = textCell(p.unescape(b[start+1:i], `"\`))
		i++
		if i < len(b) && b[i] != ',' && b[i] != ' ' {
			return i, &errAt{i, "text behind a string; write a comma or a space"}
		}
	} else {
		i = endOf(b, i, ", ")
		var ok bool
		if l.value, ok = scalar(b[start:i]); !ok {
			return i, &errAt{start, fmt.Sprintf("%.40q is no value; write a number (1.5, 3i, 3u), true, false or a \"string\"", b[start:i])}
		}
	}
	p.fields = append(p.fields, l)
	return i, nil
}

// closing returns where the quote of a string closes, len(b) if it does not.
func (p *point) closing(b []byte, i int) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b)
}

// scalar reads a number or a boolean, which is 1 or 0.
func scalar(b []byte) (cell, bool) {
	if len(b) == 0 {
		return cell{}, false
	}
	switch string(b) {
	case "t", "T", "true", "True", "TRUE":
		return cell{kind: number, number: 1}, true
	case "f", "F", "false", "False", "FALSE":
		return cell{kind: number}, true
	}
	switch digits := b[:len(b)-1]; b[len(b)-1] {
	case 'i':
		v, err := strconv.ParseInt(string(digits), 10, 64)
		return cell{kind: integer, int: v}, err == nil
	case 'u':
		v, err := strconv.ParseUint(string(digits), 10, 64)
		return cell{kind: number, number: float64(v)}, err == nil
	}
	if c := b[0]; c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') || bytes.ContainsAny(b, "xX_pP") {
		return cell{}, false
	}
	v, err := strconv.ParseFloat(string(b), 64)
	return cell{kind: number, number: v}, err == nil
}

// timestamp reads what follows the fields.
func (p *point) timestamp(b []byte, i int) *errAt {
	i = skipSpaces(b, i)
	end := len(bytes.TrimRight(b, " "))
	if i >= end {
		return nil
	}
	var err error
	if p.time, err = strconv.ParseInt(string(b[i:end]), 10, 64); err != nil {
		return &errAt{i, fmt.Sprintf("%.40q is no timestamp; it is a whole number, by default of nanoseconds", b[i:end])}
	}
	p.timed = true
	return nil
}

// endOf returns where the first of the stops, not escaped, is in b[i:].
func endOf(b []byte, i int, stops string) int {
	for ; i < len(b); i++ {
		switch {
		case b[i] == '\\':
			i++
		case b[i] <= '=' && bytes.IndexByte([]byte(stops), b[i]) >= 0:
			return i
		}
	}
	return len(b)
}

func skipSpaces(b []byte, i int) int {
	for i < len(b) && b[i] == ' ' {
		i++
	}
	return i
}

// unescape takes the backslashes before special bytes out of b, into the arena.
func (p *point) unescape(b []byte, special string) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	start := len(p.arena)
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) && bytes.IndexByte([]byte(special), b[i+1]) >= 0 {
			i++
		}
		p.arena = append(p.arena, b[i])
	}
	return p.arena[start:len(p.arena):len(p.arena)]
}

// A lineDecoder reads points of one measurement as rows: the time, then tags and
// fields by name, as far as the first rows or the caller name them.
type lineDecoder struct {
	lines       *lineReader
	measurement string // empty: that of the first line, and no other
	asked       bool
	unit        int64 // of timestamps, ns
	names       []string
	index       map[string]int
	tags        map[string]bool // names that are of tags
	seen        []bool
	cells       []cell
	point       point
	ahead       [][]byte // the first lines, and where they stand
	aheadAt     []int
	at          int // line of the row at hand
	late        []string
	others      []string // measurements that were left out
}

// newLineDecoder reads ahead for the names of the columns; want are further ones.
func newLineDecoder(lines *lineReader, r *rules, want []string) (*lineDecoder, error) {
	d := &lineDecoder{
		lines: lines, measurement: r.Measurement, asked: r.Measurement != "", unit: max(r.unit, 1),
		names: []string{timeName}, index: map[string]int{timeName: 0}, tags: map[string]bool{},
	}
	if r.layout != "" {
		return nil, fmt.Errorf("%w: time format %q; timestamps of line protocol are in s, ms, us or ns", ErrOptions, r.TimeFormat)
	}
	for len(d.ahead) < sampleRows {
		b, err := d.read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		d.ahead, d.aheadAt = append(d.ahead, slices.Clone(b)), append(d.aheadAt, d.lines.line)
		for _, l := range d.point.tags {
			d.tags[string(l.name)] = true
		}
		for _, l := range slices.Concat(d.point.tags, d.point.fields) {
			if err := d.column(string(l.name)); err != nil {
				return nil, err
			}
		}
	}
	if len(d.ahead) == 0 {
		return nil, d.nothing()
	}
	for _, name := range want {
		if err := d.column(name); err != nil {
			return nil, err
		}
	}
	d.cells, d.seen = make([]cell, len(d.names)), make([]bool, len(d.names))
	return d, nil
}

// column makes sure that there is a column of that name.
func (d *lineDecoder) column(name string) error {
	if _, ok := d.index[name]; ok || name == "" {
		return nil
	}
	if len(d.names) == MaxColumns {
		return fmt.Errorf("line %d: %w: more than %d tags and fields", d.lines.line, ErrTooLarge, MaxColumns)
	}
	d.index[name] = len(d.names)
	d.names = append(d.names, name)
	return nil
}

// read reads up to the next point of the measurement into d.point.
func (d *lineDecoder) read() ([]byte, error) {
	for {
		b, err := d.lines.next()
		if err != nil {
			return nil, err
		}
		if b[0] == '#' { // a comment
			continue
		}
		if err := d.parse(b, d.lines.line); err != nil {
			return nil, err
		}
		switch m := string(d.point.measurement); {
		case d.measurement == "":
			d.measurement = m
		case d.measurement == m:
		case d.asked:
			if len(d.others) < 8 && !slices.Contains(d.others, m) {
				d.others = append(d.others, m)
			}
			continue
		default:
			return nil, columnErrorf("line %d: a second measurement, %.40q beside %.40q; say in measurement which one to read", d.lines.line, m, d.measurement)
		}
		return b, nil
	}
}

func (d *lineDecoder) nothing() error {
	if len(d.others) > 0 {
		return fmt.Errorf("%w: no line of the measurement %q; there are %s", ErrEmpty, d.measurement, quoted(d.others))
	}
	return fmt.Errorf("%w: the file holds no points", ErrEmpty)
}

func (d *lineDecoder) parse(b []byte, line int) error {
	if bad := d.point.parse(b); bad != nil {
		return &SyntaxError{Line: line, Column: bad.at + 1, Reason: bad.reason}
	}
	if !d.point.timed {
		return &SyntaxError{Line: line, Column: len(b) + 1, Reason: "the timestamp is missing; a row needs a time"}
	}
	return nil
}

func (d *lineDecoder) header() []string { return d.names }

func (d *lineDecoder) line() int { return d.at }

// series returns the tags of the row at hand, as written.
func (d *lineDecoder) series() []byte { return d.point.series }

func (d *lineDecoder) next() ([]cell, error) {
	if len(d.ahead) > 0 {
		b := d.ahead[0]
		d.at, d.ahead, d.aheadAt = d.aheadAt[0], d.ahead[1:], d.aheadAt[1:]
		if err := d.parse(b, d.at); err != nil {
			return nil, err
		}
	} else {
		_, err := d.read()
		if errors.Is(err, io.EOF) {
			return nil, d.end()
		} else if err != nil {
			return nil, err
		}
		d.at = d.lines.line
	}
	return d.row()
}

// row makes the point at hand a row.
func (d *lineDecoder) row() ([]cell, error) {
	clear(d.cells)
	if t := d.point.time; t > math.MaxInt64/d.unit || t < math.MinInt64/d.unit {
		return nil, &SyntaxError{Line: d.at, Column: 1, Reason: fmt.Sprintf("the timestamp %d is out of range; say in time_format what unit it has", t)}
	}
	d.cells[0] = cell{kind: stamp, int: d.point.time * d.unit}
	for _, list := range [][]labelled{d.point.tags, d.point.fields} {
		for _, l := range list {
			i, ok := d.index[string(l.name)]
			if !ok {
				if len(d.late) < 8 && !slices.Contains(d.late, string(l.name)) {
					d.late = append(d.late, string(l.name))
				}
				continue
			}
			if d.cells[i].kind != missing {
				return nil, &SyntaxError{Line: d.at, Column: l.at + 1, Reason: fmt.Sprintf("%.40q comes twice in the line, or is the time; rename one", l.name)}
			}
			d.cells[i], d.seen[i] = l.value, true
		}
	}
	return d.cells, nil
}

// end is io.EOF if every column was seen.
func (d *lineDecoder) end() error {
	d.seen[0] = true
	if i := slices.Index(d.seen, false); i >= 0 {
		var there []string
		for k, name := range d.names {
			if d.seen[k] {
				there = append(there, name)
			}
		}
		return fmt.Errorf("%w: %q; %s", ErrColumn, d.names[i], suggest(d.names[i], there))
	}
	return io.EOF
}
