package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (a *API) registerServer() {
	register(a, huma.Operation{
		OperationID: "server", Method: http.MethodGet, Path: "/server",
		Summary: "The control plane that answers", Tags: []string{"server"},
	}, func(context.Context, *struct{}) (*body[Server], error) {
		return answer(Server{
			Version: a.version, Fleet: a.cp.Fleet.Name(), Broker: a.broker, Serving: a.serving, Connected: a.cp.Connected(),
		}, nil)
	})
}

// Server describes the control plane that answers.
func (c *Client) Server(ctx context.Context) (Server, error) {
	var s Server
	err := c.json(ctx, http.MethodGet, escape("server"), nil, nil, &s)
	return s, err
}
