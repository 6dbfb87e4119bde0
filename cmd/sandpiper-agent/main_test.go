package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpiper-edge/sandpiper/agent"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
	"github.com/sandpiper-edge/sandpiper/cmd/internal/configfile"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// writeConfig writes agent.toml into a new, short folder and returns its path.
func writeConfig(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	role := artifact.Role{Keys: [][]byte{key.Public().(ed25519.PublicKey)}, Threshold: 1}
	r := artifact.Root{Format: artifact.Format, Version: 1, Roles: map[string]artifact.Role{
		artifact.RoleRoot: role, artifact.RoleRelease: role, artifact.RoleRollout: role,
	}}
	b, err := r.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := artifact.Sign(artifact.TypeRoot, b, key).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.toml")
	c := config.Agent{Fleet: "f", Device: "d1", Broker: "tcp://127.0.0.1:1", Token: "secret", Root: root, DataDir: "data"}
	if err := configfile.WriteAgent(path, c); err != nil {
		t.Fatal(err)
	}
	return path
}

// command runs one command line.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	path := writeConfig(t)
	text := filepath.Join(filepath.Dir(path), "text")
	if err := os.WriteFile(text, []byte("not a model"), 0o600); err != nil {
		t.Fatal(err)
	}
	unknown := filepath.Join(filepath.Dir(path), "unknown.toml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(unknown, append(b, "\ncolour = \"red\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{nil, exitUsage, "no command"},
		{[]string{"fly"}, exitUsage, `unknown command "fly"`},
		{[]string{"status", "--colour"}, exitUsage, "colour"},
		{[]string{"status", "-o", "xml"}, exitUsage, "-o json"},
		{[]string{"install", "--config", path}, exitUsage, "name the model file"},
		{[]string{"run", "--data", "x"}, exitUsage, "--data"},
		{[]string{"run", "--config", "/nowhere/agent.toml"}, exitNotFound, "no such file"},
		{[]string{"run", "--config", unknown}, exitUsage, "unknown.toml:"},
		{[]string{"status", "--config", path}, exitUnreachable, "sandpiper-agent run"},
		{[]string{"install", "/nowhere/model", "--config", path}, exitNotFound, "no such file"},
		{[]string{"install", text, "--data", t.TempDir()}, exitUnreachable, "--config"},
		{[]string{"install", text, "--config", path}, exitRefused, "refused"},
		{[]string{"pin", "--config", path}, exitUsage, "pin: name the model, as MODEL or MODEL:vN"},
		{[]string{"rollback", "a", "b", "--config", path}, exitUsage, `"b" is one argument too many`},
		{[]string{"rollback", "pump", "--data", t.TempDir()}, exitUnreachable, "rollback needs --config"},
		{[]string{"pin", "pump:v3", "--config", path}, exitNotFound, "model pump: not on this device"},
		{[]string{"unpin", "pump", "--config", path}, exitNotFound, "model pump: not on this device"},
		{[]string{"--help"}, exitOK, ""},
	} {
		code, _, stderr := command(t, tc.args...)
		if code != tc.code || !strings.Contains(stderr, tc.says) {
			t.Errorf("%q: exit %d, %q; want %d and %q", tc.args, code, stderr, tc.code, tc.says)
		}
		if strings.Contains(stderr, "secret") {
			t.Errorf("%q prints the credential: %q", tc.args, stderr)
		}
	}
}

func TestTokenIsTheHashedOne(t *testing.T) {
	var d tokenDocument
	code, stdout, _ := command(t, "token", "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &d); code != 0 || err != nil {
		t.Fatalf("token: exit %d, %s", code, stdout)
	}
	if sum := sha256.Sum256([]byte(d.Token)); len(d.Token) != 32 || d.Hash != hex.EncodeToString(sum[:]) {
		t.Errorf("token %+v", d)
	}
	if _, again, _ := command(t, "token", "-o", "json"); again == stdout {
		t.Error("the same token twice")
	}
}

func TestVersionDocument(t *testing.T) {
	code, stdout, _ := command(t, "version", "-o", "json")
	var d versionDocument
	if err := json.Unmarshal([]byte(stdout), &d); code != 0 || err != nil || d.Version == "" || d.Kernel == "" || d.ABI < 1 || d.Protocol != "sp1" {
		t.Errorf("version: exit %d, %s", code, stdout)
	}
}

func TestRunStatusAndCleanStop(t *testing.T) {
	path := writeConfig(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int, 1)
	var stderr bytes.Buffer
	go func() { done <- run(ctx, []string{"run", "--config", path}, os.Stdout, &stderr) }()
	var code int
	var stdout string
	for code = exitUnreachable; code == exitUnreachable && len(done) == 0; {
		code, stdout, _ = command(t, "status", "--config", path, "-o", "json")
	}
	var s agent.Status
	if err := json.Unmarshal([]byte(stdout), &s); code != 0 || err != nil || s.Device != "d1" || !s.Running || s.Connected {
		t.Errorf("status: exit %d, %s", code, stdout)
	}
	if code, stdout, _ := command(t, "version", "--config", path, "-o", "json"); code != 0 || !strings.Contains(stdout, `"running": "dev"`) {
		t.Errorf("version: exit %d, %s", code, stdout)
	}
	stop()
	if code := <-done; code != exitOK {
		t.Errorf("run exits %d after a signal, want 0: %s", code, stderr.String())
	}
}
