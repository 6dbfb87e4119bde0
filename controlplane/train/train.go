package train

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
	"github.com/sandpiper-edge/sandpiper/kernel/prepare"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A Stage is what Run is doing.
type Stage string

const (
	Reading    Stage = "read"      // once, when the data is read and cut into windows
	Resuming   Stage = "resume"    // once, with the epochs that are behind it, by a job that goes on
	Baselines  Stage = "baselines" // once, when the linear map is fitted
	Fitting    Stage = "epoch"     // after every epoch
	Evaluating Stage = "evaluate"  // once, before the held-out windows are predicted
)

// Progress tells how far a run is.
type Progress struct {
	Stage         Stage
	Windows       int      // training windows
	Validation    int      // validation windows
	Epoch, Epochs int      // Epoch from 1; it may stop before Epochs
	Loss          float64  // on scaled targets, with penalties
	ValLoss       *float64 // nil without validation windows
	LearningRate  float64  // of the epoch's last update
	Took          time.Duration
	Warnings      []string // with Reading
}

// A Result is a trained model with the float32 weights it was made from.
type Result struct {
	Model   *artifact.Model
	Weights *kernel.Weights
	Report  Report
}

// A run is one call of Run under way.
type run struct {
	o       Options
	job     *Job
	table   *dataset.Table
	learned *dataset.Table // the table, its training rows without outliers
	parts   dataset.Parts
	setup   *Setup
	sc      *kernel.Scaler
	prep    *artifact.Preparation // nil: rows are scaled and no more
	plan    *prepare.Plan         // of sc and prep
	columns int                   // features that rows of requests have; behind them those of the calendar

	dictionaries [][]string // of these features, nil for one that is a number; nil: all are
	untrained    []int      // features that are texts, and none unknown in the training rows

	warnings []string

	train, validation *dataset.Windows    // validation may be nil
	src, val          *dataset.Source     // likewise
	skip              *kernel.SkipWeights // nil: none
	skipRidge         []float64           // of its targets
	streams           streams
	classes           classes  // of Classify
	detector          detector // of Anomaly
}

// Run trains a model on the data, one file, quantizes it and evaluates both on the
// held-out rows: the validation groups of a `rul` run, the test part of a
// forecast. progress may be nil; it is called from this goroutine.
//
// Unless the settings say otherwise, the weights kept are those of the epoch with
// the lowest validation loss, or of the last epoch without validation rows. The
// test part is never looked at before they are chosen. The same options and bytes give the same model on one
// kind of CPU.
func Run(ctx context.Context, o Options, data io.Reader, progress func(Progress)) (*Result, error) {
	return Job{Options: o, Progress: progress}.Run(ctx, dataset.One(data))
}

// Run is the function of that name, for a job that may be one that goes on.
// Wherever it was interrupted, its result is that of a job that was not.
func (j Job) Run(ctx context.Context, data dataset.Files) (*Result, error) {
	start := time.Now()
	o, err := j.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &run{o: o, job: &j}
	if err := r.read(data); err != nil {
		return nil, err
	}
	if j.Data != "" && j.Data != r.setup.Data {
		return nil, fmt.Errorf("%w: its SHA-256 is %s, and that of the data it began with %s; give the same file", ErrOtherData, r.setup.Data, j.Data)
	}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	if j.Begin != nil {
		if err := j.Begin(r.setup.Data, o.Epochs); err != nil {
			return nil, err
		}
	}
	r.warnings = append(r.learned.Warnings(), r.warnings...)
	r.report(Progress{Stage: Reading, Warnings: r.warnings})
	if j.Resume != nil {
		r.report(Progress{Stage: Resuming, Epoch: len(j.Resume.Epochs())})
	}
	if j.Stop == 0 {
		if err := r.fitLinear(ctx); err != nil {
			return nil, err
		}
		r.report(Progress{Stage: Baselines})
	}
	if err := r.fitSkip(ctx); err != nil {
		return nil, err
	}
	weights, training, err := r.fit(ctx)
	if err != nil {
		return nil, err
	}
	model, tensors, err := r.quantize(ctx, weights)
	if err != nil {
		return nil, err
	}
	if j.Stop > 0 {
		return &Result{Model: model, Weights: weights, Report: Report{Model: o.Model, Task: o.Task, Training: training}}, nil
	}
	r.report(Progress{Stage: Evaluating})
	rep, err := r.evaluate(ctx, model, weights)
	if err != nil {
		return nil, err
	}
	rep.Use = o.Use
	rep.Training, rep.Cleaning = training, &r.learned.Cleaning
	rep.Quantization = &Quantization{tensors, o.gate(rep.Items).pass(rep.Metrics)}
	rep.Seconds = time.Since(start).Seconds()
	return &Result{Model: model, Weights: weights, Report: *rep}, nil
}

