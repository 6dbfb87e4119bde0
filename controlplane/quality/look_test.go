package quality

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"
)

const tolerance = 1e-5

// vector is the fleet of the specification's test vectors: n of assigned devices
// report 60 pairs each, d_i = μ + s·√12·(((7i) mod n) − (n−1)/2)/n.
func vector(n, assigned int, mu, s float64, change func(i int, d *float64)) []Device {
	devices := make([]Device, assigned)
	for i := range devices {
		devices[i] = Device{ID: fmt.Sprintf("d%04d", i), Group: fmt.Sprint(i % 10)}
		if i >= n {
			devices[i].Lost = Silent
			continue
		}
		d := mu + s*math.Sqrt(12)*(float64((7*i)%n)-float64(n-1)/2)/float64(n)
		if change != nil {
			change(i, &d)
		}
		devices[i].Sums = Sums{Pairs: 60, SumA: 60, SumB: 60 * math.Exp(d)}
	}
	return devices
}

func unlabelled(devices []Device) []Device {
	for i := range devices {
		devices[i].Group = ""
	}
	return devices
}

// TestSkewIsNoMinority: as many above and below as of two equally good versions
// trained on Beijing PM2.5, of 950 devices after half an hour.
func TestSkewIsNoMinority(t *testing.T) {
	for above, want := range map[int]string{35: ReasonQuality, 80: ReasonMinority} {
		devices := unlabelled(vector(950, 1000, 0, 0.06, func(i int, d *float64) {
			switch {
			case i < above:
				*d = 0.3
			case i < above+9:
				*d = -0.3
			}
		}))
		v := Look(Stage{Elapsed: 30 * time.Minute, Silent: 0.05, Devices: devices}, Wide())
		if v.Reason != want || v.MinorityAbove != above || v.MinorityBelow != 9 {
			t.Errorf("%d above, %d below: %s %s, want %s", v.MinorityAbove, v.MinorityBelow, v.Decision, v.Reason, want)
		}
	}
}

func TestHarmedDevicesOfAVerdict(t *testing.T) {
	shift := func(every int, by float64) func(int, *float64) {
		return func(i int, d *float64) {
			if i%every == 3 {
				*d += math.Log(by)
			}
		}
	}
	for _, tt := range []struct {
		reason  string
		params  Params
		devices []Device
		n       int
		bound   float64
	}{
		{ReasonQuality, Canary(), vector(95, 100, math.Log(1.2), 0.25, nil), 64, 1.03}, // Σ [d_i > ln 1.03]
		{ReasonGroup, Wide(), vector(950, 1000, 0, 0.10, shift(10, 1.3)), 95, 1.05},
		{ReasonMinority, Wide(), unlabelled(vector(950, 1000, 0, 0.10, shift(19, 1.6))), 50, 1.00986 * 1.25},
		{ReasonSilence, Canary(), vector(80, 100, 0, 0.05, nil), 0, 0},
		{ReasonQuality, Canary(), vector(95, 100, 0, 0.20, nil), 0, 0}, // a pass
	} {
		v := Look(Stage{Elapsed: time.Hour, Silent: 0.05, Devices: tt.devices}, tt.params)
		got := v.Harmed(tt.devices, tt.params)
		if v.Reason != tt.reason || len(got) != tt.n {
			t.Errorf("%s: %d devices of a verdict on %s, want %d", tt.reason, len(got), v.Reason, tt.n)
			continue
		}
		for i, h := range got {
			if h.Ratio <= h.Bound || math.Abs(h.Bound-tt.bound) > 1e-4 || i > 0 && h.Ratio > got[i-1].Ratio {
				t.Errorf("%s: %d is %+v, after %+v", tt.reason, i, h, got[max(i-1, 0)])
			}
		}
	}
}

