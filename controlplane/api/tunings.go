package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sandpiper-edge/sandpiper/controlplane/run"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/controlplane/tune"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TuneOptions configures a search among models.
type TuneOptions struct {
	Train  TrainOptions `json:"train" doc:"What every trial has in common; its seed draws the trials too"`
	Space  tune.Space   `json:"space" doc:"What trials differ in"`
	Trials int          `json:"trials,omitempty" doc:"How many; 0: 18"`
	Budget float64      `json:"budget,omitempty" doc:"Seconds of training; 0: no limit"`
	Tier   string       `json:"tier,omitempty" doc:"Tier of the kernel that predictions are measured on; none: the best of this machine"`
}

// A TuningPath names a search in a path.
type TuningPath struct {
	ID string `path:"id" doc:"MODEL-tune-N" maxLength:"256"`
}

func (a *API) registerTunings() {
	tags := []string{"tuning"}
	notFound := []int{http.StatusNotFound}
	register(a, huma.Operation{
		OperationID: "list-tunings", Method: http.MethodGet, Path: "/tunings",
		Summary: "List searches among models, oldest first", Tags: tags,
	}, func(context.Context, *struct{}) (*body[[]tune.Study], error) { return answer(a.cp.Tunings.List()) })
	register(a, huma.Operation{
		OperationID: "show-tuning", Method: http.MethodGet, Path: "/tunings/{id}",
		Summary: "A search and what its trials gave", Tags: tags, Errors: notFound,
	}, func(_ context.Context, in *TuningPath) (*body[tune.Study], error) {
		return answer(a.cp.Tunings.Show(in.ID))
	})
	register(a, huma.Operation{
		OperationID: "remove-tuning", Method: http.MethodDelete, Path: "/tunings/{id}", DefaultStatus: http.StatusNoContent,
		Summary: "Remove a search with its data; versions published from it stay", Tags: tags, Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *TuningPath) (*struct{}, error) {
		return nil, a.cp.RemoveTuning(ctx, in.ID)
	})

	parts := &huma.RequestBody{Required: true}
	streamed := map[string]*huma.Response{"200": {
		Description: "Progress, then the search",
		Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, typeOf[event]())}},
	}}
	failures := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict,
		http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusInternalServerError}
	huma.Register(a.huma, huma.Operation{
		OperationID: "tune", Method: http.MethodPost, Path: Base + "/tunings",
		Summary:     "Search among models: random trials, of which the better third goes on at each of two rungs",
		Description: uploadDescription(a.maxUpload, "options, data, validation and test (once for each file)"),
		Tags:        tags, RequestBody: parts, Responses: streamed, Errors: failures,
	}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return a.streamed("tune", func(hc huma.Context, s *stream) (any, error) { return a.tune(hc, s) }), nil
	})
	describeParts(parts, []string{partOptions, partData}, map[string]*huma.Schema{
		partOptions: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, typeOf[TuneOptions]()),
		partData:    dataFiles(), partValidation: dataFiles(), partTest: dataFiles(),
	})
	huma.Register(a.huma, huma.Operation{
		OperationID: "resume-tuning", Method: http.MethodPost, Path: Base + "/tunings/{id}/resume",
		Summary: "Go on with a search; its data was kept", Tags: tags, Responses: streamed, Errors: failures,
	}, func(_ context.Context, in *struct {
		TuningPath
		Budget float64 `query:"budget" doc:"Seconds of training to add; 0 of a search with a budget: as many as it had" minimum:"0"`
	}) (*huma.StreamResponse, error) {
		return a.streamed("resume-tuning", func(hc huma.Context, s *stream) (any, error) {
			return a.resumeTuning(hc.Context(), s, in.ID, in.Budget)
		}), nil
	})
	huma.Register(a.huma, huma.Operation{
		OperationID: "publish-trial", Method: http.MethodPost, Path: Base + "/tunings/{id}/versions",
		Summary:     "Make a trial the next version of its model, evaluated on the test rows that the search did not see",
		Description: "A trial that was dropped is first trained to its end. The answer is that of training.",
		Tags:        tags, Responses: streamed, Errors: failures,
	}, func(_ context.Context, in *struct {
		TuningPath
		Trial int  `query:"trial" doc:"0: the finished one with the lowest validation loss"`
		Force bool `query:"force" doc:"Add the version even if its int8 model is worse than the bound of its task"`
	}) (*huma.StreamResponse, error) {
		return a.streamed("publish-trial", func(hc huma.Context, s *stream) (any, error) {
			return a.publishTrial(hc.Context(), s, in.ID, in.Trial, in.Force)
		}), nil
	})
}

// streamed answers with progress and then what do returns.
func (a *API) streamed(operation string, do func(huma.Context, *stream) (any, error)) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		s := &stream{w: w}
		out, err := do(hc, s)
		var b json.RawMessage
		if err == nil {
			b, err = json.Marshal(out)
		}
		if err != nil {
			s.fail(a.problem(operation, err))
			return
		}
		s.send(event{Result: b})
	}}
}

