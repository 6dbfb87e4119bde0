package artifact

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// bell returns n bytes of a normal distribution, as int8, clamped to ±127.
func bell(n int, deviation float64, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(int8(max(-127, min(127, math.Round(rng.NormFloat64()*deviation)))))
	}
	return b
}

func TestAdaptiveGivesEveryBlockBack(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	blocks := map[string][]byte{
		"one byte": {7}, "zeros": make([]byte, 5000), "lowest": bytes.Repeat([]byte{0x80}, 5000), "highest": bytes.Repeat([]byte{0x7f}, 5000),
		"every byte": bytes.Repeat(every, 9), "weights": bell(3000, 45, 1), "residual": bell(3000, 1, 2), "text": bytes.Repeat([]byte("a manifest "), 50),
		"swings": append(bytes.Repeat([]byte{0x80}, 4000), bytes.Repeat([]byte{0x7f}, 4000)...),
	}
	for name, block := range blocks {
		for s := range byte(len(stiffnesses)) {
			for _, p := range []adaptiveParams{
				{stiffness: s, memory: s & 3, ratio: 0}, {stiffness: s, memory: s & 3, ratio: 60000}, {stiffness: s, memory: s & 3, ratio: math.MaxUint16},
				{stiffness: s, memory: s & 3, shape: normal, ratio: 65000}, {stiffness: s, memory: s & 3, shape: normal, ratio: math.MaxUint16, edge: 255},
			} {
				coded := p.encode(block)
				got := make([]byte, len(block))
				if err := decodeAdaptive(got, coded); err != nil || !bytes.Equal(got, block) {
					t.Errorf("%s by %+v: %v, the same %t", name, p, err, bytes.Equal(got, block))
				}
			}
		}
	}
}

// The bytes that devices have must stay readable: what a code decodes to is
// pinned here, and with it every constant of the predictions.
func TestAdaptiveCodeIsPinned(t *testing.T) {
	block := []byte{0, 1, 0xff, 0, 2, 0xfe, 0, 0, 127, 0x81, 1, 0, 0, 0xff, 3, 0}
	for _, c := range []struct {
		params adaptiveParams
		coded  []byte
	}{
		{adaptiveParams{stiffness: 1, memory: 2, ratio: 40000},
			[]byte{0x11, 0x40, 0x9c, 0x71, 0xb2, 0x2f, 0xad, 0xf7, 0x70, 0xd3, 0xff, 0xfb, 0x5a, 0x38}},
		{adaptiveParams{stiffness: 4, memory: 0, shape: normal, ratio: 60000, edge: 20},
			[]byte{0x24, 0x60, 0xea, 0x14, 0x7b, 0x21, 0xa0, 0x73, 0xb0, 0xef}},
	} {
		if got := c.params.encode(block); !bytes.Equal(got, c.coded) {
			t.Errorf("%+v codes to %#v, want %#v", c.params, got, c.coded)
		}
		got := make([]byte, len(block))
		if err := decodeAdaptive(got, c.coded); err != nil || !bytes.Equal(got, block) {
			t.Errorf("%+v decodes to %v, %v", c.params, got, err)
		}
	}
}

func TestAdaptiveRefusesWhatIsCutOrLonger(t *testing.T) {
	block := bell(500, 45, 3)
	coded := encodeAdaptive(block)
	got := make([]byte, len(block))
	if err := decodeAdaptive(got, coded); err != nil {
		t.Fatal(err)
	}
	// A cut inside the last four bytes may go unseen here: the digests see it.
	for n := range len(coded) - 4 {
		if err := decodeAdaptive(got, coded[:n]); !errors.Is(err, ErrTruncated) {
			t.Errorf("%d of %d bytes: %v, want ErrTruncated", n, len(coded), err)
		}
	}
	if err := decodeAdaptive(got, append(bytes.Clone(coded), 1, 2, 3, 4, 5)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with more behind: %v, want ErrCorrupt", err)
	}
	coded[0] |= 0x40
	if err := decodeAdaptive(got, coded); !errors.Is(err, ErrCorrupt) {
		t.Errorf("unknown shape: %v, want ErrCorrupt", err)
	}
}

// The code of a large block takes what its entropy is, whatever its deviation.
func TestAdaptiveReachesTheEntropy(t *testing.T) {
	for _, deviation := range []float64{0.3, 1, 4, 16, 40, 70} {
		block := bell(8192, deviation, 4)
		if n, h := len(encodeAdaptive(block)), entropy(block); float64(n) > 1.01*h+4 {
			t.Errorf("deviation %v: %d bytes, 4 of them its head, the entropy is %.0f", deviation, n, h)
		}
	}
}

func FuzzAdaptive(f *testing.F) {
	f.Add(encodeAdaptive(bell(300, 45, 1)), uint16(300))
	f.Add(encodeAdaptive(make([]byte, 300)), uint16(300))
	f.Add([]byte{0x3f, 0xff, 0xff, 0xff}, uint16(1000))
	f.Fuzz(func(t *testing.T, coded []byte, n uint16) {
		block := make([]byte, n)
		if decodeAdaptive(block, coded) != nil {
			return
		}
		p, _, err := parseAdaptive(coded)
		if err != nil {
			t.Fatal(err)
		}
		again := make([]byte, n)
		if err := decodeAdaptive(again, p.encode(block)); err != nil || !bytes.Equal(again, block) {
			t.Errorf("decoded, coded and decoded again: %v, the same %t", err, bytes.Equal(again, block))
		}
	})
}

func BenchmarkDecodeAdaptive(b *testing.B) {
	block := bell(1<<16, 45, 1)
	coded := encodeAdaptive(block)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if err := decodeAdaptive(block, coded); err != nil {
			b.Fatal(err)
		}
	}
}
