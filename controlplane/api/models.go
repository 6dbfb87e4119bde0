package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

type refInput struct {
	Ref string `path:"ref" doc:"NAME (the latest), NAME:vN or NAME:ALIAS" maxLength:"256"`
}

type versionsInput struct {
	PageOf
	Name string `query:"name" doc:"Only versions of this model" maxLength:"256"`
}

func (a *API) registerModels() {
	tags := []string{"models"}
	notFound := []int{http.StatusNotFound}
	register(a, huma.Operation{
		OperationID: "list-models", Method: http.MethodGet, Path: "/models",
		Summary: "List versions in the order of name and number", Tags: tags,
	}, a.listModels)
	register(a, huma.Operation{
		OperationID: "show-model", Method: http.MethodGet, Path: "/models/{ref}",
		Summary: "A version, what it reads and how it was made", Tags: tags, Errors: notFound,
	}, a.showModel)
	register(a, huma.Operation{
		OperationID: "verify-model", Method: http.MethodPost, Path: "/models/{ref}/verify",
		Summary: "Check a version's signature, size caps, digest and golden vectors", Tags: tags,
		Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, a.verifyModel)
	register(a, huma.Operation{
		OperationID: "sign-model", Method: http.MethodPost, Path: "/models/{ref}/sign",
		Summary: "Sign a version with the release key of the control plane", Tags: tags,
		Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *refInput) (*body[Version], error) {
		return version(a.cp.Sign(ctx, in.Ref))
	})
	register(a, huma.Operation{
		OperationID: "compare-models", Method: http.MethodGet, Path: "/models/{ref}/compared/{to}",
		Summary: "Set a version beside another: metrics, bytes to fetch, tensors", Tags: tags, Errors: notFound,
	}, func(ctx context.Context, in *struct {
		Ref string `path:"ref" doc:"The version that devices have" maxLength:"256"`
		To  string `path:"to" doc:"The other one" maxLength:"256"`
	}) (*body[registry.Comparison], error) {
		return answer(a.cp.Registry.Compare(ctx, in.Ref, in.To))
	})
	register(a, huma.Operation{
		OperationID: "prune-model", Method: http.MethodPost, Path: "/models/{ref}/pruning",
		Summary: "Remove the bytes of old versions that no device has or could return to", Tags: tags, Errors: notFound,
	}, func(ctx context.Context, in *struct {
		Ref  string `path:"ref" doc:"Name of the model" maxLength:"256"`
		Keep int    `query:"keep" required:"true" doc:"How many of the newest versions stay whatever else"`
		Dry  bool   `query:"dry" doc:"Only say what would be removed"`
	}) (*body[registry.Pruning], error) {
		return answer(a.cp.Registry.Prune(ctx, in.Ref, in.Keep, in.Dry))
	})
	register(a, huma.Operation{
		OperationID: "tag-model", Method: http.MethodPut, Path: "/models/{ref}/aliases/{alias}",
		Summary: "Move an alias to a version", Tags: tags, Errors: notFound,
	}, func(ctx context.Context, in *struct {
		Ref   string `path:"ref" doc:"NAME (the latest), NAME:vN or NAME:ALIAS" maxLength:"256"`
		Alias string `path:"alias" doc:"The name that moves to the version" maxLength:"256"`
	}) (*body[Version], error) {
		return version(a.cp.Registry.Tag(ctx, in.Ref, in.Alias))
	})
	register(a, huma.Operation{
		OperationID: "feed-model", Method: http.MethodPost, Path: "/models/{ref}/pipeline", DefaultStatus: http.StatusCreated,
		Summary: "Add a version that is this one, fed by a pipeline", Tags: tags,
		Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, in *struct {
		Ref  string `path:"ref" doc:"NAME (the latest), NAME:vN or NAME:ALIAS" maxLength:"256"`
		Body artifact.Pipeline
	}) (*body[Version], error) {
		return version(a.cp.Registry.Feed(ctx, in.Ref, &in.Body))
	})
	a.registerModelFiles()
}

func (a *API) registerModelFiles() {
	file := map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}
	register(a, huma.Operation{
		OperationID: "export-model", Method: http.MethodGet, Path: "/models/{ref}/file",
		Summary: "A version as one signed file, installable offline on a device", Tags: []string{"models"},
		Errors:    []int{http.StatusNotFound, http.StatusConflict},
		Responses: map[string]*huma.Response{"200": {Description: "The file", Content: file}},
	}, a.exportModel)
	upload := new(huma.RequestBody)
	register(a, huma.Operation{
		OperationID: "import-model", Method: http.MethodPost, Path: "/models", DefaultStatus: http.StatusCreated,
		Summary:     "Add the version in an exported file",
		Description: fmt.Sprintf("The body is the file, at most %d bytes.", MaxModelFile),
		Tags:        []string{"models"}, RequestBody: upload, MaxBodyBytes: MaxModelFile, BodyReadTimeout: -1,
		Errors: []int{http.StatusConflict, http.StatusRequestEntityTooLarge},
	}, func(ctx context.Context, in *struct {
		RawBody []byte `contentType:"application/octet-stream"`
	}) (*body[Version], error) {
		return version(a.cp.Registry.Import(ctx, bytes.NewReader(in.RawBody)))
	})
	upload.Required = false // an empty file is a bad file, and Import says so better than huma
}

