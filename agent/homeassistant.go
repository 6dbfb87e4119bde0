package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

// HomeAssistant shows a device in Home Assistant by its MQTT discovery: a
// sensor for each output of each model, which follows the simple mode's
// replies or the model's pipeline, and for each model an update entity, whose button activates a
// version that is here and waits for its hour.
//
// The topics are under Prefix, outside of sp1, so that they go to the agent's
// own listener, or to a broker of the user's own that allows them; the control
// plane's embedded broker does not.
type HomeAssistant struct {
	Prefix string // "homeassistant" as a rule; empty: off
	Broker bool   // by the connection to the broker; else by the local listener
}

// maxSensors bounds the sensors of one model.
const maxSensors = 16

// install is what the button publishes.
const install = "install"

// statusTopic is where Home Assistant says that it started.
func (h HomeAssistant) statusTopic() string { return h.Prefix + "/status" }

// updateTopic is PREFIX/update/sp1_F_D_MODEL/LEAF.
func (h HomeAssistant) updateTopic(fleet, device, model, leaf string) string {
	return h.Prefix + "/update/" + objectID(fleet, device, model) + "/" + leaf
}

func objectID(parts ...string) string { return "sp1_" + strings.Join(parts, "_") }

// A board is what Home Assistant was told.
type board struct {
	mu   sync.Mutex // guards what follows
	told map[string][]byte
}

// again makes everything untold.
func (b *board) again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = make(map[string][]byte)
}

// haModel returns the model whose install button topic is.
func (a *Agent) haModel(topic string) (model string, ok bool) {
	h := a.cfg.HomeAssistant
	for name := range a.snapshot.Load().Models {
		if topic == h.updateTopic(a.cfg.Fleet, a.cfg.Device, name, "set") {
			return name, true
		}
	}
	return "", false
}

// homeAssistantSays reports whether Home Assistant publishes to topic on the
// local listener.
func (a *Agent) homeAssistantSays(topic string) bool {
	h := a.cfg.HomeAssistant
	if h.Prefix == "" || h.Broker {
		return false
	}
	_, button := a.haModel(topic)
	return button || topic == h.statusTopic()
}

// fromHomeAssistant handles a message under its prefix and reports whether it
// is one; it only enqueues.
func (a *Agent) fromHomeAssistant(topic string, payload []byte) bool {
	h := a.cfg.HomeAssistant
	if h.Prefix == "" || !strings.HasPrefix(topic, h.Prefix+"/") {
		return false
	}
	if topic == h.statusTopic() {
		if string(payload) == protocol.Online {
			a.board.again()
			a.announce()
		}
		return true
	}
	if model, ok := a.haModel(topic); ok && string(payload) == install && a.turns.hurry(model) {
		a.cfg.Log.Info("version is activated before its hour, from Home Assistant", "model", model)
	}
	return true
}

// connectHomeAssistant begins anew on a connection to the broker. One that does
// not allow the topics is no reason to do without it.
func (a *Agent) connectHomeAssistant(ctx context.Context) error {
	h := a.cfg.HomeAssistant
	if h.Prefix == "" || !h.Broker {
		return nil
	}
	err := a.link.Subscribe(ctx, 1, h.statusTopic(), h.Prefix+"/update/+/set")
	if errors.Is(err, link.ErrRefused) {
		a.cfg.Log.Error("the broker does not allow Home Assistant's topics; use one of your own that does, or the local listener", "err", err)
		return nil
	}
	if err == nil {
		a.board.again()
	}
	return err
}

// publishHomeAssistant tells what changed since it was told.
func (a *Agent) publishHomeAssistant(ctx context.Context) error {
	h := a.cfg.HomeAssistant
	if h.Prefix == "" || h.Broker && !a.link.Up() {
		return nil
	}
	now, err := a.entities()
	if err != nil {
		return err
	}
	a.board.mu.Lock()
	told := a.board.told
	a.board.mu.Unlock()
	if told == nil {
		return nil // not connected yet
	}
	for topic := range told {
		if _, still := now[topic]; !still {
			now[topic] = nil // an empty retained message removes an entity
		}
	}
	for _, topic := range sortedKeys(now) {
		payload := now[topic]
		if before, was := told[topic]; was && bytes.Equal(before, payload) {
			continue
		}
		if h.Broker {
			if err := a.link.Publish(ctx, link.Message{Topic: topic, Payload: payload, QoS: 1, Retained: true}); err != nil {
				return err
			}
		} else {
			a.local.Publish(packet.Message{Topic: topic, Payload: payload, QoS: 1, Retain: true})
		}
		a.board.mu.Lock()
		if payload == nil {
			delete(told, topic)
		} else {
			told[topic] = payload
		}
		a.board.mu.Unlock()
	}
	return nil
}

