package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDocs runs the commands of the pages, one after the other, as a reader
// would: on a folder of its own, with the two programs on the PATH.
func TestDocs(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs both programs")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./cmd/sandpiper", "./cmd/sandpiper-agent")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for page, least := range map[string]int{"README.md": 8, "docs/rollouts.md": 8, "docs/operating.md": 8, "docs/recipes/keras.md": 8, "docs/pipelines.md": 10, "docs/data.md": 4, "docs/evaluation.md": 4, "docs/recipes/beijing-pm25.md": 6, "docs/recipes/fd001.md": 5, "docs/recipes/etth1.md": 6, "docs/recipes/groups.md": 4, "docs/recipes/skab.md": 4, "docs/recipes/series.md": 5, "docs/recipes/clients.md": 9} { // commands
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join(root, page))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "$SANDPIPER_DATA") && os.Getenv("SANDPIPER_DATA") == "" {
				t.Skip("SANDPIPER_DATA is not set")
			}
			r := newReader(t, root, bin)
			lines := shellLines(string(text))
			for _, line := range lines {
				r.run(line)
			}
			if r.ran < least {
				t.Errorf("ran %d commands of %s, want %d", r.ran, page, least)
			}
		})
	}
}

// shellLines returns the commands of the ```sh blocks of a page.
func shellLines(page string) []string {
	var lines []string
	for _, block := range strings.Split(page, "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		block = strings.ReplaceAll(block, "\\\n", "")
		for line := range strings.Lines(block) {
			command, _, _ := strings.Cut(line, " #")
			if command = strings.TrimSpace(command); command != "" {
				lines = append(lines, command)
			}
		}
	}
	return lines
}

// A pageReader types the commands of one page.
type pageReader struct {
	t   *testing.T
	dir string // where it types them
	env []string
	ran int

	local string // port of the agent's own listener
}

func newReader(t *testing.T, root, bin string) *pageReader {
	// A short folder: sockets live below it, and their paths are limited.
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Symlink(filepath.Join(root, "docs"), filepath.Join(dir, "docs")); err != nil {
		t.Fatal(err)
	}
	return &pageReader{t: t, dir: dir, env: append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))}
}

func (r *pageReader) run(line string) {
	r.t.Helper()
	switch {
	case strings.HasPrefix(line, "go "), strings.HasPrefix(line, "export "):
		return // building, and the demo: other tests do it
	case strings.HasPrefix(line, "mosquitto_rr"):
		if _, err := exec.LookPath("mosquitto_rr"); err != nil {
			r.t.Logf("not run, mosquitto_rr is not installed: %s", line)
			return
		}
		if strings.Contains(line, "TOKEN") {
			line = r.asAnn(line)
		} else {
			line = r.besideDevice(line)
		}
	case strings.Contains(line, "mosquitto_pub"):
		if _, err := exec.LookPath("mosquitto_pub"); err != nil {
			r.t.Logf("not run, mosquitto_pub is not installed: %s", line)
			return
		}
		line = r.besideDevice(line)
	case strings.HasPrefix(line, "printf '[local]"):
		line = strings.Replace(line, "1883", r.port(), 1)
	case strings.HasPrefix(line, "sandpiper serve"):
		// The documented ports may be taken here.
		line = strings.Replace(line, "serve", "serve --broker-listen 127.0.0.1:0 --http-listen 127.0.0.1:0", 1)
	}
	r.ran++
	if background, ok := strings.CutSuffix(line, "&"); ok {
		r.start(background)
		return
	}
	if out, err := r.shell(line); err != nil {
		r.t.Fatalf("%s\n%v\n%s", line, err, out)
	}
	if strings.HasPrefix(line, "sandpiper fleet add") && strings.HasSuffix(line, " agent.toml") {
		r.shortenTrial()
	}
}

// shortenTrial spares the test most of the ten seconds that each new version
// is on trial.
func (r *pageReader) shortenTrial() {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, "agent.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = f.WriteString("\n[limits]\ntrial = \"200ms\"\n")
	if err = errors.Join(err, f.Close()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *pageReader) shell(line string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = r.dir, r.env
	return cmd.CombinedOutput()
}

// start starts a command that goes on, and returns when it answers.
func (r *pageReader) start(line string) {
	r.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command("sh", "-c", "exec "+line)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.dir, r.env, &log, &log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("%s: %v\n%s", line, err, log.Bytes())
		}
	})
	probe := "sandpiper-agent status --config agent.toml"
	switch {
	case strings.HasPrefix(line, "sandpiper serve"):
		probe = "test -S sandpiper-data/api.sock"
	case strings.HasPrefix(line, "sandpiper fleet simulate"):
		probe = "sandpiper fleet show device-00001"
	}
	if err := await(r.t.Context(), 20*time.Second, line, func() (bool, error) {
		_, err := r.shell(probe)
		return err == nil, nil
	}); err != nil {
		r.t.Fatal(err)
	}
}

// port is that of the agent's own listener: the documented one may be taken.
func (r *pageReader) port() string {
	r.t.Helper()
	if r.local == "" {
		address, err := freePort()
		if err != nil {
			r.t.Fatal(err)
		}
		r.local = address[strings.LastIndexByte(address, ':')+1:]
	}
	return r.local
}

// besideDevice has the clients of line use that port, and fails it when no
// output came.
func (r *pageReader) besideDevice(line string) string {
	for _, tool := range []string{"mosquitto_pub", "mosquitto_sub", "mosquitto_rr"} {
		line = strings.ReplaceAll(line, tool, tool+" -p "+r.port())
	}
	answer := `"version":"boiler:v1","y":\[`
	if strings.Contains(line, "heating/") {
		answer = `"s":"b1".*"version":"boiler:v2","y":\[`
	}
	return line + ` | grep '` + answer + "'"
}

// asAnn fills in what only this run knows: ann's token and the broker's port.
func (r *pageReader) asAnn(line string) string {
	r.t.Helper()
	out, err := r.shell("sandpiper user add ann -o json --quiet")
	if err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	var user struct{ Token, Broker string }
	if err := json.Unmarshal(out, &user); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	broker, err := url.Parse(user.Broker)
	if err != nil {
		r.t.Fatal(err)
	}
	line = strings.Replace(line, "TOKEN", user.Token, 1)
	return strings.Replace(line, "mosquitto_rr", "mosquitto_rr -W 20 -h 127.0.0.1 -p "+broker.Port(), 1)
}
