package train

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// EvalOptions say what to evaluate on. Features, window, task and scaler are
// the model's own.
type EvalOptions struct {
	Model, Version string // for the report
	// Setup is that of the training report; nil for a model that came without
	// one, which then has the baselines that need no fitting.
	Setup *Setup

	// These override Setup where they are not zero.
	Time, Group string
	Data        dataset.Options // field by field
	Cap         float64
	Season      int
	// Split evaluates the test part of the data, or the validation part if there is
	// none: by SplitBy, and otherwise by time. Without it: that part of the split that
	// was trained with if data is the very training file, and every row if it is
	// another.
	Split, SplitBy string

	Predictions bool
}

// cap is the largest target, +Inf without a limit.
func (s *Setup) cap() float64 {
	if s.Cap > 0 {
		return s.Cap
	}
	return math.Inf(1)
}

// Evaluate predicts the windows of data with the int8 model and, unless
// w is nil, with the float32 weights it was made from, and compares them with
// what came. truth, for rul, gives what was left after the last row of each
// group; each group is then one window, its last. Without truth every group is
// taken as having run to its end, and every window is evaluated; of the very
// training file only the groups that were held out.
func Evaluate(ctx context.Context, m *artifact.Model, w *kernel.Weights, data dataset.Files, truth io.Reader, o EvalOptions) (*Report, error) {
	start := time.Now()
	setup := Setup{}
	if o.Setup != nil {
		setup = *o.Setup
	}
	setDefaultIf(&setup.Time, o.Time)
	setDefaultIf(&setup.Group, o.Group)
	setup.Read = setup.Read.With(o.Data)
	setDefaultIf(&setup.Cap, o.Cap)
	setDefaultIf(&setup.Season, o.Season)
	e := evaluated{
		model: m, weights: w, setup: &setup, name: o.Model, version: o.Version, predictions: o.Predictions,
	}
	if !slices.Contains(Tasks, m.Task) || m.Task == Classify && len(m.Schema.Labels) == 0 || m.Task == Anomaly && m.Schema.Detector == nil {
		return nil, fmt.Errorf("%w: models of the task %q cannot be evaluated", ErrOptions, m.Task)
	}
	if truth != nil && m.Task != RUL {
		return nil, fmt.Errorf("%w: a truth file is for the task %s; a forecast is compared with the rows that follow", ErrOptions, RUL)
	}
	if o.Split != "" && truth != nil {
		return nil, fmt.Errorf("%w: both a split and a truth file; a truth file is of the last window of every group", ErrOptions)
	}
	if o.SplitBy != "" && o.Split == "" {
		return nil, fmt.Errorf("%w: a way to split without a split; give one such as 0.7,0.1,0.2", ErrOptions)
	}
	var err error
	switch m.Task {
	case RUL:
		err = e.readRUL(data, truth, o)
	case Classify:
		err = e.readClassify(data, o)
	case Anomaly:
		err = e.readAnomaly(data, o)
	default:
		err = e.readForecast(data, o)
	}
	if err != nil {
		return nil, err
	}
	rep, err := e.judge(ctx)
	if err != nil {
		return nil, err
	}
	rep.Seconds = time.Since(start).Seconds()
	rep.Setup = nil // of the training, not of this evaluation
	return rep, nil
}

func setDefaultIf[T comparable](p *T, v T) {
	var zero T
	if v != zero {
		*p = v
	}
}

// evaluated is a model with the windows it is evaluated on.
type evaluated struct {
	model         *artifact.Model
	weights       *kernel.Weights // may be nil
	plan          *prepare.Plan
	setup         *Setup
	table         *dataset.Table
	windows       *dataset.Windows
	part          string
	name, version string
	predictions   bool
	warnings      []string
}

func (e *evaluated) columns() dataset.Columns {
	c := dataset.Columns{Time: e.setup.Time, Group: e.setup.Group}
	for _, f := range e.model.Schema.Features {
		c.Features = append(c.Features, f.Name)
	}
	c.Categories = preparation(e.model).Categories
	return c
}

