package train

// A score is what one predictor's errors sum up to on all windows, in parts.
type score struct {
	blocks   []sums // of windows, for the bootstrap
	byTarget []sums
	byStep   []sums
}

// score compares predictions with the truth, both windows × outputs in raw units.
func (e *evaluation) score(predicted, truth []float32) *score {
	n, targets := e.w.Outputs(), len(e.std)
	s := &score{blocks: make([]sums, len(e.ends)), byTarget: make([]sums, targets), byStep: make([]sums, n/targets)}
	at := 0
	for k, end := range e.ends {
		b := &s.blocks[k]
		b.windows = float64(end - at)
		for ; at < end; at++ {
			for o := range n {
				v := e.of(o, float64(predicted[at*n+o]), float64(truth[at*n+o]))
				b.add(v)
				s.byTarget[o%targets].add(v)
				s.byStep[o/targets].add(v)
			}
		}
	}
	return s
}

// total are the sums of all windows.
func (s *score) total() (t sums) {
	for _, b := range s.blocks {
		t.add(b)
	}
	return t
}

// naive is the baseline that skill is relative to.
func (e *evaluation) naive() string {
	if e.task == RUL {
		return "mean"
	}
	return "repeat_last"
}

// A Part is the figures of one target of several.
type Part struct {
	Target    string             `json:"target"`
	Metrics   Pair               `json:"metrics"`
	Baselines map[string]Metrics `json:"baselines"`
}

// Steps are how the error grows with the step ahead.
type Steps struct {
	Metric string              `json:"metric"`
	Values map[string][]Figure `json:"values"` // int8, float32 and the baselines: a figure for each step
}

// scores are those of all predictors; float32 may be nil.
type scores struct {
	int8, float32 *score
	baselines     map[string]*score
}

// fill puts the figures into the report, with intervals where the windows are
// enough for them, and the verdict.
func (e *evaluation) fill(r *Report, all scores) {
	pair := func(of func(*score) sums, baselines map[string]Metrics) Pair {
		figures := func(s *score) Metrics {
			if s == nil {
				return nil
			}
			return e.scorer.metrics(of(s))
		}
		for name, s := range all.baselines {
			baselines[name] = figures(s)
		}
		p := Pair{Float32: figures(all.float32), Int8: figures(all.int8)}
		naive := baselines[e.naive()]
		for _, m := range append([]Metrics{p.Float32, p.Int8}, values(baselines)...) {
			if m != nil && naive != nil {
				m["skill"] = e.skill(m, naive)
			}
		}
		return p
	}
	r.Baselines = map[string]Metrics{}
	r.Metrics = pair((*score).total, r.Baselines)
	if e.task == Forecast {
		e.fillParts(r, all, pair)
	}
	metric := verdictMetrics[e.task]
	var differences map[string][]float64
	if len(e.ends) >= minBlocks {
		r.Intervals, differences = e.resample(all, metric)
	}
	r.Verdict = judge(r.Evaluated, metric, compare(r, metric, differences))
}

// fillParts adds the figures of each target and of each step.
func (e *evaluation) fillParts(r *Report, all scores, pair func(func(*score) sums, map[string]Metrics) Pair) {
	if len(r.Targets) > 1 {
		for t, name := range r.Targets {
			p := Part{Target: name, Baselines: map[string]Metrics{}}
			p.Metrics = pair(func(s *score) sums { return s.byTarget[t] }, p.Baselines)
			r.ByTarget = append(r.ByTarget, p)
		}
	}
	if r.Horizon < 2 {
		return
	}
	r.BySteps = &Steps{Metric: e.mse(), Values: map[string][]Figure{}}
	add := func(name string, s *score) {
		for _, t := range s.byStep {
			r.BySteps.Values[name] = append(r.BySteps.Values[name], Figure(e.scorer.metrics(t)[e.mse()]))
		}
	}
	add("int8", all.int8)
	if all.float32 != nil {
		add("float32", all.float32)
	}
	for name, s := range all.baselines {
		add(name, s)
	}
}

// resample returns the intervals of the int8 model's figures, and by which part
// its metric was below each baseline's in each resample.
func (e *evaluation) resample(all scores, metric string) (map[string]Interval, map[string][]float64) {
	b := newBootstrap(len(e.ends), e.setup.Seed)
	figures := b.figures(e.scorer, all.int8.blocks)
	differences := map[string][]float64{}
	for name, s := range all.baselines {
		others := b.figures(e.scorer, s.blocks)
		for i, m := range figures {
			differences[name] = append(differences[name], better(m[metric], others[i][metric]))
			if name == e.naive() {
				m["skill"] = e.skill(m, others[i])
			}
		}
	}
	return intervals(figures), differences
}

func values(m map[string]Metrics) (all []Metrics) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}
