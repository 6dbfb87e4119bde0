package bptt

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
)

// paddedWindows are windows whose first rows, which hold numbers all the same, are
// none.
type paddedWindows struct {
	*windows
	first []int
}

func (p paddedWindows) Padding(i int) int { return p.first[i] }

// alone is a source of window i without the rows before first.
func (w *windows) alone(i, first int) *windows {
	in := w.steps * w.features
	return &windows{
		steps: w.steps - first, features: w.features, outLen: w.outLen,
		x: w.x[i*in+first*w.features : (i+1)*in], y: w.y[i*w.outLen : (i+1)*w.outLen],
	}
}

func TestPaddedWindowsAreTheirRowsAlone(t *testing.T) {
	first := []int{4, 0, 5, 2, 0, 1, 3}
	indices := []int{6, 0, 3, 1, 5}
	for name, g := range map[string]kernel.Graph{
		"lstm":         graph(3, lstmLayer(5), denseLayer(3, kernel.Softmax)),
		"gru":          graph(2, gruLayer(17), denseLayer(2, kernel.Softmax)),
		"lstm on gru":  graph(2, gruSeqLayer(3), lstmLayer(17), denseLayer(2, kernel.Softmax)),
		"gru on lstms": graph(2, seqLayer(3), seqLayer(5), gruLayer(4), denseLayer(2, kernel.Softmax)),
	} {
		t.Run(name, func(t *testing.T) {
			w := stirred(t, g, 5)
			src := paddedWindows{randomWindows(g, CategoricalCrossentropy, 7, 6, 9), first}
			wantLoss, want := 0.0, toParams64(w)
			for i := range want {
				for k := range want[i] {
					clear(want[i][k])
				}
			}
			for _, index := range indices {
				one := src.alone(index, first[index])
				wantLoss += referenceLoss(CategoricalCrossentropy, g, toParams64(w), one, []int{0}) / float64(len(indices))
				for i, l := range referenceGradient(CategoricalCrossentropy, w, one, []int{0}) {
					for k, tensor := range l {
						for j, v := range tensor {
							want[i][k][j] += v / float64(len(indices))
						}
					}
				}
			}
			eachTier(t, func(t *testing.T) {
				e := start(t, Config{Loss: CategoricalCrossentropy, Shards: 4, BatchSize: 8}, w, src)
				e.run(src, ascending(make([]int, 7)), 7)
				if mean := e.train(src, indices); math.Abs(mean-wantLoss) > 1e-6*(1+wantLoss) {
					t.Errorf("loss = %v, want %v", mean, wantLoss)
				}
				for i, l := range e.layers {
					for k, s := range l.each() {
						compareGradient(t, fmt.Sprintf("layer %d tensor %d", i, k), s.of(e.gradient()), want[i][k])
					}
				}
			})
		})
	}
}

// seen is a source that a worker has read in training.
func seen(t *testing.T, cfg Config, src Source, update int) (x []float32, first []int) {
	t.Helper()
	g := graph(2, lstmLayer(3))
	e := start(t, cfg, stirred(t, g, 1), src)
	k := e.workers[0]
	k.pass = pass{src: src, batch: []int{0, 1, 2}, terms: 3, update: update}
	k.read(src, k.pass.batch)
	return slices.Clone(k.x[:3*len(k.window)]), slices.Clone(k.padding.first)
}

func TestNoiseIsOfEveryRowAndUpdate(t *testing.T) {
	const steps = 40
	src := paddedWindows{randomWindows(graph(2, lstmLayer(3)), MSE, 3, steps, 9), []int{0, 10, 0}}
	plain, _ := seen(t, Config{Shards: 1}, src, 0)
	var sum, squares, n float64
	var updates [][]float32
	for update := range 30 {
		x, _ := seen(t, Config{Shards: 1, Noise: 0.5, Seed: 3}, src, update)
		updates = append(updates, x)
		for i, v := range x {
			row, window := i/2/3, i/2%3
			d := float64(v - plain[i])
			if row < src.first[window] {
				if d != 0 {
					t.Fatalf("row %d of window %d is none and has noise", row, window)
				}
				continue
			}
			sum, squares, n = sum+d, squares+d*d, n+1
		}
	}
	if mean, std := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.03 || math.Abs(std-0.5) > 0.03 {
		t.Errorf("noise of mean %v and deviation %v, want 0 and 0.5", mean, std)
	}
	again, _ := seen(t, Config{Shards: 1, Noise: 0.5, Seed: 3}, src, 1)
	if !slices.Equal(again, updates[1]) || slices.Equal(updates[0], updates[1]) {
		t.Error("an update has not the noise it had, or that of the one before")
	}
	other, _ := seen(t, Config{Shards: 1, Noise: 0.5, Seed: 4}, src, 1)
	if slices.Equal(other, updates[1]) {
		t.Error("another seed, the same noise")
	}
}

func TestCropLeavesOutFirstRows(t *testing.T) {
	src := paddedWindows{randomWindows(graph(2, lstmLayer(3)), MSE, 3, 40, 9), []int{0, 20, 39}}
	var most [3]int
	for update := range 60 {
		_, first := seen(t, Config{Shards: 1, Crop: 0.5, Seed: 3}, src, update)
		for i, f := range first {
			if rows := 40 - src.first[i]; f < src.first[i] || f > src.first[i]+rows/2 {
				t.Fatalf("window %d of %d rows begins at %d", i, rows, f)
			}
			most[i] = max(most[i], f-src.first[i])
		}
	}
	if most[0] < 15 || most[1] < 7 || most[2] != 0 {
		t.Errorf("at most %v rows were left out, want about 20, 10 and 0", most)
	}
}

func TestEvaluationHasNeitherNoiseNorCrop(t *testing.T) {
	g := graph(2, lstmLayer(3), denseLayer(2, kernel.Linear))
	w := stirred(t, g, 1)
	src := randomWindows(g, MSE, 5, 6, 9)
	plan := &plan{order: ascending(make([]int, 5)), ends: []int{5}}
	want, err := start(t, Config{}, w, src).loss(t.Context(), src, plan)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := start(t, Config{Noise: 1, Crop: 0.9}, w, src).loss(t.Context(), src, plan); err != nil || got != want {
		t.Errorf("loss %v, %v, want %v", got, err, want)
	}
}

func TestPaddingRefuses(t *testing.T) {
	last, all := graph(2, lstmLayer(3)), graph(2, seqLayer(3))
	windows := randomWindows(last, MSE, 3, 4, 9)
	for name, c := range map[string]struct {
		g    kernel.Graph
		src  Source
		cfg  Config
		want error
	}{
		"all rows are none":     {last, paddedWindows{windows, []int{0, 4, 0}}, Config{}, kernel.ErrShape},
		"negative":              {last, paddedWindows{windows, []int{0, -1, 0}}, Config{}, kernel.ErrShape},
		"an output for a row":   {all, paddedWindows{randomWindows(all, MSE, 3, 4, 9), []int{0, 1, 0}}, Config{}, ErrConfig},
		"a state carried on":    {last, paddedWindows{windows, []int{0, 1, 0}}, Config{Stateful: true}, ErrConfig},
		"cropped, carried on":   {last, windows, Config{Stateful: true, Crop: 0.1}, ErrConfig},
		"a crop of all rows":    {last, windows, Config{Crop: 1}, ErrConfig},
		"noise without a bound": {last, windows, Config{Noise: math.Inf(1)}, ErrConfig},
	} {
		if _, err := Fit(t.Context(), stirred(t, c.g, 1), c.src, nil, c.cfg, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
