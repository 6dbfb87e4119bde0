package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
)

// warningHeader is of an answer in CSV, which has no place for words: one for each
// thing that was done to the rows, percent-encoded.
const warningHeader = "Sandpiper-Warning"

// DataOptions say which columns of data are looked at, and how they are read.
type DataOptions struct {
	Time     string          `json:"time,omitempty" doc:"Column that orders the rows of a group; of a description none: the first column of timestamps"`
	Group    string          `json:"group,omitempty" doc:"Column of the group of a row; none: where there are several files, each is a group"`
	Features []string        `json:"features,omitempty" doc:"Of an export or a picture: columns to write; none: every numeric one"`
	Picture  string          `json:"picture,omitempty" enum:"svg,png" doc:"Of a picture: svg, the default, or png"`
	Data     dataset.Options `json:"data,omitzero" doc:"How the files are read and cleaned; a description only reads them"`
}

func (a *API) registerData() {
	a.registerRecording()
	a.registerPlot()
	a.registerDrift()
	a.registerSets()
	a.registerDataOperation(huma.Operation{
		OperationID: "describe-data", Path: Base + "/data/description",
		Summary: "Describe data: rows, groups, times, and what each column holds",
		Responses: map[string]*huma.Response{"200": {
			Description: "The description",
			Content: map[string]*huma.MediaType{"application/json": {
				Schema: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, typeOf[dataset.Description]()),
			}},
		}},
	}, func(w http.ResponseWriter, files dataset.Files, o DataOptions) error {
		d, err := dataset.Describe(files, o.columns(), o.Data)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d) // a client that has gone
		return nil
	})
	a.registerDataOperation(huma.Operation{
		OperationID: "export-data", Path: Base + "/data/export",
		Summary: "Clean data as a training would, and write the rows as CSV",
		Responses: map[string]*huma.Response{"200": {
			Description: "The group and the time, where there are any, then the features. What was done to the rows is in headers " + warningHeader + ", percent-encoded",
			Content:     map[string]*huma.MediaType{"text/csv": {Schema: binary("CSV")}},
		}},
	}, func(w http.ResponseWriter, files dataset.Files, o DataOptions) error {
		t, err := dataset.ReadFiles(files, o.columns(), o.Data)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		for _, warning := range t.Warnings() {
			w.Header().Add(warningHeader, url.PathEscape(warning))
		}
		_ = t.WriteCSV(w) // a client that has gone
		return nil
	})
}

func (a *API) registerPlot() {
	a.registerDataOperation(huma.Operation{
		OperationID: "plot-data", Path: Base + "/data/plot",
		Summary: "Draw every column of data over its rows",
		Responses: map[string]*huma.Response{"200": {
			Description: "The picture",
			Content:     map[string]*huma.MediaType{"image/svg+xml": {Schema: binary("SVG")}, "image/png": {Schema: binary("PNG")}},
		}},
	}, func(w http.ResponseWriter, files dataset.Files, o DataOptions) error {
		if o.Picture != "" && o.Picture != "svg" && o.Picture != "png" {
			return newProblem(http.StatusUnprocessableEntity, CodeUsage, fmt.Sprintf("picture %.40q; there are svg and png", o.Picture))
		}
		t, err := dataset.ReadFiles(files, o.columns(), o.Data)
		if err != nil {
			return err
		}
		c, err := t.Chart()
		if err != nil {
			return err
		}
		if o.Picture == "png" {
			w.Header().Set("Content-Type", "image/png")
			_ = c.WritePNG(w) // a client that has gone
			return nil
		}
		w.Header().Set("Content-Type", "image/svg+xml")
		_ = c.WriteSVG(w) // likewise
		return nil
	})
}

type recordInput struct {
	Topic string `query:"topic" required:"true" doc:"sp1/FLEET/d/DEVICE/s/STREAM, with + for any device or stream" maxLength:"256"`
	For   string `query:"for" required:"true" doc:"How long, such as 90s or 24h" maxLength:"32"`
}

// recorded is how the text of a recording ends: a comment of line protocol.
const recorded = "# recorded "

func (a *API) registerRecording() {
	huma.Register(a.huma, huma.Operation{
		OperationID: "record-samples", Method: http.MethodGet, Path: Base + "/data/recording", Tags: []string{"data"},
		Summary: "Record the samples of a topic as InfluxDB line protocol",
		Description: "Lines STREAM,device=DEVICE NAME=VALUE,… NANOSECONDS as the samples come. The last line is a comment that begins with \"" +
			recorded + "\" and counts them; where it is missing, the recording broke off.",
		Responses: map[string]*huma.Response{"200": {Description: "The samples", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}}},
		Errors:    []int{http.StatusUnauthorized, http.StatusUnprocessableEntity, http.StatusServiceUnavailable, http.StatusInternalServerError},
	}, func(_ context.Context, in *recordInput) (*huma.StreamResponse, error) {
		if err := a.needBroker("a recording"); err != nil {
			return nil, err
		}
		d, err := time.ParseDuration(in.For)
		if err != nil || d <= 0 {
			return nil, newProblem(http.StatusUnprocessableEntity, CodeUsage, fmt.Sprintf("for %q is no time above 0; write 90s, 10m or 24h", in.For))
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			_, w := humago.Unwrap(ctx)
			f := &flushed{w: w}
			until, cancel := context.WithTimeout(ctx.Context(), d)
			defer cancel()
			r, err := a.cp.Record(until, in.Topic, f)
			switch {
			case err != nil && !f.begun:
				writeProblem(w, a.problem("record-samples", err))
			case err == nil:
				_, _ = fmt.Fprintf(f, "%s%d samples; %d messages were none\n", recorded, r.Samples, r.Unreadable) // a client that has gone
			default:
				_ = a.problem("record-samples", err) // into the log; the client sees that the end is missing
			}
		}}, nil
	})
}

