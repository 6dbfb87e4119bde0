package registry

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

func testWeights() *kernel.Weights {
	rnd := rand.New(rand.NewPCG(1, 2))
	fill := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = rnd.Float32()
		}
		return v
	}
	return &kernel.Weights{
		Graph: kernel.Graph{Features: 3, Layers: []kernel.Layer{
			{Kind: kernel.LSTM, Units: 2, Sequences: true},
			{Kind: kernel.GRU, Units: 3},
			{Kind: kernel.Dense, Units: 2, Activation: kernel.Softmax},
		}},
		Layers: []kernel.LayerWeights{
			{Kernel: fill(3 * 8), Recurrent: fill(2 * 8), Bias: fill(8)},
			{Kernel: fill(2 * 9), Recurrent: fill(3 * 9), Bias: fill(2 * 9)},
			{Kernel: fill(3 * 2), Bias: fill(2)},
		},
	}
}

func TestWeightsRoundTripAndTruncations(t *testing.T) {
	w := testWeights()
	b, err := appendWeights(nil, w)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseWeights(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, got); d != "" {
		t.Errorf("round trip (-want +got)\n%s", d)
	}
	for i := range b {
		if _, err := parseWeights(b[:i]); err == nil {
			t.Errorf("first %d of %d bytes were taken", i, len(b))
		}
	}
	if _, err := parseWeights(append(b, 0)); err == nil {
		t.Error("a byte too many was taken")
	}
}

func FuzzParseWeights(f *testing.F) {
	b, err := appendWeights(nil, testWeights())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:20])
	f.Add([]byte("SPW1\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseWeights(b)
		if err != nil {
			return
		}
		if _, err := appendWeights(nil, w); err != nil {
			t.Errorf("what parsed does not encode: %v", err)
		}
	})
}
