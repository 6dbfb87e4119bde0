package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// newTestAPI returns the handlers over a new data folder.
func newTestAPI(t *testing.T, change func(*Config)) *API {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := controlplane.Init(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	cp, err := controlplane.Open(t.Context(), controlplane.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := Config{ControlPlane: cp, Version: "test", Broker: "tcp://127.0.0.1:1883", Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

// clients returns a client for each way to the same handlers.
func clients(t *testing.T, a *API) map[string]*Client {
	t.Helper()
	tcp := httptest.NewServer(a.Authenticated("sesame"))
	t.Cleanup(tcp.Close)
	overTCP, err := NewClient(tcp.URL, "sesame")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ln, err := ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	socket := NewHTTPServer(a.Handler(), slog.New(slog.DiscardHandler))
	go socket.Serve(ln)
	t.Cleanup(func() { socket.Close() })
	all := map[string]*Client{"tcp": overTCP, "socket": NewSocketClient(dir), "local": NewLocalClient(a.Handler())}
	for _, c := range all {
		t.Cleanup(c.Close)
	}
	return all
}

// csvFile is a small data set of eight machines that wear out.
func csvFile(lines ...string) []File {
	var b strings.Builder
	b.WriteString("unit,cycle,heat\n")
	for unit := 1; unit <= 8; unit++ {
		for cycle := 1; cycle <= 20+unit; cycle++ {
			fmt.Fprintf(&b, "%d,%d,%.3f\n", unit, cycle, 20+math.Sqrt(float64(cycle))+float64(unit)/100)
		}
	}
	b.WriteString(strings.Join(lines, "\n"))
	return []File{fileOf("engines.csv", b.String())}
}

// severalFiles are two in folders; the name of one is not ASCII.
func severalFiles() []File {
	return []File{fileOf("year=2024/ä.csv", "t,a\n1,5\n2,\n"), fileOf("year=2025/b.csv", "t,a\n1,7\n")}
}

func fileOf(name, text string) File {
	return File{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

var smallRun = TrainOptions{
	Model: "wear", Task: "rul", Group: "unit", Time: "cycle", Features: []string{"heat"},
	Window: 5, Units: []int{2}, Epochs: 2, Seed: 1,
}

func TestEveryWayGivesTheSameAnswers(t *testing.T) {
	a := newTestAPI(t, nil)
	all := clients(t, a)
	ctx := t.Context()
	local := all["local"]
	if _, err := local.Train(ctx, smallRun, csvFile(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := local.AddDevice(ctx, NewDevice{ID: "pump-1", Labels: map[string]string{"site": "oslo"}}); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(*Client) (any, error){
		"server":       func(c *Client) (any, error) { return c.Server(ctx) },
		"versions":     func(c *Client) (any, error) { return c.Versions(ctx, "") },
		"version":      func(c *Client) (any, error) { return c.Version(ctx, "wear:v1") },
		"verify":       func(c *Client) (any, error) { return c.Verify(ctx, "wear") },
		"sign":         func(c *Client) (any, error) { return c.Sign(ctx, "wear") },
		"tag":          func(c *Client) (any, error) { return c.Tag(ctx, "wear", "best") },
		"devices":      func(c *Client) (any, error) { return c.Devices(ctx, "site=oslo") },
		"device":       func(c *Client) (any, error) { return c.Device(ctx, "pump-1") },
		"no device":    func(c *Client) (any, error) { return c.Device(ctx, "pump-2") },
		"device twice": func(c *Client) (any, error) { return c.AddDevice(ctx, NewDevice{ID: "pump-1"}) },
		"rollouts":     func(c *Client) (any, error) { return c.Rollouts(ctx) },
		"no rollout":   func(c *Client) (any, error) { return c.RolloutStatus(ctx, "wear") },
		"no broker":    func(c *Client) (any, error) { return c.StartRollout(ctx, NewRollout{Ref: "wear", To: "all"}) },
		"same run":     func(c *Client) (any, error) { return c.trainForTest(ctx, smallRun, csvFile()) },
		"bad run":      func(c *Client) (any, error) { return c.trainForTest(ctx, smallRun, csvFile("9,1,hot")) },
		"evaluation": func(c *Client) (any, error) {
			report, err := c.Evaluate(ctx, Evaluation{Ref: "wear", EvalOptions: EvalOptions{Predictions: true}, Data: csvFile()})
			return withoutSeconds(report), err
		},
		"description": func(c *Client) (any, error) {
			return c.DescribeData(ctx, DataOptions{Time: "t"}, severalFiles())
		},
		"bad description": func(c *Client) (any, error) { return c.DescribeData(ctx, DataOptions{Time: "at"}, severalFiles()) },
		"data export": func(c *Client) (any, error) {
			var b bytes.Buffer
			warnings, err := c.ExportData(ctx, &b, DataOptions{Time: "t"}, severalFiles())
			const want = "group,time,a,year\nyear=2024/ä,1,5,2024\nyear=2024/ä,2,5,2024\nyear=2025/b,1,7,2025\n"
			if b.String() != want || len(warnings) != 2 || !strings.HasPrefix(warnings[0], `column "a": 1 missing values filled`) {
				t.Errorf("exported %q with warnings %q, want %q", b.String(), warnings, want)
			}
			return warnings, err
		},
		"bad data export": func(c *Client) (any, error) {
			return c.ExportData(ctx, io.Discard, DataOptions{Data: dataset.Options{Missing: "guess"}}, severalFiles())
		},
		"export": func(c *Client) (any, error) {
			body, err := c.Export(ctx, "wear:v1")
			if err != nil {
				return nil, err
			}
			defer body.Close()
			return io.ReadAll(body)
		},
	}
	for name, do := range calls {
		want, wantErr := do(local)
		for way, c := range all {
			got, err := do(c)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s over %s differs from in process (-local +%s):\n%s", name, way, way, diff)
			}
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || reflect.TypeOf(err) != reflect.TypeOf(wantErr) {
				t.Errorf("%s over %s: error %v, in process %v", name, way, err, wantErr)
			}
		}
	}
}

// trainForTest returns the report and how many epochs were told of.
func (c *Client) trainForTest(ctx context.Context, o TrainOptions, data []File) (any, error) {
	epochs := 0
	report, err := c.Train(ctx, o, data, func(p Progress) {
		if p.Stage == "epoch" {
			epochs++
		}
	})
	return []any{withoutSeconds(report), epochs}, err
}

// withoutSeconds decodes a report and leaves out what differs between runs.
func withoutSeconds(report json.RawMessage) map[string]any {
	var doc map[string]any
	if json.Unmarshal(report, &doc) != nil {
		return nil
	}
	delete(doc, "seconds")
	if training, ok := doc["training"].(map[string]any); ok {
		delete(training, "history")
		delete(training, "run")
	}
	return doc
}

func TestOnlyTheTokenOpensTCP(t *testing.T) {
	a := newTestAPI(t, nil)
	for _, tt := range []struct {
		name, token, header string
		want                int
	}{
		{"none", "sesame", "", http.StatusUnauthorized},
		{"wrong", "sesame", "Bearer open", http.StatusUnauthorized},
		{"other scheme", "sesame", "Basic sesame", http.StatusUnauthorized},
		{"no scheme", "sesame", "sesame", http.StatusUnauthorized},
		{"a server without a token", "", "Bearer ", http.StatusUnauthorized},
		{"right", "sesame", "Bearer sesame", http.StatusOK},
		{"scheme in lower case", "sesame", "bearer sesame", http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, Base+"/models", nil)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			w := httptest.NewRecorder()
			a.Authenticated(tt.token).ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Fatalf("status %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if tt.want == http.StatusUnauthorized {
				checkProblem(t, w, http.StatusUnauthorized, CodeDenied)
				if w.Header().Get("WWW-Authenticate") == "" {
					t.Error("no WWW-Authenticate (RFC 9110 §11.6.1)")
				}
			}
		})
	}
}

// checkProblem wants an RFC 9457 document.
func checkProblem(t *testing.T, w *httptest.ResponseRecorder, status int, code string) Problem {
	t.Helper()
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q, want application/problem+json", ct)
	}
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("no JSON: %v: %s", err, w.Body)
	}
	if w.Code != status || p.Status != status || p.Code() != code || p.Title == "" || p.Detail == "" {
		t.Errorf("status %d, problem %+v; want status %d, code %q, a title and a detail", w.Code, p, status, code)
	}
	return p
}

func TestLayersAreNamedAsInKeras(t *testing.T) {
	m := &artifact.Model{Graph: artifact.Graph{Layers: []artifact.Layer{
		{Kind: artifact.LSTM, Units: 128, Sequences: true}, {Kind: artifact.GRU, Units: 64}, {Kind: artifact.Dense, Units: 1},
	}}}
	if got, want := schema(m).Layers, "lstm(128) gru(64) dense(1)"; got != want {
		t.Errorf("layers %q, want %q", got, want)
	}
}

func TestProblems(t *testing.T) {
	a := newTestAPI(t, nil)
	h := a.Handler()
	if _, err := NewLocalClient(h).AddUser(t.Context(), NewUser{ID: "bob"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"no such path", "GET", "/nothing", "", 404, CodeNotFound},
		{"no such method", "DELETE", Base + "/devices", "", 404, CodeNotFound},
		{"no such model", "GET", Base + "/models/m", "", 404, CodeNotFound},
		{"bad reference", "GET", Base + "/models/M:v1", "", 422, CodeUsage},
		{"bad alias", "PUT", Base + "/models/m/aliases/v1", "", 422, CodeUsage},
		{"no such device", "GET", Base + "/devices/d", "", 404, CodeNotFound},
		{"bad filter", "GET", Base + "/devices?filter=x", "", 422, CodeUsage},
		{"limit", "GET", Base + "/devices?limit=0", "", 422, ""},
		{"unknown query", "GET", Base + "/devices?limits=1", "", 422, ""},
		{"bad id", "POST", Base + "/devices", `{"id":"A b"}`, 422, CodeUsage},
		{"reserved id", "POST", Base + "/users", `{"id":"cp"}`, 422, CodeUsage},
		{"id twice", "POST", Base + "/users", `{"id":"bob"}`, 409, CodeExists},
		{"unknown member", "POST", Base + "/users", `{"id":"x","admin":true}`, 422, ""},
		{"wrong type", "POST", Base + "/users", `{"id":3}`, 422, ""},
		{"no JSON", "POST", Base + "/users", `{"id"`, 400, ""},
		{"no body", "POST", Base + "/users", "", 400, ""},
		{"no broker for a rollout", "POST", Base + "/rollouts", `{"ref":"m","to":"all"}`, 503, CodeUnreachable},
		{"no broker for a rollback", "POST", Base + "/rollbacks", `{"model":"m"}`, 503, CodeUnreachable},
		{"no broker for a prediction", "POST", Base + "/devices/d/predict/m", `[[1]]`, 503, CodeUnreachable},
		{"no multipart", "POST", Base + "/training", `{}`, 415, CodeUsage},
		{"no model file", "POST", Base + "/models", `{}`, 422, CodeBadData},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			if strings.HasSuffix(tt.path, "/models") {
				r.Header.Set("Content-Type", "application/octet-stream")
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			checkProblem(t, w, tt.status, tt.code)
		})
	}
}

func TestUnforeseenErrorsKeepTheirTextInside(t *testing.T) {
	var log bytes.Buffer
	a := newTestAPI(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	p := a.problem("op", errors.New("open /secret/path: boom"))
	if p.Status != http.StatusInternalServerError || strings.Contains(p.Error(), "secret") {
		t.Errorf("problem = %v, want a 500 without the text", p)
	}
	if !strings.Contains(log.String(), "/secret/path") {
		t.Errorf("log %q does not say what happened", log.String())
	}
}

func TestBodiesAreBounded(t *testing.T) {
	a := newTestAPI(t, func(c *Config) { c.MaxUpload = 4096; c.Serving = true })
	h := a.Handler()
	large := strings.Repeat(" ", MaxBody+1)
	for _, path := range []string{"/users", "/devices", "/rollouts", "/rollbacks"} {
		r := httptest.NewRequest(http.MethodPost, Base+path, strings.NewReader(large))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		checkProblem(t, w, http.StatusRequestEntityTooLarge, "")
	}
	rows := []string{}
	for cycle := range 20_000 {
		rows = append(rows, fmt.Sprintf("9,%d,1", cycle))
	}
	for way, c := range clients(t, a) {
		_, err := c.Train(t.Context(), smallRun, csvFile(rows...), nil)
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusRequestEntityTooLarge || p.Code() != CodeTooLarge {
			t.Errorf("Train of 200 KB over %s = %v, want 413 where the limit is 4 KB", way, err)
		}
		if _, err := c.Predict(t.Context(), "d", "m", bytes.Repeat([]byte(" "), 128<<10+1)); !errors.As(err, &p) || p.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("Predict of 128 KB over %s = %v, want 413", way, err)
		}
	}
}

func TestAFileThatCannotBeReadIsTheClientsError(t *testing.T) {
	broken := errors.New("disk on fire")
	for way, c := range clients(t, newTestAPI(t, nil)) {
		data := File{Name: "d.csv", Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("unit,cycle,heat\n"), failingReader{broken})), nil
		}}
		if _, err := c.Train(t.Context(), smallRun, []File{data}, nil); !errors.Is(err, broken) {
			t.Errorf("Train over %s = %v, want %v", way, err, broken)
		}
		if _, err := c.Import(t.Context(), failingReader{broken}); !errors.Is(err, broken) {
			t.Errorf("Import over %s = %v, want %v", way, err, broken)
		}
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestACancelledRunAddsNothing(t *testing.T) {
	a := newTestAPI(t, nil)
	long := smallRun
	long.Epochs = 1_000_000
	for way, c := range clients(t, a) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := c.Train(ctx, long, csvFile(), func(p Progress) {
			if p.Stage == "epoch" {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Train over %s = %v, want %v", way, err, context.Canceled)
		}
	}
	// The turn comes back once the runs have ended, and nothing was added.
	if _, err := NewLocalClient(a.Handler()).Train(t.Context(), smallRun, csvFile(), nil); err != nil {
		t.Fatal(err)
	}
	versions, err := NewLocalClient(a.Handler()).Versions(t.Context(), "")
	if err != nil || len(versions) != 1 {
		t.Errorf("%d versions (%v), want the one that was not cancelled", len(versions), err)
	}
}

func TestTheSameModelAgainIsNoNewVersion(t *testing.T) {
	c := NewLocalClient(newTestAPI(t, nil).Handler())
	for i, want := range []bool{false, true} {
		raw, err := c.Train(t.Context(), smallRun, csvFile(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := train.ParseReport(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(strings.Join(r.Warnings, "\n"), "no version was added: the model is, bit for bit, wear:v1"); got != want || r.Version != "wear:v1" {
			t.Errorf("run %d: version %s, warnings %q", i+1, r.Version, r.Warnings)
		}
	}
}

// What is wrong with the options is said at once, also while another run trains.
func TestOptionsAreCheckedBeforeTheirTurn(t *testing.T) {
	a := newTestAPI(t, nil)
	a.turn <- struct{}{} // another run's
	o := smallRun
	o.Optimizer = "adma"
	for way, c := range clients(t, a) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := c.Train(ctx, o, csvFile(), func(Progress) { cancel() })
		cancel()
		var p *Problem
		if !errors.As(err, &p) || p.Code() != CodeUsage {
			t.Errorf("Train over %s = %v, want a problem %s", way, err, CodeUsage)
		}
	}
}

func TestPagesGiveEveryDeviceOnce(t *testing.T) {
	c := NewLocalClient(newTestAPI(t, nil).Handler())
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("pump-%d", i)
		want = append(want, id)
		if _, err := c.AddDevice(t.Context(), NewDevice{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for p := (PageOf{Limit: 3}); ; {
		var page Page[fleet.Device]
		if err := c.json(t.Context(), http.MethodGet, escape("devices"), p.query(), nil, &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Items) > 3 {
			t.Fatalf("a page of %d items, want at most 3", len(page.Items))
		}
		for _, d := range page.Items {
			got = append(got, d.ID)
		}
		if p.After = page.Next; p.After == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages differ (-want +got):\n%s", diff)
	}
}

func TestUnreachable(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, url := range []string{web.URL, gone.URL} {
		c, err := NewClient(url, "t")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ping(t.Context()); !errors.Is(err, ErrUnreachable) {
			t.Errorf("Ping of what is no control plane = %v, want ErrUnreachable", err)
		}
	}
	if err := NewSocketClient(t.TempDir()).Ping(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Ping of an empty folder = %v, want ErrUnreachable", err)
	}
}

func TestSocketIsTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 30))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time over a socket that was left behind
		ln, err := ListenSocket(dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, SocketName))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %v, want 0600", SocketName, info.Mode().Perm())
		}
		conn, err := dialSocket(t.Context(), dir)
		if err != nil {
			t.Fatalf("dial a path of %d bytes: %v", len(dir), err)
		}
		conn.Close()
		ln.Close()
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("folder holds %v (%v), want %s alone", left, err, SocketName)
		}
	}
}

