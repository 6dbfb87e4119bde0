package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// faults reads all that a rollout names, in pages of so many.
func (a *acre) faults(rollout int64, limit int) (all []plan.Fault) {
	a.t.Helper()
	for after := ""; ; after = all[len(all)-1].Device {
		page, err := a.Faults(a.t.Context(), rollout, after, limit)
		if err != nil {
			a.t.Fatal(err)
		}
		all = append(all, page...)
		if len(page) < limit {
			return all
		}
	}
}

func TestSilentDevicesThatStopAStageAreNamed(t *testing.T) {
	a := newAcre(t, 40)
	p := healthOnly(20)
	p.Stages[0].Deadline = plan.Duration(30 * time.Minute)
	a.plan(p)
	gone := []string{a.seats()[0].Device, a.seats()[1].Device}
	for _, d := range a.devices {
		d.offline = slices.Contains(gone, d.id)
	}
	s := a.until(plan.Stopped, 0, 40)
	var want []plan.Fault
	for _, id := range gone {
		want = append(want, plan.Fault{Device: id, Loss: quality.Silent, Check: plan.CheckSilence, Figure: 1800, Bound: 1800})
	}
	if !slices.Equal(s.State.Lost, want) || s.State.LostN != 2 || s.State.WorstN != 0 {
		t.Errorf("%d lost: %+v, want %+v", s.State.LostN, s.State.Lost, want)
	}
	if want := fmt.Sprintf("At fault: %s (silent), %s (silent).", gone[0], gone[1]); !strings.Contains(s.Text, want) {
		t.Errorf("text is %q, want one with %q", s.Text, want)
	}
	looks, err := a.Looks(t.Context(), s.Rollout.ID, 0, 1000)
	if err != nil || !strings.HasSuffix(looks[len(looks)-1].Seen(s.Plan, s.State, "v2"), fmt.Sprintf(" At fault: %s (silent), %s (silent).", gone[0], gone[1])) {
		t.Errorf("the record of the last look is %+v, %v", looks[len(looks)-1], err)
	}
	if n := len(a.faults(s.Rollout.ID, 1)); n != 2 {
		t.Errorf("the store names %d, want 2", n)
	}
}

func TestSilenceStopNamesTheSilent(t *testing.T) {
	a := newAcre(t, 120)
	for i, d := range a.devices {
		d.falls = i%4 == 0
	}
	p := canary(120, 60)
	a.plan(p)
	s := a.until(plan.Stopped, 0, 60)
	silent := 0
	for _, d := range a.devices {
		if d.falls && slices.Contains(d.ran, a.v[1]) {
			silent++
		}
	}
	if s.State.LostN != silent || len(s.State.Lost) != silent || s.State.WorstN != 0 {
		t.Errorf("%d lost of %d silent", s.State.LostN, silent)
	}
	for _, f := range s.State.Lost {
		if f.Check != plan.CheckSilence || f.Bound != 180 || f.Figure <= f.Bound || f.Figure > 600 {
			t.Errorf("%+v", f)
		}
	}
	if !strings.Contains(s.Text, "At fault: ") || !strings.Contains(s.Text, fmt.Sprintf(" and %d more.", silent-5)) {
		t.Errorf("text is %q", s.Text)
	}
}

func TestFailuresAreNamedWithTheirReasonBeyondWhatTheStateHolds(t *testing.T) {
	const n = 130
	a := newAcre(t, n)
	for _, d := range a.devices {
		d.refuses = true
	}
	a.plan(healthOnly(n))
	s := a.until(plan.Stopped, 0, 5)
	if s.State.LostN != n || len(s.State.Lost) != 100 {
		t.Errorf("%d lost, of which the state has %d; want %d and 100", s.State.LostN, len(s.State.Lost), n)
	}
	all := a.faults(s.Rollout.ID, 50)
	if len(all) != n {
		t.Fatalf("pages have %d, want %d", len(all), n)
	}
	want := plan.Fault{Device: "d129", Loss: quality.Refused, Check: plan.CheckUpdates, Message: "golden: a golden vector does not reproduce"}
	if all[n-1] != want {
		t.Errorf("the last is %+v, want %+v", all[n-1], want)
	}
}

func TestWorseGroupNamesItsDevices(t *testing.T) {
	a := newAcre(t, 120)
	a.worse(1.4, func(i int) bool { return i%5 == 0 })
	a.plan(canary(120, 60))
	s := a.until(plan.Stopped, 0, 60)
	if s.State.Verdict.Reason != quality.ReasonGroup || s.State.WorstN == 0 || s.State.WorstN > 24 {
		t.Fatalf("stopped by %s, %d named", s.State.Verdict.Reason, s.State.WorstN)
	}
	last := s.State.Worst[0].Figure
	for _, f := range s.State.Worst {
		if (f.Device[3]-'0')%5 != 0 || f.Check != plan.CheckQuality || f.Bound != 1.05 || f.Figure <= 1.05 || f.Figure > last {
			t.Errorf("%+v after %v", f, last)
		}
		last = f.Figure
	}
}

