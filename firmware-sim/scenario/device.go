package scenario

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

const (
	inTime    = 0.9  // correlation of a device's errors from one sample to the next
	inPairs   = 0.8  // of the errors of both versions
	deviation = 0.7  // of the logarithm of devices' scales
	personal  = 0.05 // of the logarithm of each device's own ratio
	brokenBy  = 9    // logarithm of what a broken sensor makes of a ratio at most, or its inverse
)

// Took is how long a prediction takes in the kernel by the version in place.
const Took = 300 * time.Microsecond

// A Role is what a device has of the new version.
type Role string

const (
	Idle   Role = ""       // nothing
	Shadow Role = "shadow" // it runs beside the version in place, unheard
	Active Role = "active" // it is the one in use
)

// A Device is one that does not exist. What it reports depends on the scenario,
// its place in the fleet and its own history: not on other devices, nor on the
// order in which they are asked.
type Device struct {
	ID    string // device-00001 and so on
	Group string // "" for none
	Away  bool   // all the time

	// Pairs is what it reports of the errors of both versions: the sums, cumulative
	// since it was judged under the present number, and the seconds since then. Who
	// sends it fills in the rest.
	Pairs protocol.Quality

	source rand.PCG
	rng    *rand.Rand // on source
	scale  float64
	ratio  float64
	acts   []Behaviour
	noise  [2]float64
	series []Pair // that it replays; nil: its errors are made up
	next   int    // of series

	role  Role
	since time.Time // when it got its role
	judge uint32
	told  time.Time // when it was told to report under that number
}

// Fleet returns the devices of a scenario that has its defaults. The same seed
// makes the same devices.
func (s Scenario) Fleet() []*Device {
	devices, fleet := make([]Device, s.Devices), make([]*Device, s.Devices)
	var recorded *tape
	if s.Recorded != nil {
		recorded = newTape(s.Recorded)
	}
	for i := range devices {
		d := &devices[i]
		fleet[i] = d
		d.ID, d.ratio = fmt.Sprintf("device-%05d", i+1), s.Ratio
		d.source.Seed(mix(s.Seed), mix(uint64(i)^0x7265))
		d.rng = rand.New(&d.source)
		at := d.rng.Float64()
		for _, g := range s.Groups {
			if at -= g.Share; at < 0 {
				d.Group, d.ratio = g.Name, g.Ratio
				break
			}
		}
		d.scale = math.Exp(deviation * d.rng.NormFloat64())
		if recorded != nil {
			d.series, d.next = recorded.cue(d.rng)
		} else {
			d.ratio *= math.Exp(personal * d.rng.NormFloat64())
		}
		d.Away = d.rng.Float64() < s.Silent
		if d.rng.Float64() < s.Broken {
			d.ratio *= math.Exp(brokenBy * (2*d.rng.Float64() - 1))
		}
		for _, b := range s.Behaviours {
			if (b.Group == "" || b.Group == d.Group) && d.rng.Float64() < b.Share {
				d.acts = append(d.acts, b)
			}
		}
	}
	return fleet
}

// mix spreads x over 64 bits, so that neighbours have sources that have nothing to
// do with each other (the finalizer of splitmix64; Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", OOPSLA 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Take gives the device its role, and the number under which it is judged; 0: it
// is not.
func (d *Device) Take(r Role, judge uint32, at time.Time) {
	if r != d.role {
		d.role, d.since = r, at
	}
	if judge != d.judge {
		d.judge, d.told, d.Pairs = judge, at, protocol.Quality{}
	}
}

// Role returns what the device has of the version, and the number under which it is
// judged; 0: it is not.
func (d *Device) Role() (Role, uint32) { return d.role, d.judge }

// Does returns what the device does of a kind at a time; nil: it does not.
func (d *Device) Does(kind string, at time.Time) *Behaviour {
	switch {
	case kind == Clock, d.role == Active, d.role == Shadow && kind == Biased:
	default:
		return nil
	}
	for i := range d.acts {
		b := &d.acts[i]
		if b.Kind == kind && b.lasts(at.Sub(d.since)) {
			return b
		}
	}
	return nil
}

// lasts reports whether the device does it so long after it got its role.
func (b *Behaviour) lasts(since time.Duration) bool {
	from, long := time.Duration(b.After), time.Duration(b.For)
	return b.Kind == Clock || since >= from && (b.Kind != Offline || long == 0 || since < from+long)
}

// Unheard reports whether nothing comes from the device, nor gets to it.
func (d *Device) Unheard(at time.Time) bool {
	return d.Away || d.Does(Silent, at) != nil || d.Does(Offline, at) != nil
}

// Clock is what the device takes for the time.
func (d *Device) Clock(at time.Time) time.Time {
	if b := d.Does(Clock, at); b != nil {
		return at.Add(time.Duration(b.By))
	}
	return at
}

// Latency is a prediction's time as a multiple of that of the version before.
func (d *Device) Latency(at time.Time) float64 {
	if b := d.Does(Slow, at); b != nil {
		return b.Ratio
	}
	return 1
}

// Compare adds n comparisons with the truth to what the device reports.
func (d *Device) Compare(n int, at time.Time) {
	ratio := d.ratio
	if b := d.Does(Biased, at); b != nil {
		ratio *= b.Ratio
	}
	q := &d.Pairs
	if n > 0 {
		q.LastS = uint32(at.Sub(d.told) / time.Second)
		if q.Pairs == 0 {
			q.FirstS = q.LastS
		}
	}
	for range n {
		x, y := d.draw()
		y *= ratio
		a, b := math.Abs(x), math.Abs(y)
		q.Pairs++
		q.SumA, q.SumB = q.SumA+a, q.SumB+b
		q.SquareA, q.SquareB = q.SquareA+a*a, q.SquareB+b*b
		q.MaxA, q.MaxB = max(q.MaxA, float32(a)), max(q.MaxB, float32(b))
		q.Disagreement += float32(math.Abs(x - y))
	}
}

// draw returns the next errors of both versions, but for the ratio.
func (d *Device) draw() (x, y float64) {
	if d.series != nil {
		p := d.series[d.next]
		d.next = (d.next + 1) % len(d.series)
		return p.A, p.B
	}
	common, own := d.rng.NormFloat64(), d.rng.NormFloat64()
	fresh := [2]float64{common, inPairs*common + math.Sqrt(1-inPairs*inPairs)*own}
	var chi float64
	for range 3 {
		x := d.rng.NormFloat64()
		chi += x * x / 3
	}
	for k := range d.noise {
		d.noise[k] = inTime*d.noise[k] + math.Sqrt(1-inTime*inTime)*fresh[k]
	}
	heavy := d.scale / math.Sqrt(chi)
	return heavy * d.noise[0], heavy * d.noise[1]
}
