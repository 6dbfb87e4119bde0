package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
)

const (
	// watchEvery is how often a watched rollout is looked at.
	watchEvery = time.Second
	// watchIdle is how long nothing is sent at most: a comment keeps the connection.
	watchIdle = 15 * time.Second
	// maxWatchEvent is the largest event that the client takes.
	maxWatchEvent = 1 << 20
)

// registerWatch registers the stream of server-sent events.
func (a *API) registerWatch(tags []string) {
	schema := huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, typeOf[rollout.Status]())
	huma.Register(a.huma, huma.Operation{
		OperationID: "watch-rollout", Method: http.MethodGet, Path: Base + "/rollouts/{model}/events",
		Summary: "How far the devices of a model are, each time that changes", Tags: tags,
		Description: "Server-sent events of type status, each the answer of rollout-status with at most one device. The first comes at once.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The events", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: schema}},
		}},
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusInternalServerError},
	}, func(ctx context.Context, in *struct {
		Model string `path:"model" doc:"Name of the model" maxLength:"256"`
	}) (*huma.StreamResponse, error) {
		first, err := a.watched(ctx, in.Model)
		if err != nil {
			return nil, a.problem("watch-rollout", err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) { a.watch(hc, in.Model, first) }}, nil
	})
}

func (a *API) watched(ctx context.Context, model string) ([]byte, error) {
	s, err := a.cp.Rollout.Status(ctx, model, rollout.Query{Limit: 1})
	if err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// watch sends the state of a rollout whenever it is another, until the client
// goes.
func (a *API) watch(hc huma.Context, model string, state []byte) {
	hc.SetHeader("Content-Type", "text/event-stream")
	hc.SetHeader("Cache-Control", "no-store")
	w := hc.BodyWriter()
	send := func(format string, args ...any) bool {
		_, err := fmt.Fprintf(w, format, args...)
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		return err == nil
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	ctx, sent, quiet := hc.Context(), []byte(nil), time.Duration(0)
	for {
		ok := true
		switch {
		case !bytes.Equal(state, sent):
			ok, sent, quiet = send("event: status\ndata: %s\n\n", state), state, 0
		case quiet >= watchIdle:
			ok, quiet = send(": nothing new\n\n"), 0
		}
		if !ok {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			quiet += watchEvery
		}
		next, err := a.watched(ctx, model)
		if err != nil {
			return // the client comes back, and is told why
		}
		state = next
	}
}

// WatchRollout calls f with the state of a model's rollouts, now and each time it
// changes, until f returns false or an error, or ctx ends.
func (c *Client) WatchRollout(ctx context.Context, model string, f func(rollout.Status) (more bool, err error)) error {
	res, err := c.do(ctx, call{method: http.MethodGet, path: escape("rollouts", model, "events"), accept: "text/event-stream"})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxWatchEvent)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		var s rollout.Status
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("%w: %s sent no state of a rollout: %w", ErrUnreachable, c.where, err)
		}
		more, err := f(s)
		if err != nil || !more {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return c.transportError(ctx, err)
	}
	return fmt.Errorf("%w: %s ended the stream", ErrUnreachable, c.where)
}
