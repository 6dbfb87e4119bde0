package train

import (
	"fmt"
	"math"
	"testing"
)

func closeTo(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// Three classes, the last one without windows; class 1 is told for a window of class 0
// and for one of its own.
func TestClassFigures(t *testing.T) {
	predicted := []float32{
		0.7, 0.2, 0.1, // 0 as 0
		0.3, 0.4, 0.3, // 0 as 1
		0.6, 0.3, 0.1, // 0 as 0
		0.1, 0.8, 0.1, // 1 as 1
	}
	c := classFigure(predicted, []int{0, 0, 0, 1}, 3)
	if got := fmt.Sprint(c.Confusion, c.Support); got != "[[2 1 0] [0 1 0] [0 0 0]] [3 1 0]" {
		t.Errorf("confusion and support %s", got)
	}
	for i, want := range []float64{1, 0.5, 0, 2. / 3, 1, 0, 0.8, 2. / 3, 0, 1, 1, -1} {
		got := [][]float64{c.Precision, c.Recall, c.F1, c.ROCAUC}[i/3][i%3]
		if !closeTo(got, want) {
			t.Errorf("figure %d of class %d is %v, want %v", i/3, i%3, got, want)
		}
	}
	m := c.metrics()
	for name, want := range map[string]float64{
		"accuracy": 0.75, "error": 0.25, "precision": 0.75, "recall": 5. / 6, "f1": (0.8 + 2./3) / 2, "roc_auc": 1,
	} {
		if !closeTo(m[name], want) {
			t.Errorf("%s = %v, want %v", name, m[name], want)
		}
	}
}

// One output is the probability of the second class.
func TestClassFiguresOfOneOutput(t *testing.T) {
	c := classFigure([]float32{0.1, 0.6, 0.9, 0.5}, []int{0, 0, 1, 1}, 2)
	if got := fmt.Sprint(c.Confusion); got != "[[1 1] [0 2]]" || !closeTo(c.ROCAUC[0], 0.75) || !closeTo(c.ROCAUC[1], 0.75) {
		t.Errorf("confusion %s, areas %v", got, c.ROCAUC)
	}
}

func TestAreaCountsTiesHalf(t *testing.T) {
	positive := func(i int) bool { return i >= 2 }
	for _, c := range []struct {
		scores []float32
		want   float64
	}{
		{[]float32{1, 2, 3, 4}, 1}, {[]float32{4, 3, 2, 1}, 0}, {[]float32{1, 1, 1, 1}, 0.5}, {[]float32{1, 2, 2, 3}, 0.875}, {[]float32{1, 2}, -1},
	} {
		if got := rocAUC(c.scores, positive); !closeTo(got, c.want) {
			t.Errorf("rocAUC(%v) = %v, want %v", c.scores, got, c.want)
		}
	}
}

func TestDetectionFigures(t *testing.T) {
	// Two groups: an anomaly found after 2 rows, and one that goes on into nothing;
	// then an anomaly of the other group, found at once, and one that is missed.
	var rows []judged
	add := func(group int, anomaly, alarm string) {
		for i := range anomaly {
			rows = append(rows, judged{group: group, row: len(rows), anomaly: anomaly[i] == '1', alarm: alarm[i] == '1', score: float32(alarm[i])})
		}
	}
	add(0, "0001110011", "0100010011")
	add(1, "1100010", "1000000")
	m := detectionMetrics(rows)
	for name, want := range map[string]float64{
		"tp": 4, "fp": 1, "fn": 4, "tn": 8, "f1": 8. / 13, "far": 1. / 9, "mar": 0.5, "accuracy": 12. / 17, "precision": 0.8, "recall": 0.5,
		"events": 4, "missed": 1, "delay": 2. / 3,
	} {
		if !closeTo(m[name], want) {
			t.Errorf("%s = %v, want %v", name, m[name], want)
		}
	}
	if m = detectionMetrics(rows[:3]); !math.IsNaN(m["mar"]) || !math.IsNaN(m["delay"]) || !math.IsNaN(m["roc_auc"]) || !closeTo(m["far"], 1./3) {
		t.Errorf("without an anomaly: %v", m)
	}
}
