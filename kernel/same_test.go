package kernel

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
)

var (
	sizesH = []int{1, 7, 15, 16, 17, 31, 32, 33, 48, 64, 100, 128, 256}
	sizesF = []int{1, 2, 7, 8, 9, 16, 17, 33}
)

// sameAsOracle steps an oracle and q on every tier through the window and
// compares the outputs of every step, and those of the window in one call.
func sameAsOracle(t testing.TB, q *QuantWeights, window []float32) {
	t.Helper()
	sameAsOracleOn(t, everyTier(), q, window)
}

func sameAsOracleOn(t testing.TB, tiers []tier, q *QuantWeights, window []float32) {
	t.Helper()
	o, f := newOracle(q), q.Graph.Features
	var want []float32
	for x := window; len(x) > 0; x = x[f:] {
		want = append(want, o.step(x[:f])...)
	}
	n, out := q.Graph.Outputs(), q.Graph.OutputLen(len(window)/f)
	for _, tier := range tiers {
		m := int8ModelOn(t, tier, q)
		s, y := m.NewState(), make([]float32, n)
		for i := range len(window) / f {
			if err := m.Step(s, y, window[i*f:][:f]); err != nil {
				t.Fatal(err)
			}
			equalBits(t, fmt.Sprintf("%v %v step %d", tier, q.Graph, i), y, want[i*n:][:n])
		}
		y = make([]float32, out)
		if err := m.Predict(s, y, window); err != nil {
			t.Fatal(err)
		}
		equalBits(t, fmt.Sprintf("%v %v window", tier, q.Graph), y, want[len(want)-out:])
		if n := tier.batchTile(); n > 0 {
			y = make([]float32, n*out)
			if err := m.PredictBatch(s, y, slices.Repeat(window, n), n); err != nil {
				t.Fatal(err)
			}
			equalBits(t, fmt.Sprintf("%v %v batch", tier, q.Graph), y, slices.Repeat(want[len(want)-out:], n))
		}
	}
}

// lstmOnly gives every hidden unit as an output: nothing can hide
// behind a sum.
func lstmOnly(hidden, features int) Graph { return only(LSTM, hidden, features) }

func only(k Kind, hidden, features int) Graph {
	return Graph{features, []Layer{{Kind: k, Units: hidden}}}
}

func TestInt8EqualsOracleForEverySize(t *testing.T) {
	for _, h := range sizesH {
		for n, f := range sizesF {
			if testing.Short() && n > 2 || h >= 100 && n%3 != 0 {
				continue
			}
			seed := uint64(h*100 + f)
			steps := max(3, min(50, 4000/h/4))
			for _, k := range []Kind{LSTM, GRU} {
				sameAsOracle(t, quantized(t, randomWeights(t, only(k, h, f), seed)), randomWindow(seed, steps, f))
			}
			for _, g := range []Graph{lstmGraph(h, f), gruGraph(h, f)} {
				sameAsOracle(t, quantized(t, randomWeights(t, g, seed)), randomWindow(seed, 3, f))
			}
		}
	}
}

func TestInt8EqualsOracleAtTheLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("short: packs 1024 units")
	}
	for _, k := range []Kind{LSTM, GRU} {
		sameAsOracle(t, quantized(t, randomWeights(t, only(k, MaxUnits, MaxFeatures), 1)), randomWindow(1, 2, MaxFeatures))
	}
}

func TestInt8EqualsOracleOverManySteps(t *testing.T) {
	for _, k := range []Kind{LSTM, GRU} {
		sameAsOracle(t, quantized(t, randomWeights(t, only(k, 33, 5), 9)), randomWindow(9, 1000, 5))
	}
}

// stackedGraph has every kind of layer and activation.
func stackedGraph(sequences bool) Graph {
	return Graph{5, []Layer{
		{Kind: LSTM, Units: 17, Sequences: true},
		{Kind: LSTM, Units: 33, Sequences: true},
		{Kind: LSTM, Units: 7, Sequences: sequences},
		{Kind: Dense, Units: 40, Activation: ReLU},
		{Kind: Dense, Units: 19, Activation: Sigmoid},
		{Kind: Dense, Units: 3},
		{Kind: Dense, Units: 21, Activation: Softmax},
	}}
}

