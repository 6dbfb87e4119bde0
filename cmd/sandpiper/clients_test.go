package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/broker"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

const recipes = "../../docs/recipes/"

func readRecipe(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(recipes, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestNodeREDFlow holds the flow to the protocol: its topics are those of the
// simple mode, every wire leads to a node, and each node of MQTT to the device.
func TestNodeREDFlow(t *testing.T) {
	var nodes []struct {
		ID, Type, Topic, Broker, Func string
		Wires                         [][]string
	}
	if err := json.Unmarshal([]byte(readRecipe(t, "clients/node-red.json")), &nodes); err != nil {
		t.Fatal(err)
	}
	types := make(map[string]string)
	for _, n := range nodes {
		types[n.ID] = n.Type
	}
	kinds := map[string]protocol.TopicKind{"mqtt out": protocol.TopicSimplePredict, "mqtt in": protocol.TopicSimpleOutput}
	seen := 0
	for _, n := range nodes {
		for _, to := range slices.Concat(n.Wires...) {
			if types[to] == "" {
				t.Errorf("%s leads to %s, which is no node", n.ID, to)
			}
		}
		want, mqtt := kinds[n.Type]
		if !mqtt {
			continue
		}
		seen++
		topic, err := protocol.ParseTopic(n.Topic)
		if err != nil || topic.Kind != want || topic.Device != "cellar" || topic.Model != "boiler" || types[n.Broker] != "mqtt-broker" {
			t.Errorf("%s: topic %s, %v, broker %q", n.Type, n.Topic, err, types[n.Broker])
		}
	}
	if seen != 2 {
		t.Errorf("%d nodes of MQTT, want one that asks and one that hears", seen)
	}
	// What the function node makes is a request.
	for _, n := range nodes {
		if n.ID != "sp1window" {
			continue
		}
		if !strings.Contains(n.Func, "JSON.stringify({x})") || !strings.Contains(n.Func, "i < 24") {
			t.Errorf("the window is %q; the page's model wants 24 rows under x", n.Func)
		}
	}
}

// TestNodeREDRunsTheFlow has Node-RED ask a device's listener, and show the
// answer.
func TestNodeREDRunsTheFlow(t *testing.T) {
	program, err := exec.LookPath("node-red")
	if err != nil {
		t.Skip("node-red is not installed (npm install -g node-red)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan []byte, 10)
	allow := func(string, string) bool { return true }
	b, err := broker.New(broker.Config{Listener: l, MayPublish: allow, MaySubscribe: allow, Received: func(m packet.Message) {
		if m.Topic == protocol.SimplePredictTopic("default", "cellar", "boiler") {
			asked <- m.Payload
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	flow := filepath.Join(dir, "flow.json")
	text := strings.Replace(readRecipe(t, "clients/node-red.json"), `"port": "1883"`, `"port": "`+port+`"`, 1)
	if err := os.WriteFile(flow, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, program, "--userDir", dir, "-D", "uiPort=0", "-D", "uiHost=127.0.0.1", flow)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		select {
		case payload := <-asked:
			r, err := protocol.DecodePredictRequest(payload, []string{"temperature", "power"})
			if err != nil || r.Steps != 24 {
				t.Errorf("Node-RED asks %s, %v", payload, err)
			}
			reply := `{"model":"boiler","version":"boiler:v7","y":[61.5],"us":9}`
			b.Publish(packet.Message{Topic: protocol.SimpleOutputTopic("default", "cellar", "boiler"), Payload: []byte(reply)})
		case <-ctx.Done():
		}
	}()
	seen := ""
	for lines := bufio.NewScanner(out); !strings.Contains(seen, "61.5") && lines.Scan(); {
		seen += lines.Text() + "\n"
	}
	if !strings.Contains(seen, "boiler:v7") || !strings.Contains(seen, "61.5") {
		t.Errorf("Node-RED shows %s", seen)
	}
	cancel()
	_ = cmd.Wait() // it was killed
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTelegrafConfig holds the configuration to what a device sends.
func TestTelegrafConfig(t *testing.T) {
	conf := readRecipe(t, "clients/telegraf.conf")
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^\s*` + key + ` = \[?"([^"]*)"\]?$`).FindStringSubmatch(conf)
		if m == nil {
			t.Fatalf("telegraf.conf has no %s", key)
		}
		return m[1]
	}
	topic := protocol.SimpleOutputTopic("default", "cellar", "boiler")
	if filter := value("topics"); !packet.Match(filter, topic) || packet.Match(filter, protocol.HaveTopic("default", "cellar")) {
		t.Errorf("topics %s", filter)
	}
	if !packet.Match(value("topic"), topic) {
		t.Errorf("topic_parsing of %s does not fit %s", value("topic"), topic)
	}
	tags, levels := strings.Split(value("tags"), "/"), strings.Split(topic, "/")
	got := make(map[string]string)
	for i, tag := range tags {
		if tag != "_" {
			got[tag] = levels[i]
		}
	}
	if len(tags) != len(levels) || got["fleet"] != "default" || got["device"] != "cellar" || got["model"] != "boiler" {
		t.Errorf("tags %v", got)
	}
	reply, err := protocol.PredictReply{Model: "boiler", Version: "boiler:v1", Y: []float32{61.4, 61.2}, US: 31}.AppendReply(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	var sent map[string]any
	if err := json.Unmarshal(reply, &sent); err != nil {
		t.Fatal(err)
	}
	if value("data_format") != "json" || sent[value("tag_keys")] != "boiler:v1" {
		t.Errorf("a device sends %s", reply)
	}
}

// TestGoRecipe: the page shows what compiles.
func TestGoRecipe(t *testing.T) {
	_, block, _ := strings.Cut(readRecipe(t, "clients.md"), "```go\n")
	block, _, _ = strings.Cut(block, "```")
	b, err := os.ReadFile("../../protocol/client/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	source := strings.ReplaceAll(string(b), "\n\t", "\n")
	if block == "" || !strings.Contains(source, block) {
		t.Errorf("protocol/client/example_test.go does not have the page's\n%s", block)
	}
}
