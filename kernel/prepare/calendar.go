package prepare

import (
	"fmt"
	"strings"
	"time"
)

// A Cycle is a period of the calendar, in UTC. A row has two values for each: the
// sine and the cosine of how far through the cycle its time is, so that its end is
// next to its beginning.
type Cycle uint8

const (
	Hour    Cycle = iota // of the day: 0 at midnight
	Weekday              // of the week: 0 at midnight before Monday
	Yearday              // of the year: 0 at midnight before January 1st, leap years having 366 days
)

var cycles = [...]string{"hour", "weekday", "yearday"}

func (c Cycle) String() string {
	if int(c) < len(cycles) {
		return cycles[c]
	}
	return fmt.Sprintf("Cycle(%d)", c)
}

// ParseCycle returns the cycle of that name; the error is ErrPlan.
func ParseCycle(s string) (Cycle, error) {
	for c, name := range cycles {
		if s == name {
			return Cycle(c), nil
		}
	}
	return 0, fmt.Errorf("%w: calendar %.40q; there are %s", ErrPlan, s, strings.Join(cycles[:], ", "))
}

// MaxTime is the end of the times that have a calendar, in milliseconds since
// 1970 UTC: the year 10000. They begin as long before 1970.
const MaxTime = 253402300800000

const (
	day  = 24 * 3600 * 1000 // ms
	week = 7 * day
	// monday is a Monday's midnight: 1970-01-05.
	monday = 4 * day
)

// At returns sine and cosine at a time within ±MaxTime, in milliseconds since 1970
// UTC: the same bits on every CPU, within 2e-7 of the exact values.
func (c Cycle) At(ms int64) (sin, cos float32) {
	switch c {
	case Hour:
		return circle(mod(ms, day), day)
	case Weekday:
		return circle(mod(ms-monday, week), week)
	}
	t := time.UnixMilli(ms).UTC()
	begin := time.Date(t.Year(), 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	end := time.Date(t.Year()+1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	return circle(ms-begin, end-begin)
}

// mod is the remainder in [0, n).
func mod(v, n int64) int64 {
	if v %= n; v < 0 {
		v += n
	}
	return v
}

// circle returns sine and cosine of 2π·part/whole, 0 ≤ part < whole < 2⁵⁰. The angle
// is reduced to an eighth of the circle in integers; there the Taylor series to
// the 9th and 8th power of the angle are off by less than float32 rounds.
func circle(part, whole int64) (sin, cos float32) {
	octant, rest := 8*part/whole, 8*part%whole
	if octant&1 == 1 { // from the other end
		rest = whole - rest
	}
	x := float32(float64(rest) / float64(whole)) // of π/4
	z := float32(x * x)
	s := float32(z*3.1336162e-07) - 3.6576204e-05
	s = float32(z*s) + 2.4903946e-03
	s = float32(z*s) - 8.0745512e-02
	s = float32(z*s) + 7.8539816e-01
	s = x * s
	c := float32(z*3.5908604e-06) - 3.2599189e-04
	c = float32(z*c) + 1.5854344e-02
	c = float32(z*c) - 3.0842514e-01
	c = float32(z*c) + 1
	if (octant+1)&2 != 0 { // octants 1, 2, 5 and 6
		s, c = c, s
	}
	if octant >= 4 {
		s = -s
	}
	if octant >= 2 && octant < 6 {
		c = -c
	}
	return s, c
}
