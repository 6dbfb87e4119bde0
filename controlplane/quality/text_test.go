package quality

import (
	"testing"
)

func TestText(t *testing.T) {
	w := Words{InPlace: "v7", Candidate: "v8", Stage: "canary", Label: "hw"}
	for _, tt := range []struct {
		v    Verdict
		w    func(Words) Words
		want string
	}{
		{Verdict{Decision: Stop, Reason: ReasonQuality, Ratio: 1.2, Lower: 1.0783, Upper: 1.3317, N: 95, Assigned: 100, Silent: 5, SilentShare: 0.05,
			Margins: Margins{Stop: 1.03}, Elapsed: 28 * 60},
			func(w Words) Words { w.Outcome = "All 100 devices are back on v7."; return w },
			"STOPPED at the canary after 28 min (quality). v8's error is 20 % above v7's on the same inputs of 95 devices (8 % to 33 %, valid at every look); limit 3 %. 5 of 100 silent, as elsewhere (5 %). All 100 devices are back on v7."},
		{Verdict{Decision: Pass, Reason: ReasonQuality, Ratio: 1.004, Lower: 0.94, Upper: 1.09, Margins: Margins{Pass: 1.15}, Elapsed: 34 * 60},
			func(w Words) Words { w.NextDevices, w.NextPass = 1000, 1.05; return w },
			"PASSED the canary after 34 min. v8 against v7: +0.4 % (−6 % to +9 %); limit 15 %. Next: 1,000 devices, limit 5 %."},
		{Verdict{Decision: Stop, Reason: ReasonGroup, Ratio: 1.024, Groups: []Group{{Value: "rev3", N: 95, Ratio: 1.3, Lower: 1.15}}, Elapsed: 3600},
			func(w Words) Words { w.Stage = "10 %"; return w },
			"STOPPED at 10 % after 60 min (group). Overall +2.4 %, but hw=rev3 (95 devices) is +30 % (at least +15 %). Exclude hw=rev3 or retrain."},
		{Verdict{Decision: Wait, Reason: ReasonOpen, Ratio: 1.04, Lower: 0.98, Upper: 1.10, Elapsed: 40 * 60, Expected: 160 * 60},
			nil, "WAITING, 40 min: +4.0 % (−2 % to +10 %). At this pace decided in about 2 h."},
		{Verdict{Decision: Stop, Reason: ReasonSilence, Silent: 20, Assigned: 100, SilentShare: 0.05, SilentPvalue: 1.79e-5, Elapsed: 900},
			nil, "STOPPED at the canary after 15 min (silence). 20 of 100 silent, elsewhere 5 %: by chance that happens 18 times in a million."},
		{Verdict{Decision: Stop, Reason: ReasonMinority, Ratio: 1.01, MinorityAbove: 50, Minority: []string{"a", "b", "c", "d", "e", "f", "g"}, Elapsed: 3600},
			func(w Words) Words { w.Stage = "shadow"; return w },
			"STOPPED in shadow after 60 min (minority). Overall +1.0 %, but 50 devices are more than 25 % above that and 0 as far below: a, b, c, d, e and 2 more."},
		{Verdict{Decision: Inconclusive, Reason: ReasonTruth, Elapsed: 8 * 3600}, nil,
			"INCONCLUSIVE at the canary after 8 h (no truth): no truth has come for any forecast, so no error is known."},
		{Verdict{Decision: Wait, Reason: ReasonFew, Assigned: 12, Elapsed: 61}, nil,
			"WAITING, 1 min: 12 devices are too few to decide, 30 are needed; a person promotes."},
		{Verdict{Decision: Wait, Reason: ReasonDevices, N: 1234, Assigned: 5000, Elapsed: 30}, nil,
			"WAITING, 30 s: 1,234 of 5,000 devices have enough pairs."},
		{Verdict{Decision: Pass, Reason: ReasonGuard, Ratio: 0.5, Lower: 0.4, Upper: 1e9, Elapsed: 3 * 24 * 3600}, nil,
			"PASSED the canary after 3 days. v8 against v7: −50 % (−60 % to +1e+11 %); nothing was found that stops it."},
	} {
		w := w
		if tt.w != nil {
			w = tt.w(w)
		}
		if got := tt.v.Text(w); got != tt.want {
			t.Errorf("text is\n%s, want\n%s", got, tt.want)
		}
	}
}