// mixedGraph has GRUs first, on each other, under and above an LSTM.
func mixedGraph(sequences bool) Graph {
	return Graph{5, []Layer{
		{Kind: GRU, Units: 17, Sequences: true},
		{Kind: GRU, Units: 48, Sequences: true},
		{Kind: LSTM, Units: 33, Sequences: true},
		{Kind: GRU, Units: 7, Sequences: sequences},
		{Kind: Dense, Units: 19, Activation: ReLU},
		{Kind: Dense, Units: 3},
	}}
}

func TestInt8EqualsOracleStacked(t *testing.T) {
	for _, whole := range []Graph{stackedGraph(true), mixedGraph(true)} {
		for layers := 2; layers <= len(whole.Layers); layers++ {
			g := whole.Clone()
			g.Layers = g.Layers[:layers]
			sameAsOracle(t, quantized(t, randomWeights(t, g, uint64(layers))), randomWindow(4, 40, 5))
		}
	}
}

// extremeWeights has every int8 weight at ±127 with the signs a pattern gives:
// the largest sums there can be.
func extremeWeights(t testing.TB, g Graph, scale float32, sign func(i int) int8) *QuantWeights {
	q := quantized(t, randomWeights(t, g, 3))
	for i := range q.Layers {
		l := &q.Layers[i]
		for _, v := range [][]int8{l.Kernel, l.Recurrent} {
			for j := range v {
				v[j] = 127 * sign(j)
			}
		}
		for _, v := range [][]float32{l.KernelScale, l.RecurrentScale} {
			for j := range v {
				v[j] = scale
			}
		}
	}
	return q
}

func TestInt8EqualsOracleWithExtremeWeights(t *testing.T) {
	signs := map[string]func(int) int8{
		"all positive": func(int) int8 { return 1 },
		"all negative": func(int) int8 { return -1 },
		"alternating":  func(i int) int8 { return int8(1 - i%2*2) },
		"mixed":        func(i int) int8 { return int8(1 - (i*i/3)%2*2) },
		"zero":         func(int) int8 { return 0 },
	}
	for name, sign := range signs {
		for _, scale := range []float32{1e-30, 1e-3, 1, 1e20} {
			for _, h := range []int{1, 17, 64} {
				t.Run(fmt.Sprintf("%s/%g/%d", name, scale, h), func(t *testing.T) {
					window := randomWindow(5, 20, 3)
					window[4], window[8], window[12] = MaxInput, -MaxInput, float32(math.Copysign(0, -1))
					for _, k := range []Kind{LSTM, GRU} {
						q := extremeWeights(t, Graph{3, []Layer{{Kind: k, Units: h, Sequences: true}, {Kind: k, Units: h}}}, scale, sign)
						sameAsOracle(t, q, window)
					}
				})
			}
		}
	}
}

// TestLargestSumIsExact saturates every hidden unit of the largest layer, so
// that the packed sums reach ±1024·127².
func TestLargestSumIsExact(t *testing.T) {
	if testing.Short() {
		t.Skip("short: packs 1024 units")
	}
	q := extremeWeights(t, lstmOnly(MaxUnits, 1), 1, func(i int) int8 {
		if i/MaxUnits%gates == gateF { // the second number of a word, opposite to the first
			return -1
		}
		return 1
	})
	for j := range q.Layers[0].Bias {
		q.Layers[0].Bias[j] = 100
	}
	sameAsOracle(t, q, make([]float32, 4))
	q = extremeWeights(t, only(GRU, MaxUnits, 1), 1, func(i int) int8 { return int8(1 - i%2*2) })
	for j := range q.Layers[0].Bias {
		q.Layers[0].Bias[j] = 100
		if j/MaxUnits%gruGates == gateZ { // let go of the zero state
			q.Layers[0].Bias[j] = -100
		}
	}
	sameAsOracle(t, q, make([]float32, 4))
}

