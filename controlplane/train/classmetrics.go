package train

import (
	"math"
	"slices"

	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
)

// A Classification is how a classifier does class by class.
type Classification struct {
	Labels  []string     `json:"labels"` // the classes, in the order of all lists
	Float32 *ClassFigure `json:"float32,omitempty"`
	Int8    *ClassFigure `json:"int8"`
}

// A ClassFigure has the figures of one predictor. A figure that nothing defines, such
// as the recall of a class without windows, is 0, and an area -1.
type ClassFigure struct {
	Confusion [][]int   `json:"confusion"` // windows by true class, then by the one told
	Support   []int     `json:"support"`   // windows of each class
	Precision []float64 `json:"precision"`
	Recall    []float64 `json:"recall"`
	F1        []float64 `json:"f1"`
	// ROCAUC is the area under the receiver operating characteristic of each class
	// against the others (Hanley and McNeil 1982).
	ROCAUC []float64 `json:"roc_auc"`
}

// probabilities returns one probability for each class, of an output for each, or of
// one for the second of two.
func probabilities(y []float32, classes int) []float32 {
	if len(y) == classes {
		return y
	}
	return []float32{1 - y[0], y[0]}
}

// classFigure compares predictions, windows × outputs, with the classes they are of.
func classFigure(predicted []float32, truth []int, classes int) *ClassFigure {
	c := &ClassFigure{Support: make([]int, classes)}
	for range classes {
		c.Confusion = append(c.Confusion, make([]int, classes))
	}
	n := len(predicted) / len(truth)
	for i, class := range truth {
		c.Support[class]++
		c.Confusion[class][predictor.Class(predicted[i*n:][:n])]++
	}
	scores := make([]float32, len(truth))
	for k := range classes {
		told := 0
		for _, row := range c.Confusion {
			told += row[k]
		}
		hits := float64(c.Confusion[k][k])
		c.Precision = append(c.Precision, ratio(hits, float64(told)))
		c.Recall = append(c.Recall, ratio(hits, float64(c.Support[k])))
		c.F1 = append(c.F1, ratio(2*hits, float64(told+c.Support[k])))
		for i := range truth {
			scores[i] = probabilities(predicted[i*n:][:n], classes)[k]
		}
		c.ROCAUC = append(c.ROCAUC, rocAUC(scores, func(i int) bool { return truth[i] == k }))
	}
	return c
}

// ratio is a/b, 0 if b is.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// metrics are the figures of all classes together.
func (c *ClassFigure) metrics() Metrics {
	var cells []float64
	for _, row := range c.Confusion {
		for _, n := range row {
			cells = append(cells, float64(n))
		}
	}
	m := confusionMetrics(cells)
	sum, ranked := 0.0, 0.0
	for _, area := range c.ROCAUC {
		if area >= 0 {
			sum, ranked = sum+area, ranked+1
		}
	}
	m["roc_auc"] = sum / ranked // NaN of one class alone
	return m
}

// confusionMetrics are the figures of a confusion matrix, row after row: means over
// the classes that there are windows of, with the accuracy and its complement, which
// the check of int8 bounds.
func confusionMetrics(cells []float64) Metrics {
	n := int(math.Sqrt(float64(len(cells))))
	m := Metrics{"precision": 0, "recall": 0, "f1": 0}
	hits, windows, classes := 0.0, 0.0, 0.0
	for k := range n {
		told, support, hit := 0.0, 0.0, cells[k*n+k]
		for i := range n {
			support += cells[k*n+i]
			told += cells[i*n+k]
		}
		hits, windows = hits+hit, windows+support
		if support == 0 {
			continue
		}
		classes++
		m["precision"] += ratio(hit, told)
		m["recall"] += hit / support
		m["f1"] += 2 * hit / (told + support)
	}
	for name := range m {
		m[name] /= classes
	}
	m["accuracy"] = hits / windows
	m["error"] = 1 - m["accuracy"]
	return m
}

