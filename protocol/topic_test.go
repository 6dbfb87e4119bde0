package protocol

import (
	"errors"
	"strings"
	"testing"
)

const testHash = "0123456789abcdef0123456789abcdef"

var topics = []struct {
	topic string
	want  Topic
}{
	{StateTopic("f"), Topic{Kind: TopicState, Fleet: "f"}},
	{WantTopic("f", "d1"), Topic{Kind: TopicWant, Fleet: "f", Device: "d1"}},
	{HaveTopic("f", "d1"), Topic{Kind: TopicHave, Fleet: "f", Device: "d1"}},
	{UpTopic("f", "d1"), Topic{Kind: TopicUp, Fleet: "f", Device: "d1"}},
	{BirthTopic("f", "d1"), Topic{Kind: TopicBirth, Fleet: "f", Device: "d1"}},
	{DescriptorTopic("f", testHash), Topic{Kind: TopicDescriptor, Fleet: "f", Hash: testHash}},
	{ChunkTopic("f", testHash, 12), Topic{Kind: TopicChunk, Fleet: "f", Hash: testHash, N: 12}},
	{GetTopic("f", "d1"), Topic{Kind: TopicGet, Fleet: "f", Device: "d1"}},
	{BlockTopic("f", "d1", testHash, 3), Topic{Kind: TopicBlock, Fleet: "f", Device: "d1", Hash: testHash, N: 3}},
	{PredictTopic("f", "d1", "m", "u", "c"), Topic{Kind: TopicPredict, Fleet: "f", Device: "d1", Model: "m", User: "u", Corr: "c"}},
	{ReplyTopic("f", "u", "d1", "c"), Topic{Kind: TopicReply, Fleet: "f", Device: "d1", User: "u", Corr: "c"}},
	{SimplePredictTopic("f", "d1", "m"), Topic{Kind: TopicSimplePredict, Fleet: "f", Device: "d1", Model: "m"}},
	{SimpleOutputTopic("f", "d1", "m"), Topic{Kind: TopicSimpleOutput, Fleet: "f", Device: "d1", Model: "m"}},
	{SampleTopic("f", "d1", "s"), Topic{Kind: TopicSample, Fleet: "f", Device: "d1", Stream: "s"}},
	{TruthTopic("f", "d1", "m"), Topic{Kind: TopicTruth, Fleet: "f", Device: "d1", Model: "m"}},
	{EventTopic("f", "d1"), Topic{Kind: TopicEvent, Fleet: "f", Device: "d1"}},
	{AckTopic("f", "d1"), Topic{Kind: TopicAck, Fleet: "f", Device: "d1"}},
	{UsageTopic("f", "d1"), Topic{Kind: TopicUsage, Fleet: "f", Device: "d1"}},
	{QualityTopic("f", "d1"), Topic{Kind: TopicQuality, Fleet: "f", Device: "d1"}},
	{ProbeTopic("f", "d1"), Topic{Kind: TopicProbe, Fleet: "f", Device: "d1"}},
	{BlockDescriptorTopic("f", "d1", testHash), Topic{Kind: TopicBlockDescriptor, Fleet: "f", Device: "d1", Hash: testHash}},
}

func TestEveryTopicParsesBack(t *testing.T) {
	if len(topics) != int(TopicBlockDescriptor) {
		t.Fatalf("%d topics in the table, %d kinds", len(topics), TopicBlockDescriptor)
	}
	for i, c := range topics {
		got, err := ParseTopic(c.topic)
		if err != nil || got != c.want {
			t.Errorf("ParseTopic(%s) = %+v, %v, want %+v", c.topic, got, err, c.want)
		}
		if got.Kind != TopicKind(i+1) || strings.Contains(got.Kind.String(), "(") {
			t.Errorf("%s is kind %v, want the one of row %d", c.topic, got.Kind, i+1)
		}
	}
}

func TestLongestTopicFits(t *testing.T) {
	id := strings.Repeat("x", MaxID)
	fleet := strings.Repeat("f", MaxFleetID)
	for _, s := range []string{PredictTopic(fleet, id, id, id, id), BlockTopic(fleet, id, testHash, MaxChunks-1)} {
		if len(s) > MaxTopic || strings.Count(s, "/") > MaxSlashes {
			t.Errorf("%s has %d bytes and %d slashes", s, len(s), strings.Count(s, "/"))
		}
		if _, err := ParseTopic(s); err != nil {
			t.Error(err)
		}
	}
}

