package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/broker"
	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/packet"
)

// A Local says whether and how the agent listens for MQTT clients beside the
// device, on the same topics as the control plane's broker. Beyond this machine
// it wants Users, and TLS unless Plaintext is set. Users may ask for
// predictions under their own name; without any, everybody on this machine may
// ask under every name, which counters then show.
type Local struct {
	Listen    string            // host:port; none if empty and without Listener
	Listener  net.Listener      // in place of Listen
	TLS       *tls.Config       // required of every client if set
	Users     map[string]string // by name the SHA-256 of the token, in hex
	Plaintext bool              // no TLS beyond this machine, all the same
}

// newLocal makes the broker for local clients; nil if there shall be none.
func (a *Agent) newLocal() (*broker.Broker, error) {
	c := a.cfg.Local
	if c.Listen == "" && c.Listener == nil {
		return nil, nil
	}
	return broker.New(broker.Config{
		Listen: c.Listen, Listener: c.Listener, TLS: c.TLS, Users: c.Users, Plaintext: c.Plaintext,
		MayPublish: a.mayPublish, MaySubscribe: a.maySubscribe, Received: a.receivedLocal,
		Log: a.cfg.Log,
	})
}

// reservedUsers may not ask: they are how the control plane asks, and how
// others are counted.
var reservedUsers = []string{"cp", localUser, otherUser, protocol.Anonymous}

// mayPublish says what a local client may publish; user is "" where none are
// named.
func (a *Agent) mayPublish(user, topic string) bool {
	t, err := protocol.ParseTopic(topic)
	if err != nil {
		return a.pipelines.reads(topic) || a.homeAssistantSays(topic)
	}
	if t.Fleet != a.cfg.Fleet || t.Device != a.cfg.Device {
		return false
	}
	switch t.Kind {
	case protocol.TopicPredict:
		return (user == "" || user == t.User) && !slices.Contains(reservedUsers, t.User)
	case protocol.TopicSimplePredict:
		return a.cfg.Simple
	case protocol.TopicSample, protocol.TopicTruth:
		return true
	}
	return false
}

// maySubscribe says what a local client may read: everything, or, where users
// are named, its own replies and what the device says to all.
func (a *Agent) maySubscribe(user, filter string) bool {
	if user == "" {
		return true
	}
	f, d := a.cfg.Fleet, a.cfg.Device
	if strings.HasPrefix(filter, "sp1/"+f+"/r/"+user+"/") {
		return true
	}
	if first, _, _ := strings.Cut(filter, "/"); !slices.Contains([]string{"sp1", "+", "#", ""}, first) {
		return true // what feeds pipelines, and what they say
	}
	readable := []string{
		protocol.UpTopic(f, d), protocol.HaveTopic(f, d), protocol.BirthTopic(f, d),
		protocol.SimpleOutputTopic(f, d, "+"), protocol.SampleTopic(f, d, "+"),
	}
	return slices.ContainsFunc(readable, func(r string) bool { return packet.Match(r, filter) })
}

// receivedLocal routes a message of a local client; it only enqueues.
func (a *Agent) receivedLocal(m packet.Message) {
	if !a.cfg.HomeAssistant.Broker && a.fromHomeAssistant(m.Topic, m.Payload) {
		return
	}
	t, err := protocol.ParseTopic(m.Topic)
	if err != nil || t.Kind == protocol.TopicSample || t.Kind == protocol.TopicTruth {
		a.pipelines.offer(link.Message{Topic: m.Topic, Payload: m.Payload})
		return
	}
	switch t.Kind {
	case protocol.TopicPredict, protocol.TopicSimplePredict:
		a.service.offer(request{topic: t, payload: m.Payload, qos: m.QoS, arrived: time.Now(), local: true})
	}
}

// runLocal serves local clients until ctx ends.
func (a *Agent) runLocal(ctx context.Context) error {
	f, d := a.cfg.Fleet, a.cfg.Device
	birth, err := a.birth().AppendBinary(nil)
	if err != nil {
		return err
	}
	a.local.Publish(packet.Message{Topic: protocol.UpTopic(f, d), Payload: []byte(protocol.Online), QoS: 1, Retain: true})
	a.local.Publish(packet.Message{Topic: protocol.BirthTopic(f, d), Payload: birth, QoS: 1, Retain: true})
	if !a.cfg.HomeAssistant.Broker {
		a.board.again()
	}
	a.announce()
	if err := a.local.Run(ctx); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// publishLocal tells local clients what the device has, when it changed.
func (a *Agent) publishLocal(context.Context) error {
	if a.local == nil {
		return nil
	}
	m := a.have()
	plain, err := m.AppendBinary(nil)
	if err != nil || bytes.Equal(plain, a.localHave) {
		return err
	}
	a.localHave = plain
	m.T = a.now()
	b, err := m.AppendBinary(nil)
	if err == nil {
		a.local.Publish(packet.Message{Topic: protocol.HaveTopic(a.cfg.Fleet, a.cfg.Device), Payload: b, QoS: 1, Retain: true})
	}
	return err
}
