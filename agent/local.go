package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
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
//	POST /predict/MODEL   a request, JSON or CBOR → a reply in kind
//
// Errors of status and install are {"error": text, "refused": bool}.
//
// A socket that cannot be made, in a data folder that is read-only or full, is
// no reason not to answer over MQTT: it is logged and tried again.
func (a *Agent) serveSocket(ctx, inner context.Context) error {
	l := a.openSocket(ctx, flushPeriod)
	if l == nil {
		return nil
	}
	s := &http.Server{
		Handler:           a.socketHandler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return inner },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(inner, drainTime)
		defer cancel()
		_ = s.Shutdown(grace) // what outlives the grace is cut off below
		close(stopped)
	})
	defer stop()
	stopInner := context.AfterFunc(inner, func() { _ = s.Close() })
	defer stopInner()
	err := s.Serve(newLimitListener(l, maxLocal))
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("local socket: %w", err)
	}
	if ctx.Err() != nil {
		<-stopped
	}
	return nil
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

// A limitListener accepts no more than a number of connections at a time.
type limitListener struct {
	net.Listener
	slots chan struct{}
}

func newLimitListener(l net.Listener, n int) *limitListener {
	return &limitListener{l, make(chan struct{}, n)}
}

func (l *limitListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, slots: l.slots}, nil
}

type limitedConn struct {
	net.Conn
	slots  chan struct{}
	closed sync.Once
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.closed.Do(func() { <-c.slots })
	return err
}

func (a *Agent) socketHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, a.Status())
	})
	mux.HandleFunc("POST /install", func(w http.ResponseWriter, r *http.Request) {
		installed, err := a.Install(r.Context(), r.Body)
		if err != nil {
			status, refused := installStatus(err)
			writeJSON(w, status, localError{Error: err.Error(), Refused: refused})
			return
		}
		writeJSON(w, http.StatusOK, installed)
	})
	mux.HandleFunc("POST /predict/{model}", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(io.LimitReader(r.Body, protocol.MaxPayload+1))
		if err != nil {
			writeJSON(w, http.StatusBadRequest, localError{Error: "read request: " + err.Error()})
			return
		}
		_, _ = w.Write(a.Predict(r.Context(), r.PathValue("model"), b)) // a client that went away
	})
	return mux
}

// A localError is the body of an answer that is none.
type localError struct {
	Error   string `json:"error"`
	Refused bool   `json:"refused,omitempty"` // the file is at fault
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

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that went away
}
