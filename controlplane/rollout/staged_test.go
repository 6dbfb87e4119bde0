package rollout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// An acre is a fleet of devices that do at once what their wants say, and a
// control plane beside it, on a clock of its own: a minute at a time.
type acre struct {
	*rig
	t       testing.TB
	at      time.Time
	devices []*fake
	v       []protocol.Digest
	rng     *rand.Rand
}

// A fake device runs what it is told, unless its fields say otherwise.
type fake struct {
	id    string
	ratio float64 // of its errors under the candidate to those under the other
	// What happens once it runs the candidate.
	refuses, falls bool // it fails on it, falls silent
	offline        bool
	willed         bool // the broker has told that it is
	mute           bool // it is connected, and says nothing
	pinned         bool // its owner holds what it runs

	envelope []byte // of the last want it read
	want     protocol.Want
	have     protocol.ModelHave
	boot     uint32
	ran      []protocol.Digest // all that it ever ran
	sums     map[uint32]protocol.Quality
}

// newAcre returns n devices on version 1 of m, of two hardware revisions, and
// version 2 that is ready.
func newAcre(t testing.TB, n int) *acre {
	a := &acre{rig: newRig(t), t: t, at: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), rng: rand.New(rand.NewPCG(1, 1))}
	a.Rollouts.clock = func() time.Time { return a.at }
	err := a.store.Update(t.Context(), func(tx store.Tx) error {
		for i := range n {
			d := &fake{id: fmt.Sprintf("d%03d", i), ratio: 1, boot: 1, sums: map[uint32]protocol.Quality{}}
			a.devices = append(a.devices, d)
			if err := tx.PutDevice(t.Context(), store.Device{ID: d.id, Token: []byte{1}, Created: a.at, Labels: map[string]string{"hw": []string{"rev1", "rev2"}[min(i%5, 1)]}}); err != nil {
				return err
			}
			if err := tx.SetJoined(t.Context(), d.id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a.v = a.versions(3)
	a.start("m:v1", "all")
	a.minutes(1)
	return a
}

// minutes lets time go on.
func (a *acre) minutes(n int) {
	a.t.Helper()
	for range n {
		a.at = a.at.Add(time.Minute)
		a.live()
		if err := a.Advance(a.t.Context(), a.at); err != nil {
			a.t.Fatal(err)
		}
		a.live() // what was just said takes effect at once
	}
}

// live lets each device read its want and report.
func (a *acre) live() {
	a.t.Helper()
	a.flush()
	var reports []Report
	for _, d := range a.devices {
		reports = append(reports, d.live(a)...)
	}
	if err := a.Handle(a.t.Context(), reports...); err != nil {
		a.t.Fatal(err)
	}
}

func (d *fake) live(a *acre) (reports []Report) {
	say := func(kind protocol.TopicKind, b []byte, err error) {
		if err != nil {
			a.t.Fatal(err)
		}
		reports = append(reports, Report{d.id, kind, b})
	}
	switch {
	case d.mute:
		return nil
	case d.offline:
		if !d.willed {
			say(protocol.TopicUp, []byte("offline"), nil)
		}
		d.willed = true
		return reports
	}
	d.willed = false
	say(protocol.TopicUp, []byte("online"), nil)
	if b := a.broker.retained[protocol.WantTopic("default", d.id)]; b != nil && !bytes.Equal(b, d.envelope) {
		var env artifact.Envelope
		if err := errors.Join(env.UnmarshalBinary(b), d.want.UnmarshalBinary(env.Payload)); err != nil {
			a.t.Fatal(err)
		}
		d.envelope = b
		d.obey(a)
		have := protocol.Have{Format: 1, Boot: uint64(d.boot), Epoch: d.want.Epoch, Rev: d.want.Rev, Models: map[string]protocol.ModelHave{"m": d.have}}
		b, err := have.AppendBinary(nil)
		say(protocol.TopicHave, b, err)
	}
	if d.falls && d.have.Active == a.v[1] {
		return reports
	}
	if q, ok := d.compare(a); ok {
		b, err := q.AppendBinary(nil)
		say(protocol.TopicQuality, b, err)
	}
	return reports
}

func (d *fake) obey(a *acre) {
	m := d.want.Models["m"]
	d.have.Phase, d.have.Hold = protocol.PhaseIdle, ""
	if d.pinned {
		d.have.Hold = protocol.HoldPinned
	}
	if d.pinned && m.Active.Digest != d.have.Active && !d.have.Active.IsZero() {
		d.have.Failed = &protocol.Failure{Digest: m.Active.Digest, Epoch: d.want.Epoch, Rev: d.want.Rev, Code: protocol.HoldPinned, Message: "the device's owner keeps m:v1"}
		return
	}
	if d.refuses && m.Active.Digest == a.v[1] {
		d.have.Failed = &protocol.Failure{Digest: a.v[1], Epoch: d.want.Epoch, Rev: d.want.Rev, Code: "golden", Message: "a golden vector does not reproduce"}
		return
	}
	if m.Active.Digest != d.have.Active {
		d.have.Previous, d.have.Active = d.have.Active, m.Active.Digest
		d.ran = append(d.ran, d.have.Active)
	}
	d.have.Candidate = protocol.Digest{}
	if m.Shadow != nil {
		d.have.Candidate = m.Shadow.Digest
	}
}

// compare is what it tells of its pairs: ten new ones each minute, most of the time.
func (d *fake) compare(a *acre) (protocol.Quality, bool) {
	j := d.want.Judge
	if j == nil || j.Until < a.at.UnixMilli() {
		return protocol.Quality{}, false
	}
	pair := [2]protocol.Digest{d.have.Previous, d.have.Active}
	flags := uint8(0)
	if !d.have.Candidate.IsZero() {
		pair, flags = [2]protocol.Digest{d.have.Active, d.have.Candidate}, protocol.QualityShadow
	}
	q := d.sums[j.Stage]
	q.Format, q.Flags, q.Stage, q.Boot = 1, flags, j.Stage, d.boot
	q.A, q.B = [8]byte(pair[0][:8]), [8]byte(pair[1][:8])
	q.LastS += 60
	for range 10 {
		e := math.Abs(a.rng.NormFloat64())
		b := e * d.ratio * math.Exp(0.3*a.rng.NormFloat64()-0.045) // of mean 1
		q.Pairs++
		q.SumA, q.SumB = q.SumA+e, q.SumB+b
		q.SquareA, q.SquareB = q.SquareA+e*e, q.SquareB+b*b
		q.MaxA, q.MaxB = max(q.MaxA, float32(e)), max(q.MaxB, float32(b))
	}
	d.sums[j.Stage] = q
	return q, a.rng.IntN(10) > 0 // QoS 0
}

// worse makes the candidate so much worse on the devices that match.
func (a *acre) worse(ratio float64, match func(i int) bool) {
	for i, d := range a.devices {
		if match(i) {
			d.ratio = ratio
		}
	}
}

func everyOne(int) bool { return true }

func ann(t testing.TB) context.Context { return audit.By(t.Context(), "ann") }

func (a *acre) plan(p plan.Plan) Staged {
	a.t.Helper()
	return a.planTo("m:v2", "all", p)
}

func (a *acre) planTo(ref, to string, p plan.Plan) Staged {
	a.t.Helper()
	target, err := ParseTarget(to)
	if err != nil {
		a.t.Fatal(err)
	}
	d, err := a.Draft(a.t.Context(), ref, target, func(int, int, bool) (*plan.Plan, error) { return &p, nil })
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.StartPlan(ann(a.t), d); err != nil {
		a.t.Fatal(err)
	}
	model, _, _ := strings.Cut(ref, ":")
	return a.stagedOf(model)
}

func (a *acre) staged() Staged {
	a.t.Helper()
	return a.stagedOf("m")
}

func (a *acre) stagedOf(model string) Staged {
	a.t.Helper()
	s, err := a.Staged(a.t.Context(), model)
	if err != nil {
		a.t.Fatal(err)
	}
	a.counted(s)
	return s
}

// counted compares the counters that are kept with the rows.
func (a *acre) counted(s Staged) {
	a.t.Helper()
	rows := map[string]int{}
	err := a.store.View(a.t.Context(), func(tx store.Tx) error {
		seats, err := tx.Seats(a.t.Context(), s.Rollout.ID, 0, plan.All)
		for _, seat := range seats {
			rows[seat.State]++
		}
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	kept := map[string]int{}
	for _, stage := range s.Stages {
		for state, n := range stage.Counts {
			kept[state] += n
		}
	}
	if fmt.Sprint(rows) != fmt.Sprint(kept) {
		a.t.Errorf("counters are %v, the rows %v", kept, rows)
	}
}

// until lets time go on to a phase and stage, for so many minutes at most.
func (a *acre) until(phase plan.Phase, stage int, most int) Staged {
	a.t.Helper()
	for range most {
		a.minutes(1)
		if s := a.staged(); s.State.Phase == phase && s.State.Stage == stage {
			return s
		}
	}
	s := a.staged()
	a.t.Fatalf("after %d minutes it is %s at stage %d, want %s at %d: %s", most, s.State.Phase, s.State.Stage, phase, stage, s.Text)
	return s
}

// running counts the devices that run, have in shadow, and ever ran the candidate.
func (a *acre) running() (active, shadow, ever int) {
	for _, d := range a.devices {
		if d.have.Active == a.v[1] {
			active++
		}
		if d.have.Candidate == a.v[1] {
			shadow++
		}
		if slices.Contains(d.ran, a.v[1]) {
			ever++
		}
	}
	return active, shadow, ever
}

func (a *acre) wantRunning(active, shadow, ever int) {
	a.t.Helper()
	if x, y, z := a.running(); x != active || y != shadow || z != ever {
		a.t.Errorf("%d devices run the candidate, %d in shadow, %d ever did; want %d, %d, %d", x, y, z, active, shadow, ever)
	}
}

func TestShadowFirst(t *testing.T) {
	a := newAcre(t, 90)
	p := plan.ShadowFirst(90)
	p.Stages[0].Devices, p.Watch = plan.Amount{Count: 60}, plan.Duration(20*time.Minute)
	a.plan(p)
	a.minutes(2)
	a.wantRunning(0, 60, 0)
	for _, d := range a.devices {
		if (d.want.Judge != nil) != (d.have.Candidate == a.v[1]) {
			t.Fatalf("%s is judged: %v, with %v in shadow", d.id, d.want.Judge, d.have.Candidate.Short())
		}
	}
	s := a.until(plan.Running, 1, 90)
	if !strings.HasPrefix(s.Log[0], "PASSED the shadow after ") || !strings.Contains(s.Log[0], "v2 against v1: ") || !strings.HasSuffix(s.Log[0], "limit 5 %. Next: 40 devices.") {
		t.Errorf("the shadow came to %q", s.Log[0])
	}
	a.wantRunning(40, 20, 40)
	pairs := a.sumsOf(s)
	a.until(plan.Running, 3, 20)
	if later := a.sumsOf(a.staged()); later <= pairs {
		t.Errorf("%d pairs after activation, %d before: they did not go on under one number", later, pairs)
	}
	a.wantRunning(90, 0, 90)
	a.until(plan.Watching, 3, 10)
	looked := a.staged().State.Looks
	s = a.until(plan.Done, 3, 30)
	if n := s.State.Looks - looked; n != 20 {
		t.Errorf("done after %d looks, want 20 minutes of them", n)
	}
	for _, d := range a.devices {
		if d.want.Judge != nil || d.want.Models["m"].Shadow != nil {
			t.Fatalf("%s is told to judge when all is done", d.id)
		}
	}
	looks, err := a.Looks(t.Context(), s.Rollout.ID, 0, 10000)
	if err != nil || len(looks) != s.State.Looks || looks[20].Verdict == nil {
		t.Errorf("%d looks are recorded of %d: %v", len(looks), s.State.Looks, err)
	}
}

func (a *acre) sumsOf(s Staged) uint64 {
	var n uint64
	err := a.store.View(a.t.Context(), func(tx store.Tx) error {
		rows, err := tx.Pairs(a.t.Context(), s.State.Judge)
		for _, r := range rows {
			var q protocol.Quality
			err = errors.Join(err, q.UnmarshalBinary(r.Report))
			n += uint64(q.Pairs)
		}
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

func TestWorseCandidateStopsInShadow(t *testing.T) {
	a := newAcre(t, 120)
	a.worse(1.2, everyOne)
	a.plan(plan.ShadowFirst(120))
	s := a.until(plan.Stopped, 0, 30)
	a.wantRunning(0, 0, 0)
	if s.State.Verdict.Reason != "quality" || !strings.HasPrefix(s.Text, "STOPPED in shadow after ") {
		t.Errorf("text is %q", s.Text)
	}
}

func TestWorseCandidateStopsAtTheCanary(t *testing.T) {
	a := newAcre(t, 160)
	a.worse(1.2, everyOne)
	p := plan.CanaryFirst(160)
	p.Stages[0].Devices = plan.Amount{Count: 50}
	a.plan(p)
	s := a.until(plan.Stopped, 0, 60)
	a.wantRunning(0, 0, 50)
	if s.Back != "All 50 devices are back on v1." || !strings.Contains(s.Text, "v2's error is ") || !strings.HasSuffix(s.Text, s.Back) {
		t.Errorf("text is %q", s.Text)
	}
	for _, d := range a.devices {
		if m := d.want.Models["m"]; m.Active.Digest != a.v[0] {
			t.Fatalf("%s is wanted to run %s", d.id, m.Active.Digest.Short())
		}
	}
	if counts := a.status().Counts; counts[Active] != 160 {
		t.Errorf("states are %v", counts)
	}
}

func TestDeviceThatIsAwayReturnsWhenItIsBack(t *testing.T) {
	a := newAcre(t, 80)
	p := plan.CanaryFirst(80)
	p.Stages[0].Devices = plan.Amount{Count: 40}
	a.plan(p)
	a.minutes(2)
	var away *fake
	for _, d := range a.devices {
		if d.have.Active == a.v[1] {
			away = d
		}
	}
	away.offline = true
	if _, err := a.Command(ann(t), "m", Abort); err != nil {
		t.Fatal(err)
	}
	a.minutes(1)
	a.wantRunning(1, 0, 40)
	if s := a.staged(); s.Back != "39 of 40 devices are back on v1." || s.State.Reason != "aborted by ann" {
		t.Errorf("%q, %q", s.Back, s.State.Reason)
	}
	away.offline = false
	a.minutes(1)
	a.wantRunning(0, 0, 40)
	if s := a.staged(); s.Back != "All 40 devices are back on v1." {
		t.Errorf("%q", s.Back)
	}
	if n := len(away.want.Models["m"].Active.Transfers); away.have.Previous != a.v[1] || n == 0 {
		t.Errorf("%s went back with %d transfers on offer and has %v cached", away.id, n, away.have.Previous.Short())
	}
}

// TestDownloadsOfAStageStayBelowTheBudget: each device spreads its own over the time
// that all of the stage together may take, also where a stage is widened.
func TestDownloadsOfAStageStayBelowTheBudget(t *testing.T) {
	a := newAcre(t, 120)
	a.worse(1.04, everyOne) // neither good nor bad enough for the canary
	p := plan.CanaryFirst(120)
	p.Stages[0].Devices, p.Stages[1].Devices = plan.Amount{Count: 40}, plan.Amount{Count: 60}
	p.Stages[0].MPass, p.Stages[0].MStop = 1.02, 1.2
	p.Stages[0].Deadline = plan.Duration(10 * time.Minute)
	p.BytesPerSecond = 1000
	s := a.plan(p)
	seconds := func(devices int) uint32 {
		return uint32(math.Ceil(float64(devices) * float64(s.State.DeviceBytes) / 1000))
	}
	spread := func() map[uint32]int {
		out := map[uint32]int{}
		for _, d := range a.devices {
			out[d.want.JitterS]++
		}
		return out
	}
	a.minutes(1)
	if got, want := spread(), (map[uint32]int{seconds(40): 40, 0: 80}); !maps.Equal(got, want) {
		t.Errorf("devices by the seconds over which they spread: %v, want %v", got, want)
	}
	a.minutes(10)
	if s := a.staged(); !s.State.Widened {
		t.Fatalf("not widened: %s", s.Text)
	}
	if got, want := spread(), (map[uint32]int{seconds(40): 40, seconds(60): 60, 0: 20}); !maps.Equal(got, want) {
		t.Errorf("of a widened stage: %v, want %v", got, want)
	}
}

func TestGroupAndSilenceAndFailuresStop(t *testing.T) {
	for _, tt := range []struct {
		name   string
		broken func(a *acre)
		text   string
	}{
		{"one hardware revision", func(a *acre) { a.worse(1.4, func(i int) bool { return i%5 == 0 }) }, "hw=rev1"},
		{"silence after activation", func(a *acre) {
			for i, d := range a.devices {
				d.falls = i%4 == 0
			}
		}, "silent, elsewhere 0 %"},
		{"failures", func(a *acre) {
			for i, d := range a.devices {
				d.refuses = i%4 == 0
			}
		}, "failed updates"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAcre(t, 120)
			tt.broken(a)
			p := plan.CanaryFirst(120)
			p.Stages[0].Devices = plan.Amount{Count: 60}
			a.plan(p)
			s := a.until(plan.Stopped, 0, 60)
			if !strings.Contains(s.Text, tt.text) {
				t.Errorf("text is %q, want one about %q", s.Text, tt.text)
			}
			for _, d := range a.devices {
				if d.have.Active != a.v[0] {
					t.Errorf("%s runs %s", d.id, d.have.Active.Short())
				}
			}
		})
	}
}

func TestFewDevicesAreForAPerson(t *testing.T) {
	a := newAcre(t, 12)
	p := plan.CanaryFirst(12)
	p.Stages[0].Devices = plan.Amount{Count: 3}
	a.plan(p)
	s := a.until(plan.Held, 0, 20)
	if want := "HELD: 3 devices are too few to judge the quality; a person promotes."; s.Text != want {
		t.Errorf("text is %q, want %q", s.Text, want)
	}
	a.minutes(60)
	a.wantRunning(3, 0, 3)
	for _, stage := range []int{1, 2} {
		if _, err := a.Command(ann(t), "m", Promote); err != nil {
			t.Fatal(err)
		}
		s = a.until(plan.Held, stage, 20)
		if s.State.History[len(s.State.History)-1].Phase != plan.Held {
			t.Errorf("history is %+v", s.State.History)
		}
	}
	a.wantRunning(12, 0, 12)
	if _, err := a.Command(ann(t), "m", Promote); err != nil {
		t.Fatal(err)
	}
	if s := a.staged(); s.State.Phase != plan.Watching {
		t.Errorf("phase is %s: %s", s.State.Phase, s.Text)
	}
}

// healthOnly is a plan for a fleet too small to judge.
func healthOnly(canary int) plan.Plan {
	return plan.Plan{Stages: []plan.Stage{
		{Name: "canary", Devices: plan.Amount{Count: canary}, Quality: plan.Off, Minimum: plan.Duration(2 * time.Minute)},
		{Devices: plan.Amount{Percent: 100}, Quality: plan.Off, Minimum: -1},
	}}
}

func TestExplicitHealthChecksDecideInASmallFleet(t *testing.T) {
	a := newAcre(t, 10)
	a.plan(healthOnly(2))
	a.minutes(1)
	a.wantRunning(2, 0, 2)
	s := a.until(plan.Done, 1, 10)
	a.wantRunning(10, 0, 10)
	if s.Log[0] != "PASSED stage canary after 2m: 2 of 2 run it." {
		t.Errorf("log is %q", s.Log)
	}

	a = newAcre(t, 10)
	for _, d := range a.devices {
		d.refuses = true
	}
	a.plan(healthOnly(2))
	s = a.until(plan.Stopped, 0, 10)
	a.wantRunning(0, 0, 0)
	head, tail := "STOPPED at stage canary after 1m (failed updates: 100 %, limit 5 %). At fault: d00", " (failed). All 2 devices are back on v1."
	if !strings.HasPrefix(s.Text, head) || !strings.HasSuffix(s.Text, tail) {
		t.Errorf("text is %q, want %q…%q", s.Text, head, tail)
	}
}

func TestSilentDevicesFailAtTheDeadline(t *testing.T) {
	a := newAcre(t, 40)
	p := healthOnly(20)
	p.Stages[0].Deadline = plan.Duration(30 * time.Minute)
	a.plan(p)
	// The first of the draw go away before they have read their want.
	seats := a.seats()
	gone := map[string]bool{}
	for _, s := range seats[:2] {
		gone[s.Device] = true
	}
	for _, d := range a.devices {
		d.offline = gone[d.id]
	}
	s := a.until(plan.Stopped, 0, 40)
	if s.State.Ran != plan.Duration(30*time.Minute) || !strings.Contains(s.Text, "failed updates: 10 %, limit 5 %") {
		t.Errorf("stopped after %s: %q", s.State.Ran, s.Text)
	}

	// Fewer than may fail: the stage passes, and those are named and sent back.
	a = newAcre(t, 40)
	p.Stages[0].Devices = plan.Amount{Count: 25}
	a.plan(p)
	first := a.seats()[0].Device
	for _, d := range a.devices {
		d.offline = d.id == first
	}
	s = a.until(plan.Running, 1, 40)
	if want := (plan.Fault{Device: first, Loss: quality.Silent, Check: plan.CheckSilence, Figure: 1800, Bound: 1800}); len(s.State.Lost) != 1 || s.State.Lost[0] != want {
		t.Errorf("lost are %v, want %s", s.State.Lost, first)
	}
	if got := a.wants(first); got != a.v[0] {
		t.Errorf("the silent device is wanted to run %s", got.Short())
	}
}

func (a *acre) seats() []store.Seat {
	a.t.Helper()
	var seats []store.Seat
	err := a.store.View(a.t.Context(), func(tx store.Tx) (err error) {
		seats, err = tx.Seats(a.t.Context(), a.staged().Rollout.ID, 0, plan.All)
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return seats
}

func TestPauseHoldsStagesButNotStops(t *testing.T) {
	a := newAcre(t, 60)
	p := plan.CanaryFirst(60)
	p.Stages[0].Devices = plan.Amount{Count: 40}
	a.plan(p)
	a.minutes(2)
	if _, err := a.Command(ann(t), "m", Pause); err != nil {
		t.Fatal(err)
	}
	a.minutes(40)
	a.wantRunning(40, 0, 40)
	if s := a.staged(); s.Text != "Paused by ann." || s.State.Verdict.Decision != "pass" {
		t.Errorf("text is %q after %s", s.Text, s.State.Verdict.Decision)
	}
	if _, err := a.Command(ann(t), "m", Resume); err != nil {
		t.Fatal(err)
	}
	a.until(plan.Running, 1, 2)
	if _, err := a.Command(ann(t), "m", Pause); err != nil {
		t.Fatal(err)
	}
	a.worse(3, everyOne)
	a.until(plan.Stopped, 1, 200)
	a.wantRunning(0, 0, 40)
	if _, err := a.Command(ann(t), "m", Resume); !errors.Is(err, ErrNotStaged) {
		t.Errorf("resume of a stopped rollout = %v, want ErrNotStaged", err)
	}
}

// TestSeedOfTheDraw: the order of the devices can be had again by a number that is
// recorded with the plan.
func TestSeedOfTheDraw(t *testing.T) {
	a := newAcre(t, 60)
	p := plan.CanaryFirst(60)
	first := a.planTo("m:v2", "all", p)
	second := a.planTo("m:v3", "all", p)
	if first.Plan.Seed == 0 || first.Plan.Seed == second.Plan.Seed || first.Plan.Seed > plan.MostSeed {
		t.Errorf("drawn by %d and %d", first.Plan.Seed, second.Plan.Seed)
	}
	p.Seed = first.Plan.Seed
	third := a.planTo("m:v2", "all", p)
	if third.Plan.Seed != p.Seed || !slices.Equal(a.order(third), a.order(first)) || slices.Equal(a.order(third), a.order(second)) {
		t.Errorf("by %d twice in the orders\n%v\n%v", p.Seed, a.order(first), a.order(third))
	}
	p.Seed++
	if other := a.planTo("m:v2", "all", p); other.Rollout.ID == third.Rollout.ID {
		t.Error("another seed is the same start")
	}
}

// order is that in which the devices get the version.
func (a *acre) order(s Staged) (ids []string) {
	err := a.store.View(a.t.Context(), func(tx store.Tx) error {
		seats, err := tx.Seats(a.t.Context(), s.Rollout.ID, 0, plan.All)
		for _, seat := range seats {
			ids = append(ids, seat.Device)
		}
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return ids
}

func TestNewerRolloutIsNeverBlocked(t *testing.T) {
	a := newAcre(t, 60)
	p := plan.CanaryFirst(60)
	p.Stages[0].Devices = plan.Amount{Count: 30}
	first := a.plan(p)
	if again := a.plan(p); again.Rollout.ID != first.Rollout.ID {
		t.Error("the same start again made another rollout")
	}
	a.minutes(3)
	a.wantRunning(30, 0, 30)
	second := a.planTo("m:v3", "all", healthOnly(5))
	a.minutes(1)
	a.wantRunning(0, 0, 30)
	ran := 0
	for _, d := range a.devices {
		if d.have.Active == a.v[2] {
			ran++
		}
	}
	if ran != 5 {
		t.Errorf("%d devices run the newer version, want 5", ran)
	}
	// And a start without a plan ends that one, too.
	third := a.start("m:v1", "all")
	s := a.staged()
	if s.Rollout.ID != second.Rollout.ID || s.State.Phase != plan.Superseded || !strings.Contains(s.State.Reason, fmt.Sprintf("rollout %d", third.Rollout.ID)) {
		t.Errorf("rollout %d is %s: %s", s.Rollout.ID, s.State.Phase, s.State.Reason)
	}
	a.minutes(1)
	if s := a.staged(); !s.Settled() || s.Stages[0].Counts[Returned] != 5 {
		t.Errorf("all devices run what the newer one wants, and of the older one are %v", s.Stages[0].Counts)
	}
	for _, d := range a.devices {
		if d.have.Active != a.v[0] {
			t.Errorf("%s runs %s", d.id, d.have.Active.Short())
		}
	}
}

func TestRollbackOfAStagedRolloutLeavesTheOthersAlone(t *testing.T) {
	a := newAcre(t, 60)
	a.start("m:v3", "all")
	a.minutes(1) // all run v3, and v1 before that
	p := healthOnly(20)
	p.Stages[0].Minimum = plan.Duration(time.Hour)
	a.plan(p)
	a.minutes(1)
	res := a.rollback("all")
	a.minutes(1)
	if len(res.Moved) != 20 || len(res.Refused) != 0 {
		t.Errorf("moved %d, refused %v; want the 20 that had it", len(res.Moved), res.Refused)
	}
	for _, d := range a.devices {
		if d.have.Active != a.v[2] {
			t.Fatalf("%s runs %s, want what it ran before the staged rollout", d.id, d.have.Active.Short())
		}
	}
	// One device alone: the rollout goes on without it.
	a.plan(p)
	a.minutes(1)
	var one string
	for _, d := range a.devices {
		if d.have.Active == a.v[1] {
			one = d.id
		}
	}
	a.rollback(one)
	a.minutes(1)
	s := a.staged()
	if s.State.Phase != plan.Running || s.Stages[0].Counts[Kept] != 1 || s.Stages[0].Counts[Failed] != 0 || a.wants(one) != a.v[2] {
		t.Errorf("phase %s, counts %v, %s wants %s", s.State.Phase, s.Stages[0].Counts, one, a.wants(one).Short())
	}
	a.rollback(one) // it is taken out already
	if did := a.rig.recorded(s.Rollout.ID); len(did) != 3 || did[2] != "rollout.rollback "+one {
		t.Errorf("recorded are %q, want that %s was taken out, once", did, one)
	}
}

func TestLateJoinersEnterTheLastStage(t *testing.T) {
	a := newAcre(t, 40)
	p := healthOnly(5)
	p.Stages[0].Minimum = plan.Duration(10 * time.Minute)
	a.plan(p)
	a.minutes(1)
	a.add("late", nil)
	if w, ok := a.stored("late"); !ok || w.Models["m"].Active.Digest != a.v[0] {
		t.Errorf("a device that joins during the canary wants %v, want the version in place", w.Models["m"].Active.Digest.Short())
	}
	a.until(plan.Running, 1, 20)
	if a.wants("late") != a.v[1] {
		t.Errorf("in the last stage it wants %s", a.wants("late").Short())
	}
	if a.add("later", nil); a.wants("later") != a.v[1] {
		t.Errorf("a device that joins in the last stage wants %s", a.wants("later").Short())
	}
	if s := a.staged(); s.Stages[1].Counts[Pending] != 2 {
		t.Errorf("counts are %v", s.Stages[1].Counts)
	}
}

// TestWatchedRolloutThatIsSupersededIsDone: what all have stays, and is what a device
// gets that joins, unless the newer rollout is over it.
func TestWatchedRolloutThatIsSupersededIsDone(t *testing.T) {
	a := newAcre(t, 40)
	p := healthOnly(5)
	p.Stages[1].Quality = plan.Paired
	a.plan(p)
	a.until(plan.Watching, 1, 60)
	a.start("m:v3", "hw=rev1")
	a.minutes(1)
	s := a.staged()
	if s.State.Phase != plan.Done || !strings.HasPrefix(s.Text, "DONE: all had it; superseded by rollout ") {
		t.Errorf("%s: %q", s.State.Phase, s.Text)
	}
	a.wantRunning(32, 0, 40)
	a.add("late", map[string]string{"hw": "rev2"})
	a.add("later", map[string]string{"hw": "rev1"})
	if x, y := a.wants("late"), a.wants("later"); x != a.v[1] || y != a.v[2] {
		t.Errorf("devices that join want %s and %s, want v2 and v3", x.Short(), y.Short())
	}
}

// A cutter is a store whose process is killed after so many transactions.
type cutter struct {
	*store.Store
	left int
}

var errKilled = errors.New("killed")

func (c *cutter) Update(ctx context.Context, f func(store.Tx) error) error {
	if c.left == 0 {
		return errKilled
	}
	c.left--
	return c.Store.Update(ctx, f)
}

// TestKilledAtEveryTransaction kills the control plane at each of its
// transactions in turn, from the start of a rollout to its end: another one on
// the same store comes to the same.
func TestKilledAtEveryTransaction(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ratio float64
		want  plan.Phase
	}{{"a good version", 1, plan.Done}, {"one that is worse", 1.5, plan.Stopped}} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAcre(t, 40)
			a.worse(tt.ratio, everyOne)
			p := plan.CanaryFirst(40)
			p.Watch = plan.Duration(10 * time.Minute)
			p.Stages[2].Minimum = -1
			a.plan(p)
			cuts := 0
			for minute := 0; a.staged().State.Phase.Live(); minute++ {
				if minute > 200 {
					t.Fatalf("still %s: %s", a.staged().State.Phase, a.staged().Text)
				}
				a.at = a.at.Add(time.Minute)
				a.live()
				for n := 0; ; n++ { // n transactions, then the end of the process
					a.reborn()
					cut := &cutter{a.store, n}
					a.Rollouts.store = cut
					err := a.Advance(t.Context(), a.at)
					a.Rollouts.store = a.store
					if err == nil {
						break
					}
					if !errors.Is(err, errKilled) {
						t.Fatal(err)
					}
					cuts++
				}
				a.reborn()
				a.Republish()
				a.live()
			}
			s := a.staged()
			if s.State.Phase != tt.want {
				t.Errorf("it ends %s: %s, want %s", s.State.Phase, s.Text, tt.want)
			}
			want := a.v[1]
			if tt.want == plan.Stopped {
				want = a.v[0]
			}
			for _, d := range a.devices {
				if d.have.Active != want || d.want.Judge != nil {
					t.Errorf("%s runs %s, want %s, judged %v", d.id, d.have.Active.Short(), want.Short(), d.want.Judge)
				}
			}
			if cuts < 10 {
				t.Errorf("killed %d times only", cuts)
			}
		})
	}
}

// reborn is another process on the same store.
func (a *acre) reborn() {
	a.t.Helper()
	r, err := New(Config{Store: a.store, Registry: a.reg, Fleet: "default", Key: a.keys.Rollout, Publisher: a.broker})
	if err != nil {
		a.t.Fatal(err)
	}
	r.clock = a.clock
	a.Rollouts = r
}

// Two rollouts that go on at the same moment tell the same devices: each want says
// what both do.
func TestTwoRolloutsTellADeviceAtOnce(t *testing.T) {
	a := newAcre(t, 3)
	n := registrytest.Add(t, a.reg, "n", 50).Digest
	for _, ref := range []string{"m:v2", "n:v1"} {
		d, err := a.Draft(t.Context(), ref, Target{All: true}, func(int, int, bool) (*plan.Plan, error) {
			return &plan.Plan{Stages: []plan.Stage{{Devices: plan.Amount{Percent: 100}, Quality: plan.Off}}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.StartPlan(ann(t), d); err != nil {
			t.Fatal(err)
		}
	}
	a.at = a.at.Add(time.Minute)
	if err := a.Advance(t.Context(), a.at); err != nil {
		t.Fatal(err)
	}
	for _, d := range a.devices {
		w, _ := a.stored(d.id)
		if w.Models["m"].Active.Digest != a.v[1] || w.Models["n"].Active.Digest != n {
			t.Errorf("the want of %s is %+v", d.id, w.Models)
		}
	}
}

func TestLooksAtAStageInWhichNothingHappensThinOut(t *testing.T) {
	const day = 24 * 60
	verdict := quality.Verdict{Decision: quality.Wait, Reason: "open"}
	before := plan.State{Phase: plan.Watching, Verdict: &verdict}
	kept := 0
	for minute := 1; minute <= day; minute++ {
		after := before
		after.Ran = plan.Duration(time.Duration(minute) * time.Minute)
		if telling(before, after, plan.Outcome{Ran: after.Ran, Verdict: &verdict}) {
			kept++
		}
		before = after
	}
	if want := 60 + (day-60)/15; kept != want {
		t.Errorf("%d looks of a day are recorded, want %d", kept, want)
	}
	// At a minute that is none of those.
	before.Ran = plan.Duration(100 * time.Minute)
	for name, c := range map[string]struct {
		after plan.State
		seen  quality.Verdict
	}{
		"another phase":   {plan.State{Phase: plan.Done}, verdict},
		"another stage":   {plan.State{Phase: plan.Watching, Stage: 1}, verdict},
		"widened":         {plan.State{Phase: plan.Watching, Widened: true}, verdict},
		"another verdict": {before, quality.Verdict{Decision: quality.Pass, Reason: "open"}},
		"another reason":  {before, quality.Verdict{Decision: quality.Wait, Reason: "silence"}},
	} {
		if !telling(before, c.after, plan.Outcome{Ran: plan.Duration(101 * time.Minute), Verdict: &c.seen}) {
			t.Errorf("a look with %s is not recorded", name)
		}
	}
}
