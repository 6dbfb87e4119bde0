package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sandpiper-edge/sandpiper/controlplane/run"
)

type resumeInput struct {
	ID    string `path:"id" doc:"ID of the run, MODEL-N" maxLength:"256"`
	Force bool   `query:"force" doc:"Add the version even if its int8 model is worse than the bound of its task"`
}

type runInput struct {
	ID string `path:"id" doc:"ID of the run, MODEL-N" maxLength:"256"`
}

func (a *API) registerRuns() {
	tags := []string{"training"}
	register(a, huma.Operation{
		OperationID: "list-runs", Method: http.MethodGet, Path: "/runs",
		Summary: "The training runs, oldest first, without their histories", Tags: tags,
	}, a.listRuns)
	register(a, huma.Operation{
		OperationID: "show-run", Method: http.MethodGet, Path: "/runs/{id}",
		Summary: "A training run and what its epochs gave", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(_ context.Context, in *runInput) (*body[run.Run], error) {
		return answer(a.cp.Runs.Show(in.ID))
	})
	register(a, huma.Operation{
		OperationID: "stop-run", Method: http.MethodPost, Path: "/runs/{id}/stop",
		Summary: "Stop a run that is under way, so that it can go on later", Tags: tags,
		Description: "The answer comes when what the run has done is on disk. A run that is stopped already stays so.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *runInput) (*body[run.Run], error) {
		return answer(a.cp.Runs.Stop(ctx, in.ID))
	})
	register(a, huma.Operation{
		OperationID: "remove-run", Method: http.MethodDelete, Path: "/runs/{id}", DefaultStatus: http.StatusNoContent,
		Summary: "Remove a run that is not under way; a version it made stays", Tags: tags,
		Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *runInput) (*struct{}, error) {
		return nil, a.cp.RemoveRun(ctx, in.ID)
	})
	a.registerResume()
}

func (a *API) registerResume() {
	parts := &huma.RequestBody{Required: true}
	huma.Register(a.huma, huma.Operation{
		OperationID: "resume-run", Method: http.MethodPost, Path: Base + "/runs/{id}/resume",
		Summary: "Train a run on from its latest checkpoint and add its model as the next version",
		Description: uploadDescription(a.maxUpload, "data, validation and test (the files it began with)") +
			" The options are those of the run. The model is, bit for bit, the one of a run that was never interrupted. The answer is that of training.",
		Tags: []string{"training"}, RequestBody: parts,
		Responses: map[string]*huma.Response{"200": {
			Description: "Progress, then the report",
			Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, typeOf[event]())}},
		}},
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusInternalServerError},
	}, func(_ context.Context, in *resumeInput) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			_, w := humago.Unwrap(ctx)
			s := &stream{w: w}
			report, err := a.resume(ctx, s, in.ID, in.Force)
			if err != nil {
				s.fail(a.problem("resume-run", err))
				return
			}
			s.send(event{Result: report})
		}}, nil
	})
	describeParts(parts, []string{partData}, map[string]*huma.Schema{partData: dataFiles(), partValidation: dataFiles(), partTest: dataFiles()})
}

func (a *API) listRuns(_ context.Context, in *PageOf) (*body[Page[run.Run]], error) {
	runs, err := a.cp.Runs.List(in.After, in.Limit+1)
	return answer(paged(runs, in.Limit, func(r run.Run) string { return r.ID }), err)
}

func (a *API) resume(hc huma.Context, s *stream, id string, force bool) (json.RawMessage, error) {
	openUpload(hc)
	ctx := hc.Context()
	p, err := a.newParts(hc)
	if err != nil {
		return nil, err
	}
	defer p.drain()
	r, err := a.cp.Runs.Resumable(ctx, id)
	if err != nil {
		return nil, err
	}
	var o TrainOptions
	if err := json.Unmarshal(r.Options, &o); err != nil {
		return nil, fmt.Errorf("options of run %s: %w", id, err)
	}
	o.Force = o.Force || force
	p.cut = o.DataSet
	data, err := p.heldOutFiles()
	if err != nil {
		return nil, err
	}
	return a.carryOut(ctx, s, o, func(j run.Job) error { return a.cp.Runs.Resume(ctx, id, j, data) })
}

// Runs lists the training runs, oldest first, without their histories.
func (c *Client) Runs(ctx context.Context) ([]run.Run, error) {
	return all(PageOf{}, func(p PageOf) (page Page[run.Run], err error) {
		err = c.json(ctx, http.MethodGet, escape("runs"), p.query(), nil, &page)
		return page, err
	})
}

// Run shows a training run.
func (c *Client) Run(ctx context.Context, id string) (r run.Run, err error) {
	err = c.json(ctx, http.MethodGet, escape("runs", id), nil, nil, &r)
	return r, err
}

// StopRun stops a run that is under way and returns once it has.
func (c *Client) StopRun(ctx context.Context, id string) (r run.Run, err error) {
	err = c.json(ctx, http.MethodPost, escape("runs", id, "stop"), nil, nil, &r)
	return r, err
}

// RemoveRun removes a run that is not under way.
func (c *Client) RemoveRun(ctx context.Context, id string) error {
	res, err := c.do(ctx, call{method: http.MethodDelete, path: escape("runs", id)})
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// ResumeRun trains a run on, as Train. force adds the version even if its int8
// model is worse than the bound of its task.
func (c *Client) ResumeRun(ctx context.Context, id string, force bool, data []File, progress func(Progress)) (json.RawMessage, error) {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	return c.follow(ctx, escape("runs", id, "resume"), q, dataParts(data), progress)
}
