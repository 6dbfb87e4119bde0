package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
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
	a.registerStaged(tags)
}

// registerStaged registers what concerns rollouts by a plan.
func (a *API) registerStaged(tags []string) {
	register(a, huma.Operation{
		OperationID: "command-rollout", Method: http.MethodPost, Path: "/rollouts/{model}/{command}",
		Summary: "Pause, resume, promote or abort the newest staged rollout of a model", Tags: tags,
		Description: "Promote goes on to the next stage whatever the checks say; abort sends every device that it touched back.",
		Errors:      []int{http.StatusConflict, http.StatusServiceUnavailable},
	}, a.commandRollout)
	register(a, huma.Operation{
		OperationID: "staged-rollout", Method: http.MethodGet, Path: "/rollouts/{model}/staged",
		Summary: "Where the newest staged rollout of a model stands", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		Model string `path:"model" doc:"Name of the model" maxLength:"256"`
	}) (*body[rollout.Staged], error) {
		return answer(a.cp.Rollout.Staged(ctx, in.Model))
	})
	register(a, huma.Operation{
		OperationID: "compare-rollout", Method: http.MethodGet, Path: "/rollouts/{model}/comparison",
		Summary: "What devices told of both versions of the newest staged rollout of a model", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		Model string `path:"model" doc:"Name of the model" maxLength:"256"`
	}) (*body[rollout.Comparison], error) {
		return answer(a.cp.Rollout.Compare(ctx, in.Model))
	})
	register(a, huma.Operation{
		OperationID: "rollout-looks", Method: http.MethodGet, Path: "/looks/{rollout}",
		Summary: "What each look at a staged rollout saw", Tags: tags,
	}, a.rolloutLooks)
	register(a, huma.Operation{
		OperationID: "rollout-faults", Method: http.MethodGet, Path: "/faults/{rollout}",
		Summary: "The devices that a staged rollout names: check, figure and bound of each", Tags: tags,
		Description: "Those that failed by themselves, and those that the check is about which stopped it.",
	}, a.rolloutFaults)
	a.registerWatch(tags)
}

func (a *API) startRollout(ctx context.Context, in *struct{ Body NewRollout }) (*body[RolloutStarted], error) {
	if err := a.needBroker("a rollout"); err != nil {
		return nil, err
	}
	target, err := rollout.ParseTarget(in.Body.To)
	if err != nil {
		return nil, err
	}
	planner, err := rollout.PlannerOf(in.Body.Plan)
	if err != nil {
		return nil, err
	}
	draft, err := a.cp.Rollout.Draft(ctx, in.Body.Ref, target, planner)
	if err != nil {
		return nil, err
	}
	out := RolloutStarted{Draft: &draft}
	switch {
	case in.Body.DryRun && !draft.Staged():
		out.Devices, err = draft.Forecast.Devices, a.cp.Rollout.ForecastDirect(ctx, &draft)
	case in.Body.DryRun:
		out.Devices = draft.Forecast.Devices
	case draft.Staged():
		out.Started, err = a.cp.Rollout.StartPlan(ctx, draft)
	default:
		out.Draft = nil
		out.Started, err = a.cp.Rollout.Start(ctx, in.Body.Ref, target)
	}
	return answer(out, err)
}

type commandInput struct {
	Model   string `path:"model" doc:"Name of the model" maxLength:"256"`
	Command string `path:"command" enum:"pause,resume,promote,abort"`
}

func (a *API) commandRollout(ctx context.Context, in *commandInput) (*body[rollout.Staged], error) {
	if err := a.needBroker("a rollout"); err != nil {
		return nil, err
	}
	return answer(a.cp.Rollout.Command(ctx, in.Model, plan.Kind(in.Command)))
}

type looksInput struct {
	Rollout int64 `path:"rollout" doc:"Its number" minimum:"1"`
	After   int   `query:"after" doc:"The look before the first one wanted" minimum:"0"`
	Limit   int   `query:"limit" doc:"At most so many" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) rolloutLooks(ctx context.Context, in *looksInput) (*body[Page[rollout.Look]], error) {
	looks, err := a.cp.Rollout.Looks(ctx, in.Rollout, in.After, in.Limit+1)
	return answer(paged(looks, in.Limit, func(l rollout.Look) string { return strconv.Itoa(l.Look) }), err)
}

type faultsInput struct {
	PageOf
	Rollout int64 `path:"rollout" doc:"Its number" minimum:"1"`
}

func (a *API) rolloutFaults(ctx context.Context, in *faultsInput) (*body[Page[plan.Fault]], error) {
	faults, err := a.cp.Rollout.Faults(ctx, in.Rollout, in.After, in.Limit+1)
	return answer(paged(faults, in.Limit, func(f plan.Fault) string { return f.Device }), err)
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
func (c *Client) StartRollout(ctx context.Context, r NewRollout) (RolloutStarted, error) {
	var started RolloutStarted
	err := c.json(ctx, http.MethodPost, escape("rollouts"), nil, r, &started)
	return started, err
}

// CommandRollout pauses, resumes, promotes or aborts the newest staged rollout of
// a model.
func (c *Client) CommandRollout(ctx context.Context, model string, kind plan.Kind) (rollout.Staged, error) {
	var s rollout.Staged
	err := c.json(ctx, http.MethodPost, escape("rollouts", model, string(kind)), nil, nil, &s)
	return s, err
}

// StagedRollout returns where the newest staged rollout of a model stands.
func (c *Client) StagedRollout(ctx context.Context, model string) (rollout.Staged, error) {
	var s rollout.Staged
	err := c.json(ctx, http.MethodGet, escape("rollouts", model, "staged"), nil, nil, &s)
	return s, err
}

// CompareRollout returns what devices told of both versions of the newest staged
// rollout of a model.
func (c *Client) CompareRollout(ctx context.Context, model string) (rollout.Comparison, error) {
	var r rollout.Comparison
	err := c.json(ctx, http.MethodGet, escape("rollouts", model, "comparison"), nil, nil, &r)
	return r, err
}

// RolloutFaults returns the devices that a staged rollout names, all of them.
func (c *Client) RolloutFaults(ctx context.Context, rollout int64) ([]plan.Fault, error) {
	return all(PageOf{Limit: 1000}, func(p PageOf) (Page[plan.Fault], error) {
		var page Page[plan.Fault]
		err := c.json(ctx, http.MethodGet, escape("faults", strconv.FormatInt(rollout, 10)), p.query(), nil, &page)
		return page, err
	})
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
