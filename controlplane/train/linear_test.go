package train

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
)

// source makes a forecasting source of the given series, all of it training rows.
func source(t *testing.T, window, horizon int, series ...[]float64) *dataset.Source {
	t.Helper()
	var b strings.Builder
	names := make([]string, len(series))
	for i := range series {
		names[i] = fmt.Sprintf("c%d", i)
	}
	fmt.Fprintln(&b, strings.Join(names, ","))
	for row := range series[0] {
		for i := range series {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprint(&b, series[i][row])
		}
		b.WriteByte('\n')
	}
	table, err := dataset.Read(strings.NewReader(b.String()), dataset.Columns{Targets: names[:1], TargetsAsFeatures: true})
	if err != nil {
		t.Fatal(err)
	}
	w, err := table.Windows(table.All(), dataset.Shape{Window: window, Horizon: horizon})
	if err != nil {
		t.Fatal(err)
	}
	sc, _ := dataset.NewScaler(table.FeatureMoments(table.All()))
	for range horizon {
		sc.OutMean = append(sc.OutMean, sc.Mean[0])
		sc.OutStd = append(sc.OutStd, sc.Std[0])
	}
	plan, err := prepare.Plain(*sc)
	if err != nil {
		t.Fatal(err)
	}
	src, err := dataset.NewSource(w, plan, dataset.Unlimited)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// worst is the largest error of the map on its own windows.
func worst(t *testing.T, src *dataset.Source, inputs, outputs int) float64 {
	t.Helper()
	m, err := fitLinear(context.Background(), src, inputs, outputs)
	if err != nil {
		t.Fatal(err)
	}
	x, y, got := make([]float32, inputs), make([]float32, outputs), make([]float32, outputs)
	w := 0.0
	for i := range src.Len() {
		src.Window(i, x, y)
		m.predict(got, x)
		for o := range y {
			w = max(w, math.Abs(float64(got[o]-y[o])))
		}
	}
	return w
}

func TestLinearMapIsExactOnLinearSeries(t *testing.T) {
	ramp, wave, other := make([]float64, 300), make([]float64, 300), make([]float64, 300)
	for i := range ramp {
		ramp[i] = 3*float64(i) + 7
		wave[i] = math.Sin(float64(i) * 0.3) // follows x[t] = 2cos(0.3)·x[t−1] − x[t−2]
		other[i] = 5 - 2*wave[i]             // says nothing new: the matrix is singular
	}
	for name, w := range map[string]float64{
		"ramp":           worst(t, source(t, 8, 4, ramp), 8, 4),
		"wave":           worst(t, source(t, 8, 4, wave), 8, 4),
		"wave, repeated": worst(t, source(t, 8, 4, wave, other, other), 24, 4),
	} {
		if w > 1e-3 {
			t.Errorf("%s: largest error %g of a standard deviation, want ≤ 1e-3", name, w)
		}
	}
}

// With noise the map is the least-squares one: its residuals are orthogonal to
// every input.
func TestLinearMapIsTheLeastSquaresOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a, b := make([]float64, 700), make([]float64, 700)
	for i := range a {
		a[i], b[i] = rng.NormFloat64(), rng.NormFloat64()
	}
	src := source(t, 3, 2, a, b)
	m, err := fitLinear(context.Background(), src, 6, 2)
	if err != nil {
		t.Fatal(err)
	}
	var dot [7][2]float64
	x, y, p := make([]float32, 6), make([]float32, 2), make([]float32, 2)
	for i := range src.Len() {
		src.Window(i, x, y)
		m.predict(p, x)
		for o := range y {
			r := float64(y[o] - p[o])
			for j, v := range x {
				dot[j][o] += r * float64(v) / float64(src.Len())
			}
			dot[6][o] += r / float64(src.Len())
		}
	}
	for j, row := range dot {
		for o, d := range row {
			if math.Abs(d) > 1e-6 {
				t.Errorf("residual of output %d · input %d = %g, want 0", o, j, d)
			}
		}
	}
}

func TestLinearMapSurvivesConstantInput(t *testing.T) {
	flat, ramp := make([]float64, 50), make([]float64, 50)
	for i := range ramp {
		flat[i], ramp[i] = 4, float64(i)
	}
	if w := worst(t, source(t, 3, 1, ramp, flat), 6, 1); !(w < 1e-3) {
		t.Errorf("largest error %g", w)
	}
	if w := worst(t, source(t, 3, 1, flat), 3, 1); !(w < 1e-9) {
		t.Errorf("all constant: largest error %g", w)
	}
}

func TestLinearMapRoundTripsThroughJSON(t *testing.T) {
	m := &linearMap{inputs: 2, outputs: 1, weights: []float32{0.1, -3e-20, float32(math.Pi)}}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var got linearMap
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, &got, cmp.AllowUnexported(linearMap{})); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{
		`{"inputs":2,"outputs":1,"weights":"AAAA"}`, `{"inputs":2,"outputs":1,"weights":"*"}`,
		`{"inputs":0,"outputs":1,"weights":"AAAAAA=="}`, `{"inputs":2147483647,"outputs":2147483647,"weights":""}`,
	} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("Unmarshal(%s) succeeds", bad)
		}
	}
}
