package rollout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// canary is a plan whose first stage has n devices.
func canary(total, n int) plan.Plan {
	p := plan.CanaryFirst(total)
	p.Stages[0].Devices = plan.Amount{Count: n}
	return p
}

func TestPlansThatAreRefused(t *testing.T) {
	a := newAcre(t, 3)
	slow := healthOnly(1)
	slow.BytesPerSecond, slow.Stages[1].Deadline = 1, plan.Duration(5*time.Minute)
	for _, tt := range []struct {
		ref, target string
		p           plan.Plan
		want        error
	}{
		{"m:v2", "kernal!=avx2", healthOnly(1), ErrTarget},
		{"m:v2", "hw=rev9", healthOnly(1), ErrNoDevices},
		{"m:v2", "d999", healthOnly(1), ErrNotFound},
		{"m:v9", "all", healthOnly(1), ErrNotFound},
		{"m:v2", "all", plan.Plan{Name: "shadow-fist"}, ErrPlan},
		{"m:v2", "all", plan.Plan{Window: &plan.Window{From: 60}}, ErrPlan}, // too few to judge, and no stages
		{"m:v2", "all", plan.Plan{Stages: []plan.Stage{{Devices: plan.Amount{Count: 1}}}}, ErrPlan},
		{"m:v2", "all", slow, ErrPlan},
	} {
		target, err := ParseTarget(tt.target)
		if err == nil {
			var planner Planner
			if planner, err = PlannerOf(tt.p); err == nil {
				_, err = a.Draft(t.Context(), tt.ref, target, planner)
			}
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s to %s: %v, want %v", tt.ref, tt.target, err, tt.want)
		}
	}
	if _, err := a.Staged(t.Context(), "m"); !errors.Is(err, ErrNotFound) {
		t.Errorf("something was started: %v", err)
	}
}

func TestWhichPlanFitsTheTarget(t *testing.T) {
	for _, tt := range []struct {
		p                   plan.Plan
		devices, comparable int
		fed                 bool
		want                string // its stages
	}{
		{plan.Plan{}, 29, 29, true, ""},
		{plan.Plan{}, 10000, 10000, false, ""},
		{plan.Plan{}, 10000, 29, true, ""},
		{plan.Plan{}, 30, 30, true, "shadow:30 canary:30 10%:3 100%:30"},
		{plan.Plan{Watch: 1}, 10000, 10000, true, "shadow:1000 canary:100 10%:1000 100%:10000"},
		{plan.Plan{Name: CanaryFirst}, 10, 0, false, "canary:10 10%:1 100%:10"},
		{plan.Plan{Name: ShadowOnly}, 5, 5, true, "shadow:5 canary:5 100%:5"},
		{plan.Plan{Name: Direct}, 10000, 10000, true, ""},
		{healthOnly(2), 10, 10, true, "canary:2 100%:10"},
		{plan.Plan{Evidence: plan.DiD}, 10000, 10000, false, "canary:100 10%:1000 100%:10000"},
	} {
		planner, err := PlannerOf(tt.p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := planner(10*tt.devices, 10*tt.comparable, tt.fed); err != nil { // of another target
			t.Fatal(err)
		}
		p, err := planner(tt.devices, tt.comparable, tt.fed)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := 0; p != nil && i < len(p.Stages); i++ {
			s := p.Stages[i]
			name := s.Name
			if name == "" {
				name = s.Devices.String()
			}
			got = append(got, fmt.Sprintf("%s:%d", name, s.Devices.Of(tt.devices)))
		}
		if p != nil && p.Evidence == plan.DiD && p.WithDefaults().Check() != nil {
			t.Errorf("%+v: %v", p, p.WithDefaults().Check())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v on %d devices, %d comparable: %q, want %q", tt.p, tt.devices, tt.comparable, got, tt.want)
		}
	}
}

// other adds two versions of another model, of which all devices run the first.
func (a *acre) other() {
	a.t.Helper()
	registrytest.Add(a.t, a.reg, "other", 70)
	registrytest.Add(a.t, a.reg, "other", 71)
	a.start("other:v1", "all")
	for _, d := range a.devices {
		h := protocol.Have{Format: 1, Boot: 1, Epoch: d.want.Epoch, Rev: d.want.Rev + 1, Models: map[string]protocol.ModelHave{
			"m":     d.have,
			"other": {Active: a.digest("other:v1"), Phase: protocol.PhaseIdle},
		}}
		a.handle(d.id, protocol.TopicHave, encode(a.t, h))
	}
}

// TestBusyDevicesAreSaidBeforeTheStart: and a stage of nothing else ends held, with
// the reason.
func TestBusyDevicesAreSaidBeforeTheStart(t *testing.T) {
	a := newAcre(t, 40)
	a.other()
	p := canary(40, 40)
	p.Every = plan.Duration(10 * time.Minute)
	first := a.plan(p)
	if err := a.Advance(t.Context(), a.at); err != nil {
		t.Fatal(err)
	}
	p = canary(40, 35)
	p.Deadline = plan.Duration(10 * time.Minute)
	all := 1.0
	p.Stages[0].Checks.MaxFailed = &all // they do not move here
	target, _ := ParseTarget("all")
	d, err := a.Draft(t.Context(), "other:v2", target, func(int, int, bool) (*plan.Plan, error) { return &p, nil })
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("35 of the 35 devices to be judged are judged for rollout %d of m:", first.Rollout.ID)
	if !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
		t.Errorf("warnings are %q, want one with %q", d.Warnings, want)
	}
	if _, err := a.StartPlan(ann(t), d); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		a.at = a.at.Add(time.Minute)
		if err := a.Advance(t.Context(), a.at); err != nil {
			t.Fatal(err)
		}
	}
	s, err := a.Staged(t.Context(), "other")
	want = fmt.Sprintf("HELD: 0 devices are too few to judge the quality, since 35 of its devices are judged for rollout %d of m until that ends; a person promotes.", first.Rollout.ID)
	if err != nil || s.Text != want {
		t.Errorf("text is %q (%v), want %q", s.Text, err, want)
	}
}

