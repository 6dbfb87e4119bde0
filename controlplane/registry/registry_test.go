package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

func signing(t *testing.T) (*registry.Registry, registrytest.Keys) {
	t.Helper()
	k := registrytest.NewKeys(t, 1)
	return registrytest.Open(t, registrytest.OpenStore(t, t.TempDir()), k, k.Release), k
}

func TestAddedVersionIsFoundWithAllItCameWith(t *testing.T) {
	dir := t.TempDir()
	k := registrytest.NewKeys(t, 1)
	r := registrytest.Open(t, registrytest.OpenStore(t, dir), k, k.Release)
	m, w := registrytest.Model(t, 4, 1)
	parent := protocol.Digest{7}
	info := registry.Info{
		Report: []byte(`{"items":10}`), Metrics: map[string]float64{"rmse": 0.5}, Data: "data", Run: "run", Parent: &parent, Forced: "ann",
	}
	added, err := r.Add(t.Context(), "wear", m, w, info)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if added.Ref() != "wear:v1" || added.Digest != digest || !added.Signed || !added.HasFloat32 || added.Bytes == 0 {
		t.Errorf("Add = %+v", added)
	}
	// Another control plane on the same folder, as after a restart.
	again := registrytest.Open(t, registrytest.OpenStore(t, dir), k, k.Release)
	got, err := again.Resolve(t.Context(), "wear")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(added, got); d != "" {
		t.Errorf("Resolve (-added +got)\n%s", d)
	}
	if d := cmp.Diff(artifact.Lineage{Data: "data", Run: "run", Parent: &parent, Forced: "ann"}, got.Lineage); d != "" {
		t.Errorf("lineage (-want +got)\n%s", d)
	}
	weights, err := again.Weights(t.Context(), "wear:v1")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, weights); d != "" {
		t.Errorf("float32 weights (-want +got)\n%s", d)
	}
	decoded, err := again.Model(t.Context(), "wear:v1")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := decoded.Digest(); err != nil || d != digest {
		t.Errorf("stored model has digest %v, %v, want %v", d, err, digest)
	}
	v, err := again.Verify(t.Context(), "wear:v1")
	if err != nil || v.Digest != digest || v.Golden != artifact.GoldenVectors {
		t.Errorf("Verify = %+v, %v", v, err)
	}
}

func TestNumbersCountFromOneAndSameModelIsSameVersion(t *testing.T) {
	r, _ := signing(t)
	for i, want := range []string{"a:v1", "a:v2", "a:v1", "a:v3"} {
		seed := []uint64{1, 2, 1, 3}[i]
		if v := registrytest.Add(t, r, "a", seed); v.Ref() != want {
			t.Errorf("Add(seed %d) = %s, want %s", seed, v.Ref(), want)
		}
	}
	m, _ := registrytest.Model(t, 4, 1)
	if _, err := r.Add(t.Context(), "b", m, nil, registry.Info{}); !errors.Is(err, registry.ErrExists) || !strings.Contains(err.Error(), "a:v1") {
		t.Errorf("Add(model of a:v1 as b) = %v, want ErrExists naming a:v1", err)
	}
	if _, err := r.Add(t.Context(), "B", m, nil, registry.Info{}); !errors.Is(err, protocol.ErrID) {
		t.Errorf("Add(B) = %v, want ErrID", err)
	}
}

func TestAddRefusesAModelThatDoesNotReproduce(t *testing.T) {
	r, _ := signing(t)
	m, _ := registrytest.Model(t, 4, 1)
	m.Golden.Outputs[3] += 1
	if v, err := r.Add(t.Context(), "a", m, nil, registry.Info{}); err == nil {
		t.Errorf("Add(wrong golden output) = %s, want an error", v.Ref())
	}
	if _, err := r.Resolve(t.Context(), "a"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Resolve after a refused Add = %v, want ErrNotFound", err)
	}
}

