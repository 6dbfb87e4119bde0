package train

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// More tasks.
const (
	// Classify tells which label a series has, or a window by its last row.
	Classify = artifact.TaskClassify
	// Anomaly tells rows that are not as a network, trained on normal ones, expects.
	Anomaly = artifact.TaskAnomaly
)

// Tasks are those that there are.
var Tasks = []string{Forecast, RUL, Classify, Anomaly}

// Balanced as TaskSettings.ClassWeight weighs classes so that each counts as much.
const Balanced = "balanced"

// TaskSettings are those of the tasks Classify and Anomaly. Zero values mean the
// defaults.
type TaskSettings struct {
	Label       string   `json:"label,omitempty" doc:"Of classify and anomaly: the column that says what a row is, text or a number"`
	ClassWeight []string `json:"class_weight,omitempty" doc:"Of classify: balanced, or CLASS=WEIGHT for classes that do not count once in the loss"`

	Normal            string  `json:"normal,omitempty" doc:"Of anomaly: the label of normal rows; none: 0, false, no, ok or normal"`
	Residual          string  `json:"residual,omitempty" doc:"Of anomaly: next-step, how far a row is from what those before let expect, or reconstruction, how far it is from what a narrow network makes of it"`
	Smooth            int     `json:"smooth,omitempty" doc:"Of anomaly: rows over which residuals are averaged"`
	ThresholdQuantile float64 `json:"threshold_quantile,omitempty" doc:"Of anomaly: quantile of the scores of normal rows before the test part that the threshold is a multiple of"`
	ThresholdFactor   float64 `json:"threshold_factor,omitempty" doc:"Of anomaly: that multiple"`
}

// Defaults of the task Anomaly. A shift by one deviation stands out of the mean of
// 10 rows, and the largest scores of a few hundred rows that were trained on are
// about half of those of rows that were not.
const (
	defaultDetectorWindow = 5
	defaultSmooth         = 10
	defaultQuantile       = 0.99
	defaultFactor         = 2
)

// checkTask fills in what Classify and Anomaly leave open and refuses what they have
// no use for.
func (o *Options) checkTask() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
	}
	classify, anomaly := o.Task == Classify, o.Task == Anomaly
	for _, c := range []struct {
		name string
		set  bool
		ok   bool
	}{
		{"label", o.Label != "", classify || anomaly},
		{"class weight", len(o.ClassWeight) > 0, classify},
		{"crop", o.Crop != 0, classify},
		{"normal label", o.Normal != "", anomaly && o.Label != ""},
		{"residual", o.Residual != "", anomaly},
		{"smoothing", o.Smooth != 0, anomaly},
		{"threshold", o.ThresholdQuantile != 0 || o.ThresholdFactor != 0, anomaly},
	} {
		if c.set && !c.ok {
			if c.name == "normal label" && anomaly {
				return bad("a normal label without a label column; name it")
			}
			return bad("a %s has no use with the task %s", c.name, o.Task)
		}
	}
	if !classify && !anomaly {
		return nil
	}
	switch {
	case o.Horizon != 0:
		return bad("a horizon is for the task %s", Forecast)
	case o.Pad:
		return bad("padding is for the task %s; a series is classified as long as it is", RUL)
	case o.Cap != 0:
		return bad("a cap is for the task %s", RUL)
	case o.Season != 0:
		return bad("a season is for the task %s", Forecast)
	case o.State == Stream:
		return bad("the task %s is of windows; a state that is carried on has %s and %s", o.Task, Forecast, RUL)
	}
	if classify {
		return o.checkClassify(bad)
	}
	return o.checkAnomaly(bad)
}

type complaint = func(format string, args ...any) error

func (o *Options) checkClassify(bad complaint) error {
	setDefault(&o.Loss, bptt.CategoricalCrossentropy)
	switch {
	case o.Label == "":
		return bad("the task %s needs a label column", Classify)
	case len(o.Targets) > 0:
		return bad("the task %s has no target column; what it tells is the label", Classify)
	case o.Anchor != "none":
		return bad("an anchor is for numbers; a class has none")
	case o.Skip:
		return bad("a skip path is for the task %s", Forecast)
	case slices.Contains(Losses, o.Loss):
		return bad("the loss %s is of numbers; of classes there are %s", o.Loss, list(ClassLosses, "and"))
	}
	_, err := o.classWeights(nil, nil)
	return err
}

