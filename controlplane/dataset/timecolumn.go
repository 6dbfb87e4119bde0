package dataset

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// layouts are the timestamps understood, all of them ISO 8601 or its common
// form with a space. time.Parse accepts a fraction of a second in each that
// has seconds.
var layouts = []string{
	time.RFC3339,
	"2006-01-02 15:04:05",
	"2006-01-02T15:04:05",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04",
	"2006-01-02T15:04",
	"2006-01-02",
	"2006/01/02 15:04:05",
	"2006/01/02",
}

type timeKind uint8

const (
	noTime      timeKind = iota
	integerTime          // a step number or an epoch
	decimalTime          // an epoch with a fraction; math.Float64bits in at
	stampTime            // nanoseconds since 1970 UTC in at
)

// A timeColumn holds one time a row, of the kind that the first row shows.
type timeColumn struct {
	kind   timeKind
	layout string         // of stampTime
	given  bool           // the layout was, so nothing else is tried
	parts  bool           // times are composed of numbers
	unit   int64          // ns of one step of integerTime and decimalTime; 0: nobody said
	zone   *time.Location // of the first time
	other  *time.Location // of one that has another offset from UTC; nil: all have the same
	first  int            // offset of zone, seconds
	at     []int64
}

// append adds the time in a cell, telling whether it is one like those before it.
func (c *timeColumn) append(v *cell) bool {
	switch v.kind {
	case text:
		return c.parse(v.text)
	case integer:
		return c.whole(v.int)
	case number:
		return c.decimal(v.number)
	case stamp:
		if c.kind == noTime {
			c.kind, c.layout, c.zone = stampTime, time.RFC3339Nano, time.UTC
		}
		if c.kind != stampTime {
			return false
		}
		c.at = append(c.at, v.int)
		return true
	}
	return false
}

// compose adds a time of one cell or several: year, month, day, hour, minute and
// second, as far as there are cells, where all of them are whole numbers, and
// otherwise pieces of text, such as a date and a time of day, with spaces between.
func (c *timeColumn) compose(cells []cell, columns []int) bool {
	if len(columns) == 1 {
		return c.append(&cells[columns[0]])
	}
	if c.kind == noTime && !c.given {
		c.parts = true
		for _, i := range columns {
			_, ok := wholeNumber(&cells[i])
			c.parts = c.parts && ok
		}
	}
	if !c.parts {
		var joined []byte
		for _, i := range columns {
			joined = append(cells[i].appendTo(joined), ' ')
		}
		return c.parse(joined[:len(joined)-1])
	}
	part := [6]int64{0, 1, 1, 0, 0, 0} // year, month, day, …
	if len(columns) > len(part) {
		return false
	}
	for k, i := range columns {
		var ok bool
		if part[k], ok = wholeNumber(&cells[i]); !ok {
			return false
		}
	}
	t := time.Date(int(part[0]), time.Month(part[1]), int(part[2]), int(part[3]), int(part[4]), int(part[5]), 0, time.UTC)
	// time.Date takes the 31st of June for the 1st of July.
	if int64(t.Month()) != part[1] || int64(t.Day()) != part[2] || int64(t.Hour()) != part[3] || int64(t.Minute()) != part[4] || int64(t.Second()) != part[5] {
		return false
	}
	c.layout = "2006-01-02 15:04:05"
	return c.stamp(t)
}

// wholeNumber returns the whole number in a cell of at most 9 digits.
func wholeNumber(c *cell) (int64, bool) {
	switch c.kind {
	case integer:
		return c.int, c.int == int64(int32(c.int))
	case number:
		return int64(c.number), c.number == math.Trunc(c.number) && math.Abs(c.number) < 1<<31
	case text:
		v, err := strconv.ParseInt(string(c.text), 10, 32)
		return v, err == nil
	}
	return 0, false
}

// whole adds a step number or an epoch.
func (c *timeColumn) whole(v int64) bool {
	switch c.kind {
	case noTime:
		c.kind = integerTime
	case decimalTime:
		return c.decimal(float64(v))
	case stampTime:
		return false
	}
	c.at = append(c.at, v)
	return true
}

// decimal adds an epoch with a fraction.
func (c *timeColumn) decimal(v float64) bool {
	if math.IsNaN(v) || math.IsInf(v, 0) || c.kind == stampTime {
		return false
	}
	if c.kind == integerTime { // the first ones happened to be whole
		for i, w := range c.at {
			c.at[i] = int64(math.Float64bits(float64(w)))
		}
	}
	c.kind = decimalTime
	c.at = append(c.at, int64(math.Float64bits(v)))
	return true
}

// parse adds the time that s spells.
func (c *timeColumn) parse(s []byte) bool {
	if c.kind != stampTime && !c.given {
		if c.kind != decimalTime {
			if v, err := strconv.ParseInt(string(s), 10, 64); err == nil {
				return c.whole(v)
			}
		}
		if v, err := strconv.ParseFloat(string(s), 64); err == nil {
			return c.decimal(v)
		}
		if c.kind != noTime || c.unit != 0 || !c.detect(string(s)) {
			return false
		}
	}
	t, err := time.Parse(c.layout, string(s))
	if err != nil {
		return false
	}
	return c.stamp(t)
}

// stamp adds t, which is written in the layout.
func (c *timeColumn) stamp(t time.Time) bool {
	if t.Year() < 1678 || t.Year() > 2261 { // the range of UnixNano
		return false
	}
	name, offset := t.Zone()
	if len(c.at) == 0 {
		c.kind, c.zone, c.first = stampTime, time.UTC, offset
		if offset != 0 {
			c.zone = time.FixedZone(name, offset)
		}
	}
	if offset != c.first && c.other == nil {
		c.other = time.FixedZone(name, offset)
	}
	c.at = append(c.at, t.UnixNano())
	return true
}

