package artifact

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

const t0 = 1767225600000

// key returns a key that is always the same for n.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), n))
}

func public(n byte) []byte { return key(n).Public().(ed25519.PublicKey) }

// Keys of the roles in tests.
const (
	rootKey, rootKey2 = 1, 2
	releaseKey        = 3
	releaseKey2       = 4
	rolloutKey        = 5
	strangeKey        = 6
)

func role(threshold int, keys ...byte) Role {
	r := Role{Threshold: threshold}
	for _, k := range keys {
		r.Keys = append(r.Keys, public(k))
	}
	return r
}

func root0() Root {
	return Root{Format: 1, Version: 1, Roles: map[string]Role{
		RoleRoot: role(1, rootKey), RoleRelease: role(1, releaseKey, releaseKey2), RoleRollout: role(1, rolloutKey)}}
}

// A document is what can be signed.
type document interface {
	AppendBinary([]byte) ([]byte, error)
}

// seal encodes m and signs it.
func seal(t testing.TB, typ string, m document, keys ...byte) []byte {
	t.Helper()
	payload, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	var private []ed25519.PrivateKey
	for _, k := range keys {
		private = append(private, key(k))
	}
	b, err := Sign(typ, payload, private...).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openRoot(t testing.TB, r Root) *Root {
	t.Helper()
	root, err := OpenRoot(seal(t, TypeRoot, r, rootKey))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func f32(values []float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// model returns an int8 LSTM(units) → Dense(1) with weights as training
// leaves them: normal, each gate row scaled to ±127, scales rounded to
// float16 precision.
func model(features, units int) *Model {
	rng := rand.New(rand.NewPCG(7, uint64(units)))
	normal := func(n int, scale float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() * scale)
		}
		return v
	}
	quantized := func(rows int) (q, scales []byte) {
		w := normal(rows*4*units, 0.1)
		q = make([]byte, len(w))
		s := make([]float32, 4*units)
		for c := range s {
			top := 0.0
			for r := range rows {
				top = max(top, math.Abs(float64(w[r*4*units+c])))
			}
			s[c] = math.Float32frombits((math.Float32bits(float32(top/127)) + 0x1000) &^ 0x1fff)
			for r := range rows {
				v := math.RoundToEven(float64(w[r*4*units+c]) / float64(s[c]))
				q[r*4*units+c] = byte(int8(max(-127, min(127, v))))
			}
		}
		return q, f32(s)
	}
	kernel, kernelScale := quantized(features)
	recurrent, recurrentScale := quantized(units)
	m := &Model{
		Graph: Graph{Features: features, Layers: []Layer{
			{Kind: LSTM, Units: units}, {Kind: Dense, Units: 1, Activation: Linear}}},
		Schema: Schema{Targets: []Column{{Name: "rul", Unit: "cycles"}}, Window: 30, State: StateWindow, Horizon: 1},
		Task:   TaskRUL,
		Tensors: []Tensor{
			{"0.kernel", Int8, []int{features, 4 * units}, kernel},
			{"0.kernel_scale", Float32, []int{4 * units}, kernelScale},
			{"0.recurrent", Int8, []int{units, 4 * units}, recurrent},
			{"0.recurrent_scale", Float32, []int{4 * units}, recurrentScale},
			{"0.bias", Float32, []int{4 * units}, f32(normal(4*units, 0.3))},
			{"1.kernel", Float32, []int{units, 1}, f32(normal(units, 0.1))},
			{"1.bias", Float32, []int{1}, f32([]float32{0.5})},
		},
		Golden: Golden{Seed: 42, Steps: 30, Outputs: normal(GoldenVectors, 30)},
	}
	for i := range features {
		m.Schema.Features = append(m.Schema.Features, Column{Name: fmt.Sprintf("s%d", i+2)})
		m.Scaler.Mean = append(m.Scaler.Mean, float32(rng.NormFloat64()*100))
		m.Scaler.Std = append(m.Scaler.Std, float32(rng.Float64()))
		m.Scaler.Inv = append(m.Scaler.Inv, 1/m.Scaler.Std[i])
	}
	m.Scaler.OutMean, m.Scaler.OutStd = []float32{80}, []float32{40}
	return m
}

func releaseOf(t testing.TB, tr *Transfer) Release {
	t.Helper()
	return Release{Format: 1, Name: "turbofan", Version: 3, Digest: tr.Digest, Fleet: "default",
		Lineage: Lineage{Data: strings.Repeat("ab", 32), Run: "run-1", Parent: &protocol.Digest{1}, Forced: "ann"},
		Metrics: map[string]float64{"rmse": 15.5, "rmse_int8": 15.52}, MaxTransfer: tr.Size + 1024, MaxDecoded: tr.Decoded,
		ABI: 1, Floor: 2, Issued: t0}
}

func pack(t testing.TB, m *Model) *Transfer {
	t.Helper()
	tr, err := Pack(m)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestUnpackGivesTheModelBack(t *testing.T) {
	for _, m := range []*Model{model(14, 128), model(1, 1), model(3, 7), model(8, 200), gru()} {
		tr := pack(t, m)
		d, err := m.Digest()
		if err != nil || d != tr.Digest {
			t.Fatalf("digest %v, %v, transfer of %v", d, err, tr.Digest)
		}
		rel := releaseOf(t, tr)
		got, err := Unpack(tr.Descriptor, tr.Payload, nil, &rel)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := got.Digest(); err != nil || again != d {
			t.Errorf("%v: unpacked digest %v, %v, want %v", m.Graph, again, err, d)
		}
		for i := range m.Tensors {
			if string(got.Tensors[i].Data) != string(m.Tensors[i].Data) {
				t.Errorf("%v: %s differs", m.Graph, m.Tensors[i].Name)
			}
		}
	}
}

// TestDigestIsPinned: a digest is the identity of versions in the field; a
// change of the canonical form is a new format.
func TestDigestIsPinned(t *testing.T) {
	m := pinned()
	d, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if want := "532334a095219f8ab55b520882ff4decadfa8b827cb0c6d07182ac268259720a"; d.String() != want {
		t.Errorf("digest %s, want %s", d, want)
	}
	man, err := appendDocument(nil, "manifest", m.manifest(), MaxManifest)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New() // the canonical form, spelled out
	h.Write([]byte("sp1 model\x00"))
	h.Write([]byte{byte(len(man)), byte(len(man) >> 8), 0, 0})
	h.Write(man)
	for _, tensor := range m.Tensors {
		h.Write(tensor.Data)
	}
	if string(h.Sum(nil)) != string(d[:]) {
		t.Error("the digest is not the SHA-256 of the documented form")
	}
}

// pinned is a model without random numbers.
func pinned() *Model {
	return &Model{
		Graph: Graph{Features: 1, Layers: []Layer{{Kind: LSTM, Units: 1}, {Kind: Dense, Units: 2, Activation: Linear}}},
		Schema: Schema{Features: []Column{{"flow", "l/s"}}, Targets: []Column{{Name: "flow"}},
			Window: 2, State: StateWindow, Horizon: 2},
		Task: TaskForecast,
		Scaler: Scaler{Mean: []float32{10}, Std: []float32{2}, Inv: []float32{0.5},
			OutMean: []float32{10, 10}, OutStd: []float32{2, 2}, Anchor: []int32{0, -1}},
		Tensors: []Tensor{
			{"0.kernel", Int8, []int{1, 4}, []byte{1, 2, 3, 0x81}},
			{"0.kernel_scale", Float32, []int{4}, f32([]float32{1, 2, 3, 4})},
			{"0.recurrent", Float32, []int{1, 4}, f32([]float32{.1, .2, .3, .4})},
			{"0.bias", Float32, []int{4}, f32([]float32{0, 1, 0, 0})},
			{"1.kernel", Float32, []int{1, 2}, f32([]float32{1, -1})},
			{"1.bias", Float32, []int{2}, f32([]float32{0, 0})},
		},
		Golden: Golden{Seed: 1, Steps: 2, Outputs: make([]float32, 16), Tolerance: 1e-5},
	}
}

// gru is pinned with GRUs in place of the LSTM, the first one's kernels int8.
func gru() *Model {
	m := pinned()
	m.Graph.Layers = []Layer{
		{Kind: GRU, Units: 1, Sequences: true}, {Kind: GRU, Units: 2}, {Kind: Dense, Units: 2, Activation: Linear},
	}
	m.Tensors = []Tensor{
		{"0.kernel", Int8, []int{1, 3}, []byte{1, 2, 0x81}},
		{"0.kernel_scale", Float32, []int{3}, f32([]float32{1, 2, 3})},
		{"0.recurrent", Int8, []int{1, 3}, []byte{3, 2, 1}},
		{"0.recurrent_scale", Float32, []int{3}, f32([]float32{3, 2, 1})},
		{"0.bias", Float32, []int{2, 3}, f32([]float32{0, 1, 0, 2, 0, 0})},
		{"1.kernel", Float32, []int{1, 6}, f32(make([]float32, 6))},
		{"1.recurrent", Float32, []int{2, 6}, f32(make([]float32, 12))},
		{"1.bias", Float32, []int{2, 6}, f32(make([]float32, 12))},
		{"2.kernel", Float32, []int{2, 2}, f32([]float32{1, -1, 0, 1})},
		{"2.bias", Float32, []int{2}, f32([]float32{0, 0})},
	}
	return m
}

func TestDigestOfAGRUIsPinned(t *testing.T) {
	d, err := gru().Digest()
	if want := "6076e97fb9dac9df98cd37340607b859ff3f2bb7b5a790e696cf66ff81cb44c9"; err != nil || d.String() != want {
		t.Errorf("digest %v, %v, want %s", d, err, want)
	}
	for name, change := range map[string]func(*Model){
		"bias of one row":  func(m *Model) { m.Tensors[4].Shape = []int{6} },
		"bias of 3 rows":   func(m *Model) { m.Tensors[4].Shape = []int{3, 2} },
		"no bias":          func(m *Model) { m.Tensors = append(m.Tensors[:4:4], m.Tensors[5:]...) },
		"no scale":         func(m *Model) { m.Tensors = append(m.Tensors[:3:3], m.Tensors[4:]...) },
		"scale a bias":     func(m *Model) { m.Tensors[3].Shape = []int{6} },
		"activation":       func(m *Model) { m.Graph.Layers[1].Activation = ReLU },
		"no sequence":      func(m *Model) { m.Graph.Layers[0].Sequences = false },
		"too many units":   func(m *Model) { m.Graph.Layers[0].Units = MaxUnits + 1 },
		"an lstm's kernel": func(m *Model) { m.Tensors[0].Shape = []int{1, 4} },
	} {
		m := gru()
		change(m)
		if err := m.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Validate() = %v, want ErrInvalid", name, err)
		}
	}
}

func TestDigestCoversEverything(t *testing.T) {
	before, err := pinned().Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Model){
		"task":       func(m *Model) { m.Task = TaskAnomaly },
		"activation": func(m *Model) { m.Graph.Layers[1].Activation = ReLU },
		"feature":    func(m *Model) { m.Schema.Features[0].Name = "temp" },
		"unit":       func(m *Model) { m.Schema.Features[0].Unit = "m3/h" },
		"warmup":     func(m *Model) { m.Schema.Warmup = 1 },
		"mean":       func(m *Model) { m.Scaler.Mean[0] = 11 },
		"std":        func(m *Model) { m.Scaler.Std[0] = 3 },
		"inv":        func(m *Model) { m.Scaler.Inv[0] = 0 },
		"out mean":   func(m *Model) { m.Scaler.OutMean[1] = 0 },
		"out std":    func(m *Model) { m.Scaler.OutStd[1] = 0 },
		"anchor":     func(m *Model) { m.Scaler.Anchor = nil },
		"weight":     func(m *Model) { m.Tensors[0].Data[0]++ },
		"minus zero": func(m *Model) { m.Tensors[3].Data[3] = 0x80 },
		"seed":       func(m *Model) { m.Golden.Seed++ },
		"golden":     func(m *Model) { m.Golden.Outputs[15] = 1 },
		"tolerance":  func(m *Model) { m.Golden.Tolerance = 0 },
	} {
		m := pinned()
		change(m)
		if d, err := m.Digest(); err != nil || d == before {
			t.Errorf("%s: digest %v, %v, want another", name, d, err)
		}
	}
}