func (o *Options) checkAnomaly(bad complaint) error {
	setDefault(&o.Window, defaultDetectorWindow)
	setDefault(&o.Smooth, defaultSmooth)
	setDefault(&o.ThresholdQuantile, defaultQuantile)
	setDefault(&o.ThresholdFactor, defaultFactor)
	setDefault(&o.Residual, artifact.NextStep)
	// What drifts goes on as it was, out of the range that a network has seen: the path
	// past it follows there. An anchor would take the level out of the window, and with
	// it every shift.
	o.Skip = o.Skip || o.Residual == artifact.NextStep && o.Anchor == "none"
	switch {
	case !slices.Contains(artifact.Residuals, o.Residual):
		return unknown("residual", o.Residual, artifact.Residuals)
	case o.Smooth < 1 || o.Smooth > artifact.MaxSteps:
		return bad("residuals of %d rows; smooth over 1 or more", o.Smooth)
	case !(o.ThresholdQuantile > 0 && o.ThresholdQuantile <= 1):
		return bad("threshold quantile %v, want above 0, at most 1", o.ThresholdQuantile)
	case !(o.ThresholdFactor > 0) || math.IsInf(o.ThresholdFactor, 0):
		return bad("threshold factor %v, want above 0", o.ThresholdFactor)
	case o.Residual == artifact.Reconstruction && (o.Anchor != "none" || o.Skip):
		return bad("a row that is given to a network cannot be its anchor, or skip past it: it would be reconstructed by itself")
	}
	return nil
}

// rows is how many rows ahead the network of a task looks: what it is compared with
// stands in the next row, or in the window's last.
func (o Options) rows() int {
	if o.Task == Anomaly && o.Residual == artifact.NextStep {
		return 1
	}
	return o.Horizon
}

// activation is that of the last layer.
func (o Options) activation() kernel.Activation {
	switch o.Loss {
	case bptt.CategoricalCrossentropy:
		return kernel.Softmax
	case bptt.BinaryCrossentropy:
		return kernel.Sigmoid
	}
	return kernel.Linear
}

// classWeights returns the weight of each class, of which count are in the training
// windows; nil without weights. Without classes it checks the form alone.
func (o Options) classWeights(classes []string, count []int) ([]float32, error) {
	if len(o.ClassWeight) == 0 {
		return nil, nil
	}
	weights := make([]float32, len(classes))
	for i := range weights {
		weights[i] = 1
	}
	if len(o.ClassWeight) == 1 && o.ClassWeight[0] == Balanced {
		total := 0
		for _, n := range count {
			total += n
		}
		for i, n := range count {
			weights[i] = float32(total) / float32(len(count)*max(n, 1)) // as scikit-learn's
		}
		return weights, nil
	}
	for _, s := range o.ClassWeight {
		at := strings.LastIndexByte(s, '=')
		if at < 1 {
			return nil, fmt.Errorf("%w: class weight %.60q; write %s, or CLASS=WEIGHT such as walk=2", ErrOptions, s, Balanced)
		}
		w, err := strconv.ParseFloat(strings.TrimSpace(s[at+1:]), 32)
		if err != nil || !notNegative(w) {
			return nil, fmt.Errorf("%w: class weight %.60q; a weight is a number of 0 or more", ErrOptions, s)
		}
		if classes == nil {
			continue
		}
		i := slices.Index(classes, s[:at])
		if i < 0 {
			return nil, fmt.Errorf("%w: class weight %.60q; there is no such class: %s", ErrOptions, s, strings.Join(classes[:min(len(classes), 12)], ", "))
		}
		weights[i] = float32(w)
	}
	return weights, nil
}

// normalNames are labels of normal rows where nobody says which it is.
var normalNames = []string{"0", "false", "no", "ok", "normal"}

// normalLabel returns the label of normal rows: the one asked for, or the only one
// that is called so.
func normalLabel(asked string, l *dataset.Labels) (string, error) {
	if asked != "" {
		if !slices.Contains(l.Classes, asked) {
			return "", fmt.Errorf("%w: no row has the normal label %.60q; column %q has %s", ErrOptions, asked, l.Column, strings.Join(l.Classes[:min(len(l.Classes), 12)], ", "))
		}
		return asked, nil
	}
	found := ""
	for _, c := range l.Classes {
		if slices.Contains(normalNames, strings.ToLower(c)) {
			if found != "" {
				return "", fmt.Errorf("%w: both %q and %q may be the label of normal rows; say which", ErrOptions, found, c)
			}
			found = c
		}
	}
	if found == "" {
		return "", fmt.Errorf("%w: which label of column %q do normal rows have? say so; there are %s", ErrOptions, l.Column, strings.Join(l.Classes[:min(len(l.Classes), 12)], ", "))
	}
	return found, nil
}