func (e *evaluated) targets() (names []string) {
	for _, t := range e.model.Schema.Targets {
		names = append(names, t.Name)
	}
	return names
}

// readRUL reads the data with what is left after each group's last row.
func (e *evaluated) readRUL(data dataset.Files, truth io.Reader, o EvalOptions) error {
	left, err := e.readTruth(truth)
	if err != nil {
		return err
	}
	c := e.columns()
	fromColumn := e.setup.Column && left == nil
	if fromColumn {
		c.Targets = e.targets()
	}
	if e.table, err = e.readTable(data, c); err != nil {
		return err
	}
	e.warnings = e.table.Warnings()
	if !fromColumn {
		if err := e.table.SetRemaining(left); err != nil {
			return err
		}
	}
	shape := dataset.Shape{Window: e.model.Schema.Window, Pad: e.setup.Pad}
	if left != nil {
		e.part = "truth"
		e.windows, err = e.table.LastWindows(shape)
	} else {
		e.windows, err = e.partWindows(o, shape)
	}
	if err != nil {
		return err
	}
	e.countShort()
	return nil
}

// readTruth returns nil without a truth file.
func (e *evaluated) readTruth(truth io.Reader) (map[string]float32, error) {
	if truth == nil {
		return nil, nil
	}
	left, err := dataset.ReadTruth(truth, e.setup.Group)
	if err != nil || e.setup.Group != "" {
		return left, err
	}
	if len(left) > 1 {
		return nil, fmt.Errorf("%w: the truth file has %d groups; name the group column of the data", ErrOptions, len(left))
	}
	for _, v := range left { // one machine, whatever the truth file calls it
		return map[string]float32{"": v}, nil
	}
	return nil, nil // not reached: a truth file has a row
}

func (e *evaluated) countShort() {
	rows := e.windows.Shape.Window + e.windows.Shape.Horizon
	if e.windows.Short > 0 {
		e.warnings = append(e.warnings, fmt.Sprintf("%d groups are too short for a window of %d rows and were left out", e.windows.Short, rows))
	}
	if e.windows.Unknown > 0 {
		e.warnings = append(e.warnings, fmt.Sprintf(unknownTarget, e.windows.Unknown, "evaluation"))
	}
	if e.windows.Padded > 0 {
		e.warnings = append(e.warnings, fmt.Sprintf("%d groups are shorter than the window of %d rows and repeat their first row", e.windows.Padded, rows))
	}
}

func (e *evaluated) readForecast(data dataset.Files, o EvalOptions) (err error) {
	c := e.columns()
	c.Targets = e.targets()
	if e.table, err = e.readTable(data, c); err != nil {
		return err
	}
	e.warnings = e.table.Warnings()
	if e.setup.Season == 0 {
		e.setup.Season = e.table.RowsPerDay()
	}
	if e.windows, err = e.partWindows(o, dataset.Shape{Window: e.model.Schema.Window, Horizon: e.model.Schema.Horizon}); err != nil {
		return err
	}
	e.countShort()
	return nil
}

// shape is that of the windows that are evaluated.
func (e *evaluated) shape() dataset.Shape {
	s := dataset.Shape{Window: e.model.Schema.Window, Pad: e.setup.Pad}
	if e.model.Task == Forecast {
		s.Horizon = e.model.Schema.Horizon
	}
	return s
}

// judge predicts every window and compares.
func (e *evaluated) judge(ctx context.Context) (*Report, error) {
	p, err := predictor.Open(e.model)
	if err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	var f *predictor.Predictor // of the float32 network
	if e.weights != nil {
		if f, err = predictor.OpenFloat32Of(e.model, e.weights); err != nil {
			return nil, err
		}
	}
	e.plan = p.Plan()
	rep := &Report{
		Model: e.name, Version: e.version, Task: e.model.Task, Evaluated: e.part, Items: e.windows.Len(), Seed: e.setup.Seed,
		Warnings: e.warnings, Features: p.Features(), Targets: e.targets(), Window: e.model.Schema.Window, State: e.model.Schema.State,
		Data: hex.EncodeToString(e.table.Digest[:]), Cleaning: &e.table.Cleaning, Setup: e.setup,
	}
	if rep.Warnings == nil {
		rep.Warnings = []string{}
	}
	switch e.model.Task {
	case Classify:
		err = e.judgeClasses(ctx, rep, p, f)
	case Anomaly:
		err = e.judgeAnomalies(ctx, rep, p, f)
	default:
		err = e.judgeNumbers(ctx, rep, p, f)
	}
	if err != nil {
		return nil, err
	}
	return rep, nil
}

