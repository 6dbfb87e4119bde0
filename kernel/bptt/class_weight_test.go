package bptt

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

func TestClassWeightedIsTheWeightOfTheTargetsClass(t *testing.T) {
	three := graph(1, lstmLayer(2), denseLayer(3, kernel.Softmax))
	one := graph(1, lstmLayer(2), denseLayer(1, kernel.Sigmoid))
	for name, c := range map[string]struct {
		g       kernel.Graph
		targets []float32
		own     []float32
		weights []float32
		want    []float32
	}{
		"one-hot":            {three, []float32{0, 1, 0, 1, 0, 0, 0, 0, 1}, nil, []float32{2, 3, 0}, []float32{3, 2, 0}},
		"soft":               {three, []float32{0.2, 0.3, 0.5}, nil, []float32{2, 3, 4}, []float32{4}},
		"binary":             {one, []float32{0, 1, 1}, nil, []float32{0.5, 4}, []float32{0.5, 4, 4}},
		"of a Weighted":      {one, []float32{0, 1, 1}, []float32{1, 2, 0}, []float32{0.5, 4}, []float32{0.5, 8, 0}},
		"all the same class": {one, []float32{1, 1}, nil, []float32{0.5, 4}, []float32{4, 4}},
	} {
		w := &windows{steps: 2, features: 1, outLen: c.g.Outputs(), x: make([]float32, 2*len(c.want)), y: c.targets}
		var src Source = w
		if c.own != nil {
			src = weighted{w, c.own}
		}
		got, err := ClassWeighted(src, c.g, c.weights)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var weights []float32
		for i := range got.Len() {
			weights = append(weights, got.(Weighted).Weight(i))
		}
		if !slices.Equal(weights, c.want) {
			t.Errorf("%s: weights %v, want %v", name, weights, c.want)
		}
	}
}

func TestClassWeightedKeepsChains(t *testing.T) {
	g := graph(2, lstmLayer(2), denseLayer(1, kernel.Sigmoid))
	src := chains{randomWindows(g, BinaryCrossentropy, 5, 3, 1), 2}
	got, err := ClassWeighted(src, g, []float32{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if continues(got, i) != continues(src, i) {
			t.Errorf("window %d continues: %v, want %v", i, continues(got, i), continues(src, i))
		}
	}
}

func TestClassWeightedRefuses(t *testing.T) {
	g := graph(1, lstmLayer(2), denseLayer(2, kernel.Softmax))
	src := randomWindows(g, CategoricalCrossentropy, 2, 3, 1)
	for name, c := range map[string]struct {
		g       kernel.Graph
		weights []float32
	}{
		"too few":        {g, []float32{1}},
		"too many":       {g, []float32{1, 1, 1}},
		"negative":       {g, []float32{1, -1}},
		"NaN":            {g, []float32{float32(math.NaN()), 1}},
		"infinite":       {g, []float32{1, float32(math.Inf(1))}},
		"for every step": {graph(1, seqLayer(2), denseLayer(2, kernel.Softmax)), []float32{1, 1}},
	} {
		if _, err := ClassWeighted(src, c.g, c.weights); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}
