package agent

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// exchanged returns what the agent's side of the socket answers to text.
func exchanged(t *testing.T, a *Agent, text string) string {
	t.Helper()
	client, server := net.Pipe()
	go func() { _, _ = io.WriteString(client, text) }() // the answer may come before all is taken
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.exchange(t.Context(), t.Context(), server)
	}()
	b, err := io.ReadAll(client)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	return string(b)
}

func TestSocketAnswersWhatItCannotServe(t *testing.T) {
	a := &Agent{}
	for _, tt := range []struct{ name, text, want string }{
		{"no HTTP", "hello\n", "400"},
		{"a header without end", "GET /status HTTP/1.1\r\nX: " + strings.Repeat("a", maxLocalHeader), "431"},
		{"no such path", "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", "404"},
		{"another method", "GET /install HTTP/1.1\r\nHost: a\r\n\r\n", "404"},
		{"a body cut short", "POST /predict/pump HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
	} {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(exchanged(t, a, tt.text))), nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		b, err := io.ReadAll(resp.Body)
		if !strings.HasPrefix(resp.Status, tt.want) || err != nil || !strings.Contains(string(b), `"error":`) {
			t.Errorf("%s: %s %s, %v; want status %s and why", tt.name, resp.Status, b, err, tt.want)
		}
	}
	if s := exchanged(t, a, "POST /nothing HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n123"); !strings.HasPrefix(s, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404") {
		t.Errorf("to a client that asks before its body: %q", s)
	}
}

// TestSocketDoesNotWaitForASilentClient: a stop closes a connection on which
// nothing was asked, at once.
func TestSocketDoesNotWaitForASilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		ctx, stop := context.WithCancel(t.Context())
		done, began := make(chan struct{}), time.Now()
		go func() {
			defer close(done)
			new(Agent).exchange(ctx, t.Context(), server)
		}()
		if _, err := io.WriteString(client, "GET /st"); err != nil {
			t.Fatal(err)
		}
		stop()
		<-done
		if waited := time.Since(began); waited > 0 {
			t.Errorf("stopped after %s", waited)
		}
	})
}
