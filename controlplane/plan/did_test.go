package plan

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
)

func did() Plan {
	p := CanaryFirst(10000)
	p.Evidence = DiD
	p.Stages[2].Quality = ""
	return p
}

func TestPlansWithoutPairs(t *testing.T) {
	p := did().WithDefaults()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	if p.Before != Duration(24*time.Hour) || p.OnInconclusive != Abandon || p.Stages[2].Quality != Off || p.Stages[2].Deadline != Duration(8*time.Hour) {
		t.Errorf("defaults are %+v", p)
	}
	for i := range 2 {
		if q := p.params(i, 0); p.Stages[i].Quality != Paired || q.Deadline != 120*time.Hour || q.MPass != 1.15 || q.MStop != 1.03 || q.Rho < 63.9 || q.Rho > 64.1 {
			t.Errorf("stage %d is judged with %+v", i, q)
		}
	}
	if n := p.JudgedMost(10000); n != 0 {
		t.Errorf("%d devices report pairs", n)
	}
	if f := p.Forecast(make([]int64, 10000)); f.Seconds != 3*24*3600+2*60+5*60 {
		t.Errorf("it takes %v s", f.Seconds)
	}
	// Stages of 100 and 1,000, whatever runs another version.
	for others, want := range map[int][2]int{10000: {-1, 0}, 2000: {-1, 0}, 1999: {1, 999}, 1099: {0, 999}, 50: {0, 0}} {
		if i, left := p.Untouched(10000, others); [2]int{i, left} != want {
			t.Errorf("of %d others stage %d leaves %d, want %v", others, i, left, want)
		}
	}
	for want, change := range map[string]func(*Plan){
		`"luck" is neither`:          func(p *Plan) { p.Evidence = "luck" },
		"paired needs none":          func(p *Plan) { p.Evidence, p.Before = "", Duration(24*time.Hour) },
		"before: 1h is outside":      func(p *Plan) { p.Before = Duration(time.Hour) },
		"there is no shadow":         func(p *Plan) { p.OnInconclusive = Widen },
		"nothing runs beside":        func(p *Plan) { p.Stages[0].Shadow = true },
		"no pairs go on":             func(p *Plan) { p.Stages[1].Quality = Guard },
		"no device is left to compa": func(p *Plan) { p.Stages[2].Quality = Paired },
	} {
		p := did()
		change(&p)
		if err := p.WithDefaults().Check(); !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ErrPlan with %q", err, want)
		}
	}
}

// TestMeasuringWaitsForTheOthers: a day, then for enough untouched devices, and not
// for ever.
func TestMeasuringWaitsForTheOthers(t *testing.T) {
	p := did().WithDefaults()
	s, _ := Step(p, New(p, 7, 10000, "ann", epoch), Event{Kind: Prepared, At: epoch})
	if s.Phase != Measuring || s.Mark != 1 || s.Reach != 0 {
		t.Fatalf("%+v", s)
	}
	facts := func(n int) (f Facts) {
		for range n {
			f.Untouched = append(f.Untouched, quality.Device{Sums: quality.Sums{Pairs: 5}})
		}
		f.Untouched = append(f.Untouched, quality.Device{Sums: quality.Sums{Pairs: 4}})
		return f
	}
	at := epoch
	ticks := func(n, told int) State {
		f := facts(told)
		for range n {
			at = at.Add(time.Minute)
			s, _ = Step(p, s, Event{Kind: Tick, At: at, Facts: f})
		}
		return s
	}
	if ticks(24*60-1, 1000); s.Phase != Measuring {
		t.Errorf("%s before a day is over", s.Phase)
	}
	short := s
	if ticks(1, 1000); s.Phase != Running || s.Stage != 0 || s.Mark != 2 || s.From != 0 || s.Judge != 0 || s.Role(0, false) != (Role{Version: Active}) {
		t.Errorf("after a day it is %+v", s)
	}
	s, at = short, at.Add(-time.Minute)
	if ticks(1, 999); s.Phase != Measuring || !strings.HasSuffix(s.Text(p, "v2", ""), "that 999 devices of a later stage tell, of 1000 that are needed.") {
		t.Errorf("with 999: %s", s.Text(p, "v2", ""))
	}
	paused, _ := Step(p, s, Event{Kind: Pause, By: "bob"})
	paused, _ = Step(p, paused, Event{Kind: Tick, At: at.Add(time.Minute), Facts: facts(1000)})
	if text := paused.Text(p, "v2", ""); paused.Phase != Measuring || text != "Paused by bob." {
		t.Errorf("paused: %s, %q", paused.Phase, text)
	}
	if ticks(120*60, 999); s.Phase != Stopped || s.Reason != "inconclusive: 999 devices of a later stage tell their errors, and 1000 are needed" {
		t.Errorf("five days later: %s, %s", s.Phase, s.Reason)
	}
}

