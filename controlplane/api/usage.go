package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
)

// A UsageQuery says what to sum of the predictions that devices counted.
type UsageQuery struct {
	By     string `query:"by" doc:"What to sum by, with commas between: day, device, model, user; empty for one sum" maxLength:"64"`
	From   string `query:"from" doc:"First day, YYYY-MM-DD, UTC" maxLength:"16"`
	To     string `query:"to" doc:"Last day, YYYY-MM-DD, UTC" maxLength:"16"`
	Device string `query:"device" doc:"Only of this device" maxLength:"256"`
	Model  string `query:"model" doc:"Only of this model" maxLength:"256"`
	User   string `query:"user" doc:"Only of this user" maxLength:"256"`
}

func (a *API) registerUsage() {
	register(a, huma.Operation{
		OperationID: "list-usage", Method: http.MethodGet, Path: "/usage",
		Summary: "How often devices predicted, for whom, in the order of what it is summed by", Tags: []string{"devices"},
	}, func(ctx context.Context, in *struct {
		UsageQuery
		PageOf
	}) (*body[Page[fleet.Usage]], error) {
		q := fleet.UsageQuery{From: in.From, To: in.To, Device: in.Device, Model: in.Model, User: in.User, After: in.After, Limit: in.Limit}
		if in.By != "" {
			q.By = strings.Split(in.By, ",")
		}
		sums, next, err := a.cp.Fleet.Usage(ctx, q)
		return answer(Page[fleet.Usage]{Items: sums, Next: next}, err)
	})
}

// Usage returns all sums that q asks for.
func (c *Client) Usage(ctx context.Context, u UsageQuery) ([]fleet.Usage, error) {
	return all(PageOf{Limit: 1000}, func(p PageOf) (Page[fleet.Usage], error) {
		q := p.query()
		for key, value := range map[string]string{"by": u.By, "from": u.From, "to": u.To, "device": u.Device, "model": u.Model, "user": u.User} {
			if value != "" {
				q.Set(key, value)
			}
		}
		var page Page[fleet.Usage]
		err := c.json(ctx, http.MethodGet, escape("usage"), q, nil, &page)
		return page, err
	})
}
