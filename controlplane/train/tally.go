package train

import "slices"

// A tally counts what a predictor told of windows, block by block, in cells that add
// up over blocks: of classes windows by true class, then by the one told, and of
// anomalies those of detectionCounts.
type tally [][]float64

// sum adds up the blocks.
func (t tally) sum(blocks []int) []float64 {
	total := make([]float64, len(t[0]))
	for _, b := range blocks {
		for i, n := range t[b] {
			total[i] += n
		}
	}
	return total
}

// A count is the tallies of all predictors on the same windows, with the figures that
// cells have.
type count struct {
	model     tally
	baselines map[string]tally
	figures   func(cells []float64) Metrics
}

// cellNames are figures that are the counts themselves.
var cellNames = []string{"tp", "fp", "tn", "fn"}

// fill puts intervals, where the blocks are enough for them, and the verdict into the
// report, whose figures are there.
func (c count) fill(r *Report, seed uint64) {
	metric := verdictMetrics[r.Task]
	var differences map[string][]float64
	if len(c.model) >= minBlocks {
		draws := newBootstrap(len(c.model), seed).draws
		model := c.resample(c.model, draws)
		r.Intervals, differences = intervals(model), map[string][]float64{}
		for _, name := range cellNames {
			delete(r.Intervals, name) // counts of these rows, not of others
		}
		for name, t := range c.baselines {
			for i, other := range c.resample(t, draws) {
				differences[name] = append(differences[name], better(loss(metric, model[i][metric]), loss(metric, other[metric])))
			}
		}
	}
	r.Verdict = judge(r.Evaluated, metric, compare(r, metric, differences))
}

func (c count) resample(t tally, draws [][]int) []Metrics {
	all := make([]Metrics, len(draws))
	for i, blocks := range draws {
		all[i] = c.figures(t.sum(blocks))
	}
	return all
}

// higherIsBetter are figures of which 1 is the best.
var higherIsBetter = []string{"accuracy", "f1"}

// loss is a figure as something of which less is better.
func loss(metric string, v float64) float64 {
	if slices.Contains(higherIsBetter, metric) {
		return 1 - v
	}
	return v
}
