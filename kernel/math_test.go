package kernel

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"
)

// each calls f with about n float32 spread over [lo, hi], both included.
func each(lo, hi float32, n int, f func(float32)) {
	for i := range n + 1 {
		f(lo + float32((hi-lo)*float32(i))/float32(n))
	}
}

// tanhError is the bound of |tanh(x) − math.Tanh(x)|, absolute.
const tanhError = 4e-7

func TestTanhWithinItsBound(t *testing.T) {
	each(-10, 10, 400_000, func(x float32) {
		if err := math.Abs(float64(tanh(x)) - math.Tanh(float64(x))); err > tanhError {
			t.Fatalf("tanh(%v) = %v, off by %.3g, want at most %g", x, tanh(x), err, tanhError)
		}
		if h := tanh(x); h > hiddenBound || h < -hiddenBound {
			t.Fatalf("tanh(%v) = %v, beyond ±%v", x, h, hiddenBound)
		}
		if tanh(-x) != -tanh(x) {
			t.Fatalf("tanh(%v) = %v, tanh(%v) = %v", -x, tanh(-x), x, tanh(x))
		}
	})
	for _, x := range []float32{math.MaxFloat32, -math.MaxFloat32} {
		if h := tanh(x); h != tanh(float32(math.Copysign(tanhMax, float64(x)))) {
			t.Errorf("tanh(%v) = %v", x, h)
		}
	}
}

func TestSigmoidWithinItsBound(t *testing.T) {
	each(-20, 20, 400_000, func(x float32) {
		// Half the error of tanh, and the rounding of the sum near 1.
		if err := math.Abs(float64(sigmoid(x)) - sigmoid64(float64(x))); err > tanhError/2+0x1p-25 {
			t.Fatalf("sigmoid(%v) = %v, off by %.3g", x, sigmoid(x), err)
		}
		if s := sigmoid(x); s < 0 || s > 1 {
			t.Fatalf("sigmoid(%v) = %v, want 0 to 1", x, s)
		}
	})
}

func TestExpWithinTwoUnitsInTheLastPlace(t *testing.T) {
	each(expMin, 0, 400_000, func(x float32) {
		want := math.Exp(float64(x))
		ulp := float64(math.Nextafter32(float32(want), 2) - float32(want))
		if err := math.Abs(float64(exp(x)) - want); err > 2*ulp {
			t.Fatalf("exp(%v) = %v, want %v: off by %.2f units in the last place", x, exp(x), want, err/ulp)
		}
	})
	for x, want := range map[float32]float32{0: 1, float32(math.Copysign(0, -1)): 1, -87.001: 0, -math.MaxFloat32: 0} {
		if got := exp(x); got != want {
			t.Errorf("exp(%v) = %v, want %v", x, got, want)
		}
	}
}

// TestFunctionDigests holds the bits of tanh, sigmoid and exp on every
// architecture: a fused multiply in a low-order term rarely reaches the output
// of a model, but it does on some input of some device.
func TestFunctionDigests(t *testing.T) {
	for _, c := range []struct {
		name   string
		f      func(float32) float32
		lo, hi float32
		digest string
	}{
		{"tanh", tanh, -8, 8, "6331ebc8e72cb87bb20eabb4a6466e722e6f0cf5d4b038cecbcabe08080a6c3e"},
		{"sigmoid", sigmoid, -17, 17, "d893cee26045c0e07f02a2ed12da98b61481845614cd5a8a9020c18f1486e74c"},
		{"exp", exp, expMin, 0, "7300d15c8b5bb10553bf9283c7f85f7dd10e8d23d806801a2238b31bb3254fb4"},
	} {
		sum, b := sha256.New(), make([]byte, 0, 4*100_001)
		each(c.lo, c.hi, 100_000, func(x float32) { b = binary.LittleEndian.AppendUint32(b, math.Float32bits(c.f(x))) })
		sum.Write(b)
		if got := hex.EncodeToString(sum.Sum(nil)); got != c.digest {
			t.Errorf("%s: digest %s, want %s", c.name, got, c.digest)
		}
	}
}

func TestRoundEven(t *testing.T) {
	each(-130, 130, 260*64, func(x float32) {
		if got, want := roundEven(x), float32(math.RoundToEven(float64(x))); got != want {
			t.Fatalf("roundEven(%v) = %v, want %v", x, got, want)
		}
	})
}

func TestAddWordSplitsExactly(t *testing.T) {
	const top = MaxUnits * 127 * 127
	for _, first := range []float64{0, 1, -1, 12345, top, -top} {
		for _, second := range []float64{0, 1, -1, -777, top, -top} {
			var a, b float32
			addWord(&a, &b, first+half*second, 1, 1)
			if float64(a) != first || float64(b) != second {
				t.Errorf("word of %v and %v split into %v and %v", first, second, a, b)
			}
		}
	}
}

