package rehearse

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

// TestDifferenceInDifferences: a day of measuring, and then an equal version passes
// and one half worse goes back, at the first stage; nobody ever runs both.
func TestDifferenceInDifferences(t *testing.T) {
	for _, tt := range []struct {
		ratio   float64
		devices int
		final   plan.Phase
		reached int // devices that ran it, at most
		reason  string
	}{
		{1, 1300, plan.Done, 1300, ""},
		{1.5, 1300, plan.Stopped, 100, "quality: quality"},
		{1, 1050, plan.Stopped, 0, "inconclusive: 950 devices of a later stage tell their errors, and 1000 are needed"},
	} {
		p := plan.Plan{Evidence: plan.DiD, Seed: 1, Stages: []plan.Stage{
			{Name: "canary", Devices: plan.Amount{Count: 100}, Deadline: plan.Duration(30 * time.Hour)}, {Devices: plan.Amount{Percent: 100}, Minimum: -1},
		}}
		o, err := Run(t.Context(), p, scenario.Scenario{Devices: tt.devices, Ratio: tt.ratio, Sample: plan.Duration(30 * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		if o.Final != tt.final || o.Reached != tt.reached || !strings.Contains(o.State.Reason, tt.reason) {
			t.Errorf("%g times the error on %d devices: %s (%s), %d ran it; want %s, %d", tt.ratio, tt.devices, o.Final, o.State.Reason, o.Reached, tt.final, tt.reached)
		}
		if o.State.Judges != 0 || o.Moments[0].Phase != plan.Measuring || tt.reached > 0 && o.Moments[1].At != plan.Duration(24*time.Hour) {
			t.Errorf("%d judged pairs, %+v; want none, and a day of measuring", o.State.Judges, o.Moments)
		}
	}
}