// judgeNumbers compares the predictions of p and, unless it is nil, f with what came.
func (e *evaluated) judgeNumbers(ctx context.Context, rep *Report, p, f *predictor.Predictor) error {
	std := e.setup.Std
	if len(std) != len(e.table.Targets) { // a model without its training report
		std = outputStd(&e.plan.Scaler, len(e.table.Targets))
	}
	base := evaluation{
		scorer: scorer{task: e.model.Task, std: std, cap: e.setup.cap(), windows: e.windows.Len()},
		w:      e.windows, plan: e.plan, setup: e.setup,
	}
	base.ends = base.blocks()
	if w := predictor.Skip(e.model); w != nil {
		var err error
		if base.skip, err = kernel.NewSkip(w, e.plan.Inputs()); err != nil {
			return err
		}
	}
	truth := base.truth()
	if e.model.Task == Forecast {
		rep.Horizon = e.model.Schema.Horizon
	}
	int8s, err := e.predict(ctx, p)
	if err != nil {
		return err
	}
	all := scores{int8: base.score(int8s, truth)}
	var floats []float32
	if f != nil {
		if floats, err = e.predict(ctx, f); err != nil {
			return err
		}
		all.float32 = base.score(floats, truth)
	}
	if all.baselines, err = base.baselines(ctx, truth); err != nil {
		return err
	}
	base.fill(rep, all)
	if e.predictions {
		rep.Predictions = predictions(e.windows, e.model.Task == RUL, truth, floats, int8s)
	}
	return nil
}

// outputStd takes the scale of each target from the model's outputs.
func outputStd(sc *kernel.Scaler, targets int) []float64 {
	std := make([]float64, targets)
	for t := range std {
		std[t] = float64(sc.OutStd[t])
	}
	return std
}

func predictions(w *dataset.Windows, scalar bool, truth, floats, int8s []float32) []Prediction {
	n := w.Outputs()
	out := make([]Prediction, w.Len())
	for i := range out {
		out[i] = Prediction{Group: w.Group(i), Time: w.Time(i), Truth: truth[i*n:][:n:n], Int8: int8s[i*n:][:n:n], Scalar: scalar}
		if floats != nil {
			out[i].Float32 = floats[i*n:][:n:n]
		}
	}
	return out
}

// predictAll predicts every window from raw rows, windows × outputs, on all cores.
func predictAll(ctx context.Context, p *predictor.Predictor, w *dataset.Windows) ([]float32, error) {
	n := p.Outputs()
	out := make([]float32, w.Len()*n)
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for k := range workers {
		g.Go(func() error {
			rows := make([]float32, evaluationBatch*w.Inputs())
			end := (k + 1) * w.Len() / workers
			for i := k * w.Len() / workers; i < end; i += evaluationBatch {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				m := min(evaluationBatch, end-i)
				if err := predictSome(p, w, out[i*n:][:m*n], rows, i, m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return out, g.Wait()
}

// evaluationBatch is how many windows an evaluation predicts together.
const evaluationBatch = 32

// predictSome predicts m windows from window i. rows has space for them.
func predictSome(p *predictor.Predictor, w *dataset.Windows, out, rows []float32, i, m int) error {
	in, n := w.Inputs(), p.Outputs()
	for j := range m {
		w.Rows(i+j, rows[j*in:][:in])
	}
	if p.PredictBatch(out, rows[:m*in], m) == nil {
		return nil
	}
	for j := range m { // which of them it is
		if err := p.Predict(out[j*n:][:n], rows[j*in:][:in]); err != nil {
			return fmt.Errorf("window ending at %s of group %q: %w", w.Time(i+j), w.Group(i+j), err)
		}
	}
	return nil
}