// skipFeatures has every output of m read feature f.
func skipFeatures(m *Model, f int32) []int32 { return slices.Repeat([]int32{f}, m.Schema.Outputs()) }

func TestValidateRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for name, c := range map[string]struct {
		change func(*Model)
		want   error
	}{
		"task":              {func(m *Model) { m.Task = "guess" }, ErrInvalid},
		"state":             {func(m *Model) { m.Schema.State = "" }, ErrInvalid},
		"window":            {func(m *Model) { m.Schema.Window = 0 }, ErrInvalid},
		"large window":      {func(m *Model) { m.Schema.Window = MaxSteps + 1 }, ErrInvalid},
		"horizon":           {func(m *Model) { m.Schema.Horizon = 3 }, ErrInvalid},
		"no features":       {func(m *Model) { m.Schema.Features = nil }, ErrInvalid},
		"same feature":      {func(m *Model) { m.Schema.Features = []Column{{Name: "a"}, {Name: "a"}} }, ErrInvalid},
		"long name":         {func(m *Model) { m.Schema.Targets[0].Name = strings.Repeat("x", 65) }, ErrInvalid},
		"features":          {func(m *Model) { m.Graph.Features = 2 }, ErrInvalid},
		"no layers":         {func(m *Model) { m.Graph.Layers = nil }, ErrInvalid},
		"dense first":       {func(m *Model) { m.Graph.Layers = m.Graph.Layers[1:] }, ErrInvalid},
		"lstm behind dense": {func(m *Model) { m.Graph.Layers = append(m.Graph.Layers, m.Graph.Layers[0]) }, ErrInvalid},
		"gru behind dense":  {func(m *Model) { m.Graph.Layers = append(m.Graph.Layers, Layer{Kind: GRU, Units: 1}) }, ErrInvalid},
		"gru of 4 gates":    {func(m *Model) { m.Graph.Layers[0].Kind = GRU }, ErrInvalid},
		"rnn":               {func(m *Model) { m.Graph.Layers[0].Kind = "rnn" }, ErrInvalid},
		"activation":        {func(m *Model) { m.Graph.Layers[1].Activation = "gelu" }, ErrInvalid},
		"units":             {func(m *Model) { m.Graph.Layers[0].Units = 1025 }, ErrInvalid},
		"mean":              {func(m *Model) { m.Scaler.Mean[0] = nan }, ErrNonFinite},
		"negative std":      {func(m *Model) { m.Scaler.Std[0] = -1 }, ErrInvalid},
		"infinite std":      {func(m *Model) { m.Scaler.OutStd[0] = -inf }, ErrNonFinite},
		"short scaler":      {func(m *Model) { m.Scaler.Inv = nil }, ErrInvalid},
		"anchor":            {func(m *Model) { m.Scaler.Anchor[0] = 1 }, ErrInvalid},
		"anchor count":      {func(m *Model) { m.Scaler.Anchor = []int32{0} }, ErrInvalid},
		"golden steps":      {func(m *Model) { m.Golden.Steps = 3 }, ErrInvalid},
		"golden outputs":    {func(m *Model) { m.Golden.Outputs = m.Golden.Outputs[1:] }, ErrInvalid},
		"golden NaN":        {func(m *Model) { m.Golden.Outputs[0] = nan }, ErrNonFinite},
		"tolerance":         {func(m *Model) { m.Golden.Tolerance = nan }, ErrInvalid},
		"missing tensor":    {func(m *Model) { m.Tensors = m.Tensors[:5] }, ErrInvalid},
		"extra tensor":      {func(m *Model) { m.Tensors = append(m.Tensors, m.Tensors[5]) }, ErrInvalid},
		"tensor order":      {func(m *Model) { m.Tensors[4], m.Tensors[5] = m.Tensors[5], m.Tensors[4] }, ErrInvalid},
		"tensor type":       {func(m *Model) { m.Tensors[0].Type = "i4" }, ErrInvalid},
		"int8 dense":        {func(m *Model) { m.Tensors[4].Type = Int8 }, ErrInvalid},
		"shape":             {func(m *Model) { m.Tensors[0].Shape = []int{4, 1} }, ErrInvalid},
		"shape that wraps":  {func(m *Model) { m.Tensors[0].Shape = []int{1 << 16, 1 << 16} }, ErrTooLarge},
		"negative shape":    {func(m *Model) { m.Tensors[0].Shape = []int{-1, -4} }, ErrInvalid},
		"short data":        {func(m *Model) { m.Tensors[0].Data = m.Tensors[0].Data[1:] }, ErrInvalid},
		"weight of -128":    {func(m *Model) { m.Tensors[0].Data[0] = 0x80 }, ErrInvalid},
		"infinite weight":   {func(m *Model) { copy(m.Tensors[2].Data, f32([]float32{inf})) }, ErrNonFinite},
		"NaN scale":         {func(m *Model) { copy(m.Tensors[1].Data, f32([]float32{nan})) }, ErrNonFinite},
		"skip outputs":      {func(m *Model) { m.Skip = &Skip{} }, ErrInvalid},
		"skip feature":      {func(m *Model) { m.Skip = &Skip{Features: skipFeatures(m, 99)} }, ErrInvalid},
		"skip tensors":      {func(m *Model) { m.Skip = &Skip{Features: skipFeatures(m, 0)} }, ErrInvalid},
	} {
		m := pinned()
		c.change(m)
		if err := m.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: Validate() = %v, want %v", name, err, c.want)
		}
		if _, err := Pack(m); !errors.Is(err, c.want) {
			t.Errorf("%s: Pack() = %v, want %v", name, err, c.want)
		}
		if _, err := m.Digest(); !errors.Is(err, c.want) {
			t.Errorf("%s: Digest() = %v, want %v", name, err, c.want)
		}
	}
}

