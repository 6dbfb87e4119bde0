package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TestEveryActivationIsRecordedOnce: a version that a device tried and gave up while
// nobody heard it is in the record, and one that a have and an event tell of is
// there once, whichever comes first.
func TestEveryActivationIsRecordedOnce(t *testing.T) {
	for _, tt := range []struct{ told, want string }{
		// h1: runs v1. a2, b2: activated v2, rolled it back. h2: runs v2. hf: runs v1, v2 failed.
		{"h1 a2 h2 b2 hf", "v1 v2 v1"},
		{"h1 h2 a2 hf b2", "v1 v2 v1"},
		{"h1 a2 b2 hf", "v1 v2 v1"}, // nobody saw it run
		{"h1 hf a2 b2", "v1 v2 v1"},
		{"h1 a2 hf b2", "v1 v2 v1"},
		{"h1 hf a2 a2 b2 b2", "v1 v2 v1"}, // told again: an ack was lost
		{"a1 h1 a2 h2", "v1 v2"},
		{"h1 b2 hf", "v1"}, // what it gave up never ran
		{"h2 a2", "v2"},
	} {
		t.Run(tt.told, func(t *testing.T) {
			r := newRig(t, "d1")
			v := r.versions(2)
			r.start("m:v2", "d1")
			at := time.Now().Add(-time.Hour).UnixMilli()
			event := func(seq uint64, second int64, kind string, d protocol.Digest) func() {
				b := encode(t, protocol.Event{Boot: 1, Seq: seq, T: at + 1000*second, Kind: kind, Model: "m", Digest: d})
				return func() { r.handle("d1", protocol.TopicEvent, b) }
			}
			have := func(second int64, m protocol.ModelHave) func() {
				return func() { r.report("d1", protocol.Have{Boot: 1, Rev: 1, T: at + 1000*second}, m) }
			}
			says := map[string]func(){
				"a1": event(1, 0, "activated", v[0]), "h1": have(1, protocol.ModelHave{Active: v[0], Version: "m:v1"}),
				"a2": event(2, 10, "activated", v[1]), "h2": have(11, protocol.ModelHave{Active: v[1], Version: "m:v2", Phase: protocol.PhaseTrying}),
				"b2": event(3, 20, "rolled_back", v[1]),
				"hf": have(21, protocol.ModelHave{Active: v[0], Version: "m:v1", Failed: &protocol.Failure{Digest: v[1], Rev: 1, Code: "crash", Message: "x"}}),
			}
			for _, what := range strings.Fields(tt.told) {
				says[what]()
			}
			var got []string
			err := r.store.View(t.Context(), func(tx store.Tx) error {
				ran, err := tx.Activations(t.Context(), "d1", "m", time.Now(), 10)
				slices.Reverse(ran)
				for _, e := range ran {
					got = append(got, strings.TrimPrefix(e.Detail, "m:"))
					if (e.Rollout == 1) != (e.Digest == v[1]) || e.Who != audit.Device || e.Number == 0 {
						t.Errorf("entry is %+v", e)
					}
				}
				return err
			})
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("recorded are %v, %v, want %s", got, err, tt.want)
			}
		})
	}
}
