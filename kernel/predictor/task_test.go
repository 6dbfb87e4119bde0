package predictor

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// watched is a graph with a value for flow and one for speed.
func watched() kernel.Graph {
	return kernel.Graph{Features: 3, Layers: []kernel.Layer{{Kind: kernel.LSTM, Units: 8}, {Kind: kernel.Dense, Units: 2}}}
}

// detector is an artifact that judges the last smooth rows of window, and the same
// network as a plain model of the rows that it takes at a time.
func detector(t *testing.T, residual string, window, smooth int) (d, plain *Predictor) {
	t.Helper()
	rows := window - smooth
	if residual == artifact.Reconstruction {
		rows++
	}
	f := newFixture(t, watched(), rows, artifact.StateWindow)
	plain = open(t, f.artifact(t))
	f.schema.Window, f.schema.Horizon, f.schema.Targets = window, 1, []artifact.Column{{Name: artifact.ScoreName}}
	f.schema.Detector = &artifact.Detector{
		Residual: residual, Features: []int{0, 2}, Inv: []float32{0.5, 0.125}, Smooth: smooth, Threshold: 2,
	}
	m, err := FromQuant(f.quant, f.schema, artifact.TaskAnomaly, f.scaler)
	if err != nil {
		t.Fatal(err)
	}
	d = open(t, m)
	if err := d.Check(); err != nil {
		t.Errorf("Check() = %v", err)
	}
	return d, plain
}

func TestScoreIsThatOfTheMeanResidual(t *testing.T) {
	for _, c := range []struct {
		residual       string
		window, smooth int
		judged         int // row of the residual of the network's first window
	}{
		{artifact.NextStep, 9, 4, 5}, {artifact.NextStep, 2, 1, 1},
		{artifact.Reconstruction, 8, 4, 4}, {artifact.Reconstruction, 3, 3, 0},
	} {
		d, plain := detector(t, c.residual, c.window, c.smooth)
		rows := rawRows(3, c.window)
		var sum [2]float32
		for i := range c.smooth {
			y := predict(t, plain, rows[3*i:][:3*plain.Window()])
			row := rows[3*(i+c.judged):]
			sum[0] += float32((row[0] - y[0]) * 0.5)
			sum[1] += float32((row[2] - y[1]) * 0.125)
		}
		n := float32(c.smooth)
		squares := float32(sum[0]/n*(sum[0]/n)) + float32(sum[1]/n*(sum[1]/n))
		want := float32(math.Sqrt(float64(squares / 2)))
		if got := predict(t, d, rows)[0]; got != want || got == 0 {
			t.Errorf("%s over %d of %d rows: score %v, want %v", c.residual, c.smooth, c.window, got, want)
		}
		two := append(rawRows(4, c.window), rows...)
		y := make([]float32, 2)
		if err := d.PredictBatch(y, two, 2); err != nil || y[1] != want {
			t.Errorf("%s: the second of two scores is %v, %v, want %v", c.residual, y[1], err, want)
		}
	}
}

func TestAnomalyIsAboveTheThreshold(t *testing.T) {
	d, plain := detector(t, artifact.NextStep, 9, 4)
	for score, want := range map[float32]bool{1.9: false, 2: false, math.Nextafter32(2, 3): true} {
		if got, ok := d.Anomaly([]float32{score}); got != want || !ok {
			t.Errorf("Anomaly(%v) = %v, %v, want %v", score, got, ok, want)
		}
	}
	if _, ok := plain.Anomaly([]float32{9}); ok {
		t.Error("a forecast model has an opinion on anomalies")
	}
}

func TestScoreAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector empties pools")
	}
	d, _ := detector(t, artifact.NextStep, 9, 4)
	rows, y := rawRows(3, 9), make([]float32, 1)
	if n := testing.AllocsPerRun(20, func() {
		if err := d.Predict(y, rows); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a score", n)
	}
}

// classifier is an artifact of four classes, of 2 to 6 rows.
func classifier(t *testing.T) *Predictor {
	t.Helper()
	g := lastState()
	g.Layers[3].Activation = kernel.Softmax
	f := newFixture(t, g, 6, artifact.StateWindow)
	f.schema.Horizon, f.schema.MinWindow, f.schema.Labels = 1, 2, []string{"rest", "walk", "run", "fall"}
	f.schema.Targets = nil
	for i, l := range f.schema.Labels {
		f.schema.Targets = append(f.schema.Targets, artifact.Column{Name: l})
		f.scaler.OutMean[i], f.scaler.OutStd[i] = 0, 1
	}
	m, err := FromQuant(f.quant, f.schema, artifact.TaskClassify, f.scaler)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, m)
}

func TestFewerRowsAreAShorterSeries(t *testing.T) {
	p := classifier(t)
	rows := rawRows(5, 6)
	var all [][]float32
	for n := 2; n <= 6; n++ {
		y := predict(t, p, rows[:3*n])
		sum := y[0] + y[1] + y[2] + y[3]
		if math.Abs(float64(sum)-1) > 1e-6 {
			t.Errorf("%d rows: probabilities %v sum to %v", n, y, sum)
		}
		for _, before := range all {
			if slices.Equal(before, y) {
				t.Errorf("%d rows: the answer to fewer", n)
			}
		}
		all = append(all, y)
		twice := make([]float32, 8)
		if err := p.PredictBatch(twice, slices.Repeat(rows[:3*n], 2), 2); err != nil || !slices.Equal(twice[4:], y) {
			t.Errorf("%d rows twice: %v, %v, want %v", n, twice, err, y)
		}
	}
	for _, n := range []int{0, 3, 21, 8} {
		if err := p.Predict(make([]float32, 4), make([]float32, n)); !errors.Is(err, kernel.ErrShape) {
			t.Errorf("%d values: %v, want ErrShape", n, err)
		}
	}
	if p.MinWindow() != 2 || p.Window() != 6 {
		t.Errorf("%d to %d rows, want 2 to 6", p.MinWindow(), p.Window())
	}
}

func TestLabelIsTheLargest(t *testing.T) {
	p := classifier(t)
	for _, c := range []struct {
		y    []float32
		want string
	}{
		{[]float32{0.1, 0.2, 0.6, 0.1}, "run"}, {[]float32{0.4, 0.4, 0.1, 0.1}, "rest"}, {[]float32{0, 0, 0, 1}, "fall"},
	} {
		if got := p.Label(c.y); got != c.want {
			t.Errorf("Label(%v) = %q, want %q", c.y, got, c.want)
		}
	}
	p.schema.Labels = []string{"no", "yes"}
	for y, want := range map[float32]string{0.49: "no", 0.5: "yes", 1: "yes"} {
		if got := p.Label([]float32{y}); got != want {
			t.Errorf("Label(%v) = %q, want %q", y, got, want)
		}
	}
	if _, plain := detector(t, artifact.NextStep, 9, 4); plain.Label([]float32{1, 2}) != "" {
		t.Error("a forecast model gives a label")
	}
}
