package rollout

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A teller has devices tell how far their versions were from the truth.
type teller struct {
	*acre
	boot   uint64
	seq    uint64
	counts map[string]map[protocol.Digest]protocol.VersionCount // by device
}

// tell adds n outputs of the version that answers to what each device counted, with
// errors of the given mean, and has all of them tell.
func (a *teller) tell(n uint64, mean func(i int, d *fake) float64) {
	a.t.Helper()
	a.seq++
	var reports []Report
	for i, d := range a.devices {
		if a.counts[d.id] == nil {
			a.counts[d.id] = map[protocol.Digest]protocol.VersionCount{}
		}
		c := a.counts[d.id][d.have.Active]
		c.Model, c.Version = "m", [8]byte(d.have.Active[:8])
		c.Answered, c.N, c.Sum = c.Answered+n, c.N+n, c.Sum+float64(n)*mean(i, d)
		a.counts[d.id][d.have.Active] = c
		u := protocol.Usage{Format: 1, Boot: a.boot, Seq: a.seq, T: a.at.UnixMilli()}
		for _, c := range a.counts[d.id] {
			u.Versions = append(u.Versions, c)
		}
		reports = append(reports, Report{d.id, protocol.TopicUsage, encode(a.t, u)})
	}
	if err := a.Handle(a.t.Context(), reports...); err != nil {
		a.t.Fatal(err)
	}
}

// restart has all devices start three times more, count an output of v in each of these
// starts, and start again. What is returned has those that run another version tell of
// the three once more, now from the start after: so each report is the last of its start.
func (a *teller) restart(v protocol.Digest) (again func()) {
	a.t.Helper()
	tell := func(after bool) {
		a.t.Helper()
		var reports []Report
		for _, d := range a.devices {
			if after && d.have.Active == v {
				continue
			}
			if after {
				birth := protocol.Birth{Format: 1, Boot: a.boot, T: a.at.UnixMilli()}
				reports = append(reports, Report{d.id, protocol.TopicBirth, encode(a.t, birth)})
			}
			for i, e := range []float64{0.1, 0.2, 0.3} { // whose sum depends on the order
				u := protocol.Usage{Format: 1, Boot: a.boot - 3 + uint64(i), Seq: 1, T: a.at.UnixMilli(), Versions: []protocol.VersionCount{
					{Model: "m", Version: [8]byte(v[:8]), Answered: 1, N: 1, Sum: e},
				}}
				reports = append(reports, Report{d.id, protocol.TopicUsage, encode(a.t, u)})
			}
		}
		if err := a.Handle(a.t.Context(), reports...); err != nil {
			a.t.Fatal(err)
		}
	}
	a.boot += 4
	a.counts = map[string]map[protocol.Digest]protocol.VersionCount{}
	tell(false)
	return func() {
		a.t.Helper()
		tell(true)
	}
}