func (r *run) report(p Progress) {
	if r.job.Progress == nil {
		return
	}
	p.Windows = r.train.Len()
	if r.validation != nil {
		p.Validation = r.validation.Len()
	}
	p.Epochs = r.o.Epochs
	r.job.Progress(p)
}

func (r *run) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// read reads the table and divides its rows.
func (r *run) read(data dataset.Files) error {
	if err := r.divide(data); err != nil {
		return err
	}
	if r.o.Task == Classify {
		if err := r.classTargets(); err != nil {
			return err
		}
	}
	r.learned = r.table
	if r.o.Outliers > 0 {
		r.learned = r.table.WithoutOutliers(r.parts.Train, r.o.Outliers)
		if r.o.Task == Anomaly {
			if err := r.learned.Watch(r.o.Targets); err != nil {
				return err
			}
		}
	}
	if r.o.DropConstant {
		if err := r.dropConstant(); err != nil {
			return err
		}
	}
	return r.prepareTables()
}

// dropConstant leaves out the features that the training rows say nothing about.
func (r *run) dropConstant() error {
	_, constant := dataset.NewScaler(r.learned.FeatureMoments(r.parts.Train))
	switch {
	case len(constant) == 0:
		return nil
	case len(constant) == len(r.table.Features):
		return fmt.Errorf("%w: every feature is constant in the training rows; there is nothing to learn from", ErrOptions)
	}
	same := r.learned == r.table
	r.table = r.table.Without(constant)
	if same {
		r.learned = r.table
	} else {
		r.learned = r.learned.Without(constant)
	}
	if r.o.Task == Anomaly { // of what is left
		return errors.Join(r.table.Watch(r.o.Targets), r.learned.Watch(r.o.Targets))
	}
	return nil
}

func (r *run) divide(data dataset.Files) (err error) {
	if r.table, err = dataset.ReadFiles(data, r.o.columns(), r.o.Data); err != nil {
		return err
	}
	r.setup = &Setup{
		Time: r.o.Time, Group: r.o.Group, Column: r.o.Task == RUL && len(r.o.Targets) == 1,
		Pad: r.o.Pad, Cap: r.o.Cap, Anchor: r.o.Anchor, Seed: r.o.Seed, Data: hex.EncodeToString(r.table.Digest[:]), Files: r.table.PartDigests, Read: r.o.Data,
		Prepare: r.o.Preparation,
	}
	r.setup.Label = r.o.Label
	switch r.o.Task {
	case Classify:
		r.table.AsTarget()
	case Anomaly:
		if err := r.watch(); err != nil {
			return err
		}
	}
	if err := r.checkLimits(); err != nil {
		return err
	}
	if r.o.Task == RUL && !r.setup.Column {
		if err := r.table.SetRemaining(nil); err != nil {
			return err
		}
	}
	if r.setup.Season = r.o.Season; r.setup.Season == 0 && r.o.Task == Forecast {
		r.setup.Season = r.table.RowsPerDay()
	}
	return r.split()
}

