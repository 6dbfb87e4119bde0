package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/run"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// StageQueued is the progress of a run that waits for the one before it.
const StageQueued = "queued"

func (a *API) registerTraining() {
	schemas := a.huma.OpenAPI().Components.Schemas
	parts := &huma.RequestBody{Required: true}
	huma.Register(a.huma, huma.Operation{
		OperationID: "train", Method: http.MethodPost, Path: Base + "/training",
		Summary: "Train a model and add it as the next version",
		Description: uploadDescription(a.maxUpload, "options, data (once for each file), validation and test (files that are held out, likewise; optional)") +
			" The answer is NDJSON: lines {\"progress\": …}, then {\"result\": …}, the report, or {\"error\": …}, a problem document." +
			" The version is stored once the result is sent. One run at a time; others wait. A client that goes stops its run, which can be resumed.",
		Tags: []string{"training"}, RequestBody: parts,
		Responses: map[string]*huma.Response{"200": {
			Description: "Progress, then the report",
			Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: huma.SchemaFromType(schemas, typeOf[event]())}},
		}},
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusInternalServerError},
	}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: a.train}, nil
	})
	describeParts(parts, []string{partOptions, partData}, map[string]*huma.Schema{
		partOptions:    huma.SchemaFromType(schemas, typeOf[TrainOptions]()),
		partData:       dataFiles(),
		partValidation: dataFiles(),
		partTest:       dataFiles(),
	})
	a.registerEvaluation()
}

func (a *API) registerEvaluation() {
	schemas := a.huma.OpenAPI().Components.Schemas
	parts := &huma.RequestBody{Required: true}
	huma.Register(a.huma, huma.Operation{
		OperationID: "evaluate", Method: http.MethodPost, Path: Base + "/models/{ref}/evaluation",
		Summary:     "Evaluate a version on data",
		Description: uploadDescription(a.maxUpload, "options, truth (optional) and data (once for each file)") + " The answer is the report.",
		Tags:        []string{"training"}, RequestBody: parts,
		Responses: map[string]*huma.Response{"200": {
			Description: "The report",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
		}},
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusInternalServerError},
	}, func(_ context.Context, in *refInput) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) { a.evaluate(ctx, in.Ref) }}, nil
	})
	describeParts(parts, []string{partOptions, partData}, map[string]*huma.Schema{
		partOptions: huma.SchemaFromType(schemas, typeOf[EvalOptions]()),
		partTruth:   binary("CSV or CSV.gz: what was left after the last row of each group"),
		partData:    dataFiles(),
	})
}

// train answers a training request.
func (a *API) train(ctx huma.Context) {
	_, w := humago.Unwrap(ctx)
	s := &stream{w: w}
	report, err := a.runTraining(ctx, s)
	if err != nil {
		s.fail(a.problem("train", err))
		return
	}
	s.send(event{Result: report})
}

func (a *API) runTraining(hc huma.Context, s *stream) (json.RawMessage, error) {
	openUpload(hc)
	ctx := hc.Context()
	p, err := a.newParts(hc)
	if err != nil {
		return nil, err
	}
	defer p.drain()
	var o TrainOptions
	if err := p.options(&o); err != nil {
		return nil, err
	}
	if err := protocol.CheckID(o.Model); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	data, err := p.heldOutFiles()
	if err != nil {
		return nil, err
	}
	o.DataSet = p.cut
	return a.carryOut(ctx, s, o, func(j run.Job) error { return a.cp.Runs.Train(ctx, j, data) })
}

// carryOut has do carry out a job in its turn and returns the report.
func (a *API) carryOut(ctx context.Context, s *stream, o TrainOptions, do func(run.Job) error) (json.RawMessage, error) {
	base, err := a.base(ctx, &o)
	if err != nil {
		return nil, err
	}
	options, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	settings := o.options()
	settings.From = base
	if err := settings.Check(); err != nil { // now, not after its turn
		return nil, err
	}
	start := time.Now()
	if err := a.takeTurn(ctx, s); err != nil {
		return nil, err
	}
	defer func() { <-a.turn }()
	var report json.RawMessage
	err = do(run.Job{
		Options: options, Train: settings,
		Progress: func(id string, t train.Progress) { s.send(event{Progress: progress(id, t, start)}) },
		Finish: func(ctx context.Context, r run.Run, result *train.Result) (string, error) {
			v, err := a.addVersion(ctx, o, base, r, result)
			if err == nil {
				report, err = reportJSON(result.Report, v.Ref())
			}
			return v.Ref(), err
		},
	})
	return report, err
}