func (a *acre) digest(ref string) protocol.Digest {
	a.t.Helper()
	v, err := a.reg.Resolve(a.t.Context(), ref)
	if err != nil {
		a.t.Fatal(err)
	}
	return v.Digest
}

// TestDraftSaysWhatItsPlanCannotDo: before anything is done.
func TestDraftSaysWhatItsPlanCannotDo(t *testing.T) {
	const (
		few      = "30 devices are needed to judge the quality, and there are fewer at "
		group    = `no device of the target has the label "site", so none is judged apart`
		approval = "m:v2: not approved: it needs the approval of another person than ann"
	)
	a := newAcre(t, 60)
	target, _ := ParseTarget("all")
	draft := func(p *plan.Plan) []string {
		t.Helper()
		d, err := a.Draft(ann(t), "m:v2", target, func(int, int, bool) (*plan.Plan, error) { return p, nil })
		if err != nil {
			t.Fatal(err)
		}
		return d.Warnings
	}
	says := func(warnings []string, text string) bool {
		return slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, text) })
	}
	mixed := canary(60, 40)
	mixed.Name = "ours"
	if w := draft(&mixed); !says(w, `stage 2, "10 %", adds no device: of 60 it is 6, and the stage before has 40 already`) {
		t.Errorf("stages of 40 and of 10 %%: %q", w)
	}
	enough, small, grouped := canary(60, 40), canary(60, 10), canary(60, 40)
	grouped.Group = "site"
	if w := draft(&enough); says(w, few) || says(w, group) || says(w, "stage") {
		t.Errorf("of a plan that can be judged: %q", w)
	}
	if w := draft(&small); !says(w, few+"canary, 10 %:") {
		t.Errorf("of two stages of 10: %q", w)
	}
	if w := draft(&grouped); !says(w, group) {
		t.Errorf("of a label that nobody has: %q", w)
	}
	unjudged := healthOnly(10)
	unjudged.Group = "site"
	if w := draft(&unjudged); len(w) > 0 {
		t.Errorf("of a plan that judges no errors: %q", w)
	}
	if err := a.reg.Protect(t.Context(), "m", 1); err != nil {
		t.Fatal(err)
	}
	if w := draft(nil); !says(w, approval) {
		t.Errorf("of a version that nobody approved: %q", w)
	}
	if _, err := a.reg.Approve(t.Context(), "m:v2"); err != nil {
		t.Fatal(err)
	}
	if w := draft(nil); len(w) > 0 {
		t.Errorf("of an approved version: %q", w)
	}
}
