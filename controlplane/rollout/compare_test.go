package rollout

import (
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
)

func TestComparisonByGroup(t *testing.T) {
	a := newAcre(t, 60)
	a.worse(2, func(i int) bool { return i%5 == 0 }) // rev1
	a.plan(plan.ShadowOnly(60))
	a.minutes(4)
	c, err := a.Compare(t.Context(), "m")
	if err != nil || len(c.Groups) != 3 || c.InPlace != "v1" {
		t.Fatalf("comparison is %+v, %v", c, err)
	}
	all, rev1, rev2 := c.Groups[0], c.Groups[1], c.Groups[2]
	if all.Devices != 60 || all.Told != 60 || rev1.Group != "rev1" || rev1.Devices != 12 || rev2.Devices != 48 || rev1.Pairs+rev2.Pairs != all.Pairs {
		t.Errorf("comparison is %+v", c.Groups)
	}
	if r1, r2 := rev1.ErrorB/rev1.ErrorA, rev2.ErrorB/rev2.ErrorA; r1 < 1.9 || r1 > 2.1 || r2 < 0.95 || r2 > 1.05 {
		t.Errorf("ratios are %.3f and %.3f, want 2 and 1", r1, r2)
	}
	a.wantRunning(0, 60, 0)
}
