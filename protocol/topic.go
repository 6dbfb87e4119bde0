package protocol

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrTopic is returned for a topic that is not one of sp1.
var ErrTopic = errors.New("not a topic of sp1")

// A TopicKind is a row of the topic table.
type TopicKind uint8

// The topics of sp1, in the order of docs/protocol.md.
const (
	TopicState           TopicKind = iota + 1 // sp1/F/state
	TopicWant                                 // sp1/F/d/D/want
	TopicHave                                 // sp1/F/d/D/have
	TopicUp                                   // sp1/F/d/D/up
	TopicBirth                                // sp1/F/d/D/birth
	TopicDescriptor                           // sp1/F/b/HASH/m
	TopicChunk                                // sp1/F/b/HASH/c/N
	TopicGet                                  // sp1/F/d/D/get
	TopicBlock                                // sp1/F/d/D/blk/HASH/N
	TopicPredict                              // sp1/F/d/D/p/MODEL/USER/CORR
	TopicReply                                // sp1/F/r/USER/D/CORR
	TopicSimplePredict                        // sp1/F/d/D/p/MODEL
	TopicSimpleOutput                         // sp1/F/d/D/o/MODEL
	TopicSample                               // sp1/F/d/D/s/STREAM
	TopicTruth                                // sp1/F/d/D/y/MODEL
	TopicEvent                                // sp1/F/d/D/ev
	TopicAck                                  // sp1/F/d/D/ack
	TopicUsage                                // sp1/F/d/D/met
	TopicQuality                              // sp1/F/d/D/q
	TopicProbe                                // sp1/F/d/D/probe
	TopicBlockDescriptor                      // sp1/F/d/D/blk/HASH/m
)

var topicNames = [...]string{
	"", "state", "want", "have", "up", "birth", "descriptor", "chunk", "get", "block", "predict", "reply",
	"simple predict", "simple output", "sample", "truth", "event", "ack", "usage", "quality",
	"probe", "block descriptor",
}

// String returns the kind's name in lower case.
func (k TopicKind) String() string {
	if int(k) < len(topicNames) && k > 0 {
		return topicNames[k]
	}
	return "TopicKind(" + strconv.Itoa(int(k)) + ")"
}

// A Topic is a parsed topic. Only the fields of its kind are set.
type Topic struct {
	Kind   TopicKind
	Fleet  string
	Device string
	Hash   string // of a transfer, 32 hex digits
	Model  string
	User   string
	Corr   string // chosen by the client, unique among its requests in flight
	Stream string
	N      int // chunk number, from 0
}

// The constructors do not check their arguments: ids are checked where they
// enter the system, by CheckFleet, CheckID and CheckHash.

// StateTopic returns sp1/F/state: presence of the control plane.
func StateTopic(fleet string) string { return "sp1/" + fleet + "/state" }

// deviceTopic returns sp1/F/d/D/LEAF, the form of every topic of a device.
func deviceTopic(fleet, device, leaf string) string {
	return "sp1/" + fleet + "/d/" + device + "/" + leaf
}

// WantTopic returns sp1/F/d/D/want: the desired state of a device.
func WantTopic(fleet, device string) string { return deviceTopic(fleet, device, "want") }

// HaveTopic returns sp1/F/d/D/have: the reported state of a device.
func HaveTopic(fleet, device string) string { return deviceTopic(fleet, device, "have") }

// UpTopic returns sp1/F/d/D/up: presence of a device.
func UpTopic(fleet, device string) string { return deviceTopic(fleet, device, "up") }

// BirthTopic returns sp1/F/d/D/birth: what a device is.
func BirthTopic(fleet, device string) string { return deviceTopic(fleet, device, "birth") }

// DescriptorTopic returns sp1/F/b/HASH/m: an Announcement.
func DescriptorTopic(fleet, hash string) string { return "sp1/" + fleet + "/b/" + hash + "/m" }

// ChunkTopic returns sp1/F/b/HASH/c/N: chunk n, from 0, of a transfer.
func ChunkTopic(fleet, hash string, n int) string {
	return "sp1/" + fleet + "/b/" + hash + "/c/" + strconv.Itoa(n)
}

// GetTopic returns sp1/F/d/D/get: a device asks for chunks.
func GetTopic(fleet, device string) string { return deviceTopic(fleet, device, "get") }

// BlockTopic returns sp1/F/d/D/blk/HASH/N: the answer to a get.
func BlockTopic(fleet, device, hash string, n int) string {
	return deviceTopic(fleet, device, "blk/"+hash+"/"+strconv.Itoa(n))
}

// BlockDescriptorTopic returns sp1/F/d/D/blk/HASH/m: the answer to a get that
// asks for no chunk.
func BlockDescriptorTopic(fleet, device, hash string) string {
	return deviceTopic(fleet, device, "blk/"+hash+"/m")
}

// ProbeTopic returns sp1/F/d/D/probe: what a device sends itself, to see how
// its broker carries it.
func ProbeTopic(fleet, device string) string { return deviceTopic(fleet, device, "probe") }

// PredictTopic returns sp1/F/d/D/p/MODEL/USER/CORR: a prediction request.
func PredictTopic(fleet, device, model, user, corr string) string {
	return deviceTopic(fleet, device, "p/"+model+"/"+user+"/"+corr)
}

// ReplyTopic returns sp1/F/r/USER/D/CORR: where the reply to a request goes.
// It derives from the request's topic, never from its body.
func ReplyTopic(fleet, user, device, corr string) string {
	return "sp1/" + fleet + "/r/" + user + "/" + device + "/" + corr
}

