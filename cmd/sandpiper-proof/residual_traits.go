package main

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/sandpiper-edge/sandpiper/firmware-sim/scenario"
)

// traits are what the quality check depends on of the errors of two versions.
type traits struct {
	series   int
	ratio    float64 // of the mean absolute errors
	inTime   float64 // correlation of |e_A| from one row to the next, median of the series
	inPairs  float64 // of |e_A| and |e_B|, likewise
	kurtosis float64 // of |e_A|, excess, likewise
	// These are over an hour of a device, beginning at any row of any series: the
	// deviation of its error's logarithm, that of the ratio's logarithm, the ratio of
	// a typical device, by the check's own trimmed mean, and the shares of devices a
	// quarter above and below it.
	scales, ratios, typical, above, below float64
}

// hour is how many comparisons a device has made when its ratio is looked at.
const hour = 60

func traitsOf(series [][]scenario.Pair) traits {
	t := traits{series: len(series)}
	var sumA, sumB float64
	var inTime, inPairs, kurtosis, scales, ratios []float64
	for _, s := range series {
		a, b := make([]float64, len(s)), make([]float64, len(s))
		for i, p := range s {
			a[i], b[i] = math.Abs(p.A), math.Abs(p.B)
			sumA, sumB = sumA+a[i], sumB+b[i]
		}
		inTime = append(inTime, stat.Correlation(a[:len(a)-1], a[1:], nil))
		inPairs = append(inPairs, stat.Correlation(a, b, nil))
		kurtosis = append(kurtosis, stat.ExKurtosis(a, nil))
		for i := range s {
			var x, y float64
			for k := range hour {
				x, y = x+a[(i+k)%len(a)], y+b[(i+k)%len(b)]
			}
			scales, ratios = append(scales, math.Log(x)), append(ratios, math.Log(y/x))
		}
	}
	t.ratio, t.inTime, t.inPairs, t.kurtosis = sumB/sumA, median(inTime), median(inPairs), median(kurtosis)
	t.scales = stat.StdDev(scales, nil)
	t.ratios = stat.StdDev(ratios, nil)
	slices.Sort(ratios)
	cut := len(ratios) / 10
	middle := stat.Mean(ratios[cut:len(ratios)-cut], nil)
	t.typical = math.Exp(middle)
	for _, r := range ratios {
		switch {
		case r-middle > math.Log(1.25):
			t.above += 1 / float64(len(ratios))
		case r-middle < -math.Log(1.25):
			t.below += 1 / float64(len(ratios))
		}
	}
	return t
}

// String words them.
func (t traits) String() string {
	return fmt.Sprintf("%d series, ratio %.3f of the mean and %.3f of a typical device, deviation of logarithms %.2f; "+
		"correlation in time %.2f, between versions %.2f, kurtosis %.1f, scales %.2f; %.1f %% of devices a quarter above, %.1f %% below after an hour",
		t.series, t.ratio, t.typical, t.ratios, t.inTime, t.inPairs, t.kurtosis, t.scales, 100*t.above, 100*t.below)
}