// TestNobodyUntouchedIsNoEvidence: differences alone are the time's as well.
func TestNobodyUntouchedIsNoEvidence(t *testing.T) {
	p := did().WithDefaults()
	s := New(p, 7, 10000, "ann", epoch).measure(epoch).enter(p, 0)
	for ratio, untouched := range map[float64]int{1: 0, 2: 999} {
		f := fleet(50, ratio)
		f.Untouched = fleet(untouched, 1).Judged
		at, s := epoch, s
		for range 30 {
			at = at.Add(time.Minute)
			s, _ = Step(p, s, Event{Kind: Tick, At: at, Facts: f})
		}
		if s.Phase != Running || s.Stage != 0 || s.Verdict.Reason != quality.ReasonUntouched {
			t.Errorf("%g times the error, %d untouched: %s at stage %d, %+v", ratio, untouched, s.Phase, s.Stage, s.Verdict)
		}
	}
}

func TestSumsBeforeAndAfter(t *testing.T) {
	for _, tt := range []struct {
		before, after Sums
		want          quality.Sums
	}{
		{Sums{100, 50}, Sums{20, 30}, quality.Sums{Pairs: 20, SumA: 10, SumB: 30}}, // 0.5 and 1.5
		{Sums{4, 50}, Sums{20, 30}, quality.Sums{}},
		{Sums{100, 50}, Sums{4, 30}, quality.Sums{}},
	} {
		if got := Differing(tt.before, tt.after); got != tt.want {
			t.Errorf("%+v to %+v is %+v, want %+v", tt.before, tt.after, got, tt.want)
		}
	}
	if got := (Sums{10, 5}).Less(Sums{4, 2}); got != (Sums{6, 3}) {
		t.Errorf("less is %+v", got)
	}
	if got := (Sums{10, 0.6}).Less(Sums{8, math.Nextafter(0.6, 1)}); got != (Sums{2, 0}) {
		t.Errorf("two perfect outputs came as %v, the sum rounded otherwise", got)
	}
	if got := (Sums{3, 1}).Less(Sums{4, 2}); got != (Sums{}) {
		t.Errorf("counters that fell give %+v", got)
	}
}

// TestWiderStageJudgesItsOwnDevices: those that the stage adds, against errors until
// it began; where it adds none, the stage before is judged on.
func TestWiderStageJudgesItsOwnDevices(t *testing.T) {
	p := did().WithDefaults()
	s := New(p, 7, 10000, "ann", epoch).measure(epoch).enter(p, 0)
	if s = s.enter(p, 1); s.Mark != 3 || s.From != 100 || s.Reach != 1000 {
		t.Errorf("wider: %+v", s)
	}
	p.Stages[1].Devices = Amount{Count: 100}
	s = New(p, 7, 10000, "ann", epoch).measure(epoch).enter(p, 0)
	if s = s.enter(p, 1); s.Mark != 2 || s.From != 0 || s.Reach != 100 {
		t.Errorf("as wide: %+v", s)
	}
}