// SimplePredictTopic returns sp1/F/d/D/p/MODEL: a request without a user.
func SimplePredictTopic(fleet, device, model string) string {
	return deviceTopic(fleet, device, "p/"+model)
}

// SimpleOutputTopic returns sp1/F/d/D/o/MODEL: the reply to a simple request.
func SimpleOutputTopic(fleet, device, model string) string {
	return deviceTopic(fleet, device, "o/"+model)
}

// SampleTopic returns sp1/F/d/D/s/STREAM: sensor samples.
func SampleTopic(fleet, device, stream string) string { return deviceTopic(fleet, device, "s/"+stream) }

// TruthTopic returns sp1/F/d/D/y/MODEL: what really happened.
func TruthTopic(fleet, device, model string) string { return deviceTopic(fleet, device, "y/"+model) }

// EventTopic returns sp1/F/d/D/ev: events of a device, kept until acked.
func EventTopic(fleet, device string) string { return deviceTopic(fleet, device, "ev") }

// AckTopic returns sp1/F/d/D/ack: an event is stored.
func AckTopic(fleet, device string) string { return deviceTopic(fleet, device, "ack") }

// UsageTopic returns sp1/F/d/D/met: usage counters.
func UsageTopic(fleet, device string) string { return deviceTopic(fleet, device, "met") }

// QualityTopic returns sp1/F/d/D/q: quality per pair of versions.
func QualityTopic(fleet, device string) string { return deviceTopic(fleet, device, "q") }

// deviceLeaves are the topics that end directly behind the device.
var deviceLeaves = map[string]TopicKind{
	"want": TopicWant, "have": TopicHave, "up": TopicUp, "birth": TopicBirth, "get": TopicGet,
	"ev": TopicEvent, "ack": TopicAck, "met": TopicUsage, "q": TopicQuality, "probe": TopicProbe,
}

// ParseTopic parses a topic name, not a filter, and checks every id in it.
// The error wraps ErrTopic, ErrID or ErrDigest.
func ParseTopic(s string) (Topic, error) {
	if len(s) > MaxTopic {
		return Topic{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTopic, len(s), MaxTopic)
	}
	var parts [MaxSlashes + 1]string
	n := 0
	for rest, more := s, true; more; n++ {
		if n == len(parts) {
			return Topic{}, fmt.Errorf("%w: more than %d slashes in %q", ErrTopic, MaxSlashes, s)
		}
		parts[n], rest, more = strings.Cut(rest, "/")
	}
	if n < 3 || parts[0] != "sp1" {
		return Topic{}, fmt.Errorf("%w: %q does not begin with sp1/FLEET/", ErrTopic, s)
	}
	t := Topic{Fleet: parts[1]}
	if err := CheckFleet(t.Fleet); err != nil {
		return Topic{}, err
	}
	if err := t.parse(parts[2:n]); err != nil {
		return Topic{}, fmt.Errorf("topic %q: %w", s, err)
	}
	return t, nil
}

// parse reads what follows the fleet; p has at least one element.
func (t *Topic) parse(p []string) error {
	switch {
	case len(p) == 1 && p[0] == "state":
		t.Kind = TopicState
		return nil
	case len(p) == 3 && p[0] == "b" && p[2] == "m":
		t.Kind, t.Hash = TopicDescriptor, p[1]
		return CheckHash(t.Hash)
	case len(p) == 4 && p[0] == "b" && p[2] == "c":
		t.Kind, t.Hash = TopicChunk, p[1]
		return t.chunk(p[3])
	case len(p) == 4 && p[0] == "r":
		t.Kind, t.User, t.Device, t.Corr = TopicReply, p[1], p[2], p[3]
		return checkIDs(t.User, t.Device, t.Corr)
	case len(p) >= 3 && p[0] == "d":
		t.Device = p[1]
		if err := CheckID(t.Device); err != nil {
			return err
		}
		return t.parseDevice(p[2], p[3:])
	}
	return ErrTopic
}

// parseDevice reads what follows the device: a leaf, and what is below it.
func (t *Topic) parseDevice(leaf string, p []string) error {
	switch {
	case len(p) == 0:
		t.Kind = deviceLeaves[leaf]
		if t.Kind == 0 {
			return ErrTopic
		}
		return nil
	case leaf == "p" && len(p) == 3:
		t.Kind, t.Model, t.User, t.Corr = TopicPredict, p[0], p[1], p[2]
		return checkIDs(t.Model, t.User, t.Corr)
	case leaf == "blk" && len(p) == 2 && p[1] == "m":
		t.Kind, t.Hash = TopicBlockDescriptor, p[0]
		return CheckHash(t.Hash)
	case leaf == "blk" && len(p) == 2:
		t.Kind, t.Hash = TopicBlock, p[0]
		return t.chunk(p[1])
	case len(p) != 1:
		return ErrTopic
	case leaf == "p":
		t.Kind, t.Model = TopicSimplePredict, p[0]
	case leaf == "o":
		t.Kind, t.Model = TopicSimpleOutput, p[0]
	case leaf == "s":
		t.Kind, t.Stream = TopicSample, p[0]
	case leaf == "y":
		t.Kind, t.Model = TopicTruth, p[0]
	default:
		return ErrTopic
	}
	return CheckID(p[0])
}

// chunk reads a chunk number and checks the hash.
func (t *Topic) chunk(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n >= MaxChunks || strconv.Itoa(n) != s {
		return fmt.Errorf("%w: chunk number %q, want 0 to %d", ErrTopic, s, MaxChunks-1)
	}
	t.N = n
	return CheckHash(t.Hash)
}

func checkIDs(ids ...string) error {
	for _, id := range ids {
		if err := CheckID(id); err != nil {
			return err
		}
	}
	return nil
}