// checkLimits refuses what no artifact or request could carry, before the
// time is spent on training it.
func (r *run) checkLimits() error {
	features := r.table.Features
	if len(features) > kernel.MaxFeatures {
		return fmt.Errorf("%w: %d features, at most %d; name the ones to use", ErrOptions, len(features), kernel.MaxFeatures)
	}
	if r.o.Window > protocol.MaxWindowValues/len(features) {
		return fmt.Errorf("%w: a window of %d rows of %d features, at most %d values; use a smaller window or fewer features",
			ErrOptions, r.o.Window, len(features), protocol.MaxWindowValues)
	}
	units, err := r.o.Data.Units()
	if err != nil {
		return err
	}
	for column := range units {
		if !slices.Contains(slices.Concat(features, r.table.Targets), column) {
			return fmt.Errorf("%w: a unit for %q, which is neither feature nor target", ErrOptions, column)
		}
	}
	for _, name := range slices.Concat(features, r.table.Targets) {
		if len(name) > protocol.MaxName {
			return fmt.Errorf("%w: the name of column %q has more than %d bytes; rename it", ErrOptions, name, protocol.MaxName)
		}
	}
	return nil
}

func (o Options) shape() dataset.Shape {
	return dataset.Shape{Window: o.Window, Horizon: o.Horizon, Pad: o.Pad}
}

// prepare cuts the windows and fits the scaler on the training rows.
func (r *run) prepare() (err error) {
	if r.train, err = r.cut(r.learned, r.parts.Train, dataset.PartTraining, r.o.Stride); err != nil {
		return err
	}
	if err := r.checkWeights(); err != nil {
		return err
	}
	if len(r.parts.Validation) > 0 {
		if r.validation, err = r.cut(r.table, r.parts.Validation, dataset.PartValidation, 1); err != nil {
			return err
		}
	}
	if err := r.fitScaler(); err != nil {
		return err
	}
	if err := r.scaleOutputs(); err != nil {
		return err
	}
	if err := r.goOn(); err != nil {
		return err
	}
	if err := r.fitRegimes(); err != nil {
		return err
	}
	if err := r.makePlan(); err != nil {
		return err
	}
	limit := r.o.limit()
	if r.src, err = dataset.NewSource(r.train, r.plan, limit); err != nil {
		return fmt.Errorf("training rows: %w", err)
	}
	if r.validation != nil {
		if r.val, err = dataset.NewSource(r.validation, r.plan, limit); err != nil {
			return fmt.Errorf("validation rows: %w", err)
		}
	}
	return r.prepareStreams(limit)
}

// cut cuts a part into windows for the network.
func (r *run) cut(t *dataset.Table, p dataset.Part, name string, stride int) (*dataset.Windows, error) {
	if r.classes.series {
		return r.series(t, p, name)
	}
	shape := r.o.shape()
	shape.Stride = stride
	shape.Starts = r.o.Task == RUL && r.o.Pad // or padded windows would be new to the network
	w, err := t.Windows(p, shape)
	if err != nil {
		return nil, fmt.Errorf("%s rows: %w", name, err)
	}
	r.countShort(name, w)
	return w, r.keepNormal(w, name)
}

// unknownTarget is said of windows that nobody could tell right from wrong.
const unknownTarget = "%d %s windows were left out: what they would have to predict was not measured"

func (r *run) countShort(part string, w *dataset.Windows) {
	if w.Short > 0 {
		hint := ""
		if r.o.Task == RUL {
			hint = "; padding keeps them"
		}
		r.warn("%d %s groups are too short for a window of %d rows and were left out%s", w.Short, part, r.o.Window+r.o.Horizon, hint)
	}
	if w.Unknown > 0 {
		r.warn(unknownTarget, w.Unknown, part)
	}
	if w.Padded > 0 {
		r.warn("%d %s groups are shorter than the window of %d rows and repeat their first row", w.Padded, part, r.o.Window)
	}
}

