package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrUnreachable means that no control plane answered: nothing listens there,
// the connection broke, or what answered is no Sandpiper.
var ErrUnreachable = errors.New("control plane unreachable")

// maxAnswer bounds an answer that is not a stream, bytes.
const maxAnswer = 1 << 30

// A Client calls the API of one control plane. It is safe for concurrent use.
// An error that the control plane answered is a *Problem; one that kept the
// request from it wraps ErrUnreachable.
type Client struct {
	base  string // without a final slash
	token string
	where string // for errors
	http  *http.Client
}

// NewClient returns a client of the control plane at base, such as
// http://127.0.0.1:8080, that authenticates with token.
func NewClient(base, token string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no address of a control plane: write http://host:port or https://host:port", base)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the address %s has more than host, port and path: a token is given apart from it", u.Redacted())
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ExpectContinueTimeout = 5 * time.Second // an upload waits for its authentication
	return &Client{base: strings.TrimRight(base, "/"), token: token, where: u.Host, http: &http.Client{Transport: t}}, nil
}

// NewSocketClient returns a client of the control plane that serves dir.
func NewSocketClient(dir string) *Client {
	t := &http.Transport{
		ExpectContinueTimeout: 5 * time.Second,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialSocket(ctx, dir)
		},
	}
	return &Client{base: "http://sandpiper", where: dir + "/" + SocketName, http: &http.Client{Transport: t}}
}

// NewLocalClient returns a client that calls h in this process, without a
// socket and without authentication.
func NewLocalClient(h http.Handler) *Client {
	return &Client{base: "http://sandpiper", where: "this process", http: &http.Client{Transport: localTransport{h}}}
}

// Ping reports whether a control plane answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.Server(ctx)
	return err
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// A call is one request. body is JSON unless contentType says otherwise.
type call struct {
	method, path string
	query        url.Values
	contentType  string
	body         io.Reader
	length       int64 // of body; 0: unknown
	accept       string
}

// escape joins path segments below the API's base, escaping each.
func escape(segments ...string) string {
	var b strings.Builder
	b.WriteString(Base)
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// do sends the request and returns an answer of class 2xx.
func (c *Client) do(ctx context.Context, call call) (*http.Response, error) {
	target := c.base + call.path
	if len(call.query) > 0 {
		target += "?" + call.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, call.method, target, call.body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", call.method, call.path, err)
	}
	if call.length > 0 {
		req.ContentLength = call.length
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if call.contentType != "" {
		req.Header.Set("Content-Type", call.contentType)
		if call.contentType != "application/json" {
			req.Header.Set("Expect", "100-continue")
		}
	}
	if call.accept == "" {
		call.accept = "application/json"
	}
	req.Header.Set("Accept", call.accept)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	if res.StatusCode/100 != 2 {
		defer res.Body.Close()
		return nil, c.readProblem(res)
	}
	return res, nil
}

// transportError tells the caller's own end of the request, which is returned
// as it is, from a control plane that cannot be reached.
func (c *Client) transportError(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var upload *uploadError
	if errors.As(err, &upload) {
		return upload.err
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, c.where, err)
}

// An uploadError is a failure to read what a request sends.
type uploadError struct{ err error }

func (e *uploadError) Error() string { return e.err.Error() }
func (e *uploadError) Unwrap() error { return e.err }

// readProblem decodes an answer that is not of class 2xx.
func (c *Client) readProblem(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%w: %s: read answer: %w", ErrUnreachable, c.where, err)
	}
	var p Problem
	if json.Unmarshal(b, &p) != nil || p.Status == 0 {
		return fmt.Errorf("%w: %s answered %s without a problem document: is it a Sandpiper control plane?", ErrUnreachable, c.where, res.Status)
	}
	return &p
}

// json sends in as JSON, unless nil, and decodes the answer into out.
func (c *Client) json(ctx context.Context, method, path string, query url.Values, in, out any) error {
	rq := call{method: method, path: path, query: query}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		rq.contentType, rq.body = "application/json", bytes.NewReader(b)
	}
	return c.decode(ctx, rq, out)
}

// decode sends a request and decodes the answer into out, unless that is nil.
func (c *Client) decode(ctx context.Context, rq call, out any) error {
	res, err := c.do(ctx, rq)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return c.transportError(ctx, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%w: %s: %s %s answered no JSON we know: %w", ErrUnreachable, c.where, rq.method, rq.path, err)
	}
	return nil
}

// query returns the parameters of a page.
func (p PageOf) query() url.Values {
	q := url.Values{}
	if p.After != "" {
		q.Set("after", p.After)
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

// all walks a listing from its first page to its last.
func all[T any](first PageOf, fetch func(PageOf) (Page[T], error)) ([]T, error) {
	items := []T{}
	for p := first; ; {
		page, err := fetch(p)
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		p.After = page.Next
	}
}
