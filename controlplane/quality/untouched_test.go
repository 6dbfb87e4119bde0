package quality

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestVectorsOfDifferenceInDifferences: n values with mean μ and deviation s as in
// vector, less the trimmed mean of those of the untouched, SE² added. Computed with
// NumPy apart from this code.
func TestVectorsOfDifferenceInDifferences(t *testing.T) {
	for _, tt := range []struct {
		name                           string
		mu, s                          float64 // of 95 of 100 devices
		untouched                      int
		mu0, s0                        float64 // of them
		theta, se, lower, upper, drift float64
		decision                       Decision
		reason                         string
	}{
		{"equal", 0.1, 0.20, 1200, 0.1, 0.5, 0, 0.030070, -0.104023, 0.101354, 1.105171, Pass, ReasonQuality},
		{"20 % worse while all get better", math.Log(1.2) - 0.3, 0.25, 1000, -0.3, 0.3, 0.182322, 0.032901, 0.068749, 0.292937, 0.740818, Stop, ReasonQuality},
		{"open", 0.05, 0.20, 1000, -0.02, 0.5, 0.07, 0.031029, -0.037249, 0.174483, 0.980199, Wait, ReasonOpen},
		{"the time alone", 0.25, 0.20, 1000, 0.25, 0.2, 0, 0.025848, -0.089895, 0.087645, 1.284025, Pass, ReasonQuality},
		{"too few untouched", math.Log(3), 0.20, 999, 0, 0.2, math.Log(3), 0, 0, 0, 1, Wait, ReasonUntouched},
	} {
		devices := vector(95, 100, tt.mu, tt.s, nil)
		v := Look(Stage{Elapsed: 30 * time.Minute, Silent: 0.05, Devices: devices, Differences: true, Untouched: vector(tt.untouched, tt.untouched+50, tt.mu0, tt.s0, nil)}, Canary())
		if v.Decision != tt.decision || v.Reason != tt.reason || v.Untouched != tt.untouched {
			t.Errorf("%s: %s (%s) with %d untouched, want %s (%s)", tt.name, v.Decision, v.Reason, v.Untouched, tt.decision, tt.reason)
		}
		for _, x := range []struct {
			name      string
			got, want float64
		}{{"θ", v.theta, tt.theta}, {"SE", v.SE, tt.se}, {"L", math.Log(v.Lower), tt.lower}, {"U", math.Log(v.Upper), tt.upper}, {"drift", v.Drift, tt.drift}} {
			if (x.want != 0 || x.name == "θ") && !(math.Abs(x.got-x.want) <= tolerance) {
				t.Errorf("%s: %s = %.6f, want %.6f", tt.name, x.name, x.got, x.want)
			}
		}
	}
}

// TestGroupsAndDevicesAreLessWhatChangedElsewhere too, and carry its uncertainty.
func TestGroupsAndDevicesAreLessWhatChangedElsewhere(t *testing.T) {
	devices := vector(950, 1000, 0.5, 0.20, func(i int, d *float64) {
		if i%10 == 3 {
			*d += math.Log(1.3)
		}
	})
	v := Look(Stage{Elapsed: time.Hour, Silent: 0.05, Devices: devices, Differences: true, Untouched: vector(1000, 1000, 0.5, 0.2, nil)}, Wide())
	pairs := Look(Stage{Elapsed: time.Hour, Silent: 0.05, Devices: vector(950, 1000, 0, 0.20, func(i int, d *float64) {
		if i%10 == 3 {
			*d += math.Log(1.3)
		}
	})}, Wide())
	if v.Reason != ReasonGroup || v.Groups[0].Value != "3" || math.Abs(v.Groups[0].Ratio-pairs.Groups[0].Ratio) > tolerance {
		t.Errorf("%s: %+v, want group 3 as in pairs, %+v", v.Reason, v.Groups[0], pairs.Groups[0])
	}
	if want := math.Hypot(pairs.Groups[0].SE, v.control.se); math.Abs(v.Groups[0].SE-want) > 1e-9 || v.control.se == 0 {
		t.Errorf("SE %.6f, want %.6f", v.Groups[0].SE, want)
	}
	for _, h := range v.Harmed(devices, Wide()) {
		if math.Abs(math.Log(h.Ratio)-math.Log(1.3)) > 0.4 {
			t.Errorf("%+v is not less what changed elsewhere", h)
		}
	}
	if text := v.Text(Words{InPlace: "v7", Candidate: "v8", Stage: "10 %", Label: "hw"}); !strings.Contains(text, "hw=3") {
		t.Error(text)
	}
}

func TestTextWithoutPairs(t *testing.T) {
	w := Words{InPlace: "v7", Candidate: "v8", Stage: "canary"}
	v := Look(Stage{Elapsed: 30 * time.Hour, Devices: vector(95, 100, math.Log(1.2), 0.25, nil), Silent: 0.05, Differences: true, Untouched: vector(1000, 1000, 0, 0.3, nil)}, Canary())
	if want := "v8's error is 20 % above v7's before it on 95 devices, less what changed on 1,000 others (7 % to 34 %, valid at every look); limit 3 %."; !strings.Contains(v.Text(w), want) {
		t.Errorf("%q, want %q in it", v.Text(w), want)
	}
	v = Look(Stage{Elapsed: 30 * time.Hour, Devices: vector(95, 100, 0, 0.25, nil), Silent: 0.05, Differences: true}, Canary())
	if want := "0 devices without the version tell their errors, and 1,000 are needed."; !strings.Contains(v.Text(w), want) {
		t.Errorf("%q, want %q in it", v.Text(w), want)
	}
}
