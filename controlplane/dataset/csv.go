package dataset

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// A decoder gives the rows of one file.
type decoder interface {
	// header returns the names of the columns.
	header() []string
	// next returns the cells of the next row, one for each column, valid until
	// the following call. io.EOF ends the file.
	next() ([]cell, error)
	// line is where the row at hand begins, from 1, 0 where files have no lines.
	line() int
}

// A csvDecoder reads a header, then one row a line.
type csvDecoder struct {
	lines  *lineReader
	sep    byte
	names  []string
	fields [][]byte
	cells  []cell
	row    int
}

const openQuote = "a quote is not closed on its line; close it, and take line breaks out of the cell"

// newCSVDecoder reads the header. sep 0 is detected.
func newCSVDecoder(lines *lineReader, sep byte) (*csvDecoder, error) {
	head, err := lines.next()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the file is empty; its first line must name the columns", ErrEmpty)
	} else if err != nil {
		return nil, err
	}
	d := &csvDecoder{lines: lines, sep: sep}
	if d.sep == 0 {
		d.sep = separatorOf(head)
	}
	return d, d.readHeader(head)
}

func (d *csvDecoder) readHeader(head []byte) error {
	fields, ok := splitFields(nil, head, d.sep)
	if !ok {
		return d.bad("", ErrMalformed, openQuote)
	}
	if len(fields) > MaxColumns {
		return d.bad("", ErrTooLarge, fmt.Sprintf("%d columns, at most %d are read", len(fields), MaxColumns))
	}
	numbers := 0
	for _, f := range fields {
		if !utf8.Valid(f) {
			return d.bad("", ErrMalformed, fmt.Sprintf("%.40q is not UTF-8; save the file as UTF-8, or convert it with iconv", f))
		}
		if _, err := strconv.ParseFloat(string(f), 64); err == nil {
			numbers++
		}
	}
	if numbers == len(fields) { // before names are compared: a row of data may repeat a value
		return d.bad("", ErrMalformed, "only numbers; the first line must name the columns")
	}
	seen := make(map[string]bool, len(fields))
	for _, f := range fields {
		name := string(f)
		if name != "" && seen[name] {
			return d.bad(name, ErrMalformed, "the header names this column twice; rename one")
		}
		seen[name] = true
		d.names = append(d.names, name)
	}
	d.cells = make([]cell, len(d.names))
	return nil
}

func (d *csvDecoder) header() []string { return d.names }

func (d *csvDecoder) line() int { return d.lines.line }

func (d *csvDecoder) next() ([]cell, error) {
	b, err := d.lines.next()
	if err != nil {
		return nil, err
	}
	d.row++
	var ok bool
	if d.fields, ok = splitFields(d.fields, b, d.sep); !ok {
		return nil, d.bad("", ErrMalformed, openQuote)
	}
	if len(d.fields) != len(d.names) {
		column := ""
		if len(d.fields) < len(d.names) {
			column = d.names[len(d.fields)] // the first one without a cell
		}
		return nil, d.bad(column, ErrMalformed, fmt.Sprintf("%d fields, the header has %d; complete or remove the row", len(d.fields), len(d.names)))
	}
	for i, f := range d.fields {
		d.cells[i].kind, d.cells[i].text = text, f
	}
	return d.cells, nil
}

func (d *csvDecoder) bad(column string, sentinel error, reason string) error {
	return &CellError{Row: d.row, Line: d.lines.line, Column: column, Reason: reason, Err: sentinel}
}
