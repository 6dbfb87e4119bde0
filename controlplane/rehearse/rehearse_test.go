package rehearse

import (
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

const fleetSize = 2000

func canaryFirst() plan.Plan {
	p := plan.CanaryFirst(fleetSize)
	p.Watch = -1
	return p
}

// TestRun: what each way of being bad comes to.
func TestRun(t *testing.T) {
	ten := 0.10
	latency := canaryFirst()
	for i := range latency.Stages {
		latency.Stages[i].Checks.MaxLatency = &[]float64{1.5}[0]
	}
	blind := plan.Plan{Watch: -1, Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 10}, Quality: plan.Off, Deadline: plan.Duration(time.Hour)}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	for i := range blind.Stages {
		blind.Stages[i].Checks.MaxFailed = &ten
	}
	for name, tt := range map[string]struct {
		plan    plan.Plan
		change  func(*scenario.Scenario)
		final   plan.Phase
		reached [2]int // between
		reason  string
	}{
		"good":          {canaryFirst(), func(*scenario.Scenario) {}, plan.Done, [2]int{1800, 2000}, "quality: guard"},
		"20 % worse":    {canaryFirst(), func(s *scenario.Scenario) { s.Ratio = 1.2 }, plan.Stopped, [2]int{35, 40}, "quality: quality"},
		"in the shadow": {plan.ShadowFirst(fleetSize), func(s *scenario.Scenario) { s.Ratio = 1.2 }, plan.Stopped, [2]int{0, 0}, "quality: quality"},
		"bad in a group": {plan.ShadowFirst(fleetSize), func(s *scenario.Scenario) {
			s.Groups = []scenario.Group{{Name: "rev2", Share: 0.8}, {Name: "rev3", Share: 0.2, Ratio: 1.5}}
		}, plan.Stopped, [2]int{0, 0}, "quality: group"},
		"biased a while later": {canaryFirst(), func(s *scenario.Scenario) {
			s.Behaviours = []scenario.Behaviour{{Kind: scenario.Biased, Share: 1, Ratio: 3, After: plan.Duration(2 * time.Minute)}}
		}, plan.Stopped, [2]int{35, 40}, "quality: quality"},
		"silent": {canaryFirst(), func(s *scenario.Scenario) { s.Behaviours = []scenario.Behaviour{{Kind: scenario.Silent, Share: 0.5}} }, plan.Stopped, [2]int{35, 40}, "quality: silence"},
		"judged by a clock of next year": {canaryFirst(), func(s *scenario.Scenario) {
			s.Behaviours = []scenario.Behaviour{{Kind: scenario.Clock, Share: 0.5, By: plan.Duration(8760 * time.Hour)}}
		}, plan.Stopped, [2]int{35, 40}, "quality: silence"},
		"judged by a clock of last year": {canaryFirst(), func(s *scenario.Scenario) {
			s.Behaviours = []scenario.Behaviour{{Kind: scenario.Clock, Share: 0.5, By: plan.Duration(-8760 * time.Hour)}}
		}, plan.Done, [2]int{1800, 2000}, "quality: guard"},
		"crashing on trial": {canaryFirst(), func(s *scenario.Scenario) {
			s.Behaviours = []scenario.Behaviour{{Kind: scenario.Crashing, Share: 0.5}}
		}, plan.Stopped, [2]int{15, 25}, "failed updates"},
		"crashing a while later": {canaryFirst(), func(s *scenario.Scenario) {
			s.Behaviours = []scenario.Behaviour{{Kind: scenario.Crashing, Share: 0.5, After: plan.Duration(time.Minute)}}
		}, plan.Stopped, [2]int{35, 40}, "quality: silence"},
		"failing": {canaryFirst(), func(s *scenario.Scenario) { s.Behaviours = []scenario.Behaviour{{Kind: scenario.Failing, Share: 0.2}} }, plan.Stopped, [2]int{30, 36}, "failed updates"},
		"slow": {latency, func(s *scenario.Scenario) {
			s.Behaviours = []scenario.Behaviour{{Kind: scenario.Slow, Share: 0.1, Ratio: 2}}
		}, plan.Stopped, [2]int{35, 40}, "latency p99: 2, limit 1.5"},
		"silent at the deadline": {blind, func(s *scenario.Scenario) {
			s.Silent, s.Behaviours = 0, []scenario.Behaviour{{Kind: scenario.Silent, Share: 0.3}}
		}, plan.Stopped, [2]int{180, 200}, "failed updates"},
		"away for an hour": {blind, func(s *scenario.Scenario) {
			s.Behaviours = []scenario.Behaviour{{Kind: scenario.Offline, Share: 0.3, For: plan.Duration(20 * time.Minute)}}
		}, plan.Done, [2]int{1800, 2000}, "run it"},
		"aborted": {canaryFirst(), func(s *scenario.Scenario) {
			s.People = []scenario.Action{{At: plan.Duration(2 * time.Minute), Do: scenario.Abort, By: "ann"}}
		}, plan.Aborted, [2]int{35, 40}, "aborted by ann"},
		"paused for a week": {canaryFirst(), func(s *scenario.Scenario) {
			s.Until = plan.Duration(200 * time.Hour)
			s.People = []scenario.Action{{At: plan.Duration(time.Minute), Do: scenario.Pause}, {At: plan.Duration(168 * time.Hour), Do: scenario.Resume}}
		}, plan.Done, [2]int{1800, 2000}, "quality: guard"},
	} {
		s := scenario.Scenario{Devices: fleetSize, Seed: 3, Silent: 0.03, Broken: 0.02}
		tt.change(&s)
		o, err := Run(t.Context(), tt.plan, s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if o.Final != tt.final || o.Reached < tt.reached[0] || o.Reached > tt.reached[1] || !strings.Contains(o.State.Reason, tt.reason) {
			t.Errorf("%s: %s after %s, reached %d: %s; want %s, %v, %s", name, o.Final, o.Took, o.Reached, o.State.Reason, tt.final, tt.reached, tt.reason)
		}
		if again, err := Run(t.Context(), tt.plan, s); err != nil || !reflect.DeepEqual(o, again) {
			t.Errorf("%s: the same rehearsal went another way", name)
		}
		var b strings.Builder
		if err := o.WriteTimeline(&b); err != nil || !strings.Contains(b.String(), "ended "+string(tt.final)) || !strings.Contains(b.String(), strings.TrimPrefix(o.State.Reason, "quality: ")) {
			t.Errorf("%s: timeline\n%s%v", name, b.String(), err)
		}
	}
}

// TestSilentDevicesAreNamed: those that do not get to the version by the deadline.
func TestSilentDevicesAreNamed(t *testing.T) {
	p := plan.Plan{Watch: -1, Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 50}, Quality: plan.Off, Deadline: plan.Duration(time.Hour)}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	o, err := Run(t.Context(), p, scenario.Scenario{Devices: 500, Silent: 0.01, Behaviours: []scenario.Behaviour{{Kind: scenario.Silent, Share: 0.03}}})
	if err != nil || o.Final != plan.Done {
		t.Fatalf("%s, %v", o.Final, err)
	}
	if n := len(o.Lost); n < 3 || n > 15 || o.Lost[0].Loss != quality.Silent || !strings.HasPrefix(o.Lost[0].Device, "device-") {
		t.Errorf("lost %+v", o.Lost)
	}
}

