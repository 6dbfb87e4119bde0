package broker

import (
	"strings"
	"testing"
)

var (
	device  = Identity{Kind: Device, ID: "a"}
	user    = Identity{Kind: User, ID: "ann"}
	simple  = Identity{Kind: User, ID: "ann", Simple: true}
	control = Identity{Kind: ControlPlane, ID: "f"}
)

const testHash = "0123456789abcdef0123456789abcdef"

func TestMayPublish(t *testing.T) {
	for _, test := range []struct {
		topic string
		who   string // letters of those who may: d, u, s (simple user), c
	}{
		{"sp1/f/state", "c"},
		{"sp1/f/d/a/want", "c"},
		{"sp1/f/d/a/have", "dc"}, // the control plane only clears it
		{"sp1/f/d/a/up", "dc"},
		{"sp1/f/d/a/birth", "dc"},
		{"sp1/f/b/HASH/m", "c"},
		{"sp1/f/b/HASH/c/0", "c"},
		{"sp1/f/d/a/get", "d"},
		{"sp1/f/d/a/blk/HASH/0", "c"},
		{"sp1/f/d/a/p/m/ann/1", "us"},
		{"sp1/f/d/a/p/m/bob/1", ""},
		{"sp1/f/d/a/p/m/cp/1", "c"},
		{"sp1/f/r/ann/a/1", "d"},
		{"sp1/f/r/ann/b/1", ""}, // another device's reply
		{"sp1/f/d/a/p/m", "s"},
		{"sp1/f/d/a/o/m", "d"},
		{"sp1/f/d/a/s/x", "d"},
		{"sp1/f/d/a/y/m", "us"},
		{"sp1/f/d/a/ev", "d"},
		{"sp1/f/d/a/ack", "c"},
		{"sp1/f/d/a/met", "d"},
		{"sp1/f/d/a/q", "d"},
		// Another device, another fleet, no topic of sp1.
		{"sp1/f/d/b/have", "c"},
		{"sp1/f/d/b/ev", ""},
		{"sp1/f/d/b/s/x", ""},
		{"sp1/g/d/a/have", ""},
		{"sp1/g/state", ""},
		{"sp1/f/d/a/p/m/ann/1/2", ""},
		{"sp1/f/d/a/have/", ""},
		{"sp1/f/d/A/have", ""},
		{"/sp1/f/d/a/have", ""},
		{"sp2/f/d/a/have", ""},
		{"$SYS/broker/version", ""},
		{"", ""},
		{"sp1/f/d/a/s/" + strings.Repeat("x", 300), ""},
	} {
		topic := strings.ReplaceAll(test.topic, "HASH", testHash)
		for letter, id := range map[string]Identity{"d": device, "u": user, "s": simple, "c": control} {
			if got, want := id.MayPublish("f", topic), strings.Contains(test.who, letter); got != want {
				t.Errorf("%+v publishing %s: %v, want %v", id, topic, got, want)
			}
		}
	}
}

func TestMaySubscribe(t *testing.T) {
	for _, test := range []struct {
		filter string
		who    string
	}{
		{"sp1/f/state", "dc"},
		{"sp1/f/d/a/want", "dc"},
		{"sp1/f/d/a/#", "dc"},
		{"sp1/f/d/a/p/+/+/+", "dc"},
		{"sp1/f/d/b/want", "c"},
		{"sp1/f/d/+/want", "c"},
		{"sp1/f/d/#", "c"},
		{"sp1/f/d/a", "c"},
		{"sp1/f/d/ab/want", "c"},
		{"sp1/f/b/HASH/c/0", "dc"},
		{"sp1/f/b/#", "dc"},
		{"sp1/f/r/ann/#", "usc"},
		{"sp1/f/r/ann/a/1", "usc"},
		{"sp1/f/r/ann", "c"},
		{"sp1/f/r/anne/#", "c"},
		{"sp1/f/r/bob/#", "c"},
		{"sp1/f/r/+/a/1", "c"},
		{"sp1/f/r/#", "c"},
		{"sp1/f/d/a/o/m", "dsc"},
		{"sp1/f/d/+/o/+", "sc"},
		{"sp1/f/d/+/o/#", "sc"},
		{"sp1/f/d/+/+/m", "c"},
		{"sp1/f/d/#/o/m", "c"}, // malformed: refused before the ACL is asked
		{"sp1/f/d/+/s/+", "c"},
		{"sp1/f/#", "c"},
		{"sp1/+/d/a/want", ""},
		{"sp1/g/#", ""},
		{"+/f/d/a/want", ""},
		{"#", ""},
		{"$SYS/#", ""},
		{"$share/g/sp1/f/d/a/want", ""},
		{"", ""},
		{"sp1/f/d/a/" + strings.Repeat("x", 300), ""},
		{"sp1/f/d/a/1/2/3/4/5/6", ""},
	} {
		filter := strings.ReplaceAll(test.filter, "HASH", testHash)
		for letter, id := range map[string]Identity{"d": device, "u": user, "s": simple, "c": control} {
			if got, want := id.MaySubscribe("f", filter), strings.Contains(test.who, letter); got != want {
				t.Errorf("%+v subscribing %s: %v, want %v", id, filter, got, want)
			}
		}
	}
}