// An entity is a discovery message: what sensor and update entities share.
type entity struct {
	Name              string   `json:"name"`
	UniqueID          string   `json:"unique_id"`
	StateTopic        string   `json:"state_topic"`
	AvailabilityTopic string   `json:"availability_topic"`
	ValueTemplate     string   `json:"value_template,omitempty"`
	Unit              string   `json:"unit_of_measurement,omitempty"`
	StateClass        string   `json:"state_class,omitempty"`
	CommandTopic      string   `json:"command_topic,omitempty"`
	PayloadInstall    string   `json:"payload_install,omitempty"`
	Device            haDevice `json:"device"`
}

type haDevice struct {
	Identifiers  []string `json:"identifiers"`
	Name         string   `json:"name"`
	Manufacturer string   `json:"manufacturer"`
	Software     string   `json:"sw_version,omitempty"`
}

// An updateState is what an update entity shows.
type updateState struct {
	Installed string `json:"installed_version"`
	Latest    string `json:"latest_version"`
}

// entities returns the retained messages that describe the device, by topic.
func (a *Agent) entities() (map[string][]byte, error) {
	h, f, d := a.cfg.HomeAssistant, a.cfg.Fleet, a.cfg.Device
	out := make(map[string][]byte)
	put := func(topic string, v any) error {
		b, err := json.Marshal(v)
		out[topic] = b
		return err
	}
	base := entity{
		AvailabilityTopic: protocol.UpTopic(f, d),
		Device:            haDevice{Identifiers: []string{objectID(f, d)}, Name: d, Manufacturer: "Sandpiper", Software: a.cfg.Version},
	}
	var errs []error
	for name := range a.snapshot.Load().Models {
		v := a.models.get(name)
		if v == nil {
			continue
		}
		for i, s := range sensors(v.predictor.Schema()) {
			e, id := base, fmt.Sprintf("%s_%d", objectID(f, d, name), i)
			e.Name, e.UniqueID, e.Unit, e.StateClass = name+" "+s.Name, id, s.Unit, "measurement"
			e.StateTopic = protocol.SimpleOutputTopic(f, d, name)
			if feed := v.predictor.Pipeline(); feed != nil && feed.Output != "" && !strings.Contains(feed.Output, "{") {
				e.StateTopic = feed.Output
			}
			e.ValueTemplate = fmt.Sprintf("{{ value_json.y[%d] if value_json.y is defined else none }}", i)
			errs = append(errs, put(h.Prefix+"/sensor/"+id+"/config", e))
		}
		e := base
		e.Name, e.UniqueID = name+" version", objectID(f, d, name)
		e.StateTopic = h.updateTopic(f, d, name, "state")
		e.CommandTopic, e.PayloadInstall = h.updateTopic(f, d, name, "set"), install
		state := updateState{Installed: v.label, Latest: v.label}
		if waits := a.turns.version(name); waits != "" {
			state.Latest = waits
		}
		errs = append(errs, put(h.updateTopic(f, d, name, "config"), e), put(e.StateTopic, state))
	}
	return out, errors.Join(errs...)
}

// sensors names the outputs of a model, the first maxSensors of them: y is flat,
// step by step.
func sensors(s artifact.Schema) (out []artifact.Column) {
	for i := range min(s.Outputs(), maxSensors) {
		c := artifact.Column{Name: fmt.Sprint(i)}
		if n := len(s.Targets); n > 0 {
			c = s.Targets[i%n]
			if step := i / n; s.Outputs() > n {
				c.Name = fmt.Sprintf("%s +%d", c.Name, step+1)
			}
		}
		out = append(out, c)
	}
	return out
}

// turns are the versions that are verified and wait for their hour, by model.
type turns struct {
	mu      sync.Mutex // guards what follows
	waiting map[string]turn
}

type turn struct {
	version string
	now     chan struct{} // closed when it shall wait no longer
}

// wait registers a version; done takes it out again.
func (t *turns) wait(model, version string) (now <-chan struct{}, done func()) {
	w := turn{version, make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = make(map[string]turn)
	}
	t.waiting[model] = w
	return w.now, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.waiting[model].now == w.now {
			delete(t.waiting, model)
		}
	}
}

// hurry lets the version of model that waits, if one does, wait no longer.
func (t *turns) hurry(model string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, ok := t.waiting[model]
	if ok {
		delete(t.waiting, model)
		close(w.now)
	}
	return ok
}

// version is the version of model that waits, NAME:vN, or "".
func (t *turns) version(model string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting[model].version
}