// scaleOutputs sets the scaler's outputs: the z-score of the training targets.
func (r *run) scaleOutputs() error {
	switch r.o.Task {
	case Classify:
		return r.classOutputs()
	case RUL:
		r.rulMoments()
	default:
		for _, m := range r.learned.TargetMoments(r.normal(r.parts.Train)) {
			std := m.Std
			if m.Constant() {
				std = 0
			}
			r.setup.Mean = append(r.setup.Mean, m.Mean)
			r.setup.Std = append(r.setup.Std, std)
		}
	}
	targets := len(r.table.Targets)
	for t, std := range r.setup.Std {
		if std == 0 {
			r.warn("target %q is constant in the training rows: there is nothing to learn", r.table.Targets[t])
		}
	}
	for i := range r.train.Outputs() {
		r.sc.OutMean = append(r.sc.OutMean, float32(r.setup.Mean[i%targets]))
		r.sc.OutStd = append(r.sc.OutStd, float32(r.setup.Std[i%targets]))
	}
	if r.o.Anchor == "last" {
		return r.anchor()
	}
	return nil
}

// anchor makes every target that is a feature relative to its last value.
func (r *run) anchor() error {
	targets := len(r.table.Targets)
	anchored := false
	for i := range r.train.Outputs() {
		f := slices.Index(r.table.Features, r.table.Targets[i%targets])
		anchored = anchored || f >= 0
		if i < targets && f < 0 {
			r.warn("target %q is not a feature and has no anchor", r.table.Targets[i])
		}
		r.sc.Anchor = append(r.sc.Anchor, f)
	}
	if !anchored {
		return fmt.Errorf("%w: anchor last needs a target among the features", ErrOptions)
	}
	return nil
}

// rulMoments takes the capped targets of the training windows, not of the rows:
// the first rows of a group end no window.
func (r *run) rulMoments() {
	y := make([]float32, 1)
	sum, ss := 0.0, 0.0
	n := float64(r.train.Len())
	for i := range r.train.Len() {
		r.train.Target(i, y)
		sum += math.Min(float64(y[0]), r.setup.cap())
	}
	mean := sum / n
	for i := range r.train.Len() {
		r.train.Target(i, y)
		d := math.Min(float64(y[0]), r.setup.cap()) - mean
		ss += d * d
	}
	r.setup.Mean, r.setup.Std = []float64{mean}, []float64{math.Sqrt(ss / n)}
}

func (r *run) fitLinear(ctx context.Context) error {
	src, inputs := windows(r.src), r.src.Inputs()
	if r.o.Task == Classify {
		src = newSummaries(r.src)
		inputs = summaryValues * r.plan.Inputs()
	}
	m, err := fitLinear(ctx, src, inputs, r.train.Outputs())
	switch {
	case errors.Is(err, errLinearTooLarge):
		r.warn("%v; it was left out", err)
		return nil
	case err != nil:
		return err
	}
	r.setup.Linear = m
	return nil
}

// fit trains the network.
func (r *run) fit(ctx context.Context) (*kernel.Weights, *Training, error) {
	w, err := r.first()
	if err != nil {
		return nil, nil, err
	}
	cfg := r.o.config(r.val != nil)
	cfg.HeadOnly = r.o.HeadOnly
	cfg, err = cfg.Complete(w.Graph)
	if err != nil {
		return nil, nil, err
	}
	src, val, err := r.sources()
	if err != nil {
		return nil, nil, err
	}
	t := &Training{
		Windows: src.Len(), Weight: r.o.Weight, Units: r.o.Units, Batch: cfg.BatchSize, Rate: cfg.LearningRate, Patience: cfg.Patience,
		Settings: r.o.used(cfg), SkipRidge: r.skipRidge,
	}
	for _, l := range w.Layers {
		t.Parameters += len(l.Kernel) + len(l.Recurrent) + len(l.Bias)
	}
	if val != nil {
		t.Validation = val.Len()
	}
	epochs, err := bptt.Run{
		Config: cfg, Data: r.setup.Data, Resume: r.job.Resume, Stop: r.job.Stop, OnEpoch: r.reportEpoch, OnCheckpoint: r.save,
	}.Fit(ctx, w, src, val)
	if err != nil {
		return nil, nil, fmt.Errorf("training: %w", err)
	}
	t.Epochs, t.History = len(epochs), r.history(epochs)
	t.BestEpoch = t.Epochs
	for _, e := range epochs {
		if e.Best && cfg.RestoreBest {
			t.BestEpoch = e.N
		}
	}
	w.Graph = r.graph() // of the same weights
	return w, t, nil
}

