package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
)

// socket returns the path of the socket that o points to.
func socket(o options) (string, error) {
	if o.data != "" {
		return agent.DefaultSocket(o.data), nil
	}
	c, err := load(o)
	if err != nil {
		return "", err
	}
	return agent.DefaultSocket(c.DataDir), nil
}

// callTime bounds one request to the agent.
const callTime = time.Minute

// call sends one request to the agent behind socket and decodes its answer
// into v. The error wraps errUnreachable when no agent listens there, and
// errRefused when it answers that the file is at fault.
//
// It writes the request itself: one request over one connection needs nothing
// of http.Client, which is a fifth of a megabyte of the agent.
func call(ctx context.Context, socket, method, path string, body io.Reader, v any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return err
	}
	r.Close = true
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w on %s; start one with `sandpiper-agent run`", errUnreachable, socket)
	}
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	code, b, err := exchange(conn, r)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("ask the agent: %w", err)
	}
	if code != http.StatusOK {
		var e struct {
			Error   string
			Refused bool
		}
		if json.Unmarshal(b, &e) != nil || e.Error == "" {
			e.Error = fmt.Sprintf("%d %s", code, http.StatusText(code))
		}
		if e.Refused {
			return fmt.Errorf("%w: %s", errRefused, e.Error)
		}
		if code == http.StatusNotFound {
			return &notHereError{e.Error}
		}
		return errors.New(e.Error)
	}
	return json.Unmarshal(b, v)
}

// A notHereError is what the agent says about what the device does not have.
type notHereError struct{ text string }

func (e *notHereError) Error() string { return e.text }
func (e *notHereError) Unwrap() error { return agent.ErrNotHere }