func TestWindowEqualsStepping(t *testing.T) {
	for _, g := range []Graph{stackedGraph(false), stackedGraph(true), mixedGraph(false), mixedGraph(true)} {
		w, sequences := randomWeights(t, g, 6), g.Sequences()
		for _, m := range everyModel(t, w) {
			const steps = 20
			window, n := randomWindow(7, steps, 5), m.outputs
			var want []float32
			s := m.NewState()
			for i := range steps {
				y := make([]float32, n)
				if err := m.Step(s, y, window[i*5:][:5]); err != nil {
					t.Fatal(err)
				}
				if want = append(want, y...); !sequences {
					want = y
				}
			}
			got := make([]float32, m.graph.OutputLen(steps))
			for range 2 { // a used state starts from zero too
				if err := m.Predict(s, got, window); err != nil {
					t.Fatal(err)
				}
				equalBits(t, fmt.Sprintf("%s %v", typeName(m), g), got, want)
			}
		}
	}
}

func TestBatchEqualsOneByOne(t *testing.T) {
	for _, g := range []Graph{
		stackedGraph(false), stackedGraph(true), lstmGraph(128, 8), lstmOnly(33, 17), lstmOnly(16, 3), lstmOnly(1, 1),
		mixedGraph(false), mixedGraph(true), gruGraph(128, 8), only(GRU, 33, 17), only(GRU, 16, 3), only(GRU, 1, 1),
	} {
		for _, m := range everyModel(t, randomWeights(t, g, 6)) {
			for _, n := range []int{1, 2, 4, 7, 9} {
				const steps = 12
				in, out := steps*g.Features, g.OutputLen(steps)
				windows := randomWindow(8, n*steps, g.Features)
				want, got := make([]float32, n*out), make([]float32, n*out)
				s := m.NewState()
				for i := range n {
					if err := m.Predict(s, want[i*out:][:out], windows[i*in:][:in]); err != nil {
						t.Fatal(err)
					}
				}
				endOne, _ := s.AppendBinary(nil)
				if err := m.PredictBatch(s, got, windows, n); err != nil {
					t.Fatal(err)
				}
				equalBits(t, fmt.Sprintf("%s %v n=%d", typeName(m), g, n), got, want)
				if end, _ := s.AppendBinary(nil); !bytes.Equal(end, endOne) {
					t.Errorf("%s %v n=%d: the state is not that of the last window", typeName(m), g, n)
				}
			}
		}
	}
}

// TestActivationsOfEveryTier puts floats of every magnitude through the gates
// of every tier: input f is the pre-activation of all gates of unit f.
func TestActivationsOfEveryTier(t *testing.T) {
	for _, k := range []Kind{LSTM, GRU} {
		t.Run(k.String(), func(t *testing.T) { testActivations(t, k) })
	}
}

func testActivations(t *testing.T, kind Kind) {
	const n, steps, batch = 48, 64, 4 // a whole block and a half one
	gates := kind.Gates()
	q := quantized(t, randomWeights(t, Graph{n, []Layer{{Kind: kind, Units: n, Sequences: true}}}, 1))
	l := &q.Layers[0]
	clear(l.Kernel)
	clear(l.Recurrent)
	clear(l.Bias)
	for f := range n {
		for g := range gates {
			l.Kernel[f*gates*n+g*n+f] = 1
			l.KernelScale[g*n+f] = 1
		}
		if kind == GRU { // what the reset gate multiplies
			l.Bias[(gruGates+gateH)*n+f] = 0.5
		}
	}
	windows, want, got := make([]float32, batch*steps*n), make([]float32, batch*steps*n), make([]float32, batch*steps*n)
	oracle := int8ModelOn(t, generic, q)
	const values, last = 200_000, 0x49800000 // the bits of the largest input, 2²⁰
	next := 0
	for next < values {
		for i := range windows {
			bits := uint32(uint64(min(next, values)) * last / uint64(values))
			windows[i] = math.Float32frombits(bits | uint32(next)<<31)
			next++
		}
		so := oracle.NewState()
		if err := oracle.PredictBatch(so, want, windows, batch); err != nil {
			t.Fatal(err)
		}
		end, _ := so.AppendBinary(nil)
		for _, tier := range everyTier() {
			m := int8ModelOn(t, tier, q)
			s := m.NewState()
			if err := m.PredictBatch(s, got, windows, batch); err != nil {
				t.Fatal(err)
			}
			equalBits(t, tier.String()+" batch", got, want)
			if b, _ := s.AppendBinary(nil); !bytes.Equal(b, end) {
				t.Fatalf("%v batch: another cell state than generic", tier)
			}
			if err := m.Predict(s, got[:steps*n], windows[(batch-1)*steps*n:]); err != nil {
				t.Fatal(err)
			}
			equalBits(t, tier.String()+" window", got[:steps*n], want[(batch-1)*steps*n:])
		}
	}
}

