package registry_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

func TestPrepareUpdates(t *testing.T) {
	r, k := signing(t)
	add := func(w *kernel.Weights) registry.Version {
		t.Helper()
		v, err := r.Add(t.Context(), "m", registrytest.ModelOf(t, w), w, registry.Info{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	w := registrytest.Weights(32, 1)
	base := add(w)
	tuned := registrytest.Retrained(w, 2, false)
	v2, other := add(tuned), add(registrytest.Weights(32, 9))
	v4, small := add(registrytest.Retrained(tuned, 3, true)), registrytest.Add(t, r, "m", 5)
	kinds := func(v registry.Version) map[string]string {
		t.Helper()
		list, err := r.Transfers(t.Context(), v.Digest)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for i, tr := range list {
			got[tr.From] = tr.Kind
			if i > 0 && tr.Bytes < list[i-1].Bytes {
				t.Errorf("%s: transfers are not in the order of their size: %+v", v.Ref(), list)
			}
		}
		return got
	}
	bases := []protocol.Digest{base.Digest, v2.Digest, other.Digest, small.Digest, {0xee}}
	for range 2 { // the second makes nothing more
		if err := r.PrepareUpdates(t.Context(), v2.Digest, bases); err != nil {
			t.Fatal(err)
		}
		if err := r.PrepareUpdates(t.Context(), v4.Digest, bases); err != nil {
			t.Fatal(err)
		}
		// From another model it would save nothing, one of other tensors cannot be,
		// and 0xee is not here.
		if d := cmp.Diff(map[string]string{"": "full", "m:v1": "delta"}, kinds(v2)); d != "" {
			t.Errorf("transfers of v2 (-want +got)\n%s", d)
		}
		if d := cmp.Diff(map[string]string{"": "full", "m:v1": "delta", "m:v2": "head"}, kinds(v4)); d != "" {
			t.Errorf("transfers of v4 (-want +got)\n%s", d)
		}
	}
	list, err := r.Transfers(t.Context(), v4.Digest)
	if err != nil {
		t.Fatal(err)
	}
	baseModel, err := r.Model(t.Context(), "m:v2")
	if err != nil {
		t.Fatal(err)
	}
	a, tr, err := r.Announcement(t.Context(), list[0].Hash)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := k.Root.OpenRelease(a.Release)
	if err != nil {
		t.Fatal(err)
	}
	m, err := artifact.Unpack(a.Descriptor, tr.Payload, baseModel, rel)
	if err != nil {
		t.Fatal(err)
	}
	// What a device keeps of it is within the signed caps.
	raw, err := artifact.PackRaw(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.Unpack(raw.Descriptor, raw.Payload, nil, rel); err != nil {
		t.Error(err)
	}
	if err := r.PrepareUpdates(t.Context(), protocol.Digest{1}, bases); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("updates to a version that is not there: %v", err)
	}
}

// TestNoUpdatesThatADeviceCannotKeep: a release whose caps are those of the
// full transfer leaves no room for a model that is kept without coding.
func TestNoUpdatesThatADeviceCannotKeep(t *testing.T) {
	r, k := signing(t)
	w := registrytest.Weights(32, 1)
	base, err := r.Add(t.Context(), "m", registrytest.ModelOf(t, w), w, registry.Info{})
	if err != nil {
		t.Fatal(err)
	}
	m := registrytest.ModelOf(t, registrytest.Retrained(w, 2, false))
	tr, err := artifact.Pack(m)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Import(t.Context(), bytes.NewReader(file(t, k, tr, artifact.Release{
		Format: 1, Name: "m", Version: 2, Digest: tr.Digest, Fleet: registrytest.Fleet,
		MaxTransfer: tr.Size, MaxDecoded: tr.Decoded, ABI: kernel.ABI,
	})))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.PrepareUpdates(t.Context(), v.Digest, []protocol.Digest{base.Digest}); err != nil {
		t.Fatal(err)
	}
	if list, err := r.Transfers(t.Context(), v.Digest); err != nil || len(list) != 1 {
		t.Errorf("transfers %+v, %v, want the full one", list, err)
	}
}