// base loads the version that a run goes on from and pins o to it, so that it is
// the same when the run is resumed; nil if the run begins anew.
func (a *API) base(ctx context.Context, o *TrainOptions) (*train.Base, error) {
	if o.From == "" {
		return nil, nil
	}
	v, err := a.cp.Registry.Resolve(ctx, o.From)
	if err != nil {
		return nil, fmt.Errorf("version to go on from: %w", err)
	}
	o.From = v.Ref()
	b := &train.Base{Ref: v.Ref(), Digest: v.Digest}
	if b.Model, err = a.cp.Registry.Model(ctx, o.From); err != nil {
		return nil, err
	}
	b.Weights, err = a.cp.Registry.Weights(ctx, o.From)
	return b, err
}

// takeTurn waits until no other run trains: two at once would both take twice
// as long.
func (a *API) takeTurn(ctx context.Context, s *stream) error {
	select {
	case a.turn <- struct{}{}:
		return nil
	default:
	}
	s.send(event{Progress: &Progress{Stage: StageQueued}})
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// addVersion stores what a run made, if it passes the gate of its task. Trained
// versions come into being here and nowhere else: one that is imported passed
// where it was trained, or says in its lineage who forced it, and a rollout
// ships versions that there are.
func (a *API) addVersion(ctx context.Context, o TrainOptions, base *train.Base, from run.Run, r *train.Result) (registry.Version, error) {
	forced := ""
	if err := r.Report.CheckInt8(); err != nil {
		if !o.Force {
			return registry.Version{}, a.refused(ctx, o.Model, err)
		}
		forced = caller(ctx)
		r.Report.Warnings = append(r.Report.Warnings, fmt.Sprintf("%v; %s added it all the same", err, forced))
	}
	r.Report.Training.Run, r.Report.Training.Resumed = from.ID, from.Resumed
	report, err := json.Marshal(r.Report)
	if err != nil {
		return registry.Version{}, fmt.Errorf("report of the run: %w", err)
	}
	info := registry.Info{Report: report, Metrics: finite(r.Report.Metrics.Int8), Data: r.Report.Data, Run: from.ID, Forced: forced}
	if base != nil {
		info.Parent = &base.Digest
	}
	v, err := a.cp.Registry.Add(ctx, o.Model, r.Model, r.Weights, info)
	if err == nil && v.Lineage.Run != from.ID {
		r.Report.Warnings = append(r.Report.Warnings, fmt.Sprintf("no version was added: the model is, bit for bit, %s, which was there", v.Ref()))
	}
	return v, err
}

// refused says which version err keeps out.
func (a *API) refused(ctx context.Context, model string, err error) error {
	next := uint64(1)
	switch latest, missing := a.cp.Registry.Resolve(ctx, model); {
	case missing == nil:
		next += latest.Number
	case !errors.Is(missing, registry.ErrNotFound):
		return missing
	}
	return fmt.Errorf("%s is not added: %w, or add it as it is with --force", registry.Ref(model, next), err)
}

// finite leaves out the figures that are not numbers: a release has none.
func finite(metrics train.Metrics) map[string]float64 {
	m := make(map[string]float64, len(metrics))
	for k, v := range metrics {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			m[k] = v
		}
	}
	return m
}

// reportJSON is a report as it is shown: with its version, and without the
// weights of the baselines.
func reportJSON(r train.Report, version string) (json.RawMessage, error) {
	r = r.Brief()
	r.Version = version
	return json.Marshal(r)
}

// options are o for the train.
func (o TrainOptions) options() train.Options {
	return train.Options{
		Model: o.Model, Task: o.Task, Time: o.Time, Group: o.Group, Targets: o.Targets, Features: o.Features, Weight: o.Weight,
		Window: o.Window, Horizon: o.Horizon, Stride: o.Stride, State: o.State, Pad: o.Pad, Anchor: o.Anchor, Skip: o.Skip, Cap: o.RULCap,
		Season: o.Season, Split: o.Split, SplitBy: o.SplitBy, Gap: o.Gap, Validation: o.Validation,
		Units: o.Units, Epochs: o.Epochs, Batch: o.Batch, LearningRate: o.LearningRate, Settings: o.Settings, Preparation: o.Preparation, TaskSettings: o.TaskSettings,
		Data: o.Data, Outliers: o.Outliers, DropConstant: o.DropConstant,
		Patience: o.Patience, Seed: o.Seed, HeadOnly: o.HeadOnly, Unfed: o.Unfed, Int8Bound: o.Int8Bound, Use: o.Use,
	}
}