func TestVectors(t *testing.T) {
	const unknown = -99
	for _, tt := range []struct {
		name         string
		params       Params
		minute       int
		p0           float64
		devices      []Device
		theta, se    float64
		lower, upper float64
		decision     Decision
		reason       string
		above, below int
	}{
		{"1 equal canary", Canary(), 30, 0.05, vector(95, 100, 0, 0.20, nil),
			0, 0.02474, -0.08620, 0.08406, Pass, ReasonQuality, 17, 17},
		{"2 canary 20 % worse", Canary(), 30, 0.05, vector(95, 100, math.Log(1.2), 0.25, nil),
			0.18232, 0.03092, 0.07543, 0.28646, Stop, ReasonQuality, unknown, unknown},
		{"2 with broken sensors", Canary(), 30, 0.05, vector(95, 100, math.Log(1.2), 0.25, func(i int, d *float64) {
			switch i {
			case 0:
				*d = 9
			case 1:
				*d = -9
			}
		}), 0.19144, unknown, 0.08455, unknown, Stop, ReasonQuality, unknown, unknown},
		{"3 a little worse at 10 %", Wide(), 60, 0.05, vector(950, 1000, 0.03, 0.35, nil),
			0.03000, 0.01345, -0.01638, 0.07514, Wait, ReasonOpen, 300, 300},
		{"4 one group worse", Wide(), 60, 0.05, vector(950, 1000, 0, 0.20, func(i int, d *float64) {
			if i%10 == 3 {
				*d += math.Log(1.3)
			}
		}), 0.02353, 0.00790, -0.00413, 0.05052, Stop, ReasonGroup, unknown, unknown},
		{"5 silent canary", Canary(), 15, 0.05, vector(80, 100, 0, 0.05, nil),
			unknown, unknown, unknown, unknown, Stop, ReasonSilence, unknown, unknown},
		{"6 unlabelled minority", Wide(), 60, 0.05, unlabelled(vector(950, 1000, 0, 0.10, func(i int, d *float64) {
			if i%19 == 0 {
				*d += math.Log(1.6)
			}
		})), 0.00981, 0.00406, -0.00499, 0.02427, Stop, ReasonMinority, 50, 0},
		{"7 too few", Canary(), 30, 0.40, vector(59, 100, math.Log(1.5), 0.10, nil),
			unknown, unknown, unknown, unknown, Wait, ReasonDevices, unknown, unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Look(Stage{Elapsed: time.Duration(tt.minute) * time.Minute, Silent: tt.p0, Devices: tt.devices}, tt.params)
			if v.Decision != tt.decision || v.Reason != tt.reason {
				t.Errorf("verdict is %s (%s), want %s (%s)", v.Decision, v.Reason, tt.decision, tt.reason)
			}
			for _, x := range []struct {
				name      string
				got, want float64
			}{{"θ", v.theta, tt.theta}, {"SE", v.SE, tt.se}, {"L", math.Log(v.Lower), tt.lower}, {"U", math.Log(v.Upper), tt.upper}} {
				if x.want != unknown && !(math.Abs(x.got-x.want) <= tolerance) {
					t.Errorf("%s = %.6f, want %.5f", x.name, x.got, x.want)
				}
			}
			if tt.above != unknown && (v.MinorityAbove != tt.above || v.MinorityBelow != tt.below) {
				t.Errorf("n₊/n₋ = %d/%d, want %d/%d", v.MinorityAbove, v.MinorityBelow, tt.above, tt.below)
			}
			switch tt.reason {
			case ReasonGroup:
				if g := v.Groups[0]; g.Value != "3" || math.Abs(math.Log(g.Lower)-0.13945) > tolerance {
					t.Errorf("worst group is %+v with L %.6f, want 3 with 0.13945", g, math.Log(g.Lower))
				}
			case ReasonSilence:
				if math.Abs(v.SilentPvalue-1.790e-5) > 1e-8 {
					t.Errorf("P = %.4g, want 1.790e-05", v.SilentPvalue)
				}
			case ReasonMinority:
				if len(v.Minority) != 50 || v.Minority[1] != "d0019" {
					t.Errorf("named are %v, want every 19th", v.Minority)
				}
			}
			if _, err := json.Marshal(v); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBoundary(t *testing.T) {
	for _, tt := range []struct{ v, rho, alpha, want float64 }{
		{25, 64, 0.0075, 5.582635}, {625, 64, 0.0075, 3.448081}, {2500, 64, 0.0075, 3.521961},
		{2500, 512, 0.01, 3.403108}, {10000, 512, 0.01, 3.377953},
	} {
		if got := Boundary(tt.v, tt.rho, tt.alpha); math.Abs(got-tt.want) > 1e-6 {
			t.Errorf("B(%v; %v, %v) = %.6f, want %.6f", tt.v, tt.rho, tt.alpha, got, tt.want)
		}
		// Above the exact mixture, and not by much.
		a, s := math.Sqrt((tt.v+tt.rho)/tt.rho), Boundary(tt.v, tt.rho, tt.alpha)*math.Sqrt(tt.v)
		x := s / math.Sqrt(tt.v+tt.rho)
		exact := 2 / a * math.Exp(x*x/2) * (1 - 0.5*math.Erfc(x/math.Sqrt2))
		if exact < 1/tt.alpha || exact > 1.1/tt.alpha {
			t.Errorf("the mixture is %.1f at B(%v; %v, %v), want at least %.1f", exact, tt.v, tt.rho, tt.alpha, 1/tt.alpha)
		}
	}
}

func TestBinomialTail(t *testing.T) {
	for _, tt := range []struct {
		n    int
		p    float64
		x    int
		want float64
	}{{100, 0.07, 20, 1.790e-5}, {100, 0.07, 16, 0.00157}, {14, 0.5, 14, 6.10e-5}, {5, 0.1, 0, 1}, {5, 0.1, 6, 0}, {5, 0, 1, 0}, {3, 0.5, 2, 0.5}} {
		if got := atLeast(tt.n, tt.p, tt.x); math.Abs(got-tt.want) > 0.003*tt.want {
			t.Errorf("P(Bin(%d, %v) ≥ %d) = %.4g, want %.4g", tt.n, tt.p, tt.x, got, tt.want)
		}
	}
}

// look is a look at devices that are well.
func look(p Params, minute int, devices []Device) Verdict {
	return Look(Stage{Elapsed: time.Duration(minute) * time.Minute, Silent: 0.05, Devices: devices}, p)
}

func TestNothingPassesBySilence(t *testing.T) {
	for _, tt := range []struct {
		name   string
		p      Params
		minute int
		ds     []Device
		want   Decision
		reason string
	}{
		{"the first minutes", Canary(), 4, vector(100, 100, 0, 0.01, nil), Wait, ReasonMinutes},
		{"no truth", Canary(), 60, vector(0, 100, 0, 0, nil)[:0], Wait, ReasonFew},
		{"no truth at the deadline", Canary(), 8 * 60, withoutPairs(100), Inconclusive, ReasonTruth},
		{"too few pairs at the deadline", Canary(), 8 * 60, append(vector(40, 40, 0, 0.01, nil), withoutPairs(60)...), Inconclusive, ReasonDevices},
		{"29 devices, all worse", Canary(), 60, vector(29, 29, math.Log(2), 0.01, nil), Wait, ReasonFew},
		{"29 devices at the deadline", Canary(), 8 * 60, vector(29, 29, 0, 0.01, nil), Inconclusive, ReasonFew},
		{"30 devices", Canary(), 60, vector(30, 30, 0, 0.05, nil), Pass, ReasonQuality},
		{"open at the deadline", Wide(), 8 * 60, vector(950, 950, 0.03, 0.35, nil), Inconclusive, ReasonOpen},
		{"guarded, too early", Wide().Guarding(0), 4, vector(100, 100, 0, 0.01, nil), Wait, ReasonMinutes},
		{"guarded", Wide().Guarding(0), 5, vector(100, 100, 0.02, 0.3, nil), Pass, ReasonGuard},
		{"guarded without pairs", Wide().Guarding(0), 60, withoutPairs(100), Wait, ReasonTruth},
		{"guarded and worse", Wide().Guarding(0), 5, vector(100, 100, math.Log(1.5), 0.1, nil), Stop, ReasonQuality},
		{"watched", Wide().Guarding(24 * time.Hour), 23 * 60, vector(100, 100, 0, 0.01, nil), Wait, ReasonGuard},
	} {
		if v := look(tt.p, tt.minute, tt.ds); v.Decision != tt.want || v.Reason != tt.reason {
			t.Errorf("%s: %s (%s), want %s (%s)", tt.name, v.Decision, v.Reason, tt.want, tt.reason)
		}
	}
}

func withoutPairs(n int) []Device {
	ds := make([]Device, n)
	for i := range ds {
		ds[i] = Device{ID: fmt.Sprint(i), Sums: Sums{Skipped: 600, Disagreement: 3}}
	}
	return ds
}

func TestLargeGroupMustPass(t *testing.T) {
	ds := vector(600, 600, 0, 0.20, func(i int, d *float64) {
		if i%10 == 3 {
			*d += 0.1 // not certainly above 5 %, not certainly below 20 %
		}
	})
	p := Wide()
	if v := look(p, 60, ds); v.Decision != Wait || v.Upper >= p.MPass {
		t.Errorf("verdict is %s with U %.3f, want wait for group 3 although U is below %v", v.Decision, v.Upper, p.MPass)
	}
	p.MGroupPass = 0
	if v := look(p, 60, ds); v.Decision != Pass {
		t.Errorf("verdict is %s (%s) without a limit for groups, want pass", v.Decision, v.Reason)
	}
}

func TestFlatSensorsDecideNothing(t *testing.T) {
	p := Canary()
	p.Epsilon = 0.001
	ds := vector(100, 100, 0, 0.02, nil)
	for i := range 30 { // both exact, but for a rounding of one
		ds[i].SumA, ds[i].SumB = 1e-12, 1e-6
	}
	if v := look(p, 30, ds); v.Decision != Pass {
		t.Errorf("verdict is %s (%s), want pass: nothing moved", v.Decision, v.Reason)
	}
	for i := range ds {
		ds[i].SumA, ds[i].SumB = 0, 1
	}
	p.Epsilon = 0
	v := look(p, 30, ds)
	if v.Decision != Stop {
		t.Errorf("verdict is %s (%s) of a version without error and one with, want stop", v.Decision, v.Reason)
	}
	if _, err := json.Marshal(v); err != nil {
		t.Error(err)
	}
}