func TestResolve(t *testing.T) {
	r, _ := signing(t)
	for seed := range uint64(2) {
		registrytest.Add(t, r, "turbofan", seed)
	}
	if _, err := r.Tag(t.Context(), "turbofan:v1", "prod"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ref, want string
		err       error
		hint      string
	}{
		{ref: "turbofan", want: "turbofan:v2"},
		{ref: "turbofan:latest", want: "turbofan:v2"},
		{ref: "turbofan:v1", want: "turbofan:v1"},
		{ref: "turbofan:prod", want: "turbofan:v1"},
		{ref: "turbofn", err: registry.ErrNotFound, hint: `did you mean "turbofan"?`},
		{ref: "boiler", err: registry.ErrNotFound, hint: "the models are turbofan"},
		{ref: "turbofan:v3", err: registry.ErrNotFound, hint: "the latest is turbofan:v2"},
		{ref: "turbofan:prd", err: registry.ErrNotFound, hint: `did you mean "prod"?`},
		{ref: "turbofan:canary", err: registry.ErrNotFound, hint: "its aliases are prod"},
		{ref: "", err: registry.ErrRef},
		{ref: ":v1", err: registry.ErrRef},
		{ref: "turbofan:", err: registry.ErrRef},
		{ref: "turbofan:v0", err: registry.ErrRef},
		{ref: "Turbofan", err: registry.ErrRef},
		{ref: "turbofan:v1:v2", err: registry.ErrRef},
		{ref: "turbofan:v99999999999999999999", err: registry.ErrNotFound},
		{ref: "../turbofan", err: registry.ErrRef},
	} {
		v, err := r.Resolve(t.Context(), tt.ref)
		if !errors.Is(err, tt.err) || tt.err == nil && v.Ref() != tt.want {
			t.Errorf("Resolve(%q) = %s, %v, want %s, %v", tt.ref, v.Ref(), err, tt.want, tt.err)
		}
		if err != nil && !strings.Contains(err.Error(), tt.hint) {
			t.Errorf("Resolve(%q) says %q, want %q in it", tt.ref, err, tt.hint)
		}
	}
}

func TestAliasesMove(t *testing.T) {
	r, _ := signing(t)
	for seed := range uint64(2) {
		registrytest.Add(t, r, "a", seed)
	}
	for _, ref := range []string{"a:v1", "a:v2", "a:v1", "a:latest"} {
		v, err := r.Tag(t.Context(), ref, "prod")
		if err != nil || len(v.Aliases) != 1 || v.Aliases[0] != "prod" {
			t.Errorf("Tag(%s) = %v, %v", ref, v.Aliases, err)
		}
		if got, err := r.Resolve(t.Context(), "a:prod"); err != nil || got.Number != v.Number {
			t.Errorf("after Tag(%s): a:prod = %s, %v", ref, got.Ref(), err)
		}
	}
	if v, err := r.Resolve(t.Context(), "a:v1"); err != nil || len(v.Aliases) != 0 {
		t.Errorf("a:v1 still has %v, %v", v.Aliases, err)
	}
	for _, alias := range []string{"v1", "v12", "latest", "", "Prod", "a:b"} {
		if _, err := r.Tag(t.Context(), "a", alias); !errors.Is(err, registry.ErrAlias) {
			t.Errorf("Tag(alias %q) = %v, want ErrAlias", alias, err)
		}
	}
}

