package api

import (
	"fmt"
	"io"
	"net/http"
	"sync"
)

// localTransport answers requests by calling a handler in this process. The
// body of the response is a pipe, so a handler that streams is read while it
// still runs; closing the body makes its next write fail.
type localTransport struct{ handler http.Handler }

// RoundTrip runs the handler in a goroutine that ends with the request.
func (t localTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, pipe := io.Pipe()
	w := &pipeWriter{header: http.Header{}, pipe: pipe, ready: make(chan struct{})}
	served := r.Clone(r.Context())
	if served.Body == nil {
		served.Body = http.NoBody
	}
	served.RequestURI = r.URL.RequestURI()
	go func() {
		defer func() {
			served.Body.Close()
			if v := recover(); v != nil { // as net/http: the request ends, the process lives
				w.WriteHeader(http.StatusInternalServerError)
				pipe.CloseWithError(fmt.Errorf("the handler panicked: %v", v))
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = pipe.Close() // never fails (io.PipeWriter)
		}()
		t.handler.ServeHTTP(w, served)
	}()
	select {
	case <-w.ready:
	case <-r.Context().Done():
		_ = body.Close() // never fails (io.PipeReader)
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: body, ContentLength: -1, Request: r,
	}, nil
}

// pipeWriter is the http.ResponseWriter of a local request.
type pipeWriter struct {
	header http.Header
	pipe   *io.PipeWriter
	once   sync.Once
	ready  chan struct{} // closed once status and sent are set
	status int
	sent   http.Header
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.ready)
	})
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(b)
}

// Flush does nothing: a pipe has no buffer.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }
