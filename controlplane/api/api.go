// Package api is the HTTP API of the control plane and its Go client.
//
// Everything is below /api/v1; /openapi.json and /openapi.yaml describe it
// (OpenAPI 3.1). Errors are RFC 9457 problem documents. An answer of class 2xx
// means that what it says is on disk and synced. Request bodies are bounded,
// file arguments are streams, and no handler takes a path.
//
// The same handlers are reached in three ways, with one Client:
//
//	over TCP               with a bearer token
//	over DIR/api.sock      mode 0600, so whoever can connect is the administrator
//	in the same process    without a socket
//
// What is changed is recorded with its caller: the holder of the token, the user at
// the other end of the socket, the user this process runs as. Tokens have roles;
// see needs.
package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/yaml"

	"github.com/sandpiper-edge/sandpiper/controlplane"
	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
)

// Base is the path that every resource is below.
const Base = "/api/v1"

const (
	// MaxBody bounds a JSON request, bytes.
	MaxBody = 1 << 20
	// MaxModelFile bounds an imported model file, bytes.
	MaxModelFile = 64 << 20
	// DefaultMaxUpload bounds the data of one training or evaluation, bytes.
	DefaultMaxUpload = 1 << 30
	// MaxTruth bounds a truth file and the options of an upload, bytes.
	MaxTruth = 16 << 20
)

// Config configures an API.
type Config struct {
	ControlPlane *controlplane.ControlPlane // required
	Version      string                     // of the program, for answers
	Broker       string                     // URL under which devices reach the broker, for answers
	Serving      bool                       // whether ControlPlane.Run runs; without, rollouts and predictions are refused
	MaxUpload    int64                      // bytes of data in one training or evaluation; default DefaultMaxUpload
	Log          *slog.Logger               // required
}

// An API holds the handlers over one control plane.
type API struct {
	cp        *controlplane.ControlPlane
	version   string
	broker    string
	serving   bool
	maxUpload int64
	log       *slog.Logger
	mux       *http.ServeMux
	huma      huma.API
	turn      chan struct{} // holds a value while a run trains
}

// New returns the API of a control plane.
func New(cfg Config) *API {
	a := &API{
		cp: cfg.ControlPlane, version: cfg.Version, broker: cfg.Broker, serving: cfg.Serving,
		maxUpload: cfg.MaxUpload, log: cfg.Log, mux: http.NewServeMux(), turn: make(chan struct{}, 1),
	}
	if a.maxUpload <= 0 {
		a.maxUpload = DefaultMaxUpload
	}
	hc := huma.DefaultConfig("Sandpiper control plane", cfg.Version)
	hc.Info.Description = "Models, devices, rollouts and predictions of one fleet. An answer of class 2xx means that what it says is on disk and synced."
	hc.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	hc.DocsPath, hc.SchemasPath, hc.CreateHooks = "", "", nil
	hc.RejectUnknownQueryParameters = true
	hc.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	hc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "The admin token that `sandpiper init` wrote. Not needed on the Unix socket."},
	}
	hc.Security = []map[string][]string{{"token": {}}}
	a.huma = humago.New(a.mux, hc)
	a.huma.UseMiddleware(a.authorize)
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, newProblem(http.StatusNotFound, CodeNotFound, "nothing is at this path; /openapi.json lists what is"))
	})
	a.registerServer()
	a.registerModels()
	a.registerTraining()
	a.registerRuns()
	a.registerData()
	a.registerDevices()
	a.registerUsers()
	a.registerUsage()
	a.registerRollouts()
	a.registerPredictions()
	a.registerAudit()
	a.registerTokens()
	a.registerTunings()
	return a
}

// Handler returns the API for callers that are the administrator by the way
// they came: the Unix socket and the same process.
func (a *API) Handler() http.Handler { return a.mux }