// exchange sends r and reads the answer: its status code, and at most 1 MiB.
func exchange(conn net.Conn, r *http.Request) (code int, body []byte, err error) {
	if err := conn.SetDeadline(time.Now().Add(callTime)); err != nil {
		return 0, nil, err
	}
	sent := r.Write(conn) // the agent may answer, and close, before it has all
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return 0, nil, errors.Join(sent, err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

func status(ctx context.Context, o options, stdout io.Writer) error {
	path, err := socket(o)
	if err != nil {
		return err
	}
	var s agent.Status
	if err := call(ctx, path, http.MethodGet, "/status", nil, &s); err != nil {
		return err
	}
	if o.json() {
		return printJSON(stdout, s)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "device\t%s\nfleet\t%s\nagent\t%s\nkernel\t%s\nstart\t%d\n", s.Device, s.Fleet, s.Agent, s.Kernel, s.Boot)
	if s.Connected {
		fmt.Fprintln(w, "broker\tconnected")
	} else {
		fmt.Fprintf(w, "broker\tnot connected: %s\n", s.Link)
	}
	if s.Storage != "" {
		fmt.Fprintf(w, "storage\t%s\n", s.Storage)
	}
	for _, f := range s.Findings {
		fmt.Fprintf(w, "found\t%s\n", f.Text)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Models)) {
		m := s.Models[name]
		fmt.Fprintf(w, "model %s\t%s, %s, %d predictions\n", name, or(m.Version, "no version"), m.Phase, m.Predictions)
		if m.Previous != "" {
			fmt.Fprintf(w, "  previous\t%s\n", m.Previous)
		}
		if m.Hold != "" {
			fmt.Fprintf(w, "  held\t%s by the device's owner\n", m.Hold)
		}
		if m.Waiting != "" {
			what := m.Candidate
			if what.IsZero() && m.Shadow != nil {
				what = m.Shadow.Digest
			}
			fmt.Fprintf(w, "  fetching %s\twaits: %s\n", what.Short(), m.Waiting)
		}
		if q := m.Quality; q != nil {
			fmt.Fprintf(w, "  quality\t%s\n", q)
		}
		if m.Unmatched > 0 {
			fmt.Fprintf(w, "  labels\t%d that no output waited for\n", m.Unmatched)
		}
		if s := m.Shadow; s != nil {
			fmt.Fprintf(w, "  shadow\t%s, %s\n", or(s.Version, s.Digest.Short()), s.Phase)
			if f := s.Failed; f != nil {
				fmt.Fprintf(w, "  shadow failed\t%s: %s\n", f.Code, f.Message)
			}
		}
		if p := m.Pipeline; p != nil {
			fmt.Fprintf(w, "  pipeline\t%d streams\n", p.Streams)
			for _, what := range []string{p.Refused, p.Problem} {
				if what != "" {
					fmt.Fprintf(w, "  pipeline\t%s\n", what)
				}
			}
		}
		if f := m.Failed; f != nil {
			fmt.Fprintf(w, "  failed\t%s: %s (%s)\n", f.Code, f.Message, f.Digest.Short())
		}
	}
	return w.Flush()
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// A versionDocument is what `version` prints.
type versionDocument struct {
	Version  string `json:"version"`
	Kernel   string `json:"kernel"` // tier
	ABI      int    `json:"abi"`
	Protocol string `json:"protocol"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	// Running is the version of the agent that answers, if one does: after an
	// update of the program it may be an older one.
	Running string `json:"running,omitempty"`
}

func printVersion(ctx context.Context, o options, stdout io.Writer) error {
	d := versionDocument{
		Version: version, Kernel: kernel.Tier(), ABI: kernel.ABI, Protocol: agent.ProtocolName,
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
	path, err := socket(o)
	if err == nil {
		var s agent.Status
		if call(ctx, path, http.MethodGet, "/status", nil, &s) == nil {
			d.Running = s.Agent
		}
	} else if o.config != "" || o.data != "" {
		return err
	}
	if o.json() {
		return printJSON(stdout, d)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "sandpiper-agent\t%s\nkernel\t%s, ABI %d\nprotocol\t%s\nbuilt with\t%s, %s/%s\n",
		d.Version, d.Kernel, d.ABI, d.Protocol, d.Go, d.OS, d.Arch)
	if d.Running != "" {
		fmt.Fprintf(w, "running\t%s\n", d.Running)
	}
	return w.Flush()
}

// install gives the file to the running agent. When none runs it puts the file
// into the cache itself, which needs the whole configuration: the root document
// is in it.
func install(ctx context.Context, o options, stdout, stderr io.Writer) error {
	f, err := os.Open(o.arg)
	if err != nil {
		return err
	}
	defer f.Close()
	path, err := socket(o)
	if err != nil {
		return err
	}
	var done agent.Installed
	err = call(ctx, path, http.MethodPost, "/install", io.NopCloser(f), &done) // f is read again when no agent answers
	if errors.Is(err, errUnreachable) {
		done, err = installOffline(ctx, o, f, stderr)
	}
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(stdout, done)
	}
	when := "on trial now"
	if !done.Running {
		when = "in the cache; on trial when the agent starts"
	}
	_, err = fmt.Fprintf(stdout, "%s %s\n", done.Version, when)
	return err
}

func installOffline(ctx context.Context, o options, f *os.File, stderr io.Writer) (done agent.Installed, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return done, err
	}
	err = offline(o, stderr, func(a *agent.Agent) error {
		done, err = a.Install(ctx, f)
		if err != nil && agent.Refused(err) {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		return err
	})
	return done, err
}

// offline runs do on the data folder, which no agent has open.
func offline(o options, stderr io.Writer, do func(*agent.Agent) error) error {
	if o.data != "" {
		return fmt.Errorf("%w on %s; without one, %s needs --config agent.toml, which says whose folder it is", errUnreachable, agent.DefaultSocket(o.data), o.command)
	}
	c, err := load(o)
	if err != nil {
		return err
	}
	a, err := open(c, stderr)
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%w: an agent has %s open and does not answer on its socket; try again when it has started, or stop it first",
			errUnreachable, c.DataDir)
	}
	if err != nil {
		return err
	}
	return errors.Join(do(a), a.Close())
}

// hold runs pin, unpin or rollback: through the running agent, or on the data
// folder when none runs.
func hold(ctx context.Context, o options, stdout, stderr io.Writer) error {
	path, err := socket(o)
	if err != nil {
		return err
	}
	var done agent.Placed
	err = call(ctx, path, http.MethodPost, "/"+o.command+"/"+url.PathEscape(o.arg), nil, &done)
	if errors.Is(err, errUnreachable) {
		err = offline(o, stderr, func(a *agent.Agent) (err error) {
			ask := map[string]func(context.Context, string) (agent.Placed, error){"pin": a.Pin, "unpin": a.Unpin, "rollback": a.Rollback}[o.command]
			done, err = ask(ctx, o.arg)
			if errors.Is(err, agent.ErrFloor) || errors.Is(err, agent.ErrReturned) {
				err = fmt.Errorf("%w: %w", errRefused, err)
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(stdout, done)
	}
	when := "in place"
	if !done.Running {
		when = "in place when the agent starts"
	}
	until := map[string]string{
		"":            "follows the control plane",
		"pinned":      "pinned until `sandpiper-agent unpin " + done.Name + "`",
		"rolled_back": "until a newer version is wanted, or `sandpiper-agent unpin " + done.Name + "`",
	}[done.Hold]
	_, err = fmt.Fprintf(stdout, "%s %s; %s\n", or(done.Version, done.Name+": no version"), when, until)
	return err
}

// token makes a token for a user of the local listener. Only its hash is kept,
// in the configuration.
func token(o options, stdout io.Writer) error {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	t := tokenDocument{Token: hex.EncodeToString(random[:])}
	sum := sha256.Sum256([]byte(t.Token))
	t.Hash = hex.EncodeToString(sum[:])
	if o.json() {
		return printJSON(stdout, t)
	}
	_, err := fmt.Fprintf(stdout, "token  %s\n\nfor agent.toml, with the user's name:\n\n[local.users]\nNAME = %q\n", t.Token, t.Hash)
	return err
}

type tokenDocument struct {
	Token string `json:"token"`
	Hash  string `json:"hash"` // SHA-256 of the text, hex
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
