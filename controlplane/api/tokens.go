package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
)

// A NewAPIToken is a token to make.
type NewAPIToken struct {
	Name string     `json:"name" doc:"Who will hold it; the record of changes names them" maxLength:"256"`
	Role fleet.Role `json:"role" doc:"viewer, releaser or admin" maxLength:"64"`
}

// An APITokenAdded is a token and its secret, which is shown this once.
type APITokenAdded struct {
	fleet.APIToken
	Secret string `json:"secret"`
}

func (a *API) registerTokens() {
	tags := []string{"access"}
	register(a, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: "/tokens",
		Summary: "List the tokens of this API", Tags: tags,
	}, func(ctx context.Context, _ *struct{}) (*body[[]fleet.APIToken], error) {
		return answer(a.cp.Fleet.APITokens(ctx))
	})
	register(a, huma.Operation{
		OperationID: "add-token", Method: http.MethodPost, Path: "/tokens", DefaultStatus: http.StatusCreated,
		Summary: "Make a token of this API; the answer holds the secret, once", Tags: tags, Errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *struct{ Body NewAPIToken }) (*body[APITokenAdded], error) {
		t, secret, err := a.cp.Fleet.AddAPIToken(ctx, in.Body.Name, in.Body.Role)
		return answer(APITokenAdded{t, secret}, err)
	})
	register(a, huma.Operation{
		OperationID: "remove-token", Method: http.MethodDelete, Path: "/tokens/{name}", DefaultStatus: http.StatusNoContent,
		Summary: "Make a token worthless", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" maxLength:"256"`
	}) (*struct{}, error) {
		return nil, a.cp.Fleet.RemoveAPIToken(ctx, in.Name)
	})
	register(a, huma.Operation{
		OperationID: "protect-model", Method: http.MethodPut, Path: "/protections/{model}", DefaultStatus: http.StatusNoContent,
		Summary: "Set how many people must approve a version of a model before another rolls it out", Tags: tags,
	}, func(ctx context.Context, in *struct {
		Model     string `path:"model" maxLength:"256"`
		Approvals int    `query:"approvals" required:"true" doc:"0: none"`
	}) (*struct{}, error) {
		return nil, a.cp.Registry.Protect(ctx, in.Model, in.Approvals)
	})
	register(a, huma.Operation{
		OperationID: "approve-model", Method: http.MethodPost, Path: "/models/{ref}/approval",
		Summary: "Approve a version", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *refInput) (*body[registry.Approval], error) {
		return answer(a.cp.Registry.Approve(ctx, in.Ref))
	})
}

// APITokens lists the tokens of the API.
func (c *Client) APITokens(ctx context.Context) ([]fleet.APIToken, error) {
	var tokens []fleet.APIToken
	err := c.json(ctx, http.MethodGet, escape("tokens"), nil, nil, &tokens)
	return tokens, err
}

// AddAPIToken makes a token and returns it with its secret, which is shown once.
func (c *Client) AddAPIToken(ctx context.Context, t NewAPIToken) (APITokenAdded, error) {
	var added APITokenAdded
	err := c.json(ctx, http.MethodPost, escape("tokens"), nil, t, &added)
	return added, err
}

// RemoveAPIToken makes a token worthless.
func (c *Client) RemoveAPIToken(ctx context.Context, name string) error {
	return c.json(ctx, http.MethodDelete, escape("tokens", name), nil, nil, nil)
}

// ProtectModel sets how many people must approve a version of a model; 0: none.
func (c *Client) ProtectModel(ctx context.Context, model string, approvals int) error {
	return c.json(ctx, http.MethodPut, escape("protections", model), url.Values{"approvals": {strconv.Itoa(approvals)}}, nil, nil)
}

// ApproveModel approves the version that ref means.
func (c *Client) ApproveModel(ctx context.Context, ref string) (registry.Approval, error) {
	var approval registry.Approval
	err := c.json(ctx, http.MethodPost, escape("models", ref, "approval"), nil, nil, &approval)
	return approval, err
}
