package prepare

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var allCycles = []Cycle{Hour, Weekday, Yearday}

// exact is At by float64 and the standard library.
func exact(c Cycle, ms int64) (sin, cos float64) {
	t := time.UnixMilli(ms).UTC()
	clock := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
	day := float64(clock) / float64(24*time.Hour)
	part := day
	switch c {
	case Weekday:
		part = (float64((t.Weekday()+6)%7) + day) / 7
	case Yearday:
		days := time.Date(t.Year(), 12, 31, 0, 0, 0, 0, time.UTC).YearDay()
		part = (float64(t.YearDay()-1) + day) / float64(days)
	}
	return math.Sincos(2 * math.Pi * part)
}

func TestCalendarIsSineAndCosineOfTheTime(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	times := []int64{0, -1, 1, MaxTime, -MaxTime, time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC).UnixMilli()}
	for eighth := range int64(9) { // where one polynomial takes over from the other
		for _, d := range []int64{-1, 0, 1} {
			times = append(times, eighth*day/8+d, monday+eighth*week/8+d)
		}
	}
	for range 20000 {
		times = append(times, r.Int64N(2*MaxTime)-MaxTime)
	}
	for _, ms := range times {
		for _, c := range allCycles {
			sin, cos := c.At(ms)
			wantSin, wantCos := exact(c, ms)
			if math.Abs(float64(sin)-wantSin) > 2e-7 || math.Abs(float64(cos)-wantCos) > 2e-7 {
				t.Fatalf("%v at %v: %v, %v, want %v, %v", c, time.UnixMilli(ms).UTC(), sin, cos, wantSin, wantCos)
			}
		}
	}
}

func TestCalendarAtRoundTimes(t *testing.T) {
	at := func(s string) int64 {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v.UnixMilli()
	}
	for _, c := range []struct {
		cycle    Cycle
		at       string
		sin, cos float32
	}{
		{Hour, "2026-11-24 00:00", 0, 1}, {Hour, "2026-11-24 06:00", 1, 0}, {Hour, "2026-11-24 12:00", 0, -1}, {Hour, "1969-12-31 18:00", -1, 0},
		{Weekday, "2026-11-23 00:00", 0, 1},                                                                             // a Monday
		{Weekday, "2026-11-26 12:00", 0, -1}, {Yearday, "2026-01-01 00:00", 0, 1}, {Yearday, "2024-07-02 00:00", 0, -1}, // 183 of 366 days
	} {
		if sin, cos := c.cycle.At(at(c.at)); sin != c.sin || cos != c.cos {
			t.Errorf("%v at %s = %v, %v, want %v, %v", c.cycle, c.at, sin, cos, c.sin, c.cos)
		}
	}
}

// TestCalendarBits holds the bits of 300,000 values to those that every CPU gave.
func TestCalendarBits(t *testing.T) {
	r, h := rand.New(rand.NewPCG(3, 4)), sha256.New()
	var b [8]byte
	for range 50000 {
		ms := r.Int64N(2*MaxTime) - MaxTime
		for _, c := range allCycles {
			sin, cos := c.At(ms)
			binary.LittleEndian.PutUint32(b[:], math.Float32bits(sin))
			binary.LittleEndian.PutUint32(b[4:], math.Float32bits(cos))
			h.Write(b[:])
		}
	}
	const want = "5ecde5753ee50ae52bd8e727b0f9f081f93f8facd409c4e3f35c292d75ec70b7"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestParseCycle(t *testing.T) {
	for _, c := range allCycles {
		if got, err := ParseCycle(c.String()); got != c || err != nil {
			t.Errorf("ParseCycle(%q) = %v, %v", c, got, err)
		}
	}
	if _, err := ParseCycle("month"); !errors.Is(err, ErrPlan) {
		t.Errorf("ParseCycle(month) = %v, want ErrPlan", err)
	}
}
