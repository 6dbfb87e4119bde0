package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
)

func TestDrawGivesEveryGroupItsShare(t *testing.T) {
	var devices []Candidate
	for i := range 1000 {
		group := "common"
		switch {
		case i%100 == 0:
			group = "rare" // 10
		case i%4 == 1:
			group = "quarter" // 250
		}
		devices = append(devices, Candidate{ID: fmt.Sprintf("d%04d", i), Group: group, Comparable: i != 7})
	}
	sizes := []int{400, 50, 100, 1000}
	order := Draw(devices, sizes, 1)
	if len(order) != 1000 || order[999].ID != "d0007" {
		t.Fatalf("%d devices, the last is %v; want the one without a version to compare with", len(order), order[len(order)-1])
	}
	seen := map[string]bool{}
	for _, d := range order {
		seen[d.ID] = true
	}
	if len(seen) != 1000 {
		t.Fatalf("%d different devices", len(seen))
	}
	for _, size := range sizes {
		n := map[string]int{}
		for _, d := range order[:size] {
			n[d.Group]++
		}
		if quarter := float64(n["quarter"]); n["rare"] < 8 || math.Abs(quarter-float64(size)/4) > 8 {
			t.Errorf("the first %d have %v, want 8 rare ones or more, and a quarter", size, n)
		}
	}
	if !reflect.DeepEqual(order, Draw(devices, sizes, 1)) {
		t.Error("the same seed gives another order")
	}
	if reflect.DeepEqual(order, Draw(devices, sizes, 2)) {
		t.Error("another seed gives the same order")
	}
	// It is random within a group: not the first ids.
	if order[0].ID == "d0000" && order[1].ID == "d0001" {
		t.Error("the first devices are drawn first")
	}
}

func TestDrawOfMoreGroupsThanFit(t *testing.T) {
	var devices []Candidate
	for i := range 10000 {
		devices = append(devices, Candidate{ID: fmt.Sprint(i), Group: fmt.Sprint("g", i%2000), Comparable: true})
	}
	if order := Draw(devices, []int{100, 1000, 10000}, 3); len(order) != 10000 {
		t.Errorf("%d devices", len(order))
	}
	if order := Draw(nil, []int{0}, 3); len(order) != 0 {
		t.Errorf("%d devices of none", len(order))
	}
}

func TestTexts(t *testing.T) {
	for _, tt := range []struct {
		in, out string // out "": refused
		v       interface {
			UnmarshalText([]byte) error
			MarshalText() ([]byte, error)
		}
	}{
		{"100", "100", new(Amount)}, {"10%", "10%", new(Amount)}, {"0.5 %", "0.5%", new(Amount)},
		{"0", "", new(Amount)}, {"-1", "", new(Amount)}, {"101%", "", new(Amount)}, {"0%", "", new(Amount)}, {"x", "", new(Amount)}, {"NaN%", "", new(Amount)}, {"", "", new(Amount)},
		{"22:30-05:00", "22:30-05:00", new(Window)}, {"01:00-05:00 sat,sun", "01:00-05:00 sun,sat", new(Window)},
		{"1-5", "", new(Window)}, {"01:00", "", new(Window)}, {"24:00-05:00", "", new(Window)}, {"01:00-05:00 someday", "", new(Window)},
	} {
		err := tt.v.UnmarshalText([]byte(tt.in))
		if tt.out == "" {
			if !errors.Is(err, ErrPlan) {
				t.Errorf("%T of %q = %v, want ErrPlan", tt.v, tt.in, err)
			}
			continue
		}
		if got, _ := tt.v.MarshalText(); err != nil || string(got) != tt.out {
			t.Errorf("%T of %q is %q, %v; want %q", tt.v, tt.in, got, err, tt.out)
		}
	}
}