func (a *API) tune(hc huma.Context, s *stream) (any, error) {
	openUpload(hc)
	p, err := a.newParts(hc)
	if err != nil {
		return nil, err
	}
	defer p.drain()
	var o TuneOptions
	if err := p.options(&o); err != nil {
		return nil, err
	}
	if err := protocol.CheckID(o.Train.Model); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	data, err := p.heldOutFiles()
	if err != nil {
		return nil, err
	}
	settings, err := a.trialSettings(hc.Context(), &o.Train)
	if err != nil {
		return nil, err
	}
	options, err := json.Marshal(o.Train)
	if err != nil {
		return nil, err
	}
	study, err := a.cp.Tunings.Create(tune.Job{
		Options: options, Train: settings, Space: o.Space, Trials: o.Trials,
		Budget: time.Duration(o.Budget * float64(time.Second)), Tier: o.Tier,
	}, data)
	if err != nil {
		return nil, err
	}
	out, err := a.search(hc.Context(), s, study.ID, settings)
	if err != nil && out.Data == "" { // the options do not fit the data: there is nothing to go on with
		return nil, errors.Join(err, a.cp.Tunings.Remove(study.ID))
	}
	return out, err
}

// trialSettings are the options of training that all trials have in common, which
// are pinned to what they go on from.
func (a *API) trialSettings(ctx context.Context, o *TrainOptions) (train.Options, error) {
	base, err := a.base(ctx, o)
	if err != nil {
		return train.Options{}, err
	}
	settings := o.options()
	settings.From = base
	return settings, settings.Check()
}

func (a *API) search(ctx context.Context, s *stream, id string, settings train.Options) (tune.Study, error) {
	start := time.Now()
	if err := a.takeTurn(ctx, s); err != nil {
		return tune.Study{}, err
	}
	defer func() { <-a.turn }()
	return a.cp.Tunings.Run(ctx, id, settings, func(trial int, p train.Progress) {
		s.send(event{Progress: progress(trialID(id, trial), p, start)})
	})
}

// trialID names a trial where a run is named.
func trialID(study string, trial int) string { return fmt.Sprintf("%s/%d", study, trial) }

// studySettings returns a study and the options of training that its trials have in
// common.
func (a *API) studySettings(ctx context.Context, id string) (TrainOptions, train.Options, error) {
	var o TrainOptions
	study, err := a.cp.Tunings.Show(id)
	if err != nil {
		return o, train.Options{}, err
	}
	if err := json.Unmarshal(study.Options, &o); err != nil {
		return o, train.Options{}, fmt.Errorf("options of tuning %s: %w", id, err)
	}
	settings, err := a.trialSettings(ctx, &o)
	return o, settings, err
}

func (a *API) resumeTuning(ctx context.Context, s *stream, id string, budget float64) (any, error) {
	_, settings, err := a.studySettings(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := a.cp.Tunings.Extend(id, budget); err != nil {
		return nil, err
	}
	return a.search(ctx, s, id, settings)
}

func (a *API) publishTrial(ctx context.Context, s *stream, id string, trial int, force bool) (any, error) {
	o, settings, err := a.studySettings(ctx, id)
	if err != nil {
		return nil, err
	}
	o.Force = o.Force || force
	start := time.Now()
	if err := a.takeTurn(ctx, s); err != nil {
		return nil, err
	}
	defer func() { <-a.turn }()
	var report json.RawMessage
	_, err = a.cp.Tunings.Publish(ctx, id, trial, settings, func(trial int, p train.Progress) {
		s.send(event{Progress: progress(trialID(id, trial), p, start)})
	}, func(ctx context.Context, t tune.Trial, r *train.Result) (string, error) {
		v, err := a.addVersion(ctx, o, settings.From, run.Run{ID: trialID(id, t.N)}, r)
		if err == nil {
			report, err = reportJSON(r.Report, v.Ref())
		}
		return v.Ref(), err
	})
	return report, err
}

// Tunings lists searches among models, oldest first.
func (c *Client) Tunings(ctx context.Context) (list []tune.Study, err error) {
	err = c.json(ctx, http.MethodGet, escape("tunings"), nil, nil, &list)
	return list, err
}

// Tuning shows a search among models.
func (c *Client) Tuning(ctx context.Context, id string) (s tune.Study, err error) {
	err = c.json(ctx, http.MethodGet, escape("tunings", id), nil, nil, &s)
	return s, err
}

// RemoveTuning removes a search that is not under way.
func (c *Client) RemoveTuning(ctx context.Context, id string) error {
	return c.json(ctx, http.MethodDelete, escape("tunings", id), nil, nil, nil)
}

// Tune searches among models and returns the study when it is done, or its budget
// spent.
func (c *Client) Tune(ctx context.Context, o TuneOptions, data []File, progress func(Progress)) (s tune.Study, err error) {
	b, err := c.follow(ctx, escape("tunings"), nil, append([]part{{name: partOptions, json: o}}, dataParts(data)...), progress)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

// ResumeTuning goes on with a search; budget is how much time it has from now on, 0
// as much as it had.
func (c *Client) ResumeTuning(ctx context.Context, id string, budget time.Duration, progress func(Progress)) (s tune.Study, err error) {
	q := url.Values{"budget": {strconv.FormatFloat(budget.Seconds(), 'g', -1, 64)}}
	b, err := c.follow(ctx, escape("tunings", id, "resume"), q, nil, progress)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

// PublishTrial makes a trial the next version of its model, 0 the best one, and
// returns the report of its training.
func (c *Client) PublishTrial(ctx context.Context, id string, trial int, force bool, progress func(Progress)) (json.RawMessage, error) {
	q := url.Values{"trial": {strconv.Itoa(trial)}, "force": {strconv.FormatBool(force)}}
	return c.follow(ctx, escape("tunings", id, "versions"), q, nil, progress)
}
