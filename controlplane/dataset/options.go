package dataset

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrOptions: options that cannot be read or cleaned with. The text says which and
// what to do.
var ErrOptions = errors.New("data options")

// Values of Options.
const (
	FormatCSV     = "csv"
	FormatLine    = "line"    // InfluxDB line protocol
	FormatParquet = "parquet" // Apache Parquet

	OrderRefuse = "refuse"
	OrderSort   = "sort"

	Refuse    = "refuse"
	KeepFirst = "first"
	KeepLast  = "last"
	TakeMean  = "mean"

	FillForward = "ffill"
	Interpolate = "interpolate"
	FillZero    = "zero"
	DropRows    = "drop"
)

// Options say how files are written and what is done about what is wrong in
// them. Zero values mean the defaults: what can be detected is, missing values of
// features are carried forward, and everything else that is wrong is an error.
type Options struct {
	Format      string   `json:"format,omitempty" doc:"csv, line (InfluxDB line protocol) or parquet; none: detected"`
	Separator   string   `json:"separator,omitempty" doc:"Of CSV: one character, or tab; none: comma, semicolon or tab, whichever the header has most of"`
	Decimal     string   `json:"decimal,omitempty" doc:"Decimal point of numbers in text, . or ,"`
	TimeFormat  string   `json:"time_format,omitempty" doc:"Of the time column: s, ms, us or ns for an epoch in that unit, or a format such as %d.%m.%Y %H:%M:%S; none: detected"`
	Null        []string `json:"null,omitempty" doc:"Further spellings of a missing value, such as -999"`
	Text        []string `json:"text,omitempty" doc:"Columns that hold text, whatever it looks like"`
	Types       []string `json:"types,omitempty" doc:"COLUMN=TYPE for columns that are detected wrongly: number, text, or time, which orders the rows if no other column is named"`
	SameNames   bool     `json:"same_names,omitempty" doc:"Groups of one name in the data and in files that are held out are different machines"`
	Measurement string   `json:"measurement,omitempty" doc:"Of line protocol: the measurement to read, where there are several"`

	Convert     []string `json:"convert,omitempty" doc:"COLUMN=A*x+B for each column that is to be in another unit: before anything else, and what devices send must be so too"`
	ColumnUnits []string `json:"column_units,omitempty" doc:"COLUMN=UNIT: units of columns after conversion, which the model's schema carries"`

	Order      string `json:"order,omitempty" doc:"Of rows that are not in time order: refuse or sort"`
	Duplicates string `json:"duplicates,omitempty" doc:"Of rows with the same time in one group: refuse, first, last or mean"`
	MaxGap     string `json:"max_gap,omitempty" doc:"Longest time between two rows that belong together, such as 90s or 3 (steps): no window crosses a longer one"`
	Resample   string `json:"resample,omitempty" doc:"Time between rows after resampling, such as 10m or 5 (steps): each is made of the rows from its time to the next"`
	ResampleBy string `json:"resample_by,omitempty" doc:"How: mean, min, max, first, last or sum"`
	Missing    string `json:"missing,omitempty" doc:"Of missing values: ffill, interpolate, zero or drop (the row); then a missing target is no error: windows that would have to predict it are left out, with zero it is 0"`
	FillLimit  int    `json:"fill_limit,omitempty" doc:"Of ffill and interpolate: most rows in a row that are filled; rows beyond it are dropped"`
}

// With returns o with the fields of p that are not zero.
func (o Options) With(p Options) Options {
	set(&o.Format, p.Format)
	set(&o.Separator, p.Separator)
	set(&o.Decimal, p.Decimal)
	set(&o.TimeFormat, p.TimeFormat)
	set(&o.SameNames, p.SameNames)
	set(&o.Measurement, p.Measurement)
	set(&o.Order, p.Order)
	set(&o.Duplicates, p.Duplicates)
	set(&o.MaxGap, p.MaxGap)
	set(&o.Resample, p.Resample)
	set(&o.ResampleBy, p.ResampleBy)
	set(&o.Missing, p.Missing)
	set(&o.FillLimit, p.FillLimit)
	for _, l := range []struct{ dst, src *[]string }{
		{&o.Null, &p.Null}, {&o.Text, &p.Text}, {&o.Types, &p.Types}, {&o.Convert, &p.Convert}, {&o.ColumnUnits, &p.ColumnUnits},
	} {
		if len(*l.src) > 0 {
			*l.dst = *l.src
		}
	}
	return o
}

func set[T comparable](dst *T, v T) {
	var zero T
	if v != zero {
		*dst = v
	}
}

// Units returns the unit of each column that has one.
func (o Options) Units() (map[string]string, error) {
	units := map[string]string{}
	for _, s := range o.ColumnUnits {
		column, unit, ok := cutLast(s)
		if !ok || unit == "" || len(unit) > MaxName {
			return nil, fmt.Errorf("%w: column unit %.60q; write COLUMN=UNIT, such as temperature=°C", ErrOptions, s)
		}
		units[column] = unit
	}
	return units, nil
}

// cutLast cuts COLUMN=VALUE at the last equals sign.
func cutLast(s string) (column, value string, ok bool) {
	i := strings.LastIndexByte(s, '=')
	if i < 1 {
		return "", "", false
	}
	return s[:i], strings.TrimSpace(s[i+1:]), true
}

// conversion is value ↦ factor·value + offset.
type conversion struct{ factor, offset float64 }

// formula is A*x+B with either part left out, or x/A.
var formula = regexp.MustCompile(`^(?:([^*x/ ]+)\*)?x(?:/([^*x/+ ]+))?(?:([+-][^*x/ ]+))?$`)

