package rehearse

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
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
		change  func(*Scenario)
		final   plan.Phase
		reached [2]int // between
		reason  string
	}{
		"good":          {canaryFirst(), func(*Scenario) {}, plan.Done, [2]int{1800, 2000}, "quality: guard"},
		"20 % worse":    {canaryFirst(), func(s *Scenario) { s.Ratio = 1.2 }, plan.Stopped, [2]int{35, 40}, "quality: quality"},
		"in the shadow": {plan.ShadowFirst(fleetSize), func(s *Scenario) { s.Ratio = 1.2 }, plan.Stopped, [2]int{0, 0}, "quality: quality"},
		"bad in a group": {plan.ShadowFirst(fleetSize), func(s *Scenario) {
			s.Groups = []Group{{Name: "rev2", Share: 0.8}, {Name: "rev3", Share: 0.2, Ratio: 1.5}}
		}, plan.Stopped, [2]int{0, 0}, "quality: group"},
		"biased a while later": {canaryFirst(), func(s *Scenario) {
			s.Behaviours = []Behaviour{{Kind: Biased, Share: 1, Ratio: 3, After: plan.Duration(2 * time.Minute)}}
		}, plan.Stopped, [2]int{35, 40}, "quality: quality"},
		"silent":   {canaryFirst(), func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Silent, Share: 0.5}} }, plan.Stopped, [2]int{35, 40}, "quality: silence"},
		"crashing": {canaryFirst(), func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Crashing, Share: 0.5}} }, plan.Stopped, [2]int{35, 40}, "quality: silence"},
		"failing":  {canaryFirst(), func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Failing, Share: 0.2}} }, plan.Stopped, [2]int{35, 40}, "failed updates"},
		"slow":     {latency, func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Slow, Share: 0.1, Ratio: 2}} }, plan.Stopped, [2]int{35, 40}, "latency p99: 2, limit 1.5"},
		"silent at the deadline": {blind, func(s *Scenario) {
			s.Silent, s.Behaviours = 0, []Behaviour{{Kind: Silent, Share: 0.3}}
		}, plan.Stopped, [2]int{180, 200}, "failed updates"},
		"away for an hour": {blind, func(s *Scenario) {
			s.Behaviours = []Behaviour{{Kind: Offline, Share: 0.3, For: plan.Duration(20 * time.Minute)}}
		}, plan.Done, [2]int{1800, 2000}, "run it"},
		"aborted": {canaryFirst(), func(s *Scenario) {
			s.People = []Action{{At: plan.Duration(2 * time.Minute), Do: plan.Abort, By: "ann"}}
		}, plan.Aborted, [2]int{35, 40}, "aborted by ann"},
		"paused and gone on with": {canaryFirst(), func(s *Scenario) {
			s.People = []Action{{At: plan.Duration(time.Minute), Do: plan.Pause}, {At: plan.Duration(10 * time.Hour), Do: plan.Resume}}
		}, plan.Done, [2]int{1800, 2000}, "quality: guard"},
	} {
		s := Scenario{Devices: fleetSize, Seed: 3, Silent: 0.03, Broken: 0.02}
		tt.change(&s)
		o, err := Run(tt.plan, s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if o.Final != tt.final || o.Reached < tt.reached[0] || o.Reached > tt.reached[1] || !strings.Contains(o.State.Reason, tt.reason) {
			t.Errorf("%s: %s after %s, reached %d: %s; want %s, %v, %s", name, o.Final, o.Took, o.Reached, o.State.Reason, tt.final, tt.reached, tt.reason)
		}
		if again, err := Run(tt.plan, s); err != nil || !reflect.DeepEqual(o, again) {
			t.Errorf("%s: the same rehearsal went another way", name)
		}
		var b strings.Builder
		if err := o.WriteTimeline(&b); err != nil || !strings.Contains(b.String(), "ended "+string(tt.final)) || !strings.Contains(b.String(), o.State.Reason) {
			t.Errorf("%s: timeline\n%s%v", name, b.String(), err)
		}
	}
}