func (r *run) reportEpoch(e bptt.Epoch) {
	h := r.historyOf(e)
	r.report(Progress{Stage: Fitting, Epoch: e.N, Loss: h.Loss, ValLoss: h.ValLoss, LearningRate: h.LearningRate, Took: e.Took})
}

// save hands a checkpoint to the job.
func (r *run) save(c *bptt.Checkpoint) error {
	if r.job.Save == nil {
		return nil
	}
	return r.job.Save(c, r.history(c.Epochs()))
}

func (r *run) history(epochs []bptt.Epoch) []Epoch {
	h := make([]Epoch, len(epochs))
	for i, e := range epochs {
		h[i] = r.historyOf(e)
	}
	return h
}

func (r *run) historyOf(e bptt.Epoch) Epoch {
	h := Epoch{Epoch: e.N, Loss: e.Loss, LearningRate: e.LearningRate, Seconds: e.Took.Seconds(), Best: e.Best}
	if r.val != nil {
		h.ValLoss = &e.ValLoss
	}
	return h
}

// quantize makes the int8 model, records its golden outputs and measures its
// weights.
func (r *run) quantize(ctx context.Context, w *kernel.Weights) (*artifact.Model, []TensorError, error) {
	q, err := kernel.Quantize(w)
	if err != nil {
		return nil, nil, err
	}
	m, err := predictor.FromQuantSkip(q, r.skip, r.schema(), r.o.Task, *r.sc)
	if err == nil && r.o.Task == Anomaly {
		m, err = r.detect(ctx, m, q)
	}
	if err != nil {
		return nil, nil, err
	}
	m.Pipeline, m.Reference = r.pipeline(), reference(r.table, r.parts.Train, r.columns)
	return m, tensorErrors(w, q), nil
}

func (r *run) schema() artifact.Schema {
	s := artifact.Schema{Window: r.o.Window, State: r.o.State, Horizon: max(r.o.Horizon, 1), Prepare: r.prep}
	if s.State == Stream {
		s.Warmup = r.o.Window
	}
	if s.Labels = r.classes.labels; r.classes.series {
		s.MinWindow = 1
	}
	units, _ := r.o.Data.Units() // checkLimits had no objection
	for _, n := range r.table.Features[:r.columns] {
		s.Features = append(s.Features, artifact.Column{Name: n, Unit: units[n]})
	}
	for _, n := range r.table.Targets {
		s.Targets = append(s.Targets, artifact.Column{Name: n, Unit: units[n]})
	}
	return s
}

// evaluate predicts the rows that were held out.
func (r *run) evaluate(ctx context.Context, m *artifact.Model, w *kernel.Weights) (*Report, error) {
	part, name := heldOut(r.parts)
	if name == "training" {
		r.warn(flatters)
	}
	e := evaluated{
		model: m, weights: w, setup: r.setup, table: r.table, part: name,
		name: r.o.Model, predictions: r.o.Predictions,
	}
	var err error
	switch warned := len(r.warnings); {
	case r.classes.series:
		e.windows, err = r.series(r.table, part, name)
		if name != dataset.PartTest { // said before
			r.warnings = r.warnings[:warned]
		}
	default:
		e.windows, err = r.table.Windows(part, e.shape())
		if err == nil && name == dataset.PartTest {
			r.countShort(name, e.windows)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s rows: %w", name, err)
	}
	e.warnings = r.warnings
	return e.judge(ctx)
}
