// Package drift tells how far the values of a column are from those of a reference:
// by the population stability index of their histograms, as a device can count them
// too, and by the distance of Kolmogorov and Smirnov.
package drift

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// The usual bounds of the index (Siddiqi, Credit Risk Scorecards, 2006).
const (
	ShiftedFrom = 0.1
	DriftedFrom = 0.25
)

// Verdicts.
const (
	Stable  = "stable"
	Shifted = "shifted" // look at it
	Drifted = "drifted" // a model trained on the reference knows little of these values
	Unknown = "unknown" // too few values to tell
)

// Bins is how many bins a reference has, unless its values are few.
const Bins = 10

// Edges returns the upper bounds, each included, of all bins but the last: quantiles
// of sorted values that divide them into as many bins as equal as the values let.
func Edges(sorted []float32, bins int) []float32 {
	var edges []float32
	for k := 1; k < bins; k++ {
		e := sorted[(k*len(sorted)+bins-1)/bins-1]
		if e < sorted[len(sorted)-1] && !slices.Contains(edges, e) {
			edges = append(edges, e)
		}
	}
	return edges
}

// Bin returns the bin of v.
func Bin(edges []float32, v float32) int {
	i, _ := slices.BinarySearch(edges, v)
	return i
}

// least is the part of values that an empty bin is taken to hold, so that the index
// stays finite.
const least = 1e-4

// PSI returns the population stability index of the counts in current against those
// in reference, bin by bin: Σ (c − r)·ln(c/r) of their parts. 0 without values.
func PSI(reference, current []float64) (psi float64) {
	r, c := sum(reference), sum(current)
	if r == 0 || c == 0 {
		return 0
	}
	for i := range reference {
		a, b := max(reference[i]/r, least), max(current[i]/c, least)
		psi += (b - a) * math.Log(b/a)
	}
	return psi
}

// Noise returns what PSI is to be expected of n and m independent values of one
// distribution in so many bins (Yurdakul, Statistical properties of the population
// stability index, 2018).
func Noise(bins int, n, m float64) float64 { return float64(bins-1) * (1/n + 1/m) }

// Judge says what an index means where noise is to be expected.
func Judge(psi, noise float64) string {
	switch {
	case !(noise <= ShiftedFrom/2):
		return Unknown
	case psi >= DriftedFrom:
		return Drifted
	case psi >= ShiftedFrom:
		return Shifted
	}
	return Stable
}

// Words says what a verdict means.
func Words(verdict string) string {
	return map[string]string{
		Stable:  "as in the reference",
		Shifted: "somewhat other values: look at what changed",
		Drifted: "other values: a model of the reference may be wrong on them; train again",
		Unknown: "too few values to tell",
	}[verdict]
}

// KS returns the largest distance of the distribution functions of two sorted lists of
// values, and the probability of one as large if both came from one distribution,
// each value independent of the others (Stephens 1970).
func KS(a, b []float64) (distance, p float64) {
	distance = stat.KolmogorovSmirnov(a, nil, b, nil)
	n := math.Sqrt(float64(len(a)) * float64(len(b)) / float64(len(a)+len(b)))
	return distance, kolmogorov((n + 0.12 + 0.11/n) * distance)
}

// kolmogorov is the complement of Kolmogorov's distribution function.
func kolmogorov(x float64) float64 {
	if x < 0.2 { // 1 − 10⁻¹²
		return 1
	}
	p := 0.0
	for k := 1.0; k <= 100; k++ {
		term := 2 * math.Exp(-2*k*k*x*x)
		if int(k)%2 == 0 {
			term = -term
		}
		p += term
		if math.Abs(term) < 1e-12 {
			break
		}
	}
	return min(max(p, 0), 1)
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}
