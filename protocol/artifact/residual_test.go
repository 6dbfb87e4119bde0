package artifact

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// clone returns a copy of m that shares nothing that tests change.
func clone(m *Model) *Model {
	c := *m
	c.Tensors = slices.Clone(m.Tensors)
	for i := range c.Tensors {
		c.Tensors[i].Data = bytes.Clone(m.Tensors[i].Data)
	}
	c.Golden.Outputs = slices.Clone(m.Golden.Outputs)
	return &c
}

// tuned returns m as an epoch of Adam at 1e-4 leaves it: scales a little
// different, weights moved by a step or two, biases and golden outputs by a
// hundredth.
func tuned(m *Model) *Model {
	rng := rand.New(rand.NewPCG(3, 4))
	c := clone(m)
	for i := range c.Tensors {
		t := &c.Tensors[i]
		if t.Type == Int8 {
			for j, q := range t.Data {
				step := math.Round(rng.NormFloat64())
				t.Data[j] = byte(int8(max(-127, min(127, float64(int8(q))+step))))
			}
			continue
		}
		for j := 0; j < len(t.Data); j += 4 {
			v := math.Float32frombits(load32(t.Data[j:]))
			b := math.Float32bits(v * float32(1+0.01*rng.NormFloat64()))
			if strings.HasSuffix(t.Name, "_scale") {
				b = (b + 0x1000) &^ 0x1fff
			}
			binary.LittleEndian.PutUint32(t.Data[j:], b)
		}
	}
	for i := range c.Golden.Outputs {
		c.Golden.Outputs[i] += float32(0.01 * rng.NormFloat64())
	}
	return c
}

// tunedHead returns m with another last layer.
func tunedHead(m *Model) *Model {
	c := tuned(m)
	for i := range firstTensor(m, protocol.KindHead) {
		c.Tensors[i].Data = bytes.Clone(m.Tensors[i].Data)
	}
	return c
}