func parseConversions(list []string) (map[string]conversion, error) {
	out := map[string]conversion{}
	for _, s := range list {
		column, f, ok := cutLast(s)
		m := formula.FindStringSubmatch(strings.ReplaceAll(f, " ", ""))
		c := conversion{factor: 1}
		if ok = ok && m != nil; ok {
			var err [3]error
			if m[1] != "" {
				c.factor, err[0] = strconv.ParseFloat(m[1], 64)
			}
			if m[2] != "" {
				var d float64
				d, err[1] = strconv.ParseFloat(m[2], 64)
				c.factor /= d
			}
			if m[3] != "" {
				c.offset, err[2] = strconv.ParseFloat(m[3], 64)
			}
			ok = errors.Join(err[:]...) == nil && c.factor != 0 && !math.IsInf(c.factor, 0) && !math.IsInf(c.offset, 0) && c.factor == c.factor && c.offset == c.offset
		}
		if _, twice := out[column]; !ok || twice {
			return nil, fmt.Errorf("%w: conversion %.60q; write COLUMN=A*x+B once for a column, such as temperature=0.5556*x-17.78", ErrOptions, s)
		}
		out[column] = c
	}
	return out, nil
}

// rules are checked options.
type rules struct {
	Options
	separator byte // 0: detected
	dialect   dialect
	convert   map[string]conversion
	types     map[string]string // of columns, as said
	layout    string            // of time, for time.Parse; empty: detected
	unit      int64             // of an epoch, ns; 0: not said
}

func (o Options) rules() (*rules, error) {
	r := &rules{Options: o, dialect: dialect{decimal: '.', null: o.Null}}
	for _, c := range []struct {
		name, value string
		of          []string
	}{
		{"format", o.Format, []string{FormatCSV, FormatLine, FormatParquet}},
		{"decimal", o.Decimal, []string{".", ","}},
		{"order", o.Order, []string{OrderRefuse, OrderSort}},
		{"duplicates", o.Duplicates, []string{Refuse, KeepFirst, KeepLast, TakeMean}},
		{"missing", o.Missing, []string{FillForward, Interpolate, FillZero, DropRows}},
		{"resample_by", o.ResampleBy, aggregates},
	} {
		if c.value != "" && !slices.Contains(c.of, c.value) {
			return nil, fmt.Errorf("%w: %s %.40q; there are %s", ErrOptions, c.name, c.value, strings.Join(c.of, ", "))
		}
	}
	switch {
	case o.Separator == "tab" || o.Separator == `\t`:
		r.separator = '\t'
	case len(o.Separator) == 1 && o.Separator[0] < 0x80 && !strings.Contains("\"\r\n", o.Separator):
		r.separator = o.Separator[0]
	case o.Separator != "":
		return nil, fmt.Errorf("%w: separator %.40q; give one ASCII character, or tab", ErrOptions, o.Separator)
	}
	if o.Decimal != "" {
		r.dialect.decimal = o.Decimal[0]
	}
	if r.dialect.decimal == ',' && r.separator == ',' {
		return nil, fmt.Errorf("%w: a comma both as separator and as decimal point", ErrOptions)
	}
	if o.FillLimit < 0 || o.FillLimit > 0 && (o.Missing == FillZero || o.Missing == DropRows) {
		return nil, fmt.Errorf("%w: fill_limit %d; it is 1 or more, and of ffill and interpolate", ErrOptions, o.FillLimit)
	}
	if o.ResampleBy != "" && o.Resample == "" {
		return nil, fmt.Errorf("%w: resample_by without resample; say how far apart the rows are to be", ErrOptions)
	}
	var err error
	if r.convert, err = parseConversions(o.Convert); err != nil {
		return nil, err
	}
	if r.types, err = parseTypes(o); err != nil {
		return nil, err
	}
	if _, err = o.Units(); err != nil {
		return nil, err
	}
	r.layout, r.unit, err = timeLayout(o.TimeFormat)
	return r, err
}

// sorts reports whether rows may come in any order.
func (r *rules) sorts() bool { return r.Order == OrderSort }

// merges reports whether rows with the same time become one.
func (r *rules) merges() bool { return r.Duplicates != "" && r.Duplicates != Refuse }

// epochs are the units of an epoch.
var epochs = map[string]time.Duration{"s": time.Second, "ms": time.Millisecond, "us": time.Microsecond, "ns": time.Nanosecond}

// directives are those of strftime that a time format may have, in the layout of
// time.Parse.
var directives = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'f': "999999999",
	'b': "Jan", 'B': "January", 'I': "03", 'p': "PM", 'z': "-0700", 'Z': "MST", 'a': "Mon", 'A': "Monday", 'j': "002", '%': "%",
}

// timeLayout reads Options.TimeFormat.
func timeLayout(format string) (layout string, unit int64, err error) {
	if d, ok := epochs[format]; ok || format == "" {
		return "", int64(d), nil
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		if i == len(format) || directives[format[i]] == "" {
			return "", 0, fmt.Errorf("%w: time format %.60q: %.3q is not known; the directives are %%Y %%m %%d %%H %%M %%S %%f %%y %%b %%B %%I %%p %%z %%j", ErrOptions, format, format[i-1:])
		}
		b.WriteString(directives[format[i]])
	}
	if layout = b.String(); layout == format {
		return "", 0, fmt.Errorf("%w: time format %.60q; give s, ms, us or ns for an epoch, or a format such as %%d.%%m.%%Y %%H:%%M:%%S", ErrOptions, format)
	}
	return layout, 0, nil
}