func TestGoldenInputs(t *testing.T) {
	m := model(3, 4)
	m.Golden.Seed = 0
	m.Scaler.Mean, m.Scaler.Std = []float32{10, -5, 7}, []float32{2, 0.5, 0}
	in := m.GoldenInputs()
	if len(in) != GoldenVectors || len(in[0]) != m.Golden.Steps*3 {
		t.Fatalf("%d inputs of %d values", len(in), len(in[0]))
	}
	// The first outputs of splitmix64 from 0 are published with it.
	u := func(r uint64) float32 { return float32(6*float64(r>>40)/16777216 - 3) }
	want := []float32{10 + float32(2*u(0xe220a8397b1dcdaf)), -5 + float32(0.5*u(0x6e789e6aa1b965f4)), 7}
	for i, w := range want {
		if in[0][i] != w {
			t.Errorf("value %d is %v, want %v", i, in[0][i], w)
		}
	}
	if in[0][0] == in[1][0] || in[0][0] == in[0][3] {
		t.Error("rows or vectors repeat")
	}
	for _, rows := range in {
		for i, v := range rows {
			if f := i % 3; v < m.Scaler.Mean[f]-3*m.Scaler.Std[f] || v > m.Scaler.Mean[f]+3*m.Scaler.Std[f] {
				t.Fatalf("value %d is %v, outside 3 deviations", i, v)
			}
		}
	}
}