// detect finds the layout of s.
func (c *timeColumn) detect(s string) bool {
	for _, l := range layouts {
		if _, err := time.Parse(l, s); err == nil {
			c.layout = l
			return true
		}
	}
	return false
}

// float returns the time of row i as a number: of stamps, ns since the first row.
func (c *timeColumn) float(i int) float64 {
	switch c.kind {
	case decimalTime:
		return math.Float64frombits(uint64(c.at[i]))
	case stampTime:
		return float64(c.at[i] - c.at[0])
	}
	return float64(c.at[i])
}

// after reports whether row i is later than row j.
func (c *timeColumn) after(i, j int) bool {
	return c.compare(i, j) > 0
}

// compare orders rows i and j by their times.
func (c *timeColumn) compare(i, j int) int {
	if c.kind == decimalTime {
		return cmp.Compare(math.Float64frombits(uint64(c.at[i])), math.Float64frombits(uint64(c.at[j])))
	}
	return cmp.Compare(c.at[i], c.at[j])
}

// A tick is a length of time in the terms of a column: ns of stamps, else steps.
type tick struct {
	whole   int64   // of decimal times 0
	decimal float64 // the same
}

// tick reads the option of that name: a duration such as 90s or 1d, or a number
// of steps.
func (c *timeColumn) tick(name, s string) (tick, error) {
	bad := func(why string) (tick, error) {
		return tick{}, fmt.Errorf("%w: %s %.40q: %s", ErrOptions, name, s, why)
	}
	if c.kind == noTime {
		return bad("it needs a time column; name it")
	}
	steps, err := strconv.ParseFloat(s, 64)
	if err != nil {
		d, err := parseDuration(s)
		switch {
		case err != nil:
			return bad("write a duration such as 90s, 10m, 1h or 1d, or a number of steps")
		case c.kind == stampTime:
			steps = float64(d)
		case c.unit == 0:
			return bad("the time column is in steps that have no unit: write a number of steps, or say in time_format that it is an epoch")
		default:
			steps = float64(d) / float64(c.unit)
		}
	} else if c.kind == stampTime {
		return bad("a number without a unit; write a duration such as 90s, 10m, 1h or 1d")
	}
	switch {
	case !(steps > 0) || steps > math.MaxInt64/2:
		return bad("it must be above 0, and shorter than 100 years")
	case c.kind == decimalTime:
		return tick{decimal: steps}, nil
	case steps != math.Trunc(steps):
		return bad("the time column is in whole steps")
	}
	return tick{int64(steps), steps}, nil
}

// parseDuration is time.ParseDuration with days.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		return time.Duration(n * float64(24*time.Hour)), err
	}
	return time.ParseDuration(s)
}

// apart is the tick from row j to row i, which is later.
func (c *timeColumn) apart(i, j int) tick {
	if c.kind == decimalTime {
		return tick{decimal: c.float(i) - c.float(j)}
	}
	d := c.at[i] - c.at[j]
	if d < 0 { // more than int64 holds
		d = math.MaxInt64
	}
	return tick{d, float64(d)}
}

// longer reports whether t is longer than u.
func (t tick) longer(u tick) bool {
	if t.whole != 0 || u.whole != 0 {
		return t.whole > u.whole
	}
	return t.decimal > u.decimal
}

// bin returns the number of the bin of row i, bins being t long and 0 beginning
// at time 0.
func (c *timeColumn) bin(i int, t tick) int64 {
	if c.kind == decimalTime {
		return int64(math.Floor(c.float(i) / t.decimal))
	}
	b := c.at[i] / t.whole
	if c.at[i]%t.whole < 0 {
		b--
	}
	return b
}

// begin returns the time, as at holds it, at which a bin begins.
func (c *timeColumn) begin(bin int64, t tick) int64 {
	if c.kind == decimalTime {
		return int64(math.Float64bits(float64(bin) * t.decimal))
	}
	return bin * t.whole
}

// span writes a tick for people.
func (c *timeColumn) span(t tick) string {
	if c.kind == stampTime {
		return time.Duration(t.whole).String()
	}
	return strconv.FormatFloat(t.decimal, 'g', 6, 64)
}

// format writes the time of row i as the file has it.
func (c *timeColumn) format(i int) string {
	switch c.kind {
	case integerTime:
		return strconv.FormatInt(c.at[i], 10)
	case decimalTime:
		return strconv.FormatFloat(math.Float64frombits(uint64(c.at[i])), 'g', -1, 64)
	case stampTime:
		t := time.Unix(0, c.at[i]).In(c.zone)
		if t.Nanosecond() != 0 {
			return t.Format(strings.Replace(c.layout, "05", "05.999999999", 1))
		}
		return t.Format(c.layout)
	default:
		return ""
	}
}

// RowsPerDay returns the number of rows in a day if the table's timestamps are
// a regular step apart that divides a day, and 0 otherwise. An epoch or a step
// number without a unit gives 0.
func (t *Table) RowsPerDay() int {
	unit := int64(1)
	switch {
	case t.times.kind == integerTime && t.times.unit != 0:
		unit = t.times.unit
	case t.times.kind != stampTime:
		return 0
	}
	const look = 1000 // rows decide
	steps := map[int64]int{}
	n := 0
	for _, g := range t.Groups {
		for row := g.Start + 1; row < g.End && n < look; row++ {
			steps[t.times.at[row]-t.times.at[row-1]]++
			n++
		}
	}
	day := int64(24 * time.Hour)
	for step, count := range steps {
		if step > day/unit {
			continue
		}
		if step *= unit; 10*count > 9*n && day%step == 0 {
			return int(day / step)
		}
	}
	return 0
}