func TestList(t *testing.T) {
	r, _ := signing(t)
	for seed := range uint64(3) {
		registrytest.Add(t, r, "b", seed)
	}
	registrytest.Add(t, r, "a", 9)
	if _, err := r.Tag(t.Context(), "b:v2", "prod"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for after := ""; ; {
		p, err := r.List(t.Context(), "", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range p.Versions {
			got = append(got, fmt.Sprint(v.Ref(), v.Aliases))
		}
		if after = p.Next; after == "" {
			break
		}
	}
	if d := cmp.Diff([]string{"a:v1[]", "b:v1[]", "b:v2[prod]", "b:v3[]"}, got); d != "" {
		t.Errorf("List in pages (-want +got)\n%s", d)
	}
	if p, err := r.List(t.Context(), "b", "", 0); err != nil || len(p.Versions) != 3 || p.Next != "" {
		t.Errorf("List(b) = %d versions, next %q, %v", len(p.Versions), p.Next, err)
	}
	if _, err := r.List(t.Context(), "", "b", 0); !errors.Is(err, registry.ErrRef) {
		t.Errorf("List(after b) = %v, want ErrRef", err)
	}
}

func TestUnsignedUntilSigned(t *testing.T) {
	k := registrytest.NewKeys(t, 1)
	r := registrytest.Open(t, registrytest.OpenStore(t, t.TempDir()), k, nil)
	v := registrytest.Add(t, r, "a", 1)
	if v.Signed {
		t.Fatal("signed without a key")
	}
	if _, err := r.Model(t.Context(), "a"); err != nil {
		t.Errorf("Model of an unsigned version = %v", err)
	}
	if _, err := r.Verify(t.Context(), "a"); !errors.Is(err, registry.ErrUnsigned) {
		t.Errorf("Verify = %v, want ErrUnsigned", err)
	}
	if _, err := r.Export(t.Context(), "a", io.Discard); !errors.Is(err, registry.ErrUnsigned) {
		t.Errorf("Export = %v, want ErrUnsigned", err)
	}
	if _, _, err := r.Announcement(t.Context(), v.Hash); !errors.Is(err, registry.ErrUnsigned) {
		t.Errorf("Announcement = %v, want ErrUnsigned", err)
	}
	for _, wrong := range []registrytest.Keys{registrytest.NewKeys(t, 2), {Release: k.Rollout}} {
		if _, err := r.Sign(t.Context(), "a", wrong.Release); !errors.Is(err, registry.ErrKey) {
			t.Errorf("Sign with a foreign key = %v, want ErrKey", err)
		}
	}
	if v, err := r.Sign(t.Context(), "a", k.Release); err != nil || !v.Signed {
		t.Errorf("Sign = %v, %v", v.Signed, err)
	}
	if _, err := r.Verify(t.Context(), "a"); err != nil {
		t.Errorf("Verify after Sign = %v", err)
	}
	if _, err := r.Sign(t.Context(), "a", k.Release); err != nil {
		t.Errorf("Sign twice = %v", err)
	}
}

func export(t *testing.T, r *registry.Registry, ref string) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := r.Export(t.Context(), ref, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestImportKeepsNameNumberAndSignature(t *testing.T) {
	from, k := signing(t)
	registrytest.Add(t, from, "a", 1)
	v := registrytest.Add(t, from, "a", 2)
	file := export(t, from, "a:v2")
	to := registrytest.Open(t, registrytest.OpenStore(t, t.TempDir()), k, nil)
	for range 2 { // the second time is a no-op
		got, err := to.Import(t.Context(), bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if got.Ref() != "a:v2" || got.Digest != v.Digest || !got.Signed || got.HasFloat32 || got.Report != nil {
			t.Errorf("Import = %+v", got)
		}
		if d := cmp.Diff(v.Lineage, got.Lineage); d != "" {
			t.Errorf("lineage (-want +got)\n%s", d)
		}
	}
	if _, err := to.Verify(t.Context(), "a:v2"); err != nil {
		t.Errorf("Verify after Import = %v", err)
	}
	if again := export(t, to, "a:v2"); !bytes.Equal(again, file) {
		t.Error("exporting what was imported gives another file")
	}
	if _, err := to.Weights(t.Context(), "a:v2"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Weights after Import = %v, want ErrNotFound", err)
	}
	if next := registrytest.Add(t, to, "a", 3); next.Ref() != "a:v3" {
		t.Errorf("version after an imported v2 is %s, want a:v3", next.Ref())
	}
}

func TestImportRefuses(t *testing.T) {
	ours, k := signing(t)
	registrytest.Add(t, ours, "a", 1)
	file := export(t, ours, "a:v1")

	foreignKeys := registrytest.NewKeys(t, 2)
	foreign := registrytest.Open(t, registrytest.OpenStore(t, t.TempDir()), foreignKeys, foreignKeys.Release)
	registrytest.Add(t, foreign, "a", 1)

	// The same keys on another control plane, where a:v1 is another model.
	other := registrytest.Open(t, registrytest.OpenStore(t, t.TempDir()), k, k.Release)
	registrytest.Add(t, other, "a", 5)

	fresh := func() *registry.Registry {
		return registrytest.Open(t, registrytest.OpenStore(t, t.TempDir()), k, nil)
	}
	elsewhere, err := registry.New(registry.Config{Store: registrytest.OpenStore(t, t.TempDir()), Fleet: "north", Root: k.Root})
	if err != nil {
		t.Fatal(err)
	}
	unsigned := resign(t, file, nil)
	for _, tt := range []struct {
		name string
		to   *registry.Registry
		file []byte
		want error
	}{
		{"wrong key", fresh(), export(t, foreign, "a:v1"), artifact.ErrWrongKey},
		{"unsigned", fresh(), unsigned, artifact.ErrUnsigned},
		{"another fleet", elsewhere, file, artifact.ErrFleet},
		{"another kernel", fresh(), released(t, k, 2, func(*artifact.Model) {}), artifact.ErrABI},
		{"golden vector of another model", fresh(), released(t, k, kernel.ABI, func(m *artifact.Model) { m.Golden.Outputs[0]++ }), predictor.ErrGolden},
		{"a number that is taken", ours, export(t, other, "a:v1"), registry.ErrExists},
		{"empty", fresh(), nil, artifact.ErrTruncated},
	} {
		if v, err := tt.to.Import(t.Context(), bytes.NewReader(tt.file)); !errors.Is(err, tt.want) {
			t.Errorf("Import(%s) = %s, %v, want %v", tt.name, v.Ref(), err, tt.want)
		}
	}
	to := fresh()
	for i := 0; i < len(file); i += 1 + len(file)/199 {
		bad := bytes.Clone(file)
		bad[i] ^= 0x10
		if v, err := to.Import(t.Context(), bytes.NewReader(bad)); err == nil {
			t.Errorf("Import with byte %d of %d changed = %s", i, len(file), v.Ref())
		}
		if v, err := to.Import(t.Context(), bytes.NewReader(file[:i])); err == nil {
			t.Errorf("Import of the first %d of %d bytes = %s", i, len(file), v.Ref())
		}
	}
	if _, err := to.Import(t.Context(), bytes.NewReader(append(bytes.Clone(file), 0))); err == nil {
		t.Error("Import with a byte too many = nil")
	}
	if p, err := to.List(t.Context(), "", "", 0); err != nil || len(p.Versions) != 0 {
		t.Errorf("refused imports left %v, %v", p.Versions, err)
	}
}

// released makes a file of a:v1 for a kernel, from a model that change changes.
func released(t *testing.T, k registrytest.Keys, abi int, change func(*artifact.Model)) []byte {
	t.Helper()
	m, _ := registrytest.Model(t, 4, 9)
	change(m)
	tr, err := artifact.Pack(m)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, k, tr, artifact.Release{
		Format: artifact.Format, Name: "a", Version: 1, Digest: tr.Digest, Fleet: registrytest.Fleet, ABI: abi,
		MaxTransfer: tr.Size, MaxDecoded: tr.Decoded,
	})
}

// file makes the file of a release and its transfer.
func file(t *testing.T, k registrytest.Keys, tr *artifact.Transfer, rel artifact.Release) []byte {
	t.Helper()
	payload, err := rel.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := artifact.Sign(artifact.TypeRelease, payload, k.Release).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := artifact.WriteFile(&b, envelope, tr); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// resign replaces the signatures of an exported file.
func resign(t *testing.T, file []byte, signatures []artifact.Signature) []byte {
	t.Helper()
	release, transfer, err := artifact.ReadFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var e artifact.Envelope
	if err := e.UnmarshalBinary(release); err != nil {
		t.Fatal(err)
	}
	e.Signatures = signatures
	if release, err = e.AppendBinary(nil); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := artifact.WriteFile(&b, release, transfer); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDamagedBlobIsFoundWhenRead(t *testing.T) {
	dir := t.TempDir()
	k := registrytest.NewKeys(t, 1)
	r := registrytest.Open(t, registrytest.OpenStore(t, dir), k, k.Release)
	v := registrytest.Add(t, r, "a", 1)
	damaged := 0
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		damaged++
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || damaged != 2 {
		t.Fatalf("damaged %d blobs, %v, want 2: payload and weights", damaged, err)
	}
	_, modelErr := r.Model(t.Context(), "a")
	_, weightsErr := r.Weights(t.Context(), "a")
	_, verifyErr := r.Verify(t.Context(), "a")
	_, exportErr := r.Export(t.Context(), "a", io.Discard)
	_, _, announceErr := r.Announcement(t.Context(), v.Hash)
	for name, err := range map[string]error{
		"Model": modelErr, "Weights": weightsErr, "Verify": verifyErr, "Export": exportErr, "Announcement": announceErr,
	} {
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s of damaged blobs = %v, want ErrCorrupt", name, err)
		}
	}
	registrytest.Add(t, r, "a", 1) // the same model again: its payload is stored anew
	if _, err := r.Verify(t.Context(), "a"); err != nil {
		t.Errorf("Verify after adding the same model again = %v", err)
	}
}

func TestConcurrentAddsGetDifferentNumbers(t *testing.T) {
	r, _ := signing(t)
	const n = 8
	var wg sync.WaitGroup
	numbers := make([]uint64, n)
	for i := range n {
		m, _ := registrytest.Model(t, 2, uint64(i))
		wg.Go(func() {
			v, err := r.Add(context.Background(), "a", m, nil, registry.Info{})
			if err != nil {
				t.Error(err)
			}
			numbers[i] = v.Number
		})
	}
	wg.Wait()
	seen := map[uint64]bool{}
	for _, k := range numbers {
		if seen[k] || k < 1 || k > n {
			t.Errorf("numbers %v, want 1 to %d, each once", numbers, n)
			break
		}
		seen[k] = true
	}
}
