package rehearse

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
)

const (
	inTime    = 0.9  // correlation of a device's errors from one sample to the next
	inPairs   = 0.8  // of the errors of both versions
	deviation = 0.7  // of the logarithm of devices' scales
	personal  = 0.05 // of the logarithm of each device's own ratio
)

// A device is one that does not exist.
type device struct {
	id, group string
	scale     float64
	ratio     float64
	away      bool // all the time
	acts      []Behaviour

	noise [2]float64
	sums  quality.Sums
	role  plan.Role
	since time.Time // when it got its role
	judge uint32
	lost  quality.Loss // as the rollout knows it
}

// newFleet draws the devices of a scenario.
func newFleet(s Scenario, rng *rand.Rand) []device {
	fleet := make([]device, s.Devices)
	for i := range fleet {
		d := &fleet[i]
		d.id, d.ratio = fmt.Sprintf("device-%05d", i+1), s.Ratio
		at := rng.Float64()
		for _, g := range s.Groups {
			if at -= g.Share; at < 0 {
				d.group, d.ratio = g.Name, g.Ratio
				break
			}
		}
		d.scale = math.Exp(deviation * rng.NormFloat64())
		d.ratio *= math.Exp(personal * rng.NormFloat64())
		d.away = rng.Float64() < s.Silent
		if rng.Float64() < s.Broken {
			d.ratio *= math.Exp(9 * (2*rng.Float64() - 1))
		}
		for _, b := range s.Behaviours {
			if (b.Group == "" || b.Group == d.group) && rng.Float64() < b.Share {
				d.acts = append(d.acts, b)
			}
		}
	}
	return fleet
}

// does returns what the device does of a kind at a time; nil: it does not.
func (d *device) does(kind string, at time.Time) *Behaviour {
	if d.role.Version != plan.Active && (d.role.Version != plan.InShadow || kind != Biased) {
		return nil
	}
	for i := range d.acts {
		b := &d.acts[i]
		begin := d.since.Add(time.Duration(b.After))
		if b.Kind == kind && !at.Before(begin) && (kind != Offline || b.For == 0 || at.Before(begin.Add(time.Duration(b.For)))) {
			return b
		}
	}
	return nil
}

// unheard reports whether nothing comes from the device.
func (d *device) unheard(at time.Time) bool {
	return d.away || d.does(Silent, at) != nil || d.does(Offline, at) != nil
}

// take gives the device its role.
func (d *device) take(r plan.Role, at time.Time) {
	if r.Version != d.role.Version {
		d.since = at
	}
	if r.Judge != d.judge {
		d.judge, d.sums = r.Judge, quality.Sums{}
	}
	d.role = r
}

// compare adds n comparisons with the truth to the sums.
func (d *device) compare(rng *rand.Rand, n int, at time.Time) {
	ratio := d.ratio
	if b := d.does(Biased, at); b != nil {
		ratio *= b.Ratio
	}
	for range n {
		common, own := rng.NormFloat64(), rng.NormFloat64()
		fresh := [2]float64{common, inPairs*common + math.Sqrt(1-inPairs*inPairs)*own}
		var chi float64
		for range 3 {
			x := rng.NormFloat64()
			chi += x * x / 3
		}
		for k := range d.noise {
			d.noise[k] = inTime*d.noise[k] + math.Sqrt(1-inTime*inTime)*fresh[k]
		}
		heavy := d.scale / math.Sqrt(chi)
		d.sums.Pairs++
		d.sums.SumA += heavy * math.Abs(d.noise[0])
		d.sums.SumB += heavy * math.Abs(d.noise[1]) * ratio
	}
}
