package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (a *API) registerUsers() {
	register(a, huma.Operation{
		OperationID: "add-user", Method: http.MethodPost, Path: "/users", DefaultStatus: http.StatusCreated,
		Summary: "Add a user of predictions; the answer holds the token, once", Tags: []string{"users"},
		Errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *struct{ Body NewUser }) (*body[UserAdded], error) {
		u, token, err := a.cp.Fleet.AddUser(ctx, in.Body.ID)
		if err != nil {
			return nil, err
		}
		return answer(UserAdded{ID: u.ID, Username: "u." + u.ID, Token: token, Broker: a.broker, Fleet: a.cp.Fleet.Name()}, nil)
	})
}

// AddUser adds a user of predictions and returns the token, which is shown once.
func (c *Client) AddUser(ctx context.Context, u NewUser) (UserAdded, error) {
	var added UserAdded
	err := c.json(ctx, http.MethodPost, escape("users"), nil, u, &added)
	return added, err
}
