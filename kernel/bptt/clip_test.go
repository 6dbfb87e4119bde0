package bptt

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestClippingBoundsGradients(t *testing.T) {
	// Two layers: kernel (3, 4), recurrent (0.3), bias (12); kernel (−0.1, 0.2), bias (0).
	layers := []tensors{
		{span{0, 2}, span{2, 3}, span{3, 4}},
		{span{4, 6}, span{6, 6}, span{6, 7}},
	}
	gradient := []float32{3, 4, 0.3, 12, -0.1, 0.2, 0}
	global := float32(2 / math.Sqrt(9+16+0.09+144+0.01+0.04))
	for _, c := range []struct {
		name string
		cfg  Config
		want []float32
	}{
		{"off", Config{}, gradient},
		{"clipvalue", Config{ClipValue: 0.15}, []float32{0.15, 0.15, 0.15, 0.15, -0.1, 0.15, 0}},
		{"clipnorm", Config{ClipNorm: 2.5}, []float32{1.5, 2, 0.3, 2.5, -0.1, 0.2, 0}},
		{"global clipnorm", Config{GlobalClipNorm: 2}, []float32{3 * global, 4 * global, 0.3 * global, 12 * global, -0.1 * global, 0.2 * global, 0}},
		{"global clipnorm not reached", Config{GlobalClipNorm: 13.1}, gradient},
	} {
		got := append([]float32(nil), gradient...)
		clipGradients(c.cfg, layers, got)
		if diff := cmp.Diff(c.want, got, cmpopts.EquateApprox(1e-6, 0)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestUpdatesUseClippedGradients(t *testing.T) {
	g := graph(2, lstmLayer(4))
	src := randomWindows(g, MSE, 8, 4, 1)
	e := start(t, Config{GlobalClipNorm: 1e-3, KernelL2: 10}, mustInit(g), src) // of the penalty, too
	e.train(src, ascending(make([]int, 8)))
	var sum float64
	for k, v := range e.gradient() {
		sum += float64(v) * float64(v)
		if m := e.optimizer.slots[0].values[k]; math.Abs(float64(m-0.1*v)) > 1e-9 {
			t.Fatalf("first moment %d = %v, want a tenth of the clipped gradient %v", k, m, v)
		}
	}
	if norm := math.Sqrt(sum); math.Abs(norm-1e-3) > 1e-8 {
		t.Errorf("norm of the gradient = %v, want 0.001", norm)
	}
}
