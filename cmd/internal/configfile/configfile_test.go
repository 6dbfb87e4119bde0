package configfile

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/cmd/internal/config"
)

func TestAgentWritesWhatItReads(t *testing.T) {
	want := config.Agent{
		Fleet: "default", Device: "pump1", Broker: "tls://broker.example:8883", Username: "d.pump1",
		Token: `quote " and \ and é`, Root: config.Base64{0, 1, 254, 255}, DataDir: filepath.Join(t.TempDir(), "cache"),
		LogLevel: slog.LevelDebug,
		Limits:   config.AgentLimits{QuotaBytes: 8 << 20, DailyBytes: 1 << 20, QueueLen: 16, Trial: config.Duration(90 * time.Second), Slowdown: 2.5},
	}
	dir := t.TempDir()
	local := config.AgentLocal{
		Listen: "0.0.0.0:8883", Cert: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "k.pem"), Plaintext: true,
		Users: map[string]string{"ann": strings.Repeat("0a", 32), "bob-2": strings.Repeat("0b", 32)},
	}
	for i, limits := range []config.AgentLimits{want.Limits, {}} {
		want.Limits, want.Fallback = limits, []string{"never", ""}[i]
		want.HomeAssistant = []config.AgentHomeAssistant{{Via: "local", Prefix: "ha"}, {}}[i]
		want.Local, want.Simple = []config.AgentLocal{local, {}}[i], i == 0
		path := filepath.Join(t.TempDir(), "agent.toml")
		if err := WriteAgent(path, want); err != nil {
			t.Fatal(err)
		}
		got, err := config.LoadAgent(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("LoadAgent(WriteAgent(a)) differs (-want +got):\n%s", diff)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode of agent.toml = %v, want 0600", info.Mode().Perm())
		}
	}
}

func TestServerWritesWhatItReads(t *testing.T) {
	want := config.DefaultServer()
	want.Fleet, want.Broker.Advertise, want.HTTP.Listen = "north", "tls://broker.example:8883", "[::1]:0"
	path := filepath.Join(t.TempDir(), "sandpiper.toml")
	if err := WriteServer(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := config.LoadServer(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("LoadServer(WriteServer(s)) differs (-want +got):\n%s", diff)
	}
}