func (a *API) listModels(ctx context.Context, in *versionsInput) (*body[Page[Version]], error) {
	p, err := a.cp.Registry.List(ctx, in.Name, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	page := Page[Version]{Items: make([]Version, len(p.Versions)), Next: p.Next}
	for i, v := range p.Versions {
		v.Report = nil
		page.Items[i] = asVersion(v)
	}
	return answer(page, nil)
}

func (a *API) showModel(ctx context.Context, in *refInput) (*body[Version], error) {
	r, err := a.cp.Registry.Resolve(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	v := asVersion(r)
	switch m, err := a.cp.Registry.Model(ctx, r.Ref()); {
	case errors.Is(err, registry.ErrPruned):
		v.Pruned = true
	case err != nil:
		return nil, err
	default:
		v.Schema = schema(m)
	}
	if v.Transfers, err = a.cp.Registry.Transfers(ctx, r.Digest); err != nil {
		return nil, err
	}
	if r.Report != nil {
		report, err := train.ParseReport(r.Report)
		if err != nil {
			return nil, err
		}
		if v.Report, err = reportJSON(*report, r.Ref()); err != nil {
			return nil, err
		}
	}
	return answer(v, nil)
}

func (a *API) verifyModel(ctx context.Context, in *refInput) (*body[Verification], error) {
	v, err := a.cp.Registry.Verify(ctx, in.Ref)
	if err != nil {
		return nil, err
	}
	return answer(Verification{Ref: v.Version.Ref(), Digest: v.Digest, Golden: v.Golden}, nil)
}

// exportModel answers with the file. It is made in memory, for a version that
// cannot be exported must not begin an answer of class 2xx.
func (a *API) exportModel(ctx context.Context, in *refInput) (*huma.StreamResponse, error) {
	var file bytes.Buffer
	if _, err := a.cp.Registry.Export(ctx, in.Ref, &file); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/octet-stream")
		ctx.SetStatus(http.StatusOK)
		_, _ = ctx.BodyWriter().Write(file.Bytes()) // a client that has gone
	}}, nil
}

// version is the answer of an operation on one version.
func version(v registry.Version, err error) (*body[Version], error) {
	return answer(asVersion(v), err)
}

func asVersion(v registry.Version) Version {
	return Version{Ref: v.Ref(), Version: v, Lineage: Lineage{Data: v.Lineage.Data, Run: v.Lineage.Run, Parent: v.Lineage.Parent, Forced: v.Lineage.Forced}}
}

