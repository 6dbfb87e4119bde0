package broker

import (
	"fmt"
	"strings"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// The kinds of identity, the letter before the dot of a username.
const (
	Device       byte = 'd' // d.ID, one device
	User         byte = 'u' // u.ID, a client that asks for predictions
	ControlPlane byte = 'c' // c.FLEET
)

// ReservedUser is the user that the control plane's own requests name in their
// topics; no client may authenticate as it.
const ReservedUser = "cp"

// An Identity is who an authenticated client is. Its name, such as d.pump-01,
// is the client's username and its client id, and it owns these topics:
//
//	identity  publishes                                   subscribes
//	d.D       sp1/F/d/D/{have,up,birth,get,ev,met,q,      sp1/F/d/D/…, sp1/F/b/…, sp1/F/state
//	          probe}, sp1/F/d/D/{s,o}/+, sp1/F/r/+/D/+
//	u.U       sp1/F/d/+/p/+/U/+, sp1/F/d/+/y/+            sp1/F/r/U/…
//	  simple  and sp1/F/d/+/p/+                           and sp1/F/d/+/o/+
//	c.F       sp1/F/state, sp1/F/b/…, sp1/F/d/+/{want,    sp1/F/…
//	          ack}, sp1/F/d/+/blk/…, sp1/F/d/+/p/+/cp/+,
//	          and clears sp1/F/d/+/{have,up,birth}
//
// A device's will must be its up topic, the control plane's sp1/F/state; users
// have none.
type Identity struct {
	Kind byte
	ID   string
	// Simple grants a user the simple mode: requests and replies that carry no
	// user in their topic.
	Simple bool
}

// String returns the identity's username, such as d.pump-01.
func (id Identity) String() string { return string(rune(id.Kind)) + "." + id.ID }

// check reports whether id may connect to fleet at all.
func (id Identity) check(fleet string) error {
	switch id.Kind {
	case Device, User:
		if id.Kind == User && id.ID == ReservedUser {
			return fmt.Errorf("user %q is reserved", ReservedUser)
		}
		return protocol.CheckID(id.ID)
	case ControlPlane:
		if id.ID != fleet {
			return fmt.Errorf("control plane of fleet %.40q, not of %q", id.ID, fleet)
		}
		return nil
	}
	return fmt.Errorf("unknown kind of identity %q", rune(id.Kind))
}

// MayPublish reports whether id may publish to topic in fleet.
func (id Identity) MayPublish(fleet, topic string) bool {
	t, err := protocol.ParseTopic(topic)
	if err != nil || t.Fleet != fleet {
		return false
	}
	switch id.Kind {
	case Device:
		return t.Device == id.ID && deviceWrites(t.Kind)
	case User:
		switch t.Kind {
		case protocol.TopicPredict:
			return t.User == id.ID
		case protocol.TopicSimplePredict:
			return id.Simple
		case protocol.TopicTruth:
			return true
		}
	case ControlPlane:
		return t.Kind == protocol.TopicPredict && t.User == ReservedUser ||
			controlPlaneWrites(t.Kind) || clearable(t.Kind)
	}
	return false
}

func deviceWrites(k protocol.TopicKind) bool {
	switch k {
	case protocol.TopicHave, protocol.TopicUp, protocol.TopicBirth, protocol.TopicGet, protocol.TopicEvent,
		protocol.TopicUsage, protocol.TopicQuality, protocol.TopicSample, protocol.TopicSimpleOutput,
		protocol.TopicReply, protocol.TopicProbe:
		return true
	}
	return false
}

func controlPlaneWrites(k protocol.TopicKind) bool {
	switch k {
	case protocol.TopicState, protocol.TopicWant, protocol.TopicDescriptor, protocol.TopicChunk,
		protocol.TopicBlock, protocol.TopicBlockDescriptor, protocol.TopicAck:
		return true
	}
	return false
}

// clearable are the topics of a device that the control plane may clear, by an
// empty retained message, when the device is removed.
func clearable(k protocol.TopicKind) bool {
	return k == protocol.TopicHave || k == protocol.TopicUp || k == protocol.TopicBirth
}

// retainable are the topics whose messages are kept; elsewhere the retain flag
// is ignored.
func retainable(k protocol.TopicKind) bool {
	switch k {
	case protocol.TopicState, protocol.TopicWant, protocol.TopicHave, protocol.TopicUp, protocol.TopicBirth,
		protocol.TopicDescriptor, protocol.TopicChunk:
		return true
	}
	return false
}

// mayWill reports whether topic may be id's will.
func (id Identity) mayWill(fleet, topic string) bool {
	switch id.Kind {
	case Device:
		return topic == protocol.UpTopic(fleet, id.ID)
	case ControlPlane:
		return topic == protocol.StateTopic(fleet)
	}
	return false
}

// MaySubscribe reports whether id may subscribe to filter in fleet.
func (id Identity) MaySubscribe(fleet, filter string) bool {
	return newRights(fleet, id).read(filter)
}

// rights is what an identity may read, prepared: the broker asks at every
// delivery, too.
type rights struct {
	under  []string // namespaces, with the slash at their end
	exact  string
	output string // sp1/F/d/ where simple mode is granted
}

func newRights(fleet string, id Identity) rights {
	root := "sp1/" + fleet + "/"
	switch id.Kind {
	case Device:
		return rights{under: []string{root + "d/" + id.ID + "/", root + "b/"}, exact: protocol.StateTopic(fleet)}
	case User:
		r := rights{under: []string{root + "r/" + id.ID + "/"}}
		if id.Simple {
			r.output = root + "d/"
		}
		return r
	case ControlPlane:
		return rights{under: []string{root}}
	}
	return rights{}
}

// read reports whether every topic that filter matches is readable.
func (r rights) read(filter string) bool {
	if len(filter) > protocol.MaxTopic || strings.Count(filter, "/") > protocol.MaxSlashes {
		return false
	}
	for _, u := range r.under {
		if len(filter) > len(u) && strings.HasPrefix(filter, u) {
			return true
		}
	}
	if filter == r.exact && filter != "" {
		return true
	}
	if rest, ok := strings.CutPrefix(filter, r.output); ok && r.output != "" {
		// DEVICE/o/MODEL, where both may be +.
		p := strings.Split(rest, "/")
		return len(p) == 3 && p[0] != "" && p[0] != "#" && p[1] == "o" && p[2] != ""
	}
	return false
}
