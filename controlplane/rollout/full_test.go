package rollout

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// fill gives a device of an acre, which has m, as many models as it can have, or one
// fewer if spare.
func (a *acre) fill(device string, spare bool) {
	a.t.Helper()
	for i := range protocol.MaxModels - 1 {
		if spare && i == 0 {
			continue
		}
		name := fmt.Sprintf("filler%02d", i)
		if _, err := a.reg.Resolve(a.t.Context(), name+":v1"); err != nil {
			registrytest.Add(a.t, a.reg, name, 100+uint64(i))
		}
		a.start(name+":v1", device)
	}
}

// TestADeviceFullOfModels: a start over a device that has no room is refused, and one
// that is filled later fails by itself: the others get the version.
func TestADeviceFullOfModels(t *testing.T) {
	a := newAcre(t, 4)
	registrytest.Add(t, a.reg, "other", 77)
	p := healthOnly(1)
	a.planTo("other:v1", "d000,d001,d002", p)
	a.minutes(1)
	full := "d000"
	if w, ok := a.stored(full); ok && !w.Models["other"].Active.Digest.IsZero() {
		full = "d001"
	}
	a.fill(full, false)
	a.fill("d003", true)
	if _, err := a.Command(ann(t), "other", Promote); err != nil {
		t.Fatal(err)
	}
	if err := a.Advance(t.Context(), a.at); err != nil {
		t.Error(err)
	}
	s := a.stagedOf("other")
	if s.Stages[1].Counts[Failed] != 1 {
		t.Errorf("%v; want that %s failed", s.Stages[1].Counts, full)
	}
	for _, id := range []string{"d000", "d001", "d002"} {
		if w, _ := a.stored(id); w.Models["other"].Active.Digest.IsZero() != (id == full) {
			t.Errorf("%s wants %v of other, and %s is full", id, w.Models["other"], full)
		}
	}
	a.minutes(2)
	faults := a.faults(s.Rollout.ID, 10)
	if s = a.stagedOf("other"); !s.Settled() || s.Stages[1].Counts[Failed] != 1 {
		t.Errorf("once it is stopped counts are %v", s.Stages[1].Counts)
	}
	if len(faults) != 1 || faults[0].Device != full || faults[0].Check != plan.CheckUpdates || faults[0].Message != "it has 32 models, and a device holds no more" {
		t.Errorf("faults are %+v", faults)
	}

	target, err := ParseTarget("all")
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Add(t, a.reg, "more", 78)
	want := "device " + full + " has 32 models, and a device holds no more; leave it out"
	if _, err := a.Start(t.Context(), "more:v1", target); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), want) {
		t.Errorf("start = %v, want %q", err, want)
	}
	if _, err := a.Draft(t.Context(), "more:v1", target, func(int, int, bool) (*plan.Plan, error) { return &p, nil }); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), want) {
		t.Errorf("draft = %v, want %q", err, want)
	}
	if w, _ := a.stored("d003"); len(w.Models) != protocol.MaxModels-1 {
		t.Errorf("a start that is refused leaves d003 with %d models", len(w.Models))
	}
}

// TestADeviceJoinsWhatItHasRoomFor: the rollouts to all may be of more models.
func TestADeviceJoinsWhatItHasRoomFor(t *testing.T) {
	r := newRig(t)
	r.add("old", map[string]string{"new": "no"})
	for i := range protocol.MaxModels + 1 {
		name := fmt.Sprintf("m%02d", i)
		registrytest.Add(t, r.reg, name, uint64(i))
		r.add(fmt.Sprintf("only%02d", i), map[string]string{"n": fmt.Sprint(i)})
		r.start(name+":v1", fmt.Sprintf("n=%d or new=yes", i))
	}
	r.add("d1", map[string]string{"new": "yes"})
	if w, _ := r.stored("d1"); len(w.Models) != protocol.MaxModels {
		t.Errorf("it wants %d models, want %d", len(w.Models), protocol.MaxModels)
	}
}
