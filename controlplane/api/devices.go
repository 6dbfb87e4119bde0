package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
)

type deviceInput struct {
	Device string `path:"device" doc:"Id of the device" maxLength:"256"`
}

type devicesInput struct {
	PageOf
	Filter string `query:"filter" doc:"Only devices for which this is true, such as site=oslo and seen<5m" maxLength:"1024"`
}

func (a *API) registerDevices() {
	tags := []string{"devices"}
	register(a, huma.Operation{
		OperationID: "list-devices", Method: http.MethodGet, Path: "/devices",
		Summary: "List devices in the order of their ids", Tags: tags,
	}, a.listDevices)
	register(a, huma.Operation{
		OperationID: "add-device", Method: http.MethodPost, Path: "/devices", DefaultStatus: http.StatusCreated,
		Summary: "Add a device; the answer holds all that its agent needs, the token once", Tags: tags,
		Errors: []int{http.StatusConflict},
	}, a.addDevice)
	register(a, huma.Operation{
		OperationID: "show-device", Method: http.MethodGet, Path: "/devices/{device}",
		Summary: "A device and what it last reported", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *deviceInput) (*body[fleet.Device], error) {
		return answer(a.cp.Fleet.Device(ctx, in.Device))
	})
	register(a, huma.Operation{
		OperationID: "remove-device", Method: http.MethodDelete, Path: "/devices/{device}", DefaultStatus: http.StatusNoContent,
		Summary: "Forget a device, end its connection and refuse its token", Tags: tags, Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *deviceInput) (*struct{}, error) {
		return nil, a.cp.RemoveDevice(ctx, in.Device)
	})
	register(a, huma.Operation{
		OperationID: "renew-device-token", Method: http.MethodPost, Path: "/devices/{device}/token", DefaultStatus: http.StatusCreated,
		Summary: "Give a device a new token, which the answer holds, once; the old one is refused and its connection ends",
		Tags:    tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *deviceInput) (*body[DeviceToken], error) {
		token, err := a.cp.RenewToken(ctx, in.Device)
		return answer(DeviceToken{Device: in.Device, Token: token}, err)
	})
	register(a, huma.Operation{
		OperationID: "show-inputs", Method: http.MethodGet, Path: "/devices/{device}/inputs",
		Summary: "How far the inputs of a device's models have drifted from the rows they were trained on", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *deviceInput) (*body[[]controlplane.InputDrift], error) {
		return answer(a.cp.Inputs(ctx, in.Device))
	})
}

// A DeviceToken is what a device connects with from now on.
type DeviceToken struct {
	Device string `json:"device"`
	Token  string `json:"token"`
}

// RemoveDevice forgets a device.
func (c *Client) RemoveDevice(ctx context.Context, id string) error {
	return c.json(ctx, http.MethodDelete, escape("devices", id), nil, nil, nil)
}

// RenewToken gives a device a new token, which is shown once.
func (c *Client) RenewToken(ctx context.Context, id string) (DeviceToken, error) {
	var t DeviceToken
	err := c.json(ctx, http.MethodPost, escape("devices", id, "token"), nil, nil, &t)
	return t, err
}

func (a *API) listDevices(ctx context.Context, in *devicesInput) (*body[Page[fleet.Device]], error) {
	p, err := a.cp.Fleet.List(ctx, fleet.Query{Filter: in.Filter, After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	return answer(Page[fleet.Device]{Items: p.Devices, Next: p.Next}, nil)
}

func (a *API) addDevice(ctx context.Context, in *struct{ Body NewDevice }) (*body[DeviceAdded], error) {
	d, token, err := a.cp.AddDevice(ctx, in.Body.ID, in.Body.Labels)
	if err != nil {
		return nil, err
	}
	return answer(DeviceAdded{
		Device: d, Fleet: a.cp.Fleet.Name(), Broker: a.broker,
		Username: "d." + d.ID, Token: token, Root: a.cp.RootDocument(),
	}, nil)
}

// Devices lists the devices, only those that filter selects unless it is "".
func (c *Client) Devices(ctx context.Context, filter string) ([]fleet.Device, error) {
	return all(PageOf{Limit: 1000}, func(p PageOf) (Page[fleet.Device], error) {
		q := p.query()
		if filter != "" {
			q.Set("filter", filter)
		}
		var page Page[fleet.Device]
		err := c.json(ctx, http.MethodGet, escape("devices"), q, nil, &page)
		return page, err
	})
}

// Inputs tells how far the inputs of a device's models have drifted.
func (c *Client) Inputs(ctx context.Context, id string) (d []controlplane.InputDrift, err error) {
	err = c.json(ctx, http.MethodGet, escape("devices", id, "inputs"), nil, nil, &d)
	return d, err
}

// Device returns one device and what it last reported.
func (c *Client) Device(ctx context.Context, id string) (fleet.Device, error) {
	var d fleet.Device
	err := c.json(ctx, http.MethodGet, escape("devices", id), nil, nil, &d)
	return d, err
}

// AddDevice adds a device. The answer holds all that its agent needs.
func (c *Client) AddDevice(ctx context.Context, d NewDevice) (DeviceAdded, error) {
	var added DeviceAdded
	err := c.json(ctx, http.MethodPost, escape("devices"), nil, d, &added)
	return added, err
}