// Authenticated returns the API for callers that must show a bearer token
// (RFC 6750). An empty token lets nobody in. The description of the API, which
// holds no data, is open.
func (a *API) Authenticated(token string) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(got))
		bearer := strings.EqualFold(scheme, "Bearer")
		who, role := tokenHolder, fleet.Admin
		ok := subtle.ConstantTimeCompare(want[:], sum[:]) == 1 && token != "" && bearer
		if !ok && bearer {
			t, err := a.cp.Fleet.AuthenticateAPI(r.Context(), got)
			if err != nil && !errors.Is(err, fleet.ErrDenied) {
				writeProblem(w, a.problem("authenticate", err))
				return
			}
			ok, who, role = err == nil, holder(t), t.Role
		}
		if !ok && !strings.HasPrefix(r.URL.Path, "/openapi") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sandpiper"`)
			detail := "this needs a token: one of `sandpiper token add`, or the one that `sandpiper init` wrote to keys/admin.token; a command takes it from SANDPIPER_TOKEN, a request has Authorization: Bearer TOKEN"
			if got != "" {
				detail = "the token is not one of this control plane; `sandpiper init` wrote it into its data folder, and `sandpiper token add` makes more"
			}
			writeProblem(w, newProblem(http.StatusUnauthorized, CodeDenied, detail))
			return
		}
		a.mux.ServeHTTP(w, r.WithContext(withRole(audit.By(r.Context(), who), role)))
	})
}

// needs is the role that an operation needs: to look, viewer; to change something
// releaser, unless it is in this list.
var needs = map[string]fleet.Role{
	"verify-model": fleet.Viewer, "verify-audit": fleet.Viewer,
	"add-device": fleet.Admin, "remove-device": fleet.Admin, "renew-device-token": fleet.Admin, "add-user": fleet.Admin, "protect-model": fleet.Admin,
	"list-tokens": fleet.Admin, "add-token": fleet.Admin, "remove-token": fleet.Admin,
}

// authorize lets a caller of sufficient role pass.
func (a *API) authorize(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	needed, ok := needs[op.OperationID]
	switch {
	case ok:
	case op.Method == http.MethodGet:
		needed = fleet.Viewer
	default:
		needed = fleet.Releaser
	}
	if have := roleOf(ctx.Context()); !have.May(needed) {
		p := newProblem(http.StatusForbidden, CodeDenied,
			fmt.Sprintf("%s has the role %s, and %s needs the role %s; an admin can make such a token with `sandpiper token add`",
				caller(ctx.Context()), have, op.OperationID, needed))
		ctx.SetHeader("Content-Type", "application/problem+json")
		ctx.SetStatus(p.Status)
		_ = json.NewEncoder(ctx.BodyWriter()).Encode(p) // a client that has gone
		return
	}
	next(huma.WithContext(ctx, audit.By(ctx.Context(), caller(ctx.Context()))))
}

// NewHTTPServer returns a server for h with limits on headers and idle
// connections, that knows which user is at the other end of a socket. Uploads and training have no limit on time.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ConnContext:       withPeer,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// WriteOpenAPI writes the description of the API as JSON.
func (a *API) WriteOpenAPI(w io.Writer) error {
	b, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// schemaName names the schema of a type: huma's name, after that of its package
// if it is not this one.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name, pkg := huma.DefaultSchemaNamer(t, hint), path.Base(t.PkgPath())
	if t.Name() == "" || pkg == "api" || pkg == "huma" || pkg == "." {
		return name
	}
	return strings.ToUpper(pkg[:1]) + pkg[1:] + name
}

// WriteYAML writes a JSON document as YAML.
func WriteYAML(w io.Writer, document []byte) error {
	return yaml.Convert(w, strings.NewReader(string(document)))
}

// register adds an operation whose errors go through problem.
func register[I, O any](a *API, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.Path = Base + op.Path
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusInternalServerError)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.problem(op.OperationID, err)
		}
		return out, nil
	})
}

// problem maps err and logs what the answer does not say.
func (a *API) problem(operation string, err error) *Problem {
	p, known := problem(err)
	if !known {
		a.log.Error("request failed", "operation", operation, "err", err)
	}
	return p
}

// writeProblem answers with p outside of huma.
func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that has gone
}

// A body wraps what an operation answers.
type body[T any] struct{ Body T }

// answer wraps v, or passes err on.
func answer[T any](v T, err error) (*body[T], error) {
	if err != nil {
		return nil, err
	}
	return &body[T]{v}, nil
}
