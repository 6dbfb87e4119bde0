package rehearse

import "gonum.org/v1/gonum/stat/distuv"

// Upper95 is the one-sided 95 % upper bound of a rate of which k of n were seen
// (Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 1934).
func Upper95(k, n int) float64 {
	if k >= n {
		return 1
	}
	return distuv.Beta{Alpha: float64(k + 1), Beta: float64(n - k)}.Quantile(0.95)
}
