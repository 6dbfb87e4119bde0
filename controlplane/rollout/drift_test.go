package rollout

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// TestDriftOfAStage: each device counts alike, whatever its rows; the figure is that
// of the worst input, and too few rows are no figure. Expected values are Σ (c − r)
// ln(c/r) by hand.
func TestDriftOfAStage(t *testing.T) {
	r := &reference{&artifact.Reference{Features: []artifact.Histogram{
		{Edges: artifact.Floats{1}, Parts: []uint16{5000, 5000}}, {Edges: artifact.Floats{1}, Parts: []uint16{2000, 8000}},
	}}, []string{"flow", "pressure"}}
	for _, tt := range []struct {
		name    string
		counts  [][]uint64
		psi     float64
		feature string
		devices int
	}{
		{"as in training", [][]uint64{{500, 500, 200, 800}}, 0, "pressure", 1},
		// (0.9 − 0.5) ln 1.8 + (0.1 − 0.5) ln 0.2
		{"another flow", [][]uint64{{900, 100, 200, 800}}, 0.878890, "flow", 1},
		// mean shares 0.9 and 0.5 give 0.7: (0.2) ln 1.4 + (−0.2) ln 0.6
		{"a loud device counts as much", [][]uint64{{90000, 10000, 20000, 80000}, {500, 500, 200, 800}}, 0.169460, "flow", 2},
		{"few rows", [][]uint64{{9, 1, 2, 8}}, 0, "", 0},
		{"few rows of many devices", [][]uint64{{9, 1, 2, 8}, {9, 1, 2, 8}, {9, 1, 2, 8}, {9, 1, 2, 8}}, 0.878890, "flow", 4},
		{"one that said next to nothing", [][]uint64{{900, 100, 200, 800}, {0, 4, 4, 0}}, 0.878890, "flow", 1},
		{"nobody", nil, 0, "", 0},
	} {
		psi, feature, devices := r.drift(tt.counts)
		if math.Abs(psi-tt.psi) > 1e-6 || feature != tt.feature || devices != tt.devices {
			t.Errorf("%s: %.6f of %q on %d, want %.6f of %q on %d", tt.name, psi, feature, devices, tt.psi, tt.feature, tt.devices)
		}
	}
}

// drifting is a plan whose canary limits the drift.
func drifting(canary int, limit float64) plan.Plan {
	p := healthOnly(canary)
	p.OnInconclusive = plan.Hold
	p.Stages[0].Deadline = plan.Duration(2 * time.Hour)
	p.Stages[0].Checks.MaxDrift = &limit
	return p
}

// withReference adds version 4 of m, that says how its inputs were spread, and has
// the devices that run it tell counts of theirs.
func (a *acre) withReference() (tell func(version protocol.Digest, devices int, counts ...uint64), v protocol.Digest) {
	a.t.Helper()
	m, w := registrytest.Model(a.t, 4, 99)
	m.Reference = &artifact.Reference{Features: []artifact.Histogram{
		{Edges: artifact.Floats{10}, Parts: []uint16{5000, 5000}}, {Edges: artifact.Floats{3}, Parts: []uint16{2000, 8000}},
	}}
	added, err := a.reg.Add(a.t.Context(), "m", m, w, registry.Info{})
	if err != nil {
		a.t.Fatal(err)
	}
	seq := uint64(0)
	return func(version protocol.Digest, devices int, counts ...uint64) {
		seq++
		for _, d := range a.devices {
			if d.have.Active != version || devices == 0 {
				continue
			}
			devices--
			u := protocol.Usage{Format: 1, Boot: 1, Seq: seq, T: a.at.UnixMilli(), Inputs: []protocol.InputCount{{Model: "m", Version: version, Bins: counts}}}
			a.handle(d.id, protocol.TopicUsage, encode(a.t, u))
		}
	}, added.Digest
}

func TestInputDriftOfAStage(t *testing.T) {
	for _, tt := range []struct {
		name    string
		devices int // that tell
		counts  []uint64
		phase   plan.Phase
		text    string
	}{
		{"as in training", 4, []uint64{500, 500, 200, 800}, plan.Done, "PASSED stage canary after "},
		{"other inputs", 4, []uint64{900, 100, 200, 800}, plan.Stopped, "(input drift: 0.879 of flow, limit 0.25)"},
		{"nobody tells", 0, nil, plan.Held, "inconclusive: input drift: no data"},
		{"half of them tell", 2, []uint64{500, 500, 200, 800}, plan.Held, "inconclusive: input drift: no data"},
		{"in other bins", 4, []uint64{500, 500}, plan.Held, "inconclusive: input drift: no data"},
		{"too few rows", 4, []uint64{2, 2, 1, 3}, plan.Held, "inconclusive: input drift: no data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAcre(t, 10)
			tell, v := a.withReference()
			tell(a.v[0], 10, 900, 100, 200, 800) // of the version in place, which does not count
			a.planTo("m:v4", "all", drifting(4, 0.25))
			a.minutes(10)
			if s := a.staged(); s.State.Phase != plan.Running || s.State.Stage != 0 {
				t.Fatalf("before anything is told: %s", s.Text)
			}
			tell(v, tt.devices, tt.counts...)
			for range 130 {
				if a.minutes(1); a.staged().State.Phase == tt.phase {
					break
				}
			}
			s := a.staged()
			if s.State.Phase != tt.phase || !strings.Contains(strings.Join(append(s.Log, s.Text), "\n"), tt.text) {
				t.Errorf("%s: %q, %q; want %s with %q", s.State.Phase, s.Log, s.Text, tt.phase, tt.text)
			}
			if tt.phase != plan.Stopped {
				return
			}
			if w := s.State.Worst; len(w) != 4 || w[0].Check != plan.CheckDrift || w[0].Message != "flow" || w[0].Bound != 0.25 || math.Abs(w[0].Figure-0.878890) > 1e-6 {
				t.Errorf("at fault are %+v, want all four with their drift", w)
			}
		})
	}
}

func TestDriftThatCannotBeTold(t *testing.T) {
	a := newAcre(t, 10)
	a.withReference()
	target, _ := ParseTarget("all")
	for _, tt := range []struct {
		ref    string
		change func(*plan.Plan)
		want   string
	}{
		{"m:v2", func(*plan.Plan) {}, `stage 1, "canary": checks.max_drift: m:v2 does not say how its training's inputs were spread`},
		{"m:v4", func(p *plan.Plan) { p.Stages[0].Deadline = plan.Duration(time.Hour) }, "a deadline of 1h is too short; it takes 2h"},
		{"m:v4", func(p *plan.Plan) { p.Stages[0].Shadow, p.Stages[0].Quality = true, plan.Paired }, "in shadow devices count the inputs of the version in place alone"},
	} {
		p := drifting(4, 0.25)
		tt.change(&p)
		_, err := a.Draft(t.Context(), tt.ref, target, func(int, int, bool) (*plan.Plan, error) { return &p, nil })
		if !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Draft = %v, want ErrPlan with %q", err, tt.want)
		}
	}
}
