package main

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/rehearse"
	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

func evaluatedOf(t *testing.T, text string) (e evaluated) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestErrorsAreOfTheSameRows: the mean over the steps ahead, a series of each target
// and group, both versions on one row.
func TestErrorsAreOfTheSameRows(t *testing.T) {
	const forecast = `{"task": "forecast", "targets": ["p", "q"], "predictions": [
		{"group": "", "time": "1", "truth": [0, 0, 0, 0], "float32": [1, 2, 3, 4], "int8": [1, -10, 3, 30]},
		{"group": "", "time": "2", "truth": [5, 5, 5, 5], "float32": [5, 5, 5, 5], "int8": [5, 5, 6, 5]}]}`
	e := evaluatedOf(t, forecast)
	got, err := paired(e, e, float32Errors, int8Errors)
	if want := [][]scenario.Pair{{{A: 2, B: 2}, {A: 0, B: 0.5}}, {{A: 3, B: 20}, {A: 0, B: 0}}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("forecast: %v, %v; want %v", got, err, want)
	}
	engines := evaluatedOf(t, `{"task": "rul", "targets": ["rul"], "predictions": [
		{"group": "2", "time": "1", "truth": 10, "float32": null, "int8": 7}, {"group": "1", "time": "1", "truth": 10, "float32": null, "int8": 12},
		{"group": "2", "time": "2", "truth": 9, "float32": null, "int8": 9.5}]}`)
	got, err = paired(engines, engines, int8Errors, int8Errors)
	if want := [][]scenario.Pair{{{A: 2, B: 2}}, {{A: 3, B: 3}, {A: 0.5, B: 0.5}}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("rul: %v, %v; want %v", got, err, want)
	}
	if got := swapped([][]scenario.Pair{{{A: 1, B: 2}}}); got[0][0] != (scenario.Pair{A: 2, B: 1}) {
		t.Errorf("swapped: %v", got)
	}
	other := evaluatedOf(t, strings.Replace(forecast, `"time": "2"`, `"time": "3"`, 1))
	if _, err := paired(e, other, int8Errors, int8Errors); err == nil {
		t.Error("errors of other rows are paired")
	}
	if _, err := paired(engines, engines, float32Errors, int8Errors); err == nil {
		t.Error("outputs that are not there have errors")
	}
}

func TestDivideEngines(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "engines.csv.gz")
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte("unit,cycle\n40,1\n41,1\n7,1\n"))
	_ = z.Close()
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	train, test, err := divideEngines(path, dir)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{train: "unit,cycle\n40,1\n7,1\n", test: "unit,cycle\n41,1\n"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", file, got, err, want)
		}
	}
}

// TestTraits against what errors were made with.
func TestTraits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	series := make([][]scenario.Pair, 40)
	for i := range series {
		scale := math.Exp(0.5 * rng.NormFloat64())
		ratio := 1.1
		if i < 4 { // one in ten
			ratio = 2
		}
		for range 600 {
			a := scale * rng.ExpFloat64()
			series[i] = append(series[i], scenario.Pair{A: a, B: -ratio * a})
		}
	}
	got := traitsOf(series)
	if got.series != 40 || math.Abs(got.typical-1.1) > 1e-6 || got.ratio < 1.12 || got.ratio > 1.3 {
		t.Errorf("ratios of %+v, want 1.1 of a typical device and more of the mean", got)
	}
	if math.Abs(got.inTime) > 0.05 || got.inPairs < 0.999 || got.kurtosis < 3 || got.kurtosis > 9 || got.scales < 0.35 || got.scales > 0.65 {
		t.Errorf("%+v, want independent in time, equal but for the scale, kurtosis 6, scales of 0.5", got)
	}
	if math.Abs(got.above-0.1) > 1e-6 || got.below != 0 {
		t.Errorf("%.3f a quarter above, %.3f below; want 0.1 and 0", got.above, got.below)
	}
}

// TestTraitsOfTheSimulation are those that docs/rollouts.md compares real errors with.
func TestTraitsOfTheSimulation(t *testing.T) {
	series := make([][]scenario.Pair, 200)
	for i, d := range (scenario.Scenario{Devices: len(series)}).WithDefaults().Fleet() {
		var a, b float64
		for range 400 {
			d.Compare(1, time.Time{})
			series[i] = append(series[i], scenario.Pair{A: d.Pairs.SumA - a, B: d.Pairs.SumB - b})
			a, b = d.Pairs.SumA, d.Pairs.SumB
		}
	}
	got := traitsOf(series)
	t.Log(got)
	if got.typical < 0.98 || got.typical > 1.02 || got.scales < 0.6 || got.scales > 0.9 || math.Abs(got.above-got.below) > 0.01 {
		t.Errorf("%+v, want scales of 0.7 and as many devices above as below", got)
	}
}

// TestResidualRates: the worse plan counts.
func TestResidualRates(t *testing.T) {
	rates := []rehearse.Rates{
		{Rehearsals: 1000, Stopped: 5},
		{Rehearsals: 1000, Stopped: 12, Through: 4},
	}
	for name, tt := range map[string]struct {
		rate residualRate
		want string
		ok   bool
	}{
		"stopped": {goodStopped, "5 and 12 of 1000, below 1.94 %", true},
		"through": {badThrough, "0 and 4 of 1000, below 0.91 %", true},
	} {
		if got, ok := tt.rate.judge(rates); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %q, %v; want %q, %v", name, got, ok, tt.want, tt.ok)
		}
	}
	rates[0].Stopped, rates[0].Through = 14, 6
	for _, q := range []residualRate{goodStopped, badThrough} {
		if got, ok := q.judge(rates); ok {
			t.Errorf("%s is below the bar", got)
		}
	}
}
