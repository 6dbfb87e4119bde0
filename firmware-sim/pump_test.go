package firmwaresim

import (
	"bytes"
	"context"
	"encoding/csv"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

func TestSameSeedGivesTheSameSeries(t *testing.T) {
	a, b := History(7, 3, 500), History(7, 3, 500)
	if !slices.Equal(a, b) {
		t.Error("the same seed and pump gave two series")
	}
	if slices.Equal(a, History(8, 3, 500)) {
		t.Error("another seed gave the same series")
	}
	if slices.Equal(a, History(7, 4, 500)) {
		t.Error("another pump gave the same series")
	}
	if !slices.Equal(a[:100], History(7, 3, 100)) {
		t.Error("a shorter history is not the beginning of the longer")
	}
}

func TestReadingsStayInRange(t *testing.T) {
	const rows = 20_000 // more than a life
	names := append(slices.Clone(Features), "wear")
	low := []float64{10, 0.2, 0.3, 10, 4, 0}
	high := []float64{70, 7, 15, 110, 40, 1}
	for i := range 10 {
		overhauls := 0
		for n, r := range History(1, i, rows) {
			if r.Cycle != n {
				t.Fatalf("pump %d row %d has cycle %d", i, n, r.Cycle)
			}
			v := r.Values()
			for k, x := range append(v[:], r.Wear) {
				if !(x >= low[k] && x <= high[k]) {
					t.Fatalf("pump %d cycle %d: %s = %v, want %v to %v", i, n, names[k], x, low[k], high[k])
				}
			}
			if n > 0 && r.Wear == 0 {
				overhauls++
			}
		}
		if overhauls == 0 {
			t.Errorf("pump %d was not overhauled in %d cycles", i, rows)
		}
	}
}

// correlation of a and b, b lag rows later.
func correlation(a, b []float64, lag int) float64 {
	a, b = a[:len(a)-lag], b[lag:]
	var sa, sb, saa, sbb, sab float64
	for i := range a {
		sa, sb = sa+a[i], sb+b[i]
		saa, sbb, sab = saa+a[i]*a[i], sbb+b[i]*b[i], sab+a[i]*b[i]
	}
	n := float64(len(a))
	return (sab/n - sa/n*sb/n) / math.Sqrt((saa/n-sa/n*sa/n)*(sbb/n-sb/n*sb/n))
}

func column(h []Reading, k int) []float64 {
	out := make([]float64, len(h))
	for i, r := range h {
		out[i] = r.Values()[k]
	}
	return out
}

func TestPhysics(t *testing.T) {
	for i := range 10 {
		h := History(1, i, 1500)
		flow, vibration, temperature, current := column(h, 0), column(h, 2), column(h, 3), column(h, 4)
		if c := correlation(flow, current, 0); c < 0.9 {
			t.Errorf("pump %d: correlation of flow and current = %.2f, want affinity", i, c)
		}
		if now, later := correlation(current, temperature, 0), correlation(current, temperature, 8); later <= now {
			t.Errorf("pump %d: temperature follows the current at once (%.2f now, %.2f after 8 cycles)", i, now, later)
		}
		// Crossing the critical speed shakes more than full load.
		var between, full []float64
		for n := range h {
			switch {
			case flow[n] > 34 && flow[n] < 44:
				between = append(between, vibration[n])
			case temperature[n] < 45 && flow[n] > 50:
				full = append(full, vibration[n])
			}
		}
		if len(full) > 20 && slices.Max(between) < 1.3*median(full) {
			t.Errorf("pump %d: vibration at most %.1f on the ramps, %.1f at full load", i, slices.Max(between), median(full))
		}
	}
	p := NewPump(1, 1)
	p.cavitation = 1
	shaken := p.vibration()
	p.cavitation = 0
	if shaken < p.vibration()+1 {
		t.Error("cavitation does not shake")
	}
	p.wear = 0.95
	if w := p.vibration(); w < 0.7+History(1, 1, 1)[0].Vibration {
		t.Errorf("a worn pump shakes no more than before: %v", w)
	}
}

func median(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	return x[len(x)/2]
}

func TestWriteCSV(t *testing.T) {
	var b bytes.Buffer
	if err := WriteCSV(&b, 5, []string{"a", "b"}, 50); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1+2*50 || !slices.Equal(rows[0], Columns) {
		t.Fatalf("%d rows under %v, want 100 under %v", len(rows)-1, rows[0], Columns)
	}
	want := History(5, 1, 50)[7]
	got := rows[1+50+7]
	if got[0] != "b" || got[1] != "7" || got[4] != strconv.FormatFloat(want.Vibration, 'f', -1, 64) {
		t.Errorf("row 7 of b = %v, want %+v", got, want)
	}
	if err := WriteCSV(brokenWriter{}, 5, []string{"a"}, 10_000); err == nil {
		t.Error("a failed write was not reported")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, bytes.ErrTooLarge }

// windows is a bptt.Source: 24 rows of all sensors, and the next vibration.
type windows struct {
	rows  [][][5]float32 // by pump, scaled
	index [][2]int       // pump, first row
}

const windowRows = 24

func (w windows) Len() int   { return len(w.index) }
func (w windows) Steps() int { return windowRows }
func (w windows) Window(i int, x, y []float32) {
	pump, t := w.rows[w.index[i][0]], w.index[i][1]
	for k := range windowRows {
		copy(x[5*k:], pump[t+k][:])
	}
	y[0] = pump[t+windowRows][2]
}

// split scales the histories by their means and deviations and cuts windows,
// four fifths of each history to train on.
func split(histories [][]Reading) (train, test windows) {
	var n, sum, square [5]float64
	for _, h := range histories {
		for _, r := range h {
			for k, v := range r.Values() {
				n[k], sum[k], square[k] = n[k]+1, sum[k]+v, square[k]+v*v
			}
		}
	}
	for _, h := range histories {
		rows := make([][5]float32, len(h))
		for i, r := range h {
			for k, v := range r.Values() {
				mean := sum[k] / n[k]
				rows[i][k] = float32((v - mean) / math.Sqrt(square[k]/n[k]-mean*mean))
			}
		}
		train.rows = append(train.rows, rows)
	}
	test.rows = train.rows
	for p, h := range histories {
		cut := len(h) * 4 / 5
		for t := 0; t+windowRows < cut; t += 4 {
			train.index = append(train.index, [2]int{p, t})
		}
		for t := cut; t+windowRows < len(h); t += 4 {
			test.index = append(test.index, [2]int{p, t})
		}
	}
	return train, test
}

// linear returns the test error of the least-squares linear map of a window.
func linear(train, test windows) float64 {
	const n = 5*windowRows + 1
	var a [n][n + 1]float64 // normal equations and their right side
	x, y := make([]float32, n), make([]float32, 1)
	x[n-1] = 1
	for i := range train.Len() {
		train.Window(i, x, y)
		for r := range n {
			for c := r; c < n; c++ {
				a[r][c] += float64(x[r]) * float64(x[c])
			}
			a[r][n] += float64(x[r]) * float64(y[0])
		}
	}
	for r := range n {
		a[r][r] += 1e-3 * float64(train.Len())
		for c := range r {
			a[r][c] = a[c][r]
		}
	}
	for p := range n { // Gauss-Jordan; the matrix is positive definite
		for r := range n {
			if f := a[r][p] / a[p][p]; r != p {
				for c := p; c <= n; c++ {
					a[r][c] -= f * a[p][c]
				}
			}
		}
	}
	var loss float64
	for i := range test.Len() {
		test.Window(i, x, y)
		d := -float64(y[0])
		for k := range n {
			d += a[k][n] / a[k][k] * float64(x[k])
		}
		loss += d * d / float64(test.Len())
	}
	return loss
}

func fit(t *testing.T, g kernel.Graph, train, test bptt.Source, epochs int, rate float64) float64 {
	t.Helper()
	w, err := bptt.Init(g, 1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := bptt.Config{Epochs: epochs, LearningRate: rate, Seed: 1}
	if _, err := bptt.Fit(context.Background(), w, train, nil, cfg, nil); err != nil {
		t.Fatal(err)
	}
	loss, err := bptt.Evaluate(w, test)
	if err != nil {
		t.Fatal(err)
	}
	return loss
}

// The demo's promise: a small LSTM learns what neither repetition nor a linear
// map can.
func TestSeriesIsLearnable(t *testing.T) {
	var histories [][]Reading
	for i := range 8 {
		histories = append(histories, History(1, i, 600))
	}
	train, test := split(histories)
	var last float64
	x, y := make([]float32, 5*windowRows), make([]float32, 1)
	for i := range test.Len() {
		test.Window(i, x, y)
		d := float64(y[0] - x[5*(windowRows-1)+2])
		last += d * d / float64(test.Len())
	}
	g := kernel.Graph{Features: 5, Layers: []kernel.Layer{{Kind: kernel.LSTM, Units: 32}, {Kind: kernel.Dense, Units: 1}}}
	lstm := fit(t, g, train, test, 8, 5e-3)
	lin := linear(train, test)
	t.Logf("mean squared error of the next vibration, scaled: repeat last %.3f, linear %.3f, LSTM(32) %.3f", last, lin, lstm)
	if lstm > last/2 || lstm > lin/1.3 {
		t.Errorf("LSTM %.3f, want at most half of repeat-last %.3f and 1/1.3 of linear %.3f", lstm, last, lin)
	}
}

func BenchmarkWriteCSV(b *testing.B) {
	units := make([]string, 25)
	for i := range units {
		units[i] = "pump-" + strconv.Itoa(i)
	}
	var out bytes.Buffer
	for b.Loop() {
		out.Reset()
		if err := WriteCSV(&out, 1, units, 2000); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(out.Len()))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/50_000, "ns/row")
}