func TestParseTopicRefuses(t *testing.T) {
	for _, c := range []struct {
		topic string
		want  error
	}{
		{"", ErrTopic}, {"sp1", ErrTopic}, {"sp1/f", ErrTopic}, {"sp2/f/state", ErrTopic}, {"/sp1/f/state", ErrTopic},
		{"sp1/f/state/", ErrTopic}, {"sp1//state", ErrID}, {"sp1/f/State", ErrTopic}, {"sp1/F/state", ErrID},
		{"sp1/f/d/d1", ErrTopic}, {"sp1/f/d/d1/", ErrTopic}, {"sp1/f/d//have", ErrID}, {"sp1/f/d/+/have", ErrID},
		{"sp1/f/d/d1/#", ErrTopic}, {"sp1/f/d/d1/p", ErrTopic}, {"sp1/f/d/d1/p/m/u", ErrTopic},
		{"sp1/f/d/d1/p/m/u/c/x", ErrTopic}, {"sp1/f/d/d1/p/m/u/", ErrID}, {"sp1/f/d/d1/have/x", ErrTopic},
		{"sp1/f/b/" + testHash, ErrTopic}, {"sp1/f/b/xyz/m", ErrDigest}, {"sp1/f/b/" + testHash + "/c/01", ErrTopic},
		{"sp1/f/b/" + testHash + "/c/-1", ErrTopic}, {"sp1/f/b/" + testHash + "/c/2048", ErrTopic},
		{"sp1/f/b/" + testHash + "/c/99999999999999999999", ErrTopic}, {"sp1/f/b/" + testHash + "/c/+1", ErrTopic},
		{"sp1/f/b/" + strings.ToUpper(testHash) + "/m", ErrDigest}, {"sp1/f/r/u/d1", ErrTopic}, {"sp1/f/r/u/d.1/c", ErrID},
		{"sp1/f/state\x00", ErrTopic}, {"sp1/" + strings.Repeat("a/", 130), ErrTopic},
		{"sp1/" + strings.Repeat("f", 33) + "/state", ErrID}, {"sp1/f/d/" + strings.Repeat("x", 49) + "/have", ErrID},
	} {
		if got, err := ParseTopic(c.topic); !errors.Is(err, c.want) {
			t.Errorf("ParseTopic(%q) = %+v, %v, want %v", c.topic, got, err, c.want)
		}
	}
}

// build is the inverse of ParseTopic.
func build(t Topic) string {
	switch f, d := t.Fleet, t.Device; t.Kind {
	case TopicState:
		return StateTopic(f)
	case TopicWant:
		return WantTopic(f, d)
	case TopicHave:
		return HaveTopic(f, d)
	case TopicUp:
		return UpTopic(f, d)
	case TopicBirth:
		return BirthTopic(f, d)
	case TopicDescriptor:
		return DescriptorTopic(f, t.Hash)
	case TopicChunk:
		return ChunkTopic(f, t.Hash, t.N)
	case TopicGet:
		return GetTopic(f, d)
	case TopicProbe:
		return ProbeTopic(t.Fleet, t.Device)
	case TopicBlockDescriptor:
		return BlockDescriptorTopic(t.Fleet, t.Device, t.Hash)
	case TopicBlock:
		return BlockTopic(f, d, t.Hash, t.N)
	case TopicPredict:
		return PredictTopic(f, d, t.Model, t.User, t.Corr)
	case TopicReply:
		return ReplyTopic(f, t.User, d, t.Corr)
	case TopicSimplePredict:
		return SimplePredictTopic(f, d, t.Model)
	case TopicSimpleOutput:
		return SimpleOutputTopic(f, d, t.Model)
	case TopicSample:
		return SampleTopic(f, d, t.Stream)
	case TopicTruth:
		return TruthTopic(f, d, t.Model)
	case TopicEvent:
		return EventTopic(f, d)
	case TopicAck:
		return AckTopic(f, d)
	case TopicUsage:
		return UsageTopic(f, d)
	case TopicQuality:
		return QualityTopic(f, d)
	}
	return ""
}

func FuzzParseTopic(f *testing.F) {
	for _, c := range topics {
		f.Add(c.topic)
	}
	f.Fuzz(func(t *testing.T, s string) {
		topic, err := ParseTopic(s)
		if err == nil && build(topic) != s {
			t.Fatalf("ParseTopic(%q) = %+v, which is %q", s, topic, build(topic))
		}
	})
}
