package quality

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// An estimate is the location of values and its standard error.
type estimate struct {
	n          int
	theta      float64
	se, spread float64 // spread: of one value, winsorized
}

// minEstimate is the fewest values that have a location.
const minEstimate = 4

// location is the 10 % trimmed mean and its standard error by Tukey and
// McLaughlin, with a correction for few values. It sorts values, of which there
// are at least minEstimate.
func location(values []float64) estimate {
	const floor = 1e-9
	slices.Sort(values)
	n := len(values)
	k := n / 10
	kept := values[k : n-k]
	h := float64(len(kept))
	e := estimate{n: n, theta: mean(kept)}
	low, high := kept[0], kept[len(kept)-1]
	clamped := func(v float64) float64 { return min(max(v, low), high) }
	var sum float64
	for _, v := range values {
		sum += clamped(v)
	}
	m, square := sum/float64(n), 0.0
	for _, v := range values {
		d := clamped(v) - m
		square += d * d
	}
	e.spread = math.Sqrt(square/float64(n-1)) / 0.8
	e.se = max(e.spread/math.Sqrt(float64(n))*math.Sqrt((h-1)/(h-3)), floor)
	return e
}

func mean(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// Boundary is how many standard errors an estimate of precision v = 1/SE² may
// be off with probability alpha, at any look. It is a closed form above the
// exact normal mixture: with A = √((v+ρ)/ρ)/(2α) that needs 1 − Φ(x) ≤ e^{−x²/2},
// which always holds, so it is never too small.
func Boundary(v, rho, alpha float64) float64 {
	return math.Sqrt(2 * (1 + rho/v) * math.Log1p(math.Sqrt((v+rho)/rho)/(2*alpha)))
}

// lower and upper bound θ, each at all looks together with probability 1 − alpha.
func (e estimate) lower(rho, alpha float64) float64 {
	return e.theta - Boundary(1/(e.se*e.se), rho, alpha)*e.se
}

func (e estimate) upper(rho, alpha float64) float64 {
	return e.theta + Boundary(1/(e.se*e.se), rho, alpha)*e.se
}

// atLeast is P(Bin(n, p) ≥ x).
func atLeast(n int, p float64, x int) float64 {
	switch {
	case x <= 0:
		return 1
	case x > n || p <= 0:
		return 0
	}
	return mathext.RegIncBeta(float64(x), float64(n-x+1), p)
}
