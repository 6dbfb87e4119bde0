package train

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// ErrOptions: options that cannot be trained with. The text says which and what to do.
var ErrOptions = errors.New("training options")

// Tasks.
const (
	// Forecast predicts the next Horizon rows of the targets from a window, all at once.
	Forecast = artifact.TaskForecast
	// RUL predicts the remaining useful life: how many rows of its group come
	// after the window's last, at most Cap.
	RUL = artifact.TaskRUL
)

// NoValidation as Options.Validation trains on every group.
const NoValidation = -1

// Options are what `sandpiper train` takes. Zero values mean the defaults.
type Options struct {
	Model string // name of the model, for the report
	Task  string // one of Tasks

	Time     string   // column; empty: the order of the rows
	Group    string   // column; empty: one group
	Targets  []string // Forecast: at least one; RUL: none (rows to the end of the group) or one column that holds it; Anomaly: features that are watched, none for all
	Features []string // empty: all numeric columns but time, group, label and weight, with Forecast including the targets
	Weight   string   // column: how much a window counts in the losses, by its last row; empty: all the same

	Data dataset.Options // how the files are read and cleaned
	// Outliers takes training values that are further from the median than so many
	// robust standard deviations for missing ones; 0: none. The rows that the model
	// is judged by stay as they are.
	Outliers     float64
	DropConstant bool // leave out features that are constant in the training rows

	// Window is in rows: 30 for RUL, 96 for Forecast; of Anomaly what the network sees
	// before it judges the next row, 5. Of Classify, where every group has one label,
	// a group is one window of its last rows, at most Window of them or, if that is 0,
	// all; otherwise, or with a Stride, windows have this many rows and the label of
	// their last one.
	Window  int
	Horizon int // rows ahead, Forecast only; 24
	Stride  int // rows from one training window to the next; 1, of Classify see Window
	// State is Window, every prediction starting from the zero state, or Stream:
	// the state is carried from row to row in training and evaluation, and Window
	// rows are how far gradients go back and what warms a state up.
	State  string
	Pad    bool   // RUL: keep groups shorter than the window, repeating their first row; learn the beginnings of all so
	Anchor string // "last": Forecast and Anomaly as the change from the window's last row; "" or "none"
	// Skip adds, with Forecast, and Anomaly's next step without an anchor always, a linear map from each target's own column of the
	// window to its outputs, fitted in closed form: the network learns what it
	// leaves.
	Skip   bool
	Cap    float64 // RUL: largest target; 0 sets no limit
	Season int     // Forecast: rows of the repeat_season baseline; 0: one day where the time column tells

	// Split divides the data that no file of its own holds out: 8640,2880,2880 or
	// 400,100,rest (rows), or 0.7,0.1,0.2 (fractions). Empty: the task's own.
	Split   string
	SplitBy string // dataset.ByTime: the rows of each group; dataset.ByGroup: whole groups, chosen by Seed
	// Gap is how many rows before validation and before test a split by time leaves to
	// nobody; nil: none with a Split of Forecast, else as many as keep windows apart.
	Gap *int
	// Validation is the fraction of whole groups that is held out where there is no
	// Split; 0 means the default, of RUL 0.15, and NoValidation none.
	Validation float64

	Units        []int   // hidden units of each recurrent layer; 128
	Epochs       int     // 20
	Batch        int     // windows; 32
	LearningRate float64 // 0.001, of the optimizer sgd 0.01
	Patience     int     // epochs without a lower loss, of those of Monitor, before stopping; 0: never
	Seed         uint64  // of the weights, the shuffling and the groups held out
	Settings
	Preparation
	TaskSettings

	From     *Base // the version to go on from; nil: new weights
	HeadOnly bool  // with From: the last layer alone learns
	Unfed    bool  // with From: without its pipeline

	// Int8Bound is how much worse than float32's the int8 model's figure may be, as
	// a fraction of it; nil: the bound of the task.
	Int8Bound *float64

	Predictions bool // put every evaluated window into the report
	Use         Use  // for the model's card
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Check returns the error that Run would return about o before it reads data.
func (o Options) Check() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults fills in the zero fields and checks what needs no data.
func (o Options) withDefaults() (Options, error) {
	bad := func(format string, args ...any) (Options, error) {
		return o, fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
	}
	if o.Task != Classify {
		setDefault(&o.Stride, 1)
	}
	setDefault(&o.Epochs, 20)
	setDefault(&o.Batch, 32)
	if o.From != nil {
		o.From.setDefaults(&o)
		if len(o.Scale) > 0 {
			return bad("a scale, and a version to go on from, %s, whose scaling stays; leave it out, or begin anew", o.From.Ref)
		}
		if err := o.From.keeps(o.Preparation); err != nil {
			return o, err
		}
		if slices.Contains(Tasks, o.Task) {
			if err := o.From.differs("task", o.From.Model.Task, o.Task); err != nil {
				return o, err
			}
		}
	} else if o.HeadOnly {
		return bad("the last layer alone learns only on top of a version to go on from")
	} else if o.Unfed {
		return bad("there is a pipeline to leave out only where a version is gone on from")
	}
	setDefault(&o.Anchor, "none")
	setDefault(&o.Layer, Layers[0])
	setDefault(&o.State, States[0])
	if len(o.Units) == 0 {
		o.Units = []int{128}
	}
	switch o.Task {
	case Forecast:
		setDefault(&o.Window, 96)
		setDefault(&o.Horizon, 24)
		switch {
		case len(o.Targets) == 0:
			return bad("a forecast needs a target column")
		case o.Pad:
			return bad("padding is for the task %s; a forecast needs real rows", RUL)
		case o.Cap != 0:
			return bad("a cap is for the task %s", RUL)
		case o.Horizon > kernel.MaxUnits/len(o.Targets):
			return bad("%d steps of %d targets are more than %d outputs; predict fewer", o.Horizon, len(o.Targets), kernel.MaxUnits)
		}
	case RUL:
		setDefault(&o.Window, 30)
		switch {
		case len(o.Targets) > 1:
			return bad("the task %s has one target, not %d", RUL, len(o.Targets))
		case o.Horizon != 0:
			return bad("a horizon is for the task %s", Forecast)
		case o.Anchor != "none":
			return bad("an anchor is for the task %s: it needs the target among the features", Forecast)
		case o.Skip:
			return bad("a skip path is for the task %s: it needs the target among the features", Forecast)
		case o.Season != 0:
			return bad("a season is for the task %s", Forecast)
		}
	case Classify, Anomaly:
	case "":
		return bad("no task; give %s", list(Tasks, "or"))
	default:
		return o, unknown("task", o.Task, Tasks)
	}
	if err := o.checkTask(); err != nil {
		return o, err
	}
	o.Horizon = o.rows()
	if err := o.check(); err != nil {
		return o, err
	}
	if err := o.checkNames(o.Task); err != nil {
		return o, err
	}
	_, err := o.config(true).Complete(o.graph(1, 1)) // before data is read
	return o, err
}

func (o Options) check() error {
	if err := o.Use.check(); err != nil {
		return err
	}
	if err := o.checkState(); err != nil {
		return err
	}
	if err := o.Preparation.check(); err != nil {
		return err
	}
	if err := o.checkRegimes(); err != nil {
		return err
	}
	for _, c := range []struct {
		name  string
		value any
		ok    bool
		want  string
	}{
		{"window", o.Window, o.Window >= 1 || o.Window == 0 && o.Task == Classify, "at least 1"},
		{"horizon", o.Horizon, o.Horizon >= 0, "at least 1"},
		{"stride", o.Stride, o.Stride >= 1 || o.Stride == 0 && o.Task == Classify, "at least 1"},
		{"epochs", o.Epochs, o.Epochs >= 1, "at least 1"},
		{"batch", o.Batch, o.Batch >= 1, "at least 1"},
		{"season", o.Season, o.Season >= 0, "at least 1"},
		{"patience", o.Patience, o.Patience >= 0, "0 or more"},
		{"learning rate", o.LearningRate, o.LearningRate >= 0 && o.LearningRate <= 1, "above 0, at most 1"},
		{"outliers", o.Outliers, o.Outliers == 0 || o.Outliers >= 1 && notNegative(o.Outliers), "1 or more robust standard deviations, such as 6"},
		{"cap", o.Cap, o.Cap >= 0 && o.Cap < 1<<24, "0 or more, below 2^24"},
		{"int8 bound", value(o.Int8Bound), o.Int8Bound == nil || notNegative(*o.Int8Bound), "0 or more, such as 0.01 for 1 %"},
		{"validation", o.Validation, o.Validation == NoValidation || (o.Validation >= 0 && o.Validation < 1), "above 0 and below 1, or -1 for none"},
		{"anchor", o.Anchor, o.Anchor == "none" || o.Anchor == "last", "last or none"},
		{"units", o.Units, len(o.Units) < kernel.MaxLayers && !slices.ContainsFunc(o.Units, func(u int) bool { return u < 1 || u > kernel.MaxUnits }),
			fmt.Sprintf("1 to %d in each of at most %d layers", kernel.MaxUnits, kernel.MaxLayers-1)},
	} {
		if !c.ok {
			return fmt.Errorf("%w: %s %v, want %s", ErrOptions, c.name, c.value, c.want)
		}
	}
	return o.checkSplit()
}

// value is what p points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// notNegative reports whether v is 0 or positive, and finite.
func notNegative(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }

func (o Options) columns() dataset.Columns {
	c := dataset.Columns{
		Time: o.Time, Group: o.Group, Targets: o.Targets, Features: o.Features, Weight: o.Weight, Label: o.Label, TargetsAsFeatures: o.Task == Forecast,
		Categories: o.Categories,
	}
	if o.Task == Anomaly { // its targets are features: see dataset.Table.Watch
		c.Targets = nil
	}
	return c
}

// graph stacks the recurrent layers and the output layer.
func (o Options) graph(features, outputs int) kernel.Graph {
	g := kernel.Graph{Features: features}
	kind := kernel.LSTM
	if o.Layer == kernel.GRU.String() {
		kind = kernel.GRU
	}
	for i, u := range o.Units {
		g.Layers = append(g.Layers, kernel.Layer{Kind: kind, Units: u, Sequences: i+1 < len(o.Units)})
	}
	g.Layers = append(g.Layers, kernel.Layer{Kind: kernel.Dense, Units: outputs, Activation: o.activation()})
	return g
}