// TestInt8Digests holds the bits of fixed models on every architecture the
// test runs on, and the quantizer's with them. The constants were recorded on
// amd64; change one only with the ABI.
func TestInt8Digests(t *testing.T) {
	for _, c := range []struct {
		name   string
		graph  Graph
		steps  int
		digest string
	}{
		{"lstm 128", lstmGraph(128, 8), 50, "0f56f56e1447d9e95ae8bfd423c955d8f8e1448221bd1b4ae8d75f2f71ac9b5d"},
		{"lstm 33, every unit", lstmOnly(33, 17), 100, "cb398e0f5fd6c18c8517ea099cc274defed986f58a8e5160e1593e76c5458c70"},
		{"stacked, every activation", stackedGraph(true), 100, "a08e83bdc9a5b415867af508114b8af8ab669a15c0a17f0dce532903703e3ae3"},
		{"gru 128", gruGraph(128, 8), 50, "3edcd5e9e74d62c00dbfe1f0d8783e025c5b8720ca4d2d9c34d285e70e6b9fe4"},
		{"gru 33, every unit", only(GRU, 33, 17), 100, "c54a05396dffeaaf06b44ada4a603201b94fbe96a87c77da96cf6984f0de17f9"},
		{"gru and lstm", mixedGraph(true), 100, "24d9a875ea0ef7fe3d07c0ec16ba4c3747b001778641c3cdcdf17224c6ff2d5f"},
	} {
		for _, tier := range everyTier() {
			m := int8ModelOn(t, tier, quantized(t, randomWeights(t, c.graph, 42)))
			s, sum := m.NewState(), sha256.New()
			y, f := make([]float32, c.graph.Outputs()), c.graph.Features
			window := randomWindow(43, c.steps, f)
			for i := range c.steps {
				if err := m.Step(s, y, window[i*f:][:f]); err != nil {
					t.Fatal(err)
				}
				for _, v := range y {
					sum.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
				}
			}
			state, _ := s.AppendBinary(nil)
			sum.Write(state)
			if got := hex.EncodeToString(sum.Sum(nil)); got != c.digest {
				t.Errorf("%v %s: digest %s, want %s", tier, c.name, got, c.digest)
			}
		}
	}
}

func TestZeroInputKeepsZeroState(t *testing.T) {
	// With zero biases a zero input leaves the candidate, hence cell and
	// hidden state, at zero whatever the weights, and the head gives its bias.
	for _, g := range []Graph{lstmGraph(20, 4), gruGraph(20, 4)} {
		w := randomWeights(t, g, 1)
		clear(w.Layers[0].Bias)
		for _, m := range everyModel(t, w) {
			y := make([]float32, 1)
			if err := m.Predict(m.NewState(), y, make([]float32, 4*30)); err != nil {
				t.Fatal(err)
			}
			equalBits(t, fmt.Sprintf("%s %v", typeName(m), g), y, w.Layers[1].Bias)
		}
	}
}

func TestPermutingUnitsPermutesOutputs(t *testing.T) {
	for _, k := range []Kind{LSTM, GRU} {
		t.Run(k.String(), func(t *testing.T) { testPermuting(t, k) })
	}
}

