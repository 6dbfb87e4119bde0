// Package registrytest makes small models, keys and registries for tests.
package registrytest

import (
	"bytes"
	"crypto/ed25519"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// Fleet is the fleet of everything made here.
const Fleet = "default"

// Keys are one of each role, and the root document that lists them.
type Keys struct {
	Release, Rollout ed25519.PrivateKey
	Document         []byte
	Root             *artifact.Root
}

// NewKeys returns the same keys for the same seed.
func NewKeys(t testing.TB, seed byte) Keys {
	t.Helper()
	key := func(role byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed, role}, ed25519.SeedSize/2))
	}
	root := artifact.Root{Format: artifact.Format, Version: 1, Roles: map[string]artifact.Role{}}
	for i, role := range []string{artifact.RoleRoot, artifact.RoleRelease, artifact.RoleRollout} {
		root.Roles[role] = artifact.Role{Keys: [][]byte{key(byte(i)).Public().(ed25519.PublicKey)}, Threshold: 1}
	}
	payload, err := root.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := Keys{Release: key(1), Rollout: key(2)}
	if k.Document, err = artifact.Sign(artifact.TypeRoot, payload, key(0)).AppendBinary(nil); err != nil {
		t.Fatal(err)
	}
	if k.Root, err = artifact.OpenRoot(k.Document); err != nil {
		t.Fatal(err)
	}
	return k
}

// Window and Features are the shape of a Model's request.
const (
	Window   = 4
	Features = 2
)

// Model returns an LSTM of the given size with a Dense layer on it. Seeds
// differ in weights.
func Model(t testing.TB, units int, seed uint64) (*artifact.Model, *kernel.Weights) {
	t.Helper()
	w := Weights(units, seed)
	return ModelOf(t, w), w
}

// ModelOf returns the model of w, which is from Weights or Retrained.
func ModelOf(t testing.TB, w *kernel.Weights) *artifact.Model {
	t.Helper()
	q, err := kernel.Quantize(w)
	if err != nil {
		t.Fatal(err)
	}
	schema := artifact.Schema{
		Features: []artifact.Column{{Name: "flow", Unit: "l/s"}, {Name: "pressure", Unit: "bar"}},
		Targets:  []artifact.Column{{Name: "wear"}},
		Window:   Window, State: artifact.StateWindow, Horizon: 1,
	}
	scaler := kernel.Scaler{
		Mean: []float32{10, 3}, Std: []float32{2, 0.5}, Inv: []float32{0.5, 2},
		OutMean: []float32{1}, OutStd: []float32{0.25},
	}
	m, err := predictor.FromQuant(q, schema, artifact.TaskForecast, scaler)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Retrained returns w as a little more training leaves it: every weight, or
// those of the last layer alone, moved by up to 0.001.
func Retrained(w *kernel.Weights, seed uint64, lastLayer bool) *kernel.Weights {
	rnd := rand.New(rand.NewPCG(seed, 1))
	out := &kernel.Weights{Graph: w.Graph}
	for i, l := range w.Layers {
		move := func(v []float32) []float32 {
			v = slices.Clone(v)
			for j := range v {
				if !lastLayer || i == len(w.Layers)-1 {
					v[j] += (rnd.Float32() - 0.5) / 500
				}
			}
			return v
		}
		out.Layers = append(out.Layers, kernel.LayerWeights{Kernel: move(l.Kernel), Recurrent: move(l.Recurrent), Bias: move(l.Bias)})
	}
	return out
}

// Weights returns random float32 weights for Model.
func Weights(units int, seed uint64) *kernel.Weights {
	rnd := rand.New(rand.NewPCG(seed, uint64(units)))
	fill := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = rnd.Float32() - 0.5
		}
		return v
	}
	return &kernel.Weights{
		Graph: kernel.Graph{Features: Features, Layers: []kernel.Layer{
			{Kind: kernel.LSTM, Units: units},
			{Kind: kernel.Dense, Units: 1},
		}},
		Layers: []kernel.LayerWeights{
			{Kernel: fill(Features * 4 * units), Recurrent: fill(units * 4 * units), Bias: fill(4 * units)},
			{Kernel: fill(units), Bias: fill(1)},
		},
	}
}

// Open returns a registry on a store, with the release key or, if signing is
// elsewhere, without.
func Open(t testing.TB, s *store.Store, k Keys, release ed25519.PrivateKey) *registry.Registry {
	t.Helper()
	r, err := registry.New(registry.Config{Store: s, Fleet: Fleet, Root: k.Root, ReleaseKey: release})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// OpenStore opens a store in dir until the test ends.
func OpenStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return s
}

// Add adds a small model as the next version of name.
func Add(t testing.TB, r *registry.Registry, name string, seed uint64) registry.Version {
	t.Helper()
	m, w := Model(t, 4, seed)
	v, err := r.Add(t.Context(), name, m, w, registry.Info{Report: []byte(`{"seed":1}`), Data: "d1", Run: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
