package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
)

// pin has the owners of devices hold what they run, or let go.
func (a *acre) pin(pinned bool, ids ...string) {
	for _, d := range a.devices {
		if slices.Contains(ids, d.id) {
			d.pinned, d.envelope = pinned, nil // it reports anew
		}
	}
}

func TestDevicesHeldByTheirOwnerAreNoPartOfAStage(t *testing.T) {
	a := newAcre(t, 10)
	p := healthOnly(5)
	p.Stages[0].Deadline = plan.Duration(10 * time.Minute)
	a.plan(p)
	held := []string{a.seats()[0].Device, a.seats()[2].Device}
	a.pin(true, held...) // after the draw
	s := a.until(plan.Running, 1, 10)
	if s.Log[0] != "PASSED stage canary after 2m: 3 of 3 run it." || s.State.LostN != 0 {
		t.Errorf("%q, %d lost", s.Log, s.State.LostN)
	}
	s = a.until(plan.Done, 1, 10)
	if slices.Sort(held); !slices.Equal(s.Kept, held) && !slices.Equal(s.Kept, []string{held[1], held[0]}) {
		t.Errorf("kept are %v, want %v", s.Kept, held)
	}
	a.wantRunning(8, 0, 8)
	a.pin(false, held...)
	a.minutes(1)
	if s := a.staged(); len(s.Kept) != 0 || s.Stages[0].Counts[Active] != 5 {
		t.Errorf("when they are unpinned: kept %v, counts %v", s.Kept, s.Stages[0].Counts)
	}
	a.wantRunning(10, 0, 10)
}

// TestAStageOfHeldDevicesDoesNotPass: that nobody ran the version says nothing of it.
func TestAStageOfHeldDevicesDoesNotPass(t *testing.T) {
	a := newAcre(t, 10)
	p := healthOnly(2)
	p.Stages[0].Deadline = plan.Duration(10 * time.Minute)
	a.plan(p)
	hold := func() (held []string) {
		held = []string{a.seats()[0].Device, a.seats()[1].Device}
		a.pin(true, held...)
		return held
	}
	hold()
	if s := a.until(plan.Stopped, 0, 12); s.State.Reason != "inconclusive: none of its devices may run it" {
		t.Errorf("stopped for %q", s.State.Reason)
	}
	a.plan(p)
	held := hold()
	a.minutes(5)
	a.pin(false, held[0])
	s := a.until(plan.Done, 1, 12)
	if s.Log[0] != "PASSED stage canary after 5m: 1 of 1 run it." {
		t.Errorf("%q", s.Log)
	}
}

// TestDevicesTakenOutAreNotJudged: a device that a person rolls back has not failed.
func TestDevicesTakenOutAreNotJudged(t *testing.T) {
	a := newAcre(t, 120)
	p := canary(120, 60)
	p.Stages[0].Checks.MaxFailed = new(float64)
	a.plan(p)
	a.minutes(1)
	var out []string
	for _, seat := range a.seats()[:20] {
		out = append(out, seat.Device)
	}
	a.rollback(strings.Join(out, ","))
	s := a.until(plan.Running, 1, 90)
	if v := s.State.History[0].Verdict; v.Assigned != 40 || v.Silent != 0 || s.State.LostN != 0 || s.Stages[0].Counts[Kept] != 20 {
		t.Errorf("%d judged, %d silent, %d lost, counts %v; want 40 judged and 20 kept", v.Assigned, v.Silent, s.State.LostN, s.Stages[0].Counts)
	}
	if _, err := a.Command(ann(t), "m", Abort); err != nil {
		t.Fatal(err)
	}
	a.minutes(1)
	if s := a.staged(); s.Stages[0].Counts[Returned] != 60 {
		t.Errorf("once it is aborted counts are %v", s.Stages[0].Counts)
	}
}

func TestDevicesHeldByTheirOwnerAreNotJudged(t *testing.T) {
	a := newAcre(t, 120)
	p := canary(120, 60)
	p.Stages[1].Hold = true
	a.plan(p)
	var held []string
	for _, seat := range a.seats()[:20] {
		held = append(held, seat.Device)
	}
	a.pin(true, held...)
	s := a.until(plan.Running, 1, 90)
	if v := s.State.History[0].Verdict; v.Assigned != 40 || v.Silent != 0 || s.State.LostN != 0 {
		t.Errorf("%d judged, %d silent, %d lost; want 40 and none", v.Assigned, v.Silent, s.State.LostN)
	}
	// One that is unpinned again has its time to report before it is silent.
	a.minutes(8)
	a.pin(false, held[0])
	for _, d := range a.devices {
		d.falls = d.id == held[0]
	}
	for _, want := range []int{0, 1} {
		a.minutes(3)
		if s := a.staged(); s.State.Stage != 1 || s.State.Verdict.Silent != want {
			t.Errorf("at stage %d %d are silent once one is unpinned, want %d", s.State.Stage, s.State.Verdict.Silent, want)
		}
	}
}

func TestDevicesHeldByTheirOwnerAreDrawnLast(t *testing.T) {
	a := newAcre(t, 40)
	a.pin(true, "d003", "d017")
	a.minutes(1)
	target, _ := ParseTarget("all")
	p := healthOnly(38)
	d, err := a.Draft(t.Context(), "m:v2", target, func(int, int, bool) (*plan.Plan, error) { return &p, nil })
	if err != nil {
		t.Fatal(err)
	}
	last := []string{d.order[38].ID, d.order[39].ID}
	if slices.Sort(last); !slices.Equal(last, []string{"d003", "d017"}) {
		t.Errorf("drawn last are %v", last)
	}
	if len(d.Warnings) != 1 || !strings.HasPrefix(d.Warnings[0], "2 devices are held on their version by their owner") {
		t.Errorf("warnings are %q", d.Warnings)
	}
}