// TestSilentDevicesAreNamed: those that do not get to the version by the deadline.
func TestSilentDevicesAreNamed(t *testing.T) {
	p := plan.Plan{Watch: -1, Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 50}, Quality: plan.Off, Deadline: plan.Duration(time.Hour)}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	o, err := Run(p, Scenario{Devices: 500, Silent: 0.01, Behaviours: []Behaviour{{Kind: Silent, Share: 0.03}}})
	if err != nil || o.Final != plan.Done {
		t.Fatalf("%s, %v", o.Final, err)
	}
	if n := len(o.Lost); n < 3 || n > 15 || o.Lost[0].Loss != quality.Silent || !strings.HasPrefix(o.Lost[0].Device, "device-") {
		t.Errorf("lost %+v", o.Lost)
	}
}

func TestRepeat(t *testing.T) {
	calls := 0
	bad, err := Repeat(canaryFirst(), Scenario{Devices: fleetSize, Ratio: 1.3}, 20, func(int) { calls++ })
	if err != nil || bad.Through != 0 || bad.Stopped != 20 || bad.Finals[plan.Stopped] != 20 || calls != 20 || bad.Decided < plan.Duration(5*time.Minute) {
		t.Errorf("30 %% worse: %+v, %v", bad, err)
	}
	good, err := Repeat(canaryFirst(), Scenario{Devices: fleetSize, Ratio: 0.9}, 20, nil)
	if err != nil || good.Through != 20 || good.Stopped != 0 || good.ThroughUpper != 1 {
		t.Errorf("10 %% better: %+v, %v", good, err)
	}
}

// TestUpper95 against 1 − 0.05^(1/n), which it is where nothing was seen, and a
// table of binomial bounds.
func TestUpper95(t *testing.T) {
	for _, tt := range []struct {
		k, n int
		want float64
	}{{0, 1000, 1 - math.Pow(0.05, 1.0/1000)}, {0, 20, 1 - math.Pow(0.05, 1.0/20)}, {1, 10, 0.394163}, {10, 10, 1}} {
		if got := upper95(tt.k, tt.n); math.Abs(got-tt.want) > 1e-5 {
			t.Errorf("upper95(%d, %d) = %v, want %v", tt.k, tt.n, got, tt.want)
		}
	}
}

func TestBadScenarios(t *testing.T) {
	for name, change := range map[string]func(*Scenario){
		"devices":        func(s *Scenario) { s.Devices = -1 },
		"many devices":   func(s *Scenario) { s.Devices = maxDevices + 1 },
		"ratio":          func(s *Scenario) { s.Ratio = -1 },
		"no number":      func(s *Scenario) { s.Ratio = math.NaN() },
		"silent":         func(s *Scenario) { s.Silent = 1.5 },
		"broken":         func(s *Scenario) { s.Broken = -0.1 },
		"sample":         func(s *Scenario) { s.Sample = plan.Duration(time.Millisecond) },
		"until":          func(s *Scenario) { s.Until = -1 },
		"group":          func(s *Scenario) { s.Groups = []Group{{Share: 0.5}} },
		"groups":         func(s *Scenario) { s.Groups = []Group{{Name: "a", Share: 0.6}, {Name: "b", Share: 0.6}} },
		"kind":           func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: "slient", Share: 1}} },
		"share":          func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Silent}} },
		"group of":       func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Silent, Share: 1, Group: "x"}} },
		"after":          func(s *Scenario) { s.Behaviours = []Behaviour{{Kind: Silent, Share: 1, After: -1}} },
		"person":         func(s *Scenario) { s.People = []Action{{Do: "sleep"}} },
		"person's time":  func(s *Scenario) { s.People = []Action{{Do: plan.Abort, At: -1}} },
		"tick of nobody": func(s *Scenario) { s.People = []Action{{Do: plan.Tick}} },
	} {
		s := Scenario{Devices: 50}
		change(&s)
		if _, err := Run(plan.Plan{}, s); !errors.Is(err, ErrScenario) {
			t.Errorf("%s: %v, want ErrScenario", name, err)
		}
	}
	if _, err := Run(plan.Plan{Stages: []plan.Stage{{}}}, Scenario{}); !errors.Is(err, plan.ErrPlan) {
		t.Errorf("a bad plan: %v", err)
	}
}