func TestAHandlerThatPanicsEndsItsRequestOnly(t *testing.T) {
	c := NewLocalClient(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }))
	if _, err := c.Server(t.Context()); err == nil {
		t.Error("Server = nil, want an error")
	}
}

// TestOpenAPI holds the description against the rules of OpenAPI 3.1 that break
// client generators when they are violated: unique operation ids, responses
// everywhere, path parameters declared, no dangling reference.
func TestOpenAPI(t *testing.T) {
	h := newTestAPI(t, nil).Authenticated("sesame")
	for _, path := range []string{"/openapi.json", "/openapi.yaml"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK || w.Body.Len() < 1000 {
			t.Fatalf("GET %s: status %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]operation
		Components struct {
			Schemas         map[string]any
			SecuritySchemes map[string]any
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("openapi = %q, want 3.1", doc.OpenAPI)
	}
	ids := map[string]bool{}
	for path, methods := range doc.Paths {
		if !strings.HasPrefix(path, Base+"/") {
			t.Errorf("%s is not below %s", path, Base)
		}
		for method, op := range methods {
			op.check(t, method+" "+path, path)
			if ids[op.OperationID] {
				t.Errorf("operation id %s comes twice", op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
	if len(ids) < 17 {
		t.Errorf("%d operations, want all 17", len(ids))
	}
	for _, ref := range strings.Split(w.Body.String(), `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("reference to a schema %q that is not there", name)
		}
	}
	if doc.Components.SecuritySchemes["token"] == nil {
		t.Error("the token is not described")
	}
}

type operation struct {
	OperationID string
	Summary     string
	Responses   map[string]any
	Parameters  []struct{ Name, In string }
}

func (o operation) check(t *testing.T, where, path string) {
	t.Helper()
	if o.OperationID == "" || o.Summary == "" {
		t.Errorf("%s has no id or no summary", where)
	}
	success, failure := false, false
	for status := range o.Responses {
		success = success || status[0] == '2'
		failure = failure || status[0] == '4'
	}
	if !success || !failure {
		t.Errorf("%s describes %d answers, want those of class 2xx and 4xx", where, len(o.Responses))
	}
	declared := 0
	for _, p := range o.Parameters {
		if p.In == "path" && strings.Contains(path, "{"+p.Name+"}") {
			declared++
		}
	}
	if declared != strings.Count(path, "{") {
		t.Errorf("%s declares %d path parameters, want %d", where, declared, strings.Count(path, "{"))
	}
}

func TestAllWalksEveryPage(t *testing.T) {
	var asked []string
	got, err := all(PageOf{Limit: 2}, func(p PageOf) (Page[int], error) {
		asked = append(asked, p.After)
		return map[string]Page[int]{"": {Items: []int{1, 2}, Next: "2"}, "2": {Items: []int{3}}}[p.After], nil
	})
	if diff := cmp.Diff([]int{1, 2, 3}, got); err != nil || diff != "" {
		t.Errorf("all = %v, %v; asked after %q", got, err, asked)
	}
}
