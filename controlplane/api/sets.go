package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/recording"
)

// A setRef names a data set that the control plane keeps, and says which of its rows
// are meant: all there are, where Cut is zero.
type setRef struct {
	Set string        `json:"set"`
	Cut recording.Cut `json:"cut,omitzero"`
}

type setInput struct {
	Name string `path:"name" doc:"Name of the data set" maxLength:"48"`
}

type startInput struct {
	Name string `path:"name" doc:"Name of the data set" maxLength:"48"`
	Body StartRecording
}

// StartRecording says what is recorded into a data set.
type StartRecording struct {
	Topic    string `json:"topic" doc:"sp1/FLEET/d/DEVICE/s/STREAM, with + for any device or stream" maxLength:"256"`
	For      string `json:"for,omitempty" doc:"How long, such as 90s or 24h; none: until it is stopped" maxLength:"32"`
	MaxBytes int64  `json:"max_bytes,omitempty" doc:"Of the whole set, whose oldest rows give way; none: 1 GiB, or what it was" minimum:"0"`
}

func (a *API) registerSets() {
	tags := []string{"data"}
	register(a, huma.Operation{
		OperationID: "list-data-sets", Method: http.MethodGet, Path: "/data/sets",
		Summary: "The data sets that samples are recorded into", Tags: tags,
	}, func(context.Context, *struct{}) (*body[[]recording.Set], error) {
		return answer(a.cp.Sets.List(), nil)
	})
	register(a, huma.Operation{
		OperationID: "show-data-set", Method: http.MethodGet, Path: "/data/sets/{name}",
		Summary: "A data set", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(_ context.Context, in *setInput) (*body[recording.Set], error) {
		return answer(a.cp.Sets.Show(in.Name))
	})
	register(a, huma.Operation{
		OperationID: "record-data-set", Method: http.MethodPost, Path: "/data/sets/{name}/start",
		Summary: "Record the samples of a topic into a data set, which is made if there is none", Tags: tags,
		Description: "It goes on while the control plane serves, over its restarts too.", Errors: []int{http.StatusConflict, http.StatusServiceUnavailable},
	}, a.startRecording)
	register(a, huma.Operation{
		OperationID: "stop-data-set", Method: http.MethodPost, Path: "/data/sets/{name}/stop",
		Summary: "Stop recording into a data set", Tags: tags, Errors: []int{http.StatusNotFound},
		Description: "The answer comes when what came is on disk. A set that is not recorded stays so.",
	}, func(ctx context.Context, in *setInput) (*body[recording.Set], error) {
		return answer(a.cp.StopRecording(ctx, in.Name))
	})
	register(a, huma.Operation{
		OperationID: "remove-data-set", Method: http.MethodDelete, Path: "/data/sets/{name}", DefaultStatus: http.StatusNoContent,
		Summary: "Stop recording into a data set and remove it", Tags: tags, Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *setInput) (*struct{}, error) {
		return nil, a.cp.RemoveSet(ctx, in.Name)
	})
}

func (a *API) startRecording(ctx context.Context, in *startInput) (*body[recording.Set], error) {
	if err := a.needBroker("a recording"); err != nil {
		return nil, err
	}
	d := time.Duration(0)
	if in.Body.For != "" {
		var err error
		if d, err = time.ParseDuration(in.Body.For); err != nil || d <= 0 {
			return nil, newProblem(http.StatusUnprocessableEntity, CodeUsage, fmt.Sprintf("for %q is no time above 0; write 90s, 10m or 24h", in.Body.For))
		}
	}
	return answer(a.cp.StartRecording(ctx, in.Name, in.Body.Topic, d, in.Body.MaxBytes))
}

// set returns the data set that the part of that name names, nil without one. It is
// opened when its turn comes.
func (p *parts) set() (dataset.Files, error) {
	part, err := p.next(partSet)
	if part == nil || err != nil {
		return nil, err
	}
	var ref setRef
	if err := decodeJSON(part, &ref); err != nil {
		return nil, err
	}
	if p.cut != nil && p.cut.Set == ref.Set { // of a run that goes on
		ref = *p.cut
	}
	r, cut, err := p.sets.Read(ref.Set, ref.Cut)
	if err != nil {
		return nil, err
	}
	p.cut = &setRef{Set: ref.Set, Cut: cut}
	return func(yield func(dataset.File, error) bool) {
		defer r.Close()
		yield(dataset.File{Name: ref.Set + ".lp", Reader: r}, nil)
	}, nil
}

// DataSets lists the data sets that the control plane keeps.
func (c *Client) DataSets(ctx context.Context) (sets []recording.Set, err error) {
	err = c.json(ctx, http.MethodGet, escape("data", "sets"), nil, nil, &sets)
	return sets, err
}

// DataSet shows a data set.
func (c *Client) DataSet(ctx context.Context, name string) (s recording.Set, err error) {
	err = c.json(ctx, http.MethodGet, escape("data", "sets", name), nil, nil, &s)
	return s, err
}

// RecordDataSet records into a data set until it is stopped.
func (c *Client) RecordDataSet(ctx context.Context, name string, o StartRecording) (s recording.Set, err error) {
	err = c.json(ctx, http.MethodPost, escape("data", "sets", name, "start"), nil, o, &s)
	return s, err
}

// StopDataSet stops recording into a data set.
func (c *Client) StopDataSet(ctx context.Context, name string) (s recording.Set, err error) {
	err = c.json(ctx, http.MethodPost, escape("data", "sets", name, "stop"), nil, nil, &s)
	return s, err
}

// RemoveDataSet removes a data set.
func (c *Client) RemoveDataSet(ctx context.Context, name string) error {
	res, err := c.do(ctx, call{method: http.MethodDelete, path: escape("data", "sets", name)})
	if err != nil {
		return err
	}
	return res.Body.Close()
}
