package dataset

import (
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
	layout string
	zone   *time.Location
	at     []int64
}

// append parses s, telling whether it is a time like those before it.
func (c *timeColumn) append(s []byte) bool {
	if c.kind == noTime && !c.detect(string(s)) {
		return false
	}
	switch c.kind {
	case integerTime:
		if v, err := strconv.ParseInt(string(s), 10, 64); err == nil {
			c.at = append(c.at, v)
			return true
		}
		if _, err := strconv.ParseFloat(string(s), 64); err != nil {
			return false
		}
		c.kind = decimalTime // the first ones happened to be whole
		for i, v := range c.at {
			c.at[i] = int64(math.Float64bits(float64(v)))
		}
		fallthrough
	case decimalTime:
		v, err := strconv.ParseFloat(string(s), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
		c.at = append(c.at, int64(math.Float64bits(v)))
		return true
	default:
		t, err := time.Parse(c.layout, string(s))
		if err != nil || t.Year() < 1678 || t.Year() > 2261 { // the range of UnixNano
			return false
		}
		if len(c.at) == 0 {
			c.zone = time.UTC
			if name, offset := t.Zone(); offset != 0 {
				c.zone = time.FixedZone(name, offset)
			}
		}
		c.at = append(c.at, t.UnixNano())
		return true
	}
}

func (c *timeColumn) detect(s string) bool {
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		c.kind = integerTime
		return true
	}
	if v, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
		c.kind = decimalTime
		return true
	}
	for _, l := range layouts {
		if _, err := time.Parse(l, s); err == nil {
			c.kind, c.layout = stampTime, l
			return true
		}
	}
	return false
}

// after reports whether row i is later than row j.
func (c *timeColumn) after(i, j int) bool {
	if c.kind == decimalTime {
		return math.Float64frombits(uint64(c.at[i])) > math.Float64frombits(uint64(c.at[j]))
	}
	return c.at[i] > c.at[j]
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
// number tells no unit, so it gives 0.
func (t *Table) RowsPerDay() int {
	if t.times.kind != stampTime {
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
		if 10*count > 9*n && step <= day && day%step == 0 {
			return int(day / step)
		}
	}
	return 0
}
