package bptt

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

func TestInitDrawsKerasInitializers(t *testing.T) {
	g := graph(14, seqLayer(33), gruSeqLayer(20), lstmLayer(16), denseLayer(3, kernel.Linear))
	w, err := Init(g, 7)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range w.Layers {
		out := g.Layers[i].Units * max(g.Layers[i].Kind.Gates(), 1)
		glorot := math.Sqrt(6 / float64(g.In(i)+out))
		var top, sum, square float64
		for _, v := range l.Kernel {
			top = max(top, math.Abs(float64(v)))
			sum += float64(v)
			square += float64(v) * float64(v)
		}
		n := float64(len(l.Kernel))
		if top > glorot*(1+1e-6) || top < 0.9*glorot {
			t.Errorf("layer %d: largest kernel value %v, want just below %v", i, top, glorot)
		}
		// A uniform variable on ±a has mean 0 and variance a²/3; six standard errors.
		if limit := 6 * glorot / math.Sqrt(3*n); math.Abs(sum/n) > limit {
			t.Errorf("layer %d: kernel mean %v, want within %v of 0", i, sum/n, limit)
		}
		if got, want := square/n, glorot*glorot/3; math.Abs(got-want) > 6*want*math.Sqrt(0.8/n) {
			t.Errorf("layer %d: kernel variance %v, want %v", i, got, want)
		}
		for k, v := range l.Bias {
			want := float32(0)
			if u := g.Layers[i].Units; g.Layers[i].Kind == kernel.LSTM && k >= u && k < 2*u {
				want = 1 // forget gate
			}
			if v != want {
				t.Errorf("layer %d: bias %d = %v, want %v", i, k, v, want)
			}
		}
	}
}

func TestInitRecurrentKernelIsOrthogonal(t *testing.T) {
	for _, layer := range []kernel.Layer{lstmLayer(1), lstmLayer(2), lstmLayer(33), lstmLayer(128), gruLayer(1), gruLayer(33)} {
		w, err := Init(graph(2, layer), 3)
		if err != nil {
			t.Fatal(err)
		}
		u, units, wide := w.Layers[0].Recurrent, layer.Units, layer.Kind.Gates()*layer.Units
		for i := range units {
			for j := range i + 1 {
				var dot float64
				for k := range wide {
					dot += float64(u[i*wide+k]) * float64(u[j*wide+k])
				}
				want := 0.0
				if i == j {
					want = 1
				}
				if math.Abs(dot-want) > 1e-6 {
					t.Fatalf("%v of %d units: rows %d and %d have product %v, want %v", layer.Kind, units, i, j, dot, want)
				}
			}
		}
	}
}

func TestInitFollowsTheSeed(t *testing.T) {
	g := graph(3, lstmLayer(8), denseLayer(1, kernel.Linear))
	a, _ := Init(g, 1)
	b, _ := Init(g, 1)
	c, _ := Init(g, 2)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("same seed: %s", diff)
	}
	if cmp.Equal(a, c) {
		t.Error("seeds 1 and 2 gave the same weights")
	}
	if _, err := Init(graph(0), 1); !errors.Is(err, kernel.ErrShape) {
		t.Errorf("Init(empty graph) = %v, want ErrShape", err)
	}
}
