package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/broker"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

// TestTelegrafRunsTheConfig has Telegraf read an answer from a device's listener,
// and write it as the page says.
func TestTelegrafRunsTheConfig(t *testing.T) {
	program, err := exec.LookPath("telegraf")
	if err != nil {
		t.Skip("telegraf is not installed (https://github.com/influxdata/telegraf; inputs.mqtt_consumer, outputs.file and parsers.json are enough)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	allow := func(string, string) bool { return true }
	b, err := broker.New(broker.Config{Listener: l, MayPublish: allow, MaySubscribe: allow, Received: func(packet.Message) {}})
	if err != nil {
		t.Fatal(err)
	}
	reply := `{"model":"boiler","version":"boiler:v7","y":[61.5,60],"us":9}`
	b.Publish(packet.Message{Topic: protocol.SimpleOutputTopic("default", "cellar", "boiler"), Payload: []byte(reply), Retain: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()

	conf := filepath.Join(t.TempDir(), "telegraf.conf")
	text := strings.Replace(readRecipe(t, "clients/telegraf.conf"), "127.0.0.1:1883", l.Addr().String(), 1)
	text = "[agent]\n  interval = \"100ms\"\n  flush_interval = \"100ms\"\n" + text
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, program, "--config", conf)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := ""
	for lines := bufio.NewScanner(out); !strings.HasPrefix(seen, "prediction,") && lines.Scan(); {
		seen = lines.Text()
	}
	for _, part := range []string{"device=cellar", "fleet=default", "model=boiler", "version=boiler:v7", "us=9", "y_0=61.5", "y_1=60"} {
		if !strings.Contains(seen, part) {
			t.Errorf("Telegraf writes %q, want %s in it", seen, part)
		}
	}
	cancel()
	_ = cmd.Wait() // it was killed
	if err := <-done; err != nil {
		t.Error(err)
	}
}