func TestRepeat(t *testing.T) {
	calls := 0
	bad, err := Repeat(t.Context(), canaryFirst(), scenario.Scenario{Devices: fleetSize, Ratio: 1.3}, 20, func(int) { calls++ })
	if err != nil || bad.Through != 0 || bad.Stopped != 20 || bad.Finals[plan.Stopped] != 20 || bad.Reasons[quality.ReasonQuality] != 20 || calls != 20 || bad.Decided < plan.Duration(5*time.Minute) {
		t.Errorf("30 %% worse: %+v, %v", bad, err)
	}
	good, err := Repeat(t.Context(), canaryFirst(), scenario.Scenario{Devices: fleetSize, Ratio: 0.9}, 20, nil)
	if err != nil || good.Through != 20 || good.Stopped != 0 || good.ThroughUpper != 1 {
		t.Errorf("10 %% better: %+v, %v", good, err)
	}
	failing := scenario.Scenario{Devices: fleetSize, Behaviours: []scenario.Behaviour{{Kind: scenario.Failing, Share: 0.2}}}
	if r, err := Repeat(t.Context(), canaryFirst(), failing, 3, nil); err != nil || r.Reasons[plan.CheckUpdates] != 3 || len(r.Reasons) != 1 {
		t.Errorf("updates that fail: %+v, %v", r, err)
	}
	recorded := scenario.Scenario{Devices: fleetSize, Recorded: [][]scenario.Pair{{{A: 1, B: 1.3}, {A: 5, B: 6}}, {{A: 2, B: 3}}}}
	if r, err := Repeat(t.Context(), canaryFirst(), recorded, 3, nil); err != nil || r.Stopped != 3 || r.Reasons[quality.ReasonQuality] != 3 {
		t.Errorf("recorded errors of one that is worse: %+v, %v", r, err)
	}
}