// flushed sends what is written at once.
type flushed struct {
	w     http.ResponseWriter
	begun bool
}

func (f *flushed) Write(b []byte) (int, error) {
	if !f.begun {
		f.begun = true
		f.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	n, err := f.w.Write(b)
	if err == nil {
		_ = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

func (o DataOptions) columns() dataset.Columns {
	return dataset.Columns{Time: o.Time, Group: o.Group, Features: o.Features}
}

// registerDataOperation registers an operation on uploaded data.
func (a *API) registerDataOperation(op huma.Operation, do func(http.ResponseWriter, dataset.Files, DataOptions) error) {
	parts := &huma.RequestBody{Required: true}
	op.Method, op.RequestBody, op.Tags = http.MethodPost, parts, []string{"data"}
	op.Description = uploadDescription(a.maxUpload, "options, data and test (each once for each file; test to compare data with)")
	op.Errors = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusInternalServerError}
	huma.Register(a.huma, op, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			_, w := humago.Unwrap(ctx)
			if err := a.onData(ctx, w, do); err != nil {
				writeProblem(w, a.problem(op.OperationID, err))
			}
		}}, nil
	})
	describeParts(parts, []string{partOptions, partData}, map[string]*huma.Schema{
		partOptions: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, typeOf[DataOptions]()),
		partData:    dataFiles(),
	})
}

func (a *API) onData(hc huma.Context, w http.ResponseWriter, do func(http.ResponseWriter, dataset.Files, DataOptions) error) error {
	openUpload(hc)
	p, err := a.newParts(hc)
	if err != nil {
		return err
	}
	defer p.drain()
	var o DataOptions
	if err := p.options(&o); err != nil {
		return err
	}
	files, err := p.heldOutFiles()
	if err != nil {
		return err
	}
	return do(w, files, o)
}

// DescribeData describes files.
func (c *Client) DescribeData(ctx context.Context, o DataOptions, files []File) (d dataset.Description, err error) {
	rq, wait := multipartCall(escape("data", "description"), append([]part{{name: partOptions, json: o}}, dataParts(files)...))
	err = c.decode(ctx, rq, &d)
	if broken := wait(); broken != nil {
		return d, broken
	}
	return d, err
}

// ExportData writes the cleaned rows of files to w as CSV and returns what was done
// to them, in plain words.
func (c *Client) ExportData(ctx context.Context, w io.Writer, o DataOptions, files []File) (warnings []string, err error) {
	return c.madeOfData(ctx, w, "export", "text/csv", o, files)
}

// PlotData writes the picture of files to w.
func (c *Client) PlotData(ctx context.Context, w io.Writer, o DataOptions, files []File) error {
	_, err := c.madeOfData(ctx, w, "plot", "image/svg+xml, image/png", o, files)
	return err
}

// madeOfData writes what an operation on files answers to w.
func (c *Client) madeOfData(ctx context.Context, w io.Writer, operation, accept string, o DataOptions, files []File) (warnings []string, err error) {
	rq, wait := multipartCall(escape("data", operation), append([]part{{name: partOptions, json: o}}, dataParts(files)...))
	rq.accept = accept + ", application/problem+json"
	res, err := c.do(ctx, rq)
	if err != nil {
		return nil, errors.Join(wait(), err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(w, res.Body); err != nil {
		return nil, errors.Join(wait(), c.transportError(ctx, err))
	}
	for _, v := range res.Header.Values(warningHeader) {
		if text, err := url.PathUnescape(v); err == nil {
			warnings = append(warnings, text)
		}
	}
	return warnings, wait()
}

// ErrBrokeOff: a recording that ended before its time.
var ErrBrokeOff = errors.New("the recording broke off")

// Record writes the samples of a topic to w as InfluxDB line protocol, whole lines
// only, and returns what the control plane says of them at the end, such as "12
// samples; 0 messages were none". ErrBrokeOff if it does not come to the end.
func (c *Client) Record(ctx context.Context, w io.Writer, topic string, d time.Duration) (summary string, err error) {
	res, err := c.do(ctx, call{
		method: http.MethodGet, path: escape("data", "recording"), accept: "text/plain, application/problem+json",
		query: url.Values{"topic": {topic}, "for": {d.String()}},
	})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			return "", fmt.Errorf("%w: %s", ErrBrokeOff, c.where)
		}
		if text, ok := strings.CutPrefix(line, recorded); ok {
			return strings.TrimSpace(text), nil
		}
		if _, err := io.WriteString(w, line); err != nil {
			return "", err
		}
	}
}
