package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

const fallbackPipeline = `period = "1s"
output = "plant/{stream}/wear"

[[input]]
column = "temp"
topic = "plant/+/temp"
pointer = "/c"
`

// TestFallbackThroughTheControlPlane gives a device a broker that hands it nothing
// of what is retained for all. What it is to run comes from the control plane, on
// topics of its own: a full version, one in chunks, and heads of a model that goes
// on learning, whose pipeline comes along.
func TestFallbackThroughTheControlPlane(t *testing.T) {
	w := newBadWorld(t)
	var mu sync.Mutex
	topics := make(map[string]int)
	w.wire.refusing("/b/")
	w.wire.onPublish(func(topic string, _ []byte) {
		mu.Lock()
		defer mu.Unlock()
		if parsed, err := protocol.ParseTopic(topic); err == nil {
			topics[string(parsed.Kind)]++
		}
	})
	arrives := func(ref, kind string) {
		t.Helper()
		w.must("rollout", "start", ref, "--to", badDevice)
		name, _, _ := strings.Cut(ref, ":")
		w.until(ref+" to be confirmed", func() bool {
			m := w.device.Status().Models[name]
			return m.Version == ref && m.Phase == protocol.PhaseIdle
		})
		w.until("the log to say how "+ref+" came", func() bool {
			return strings.Contains(w.log.all(), fmt.Sprintf(`version=%s detail="%s, `, ref, kind))
		})
		w.stillAnswers(t)
	}
	arrives("big:v1", protocol.KindFull)

	train := func(more ...string) {
		t.Helper()
		w.must(append([]string{"train", "room", "--data", w.path("wave.csv"), "--task", "forecast", "--time", "time", "--epochs", "1", "-q"}, more...)...)
	}
	train("--target", "temp", "--features", "temp", "--window", "12", "--horizon", "1", "--units", "24", "--int8-bound", "10")
	arrives("room:v1", protocol.KindFull)
	w.must("model", "pipeline", "room:v1", "--file", w.write("pipeline.toml", []byte(fallbackPipeline)))
	arrives("room:v2", protocol.KindHead) // the tensors are those of v1
	train("--from", "room:v2", "--head-only", "--int8-bound", "10")
	arrives("room:v3", protocol.KindHead)
	train("--from", "room:v3", "--no-pipeline", "--lr", "0.0001", "--int8-bound", "10")
	for version, fed := range map[string]bool{"room:v2": true, "room:v3": true, "room:v4": false} {
		var v api.Version
		w.check(json.Unmarshal([]byte(w.must("model", "show", version, "-o", "json")), &v))
		if (v.Schema.Pipeline != nil) != fed {
			t.Errorf("%s has the pipeline %+v, want one: %t", version, v.Schema.Pipeline, fed)
		}
	}
	arrives("room:v4", protocol.KindDelta)

	mu.Lock()
	defer mu.Unlock()
	if topics[string(protocol.TopicBlock)] == 0 || topics[string(protocol.TopicBlockDescriptor)] < 5 {
		t.Errorf("the device was sent %v, want blocks", topics)
	}
}