// progress is p of the run id, for the client.
func progress(id string, p train.Progress, start time.Time) *Progress {
	out := &Progress{
		Stage: string(p.Stage), Run: id, Windows: p.Windows, Epoch: p.Epoch, Epochs: p.Epochs,
		Loss: p.Loss, ValLoss: p.ValLoss, LearningRate: p.LearningRate,
		Seconds: time.Since(start).Seconds(), Warnings: p.Warnings,
	}
	if took := p.Took.Seconds(); took > 0 {
		out.SamplesPerSecond = float64(p.Windows) / took
		out.ETA = float64(p.Epochs-p.Epoch) * took
	}
	return out
}

// evaluate answers an evaluation request.
func (a *API) evaluate(hc huma.Context, ref string) {
	_, w := humago.Unwrap(hc)
	report, err := a.runEvaluation(hc, ref)
	if err != nil {
		writeProblem(w, a.problem("evaluate", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(report, '\n')) // a client that has gone
}

func (a *API) runEvaluation(hc huma.Context, ref string) (json.RawMessage, error) {
	openUpload(hc)
	ctx := hc.Context()
	p, err := a.newParts(hc)
	if err != nil {
		return nil, err
	}
	defer p.drain()
	var o EvalOptions
	if err := p.options(&o); err != nil {
		return nil, err
	}
	v, err := a.cp.Registry.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	options := train.EvalOptions{
		Model: v.Name, Version: v.Ref(), Predictions: o.Predictions,
		Time: o.Time, Group: o.Group, Data: o.Data, Cap: o.RULCap, Season: o.Season, Split: o.Split, SplitBy: o.SplitBy,
	}
	if v.Report != nil {
		r, err := train.ParseReport(v.Report)
		if err != nil {
			return nil, err
		}
		options.Setup = r.Setup
	}
	m, err := a.cp.Registry.Model(ctx, v.Ref())
	if err != nil {
		return nil, err
	}
	weights, err := a.cp.Registry.Weights(ctx, v.Ref())
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return nil, err
	}
	truth, err := p.truth()
	if err != nil {
		return nil, err
	}
	data, err := p.files()
	if err != nil {
		return nil, err
	}
	report, err := train.Evaluate(ctx, m, weights, data, truth, options)
	if err != nil {
		return nil, err
	}
	return json.Marshal(report)
}

// An Evaluation is what the client evaluates a version on.
type Evaluation struct {
	Ref string
	EvalOptions
	Truth *File // may be nil
	Data  []File
}

// Train trains a model on data and returns the report. progress is called with
// every step, from this goroutine.
func (c *Client) Train(ctx context.Context, o TrainOptions, data []File, progress func(Progress)) (json.RawMessage, error) {
	return c.follow(ctx, escape("training"), nil, append([]part{{name: partOptions, json: o}}, dataParts(data)...), progress)
}

// follow sends parts and reads the events that answer them.
func (c *Client) follow(ctx context.Context, path string, query url.Values, list []part, progress func(Progress)) (json.RawMessage, error) {
	rq, wait := multipartCall(path, list)
	rq.query = query
	rq.accept = "application/x-ndjson, application/problem+json"
	res, err := c.do(ctx, rq)
	if err != nil {
		return nil, errors.Join(wait(), err)
	}
	report, err := c.readStream(ctx, res.Body, progress)
	res.Body.Close()
	if broken := wait(); broken != nil {
		return nil, broken
	}
	return report, err
}

// readStream reads events until the result.
func (c *Client) readStream(ctx context.Context, body io.Reader, progress func(Progress)) (json.RawMessage, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%w: %s answered no JSON we know: %w", ErrUnreachable, c.where, err)
		}
		switch {
		case e.Error != nil && ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case e.Error != nil:
			return nil, e.Error
		case e.Result != nil:
			return e.Result, nil
		case e.Progress != nil && progress != nil:
			progress(*e.Progress)
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return nil, c.transportError(ctx, err)
}

// Evaluate evaluates a version and returns the report.
func (c *Client) Evaluate(ctx context.Context, e Evaluation) (json.RawMessage, error) {
	list := []part{{name: partOptions, json: e.EvalOptions}}
	if e.Truth != nil {
		list = append(list, part{name: partTruth, file: e.Truth})
	}
	list = append(list, dataParts(e.Data)...)
	rq, wait := multipartCall(escape("models", e.Ref, "evaluation"), list)
	var report json.RawMessage
	err := c.decode(ctx, rq, &report)
	if broken := wait(); broken != nil {
		return nil, broken
	}
	return report, err
}
