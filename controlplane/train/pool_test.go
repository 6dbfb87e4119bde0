package train

import (
	"errors"
	"testing"
)

func TestPooledDetectorsAreTheirCounts(t *testing.T) {
	o := anomalyOptions
	var reports []Report
	for seed := uint64(1); seed <= 3; seed++ {
		r := run1(t, o, valves(1, seed)).Report
		r.Version = []string{"a:v1", "b:v1", "c:v1"}[seed-1]
		reports = append(reports, r)
	}
	p, err := Pool("valves", reports)
	if err != nil {
		t.Fatal(err)
	}
	var tp, fp, fn, tn, delay float64
	for _, r := range reports {
		m := r.Metrics.Int8
		tp, fp, fn, tn, delay = tp+m["tp"], fp+m["fp"], fn+m["fn"], tn+m["tn"], delay+m["delay"]/3
	}
	m := p.Metrics.Int8
	if p.Items != 450 || m["tp"] != tp || !closeTo(m["f1"], 2*tp/(2*tp+fp+fn)) || !closeTo(m["far"], fp/(fp+tn)) || m["events"] != 3 || !closeTo(m["delay"], delay) {
		t.Errorf("pooled %v of %d rows, want %v true and %v false alarms, delay %v", m, p.Items, tp, fp, delay)
	}
	if g := p.Detection.Groups; len(g) != 3 || g[2].Group != "c:v1" || g[2].Metrics["tp"] != reports[2].Metrics.Int8["tp"] {
		t.Errorf("groups %+v", g)
	}
	if at := p.Detection.At; len(at) != 5 || at[1].Int8["f1"] != m["f1"] || at[1].Float32 == nil {
		t.Errorf("at factors %+v", at)
	}
	if len(p.Baselines) != 3 || p.Metrics.Float32 == nil || p.Verdict == nil || p.Intervals != nil {
		t.Errorf("baselines %v, verdict %+v, intervals %v of three machines", p.Baselines, p.Verdict, p.Intervals)
	}
	for len(reports) < minBlocks {
		reports = append(reports, reports[len(reports)%3])
	}
	if p, err = Pool("valves", reports); err != nil || p.Intervals["f1"] == (Interval{}) {
		t.Errorf("%d machines: intervals %v, %v", len(reports), p.Intervals, err)
	}
}

func TestPoolRefusesOtherTasks(t *testing.T) {
	if _, err := Pool("m", []Report{{Version: "m:v1", Task: RUL}}); !errors.Is(err, ErrOptions) {
		t.Errorf("a report of rul: %v, want ErrOptions", err)
	}
	if _, err := Pool("m", nil); !errors.Is(err, ErrOptions) {
		t.Errorf("no reports: %v, want ErrOptions", err)
	}
}