// classTally counts predictions, windows × outputs, block by block.
func classTally(predicted []float32, truth []int, classes int, ends []int) tally {
	var t tally
	n, at := len(predicted)/len(truth), 0
	for _, end := range ends {
		cells := make([]float64, classes*classes)
		for ; at < end; at++ {
			cells[truth[at]*classes+predictor.Class(predicted[at*n:][:n])]++
		}
		t = append(t, cells)
	}
	return t
}

// rocAUC is the probability that a positive has a larger score than a negative, a tie
// counting half; -1 if there are none of one kind.
func rocAUC(scores []float32, positive func(i int) bool) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case scores[a] < scores[b]:
			return -1
		case scores[a] > scores[b]:
			return 1
		}
		return 0
	})
	var sum, positives float64 // of the ranks of positives
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && scores[order[j]] == scores[order[i]] {
			j++
		}
		rank := float64(i+j+1) / 2 // the mean of i+1 to j
		for ; i < j; i++ {
			if positive(order[i]) {
				sum += rank
				positives++
			}
		}
	}
	negatives := float64(len(scores)) - positives
	if positives == 0 || negatives == 0 {
		return -1
	}
	return (sum - positives*(positives+1)/2) / (positives * negatives)
}

// judged is a row with what a detector said about it, and what it is.
type judged struct {
	group, row     int // place
	score          float32
	alarm, anomaly bool
}

// detectionMetrics are those of point-wise detection, as SKAB defines them
// (Katser and Kozitsin 2020): far = FP/(FP+TN), mar = FN/(FN+TP). delay is how many
// rows after the first row of an anomaly the first alarm in it comes, in the mean over
// those that are detected; missed counts those that are not. What has nothing to be a
// part of is NaN, and null in JSON.
func detectionMetrics(rows []judged) Metrics {
	m := countMetrics(tallyRows(rows, []int{len(rows)})[0])
	positive := func(i int) bool { return rows[i].anomaly }
	scores := make([]float32, len(rows))
	for i, r := range rows {
		scores[i] = r.score
	}
	events, detected, delay := 0.0, 0.0, 0.0
	for i := 0; i < len(rows); {
		if !rows[i].anomaly {
			i++
			continue
		}
		first, found := i, false
		for ; i < len(rows) && rows[i].anomaly && rows[i].group == rows[first].group; i++ {
			if rows[i].alarm && !found {
				found = true
				detected++
				delay += float64(rows[i].row - rows[first].row)
			}
		}
		events++
	}
	m["delay"], m["events"], m["missed"] = delay/detected, events, events-detected
	if m["roc_auc"] = rocAUC(scores, positive); m["roc_auc"] < 0 {
		m["roc_auc"] = math.NaN()
	}
	return m
}

// tallyRows counts rows, block by block: those of an anomaly with an alarm, alarms
// without one, rows with neither, and anomalies without an alarm.
func tallyRows(rows []judged, ends []int) tally {
	var t tally
	at := 0
	for _, end := range ends {
		cells := make([]float64, 4)
		for ; at < end; at++ {
			switch r := rows[at]; {
			case r.alarm && r.anomaly:
				cells[0]++
			case r.alarm:
				cells[1]++
			case !r.anomaly:
				cells[2]++
			default:
				cells[3]++
			}
		}
		t = append(t, cells)
	}
	return t
}

// countMetrics are the figures of the cells of tallyRows.
func countMetrics(cells []float64) Metrics {
	tp, fp, tn, fn := cells[0], cells[1], cells[2], cells[3]
	return Metrics{
		"accuracy": (tp + tn) / (tp + tn + fp + fn), "precision": tp / (tp + fp), "recall": tp / (tp + fn), "f1": 2 * tp / (2*tp + fp + fn),
		"far": fp / (fp + tn), "mar": fn / (fn + tp), "tp": tp, "fp": fp, "tn": tn, "fn": fn,
	}
}
