package kernel

import (
	"math"
	"testing"
)

func TestQuantizeColumns(t *testing.T) {
	// Two columns: the second is zero. 1/127 is not a float16: it rounds to
	// 0.00787354, a step of 2⁻¹⁷.
	q, scale := quantizeColumns([]float32{1, 0, -0.5, 0, 0.1, 0}, 2)
	s := roundFloat16(float32(1) / 127)
	if scale[0] != s || scale[1] != 1 {
		t.Errorf("scales %v, want [%v 1]", scale, s)
	}
	for i, want := range []int8{127, 0, -64, 0, 13, 0} {
		if i == 2 && 0.5/s < 63.5 { // the exact half depends on how the scale rounded
			want = -63
		}
		if q[i] != want {
			t.Errorf("weight %d is %d, want %d", i, q[i], want)
		}
	}
}

func TestQuantizeRoundsHalfToEven(t *testing.T) {
	// 127·2⁻⁷ over 127 is the scale 2⁻⁷ exactly, so halves are exact too.
	const s = 0x1p-7
	q, scale := quantizeColumns([]float32{127 * s, 0.5 * s, 1.5 * s, 2.5 * s, -0.5 * s, -1.5 * s, -126.5 * s}, 1)
	if scale[0] != s {
		t.Fatalf("scale %v, want %v", scale[0], s)
	}
	for i, want := range []int8{127, 0, 2, 2, 0, -2, -126} {
		if q[i] != want {
			t.Errorf("weight %d is %d, want %d", i, q[i], want)
		}
	}
}

func TestRoundFloat16(t *testing.T) {
	for _, c := range []struct{ in, want float32 }{
		{1, 1}, {1 + 0x1p-10, 1 + 0x1p-10}, {1 + 0x1p-11, 1}, {1 + 3*0x1p-11, 1 + 0x1p-9}, {1 + 0x1p-11 + 0x1p-20, 1 + 0x1p-10},
		{2 - 0x1p-12, 2}, {0x1p-14, 0x1p-14},
	} {
		if got := roundFloat16(c.in); got != c.want {
			t.Errorf("roundFloat16(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestQuantScaleStaysUsable(t *testing.T) {
	for _, m := range []float32{math.SmallestNonzeroFloat32, 1e-40, 1e-20, 1e-4, 0.0077, 0.3, 1, 1e3, 1e7, 1e30, math.MaxFloat32} {
		s := quantScale(m)
		if !finite(s) || s <= 0 {
			t.Fatalf("quantScale(%v) = %v", m, s)
		}
		if q := math.RoundToEven(float64(m / s)); m > 1e-37 && q != 127 {
			t.Errorf("quantScale(%v) = %v: the largest weight becomes %v, want 127", m, s, q)
		}
		if s >= 0x1p-14 && s <= 65504 && s != roundFloat16(s) {
			t.Errorf("quantScale(%v) = %v, not a float16", m, s)
		}
	}
}

// TestInt8CloseToFloat32 holds the cost of quantizing: every weight is within
// half a scale step.
func TestInt8CloseToFloat32(t *testing.T) {
	for _, g := range []Graph{stackedGraph(false), mixedGraph(false)} {
		testInt8CloseToFloat32(t, randomWeights(t, g, 20))
	}
}

func testInt8CloseToFloat32(t *testing.T, w *Weights) {
	q := quantized(t, w)
	d := dequantize(q)
	for i, l := range w.Layers {
		for j, v := range l.Recurrent {
			// The scale's rounding moves the largest by up to 127·2⁻¹² steps more.
			s := q.Layers[i].RecurrentScale[j%w.Graph.Layers[i].columns()]
			if err := math.Abs(float64(d.Layers[i].Recurrent[j] - v)); err > float64(s)*(0.5+127*0x1p-11) {
				t.Fatalf("layer %d weight %d: %v became %v, scale %v", i, j, v, d.Layers[i].Recurrent[j], s)
			}
		}
	}
	a, b := int8Model(t, q), float32Model(t, w)
	window, ya, yb := randomWindow(21, 30, 5), make([]float32, a.outputs), make([]float32, a.outputs)
	if err := a.Predict(a.NewState(), ya, window); err != nil {
		t.Fatal(err)
	}
	if err := b.Predict(b.NewState(), yb, window); err != nil {
		t.Fatal(err)
	}
	for j := range ya {
		if math.Abs(float64(ya[j]-yb[j])) > 0.01 {
			t.Errorf("output %d: int8 %v, float32 %v", j, ya[j], yb[j])
		}
	}
}
