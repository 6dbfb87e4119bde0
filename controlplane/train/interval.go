package train

import (
	"math"
	"math/rand/v2"
	"slices"
)

// An Interval holds a figure with 95 % confidence, as far as the rows evaluated
// stand for others.
type Interval [2]Figure

const (
	// resamples bounds the time of the bootstrap, with maxBlocks: some tens of
	// milliseconds.
	resamples = 1000
	maxBlocks = 500
	// minBlocks are the fewest that say something about how figures vary.
	minBlocks = 10
)

// blocks cuts the windows into parts that are nearly independent of each other,
// as the end of each: whole groups where there are enough of them, and
// otherwise stretches of each group, at least as long as what a window reaches
// ahead, or has in common with its neighbour, and as a season. They may be too few to tell anything.
func (e *evaluation) blocks() []int {
	n := e.w.Len()
	var groups []int
	for i := 1; i <= n; i++ {
		if i == n || e.w.Group(i) != e.w.Group(i-1) {
			groups = append(groups, i)
		}
	}
	if len(groups) >= minBlocks {
		return merged(groups)
	}
	length := max(e.w.Shape.Horizon, e.reach, e.setup.Season, (n+maxBlocks-1)/maxBlocks, 1)
	var ends []int
	at := 0
	for _, end := range groups {
		parts := max((end-at)/length, 1)
		for k := range parts {
			ends = append(ends, at+(end-at)*(k+1)/parts)
		}
		at = end
	}
	return merged(ends)
}

// merged joins neighbours until there are at most maxBlocks.
func merged(ends []int) []int {
	n := len(ends)
	if n <= maxBlocks {
		return ends
	}
	out := make([]int, maxBlocks)
	for k := range out {
		out[k] = ends[n*(k+1)/maxBlocks-1]
	}
	return out
}

// A bootstrap draws blocks of windows with replacement, the same for every
// predictor, so that differences between them are those of pairs (Künsch 1989
// for blocks; Efron and Tibshirani 1993, §13.3 for the percentile interval).
type bootstrap struct {
	draws [][]int // blocks of each resample
}

func newBootstrap(blocks int, seed uint64) *bootstrap {
	rng := rand.New(rand.NewPCG(seed, 0x626f6f74)) // "boot"
	b := &bootstrap{draws: make([][]int, resamples)}
	for i := range b.draws {
		b.draws[i] = make([]int, blocks)
		for k := range b.draws[i] {
			b.draws[i][k] = rng.IntN(blocks)
		}
	}
	return b
}

// figures are the metrics of each resample, from the sums of each block.
func (b *bootstrap) figures(s scorer, blocks []sums) []Metrics {
	out := make([]Metrics, len(b.draws))
	for i, draw := range b.draws {
		var total sums
		for _, k := range draw {
			total.add(blocks[k])
		}
		out[i] = s.metrics(total)
	}
	return out
}

// intervals are those of every metric over the resamples.
func intervals(figures []Metrics) map[string]Interval {
	out := map[string]Interval{}
	for name := range figures[0] {
		v := make([]float64, len(figures))
		for i, m := range figures {
			v[i] = m[name]
		}
		out[name] = percentile(v)
	}
	return out
}

// percentile is the middle 95 % of v, which it sorts.
func percentile(v []float64) Interval {
	slices.Sort(v)
	n := float64(len(v) - 1)
	return Interval{Figure(v[int(math.Round(0.025*n))]), Figure(v[int(math.Round(0.975*n))])}
}