// TestRestartsOfAFewAreNamed: of those that are left, when others were lost before.
func TestRestartsOfAFewAreNamed(t *testing.T) {
	a := newAcre(t, 10)
	most, few := 0.6, 0.12 // one of eight, but not of ten
	p := healthOnly(4)
	p.Stages[0].Checks.MaxFailed, p.Stages[1].Checks.MaxFailed, p.Stages[1].Checks.MaxRestarted = &most, &most, &few
	p.Stages[1].Minimum = plan.Duration(5 * time.Minute)
	a.plan(p)
	seats := a.seats()
	for _, d := range a.devices {
		d.refuses = d.id == seats[0].Device || d.id == seats[1].Device
	}
	a.until(plan.Running, 1, 10)
	a.minutes(1)
	a.handle(seats[9].Device, protocol.TopicBirth, encode(t, protocol.Birth{Format: 1, Boot: plan.Crashes, T: a.at.UnixMilli()}))
	s := a.until(plan.Stopped, 1, 3)
	want := []plan.Fault{{Device: seats[9].Device, Check: plan.CheckRestarts, Figure: plan.Crashes, Bound: plan.Crashes - 1}}
	if !slices.Equal(s.State.Worst, want) || s.State.LostN != 2 {
		t.Errorf("%s: at fault are %+v, %d lost; want %+v, 2", s.State.Reason, s.State.Worst, s.State.LostN, want)
	}
}

// TestLostDevicesCountOnce: one that failed by itself in a stage is not found again
// in the next.
func TestLostDevicesCountOnce(t *testing.T) {
	a := newAcre(t, 120)
	p := canary(120, 60)
	a.plan(p)
	first := a.seats()[0].Device
	for _, d := range a.devices {
		d.falls = d.id == first
	}
	a.until(plan.Running, 1, 90)
	s := a.until(plan.Running, 2, 200)
	if s.State.LostN != 1 || len(s.State.Lost) != 1 || s.State.Lost[0].Device != first {
		t.Errorf("%d lost: %+v, want %s alone", s.State.LostN, s.State.Lost, first)
	}
}

// TestBrokenDevicesOfTheLastStageGoBack: those whose outputs are no numbers and those
// that crash, as it ends and as the watch does. Who is only silent, or offline, gets
// the version when it is back.
func TestBrokenDevicesOfTheLastStageGoBack(t *testing.T) {
	a := newAcre(t, 60)
	p := plan.CanaryFirst(60)
	p.Stages[0].Devices, p.Stages[1].Devices = plan.Amount{Count: 40}, plan.Amount{Count: 50}
	p.Stages[2].Minimum, p.Watch = plan.Duration(10*time.Minute), plan.Duration(30*time.Minute)
	p.Seed = 1
	a.plan(p)
	a.until(plan.Running, 2, 100)
	seats := a.seats()
	by := map[string]*fake{}
	for _, d := range a.devices {
		by[d.id] = d
	}
	broken, crashing, silent := by[seats[0].Device], by[seats[1].Device], by[seats[2].Device]
	mad := func(d *fake) {
		q := d.sums[d.want.Judge.Stage]
		q.BadB = 7
		d.sums[d.want.Judge.Stage] = q
	}
	mad(broken)
	silent.falls = true
	s := a.until(plan.Watching, 2, 20)
	if want := (plan.Fault{Device: broken.id, Loss: quality.NonFinite, Check: plan.CheckNumbers, Figure: 7}); len(s.State.Lost) != 1 || s.State.Lost[0] != want {
		t.Errorf("lost with the last stage are %+v, want %+v", s.State.Lost, want)
	}
	for range plan.Crashes {
		crashing.boot++
		a.handle(crashing.id, protocol.TopicBirth, encode(t, protocol.Birth{Format: 1, Boot: uint64(crashing.boot) + 10}))
	}
	s = a.until(plan.Done, 2, 60)
	if len(s.State.Lost) != 2 || s.State.Lost[1].Device != crashing.id || s.State.Lost[1].Loss != quality.Crashed {
		t.Errorf("lost with the watch are %+v, want %s too", s.State.Lost, crashing.id)
	}
	a.minutes(1)
	for d, want := range map[*fake]protocol.Digest{broken: a.v[0], crashing: a.v[0], silent: a.v[1]} {
		if d.have.Active != want {
			t.Errorf("%s runs %s, want %s", d.id, d.have.Active.Short(), want.Short())
		}
	}
	if s = a.staged(); s.Stages[0].Counts[Failed] != 2 || s.Stages[0].Counts[Active] != 38 {
		t.Errorf("counts are %v", s.Stages[0].Counts)
	}
}
