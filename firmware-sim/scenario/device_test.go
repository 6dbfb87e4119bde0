package scenario

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

var begin = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func minutes(n int) time.Time { return begin.Add(time.Duration(n) * time.Minute) }

// acting returns a device that does b, and has a role since begin.
func acting(r Role, b Behaviour) *Device {
	b.Share = 1
	d := Scenario{Devices: 1, Behaviours: []Behaviour{b}}.WithDefaults().Fleet()[0]
	d.Take(r, 1, begin)
	return d
}

// TestOrderDoesNotMatter: neither the other devices nor the order in which they are
// asked change what one reports.
func TestOrderDoesNotMatter(t *testing.T) {
	s := Scenario{Devices: 40, Seed: 7, Silent: 0.3, Broken: 0.3, Behaviours: []Behaviour{{Kind: Biased, Share: 0.5, Ratio: 2}}}.WithDefaults()
	a := s.Fleet()
	s.Devices = 20
	b := s.Fleet()
	for i := range a {
		a[i].Take(Active, 1, begin)
		a[i].Compare(5, minutes(1))
		a[i].Compare(5, minutes(2))
	}
	for n := range 2 {
		for i := range b {
			d := b[len(b)-1-i]
			d.Take(Active, 1, begin)
			d.Compare(5, minutes(n+1))
		}
	}
	for i := range b {
		if a[i].ID != b[i].ID || a[i].Away != b[i].Away || a[i].Pairs != b[i].Pairs || a[i].Pairs.Pairs != 10 {
			t.Errorf("%s reports %+v, or %+v", a[i].ID, a[i].Pairs, b[i].Pairs)
		}
	}
	s.Seed = 8
	if c := s.Fleet(); c[0].scale == b[0].scale {
		t.Error("another seed makes the same fleet")
	}
}

// TestErrors: what the quality check was chosen on.
func TestErrors(t *testing.T) {
	s := Scenario{Devices: 4000, Ratio: 1.2, Broken: 1e-9, Silent: 0.25, Groups: []Group{{Name: "a", Share: 0.5}}}.WithDefaults()
	s.Groups[0].Ratio = 2
	var logs [2][]float64
	var scales []float64
	away, first := 0, map[float64]bool{}
	for _, d := range s.Fleet() {
		d.Take(Shadow, 3, begin)
		d.Compare(400, minutes(1))
		q := d.Pairs
		k := 1
		if d.Group == "a" {
			k = 0
		}
		logs[k] = append(logs[k], math.Log(q.SumB/q.SumA))
		scales = append(scales, math.Log(q.SumA/400))
		first[q.SumA] = true
		if d.Away {
			away++
		}
		if q.Pairs != 400 || q.SumA*q.SumA > 400*q.SquareA || float64(q.MaxA) > q.SumA || float64(q.MaxB)*400 < q.SumB || q.Disagreement <= 0 || q.FirstS != 60 || q.LastS != 60 {
			t.Fatalf("%s reports %+v", d.ID, q)
		}
	}
	for k, ratio := range []float64{2, 1.2} {
		if m, sd := meanAndDeviation(logs[k]); math.Abs(m-math.Log(ratio)) > 0.01 || sd < 0.09 || sd > 0.13 {
			t.Errorf("ln of the ratio %v is %.3f, ± %.3f between devices", ratio, m, sd)
		}
	}
	// The mean of |t| with 3 degrees of freedom is 2√3/π.
	if m, sd := meanAndDeviation(scales); math.Abs(m-math.Log(2*math.Sqrt(3)/math.Pi)) > 0.1 || math.Abs(sd-0.7) > 0.06 {
		t.Errorf("ln of the devices' mean error is %.3f ± %.3f", m, sd)
	}
	if away < 900 || away > 1100 || len(logs[0]) < 1880 || len(logs[0]) > 2120 || len(first) != s.Devices {
		t.Errorf("%d of 4000 are away, %d of group a, %d differ", away, len(logs[0]), len(first))
	}
}

// TestBrokenSensors: half of them are off by e^4.5 at least, up or down.
func TestBrokenSensors(t *testing.T) {
	var far [2]int
	for _, d := range (Scenario{Devices: 1000, Broken: 0.5}).WithDefaults().Fleet() {
		if math.Abs(math.Log(d.ratio)) > 4.5 {
			far[min(int(d.ratio), 1)]++
		}
	}
	if far[0] < 90 || far[0] > 160 || far[1] < 90 || far[1] > 160 {
		t.Errorf("%d of 1000 are far below, %d far above, of 500 that are broken", far[0], far[1])
	}
}

func meanAndDeviation(x []float64) (mean, deviation float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		deviation += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, math.Sqrt(deviation)
}

func TestBehaviours(t *testing.T) {
	later := protocol.Duration(10 * time.Minute)
	for _, kind := range kinds {
		d := acting(Active, Behaviour{Kind: kind, After: later})
		if kind != Clock && (d.Does(kind, minutes(9)) != nil || d.Does(kind, minutes(10)) == nil || d.Does("", minutes(10)) != nil) {
			t.Errorf("%s: not from the tenth minute on", kind)
		}
		for role, does := range map[Role]bool{Idle: kind == Clock, Shadow: kind == Clock || kind == Biased, Active: true} {
			if d := acting(role, Behaviour{Kind: kind, Ratio: 3}); (d.Does(kind, begin) != nil) != does {
				t.Errorf("%s in the role %q: want %v", kind, role, does)
			}
		}
	}
	d := acting(Active, Behaviour{Kind: Offline, After: later, For: later})
	for at, unheard := range map[int]bool{9: false, 10: true, 19: true, 20: false} {
		if d.Unheard(minutes(at)) != unheard {
			t.Errorf("offline in minute %d: want %v", at, unheard)
		}
	}
	if d := acting(Active, Behaviour{Kind: Silent}); !d.Unheard(begin) {
		t.Error("a silent device is heard")
	}
	d.Away = true
	if !d.Unheard(begin) {
		t.Error("one that is away is heard")
	}
	if d := acting(Active, Behaviour{Kind: Slow, Ratio: 3}); d.Latency(begin) != 3 {
		t.Errorf("a slow device takes %v times as long", d.Latency(begin))
	}
	d = acting(Idle, Behaviour{Kind: Clock, By: protocol.Duration(-time.Hour)})
	if at := d.Clock(minutes(60)); !at.Equal(begin) || d.Latency(begin) != 1 {
		t.Errorf("its clock says %v", at)
	}
}

// TestTake: a role lasts from when it was got, and sums from when they were asked for.
func TestTake(t *testing.T) {
	d := acting(Shadow, Behaviour{Kind: Biased, Ratio: 50})
	d.Compare(100, minutes(1))
	if q := d.Pairs; q.SumB < 20*q.SumA {
		t.Errorf("biased by 50: %+v", q)
	}
	before := d.Pairs
	d.Take(Active, 1, minutes(2))
	d.Compare(0, minutes(2))
	if d.Pairs != before {
		t.Error("sums under one number began again")
	}
	d.Take(Active, 2, minutes(3))
	if !reflect.DeepEqual(d.Pairs, protocol.Quality{}) {
		t.Error("sums under another number went on")
	}
	if r, judge := d.Role(); r != Active || judge != 2 || !d.since.Equal(minutes(2)) {
		t.Errorf("it is %q, judged under %d, since %v", r, judge, d.since)
	}
}