// TestInstallSize prints what an installation costs: everything a device
// receives for the reference model.
func TestInstallSize(t *testing.T) {
	m := model(14, 128)
	tr := pack(t, m)
	envelope := seal(t, TypeRelease, releaseOf(t, tr), releaseKey)
	a, err := Announce(envelope, tr).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	man, _ := appendDocument(nil, "manifest", m.manifest(), MaxManifest)
	d, _ := tr.Descriptor.AppendBinary(nil)
	w := protocol.Want{Format: 1, Fleet: "default", Device: "pump-03", Epoch: 1, Rev: 42, Issued: t0,
		Models: map[string]protocol.ModelWant{"turbofan": {Active: protocol.WantedVersion{Digest: tr.Digest,
			Transfers: []protocol.TransferRef{{Hash: tr.Hash(), Kind: protocol.KindFull, Size: tr.Size}}}}}, JitterS: 60}
	want := seal(t, TypeWant, w, rolloutKey)
	total := len(want) + len(a) + len(tr.Payload)
	t.Logf("int8 LSTM(128) → Dense(1), 14 features: payload %d B in %d chunks (manifest %d B, tensors %d B), codecs %v",
		len(tr.Payload), len(tr.Chunks), len(man), int(tr.Decoded)-len(man), tr.Codecs)
	t.Logf("descriptor %d B, release %d B, announcement %d B, want %d B, install in all %d B",
		len(d), len(envelope), len(a), len(want), total)
	if total > 76_000 {
		t.Errorf("an installation costs %d bytes, want at most 76,000", total)
	}
	if len(want) > 300 {
		t.Errorf("a typical want has %d bytes, want at most 300", len(want))
	}
}
