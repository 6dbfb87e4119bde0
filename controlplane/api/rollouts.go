package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
)

type statusInput struct {
	PageOf
	Model string `path:"model" doc:"Name of the model" maxLength:"256"`
}

func (a *API) registerRollouts() {
	tags := []string{"rollouts"}
	register(a, huma.Operation{
		OperationID: "start-rollout", Method: http.MethodPost, Path: "/rollouts", DefaultStatus: http.StatusCreated,
		Summary: "Make a version the desired state of devices, now and of those that join", Tags: tags,
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}, a.startRollout)
	register(a, huma.Operation{
		OperationID: "roll-back", Method: http.MethodPost, Path: "/rollbacks", DefaultStatus: http.StatusCreated,
		Summary: "Send devices back to the version before", Tags: tags,
		Description: "Devices that have no version before stay as they are: the answer names them as refused.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
	}, a.rollBack)
	register(a, huma.Operation{
		OperationID: "list-rollouts", Method: http.MethodGet, Path: "/rollouts",
		Summary: "The models that have rollouts", Tags: tags,
	}, func(ctx context.Context, _ *struct{}) (*body[Page[string]], error) {
		names, err := a.cp.Rollout.Models(ctx)
		return answer(paged(names, len(names), func(s string) string { return s }), err)
	})
	register(a, huma.Operation{
		OperationID: "rollout-status", Method: http.MethodGet, Path: "/rollouts/{model}",
		Summary: "How far the devices of a model are", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *statusInput) (*body[rollout.Status], error) {
		return answer(a.cp.Rollout.Status(ctx, in.Model, rollout.Query{After: in.After, Limit: in.Limit}))
	})
}

func (a *API) startRollout(ctx context.Context, in *struct{ Body NewRollout }) (*body[rollout.Started], error) {
	if err := a.needBroker("a rollout"); err != nil {
		return nil, err
	}
	target, err := rollout.ParseTarget(in.Body.To)
	if err != nil {
		return nil, err
	}
	return answer(a.cp.Rollout.Start(ctx, in.Body.Ref, target))
}

func (a *API) rollBack(ctx context.Context, in *struct{ Body NewRollback }) (*body[rollout.Result], error) {
	if err := a.needBroker("a rollback"); err != nil {
		return nil, err
	}
	to := in.Body.To
	if to == "" {
		to = "all"
	}
	target, err := rollout.ParseTarget(to)
	if err != nil {
		return nil, err
	}
	if name, _, has := strings.Cut(in.Body.Model, ":"); has {
		return nil, newProblem(http.StatusUnprocessableEntity, CodeUsage,
			"a rollback takes the name of a model, "+name+": each device goes back to its own version before")
	}
	return answer(a.cp.Rollout.Rollback(ctx, in.Body.Model, target))
}

// needBroker refuses what a control plane without a broker cannot do. One that
// has lost its connection takes it: it is stored, and published on the next.
func (a *API) needBroker(what string) error {
	if a.serving {
		return nil
	}
	return newProblem(http.StatusServiceUnavailable, CodeUnreachable, what+" needs the broker, and no server is running; start one with `sandpiper serve`")
}

// StartRollout makes a version the desired state of devices.
func (c *Client) StartRollout(ctx context.Context, r NewRollout) (rollout.Started, error) {
	var started rollout.Started
	err := c.json(ctx, http.MethodPost, escape("rollouts"), nil, r, &started)
	return started, err
}

// Rollback sends devices back to the version before.
func (c *Client) Rollback(ctx context.Context, r NewRollback) (rollout.Result, error) {
	var result rollout.Result
	err := c.json(ctx, http.MethodPost, escape("rollbacks"), nil, r, &result)
	return result, err
}

// Rollouts returns the names of the models that have rollouts.
func (c *Client) Rollouts(ctx context.Context) ([]string, error) {
	var page Page[string]
	err := c.json(ctx, http.MethodGet, escape("rollouts"), nil, nil, &page)
	return page.Items, err
}

// RolloutCounts returns how many devices of a model are how far; of the devices
// themselves it has at most one.
func (c *Client) RolloutCounts(ctx context.Context, model string) (rollout.Status, error) {
	var status rollout.Status
	err := c.json(ctx, http.MethodGet, escape("rollouts", model), PageOf{Limit: 1}.query(), nil, &status)
	return status, err
}

// RolloutStatus returns how far the devices of a model are, all of them.
func (c *Client) RolloutStatus(ctx context.Context, model string) (rollout.Status, error) {
	var status rollout.Status
	for p := (PageOf{Limit: 1000}); ; p.After = status.Next {
		var next rollout.Status
		if err := c.json(ctx, http.MethodGet, escape("rollouts", model), p.query(), nil, &next); err != nil {
			return status, err
		}
		next.Devices = append(status.Devices, next.Devices...)
		status = next
		if status.Next == "" {
			return status, nil
		}
	}
}
