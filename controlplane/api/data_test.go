package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A recording that comes to its end says so; one that does not is told from it, and
// no half of a line is written.
func TestRecordTellsWhetherItCameToTheEnd(t *testing.T) {
	text := "pump,device=a flow=1 5\n# recorded 1 samples; 0 messages were none\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("topic") != "sp1/f/d/+/s/+" || r.URL.Query().Get("for") != "1m30s" {
			t.Errorf("asked for %s", r.URL)
		}
		fmt.Fprint(w, text)
	}))
	defer server.Close()
	c, err := NewClient(server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	summary, err := c.Record(t.Context(), &b, "sp1/f/d/+/s/+", 90*time.Second)
	if err != nil || summary != "1 samples; 0 messages were none" || b.String() != "pump,device=a flow=1 5\n" {
		t.Errorf("Record = %q, %v, and wrote %q", summary, err, b.String())
	}
	b.Reset()
	text = "pump,device=a flow=1 5\npump,dev"
	if _, err := c.Record(t.Context(), &b, "sp1/f/d/+/s/+", 90*time.Second); !errors.Is(err, ErrBrokeOff) || b.String() != "pump,device=a flow=1 5\n" {
		t.Errorf("Record of a stream that broke off = %v, and wrote %q", err, b.String())
	}
}
