package agent

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
	"github.com/sandpiper-edge/sandpiper/protocol/packet/packettest"
)

// collect returns what is published within a second, by topic.
func collect(t *testing.T, p *packettest.Peer) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, got := range p.Until(time.Second) {
		if got.Type != packet.Publish {
			continue
		}
		m, err := packet.ParsePublish(packet.V5, got)
		if err != nil {
			t.Fatal(err)
		}
		out[m.Topic] = string(m.Payload)
	}
	return out
}

func TestHomeAssistantSeesTheDevice(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		dir := t.TempDir()
		w.installed(dir, v1).stop()
		var l *packettest.Listener
		d := w.start(dir, func(c *Config) {
			l = onsite(c)
			c.Simple, c.HomeAssistant = true, HomeAssistant{Prefix: "homeassistant"}
		})
		p := w.peer(l, "")
		p.Send(packet.AppendSubscribe(nil, packet.V5, 1, []packet.Filter{{Topic: "homeassistant/#"}}))
		got := collect(t, p)
		const sensor, update = "homeassistant/sensor/sp1_f_d1_pump_0/config", "homeassistant/update/sp1_f_d1_pump/"
		var e entity
		if err := json.Unmarshal([]byte(got[sensor]), &e); err != nil || e.StateTopic != "sp1/f/d/d1/o/pump" || e.Name != "pump wear" ||
			e.AvailabilityTopic != protocol.UpTopic("f", "d1") || e.UniqueID == "" || len(e.Device.Identifiers) != 1 {
			t.Errorf("sensor %q, %v", got[sensor], err)
		}
		if err := json.Unmarshal([]byte(got[update+"config"]), &e); err != nil || e.StateTopic != update+"state" ||
			e.CommandTopic != update+"set" || e.PayloadInstall != "install" {
			t.Errorf("update %q, %v", got[update+"config"], err)
		}
		if s := got[update+"state"]; s != `{"installed_version":"pump:v1","latest_version":"pump:v1"}` || len(got) != 3 {
			t.Errorf("state %s of %v", s, got)
		}

		// A version that waits for its hour is offered, and the button brings it.
		w.publish(v2)
		want := w.want(v2)
		want.NotBefore = time.Now().Add(time.Hour).UnixMilli()
		w.ask(want)
		pass(time.Second)
		if got := collect(t, p); len(got) != 1 || got[update+"state"] != `{"installed_version":"pump:v1","latest_version":"pump:v2"}` {
			t.Errorf("while v2 waits: %v", got)
		}
		p.Send(packet.AppendPublish(nil, packet.V5, packet.Message{Topic: update + "set", Payload: []byte("something")}))
		settle()
		d.expect("fetching active pump:v1 serving pump:v1")
		p.Send(packet.AppendPublish(nil, packet.V5, packet.Message{Topic: update + "set", Payload: []byte("install")}))
		got = collect(t, p)
		d.expect("trying active pump:v2 serving pump:v2 previous pump:v1")
		if s := got[update+"state"]; s != `{"installed_version":"pump:v2","latest_version":"pump:v2"}` {
			t.Errorf("state %s", s)
		}

		// When Home Assistant starts, it is told everything again.
		p.Send(packet.AppendPublish(nil, packet.V5, packet.Message{Topic: "homeassistant/status", Payload: []byte("online")}))
		if got := collect(t, p); len(got) != 4 || got[sensor] == "" { // with its own message
			t.Errorf("after it started: %v", got)
		}
		p.Send(packet.AppendPublish(nil, packet.V5, packet.Message{Topic: "homeassistant/switch/x/set", Payload: []byte("on"), QoS: 1, ID: 9}))
		for {
			if ack := p.Next(); ack.Type == packet.Puback {
				if len(ack.Body) != 3 {
					t.Error("a client may publish what is not Home Assistant's to say")
				}
				break
			}
		}
	})
}

func TestHomeAssistantOnABrokerOfItsOwn(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1 := w.version(1)
		dir := t.TempDir()
		w.installed(dir, v1).stop()
		w.refuse = "ha/" // as the embedded broker does
		var logged strings.Builder
		d := w.start(dir, func(c *Config) {
			c.HomeAssistant = HomeAssistant{Prefix: "ha", Broker: true}
			c.Log = slog.New(slog.NewTextHandler(&logged, nil))
		})
		if !strings.Contains(logged.String(), "does not allow Home Assistant") {
			t.Errorf("log: %s", logged.String())
		}
		d.answers(v1)
		if n := len(w.published("ha/update/sp1_f_d1_pump/config")); n != 0 {
			t.Errorf("%d messages that the broker does not allow", n)
		}
		w.mu.Lock()
		w.refuse = ""
		w.mu.Unlock()
		w.cut()
		pass(2 * time.Minute)
		if n := len(w.published("ha/update/sp1_f_d1_pump/config")); n != 1 {
			t.Errorf("%d configs, want 1", n)
		}
		if err := w.server.Publish("ha/status", []byte("online"), false, 0); err != nil {
			t.Fatal(err)
		}
		settle()
		if n := len(w.published("ha/update/sp1_f_d1_pump/config")); n != 2 {
			t.Errorf("%d configs after Home Assistant started, want 2", n)
		}
	})
}
