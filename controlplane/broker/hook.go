package broker

import (
	"context"
	"errors"
	"log/slog"
	"math"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// maxReport is the largest retained message of a device: the broker holds
// three for each.
const maxReport = 16 << 10

// nowhere is a topic that nobody can subscribe to.
const nowhere = "$nowhere"

// hook is the only hook of the embedded broker, because mochi ORs the answers
// of several.
type hook struct {
	mqtt.HookBase
	b *Broker
}

// ID names the hook in mochi's log.
func (h *hook) ID() string { return "sp1" }

// Provides lists the methods below.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnACLCheck,
		mqtt.OnPacketRead, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnPublish, mqtt.OnPublishDropped,
		mqtt.OnPacketEncode, mqtt.OnQosPublish, mqtt.OnWill, mqtt.OnDisconnect:
		return true
	}
	return false
}

// connOf returns the connection of a client; every client has one of ours.
func connOf(cl *mqtt.Client) *conn { return cl.Net.Conn.(*conn) }

// OnConnect holds keep alive limits and makes every session end with its
// connection, and so a will's delay (MQTT 5 §3.1.3.2.2). mochi computes 1.5 × keep
// alive in 16 bits, so beyond 43,690 s it would wrap.
func (h *hook) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	cl.Properties.Clean = true
	cl.Properties.Will.WillDelayInterval = 0
	most := uint16(min(h.b.limits.KeepAlive.Seconds(), 40_000))
	if cl.Properties.ProtocolVersion == 5 {
		if k := cl.State.Keepalive; k == 0 || k > most {
			cl.State.Keepalive, cl.State.ServerKeepalive = most, true // MQTT 5 §3.2.2.3.14
		}
		return nil
	}
	if cl.State.Keepalive > most {
		// MQTT 3.1.1 has no code for it; mosquitto answers the same.
		_ = h.b.server.SendConnack(cl, packets.ErrClientIdentifierNotValid, false, nil)
		return packets.ErrClientIdentifierNotValid
	}
	return nil
}

// OnConnectAuthenticate maps credentials to an identity, and holds client id
// and will to it: mochi publishes wills without asking the ACL.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	if h.b.auth == nil {
		return false
	}
	username := string(pk.Connect.Username)
	id, ok := h.b.auth(username, string(pk.Connect.Password), pk.Connect.ClientIdentifier)
	log := h.b.log.With("remote", cl.Net.Remote)
	if !ok {
		log.Warn("client refused", "reason", "wrong credentials")
		return false
	}
	log = log.With("client", id.String())
	switch err := id.check(h.b.fleet); {
	case err != nil:
		log.Warn("client refused", "reason", err.Error())
		return false
	case id.String() != username || id.String() != pk.Connect.ClientIdentifier:
		log.Warn("client refused", "reason", "username and client id must be the identity",
			"client_id", clip(pk.Connect.ClientIdentifier))
		return false
	case pk.Connect.WillFlag && !id.mayWill(h.b.fleet, pk.Connect.WillTopic):
		log.Warn("client refused", "reason", "will outside its topics", "topic", clip(pk.Connect.WillTopic))
		return false
	}
	connOf(cl).admitAs(id)
	return true
}

// clip shortens what a peer chose, for the log.
func clip(s string) string { return s[:min(len(s), protocol.MaxTopic)] }

// OnSessionEstablish lets a client's former connection end before the new one says
// anything: its messages may still wait their turn, and its will, delivered after
// the new one's `online`, would leave the device offline for all who listen. mochi
// itself takes over at once, and a former connection that ends at that moment takes
// the new one's subscriptions with it.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	former, ok := h.b.server.Clients.Get(cl.ID)
	if !ok {
		return
	}
	c := connOf(former)
	c.replaced.Store(true)
	_ = h.b.server.DisconnectClient(former, packets.ErrSessionTakenOver)
	<-c.ended
}

func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	h.b.log.Debug("client connected", "client", cl.ID, "remote", cl.Net.Remote,
		"mqtt", int(cl.Properties.ProtocolVersion))
}

// OnPacketRead ends a connection that publishes at QoS 2, which sp1 does not
// have: mochi would answer with a PUBACK that the client cannot match.
//
// It also gives a SUBSCRIBE or UNSUBSCRIBE an id that no outgoing message has:
// mochi refuses it otherwise, although the ids of the two directions are
// independent (MQTT 3.1.1 §2.3.1). OnPacketEncode puts the client's back.
//
// What takes a deep stack is then processed by a worker, here and now.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if pk.FixedHeader.Qos > 1 {
			connOf(cl).abort("publish at QoS 2")
			return pk, packets.ErrRejectPacket
		}
		return h.processed(cl, pk)
	case packets.Subscribe, packets.Unsubscribe:
		if pk.PacketID == 0 {
			return pk, nil // malformed: mochi says so
		}
		connOf(cl).request = pk.PacketID
		pk.PacketID = math.MaxUint16
		for taken := true; taken && pk.PacketID > 1; {
			if _, taken = cl.State.Inflight.Get(pk.PacketID); taken {
				pk.PacketID--
			}
		}
		return h.processed(cl, pk)
	}
	return pk, nil
}

// processed has a worker process pk, and returns what mochi ignores: the
// acknowledgement of nothing. An error ends the connection.
func (h *hook) processed(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	err := h.b.process(cl, pk)
	if err == nil {
		return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}, nil
	}
	if code := (packets.Code{}); cl.Properties.ProtocolVersion == 5 && errors.As(err, &code) && code.Code >= packets.ErrUnspecifiedError.Code {
		_ = h.b.server.DisconnectClient(cl, code)
	}
	return pk, packets.ErrRejectPacket
}

