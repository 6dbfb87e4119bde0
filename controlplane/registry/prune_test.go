package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// TestPruneKeepsWhatIsNeeded: of ten versions, each needed for another reason.
func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	keys := registrytest.NewKeys(t, 1)
	s := registrytest.OpenStore(t, t.TempDir())
	r := registrytest.Open(t, s, keys, keys.Release)
	var v []registry.Version
	for seed := range 10 {
		v = append(v, registrytest.Add(t, r, "m", uint64(seed)))
	}
	if _, err := r.Tag(t.Context(), "m:v1", "prod"); err != nil {
		t.Fatal(err)
	}
	err := s.Update(t.Context(), func(tx store.Tx) error {
		ctx := t.Context()
		if err := tx.PutDevice(ctx, store.Device{ID: "d", Token: []byte{1}, Created: time.Now()}); err != nil {
			return err
		}
		if err := tx.SetHave(ctx, "d", []byte("{}"), []store.Slot{
			{Model: "m", Slot: store.SlotActive, Digest: v[1].Digest}, {Model: "m", Slot: store.SlotPrevious, Digest: v[2].Digest},
			{Model: "m", Slot: store.SlotFailed, Digest: v[3].Digest},
		}); err != nil {
			return err
		}
		id, err := tx.PutRollout(ctx, store.Rollout{Kind: store.KindStart, Model: "m", Number: 5, Digest: v[4].Digest, Target: "all", Created: time.Now()})
		if err != nil {
			return err
		}
		previous := v[5].Digest
		return errors.Join(
			tx.PutDesired(ctx, store.Desired{Device: "d", Model: "m", Digest: v[4].Digest, Previous: previous, Rollout: id, Rev: 1, State: "pending", Changed: time.Now()}),
			tx.PutAnnounced(ctx, v[6].Hash, 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		p, err := r.Prune(t.Context(), "m", 2, dry)
		if err != nil {
			t.Fatal(err)
		}
		want := "[m:v4 m:v8] [{m:v1 an alias names it} {m:v2 a device runs it} {m:v3 a device has it} {m:v5 a device is to run it} " +
			"{m:v6 a device could return to it} {m:v7 the broker still has it}]"
		if got := fmt.Sprint(p.Removed, p.Kept); got != want || (p.Bytes > 0) == dry {
			t.Errorf("dry %v: pruned %s, %d bytes, want %s", dry, got, p.Bytes, want)
		}
	}
	for i := range v {
		_, err := r.Model(t.Context(), v[i].Ref())
		if gone := i == 3 || i == 7; errors.Is(err, registry.ErrPruned) != gone || err != nil != gone {
			t.Errorf("model of %s: %v", v[i].Ref(), err)
		}
		if got, err := r.Resolve(t.Context(), v[i].Ref()); err != nil || got.Digest != v[i].Digest {
			t.Errorf("%s is known no more: %v", v[i].Ref(), err)
		}
	}
	if p, err := r.Prune(t.Context(), "m", 2, false); err != nil || len(p.Removed) != 0 {
		t.Errorf("pruned again %v, %v", p.Removed, err)
	}
	for keep, model := range map[int]string{0: "m", 1: "n"} {
		if _, err := r.Prune(t.Context(), model, keep, false); err == nil {
			t.Errorf("Prune(%s, %d) = nil", model, keep)
		}
	}
}

// TestPruneKeepsWhatARolloutSpreads, in each of its phases, and what runs in shadow.
func TestPruneKeepsWhatARolloutSpreads(t *testing.T) {
	keys := registrytest.NewKeys(t, 1)
	s := registrytest.OpenStore(t, t.TempDir())
	r := registrytest.Open(t, s, keys, keys.Release)
	phases := []plan.Phase{plan.Scheduled, plan.Preparing, plan.Measuring, plan.Running, plan.Held, plan.Watching,
		plan.Done, plan.Stopped, plan.Aborted, plan.Superseded}
	ctx := t.Context()
	if err := s.Update(ctx, func(tx store.Tx) error {
		return tx.PutDevice(ctx, store.Device{ID: "d", Token: []byte{1}, Created: time.Now()})
	}); err != nil {
		t.Fatal(err)
	}
	for i, phase := range phases {
		v := registrytest.Add(t, r, "m", uint64(i))
		err := s.Update(ctx, func(tx store.Tx) error {
			id, err := tx.PutRollout(ctx, store.Rollout{Kind: store.KindStart, Model: "m", Number: v.Number, Digest: v.Digest, Target: "all", Created: time.Now(), Phase: string(phase)})
			if err == nil && phase == plan.Done {
				err = tx.PutTrial(ctx, store.Trial{Device: "d", Model: "m", Rollout: id, Shadow: v.Digest})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	registrytest.Add(t, r, "m", 100)
	p, err := r.Prune(ctx, "m", 1, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, phase := range phases {
		why := "removed"
		for _, k := range p.Kept {
			if k.Version == registry.Ref("m", uint64(i+1)) {
				why = k.Why
			}
		}
		want := "removed"
		switch {
		case phase.Live():
			want = "a rollout spreads it"
		case phase == plan.Done:
			want = "a device is to run it in shadow"
		}
		if why != want {
			t.Errorf("the version of a rollout that is %s: %s, want %s", phase, why, want)
		}
	}
}

// TestImportBringsBack: a pruned version's file has its bytes.
func TestImportBringsBack(t *testing.T) {
	keys := registrytest.NewKeys(t, 1)
	r := registrytest.Open(t, registrytest.OpenStore(t, t.TempDir()), keys, keys.Release)
	v := registrytest.Add(t, r, "m", 1)
	registrytest.Add(t, r, "m", 2)
	var file bytes.Buffer
	if _, err := r.Export(t.Context(), v.Ref(), &file); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Prune(t.Context(), "m", 1, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Export(t.Context(), v.Ref(), io.Discard); !errors.Is(err, registry.ErrPruned) {
		t.Errorf("export of a pruned version: %v", err)
	}
	if _, err := r.Import(context.Background(), &file); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Model(t.Context(), v.Ref()); err != nil {
		t.Errorf("model after the import: %v", err)
	}
}

func TestCompare(t *testing.T) {
	keys := registrytest.NewKeys(t, 1)
	r := registrytest.Open(t, registrytest.OpenStore(t, t.TempDir()), keys, keys.Release)
	a, b := registrytest.Add(t, r, "m", 1), registrytest.Add(t, r, "m", 2)
	c, err := r.Compare(t.Context(), a.Ref(), b.Ref())
	if err != nil {
		t.Fatal(err)
	}
	if c.From != "m:v1" || c.To != "m:v2" || c.Kind == "" || c.Bytes <= 0 || c.Bytes > c.Full || len(c.Tensors) < 5 {
		t.Errorf("comparison %+v", c)
	}
	for _, p := range c.Tensors {
		if !p.Same || p.Changed < 0 || p.Changed > 1 || (p.Changed > 0) != (p.RMS > 0) || (p.Max > 0) != (p.RMS > 0) {
			t.Errorf("tensor %+v", p)
		}
		if p.Name == "0.kernel" && (p.Changed < 0.5 || p.RMS < 0.5 || p.RMS > 3) { // two random kernels are about √2 apart
			t.Errorf("two random kernels differ by %+v", p)
		}
	}
	same, err := r.Compare(t.Context(), a.Ref(), a.Ref())
	if err != nil || same.Bytes != 0 || same.Kind != "none" || same.Tensors[0].RMS != 0 || same.Tensors[0].Changed != 0 {
		t.Errorf("a version beside itself: %+v, %v", same, err)
	}
}
