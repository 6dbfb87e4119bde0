package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// maxLocal bounds the local connections that are open at a time.
const maxLocal = 16

// serveSocket answers local clients on the Unix socket until ctx ends; then it
// lets requests under way finish, as long as inner lives. Who may open the
// socket file, mode 0600, may do all of it:
//
//	GET  /status          Status, JSON
//	POST /install         an artifact file → Installed, JSON
//	POST /pin/REF         → Placed, JSON; also /unpin/MODEL, /rollback/MODEL
//	POST /predict/MODEL   a request, JSON or CBOR → a reply in kind
//
// Errors of all but predict are {"error": text, "refused": bool}.
//
// A socket that cannot be made, in a data folder that is read-only or full, is
// no reason not to answer over MQTT: it is logged and tried again.
func (a *Agent) serveSocket(ctx, inner context.Context) error {
	l := a.openSocket(ctx, flushPeriod)
	if l == nil {
		return nil
	}
	defer l.Close() // the end of ctx may be seen here before its AfterFunc runs, which is then stopped
	defer context.AfterFunc(ctx, func() { l.Close() })()
	work, cancel := context.WithCancel(inner)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(work, drainTime)
		cancel() // cuts off what outlives the grace
	})()
	var open sync.WaitGroup
	defer open.Wait()
	free := make(chan struct{}, maxLocal)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.Accept()
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			cancel()
			return fmt.Errorf("local socket: %w", err)
		}
		open.Go(func() {
			defer func() { <-free }()
			a.exchange(ctx, work, c)
		})
	}
}

// Bounds of one exchange on the socket.
const (
	maxLocalHeader = 16 << 10  // bytes of request line and header
	maxLocalRest   = 256 << 10 // bytes of a body nobody wanted that are read all the same
	localHeader    = 5 * time.Second
	localBody      = time.Minute
)

// exchange reads one request from c, writes the answer and closes c: local
// clients ask one thing. Until the request is there the end of ctx closes c,
// and from then on that of work.
//
// It is HTTP/1.1 by net/http's parser, which the MQTT client links, and none of
// its server, which nothing else does.
func (a *Agent) exchange(ctx, work context.Context, c net.Conn) {
	defer c.Close()
	waiting := context.AfterFunc(ctx, func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(localHeader)) // of a socket that is open
	limited := &io.LimitedReader{R: c, N: maxLocalHeader}
	r, err := http.ReadRequest(bufio.NewReader(limited))
	if err != nil {
		waiting()
		if limited.N == 0 {
			_ = errorAnswer(http.StatusRequestHeaderFieldsTooLarge, "the header is too large", false).write(c)
		} else if !errors.Is(err, io.EOF) {
			_ = errorAnswer(http.StatusBadRequest, "no HTTP request: "+err.Error(), false).write(c)
		}
		return
	}
	if !waiting() {
		return
	}
	defer context.AfterFunc(work, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(localBody))
	limited.N = maxFile + maxLocalRest
	if r.ProtoAtLeast(1, 1) && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	answer := a.route(work, r)
	_ = c.SetDeadline(time.Now().Add(localBody))
	if answer.write(c) == nil {
		// Closing over bytes that were not read would take the answer from a client that writes first.
		_, _ = io.CopyN(io.Discard, r.Body, maxLocalRest)
	}
}

// openSocket listens, and again every period until it can; nil once ctx ends.
func (a *Agent) openSocket(ctx context.Context, period time.Duration) net.Listener {
	for said := ""; ; {
		l, err := listen(a.cfg.Socket)
		if err == nil {
			return l
		}
		if err.Error() != said {
			said = err.Error()
			a.cfg.Log.Error("no local socket: status and install do not work, predictions over MQTT do", "err", err)
		}
		if !sleep(ctx, period) {
			return nil
		}
	}
}

// listen opens the socket, in place of one that a killed process left behind:
// the cache's lock says that no other agent uses it.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// An answer is what goes back for a request.
type answer struct {
	status      int
	contentType string
	body        []byte
}

// write writes w as the whole of a response to c.
func (w answer) write(c io.Writer) error {
	r := http.Response{
		StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Close: true, Header: http.Header{"Content-Type": {w.contentType}},
		ContentLength: int64(len(w.body)), Body: io.NopCloser(bytes.NewReader(w.body)),
	}
	return r.Write(c)
}

// route runs the request that r's method and path name.
func (a *Agent) route(ctx context.Context, r *http.Request) answer {
	name, argument, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch r.Method + " /" + name {
	case "GET /status":
		return jsonAnswer(http.StatusOK, a.Status())
	case "POST /install":
		installed, err := a.Install(ctx, r.Body)
		if err != nil {
			status, refused := installStatus(err)
			return errorAnswer(status, err.Error(), refused)
		}
		return jsonAnswer(http.StatusOK, installed)
	case "POST /pin":
		return placedAnswer(a.Pin(ctx, argument))
	case "POST /unpin":
		return placedAnswer(a.Unpin(ctx, argument))
	case "POST /rollback":
		return placedAnswer(a.Rollback(ctx, argument))
	case "POST /predict":
		b, err := io.ReadAll(io.LimitReader(r.Body, protocol.MaxPayload+1))
		if err != nil {
			return errorAnswer(http.StatusBadRequest, "read request: "+err.Error(), false)
		}
		reply := answer{http.StatusOK, "application/cbor", a.Predict(ctx, argument, b)}
		if protocol.IsJSON(b) {
			reply.contentType = "application/json"
		}
		return reply
	}
	return errorAnswer(http.StatusNotFound, "there is no "+r.Method+" "+r.URL.Path, false)
}

// A localError is the body of an answer that is none.
type localError struct {
	Error   string `json:"error"`
	Refused bool   `json:"refused,omitempty"` // a check speaks against what was asked for
}

func installStatus(err error) (status int, refused bool) {
	switch {
	case Refused(err):
		return http.StatusUnprocessableEntity, true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, false
	}
	return http.StatusInsufficientStorage, false
}

func placedAnswer(p Placed, err error) answer {
	switch {
	case err == nil:
		return jsonAnswer(http.StatusOK, p)
	case errors.Is(err, ErrNotHere):
		return errorAnswer(http.StatusNotFound, err.Error(), false)
	case errors.Is(err, ErrFloor), errors.Is(err, ErrReturned):
		return errorAnswer(http.StatusConflict, err.Error(), true)
	}
	status, refused := installStatus(err)
	return errorAnswer(status, err.Error(), refused)
}

func errorAnswer(status int, text string, refused bool) answer {
	return jsonAnswer(status, localError{Error: text, Refused: refused})
}

// jsonAnswer answers with the JSON of v, a struct of ours that always has one.
func jsonAnswer(status int, v any) answer {
	b, _ := json.Marshal(v)
	return answer{status, "application/json", append(b, '\n')}
}