func TestWindowIsWaitedFor(t *testing.T) {
	for text, days := range map[string]int{
		"01:00-05:00": 1, "01:00-05:00 sun,mon,tue,wed,thu,fri,sat": 1, "01:00-05:00 sat,sun": 6, "01:00-05:00 wed": 7,
		"01:00-05:00 mon,thu": 4, "22:00-05:00 sun,sat": 6, "01:00-05:00 mon,tue,wed,thu,fri": 3,
	} {
		var w Window
		if err := w.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		want := time.Duration(days) * 24 * time.Hour
		p := CanaryFirst(100)
		p.Window = &w
		p = p.WithDefaults()
		if w.Wait() != want || p.Stages[0].Deadline != Duration(want+8*time.Hour) {
			t.Errorf("%s: %s, with a deadline of %s; want %s and 8 h more", text, w.Wait(), p.Stages[0].Deadline, want)
		}
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestBadPlans(t *testing.T) {
	limit := func(v float64) *float64 { return &v }
	for name, change := range map[string]func(*Plan){
		"no stage":             func(p *Plan) { p.Stages = nil },
		"the last stage":       func(p *Plan) { p.Stages = p.Stages[:2] },
		"only the first stage": func(p *Plan) { p.Stages[1].Shadow = true },
		"it cannot be off":     func(p *Plan) { p.Stages[0].Quality = Off },
		"none of paired":       func(p *Plan) { p.Stages[1].Quality = "good" },
		`stage 1, "shadow": quality: the stage before judges nothing`: func(p *Plan) { p.Stages[0].Quality = Guard },
		`stage 3, "10 %": quality: the stage before judges nothing`:   func(p *Plan) { p.Stages[1].Quality = Off },
		"want a number":       func(p *Plan) { p.Stages[1].Devices = Amount{} },
		"deadline":            func(p *Plan) { p.Stages[1].Deadline = -1 },
		"minimum":             func(p *Plan) { p.Stages[1].Minimum = Duration(9 * time.Hour) },
		"a margin is above 1": func(p *Plan) { p.Stages[1].MStop = 0.5 },
		"max_failed":          func(p *Plan) { p.Stages[1].Checks.MaxFailed = limit(1.5) },
		"max_latency":         func(p *Plan) { p.Stages[1].Checks.MaxLatency = limit(math.NaN()) },
		`stage 4, "100 %": checks.max_latency: devices count latency only while they are judged`: func(p *Plan) {
			p.Stages[3].Quality, p.Stages[3].Checks.MaxLatency = Off, limit(1.5)
		},
		"every":                        func(p *Plan) { p.Every = Duration(time.Millisecond) },
		"watch":                        func(p *Plan) { p.Watch = Duration(9000 * time.Hour) },
		"on_inconclusive":              func(p *Plan) { p.OnInconclusive = "panic" },
		"seed: 9007199254740992":       func(p *Plan) { p.Seed = 1 << 53 },
		"bytes_per_second: -1 is belo": func(p *Plan) { p.BytesPerSecond = -1 },
		`stage 3, "canary": name: stage 2 has that name too`:                              func(p *Plan) { p.Stages[2].Name = "canary" },
		`stage 3, "10 devices": devices: 10 devices, and stage 2 has 100 devices already`: func(p *Plan) { p.Stages[2].Devices = Amount{Count: 10} },
		`stage 3, "10 %": devices: 10 %, and stage 2 has 20 % already`:                    func(p *Plan) { p.Stages[1].Devices = Amount{Percent: 20} },
		`stage 4, "5 devices": devices: 5 devices, and stage 2 has 100 devices already`: func(p *Plan) {
			p.Stages = slices.Insert(p.Stages, 3, Stage{Devices: Amount{Count: 5}})
		},
	} {
		p := ShadowFirst(10000)
		change(&p)
		if err := p.WithDefaults().Check(); !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want ErrPlan with %q", err, name)
		}
	}
	for _, p := range []Plan{ShadowFirst(10000), CanaryFirst(10000), ShadowOnly(10000), ShadowFirst(3), CanaryFirst(1), ShadowOnly(1)} {
		p := p.WithDefaults()
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		b, err := json.Marshal(p)
		var back Plan
		if err != nil || json.Unmarshal(b, &back) != nil || !reflect.DeepEqual(p, back) {
			t.Errorf("%s does not survive JSON: %s, %v", p.Name, b, err)
		}
	}
}

// TestStageAfterOneThatIsOffIsJudgedAnew: no pairs are left that it could guard.
func TestStageAfterOneThatIsOffIsJudgedAnew(t *testing.T) {
	p := Plan{Stages: []Stage{{Shadow: true, Devices: Amount{Count: 100}}, {Devices: Amount{Count: 100}, Quality: Off}, {Devices: Amount{Percent: 10}}, {Devices: Amount{Percent: 100}}}}.WithDefaults()
	if a, b := p.Stages[2].Quality, p.Stages[3].Quality; a != Paired || b != Guard || p.Check() != nil {
		t.Errorf("stages after one that is off are %s and %s, %v; want %s and %s", a, b, p.Check(), Paired, Guard)
	}
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		p     Plan
		total int
		want  []int
	}{
		{ShadowFirst(10000), 10000, []int{1000, 100, 1000, 10000}},
		{ShadowFirst(50000), 50000, []int{5000, 100, 5000, 50000}},
		{ShadowFirst(200), 200, []int{200, 40, 40, 200}},
		{CanaryFirst(10000), 10000, []int{100, 1000, 10000}},
		{CanaryFirst(40), 40, []int{40, 40, 40}},
		{ShadowOnly(12), 12, []int{12, 12, 12}},
	} {
		if got := tt.p.Sizes(tt.total); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s of %d: %v, want %v", tt.p.Name, tt.total, got, tt.want)
		}
	}
}