// TestInt8WithinBoundOfFloat64 compares one step from a zero state, and a whole
// window, with float64 arithmetic on the same dequantized weights.
//
// One step: a gate's sum of n terms is within γₙ·Σ|terms| of the exact one
// (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §3.1, n =
// F + 2, u = 2⁻²⁴), sigmoid halves at least and tanh does not magnify that, each
// adds its own error, and products of numbers within 1 add errors and a
// rounding each. Over a window the errors pass through the recurrence, where
// a difference can also move a hidden value to the next of 127 steps: the
// bound there is one such step for every unit.
func TestInt8WithinBoundOfFloat64(t *testing.T) {
	const u = 0x1p-24
	for _, h := range []int{1, 16, 33, 128} {
		for _, f := range []int{1, 8, 33} {
			q := quantized(t, randomWeights(t, lstmOnly(h, f), uint64(h)))
			m, ref := int8Model(t, q), newReference64(dequantize(q), true)
			x, y := randomWindow(uint64(f), 1, f), make([]float32, h)
			if err := m.Step(m.NewState(), y, x); err != nil {
				t.Fatal(err)
			}
			want := ref.step(x)
			for j, v := range y {
				largest := 0.0
				for g := range gates {
					sum := math.Abs(float64(q.Layers[0].Bias[g*h+j]))
					for k, v := range x {
						sum += math.Abs(float64(ref.w.Layers[0].Kernel[(k*gates+g)*h+j]) * float64(v))
					}
					largest = max(largest, sum)
				}
				gamma := float64(f+2) * u / (1 - float64(f+2)*u)
				z := gamma * largest
				cell := (z/4 + tanhError/2 + u) + (z + tanhError) + 2*u // i·tanh(c); f·0
				bound := (z/4 + tanhError/2 + u) + (cell + tanhError) + u
				if err := math.Abs(float64(v) - want[j]); err > bound {
					t.Errorf("H=%d F=%d unit %d: %v, want %v: off by %.3g, bound %.3g", h, f, j, v, want[j], err, bound)
				}
			}
		}
	}
	for _, g := range []Graph{lstmGraph(64, 8), stackedGraph(false), gruGraph(64, 8), mixedGraph(false)} {
		q := quantized(t, randomWeights(t, g, 12))
		m, ref := int8Model(t, q), newReference64(dequantize(q), true)
		window, y := randomWindow(13, 50, g.Features), make([]float32, g.Outputs())
		if err := m.Predict(m.NewState(), y, window); err != nil {
			t.Fatal(err)
		}
		var want []float64
		for ; len(window) > 0; window = window[g.Features:] {
			want = ref.step(window[:g.Features])
		}
		for j, v := range y {
			if err := math.Abs(float64(v) - want[j]); err > 1.0/127 {
				t.Errorf("%v output %d: %v, want %v", g, j, v, want[j])
			}
		}
	}
}

// TestGRUStepWithinBoundOfFloat64 is the first part of the test above for a GRU.
// From a zero state the recurrent sums are their biases: only the candidate's
// carries the error of r on, and h is (1−z)·tanh(…).
func TestGRUStepWithinBoundOfFloat64(t *testing.T) {
	const u = 0x1p-24
	for _, h := range []int{1, 16, 33, 128} {
		for _, f := range []int{1, 8, 33} {
			q := quantized(t, randomWeights(t, only(GRU, h, f), uint64(h)))
			m, ref := int8Model(t, q), newReference64(dequantize(q), true)
			x, y := randomWindow(uint64(f), 1, f), make([]float32, h)
			if err := m.Step(m.NewState(), y, x); err != nil {
				t.Fatal(err)
			}
			want := ref.step(x)
			for j, v := range y {
				var sum [gruGates]float64 // of magnitudes
				for g := range gruGates {
					for row := range 2 {
						sum[g] += math.Abs(float64(q.Layers[0].Bias[(row*gruGates+g)*h+j]))
					}
					for k, v := range x {
						sum[g] += math.Abs(float64(ref.w.Layers[0].Kernel[(k*gruGates+g)*h+j]) * float64(v))
					}
				}
				gamma := float64(f+3) * u / (1 - float64(f+3)*u)
				gate := func(g int) float64 { return gamma*sum[g]/4 + tanhError/2 + u }
				recurrent := math.Abs(float64(q.Layers[0].Bias[(gruGates+gateH)*h+j]))
				candidate := gamma*sum[gateH] + gate(gateR)*recurrent + tanhError
				bound := gate(gateZ) + candidate + 3*u
				if err := math.Abs(float64(v) - want[j]); err > bound {
					t.Errorf("H=%d F=%d unit %d: %v, want %v: off by %.3g, bound %.3g", h, f, j, v, want[j], err, bound)
				}
			}
		}
	}
}

// TestGRUStaysWithinItsBound: no update gate takes a hidden state past the bound
// that states, and the int8 copy, rely on.
func TestGRUStaysWithinItsBound(t *testing.T) {
	r := newRand(1)
	for _, start := range []float32{0, 1, hiddenBound, -hiddenBound} {
		h := start
		for i := range 200_000 {
			x := (2*r.Float32() - 1) * 12
			if i%3 == 0 {
				x = 20 // z as near 1 as it gets
			}
			if h = gruCell(x, 0, float32(math.Copysign(100, float64(start))), 0, 0, 0, h); h > hiddenBound || h < -hiddenBound {
				t.Fatalf("from %v, step %d with the update gate's sum at %v: %v", start, i, x, h)
			}
		}
	}
}

func TestFloat32CloseToFloat64(t *testing.T) {
	for _, g := range []Graph{
		lstmGraph(1, 1), lstmGraph(33, 17), lstmGraph(128, 8), stackedGraph(false),
		gruGraph(1, 1), gruGraph(33, 17), gruGraph(128, 8), mixedGraph(false),
	} {
		w := randomWeights(t, g, 14)
		ref := newReference64(w, false)
		window, y := randomWindow(15, 50, g.Features), make([]float32, g.Outputs())
		var want []float64
		for x := window; len(x) > 0; x = x[g.Features:] {
			want = ref.step(x[:g.Features])
		}
		for _, tier := range everyTier() {
			m := float32ModelOn(t, tier, w)
			if err := m.Predict(m.NewState(), y, window); err != nil {
				t.Fatal(err)
			}
			for j, v := range y {
				if err := math.Abs(float64(v) - want[j]); err > 1e-5 {
					t.Errorf("%v %v output %d: %v, want %v", tier, g, j, v, want[j])
				}
			}
		}
	}
}
