package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/recording"
)

// A File is a file argument of the client: its name, a path with slashes that a
// data set makes groups and columns of and that is never opened, and how to open it when its turn to be sent comes.
type File struct {
	Name string
	Open func() (io.ReadCloser, error)
	Part string // that it is held out for, dataset.PartValidation or dataset.PartTest; of training only, and behind the data
	// Set is the name of a data set that the control plane keeps, in place of a file.
	Set string
}

// dataParts are the parts of files of data.
func dataParts(files []File) []part {
	list := make([]part, len(files))
	for i := range files {
		if files[i].Set != "" {
			list[i] = part{name: partSet, json: setRef{Set: files[i].Set}}
			continue
		}
		list[i] = part{name: cmp.Or(files[i].Part, partData), file: &files[i]}
	}
	return list
}

// A part is one part of a multipart/form-data request that a client sends.
type part struct {
	name string
	json any   // or
	file *File // this
}

// Names of parts. They come in this order, each at most once but data and those behind,
// which come once for each file.
const (
	partOptions    = "options"
	partTruth      = "truth"
	partSet        = "set" // in place of data
	partData       = "data"
	partValidation = dataset.PartValidation
	partTest       = dataset.PartTest
)

// uploadDescription documents a multipart request.
func uploadDescription(maxUpload int64, parts string) string {
	return fmt.Sprintf("The body is multipart/form-data with the parts %s, in this order. It is read as it arrives, at most %d bytes.", parts, maxUpload)
}

// describeParts documents the parts of a multipart request. It comes after the
// operation is registered, or huma would read the body itself.
func describeParts(body *huma.RequestBody, required []string, properties map[string]*huma.Schema) {
	body.Content = map[string]*huma.MediaType{
		"multipart/form-data": {Schema: &huma.Schema{Type: huma.TypeObject, Properties: properties, Required: required}},
	}
}

// dataFiles is the schema of the parts named data.
func dataFiles() *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeArray, Items: binary("CSV, InfluxDB line protocol, either as gzip too, or Parquet"),
		Description: "Each file a part of this name, whose filename may have folders: where there are several files, each is a group if no column is, and folders named KEY=VALUE are columns",
	}
}

// binary is the schema of a file.
func binary(doc string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "binary", Description: doc}
}

// parts reads the parts of a multipart request one after the other.
type parts struct {
	reader *multipart.Reader
	ahead  *multipart.Part // read, and not yet asked for
	body   io.Reader
	sets   *recording.Sets
	cut    *setRef // the data set that is read, and of a run that goes on what was read of it
}

// newParts starts to read the body of a request.
func (a *API) newParts(ctx huma.Context) (*parts, error) {
	r, w := humago.Unwrap(ctx)
	body := http.MaxBytesReader(w, r.Body, a.maxUpload)
	r.Body = body
	reader, err := r.MultipartReader()
	if err != nil {
		return nil, newProblem(http.StatusUnsupportedMediaType, CodeUsage, "the body must be multipart/form-data: "+err.Error())
	}
	return &parts{reader: reader, body: body, sets: a.cp.Sets}, nil
}

// next returns the part called name if it is the next one, and otherwise nil.
func (p *parts) next(name string) (*multipart.Part, error) {
	if p.ahead == nil {
		part, err := p.reader.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, uploadFailure(err)
		}
		p.ahead = part
	}
	if p.ahead.FormName() != name {
		return nil, nil
	}
	part := p.ahead
	p.ahead = nil
	return part, nil
}

// files returns the parts named data, of which there is at least one. They are
// read as they are asked for.
func (p *parts) files() (dataset.Files, error) { return p.filesOf(partData) }

// heldOutFiles is files with those that are held out.
func (p *parts) heldOutFiles() (dataset.Files, error) {
	return p.filesOf(partData, partValidation, partTest)
}

func (p *parts) filesOf(names ...string) (dataset.Files, error) {
	if set, err := p.set(); set != nil || err != nil {
		return set, err
	}
	part, err := p.required(partData)
	if err != nil {
		return nil, err
	}
	return func(yield func(dataset.File, error) bool) {
		var err error
		for part != nil && err == nil {
			f := dataset.File{Name: fileName(part), Reader: part}
			if names[0] != partData {
				f.Part = names[0]
			}
			if !yield(f, nil) {
				return
			}
			for part, err = p.next(names[0]); part == nil && err == nil && len(names) > 1; part, err = p.next(names[0]) {
				names = names[1:]
			}
		}
		if err != nil {
			yield(dataset.File{}, err)
		}
	}, nil
}

// fileName is the name of a part with its folders, which Part.FileName leaves out.
// It is never opened.
func fileName(part *multipart.Part) string {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return ""
	}
	return params["filename"]
}

// required is next for a part that must be there.
func (p *parts) required(name string) (*multipart.Part, error) {
	part, err := p.next(name)
	if err == nil && part == nil {
		err = newProblem(http.StatusUnprocessableEntity, CodeUsage, fmt.Sprintf("the part %q is missing, or out of order: options, truth, data", name))
	}
	return part, err
}

// drain reads what is left, so that a client which is still sending sees the
// answer and not a broken connection.
func (p *parts) drain() { _, _ = io.Copy(io.Discard, p.body) }