func testPermuting(t *testing.T, kind Kind) {
	const n, f = 19, 3
	gates := kind.Gates()
	w := randomWeights(t, only(kind, n, f), 2)
	p := randomWeights(t, only(kind, n, f), 2)
	perm := newRand(3).Perm(n)
	at := func(j int) int { return j/n*n + perm[j%n] } // column j of the permuted model
	for j := range p.Layers[0].Bias {
		p.Layers[0].Bias[j] = w.Layers[0].Bias[at(j)]
	}
	for j := range gates * n {
		for k := range f {
			p.Layers[0].Kernel[k*gates*n+j] = w.Layers[0].Kernel[k*gates*n+at(j)]
		}
		for k := range n {
			p.Layers[0].Recurrent[k*gates*n+j] = w.Layers[0].Recurrent[perm[k]*gates*n+at(j)]
		}
	}
	for _, tier := range everyTier() {
		a, b := int8ModelOn(t, tier, quantized(t, w)), int8ModelOn(t, tier, quantized(t, p))
		window, ya, yb := randomWindow(4, 15, f), make([]float32, n), make([]float32, n)
		if err := a.Predict(a.NewState(), ya, window); err != nil {
			t.Fatal(err)
		}
		if err := b.Predict(b.NewState(), yb, window); err != nil {
			t.Fatal(err)
		}
		for u := range n {
			if ya[perm[u]] != yb[u] {
				t.Fatalf("%v unit %d: %v, permuted %v", tier, perm[u], ya[perm[u]], yb[u])
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	for _, g := range []Graph{lstmGraph(64, 8), stackedGraph(true), gruGraph(64, 8), mixedGraph(true)} {
		w := randomWeights(t, g, 1)
		for _, m := range everyModel(t, w) {
			s, f := m.NewState(), g.Features
			y, window := make([]float32, g.OutputLen(6)), randomWindow(1, 6, f)
			batch, batchWindow := make([]float32, 5*len(y)), slices.Repeat(window, 5)
			for name, call := range map[string]func() error{
				"Step":         func() error { return m.Step(s, y[:g.Outputs()], window[:f]) },
				"Predict":      func() error { return m.Predict(s, y, window) },
				"PredictBatch": func() error { return m.PredictBatch(s, batch, batchWindow, 5) },
			} {
				if n := testing.AllocsPerRun(10, func() {
					if err := call(); err != nil {
						t.Fatal(err)
					}
				}); n != 0 {
					t.Errorf("%s %s: %v allocations, want 0", typeName(m), name, n)
				}
			}
		}
	}
}

// TestRowsStayOnTheCallersStack: a row that escapes costs the caller an
// allocation.
func TestRowsStayOnTheCallersStack(t *testing.T) {
	models := everyModel(t, randomWeights(t, lstmGraph(20, 3), 1))
	for _, m := range append(models, everyModel(t, randomWeights(t, gruGraph(20, 3), 1))...) {
		s := m.NewState()
		if n := testing.AllocsPerRun(10, func() {
			x, windows := [3]float32{1, 2, 3}, [5 * 2 * 3]float32{1, 2}
			var y [5]float32
			if err := errors.Join(m.Step(s, y[:1], x[:]), m.Predict(s, y[:1], windows[:]), m.PredictBatch(s, y[:], windows[:], 5)); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s %v: %v allocations, want 0", typeName(m), m.graph.Layers[0].Kind, n)
		}
	}
}

func FuzzShapes(f *testing.F) {
	f.Add(uint16(16), uint16(8), uint8(3), uint64(1))
	f.Add(uint16(1), uint16(1), uint8(1), uint64(2))
	f.Add(uint16(33), uint16(17), uint8(9), uint64(3))
	f.Fuzz(func(t *testing.T, h, features uint16, steps uint8, seed uint64) {
		hidden, n := int(h)%70+1, int(features)%40+1
		g := Graph{n, []Layer{{Kind: LSTM, Units: hidden, Sequences: true}, {Kind: LSTM, Units: n}, {Kind: Dense, Units: hidden}}}
		for i := range 2 {
			if seed>>i&1 != 0 {
				g.Layers[i].Kind = GRU
			}
		}
		sameAsOracle(t, quantized(t, randomWeights(t, g, seed)), randomWindow(seed, int(steps)%8+1, n))
	})
}
