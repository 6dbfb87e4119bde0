package train

import (
	"fmt"
	"slices"
)

// Pool is the report of several detectors together, each of its own machine and
// judged on its own rows: their counts add up to the figures, as the SKAB leaderboard
// has it, and Detection.Groups has those of each by the name of its version. There are
// intervals, of other such machines, from minBlocks reports on.
func Pool(model string, reports []Report) (*Report, error) {
	if len(reports) == 0 {
		return nil, fmt.Errorf("%w: no reports to pool", ErrOptions)
	}
	first := reports[0]
	out := &Report{
		Model: model, Task: Anomaly, Evaluated: first.Evaluated, Seed: first.Seed, Baselines: map[string]Metrics{}, Warnings: []string{},
		Features: first.Features, Targets: first.Targets, Window: first.Window, State: first.State,
	}
	for _, r := range reports {
		if r.Task != Anomaly || r.Detection == nil {
			return nil, fmt.Errorf("%w: %s is of the task %s; detectors are pooled, by their counts", ErrOptions, r.Version, r.Task)
		}
		out.Items += r.Items
		out.Seconds += r.Seconds
		for _, w := range r.Warnings {
			out.Warnings = append(out.Warnings, r.Version+": "+w)
		}
	}
	d := *first.Detection
	d.Threshold, d.Rows, d.At, d.Groups = 0, 0, nil, nil // each model has its own
	out.Detection = &d
	of := func(which func(r *Report) Metrics) []Metrics {
		all := make([]Metrics, len(reports))
		for i := range reports {
			all[i] = which(&reports[i])
		}
		return all
	}
	int8s := of(func(r *Report) Metrics { return r.Metrics.Int8 })
	out.Metrics = Pair{Float32: pooled(of(func(r *Report) Metrics { return r.Metrics.Float32 })), Int8: pooled(int8s)}
	for i, r := range reports {
		d.Groups = append(d.Groups, GroupDetection{r.Version, int8s[i]})
	}
	for k, a := range first.Detection.At {
		at := func(r *Report) AtFactor {
			if k < len(r.Detection.At) {
				return r.Detection.At[k]
			}
			return AtFactor{}
		}
		d.At = append(d.At, AtFactor{Factor: a.Factor, Pair: Pair{
			Float32: pooled(of(func(r *Report) Metrics { return at(r).Float32 })), Int8: pooled(of(func(r *Report) Metrics { return at(r).Int8 })),
		}})
	}
	tallied := count{model: cellsOf(int8s), baselines: map[string]tally{}, figures: countMetrics}
	for name := range first.Baselines {
		all := of(func(r *Report) Metrics { return r.Baselines[name] })
		if m := pooled(all); m != nil {
			out.Baselines[name], tallied.baselines[name] = m, cellsOf(all)
		}
	}
	if c := tallied.model.sum(blocks(len(reports))); c[0]+c[3] > 0 {
		tallied.fill(out, first.Seed)
	}
	return out, nil
}

// blocks are the numbers below n.
func blocks(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// cellsOf has the counts of each, as a block of its own.
func cellsOf(all []Metrics) tally {
	var t tally
	for _, m := range all {
		t = append(t, []float64{m["tp"], m["fp"], m["tn"], m["fn"]})
	}
	return t
}

// pooled are the figures of all counts together; nil if one has none.
func pooled(all []Metrics) Metrics {
	if slices.ContainsFunc(all, func(m Metrics) bool { return m == nil }) {
		return nil
	}
	m := countMetrics(cellsOf(all).sum(blocks(len(all))))
	events, detected, delay := 0.0, 0.0, 0.0
	for _, one := range all {
		events += one["events"]
		if n := one["events"] - one["missed"]; n > 0 {
			detected += n
			delay += n * one["delay"]
		}
	}
	m["events"], m["missed"], m["delay"] = events, events-detected, delay/detected
	return m
}
