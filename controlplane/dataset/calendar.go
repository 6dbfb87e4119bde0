package dataset

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
)

// WithCalendar returns the table with two features more for each cycle, the sine
// and the cosine of the rows' places in it. Times without a zone are UTC. The error
// is ErrOptions for a time column that does not tell the time of day.
func (t *Table) WithCalendar(cycles []prepare.Cycle) (*Table, error) {
	if len(cycles) == 0 {
		return t, nil
	}
	unit, err := t.times.clock()
	if err != nil {
		return nil, err
	}
	out := *t
	out.Features = slices.Clone(t.Features)
	for _, c := range cycles {
		out.Features = append(out.Features, c.String()+" sine", c.String()+" cosine")
	}
	n := len(t.Features)
	out.X = make([]float32, 0, t.Rows()*len(out.Features))
	for row := range t.Rows() {
		ms := t.times.ms(row, unit)
		if ms < -prepare.MaxTime || ms > prepare.MaxTime {
			return nil, fmt.Errorf("%w: the calendar of the time %s: it is beyond the year 10000; is its unit right?", ErrOptions, t.Time(row))
		}
		out.X = append(out.X, t.X[row*n:][:n]...)
		for _, c := range cycles {
			sin, cos := c.At(ms)
			out.X = append(out.X, sin, cos)
		}
	}
	return &out, nil
}

// PeriodMS returns the time between two rows, if at least 9 in 10 are equally far
// apart, in milliseconds. The error, of ErrOptions, says what to do otherwise.
func (t *Table) PeriodMS() (int64, error) {
	unit, err := t.times.clock()
	if err != nil {
		return 0, err
	}
	p, regular := t.period()
	if !regular {
		return 0, fmt.Errorf("%w: a calendar needs rows that are equally far apart, for a request gives the time of its last row alone; resample them", ErrOptions)
	}
	ms := p.decimal * float64(unit) / 1e6
	if ms < 1 || ms > prepare.MaxPeriod {
		return 0, fmt.Errorf("%w: rows %s apart; a calendar needs 1 ms to 366 days", ErrOptions, t.times.span(p))
	}
	return int64(math.Round(ms)), nil
}

// clock returns the unit of the times, in ns. The error is ErrOptions for times
// that do not tell the time of day.
func (c *timeColumn) clock() (unit int64, err error) {
	switch {
	case c.kind == noTime:
		return 0, fmt.Errorf("%w: a calendar needs a time column; name it", ErrOptions)
	case c.kind == stampTime:
		return 1, nil
	case c.unit == 0:
		return 0, fmt.Errorf("%w: a calendar needs times, and the time column holds numbers, such as %s; if they are an epoch, say in time_format which: s, ms, us or ns", ErrOptions, c.format(0))
	}
	return c.unit, nil
}

// ms is the time of row i in milliseconds since 1970, rounded down.
func (c *timeColumn) ms(i int, unit int64) int64 {
	if c.kind == decimalTime {
		return int64(math.Floor(max(-math.MaxInt64/2, min(math.MaxInt64/2, c.float(i)*(float64(unit)/1e6)))))
	}
	per := int64(time.Millisecond) / unit // steps in a millisecond, 0 for an epoch in seconds
	if per == 0 {
		if v, scale := c.at[i], unit/int64(time.Millisecond); v > math.MinInt64/scale && v < math.MaxInt64/scale {
			return v * scale
		}
		return math.MaxInt64
	}
	ms := c.at[i] / per
	if c.at[i]%per < 0 {
		ms--
	}
	return ms
}
