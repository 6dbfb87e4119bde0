package dataset

import (
	"math"
	"slices"
	"strconv"
	"time"
)

type cellKind uint8

const (
	missing cellKind = iota
	text             // as written: perhaps a number, a time, or a spelling of a missing value
	number
	integer
	stamp // nanoseconds since 1970 UTC
)

// A cell is one value of a row.
type cell struct {
	kind   cellKind
	text   []byte  // text; valid until the next row
	number float64 // number
	int    int64   // integer and stamp
}

func textCell(b []byte) cell { return cell{kind: text, text: b} }

// appendTo appends the cell as it is written, "" for a missing one.
func (c *cell) appendTo(b []byte) []byte {
	switch c.kind {
	case text:
		return append(b, c.text...)
	case number:
		return strconv.AppendFloat(b, c.number, 'g', -1, 64)
	case integer:
		return strconv.AppendInt(b, c.int, 10)
	case stamp:
		return time.Unix(0, c.int).UTC().AppendFormat(b, time.RFC3339Nano)
	}
	return b
}

// clone returns the cell with memory of its own.
func (c cell) clone() cell {
	c.text = slices.Clone(c.text)
	return c
}

// A dialect is how cells are written.
type dialect struct {
	decimal byte     // '.' or ','
	null    []string // further spellings of a missing value
	buf     []byte
}

// spellings of a missing value, beside those that ParseFloat takes for NaN.
func (d *dialect) isMissing(b []byte) bool {
	switch string(b) {
	case "", "NA", "N/A", "n/a", "na", "NaN", "nan", "NAN", "null", "NULL", "None", "none", "?":
		return true
	}
	for _, n := range d.null {
		if string(b) == n {
			return true
		}
	}
	return false
}

// value returns the number in a cell, NaN for a missing one. ok is false for
// what is neither. It may be beyond float32, or infinite.
func (d *dialect) value(c *cell) (v float64, ok bool) {
	switch c.kind {
	case missing:
		return math.NaN(), true
	case number:
		return c.number, true
	case integer:
		return float64(c.int), true
	case stamp:
		return 0, false
	}
	b := c.text
	if len(d.null) > 0 && d.isMissing(b) {
		return math.NaN(), true
	}
	if d.decimal == ',' && slices.Contains(b, ',') {
		d.buf = append(d.buf[:0], b...)
		for i, ch := range d.buf {
			switch ch {
			case ',':
				d.buf[i] = '.'
			case '.':
				return 0, false
			}
		}
		b = d.buf
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err == nil || math.IsInf(v, 0) { // beyond float64
		return v, true
	}
	return math.NaN(), d.isMissing(b)
}