// uploadFailure tells a body that broke off from one that is too large.
func uploadFailure(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return newProblem(http.StatusBadRequest, CodeBadData, "the upload broke off: "+err.Error())
}

// tooLarge says what a body may have and what to do about it.
func tooLarge(limit int64) string {
	return fmt.Sprintf("the request is larger than %d bytes, the most this operation takes; send less data, or raise limits.max_upload_bytes in sandpiper.toml", limit)
}

// options decodes the part of that name into v.
func (p *parts) options(v any) error {
	part, err := p.required(partOptions)
	if err != nil {
		return err
	}
	return decodeJSON(part, v)
}

// truth reads the part of that name into memory; nil without one.
func (p *parts) truth() (io.Reader, error) {
	part, err := p.next(partTruth)
	if err != nil || part == nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(part, MaxTruth+1))
	if err != nil {
		return nil, uploadFailure(err)
	}
	if len(b) > MaxTruth {
		return nil, newProblem(http.StatusRequestEntityTooLarge, CodeTooLarge, fmt.Sprintf("the truth file is larger than %d bytes: is it the data?", MaxTruth))
	}
	return bytes.NewReader(b), nil
}

// openUpload lets a request take its time: no deadline on reading, and an
// answer may begin before the body has ended (which HTTP/1 servers do not
// expect; a transport that cannot say so has no such limits).
func openUpload(ctx huma.Context) {
	_, w := humago.Unwrap(ctx)
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.EnableFullDuplex()
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// decodeJSON decodes a part of at most MaxTruth bytes; unknown members are
// errors.
func decodeJSON(r io.Reader, v any) error {
	d := json.NewDecoder(io.LimitReader(r, MaxTruth))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return err
		}
		return newProblem(http.StatusUnprocessableEntity, CodeUsage, "the part \"options\": "+err.Error())
	}
	return nil
}

// An event is one line of an NDJSON stream. A stream ends with a result or an
// error; one that just ends was cut off.
type event struct {
	Progress *Progress       `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Problem        `json:"error,omitempty"`
}

// A stream answers with NDJSON. Its status is sent with the first event, so
// what fails before that is an ordinary problem document.
type stream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	begun bool
}

// send writes one line.
func (s *stream) send(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/x-ndjson")
		s.w.WriteHeader(http.StatusOK)
	}
	b, err := json.Marshal(e)
	if err != nil {
		b = []byte(`{"error":{"status":500,"title":"Internal Server Error","detail":"the result has no JSON form"}}`)
	}
	_, _ = s.w.Write(append(b, '\n')) // a client that has gone ends the request's context
	_ = http.NewResponseController(s.w).Flush()
}

// fail ends the stream with a problem.
func (s *stream) fail(p *Problem) {
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if begun {
		s.send(event{Error: p})
		return
	}
	writeProblem(s.w, p)
}

// upload sends a body that is a file and decodes the answer into out.
func (c *Client) upload(ctx context.Context, rq call, out any) error {
	source := &watchedReader{r: rq.body}
	rq.body = source
	err := c.decode(ctx, rq, out)
	if broken := source.failure(); broken != nil {
		return broken
	}
	return err
}

// A watchedReader remembers how reading failed.
type watchedReader struct {
	r   io.Reader
	mu  sync.Mutex
	err error
}

func (w *watchedReader) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
	return n, err
}

// failure returns the error that reading ended with, if it is one.
func (w *watchedReader) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// multipartCall returns a request that sends parts as it is read. wait returns
// once they are no longer read from, with the error of a file that cannot be.
func multipartCall(path string, list []part) (rq call, wait func() error) {
	pr, pw := io.Pipe()
	w := multipart.NewWriter(pw)
	done := make(chan error, 1)
	go func() {
		err := writeParts(w, list)
		var broken *uploadError
		if !errors.As(err, &broken) {
			done <- nil // whoever reads the pipe knows better why it ended
		} else {
			done <- broken.err
		}
		pw.CloseWithError(err)
	}()
	rq = call{method: http.MethodPost, path: path, contentType: w.FormDataContentType(), body: pr}
	return rq, func() error {
		_ = pr.Close() // never fails (io.PipeReader)
		return <-done
	}
}

// writeParts writes the parts; an uploadError is the failure of a file.
func writeParts(w *multipart.Writer, list []part) error {
	for _, p := range list {
		if p.file == nil {
			f, err := w.CreateFormField(p.name)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(f).Encode(p.json); err != nil {
				return err
			}
			continue
		}
		if err := writeFile(w, p.name, p.file); err != nil {
			return err
		}
	}
	return w.Close()
}

func writeFile(w *multipart.Writer, name string, file *File) error {
	src, err := file.Open()
	if err != nil {
		return &uploadError{err}
	}
	defer src.Close()
	dst, err := w.CreateFormFile(name, file.Name)
	if err != nil {
		return err
	}
	watched := &watchedReader{r: src}
	_, err = io.Copy(dst, watched)
	if broken := watched.failure(); broken != nil {
		return &uploadError{fmt.Errorf("read %s: %w", file.Name, broken)}
	}
	return err
}