// TestUpper95 against 1 − 0.05^(1/n), which it is where nothing was seen, and a
// table of binomial bounds.
func TestUpper95(t *testing.T) {
	for _, tt := range []struct {
		k, n int
		want float64
	}{{0, 1000, 1 - math.Pow(0.05, 1.0/1000)}, {0, 20, 1 - math.Pow(0.05, 1.0/20)}, {1, 10, 0.394163}, {10, 10, 1}} {
		if got := Upper95(tt.k, tt.n); math.Abs(got-tt.want) > 1e-5 {
			t.Errorf("Upper95(%d, %d) = %v, want %v", tt.k, tt.n, got, tt.want)
		}
	}
}

// TestDriftIsToldAfterAnHour: of inputs as in training.
func TestDriftIsToldAfterAnHour(t *testing.T) {
	limit := 0.25
	p := plan.Plan{Watch: -1, Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 50}, Quality: plan.Off, Checks: plan.Checks{MaxDrift: &limit}}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	o, err := Run(t.Context(), p, scenario.Scenario{Devices: 100})
	if err != nil || o.Final != plan.Done || o.Moments[1].At != plan.Duration(61*time.Minute) {
		t.Errorf("%s, %+v, %v; want the first stage to take an hour", o.Final, o.Moments, err)
	}
}

// TestTrialTakesItsTime: a stage that only waits for its devices ends at the first
// look after their trial of ten seconds.
func TestTrialTakesItsTime(t *testing.T) {
	p := plan.Plan{Every: plan.Duration(time.Second), Minimum: -1, Watch: -1, Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 50}, Quality: plan.Off}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	o, err := Run(t.Context(), p, scenario.Scenario{Devices: 100})
	if err != nil || len(o.Moments) < 2 || o.Moments[1].At != plan.Duration(11*time.Second) {
		t.Errorf("%+v, %v; want the second stage after 11s", o.Moments, err)
	}
}

// TestSeedOfThePlan: it is that of the draw, where the plan has one.
func TestSeedOfThePlan(t *testing.T) {
	p := plan.Plan{Seed: 9, Watch: -1, Stages: []plan.Stage{{Devices: plan.Amount{Percent: 50}, Quality: plan.Off, Deadline: plan.Duration(time.Hour)}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off}}}
	lost := func(seed uint64) []plan.Fault {
		p.Seed = seed
		o, err := Run(t.Context(), p, scenario.Scenario{Devices: 500, Silent: 0.05})
		if err != nil {
			t.Fatal(err)
		}
		return o.Lost
	}
	if a, b := lost(9), lost(10); len(a) == 0 || reflect.DeepEqual(a, b) {
		t.Errorf("the same devices, whatever the seed: %v", a)
	}
}

// TestEndsWithItsContext: at any time of a long one.
func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if r, err := Repeat(ctx, canaryFirst(), scenario.Scenario{Devices: 50}, 3, func(int) { cancel() }); !errors.Is(err, context.Canceled) || r.Through+r.Stopped > 1 {
		t.Errorf("%+v, %v; want it canceled after the first", r, err)
	}
}

func TestBadPlanOrScenario(t *testing.T) {
	if _, err := Run(t.Context(), plan.Plan{}, scenario.Scenario{Devices: -1}); !errors.Is(err, scenario.ErrScenario) {
		t.Errorf("a bad scenario: %v", err)
	}
	if _, err := Run(t.Context(), plan.Plan{Stages: []plan.Stage{{}}}, scenario.Scenario{}); !errors.Is(err, plan.ErrPlan) {
		t.Errorf("a bad plan: %v", err)
	}
}
