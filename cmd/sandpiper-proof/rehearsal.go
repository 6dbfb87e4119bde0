package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/rehearse"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

// rehearsals is how many seeds the claims about rates are of: none of them through
// is a bound of 0.3 %.
const rehearsals = 1000

// rehearsedFleet is the fleet that the quality check was chosen on.
func rehearsedFleet(ratio float64) scenario.Scenario {
	return scenario.Scenario{Devices: 10_000, Ratio: ratio, Silent: 0.05, Broken: 0.02}
}

// rehearsedPlans are the two plans, without the watch behind them.
func rehearsedPlans() []plan.Plan {
	plans := []plan.Plan{plan.ShadowFirst(10_000), plan.CanaryFirst(10_000)}
	for i := range plans {
		plans[i].Watch = -1
	}
	return plans
}

// rehearsed checks a rate of both plans on candidates of one error ratio.
func rehearsed(ratio, bar float64, rate func(rehearse.Rates) (n int, upper float64)) check {
	return func(ctx context.Context, h *house) (string, error) {
		var figures []string
		for _, p := range rehearsedPlans() {
			h.logf("%d rehearsals, %s", rehearsals, p.Name)
			r, err := rehearse.Repeat(ctx, p, rehearsedFleet(ratio), rehearsals, nil)
			if err != nil {
				return "", err
			}
			n, upper := rate(r)
			figures = append(figures, fmt.Sprintf("%s: %d of %d, below %.2f %%, decided after %s", p.Name, n, r.Rehearsals, 100*upper, r.Decided))
			if upper > bar {
				return strings.Join(figures, "; "), fmt.Errorf("%s: the rate may be %.2f %%, more than %.2f %%", p.Name, 100*upper, 100*bar)
			}
		}
		return strings.Join(figures, "; "), nil
	}
}

// silentRehearsed has 5 % of the devices fall silent as they get the version, in a
// plan that judges by updates alone.
func silentRehearsed(ctx context.Context, _ *house) (string, error) {
	few := 0.03
	p := plan.Plan{Stages: []plan.Stage{
		{Devices: plan.Amount{Percent: 10}, Quality: plan.Off, Deadline: plan.Duration(30 * time.Minute)}, {Devices: plan.Amount{Percent: 100}, Quality: plan.Off},
	}}
	p.Stages[0].Checks.MaxFailed = &few
	s := rehearsedFleet(1)
	s.Silent, s.Behaviours = 0.01, []scenario.Behaviour{{Kind: scenario.Silent, Share: 0.05}}
	o, err := rehearse.Run(ctx, p, s)
	if err != nil {
		return "", err
	}
	figure := fmt.Sprintf("%s after %s, %d devices had it: %s", o.Final, o.Took, o.Reached, o.State.Reason)
	if o.Final != plan.Stopped || o.Reached > 1000 {
		return figure, fmt.Errorf("the rollout went on")
	}
	return figure, nil
}