func packUpdate(t testing.TB, m, base *Model, pack func(m, base *Model) (*Transfer, error)) *Transfer {
	t.Helper()
	tr, err := pack(m, base)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func sameModel(t *testing.T, name string, got, want *Model) {
	t.Helper()
	a, err1 := got.Digest()
	b, err2 := want.Digest()
	if err1 != nil || err2 != nil || a != b {
		t.Errorf("%s: digest %v, %v, want %v, %v", name, a, err1, b, err2)
	}
}

func TestUpdatesGiveTheModelBack(t *testing.T) {
	other := func(m *Model) *Model { // the same tensors with nothing in common
		rng := rand.New(rand.NewPCG(1, 1))
		c := clone(m)
		for i := range c.Tensors {
			for j := range c.Tensors[i].Data {
				if b := byte(rng.Uint32()); b != 0x80 && (c.Tensors[i].Type == Int8 || j%4 < 3) {
					c.Tensors[i].Data[j] = b
				}
			}
		}
		return c
	}
	longer := func(m *Model) *Model { // a manifest of another length
		c := tuned(m)
		c.Schema.Features = slices.Clone(c.Schema.Features)
		c.Schema.Features[0].Unit += "³"
		return c
	}
	same := func(m *Model) *Model { return m }
	for name, base := range map[string]*Model{"int8": model(14, 128), "mixed": pinned(), "gru": gru(), "two blocks": model(2, 200)} {
		for change, m := range map[string]*Model{
			"tuned": tuned(base), "other": other(base), "longer": longer(base), "same": same(base), "head": tunedHead(base),
		} {
			kinds := []func(m, base *Model) (*Transfer, error){PackDelta}
			if change == "same" || change == "head" {
				kinds = append(kinds, PackHead)
			}
			for _, pack := range kinds {
				tr := packUpdate(t, m, base, pack)
				what := name + " " + change + " " + tr.Kind
				rel := releaseOf(t, tr)
				got, err := Unpack(tr.Descriptor, tr.Payload, base, &rel)
				if err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				sameModel(t, what, got, m)
				if &got.Tensors[0].Data[0] == &base.Tensors[0].Data[0] {
					t.Errorf("%s: the model shares its base's weights", what)
				}
			}
		}
	}
}

// TestUpdatesAreSmall: what a difference does not make smaller is sent plain.
func TestUpdatesAreSmall(t *testing.T) {
	base := model(14, 128)
	full := pack(t, tuned(base))
	if d := packUpdate(t, tuned(base), base, PackDelta); 2*d.Size > full.Size {
		t.Errorf("a delta of a tuned model has %d bytes, the full transfer %d", d.Size, full.Size)
	}
	if h := packUpdate(t, tunedHead(base), base, PackHead); h.Size > 1024 || len(h.Codecs) != 1+4*2 {
		t.Errorf("a head has %d bytes in %d streams, want at most 1,024 in 9", h.Size, len(h.Codecs))
	}
	if d := packUpdate(t, base, base, PackDelta); d.Size > 512 {
		t.Errorf("a delta of nothing has %d bytes", d.Size)
	}
	strange := clone(base)
	rng := rand.New(rand.NewPCG(5, 5))
	rng.Shuffle(len(strange.Tensors[2].Data), func(i, j int) {
		d := strange.Tensors[2].Data
		d[i], d[j] = d[j], d[i]
	})
	if d := packUpdate(t, strange, base, PackDelta); d.Codecs[6]&Residual != 0 || d.Codecs[0]&Residual == 0 {
		t.Errorf("a shuffled recurrent kernel goes as %v, the manifest as %v", d.Codecs[6], d.Codecs[0])
	}
	raw, err := PackRaw(base)
	if err != nil || raw.Kind != protocol.KindFull || raw.Size != raw.Decoded+2 || slices.Max(raw.Codecs) != Raw {
		t.Errorf("PackRaw: %v, %d bytes of %d, codecs %v", err, raw.Size, raw.Decoded, raw.Codecs)
	}
	if err := unpack(t, raw); err != nil {
		t.Error(err)
	}
}

// TestInt8ResidualIsTheDocumentedOne computes it once more, value by value.
func TestInt8ResidualIsTheDocumentedOne(t *testing.T) {
	base := pinned()
	base.Tensors[0].Shape, base.Graph.Features = []int{3, 4}, 3
	base.Tensors[0].Data = []byte{1, 2, 3, 0x81, 5, 6, 7, 8, 127, 127, 0, 0xff}
	base.Tensors[1].Data = f32([]float32{1, 2.5, 3, 4})
	m := clone(base)
	m.Tensors[0].Data = []byte{2, 0x81, 127, 0, 1, 2, 3, 4, 0x81, 0, 5, 6}
	m.Tensors[1].Data = f32([]float32{0.5, 2, math.SmallestNonzeroFloat32, 4.1})
	was, is := []float32{1, 2.5, 3, 4}, []float32{0.5, 2, math.SmallestNonzeroFloat32, 4.1}
	got := residual(m, base, 0)
	for j, q := range base.Tensors[0].Data {
		ratio := was[j%4] / is[j%4]
		v := math.RoundToEven(float64(float32(int8(q)) * ratio))
		want := m.Tensors[0].Data[j] - byte(int8(max(-127, min(127, v))))
		if j%4 == 2 && q == 0 { // 0·Inf is NaN, by convention −127
			want = m.Tensors[0].Data[j] - 0x81
		}
		if got[j] != want {
			t.Errorf("value %d: %d, want %d", j, got[j], want)
		}
	}
	for i := range m.Tensors {
		c := clone(m)
		c.Tensors[i].Data = residual(m, base, i)
		addBase(c, base, i)
		if !bytes.Equal(c.Tensors[i].Data, m.Tensors[i].Data) {
			t.Errorf("tensor %s does not come back", m.Tensors[i].Name)
		}
	}
}

func TestFloat32Residual(t *testing.T) {
	values := []float32{0, float32(math.Copysign(0, -1)), 1, -1, math.Nextafter32(1, 2), math.MaxFloat32, -math.MaxFloat32,
		math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, float32(math.Inf(1)), float32(math.NaN())}
	for _, a := range values {
		if bits := math.Float32bits(a); uint32(ordered(uint32(ordered(bits)))) != bits {
			t.Errorf("ordered is not its own inverse at %v", a)
		}
		for _, b := range values {
			if a < b && ordered(math.Float32bits(a)) >= ordered(math.Float32bits(b)) {
				t.Errorf("%v and %v are not in order", a, b)
			}
		}
	}
	if d := ordered(math.Float32bits(1)) - ordered(math.Float32bits(math.Nextafter32(1, 0))); d != 1 {
		t.Errorf("neighbours across a power of two are %d apart", d)
	}
	for d, want := range map[int32]uint32{0: 0, 1: 2, -1: 3, 5: 10, -5: 11, math.MaxInt32: 0xfffffffe, -math.MaxInt32: 0xffffffff, math.MinInt32: 1} {
		if f := fold(d); f != want || unfold(f) != d {
			t.Errorf("fold(%d) = %#x, want %#x; unfolds to %d", d, f, want, unfold(f))
		}
	}
}

func TestPackRefusesAnotherShape(t *testing.T) {
	fewer := pinned()
	fewer.Graph.Layers, fewer.Tensors = slices.Clone(fewer.Graph.Layers), slices.Clone(fewer.Tensors)
	fewer.Tensors = slices.Delete(fewer.Tensors, 1, 2)
	fewer.Tensors[0] = Tensor{"0.kernel", Float32, []int{1, 4}, f32([]float32{1, 2, 3, 4})}
	unreadable := pinned()
	unreadable.Tensors[0].Data = nil
	for name, c := range map[string]struct {
		base *Model
		pack func(m, base *Model) (*Transfer, error)
		want error
	}{
		"other units":           {model(1, 2), PackDelta, ErrBase},
		"other tensors":         {fewer, PackDelta, ErrBase},
		"other kind":            {gru(), PackDelta, ErrBase},
		"damaged":               {unreadable, PackDelta, ErrInvalid},
		"head, another layer":   {tuned(pinned()), PackHead, ErrBase},
		"head, other units":     {model(1, 2), PackHead, ErrBase},
		"head of damaged model": {unreadable, PackHead, ErrInvalid},
	} {
		if tr, err := c.pack(pinned(), c.base); !errors.Is(err, c.want) || tr != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := PackDelta(unreadable, pinned()); !errors.Is(err, ErrInvalid) {
		t.Errorf("delta of a damaged model: %v", err)
	}
}

func TestUnpackRefusesBases(t *testing.T) {
	base := pinned()
	delta := packUpdate(t, tuned(base), base, PackDelta)
	damaged := clone(base)
	damaged.Tensors[0].Data[1] ^= 1
	broken := clone(base)
	broken.Tensors[0].Data = broken.Tensors[0].Data[:1]
	for name, c := range map[string]struct {
		base *Model
		text string
	}{
		"missing":         {nil, "not here"},
		"another version": {tuned(base), "not from"},
		"one bit flipped": {damaged, "not from"},
		"not whole":       {broken, "damaged"},
		"another shape":   {model(3, 16), "not from"},
	} {
		if err := unpackUpdate(t, delta, c.base); !errors.Is(err, ErrBase) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want ErrBase with %q", name, err, c.text)
		}
	}
	// Descriptors that lie about their base.
	for name, c := range map[string]struct {
		kind   string
		base   *Model
		change func(tr *Transfer)
		want   error
	}{
		"other tensors":       {protocol.KindDelta, gru(), func(*Transfer) {}, ErrBase},
		"other units":         {protocol.KindDelta, model(3, 16), func(*Transfer) {}, ErrBase},
		"other manifest":      {protocol.KindDelta, gru(), func(tr *Transfer) { tr.Codecs[0] |= Residual }, ErrBase},
		"in part a residual":  {protocol.KindDelta, base, func(tr *Transfer) { tr.Codecs[2] |= Residual }, ErrCorrupt},
		"kernel before scale": {protocol.KindDelta, base, func(tr *Transfer) { tr.Codecs[1] |= Residual }, ErrDigest},
		"head of all tensors": {protocol.KindHead, base, func(*Transfer) {}, ErrCorrupt},
		"residual of nothing": {protocol.KindDelta, base, func(tr *Transfer) { tr.Codecs[0] |= Residual }, ErrCorrupt},
	} {
		tr := craft(t, tuned(base), nil) // every stream plain and raw
		sum, err := c.base.Digest()
		if err != nil {
			t.Fatal(err)
		}
		tr.Kind, tr.Base = c.kind, &sum
		c.change(tr)
		if err := unpackUpdate(t, tr, c.base); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestUnpackRefusesEveryTruncationOfUpdates(t *testing.T) {
	for _, base := range []*Model{pinned(), gru()} {
		for _, good := range []*Transfer{packUpdate(t, tuned(base), base, PackDelta), packUpdate(t, tunedHead(base), base, PackHead)} {
			if err := unpackUpdate(t, good, base); err != nil {
				t.Fatal(err)
			}
			for n := 1; n < len(good.Payload); n++ {
				tr := &Transfer{Descriptor: good.Descriptor, Payload: good.Payload[:n]}
				if unpackUpdate(t, tr, base) == nil {
					t.Fatalf("%s: %d of %d bytes unpack", good.Kind, n, len(good.Payload))
				}
				rechunk(tr) // past the chunk digests
				if unpackUpdate(t, tr, base) == nil {
					t.Fatalf("%s: %d of %d bytes unpack with their own chunk digests", good.Kind, n, len(good.Payload))
				}
			}
			tr := &Transfer{Descriptor: good.Descriptor, Payload: append(bytes.Clone(good.Payload), 0)}
			rechunk(tr)
			if err := unpackUpdate(t, tr, base); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: a byte behind the last tensor: %v, want ErrCorrupt", good.Kind, err)
			}
		}
	}
}

// entropy is the fewest bytes that a code of single bytes, its table not
// counted, can take: that of the bytes' own frequencies (Shannon 1948).
func entropy(b []byte) float64 {
	var counts [256]float64
	for _, c := range b {
		counts[c]++
	}
	bits := 0.0
	for _, n := range counts {
		if n > 0 {
			bits -= n * math.Log2(n/float64(len(b)))
		}
	}
	return bits / 8
}

// unknown is what a code that does not know the distribution of b pays for that,
// in bytes: which of the 256 values there are, and half of log2 n bits for each
// of their frequencies (Rissanen 1984, Universal coding, information, prediction,
// and estimation, theorem 1).
func unknown(b []byte) float64 {
	values := map[byte]bool{}
	for _, x := range b {
		values[x] = true
	}
	which := new(big.Int).Binomial(256, int64(len(values)))
	f, _ := which.Float64()
	return (math.Log2(f) + float64(len(values)-1)/2*math.Log2(float64(len(b)))) / 8
}

// TestCodecsReachTheEntropy holds what is coded against the entropy of the
// bytes: within 1 % for streams from 4,096 bytes, and within 1 %, the 6 bytes that
// a code begins and ends with and what no code knows in advance for the smaller
// ones.
func TestCodecsReachTheEntropy(t *testing.T) {
	base := model(14, 128)
	for name, c := range map[string]struct {
		m, base *Model
	}{"full": {base, nil}, "delta": {tuned(base), base}} {
		small, smallEntropy := 0, 0.0
		for i := range c.m.Tensors {
			data := c.m.Tensors[i].Data
			if c.base != nil {
				data = residual(c.m, c.base, i)
			}
			for p, s := range planes(data, c.m.Tensors[i].width()) {
				b, codec, err := encodeBest(nil, s)
				if err != nil {
					t.Fatal(err)
				}
				h := entropy(s)
				t.Logf("%s %s byte %d: %d bytes of entropy %.0f, coded %d by %v", name, c.m.Tensors[i].Name, p, len(s), h, len(b), codec)
				most := 1.01 * h
				if len(s) < 4096 {
					small, smallEntropy = small+len(b), smallEntropy+h
					most += 6 + unknown(s)
				}
				if float64(len(b)) > most {
					t.Errorf("%s %s byte %d: %d bytes by %v, at most %.0f; the entropy is %.0f", name, c.m.Tensors[i].Name, p, len(b), codec, most, h)
				}
			}
		}
		t.Logf("%s: streams below 4,096 bytes %d, their entropy %.0f", name, small, smallEntropy)
		if float64(small) > 1.10*smallEntropy {
			t.Errorf("%s: streams below 4,096 bytes take %d, their entropy is %.0f", name, small, smallEntropy)
		}
	}
}
