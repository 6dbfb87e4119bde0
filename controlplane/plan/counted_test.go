package plan

import (
	"fmt"
	"math"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// lasted returns n predictions of us microseconds each.
func lasted(us, n uint64) []uint64 {
	counts := make([]uint64, protocol.LatencyBucket(us)+1)
	counts[len(counts)-1] = n
	return counts
}

// counters returns n devices that count 1,000 predictions of 100 µs, and of the version
// such that last us and fail so often.
func counters(n int, us, failed uint64) []Counted {
	out := make([]Counted, n)
	for i := range out {
		out[i] = Counted{
			Device: fmt.Sprintf("d%03d", i), Before: lasted(100, 1000), Latency: lasted(us, 1000-failed), Answered: 1000 - failed, Failed: failed,
		}
	}
	return out
}

// A device that tells anything at all changes no decision of the others, good or bad.
func TestOneDeviceAloneDecidesNothing(t *testing.T) {
	const many = uint64(1 << 52)
	liars := map[string]Counted{
		"all failed":                 {Before: lasted(100, 1000), Latency: lasted(100, 1), Failed: 1000},
		"very many failed":           {Before: lasted(100, 1000), Latency: lasted(100, 1), Failed: many},
		"none of very many failed":   {Before: lasted(100, 1000), Latency: lasted(100, 1), Answered: many},
		"one failed":                 {Before: lasted(100, 1000), Latency: lasted(100, 1), Failed: 1},
		"slow":                       {Before: lasted(100, 1000), Latency: lasted(1e7, 1000), Answered: 1000},
		"very often slow":            {Before: lasted(100, many), Latency: lasted(1e7, many), Answered: many},
		"slower than can be counted": {Before: lasted(0, 1000), Latency: lasted(math.MaxUint64, 1000), Answered: 1000},
		"very often fast":            {Before: lasted(100, many), Latency: lasted(0, many), Answered: many},
		"slow before":                {Before: lasted(1e7, many), Latency: lasted(100, many), Answered: many},
		"slow tail before":           {Before: add(lasted(1e7, many/2), lasted(0, many)), Latency: lasted(0, many), Answered: many},
		"nothing":                    {},
	}
	for _, n := range []int{3, 4, 10, 40, 99, 150, 300} {
		for name, liar := range liars {
			for _, bad := range []bool{false, true} {
				devices := counters(n-1, 100, 1)
				if bad {
					devices = counters(n-1, 200, 100)
				}
				for _, at := range []int{0, n / 2, n - 1} {
					all := append(append(append([]Counted{}, devices[:at]...), liar), devices[at:]...)
					slower, rate := Slower(all), ErrorRate(all)
					if slower == nil || (*slower > 1.5) != bad {
						t.Errorf("%d devices, bad: %v, one %s: %v times slower", n, bad, name, value(slower))
					}
					if rate == nil || (*rate > 0.02) != bad {
						t.Errorf("%d devices, bad: %v, one %s: %v failed", n, bad, name, value(rate))
					}
				}
			}
		}
	}
}

func add(x, y []uint64) []uint64 {
	for i, n := range y {
		x[i] += n
	}
	return x
}

func value(x *float64) float64 {
	if x == nil {
		return math.NaN()
	}
	return *x
}

func TestWhatDevicesCountTogether(t *testing.T) {
	slowKind := func(n int, factor uint64) []Counted { // slow by nature, and the version more so
		devices := counters(n, 100, 0)
		for i := range devices {
			devices[i].Before, devices[i].Latency = lasted(3200, 1000), lasted(3200*factor, 1000)
		}
		return devices
	}
	rare := counters(20, 100, 0) // 1 % of what they predict takes eight times as long
	for i := range rare {
		rare[i].Latency = add(lasted(800, 20), lasted(100, 980))
	}
	for _, tt := range []struct {
		name         string
		devices      []Counted
		slower, rate float64
	}{
		{"one", counters(1, 400, 30), 4, 0.03},
		{"two", counters(2, 400, 30), 4, 0.03},
		{"one of two", append(counters(1, 400, 30), counters(1, 100, 0)...), 4, 0.015},
		{"all", counters(40, 400, 30), 4, 0.03},
		{"a tenth", append(counters(36, 100, 0), counters(4, 400, 390)...), 4, 0.03},
		{"a kind that is slow by nature", append(counters(30, 100, 0), slowKind(10, 1)...), 1, 0},
		{"slower on all but those", append(counters(30, 200, 0), slowKind(10, 1)...), 2, 0},
		{"slower on those alone", append(counters(30, 100, 0), slowKind(10, 2)...), 2, 0},
		{"seldom slow", rare, 8, 0},
	} {
		if got := Slower(tt.devices); got == nil || math.Abs(*got-tt.slower) > 1e-9 {
			t.Errorf("%s: %v times slower, want %v", tt.name, value(got), tt.slower)
		}
		if got := ErrorRate(tt.devices); got == nil || math.Abs(*got-tt.rate) > 1e-9 {
			t.Errorf("%s: %v failed, want %v", tt.name, value(got), tt.rate)
		}
	}
	silent := []Counted{{Device: "a"}, {Device: "b", Before: lasted(100, 5)}, {Device: "c", Latency: lasted(100, 5)}}
	if a, b := Slower(silent), ErrorRate(silent); a != nil || b != nil {
		t.Errorf("of nothing: %v and %v, want none", value(a), value(b))
	}
}