// ran sets how long the stage has been under way.
func (a *acre) ran(d time.Duration) {
	a.t.Helper()
	err := a.store.Update(a.t.Context(), func(tx store.Tx) error {
		live, err := livePlans(a.t.Context(), tx, "m")
		if err != nil {
			return err
		}
		p := live[len(live)-1]
		before := p.state
		p.state.Ran = plan.Duration(d)
		return a.change(a.at).putPlan(a.t.Context(), tx, p, before)
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// TestDifferenceInDifferences: errors before and after on the devices of the stage,
// less what changed on the others at the same times; nothing runs beside anything.
func TestDifferenceInDifferences(t *testing.T) {
	const n, canary = 1070, 60
	a := &teller{acre: newAcre(t, n), boot: 1, counts: map[string]map[protocol.Digest]protocol.VersionCount{}}
	p := plan.Plan{Evidence: plan.DiD, Seed: 7, Stages: []plan.Stage{ // the same devices twice
		{Name: "canary", Devices: plan.Amount{Count: canary}}, {Devices: plan.Amount{Percent: 100}, Minimum: -1},
	}}
	large := p
	large.Stages = append([]plan.Stage{{Devices: plan.Amount{Count: n - 999}}}, p.Stages[1])
	target, _ := ParseTarget("all")
	_, err := a.Draft(t.Context(), "m:v2", target, func(int, int, bool) (*plan.Plan, error) { return &large, nil })
	if want := "with evidence did, 1000 devices that run another version must be left without this one, and there are 999"; !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), want) {
		t.Errorf("Draft = %v, want %q", err, want)
	}

	scale := func(i int, _ *fake) float64 { return math.Exp(math.Sin(float64(i))) }
	for _, tt := range []struct {
		ref   string
		ratio float64
		phase plan.Phase
	}{{"m:v2", 1.5, plan.Stopped}, {"m:v2", 1, plan.Done}} { // what the first one counted is of no account
		a.tell(50, func(int, *fake) float64 { return 1000 }) // before measuring: of no account
		a.planTo(tt.ref, "all", p)
		a.minutes(1)
		a.tell(100, scale)
		a.minutes(1)
		if s := a.staged(); s.State.Phase != plan.Measuring || !strings.Contains(s.Text, "that 1010 devices of a later stage tell") {
			t.Fatalf("%s: %s", s.State.Phase, s.Text)
		}
		if _, err := a.Command(ann(t), "m", Promote); !errors.Is(err, ErrNotStaged) {
			t.Errorf("promoted while it measures: %v", err)
		}
		candidate := a.digest(tt.ref)
		closeStarts := a.restart(candidate) // that all had it once is of no account
		a.ran(24 * time.Hour)
		a.minutes(1)
		closeStarts()
		s := a.staged()
		if s.State.Phase != plan.Running || s.State.Stage != 0 {
			t.Fatalf("after a day: %s", s.Text)
		}
		var gone, mute *fake
		for _, d := range a.devices {
			if d.want.Judge != nil || d.want.Models["m"].Shadow != nil {
				t.Fatalf("%s is told to judge", d.id)
			}
			if d.have.Active == candidate {
				gone, mute = d, gone
			}
		}
		a.tell(100, func(i int, d *fake) float64 {
			e := 1.1 * scale(i, d) * math.Exp(0.1*math.Sin(7*float64(i))) // all get worse
			if d.have.Active == candidate {
				e *= tt.ratio
			}
			return e
		})
		gone.offline, mute.mute = true, true // one that is connected, and has nothing to say, is not silent
		a.minutes(5)
		s = a.staged()
		if len(s.State.History) == 0 {
			t.Fatalf("undecided: %s", s.Text)
		}
		v := s.State.History[0].Verdict
		if math.Abs(v.Ratio/tt.ratio-1) > 0.05 || math.Abs(v.Drift-1.1) > 0.01 || v.N != canary || v.Untouched != n-canary || v.Silent != 1 {
			t.Errorf("%s: ratio %.3f of %d, drift %.3f of %d, %d silent; want %g of %d, 1.1 of %d, and 1", tt.ref, v.Ratio, v.N, v.Drift, v.Untouched, v.Silent, tt.ratio, canary, n-canary)
		}
		if l := s.State.Lost; len(l) != 1 || l[0].Device != gone.id || l[0].Loss != quality.Silent {
			t.Errorf("lost are %+v, want %s", l, gone.id)
		}
		gone.offline, mute.mute = false, false
		a.minutes(2)
		if s := a.staged(); s.State.Phase != tt.phase {
			t.Errorf("%s is %s: %s", tt.ref, s.State.Phase, s.Text)
		}
		for _, d := range a.devices {
			if went := d.have.Active == candidate; went != (tt.phase == plan.Done) && d != gone {
				t.Fatalf("%s runs %s when it is %s", d.id, d.have.Active.Short(), tt.phase)
			}
		}
		if n := a.marks(s.Rollout.ID); n != 0 {
			t.Errorf("%d marks are left when it is over", n)
		}
	}
}

// marks counts what is remembered for a rollout.
func (a *acre) marks(rollout int64) (n int) {
	a.t.Helper()
	err := a.store.View(a.t.Context(), func(tx store.Tx) error {
		for mark := range 5 {
			rows, err := tx.Marked(a.t.Context(), rollout, mark)
			if err != nil {
				return err
			}
			n += len(rows)
		}
		return nil
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}