// OnACLCheck binds every topic to the identity. mochi asks for subscriptions,
// publishes and deliveries.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	c := connOf(cl)
	if !write {
		if !c.rights.read(topic) { // OnSubscribed reports refused filters
			return false
		}
		c.pace()
		return true
	}
	if c.identity.MayPublish(h.b.fleet, topic) {
		return true
	}
	h.denied(c, "publish", topic)
	return false
}

// denied counts a refusal and logs the first of each connection.
func (h *hook) denied(c *conn, what, topic string) {
	h.b.stats.denied.Add(1)
	level := slog.LevelDebug
	if c.deniedOnce.CompareAndSwap(false, true) {
		level = slog.LevelWarn
	}
	h.b.log.Log(context.Background(), level, "topic refused", "client", c.identity.String(), "action", what, "topic", clip(topic))
}

// OnSubscribe replaces the filters beyond the client's limit by one that mochi
// refuses.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	left := h.b.limits.Subscriptions - cl.State.Subscriptions.Len()
	for i := range pk.Filters {
		if _, again := cl.State.Subscriptions.Get(pk.Filters[i].Filter); again {
			continue
		}
		if left--; left < 0 {
			pk.Filters[i].Filter = ""
		}
	}
	return pk
}

// OnSubscribed reports refused filters, and takes the granted ones back from
// the pace: mochi asked OnACLCheck for them, too.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	c := connOf(cl)
	granted := 0
	for i, code := range codes {
		if code < packets.ErrUnspecifiedError.Code {
			granted++
		} else if i < len(pk.Filters) {
			h.denied(c, "subscribe", pk.Filters[i].Filter)
		}
	}
	c.unpace(granted)
}

// OnPublish holds payload limits and ignores the retain flag where sp1 does
// not retain. Only ErrRejectPacket withholds the PUBACK of MQTT 3.1.1.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	t, err := protocol.ParseTopic(pk.TopicName)
	if err != nil {
		return pk, packets.ErrRejectPacket // a will's topic at most; the ACL parses the others
	}
	c := connOf(cl)
	most := protocol.MaxPayload
	switch {
	case c.identity.Kind == Device && retainable(t.Kind):
		most = maxReport
	case c.identity.Kind == ControlPlane && clearable(t.Kind):
		most = 0
	}
	if len(pk.Payload) > most {
		return pk, h.reject(cl, pk, packets.ErrPacketTooLarge)
	}
	pk.FixedHeader.Retain = pk.FixedHeader.Retain && retainable(t.Kind)
	return pk, nil
}

// reject refuses a PUBLISH: MQTT 5 has a code in PUBACK, 3.1.1 at QoS 1 only
// the end of the connection.
func (h *hook) reject(cl *mqtt.Client, pk packets.Packet, code packets.Code) error {
	h.denied(connOf(cl), "publish, "+code.Reason, pk.TopicName)
	if pk.FixedHeader.Qos > 0 {
		if cl.Properties.ProtocolVersion == 5 {
			return code
		}
		connOf(cl).abort("publish refused: " + code.Reason)
	}
	return packets.ErrRejectPacket
}

// OnPacketEncode counts for the pace in OnACLCheck, and undoes what
// OnPacketRead did. What is retained goes out as it is by now: a new subscription
// gets thousands of them one after the other, and a change in the meantime may have
// gone ahead.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if pk.FixedHeader.Retain {
			pk.Payload = h.b.retained(pk.TopicName)
		}
		connOf(cl).published()
	case packets.Suback, packets.Unsuback:
		pk.PacketID = connOf(cl).request
	}
	return pk
}

// retained returns the payload retained under a topic. It is a call because 10,000
// clients' stacks would have room for its packets.
//
//go:noinline
func (b *Broker) retained(topic string) []byte {
	pk, _ := b.server.Topics.Retained.Get(topic)
	return pk.Payload
}

// OnPublishDropped closes a client for which mochi's queue in front of ours is
// full in spite of the pace. It finds the retained state again when it comes
// back.
func (h *hook) OnPublishDropped(cl *mqtt.Client, _ packets.Packet) {
	h.b.stats.overflows.Add(1)
	connOf(cl).abort("outbound queue full: too many messages at once")
}

// OnQosPublish closes a client that does not acknowledge.
func (h *hook) OnQosPublish(cl *mqtt.Client, _ packets.Packet, _ int64, _ int) {
	c := connOf(cl)
	if c.identity.Kind != ControlPlane && cl.State.Inflight.Len() > h.b.limits.Inflight {
		h.b.stats.overflows.Add(1)
		c.abort("too many messages unacknowledged")
	}
}

// OnWill withholds a will when the broker stops, and when the same client has
// connected again.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	now, ok := h.b.server.Clients.Get(cl.ID)
	again := connOf(cl).replaced.Load() || ok && now != cl
	if h.b.closing.Load() || again || len(will.Payload) > maxReport {
		will.TopicName, will.Retain = nowhere, false
	}
	return will, nil
}

// OnDisconnect logs why a client left.
func (h *hook) OnDisconnect(cl *mqtt.Client, err error, _ bool) {
	c := connOf(cl)
	c.mu.Lock()
	level := slog.LevelDebug
	if c.reason != "" {
		level = slog.LevelWarn
	}
	c.mu.Unlock()
	h.b.log.Log(context.Background(), level, "client disconnected", "client", cl.ID, "remote", cl.Net.Remote, "reason", c.cause(err))
}
