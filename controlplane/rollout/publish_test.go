package rollout

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// blobs lists the files that versions are kept in.
func (r *rig) blobs() map[string]bool {
	r.t.Helper()
	paths, err := filepath.Glob(filepath.Join(r.dir, "blobs", "*", "*"))
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]bool{}
	for _, p := range paths {
		out[p] = true
	}
	return out
}

// damage changes a byte of every blob but those.
func (r *rig) damage(but map[string]bool) {
	r.t.Helper()
	for path := range r.blobs() {
		if but[path] {
			continue
		}
		b, err := os.ReadFile(path)
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestDamagedTransferIsPublishedOnceItIsWhole.
func TestDamagedTransferIsPublishedOnceItIsWhole(t *testing.T) {
	r := newRig(t, "d1", "d2")
	bad := registrytest.Add(t, r.reg, "m", 7)
	r.start("m:v1", "all")
	r.damage(nil)
	r.flush()
	sweep := func() bool {
		t.Helper()
		if err := r.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r.broker.retained[protocol.DescriptorTopic(registrytest.Fleet, bad.Hash)] != nil
	}
	if sweep() {
		t.Error("the damaged transfer is published")
	}
	registrytest.Add(t, r.reg, "m", 7) // the same again
	if !sweep() {
		t.Error("the transfer is whole again and not published")
	}
}

// TestDamagedVersionWaitsAndBlocksNoNewerOne: it is not begun, as long as its bytes
// are not there, and another one is.
func TestDamagedVersionWaitsAndBlocksNoNewerOne(t *testing.T) {
	a := newAcre(t, 10)
	whole := a.blobs()
	registrytest.Add(t, a.reg, "m", 9)
	target := Target{All: true}
	p := healthOnly(3)
	d, err := a.Draft(t.Context(), "m:v4", target, func(int, int, bool) (*plan.Plan, error) { return &p, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.StartPlan(ann(t), d); err != nil {
		t.Fatal(err)
	}
	a.damage(whole)
	for range 2 {
		if err := a.Advance(t.Context(), a.at); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("Advance = %v, want ErrCorrupt", err)
		}
	}
	if s := a.staged(); s.State.Phase != plan.Preparing {
		t.Errorf("phase %s without its bytes", s.State.Phase)
	}
	a.plan(p) // of v2
	a.until(plan.Done, 1, 10)
	a.wantRunning(10, 0, 10)
}

// TestDamagedUpdateGivesWayToTheFullVersion where a version is prepared.
func TestDamagedUpdateGivesWayToTheFullVersion(t *testing.T) {
	r := newRig(t, "d1")
	v := r.retrained()
	r.start("m:v1", "all")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
	whole := r.blobs()
	r.start("m:v2", "all") // makes the update
	r.damage(whole)
	if kinds := r.offered("d1"); len(kinds) != 2 {
		t.Fatalf("offered are %v, want an update too", kinds)
	}
	if err := r.prepare(t.Context(), v[1]); err != nil {
		t.Errorf("prepare = %v, and the full version is whole", err)
	}
	r.flush()
	refs := r.open(r.broker.retained[protocol.WantTopic(registrytest.Fleet, "d1")]).Models["m"].Active.Transfers
	for _, ref := range refs {
		if there := r.broker.retained[protocol.DescriptorTopic(registrytest.Fleet, ref.Hash)] != nil; there != (ref.Kind == protocol.KindFull) {
			t.Errorf("%s is published: %t", ref.Kind, there)
		}
	}
}

// TestUnreadableWantHoldsUpNoOther device's.
func TestUnreadableWantHoldsUpNoOther(t *testing.T) {
	r := newRig(t, "d1", "d2", "d3")
	r.versions(1)
	r.start("m:v1", "all")
	err := r.store.Update(t.Context(), func(tx store.Tx) error {
		return tx.PutWant(t.Context(), store.Want{Device: "d2", Rev: 1, Envelope: []byte("none")})
	})
	if err != nil {
		t.Fatal(err)
	}
	r.flush()
	for id, want := range map[string]bool{"d1": true, "d2": false, "d3": true} {
		if _, is := r.broker.retained[protocol.WantTopic(registrytest.Fleet, id)]; is != want {
			t.Errorf("the want of %s is published: %t", id, is)
		}
	}
}