func TestLimitsInWords(t *testing.T) {
	a, b, c := 0.05, 0.25, 1.5
	all := Checks{MaxFailed: &a, MaxRestarted: &a, MaxLatency: &c, MaxErrorRate: &a, MaxDrift: &b}
	if got, want := all.String(), "failed updates 5 %, restarts 5 %, latency p99 1.5, error rate 5 %, input drift 0.25"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestForecast(t *testing.T) {
	p := CanaryFirst(1000).WithDefaults()
	p.BytesPerSecond = 100
	bytes := make([]int64, 1000)
	for i := range bytes {
		bytes[i] = 10
	}
	f := p.Forecast(bytes)
	if f.Bytes != 10000 || f.Devices != 1000 || f.Stages[0].New != 40 || f.Stages[1].New != 60 || f.Stages[2].New != 900 || f.Stages[2].Bytes != 9000 {
		t.Errorf("forecast is %+v", f)
	}
	if want := []float64{31*60 + 4, 31*60 + 6, 5 * 60}; f.Stages[0].Seconds != want[0] || f.Stages[1].Seconds != want[1] || f.Stages[2].Seconds != want[2] {
		t.Errorf("stages take %v, %v, %v; want %v", f.Stages[0].Seconds, f.Stages[1].Seconds, f.Stages[2].Seconds, want)
	}
	if err := p.CheckSpread(f); err != nil {
		t.Error(err)
	}
	p.Stages[2].Deadline = Duration(89 * time.Second)
	want := `invalid plan: stage 3, "100 %": bytes_per_second: 900 devices fetch 9000 bytes, which takes 1m30s at 100 bytes a second, and the deadline is 1m29s; allow 102 bytes a second or more, or a later deadline`
	if err := p.CheckSpread(f); !errors.Is(err, ErrPlan) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	f.Stages[2].Bytes, p.BytesPerSecond = math.MaxInt64, 1 // more seconds than a time.Duration has nanoseconds
	if err := p.CheckSpread(f); !errors.Is(err, ErrPlan) {
		t.Errorf("downloads of %d bytes are taken: %v", f.Stages[2].Bytes, err)
	}
}

// fleet is the facts about n judged devices whose errors are so much higher.
func fleet(n int, ratio float64) Facts {
	f := Facts{Active: n, JudgedActive: n}
	for i := range n {
		s := quality.Sums{Pairs: 60, SumA: 60, SumB: 60 * ratio * math.Exp(0.1*math.Sin(float64(i)))}
		f.Judged = append(f.Judged, quality.Device{ID: fmt.Sprint(i), Sums: s})
	}
	return f
}

var epoch = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// running is a canary of 50 that has just begun.
func running(p Plan) State {
	s := New(p, 7, 1000, "ann", epoch)
	s, _ = Step(p, s, Event{Kind: Prepared, At: epoch})
	return s
}

func canary50() Plan {
	p := CanaryFirst(1000)
	p.Stages[0].Devices = Amount{Count: 50}
	return p.WithDefaults()
}

func TestClockJumpsNeitherPassNorFail(t *testing.T) {
	p := canary50()
	s := running(p)
	// A year ahead, and back, and again: each is at most two minutes of the stage.
	at := epoch
	for i, jump := range []time.Duration{time.Minute, 365 * 24 * time.Hour, -400 * 24 * time.Hour, time.Minute} {
		at = at.Add(jump)
		heard := s.Heard(p, at)
		if jumped := i == 1 || i == 2; heard.Equal(at) != jumped {
			t.Errorf("jump %d: silence counts from %v at %v", i, heard, at)
		}
		var c Change
		s, c = Step(p, s, Event{Kind: Tick, At: at, Facts: fleet(50, 1)})
		if (c.Look == nil) != (i == 1 || i == 2) {
			t.Errorf("jump %d: looked %v", i, c.Look != nil)
		}
	}
	if s.Phase != Running || s.Stage != 0 || s.Ran != Duration(4*time.Minute) {
		t.Errorf("%s at stage %d after %s, want still running after 4m", s.Phase, s.Stage, s.Ran)
	}
	s, _ = Step(p, s, Event{Kind: Tick, At: at.Add(time.Minute), Facts: fleet(50, 1)})
	if s.Stage != 1 {
		t.Errorf("it is at stage %d after five minutes: %s", s.Stage, s.Reason)
	}
}

func TestNobodyPassesBeforeAllCouldReport(t *testing.T) {
	p := canary50()
	s := running(p)
	f := fleet(50, 1)
	f.Early = 1 // it may yet turn out silent
	at := epoch
	for range 10 {
		at = at.Add(time.Minute)
		s, _ = Step(p, s, Event{Kind: Tick, At: at, Facts: f})
	}
	if s.Stage != 0 || s.Verdict.Decision != quality.Pass {
		t.Errorf("stage %d after %s, want still the first", s.Stage, s.Verdict.Decision)
	}
	f.Early = 0
	if s, _ = Step(p, s, Event{Kind: Tick, At: at.Add(time.Minute), Facts: f}); s.Stage != 1 {
		t.Errorf("stage %d once all had their time", s.Stage)
	}
}

func TestFewDevicesWaitForThoseThatAreJudgedElsewhere(t *testing.T) {
	p := canary50()
	s := running(p)
	f := fleet(20, 1)
	f.Busy = &Busy{N: 30, Rollout: 3, Model: "pump"}
	const busy = "30 of its devices are judged for rollout 3 of pump until that ends"
	at := epoch
	for range 479 {
		at = at.Add(time.Minute)
		s, _ = Step(p, s, Event{Kind: Tick, At: at, Facts: f})
	}
	if text := s.Text(p, "v2", ""); s.Phase != Running || !strings.HasSuffix(text, " "+busy+".") {
		t.Errorf("%s: %q, want it to wait with %q", s.Phase, text, busy)
	}
	held, _ := Step(p, s, Event{Kind: Tick, At: at.Add(time.Minute), Facts: f})
	if want := "20 devices are too few to judge the quality, since " + busy + "; a person promotes"; held.Phase != Held || held.Reason != want {
		t.Errorf("at the deadline %s: %q, want %q", held.Phase, held.Reason, want)
	}
	passed, _ := Step(p, s, Event{Kind: Tick, At: at.Add(time.Minute), Facts: fleet(50, 1)})
	if passed.Stage != 1 {
		t.Errorf("once they are free it is at stage %d", passed.Stage)
	}
}

func TestInconclusive(t *testing.T) {
	open := func() Facts { // errors that allow both verdicts
		f := fleet(50, 1.09)
		for i := range f.Judged {
			f.Judged[i].SumB *= math.Exp(0.35 * math.Cos(7*float64(i)))
		}
		return f
	}
	for _, tt := range []struct {
		what  string
		phase Phase
		stage int
		text  string
	}{
		{Widen, Stopped, 0, "inconclusive: quality: open"},
		{Abandon, Stopped, 0, "inconclusive: quality: open"},
		{Hold, Held, 0, "inconclusive: quality: open"},
		{Proceed, Running, 1, "inconclusive: quality: open; promoted, as ann planned"},
	} {
		p := canary50()
		p.OnInconclusive = tt.what
		s := running(p)
		widened := 0
		for at := epoch; s.Phase == Running && s.Stage == 0; {
			at = at.Add(time.Minute)
			was := s.Widened
			s, _ = Step(p, s, Event{Kind: Tick, At: at, Facts: open()})
			if s.Widened && !was {
				widened = s.Looks
				if s.NewDevices() != 100 {
					t.Errorf("%d devices fetch it now, want 100", s.NewDevices())
				}
				if s.Shadow != 150 || s.Judged != 150 || s.Reach != 50 || s.Role(100, false).Version != InShadow || s.Role(10, false).Version != Active {
					t.Errorf("widened to %+v", s)
				}
			}
		}
		if n := map[int]int{0: 100, 1: 50}[s.Stage]; s.Phase == Running && s.NewDevices() != n {
			t.Errorf("%s: %d devices fetch it at stage %d, want %d", tt.what, s.NewDevices(), s.Stage, n)
		}
		if s.Phase != tt.phase || s.Stage != tt.stage || s.Reason != tt.text {
			t.Errorf("%s: %s at stage %d (%s), want %s at %d (%s)", tt.what, s.Phase, s.Stage, s.Reason, tt.phase, tt.stage, tt.text)
		}
		if want := map[bool]int{true: 480, false: 0}[tt.what == Widen]; widened != want {
			t.Errorf("%s: widened at look %d, want %d", tt.what, widened, want)
		}
	}
}

// TestPausedDeadline: what has not come by the deadline failed, and the deadline
// waits while a person has paused the rollout.
func TestPausedDeadline(t *testing.T) {
	p := canary50()
	s := running(p)
	f := fleet(20, 1)
	f.Unsettled = 30
	at := epoch
	ticks := func(n int) {
		for range n {
			at = at.Add(time.Minute)
			s, _ = Step(p, s, Event{Kind: Tick, At: at, Facts: f})
		}
	}
	ticks(400)
	s, _ = Step(p, s, Event{Kind: Pause, By: "ann", At: at})
	ticks(1440)
	s, _ = Step(p, s, Event{Kind: Resume, By: "ann", At: at})
	ticks(79)
	if s.Phase != Running {
		t.Errorf("%s (%s) before the deadline", s.Phase, s.Reason)
	}
	s.Verdict = nil // which has a text of its own
	if text, want := s.Text(p, "v8", ""), "RUNNING, canary: 31h59m, and its deadline is after 32h."; text != want {
		t.Errorf("text is %q, want %q", text, want)
	}
	if ticks(1); s.Phase != Stopped {
		t.Errorf("%s (%s) at the deadline", s.Phase, s.Reason)
	}
}

func TestChecksWithoutDataNeverPass(t *testing.T) {
	limit := 2.0
	p := canary50()
	p.Stages[0].Checks.MaxLatency = &limit
	p.OnInconclusive = Hold
	s := running(p)
	at := epoch
	for range 479 {
		at = at.Add(time.Minute)
		s, _ = Step(p, s, Event{Kind: Tick, At: at, Facts: fleet(50, 1)})
	}
	if s.Phase != Running || s.Verdict.Decision != quality.Pass {
		t.Fatalf("%s after %s", s.Phase, s.Verdict.Decision)
	}
	held, _ := Step(p, s, Event{Kind: Tick, At: at.Add(time.Minute), Facts: fleet(50, 1)})
	if held.Phase != Held || held.Reason != "inconclusive: latency p99: no data" {
		t.Errorf("%s (%s), want held for want of data", held.Phase, held.Reason)
	}
	for figure, want := range map[float64]Phase{1.5: Running, 2.5: Stopped} {
		f := fleet(50, 1)
		f.Health.Latency = &figure
		got, _ := Step(p, s, Event{Kind: Tick, At: at.Add(time.Minute), Facts: f})
		if got.Phase != want {
			t.Errorf("with a latency of %v: %s (%s), want %s", figure, got.Phase, got.Reason, want)
		}
	}
}

func TestChangedCoversEveryRole(t *testing.T) {
	states := []State{
		{}, {Shadow: 10, Judged: 10, Judge: 1}, {Reach: 3, Shadow: 10, Judged: 10, Judge: 1}, {Reach: 3, Shadow: 10, Judged: 10, Judge: 2},
		{Reach: All, Judged: 10, Judge: 1}, {Reach: All}, {Reach: 3, Back: true}, {Reach: All, Back: true}, {Reach: 5, Judged: 5, Judge: 4},
	}
	for _, a := range states {
		for _, b := range states {
			spans := Changed(a, b)
			for n := range 20 {
				inside := false
				for _, s := range spans {
					inside = inside || n >= s[0] && n < s[1]
				}
				if differs := a.Role(n, false) != b.Role(n, false) || a.Role(n, true) != b.Role(n, true); differs && !inside {
					t.Errorf("device %d changes from %+v to %+v, outside of %v", n, a, b, spans)
				}
			}
			if reflect.DeepEqual(a, b) && len(spans) > 0 {
				t.Errorf("%v change between equal states", spans)
			}
		}
	}
}

func TestScheduledUntilItsTime(t *testing.T) {
	p := canary50()
	p.Start = epoch.Add(time.Hour)
	s := New(p, 1, 1000, "ann", epoch)
	for _, tt := range []struct {
		e    Event
		want Phase
	}{
		{Event{Kind: Tick, At: epoch.Add(59 * time.Minute)}, Scheduled},
		{Event{Kind: Prepared, At: epoch.Add(59 * time.Minute)}, Scheduled},
		{Event{Kind: Pause, By: "bob"}, Scheduled},
		{Event{Kind: Tick, At: epoch.Add(2 * time.Hour)}, Scheduled},
		{Event{Kind: Resume, By: "bob"}, Scheduled},
		{Event{Kind: Tick, At: epoch.Add(2 * time.Hour)}, Preparing},
		{Event{Kind: Prepared, At: epoch.Add(2 * time.Hour)}, Running},
	} {
		if s, _ = Step(p, s, tt.e); s.Phase != tt.want {
			t.Fatalf("after %+v it is %s, want %s", tt.e, s.Phase, tt.want)
		}
	}
	if got := s.Role(49, false); got != (Role{Active, 1<<6 | 1}) {
		t.Errorf("the last of the canary is to do %+v", got)
	}
	for _, e := range []Event{{Kind: Promote}, {Kind: Abort}, {Kind: Supersede}, {Kind: Tick, At: epoch.Add(time.Hour)}} {
		done := State{Phase: Done, Reach: All}
		if after, c := Step(p, done, e); !reflect.DeepEqual(after, done) || c.Look != nil {
			t.Errorf("%s of what is done: %+v", e.Kind, after)
		}
	}
}

// TestPromotionIsWhatTheStageCameTo: with what was known when a person decided.
func TestPromotionIsWhatTheStageCameTo(t *testing.T) {
	p := canary50()
	s := running(p)
	s.Ran, s.Checks, s.Verdict = Duration(12*time.Second), []CheckResult{{Name: CheckUpdates}}, &quality.Verdict{Look: 3}
	s, _ = Step(p, s, Event{Kind: Promote, At: epoch.Add(time.Hour), By: "ann"})
	if len(s.History) != 1 || s.Stage != 1 {
		t.Fatalf("at stage %d: %+v", s.Stage, s.History)
	}
	o := s.History[0]
	if o.Stage != p.Stages[0].Name || o.Verdict.Look != 3 || len(o.Checks) != 1 || !o.At.Equal(epoch.Add(time.Hour)) {
		t.Errorf("%+v", o)
	}
	want := "PASSED stage " + p.Stages[0].Name + " after 12s: promoted by ann."
	if text := o.Text(p, s, "v2", ""); text != want {
		t.Errorf("%q, want %q", text, want)
	}
	s.Phase = Watching
	if s, _ = Step(p, s, Event{Kind: Promote, At: epoch.Add(2 * time.Hour), By: "bob"}); s.Phase != Done || len(s.History) != 2 || s.History[1].Reason != "promoted by bob" {
		t.Errorf("%s: %+v", s.Phase, s.History)
	}
	before := State{Phase: Scheduled}
	if after, _ := Step(p, before, Event{Kind: Promote}); len(after.History) > 0 {
		t.Errorf("promoted before it began: %+v", after.History)
	}
}

// TestLostDevicesCountOnce: those that were lost in an earlier stage are no failed
// updates of a later one.
func TestLostDevicesCountOnce(t *testing.T) {
	p := canary50()
	s := running(p)
	s.LostN = 3
	for _, tt := range []struct {
		failed int
		want   float64
	}{{3, 0}, {6, 3.0 / 50}} {
		f := fleet(47, 1)
		f.Active, f.Failed = 50-(tt.failed-3), tt.failed
		next, _ := Step(p, s, Event{Kind: Tick, At: epoch.Add(time.Minute), Facts: f})
		got := next.Checks
		if len(got) == 0 {
			got = next.History[len(next.History)-1].Checks
		}
		if got[0].Name != CheckUpdates || got[0].Figure != tt.want {
			t.Errorf("%d failed: %+v, want %v", tt.failed, got, tt.want)
		}
	}
}