// schema describes what a model reads.
func schema(m *artifact.Model) *Schema {
	s := &Schema{
		Window: m.Schema.Window, Horizon: m.Schema.Horizon, Stream: m.Schema.State == "stream", Pipeline: m.Pipeline, Prepare: m.Schema.Prepare,
		MinWindow: m.Schema.MinWindow, Labels: m.Schema.Labels, Detector: m.Schema.Detector,
	}
	for _, c := range m.Schema.Features {
		s.Features = append(s.Features, Column{c.Name, c.Unit})
	}
	for _, c := range m.Schema.Targets {
		s.Targets = append(s.Targets, Column{c.Name, c.Unit})
	}
	layers := make([]string, len(m.Graph.Layers))
	for i, l := range m.Graph.Layers {
		layers[i] = fmt.Sprintf("%s(%d)", l.Kind, l.Units)
	}
	s.Layers = strings.Join(layers, " ")
	return s
}

// Versions lists the versions of one model, or of all if name is "".
func (c *Client) Versions(ctx context.Context, name string) ([]Version, error) {
	return all(PageOf{Limit: 1000}, func(p PageOf) (Page[Version], error) {
		q := p.query()
		if name != "" {
			q.Set("name", name)
		}
		var page Page[Version]
		err := c.json(ctx, http.MethodGet, escape("models"), q, nil, &page)
		return page, err
	})
}

// Version returns the version that ref means.
func (c *Client) Version(ctx context.Context, ref string) (Version, error) {
	var v Version
	err := c.json(ctx, http.MethodGet, escape("models", ref), nil, nil, &v)
	return v, err
}

// Feed adds a version that is the one of ref, fed by p.
func (c *Client) Feed(ctx context.Context, ref string, p artifact.Pipeline) (Version, error) {
	var v Version
	err := c.json(ctx, http.MethodPost, escape("models", ref, "pipeline"), nil, p, &v)
	return v, err
}

// Verify checks a stored version.
func (c *Client) Verify(ctx context.Context, ref string) (Verification, error) {
	var v Verification
	err := c.json(ctx, http.MethodPost, escape("models", ref, "verify"), nil, nil, &v)
	return v, err
}

// Sign signs a version with the release key of the control plane.
func (c *Client) Sign(ctx context.Context, ref string) (Version, error) {
	var v Version
	err := c.json(ctx, http.MethodPost, escape("models", ref, "sign"), nil, nil, &v)
	return v, err
}

// Tag moves an alias to the version that ref means.
func (c *Client) Tag(ctx context.Context, ref, alias string) (Version, error) {
	var v Version
	err := c.json(ctx, http.MethodPut, escape("models", ref, "aliases", alias), nil, nil, &v)
	return v, err
}

// Export returns a version as one signed file. The caller closes it.
func (c *Client) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	res, err := c.do(ctx, call{method: http.MethodGet, path: escape("models", ref, "file"), accept: "application/octet-stream"})
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// Import adds the version in an exported file.
func (c *Client) Import(ctx context.Context, file io.Reader) (Version, error) {
	var v Version
	err := c.upload(ctx, call{method: http.MethodPost, path: escape("models"), contentType: "application/octet-stream", body: file}, &v)
	return v, err
}

// CompareModels sets the version to beside from, which devices have.
func (c *Client) CompareModels(ctx context.Context, from, to string) (registry.Comparison, error) {
	var out registry.Comparison
	err := c.json(ctx, http.MethodGet, escape("models", from, "compared", to), nil, nil, &out)
	return out, err
}

// PruneModel removes the bytes of versions of a model but the newest keep and those
// that something needs; dry only says which.
func (c *Client) PruneModel(ctx context.Context, model string, keep int, dry bool) (registry.Pruning, error) {
	var out registry.Pruning
	q := url.Values{"keep": {strconv.Itoa(keep)}, "dry": {strconv.FormatBool(dry)}}
	err := c.json(ctx, http.MethodPost, escape("models", model, "pruning"), q, nil, &out)
	return out, err
}
