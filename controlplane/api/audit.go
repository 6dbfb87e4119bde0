package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
)

func (a *API) registerAudit() {
	tags := []string{"audit"}
	register(a, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/audit",
		Summary: "What was changed, by whom, and what devices reported to run; newest first", Tags: tags,
	}, func(ctx context.Context, in *struct {
		Device string `query:"device" doc:"Only entries about this device" maxLength:"256"`
		Model  string `query:"model" doc:"Only entries about this model" maxLength:"256"`
		Before uint64 `query:"before" doc:"Only entries before the one with this number"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}) (*body[[]audit.Entry], error) {
		entries, err := a.cp.Audit(ctx, in.Device, in.Model, in.Before, in.Limit)
		if entries == nil {
			entries = []audit.Entry{}
		}
		return answer(entries, err)
	})
	register(a, huma.Operation{
		OperationID: "verify-audit", Method: http.MethodPost, Path: "/audit/verify",
		Summary: "Check that every entry of the record is what was written, and where it ends", Tags: tags,
		Errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *struct {
		Head string `query:"head" doc:"SEQ:HASH of an earlier end that was kept elsewhere" maxLength:"128"`
	}) (*body[audit.Head], error) {
		var known audit.Head
		if in.Head != "" {
			var err error
			if known, err = audit.ParseHead(in.Head); err != nil {
				return nil, err
			}
		}
		return answer(a.cp.VerifyAudit(ctx, known))
	})
	register(a, huma.Operation{
		OperationID: "device-history", Method: http.MethodGet, Path: "/devices/{device}/history",
		Summary: "Which versions ran on a device, when, released by whom and from which data", Tags: []string{"devices"},
		Errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		Device string    `path:"device" doc:"Id of the device" maxLength:"256"`
		Model  string    `query:"model" doc:"Only this model" maxLength:"256"`
		At     time.Time `query:"at" doc:"Only what ran at this time"`
		Limit  int       `query:"limit" doc:"Without at: versions of each model" minimum:"1" maximum:"1000" default:"100"`
	}) (*body[[]controlplane.Ran], error) {
		return answer(a.cp.History(ctx, controlplane.HistoryQuery{Device: in.Device, Model: in.Model, At: in.At, Limit: in.Limit}))
	})
}

// Audit returns up to limit entries of the record, newest first, before the one
// with the given number (0: the newest), of a device and a model; "" stands for any.
func (c *Client) Audit(ctx context.Context, device, model string, before uint64, limit int) ([]audit.Entry, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	for k, v := range map[string]string{"device": device, "model": model} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if before > 0 {
		q.Set("before", strconv.FormatUint(before, 10))
	}
	var entries []audit.Entry
	err := c.json(ctx, http.MethodGet, escape("audit"), q, nil, &entries)
	return entries, err
}

// VerifyAudit checks the record, and against an earlier end unless head is "".
func (c *Client) VerifyAudit(ctx context.Context, head string) (audit.Head, error) {
	q := url.Values{}
	if head != "" {
		q.Set("head", head)
	}
	var end audit.Head
	err := c.json(ctx, http.MethodPost, escape("audit", "verify"), q, nil, &end)
	return end, err
}

// History returns what ran on a device, of one model unless model is "": at a time,
// or everything if that is zero.
func (c *Client) History(ctx context.Context, device, model string, at time.Time) ([]controlplane.Ran, error) {
	q := url.Values{"limit": {"1000"}}
	if model != "" {
		q.Set("model", model)
	}
	if !at.IsZero() {
		q.Set("at", at.UTC().Format(time.RFC3339Nano))
	}
	var rows []controlplane.Ran
	err := c.json(ctx, http.MethodGet, escape("devices", device, "history"), q, nil, &rows)
	return rows, err
}
