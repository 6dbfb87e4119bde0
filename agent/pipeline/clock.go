package pipeline

import "time"

// A clock tells the time of a stream's rows: that of its last sample which had one,
// and what passed since; without such a sample the device's time of day.
type clock struct {
	said int64 // UTC ms; 0: nothing was said
	when time.Duration
}

// set takes the time of a sample that came at now; 0 says nothing.
func (c *clock) set(ms int64, now time.Duration) {
	if ms != 0 {
		*c = clock{ms, now}
	}
}

// at is the time at now in UTC ms, wall being the device's.
func (c *clock) at(now time.Duration, wall time.Time) int64 {
	if c.said == 0 {
		return wall.UnixMilli()
	}
	return c.said + (now - c.when).Milliseconds()
}
