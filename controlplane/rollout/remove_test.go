package rollout

import (
	"errors"
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TestRemoveForgetsADevice: its rows are gone, the counters of its rollout follow,
// the broker's topics are cleared, and its late reports change nothing.
func TestRemoveForgetsADevice(t *testing.T) {
	r := newRig(t, "d1", "d2")
	r.versions(1)
	r.start("m:v1", "all")
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	usage, err := protocol.Usage{Format: 1, Boot: 1, Seq: 1}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.handle("d1", protocol.TopicUsage, usage)
	if err := r.Remove(t.Context(), "d1"); err != nil {
		t.Fatal(err)
	}
	r.Republish() // it was removed while the broker was away
	r.broker.topics()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := r.Rollouts.fleet
	want := []string{protocol.WantTopic(f, "d1"), protocol.HaveTopic(f, "d1"), protocol.BirthTopic(f, "d1"), protocol.UpTopic(f, "d1")}
	if got := r.broker.topics(); !slices.Equal(got[:min(len(got), len(want))], want) {
		t.Errorf("published %q, want %q cleared first", got, want)
	}
	if _, kept := r.broker.retained[protocol.WantTopic(f, "d1")]; kept {
		t.Error("the want of a removed device is retained")
	}
	if s, err := r.Status(t.Context(), "m", Query{}); err != nil || s.Total != 1 || len(s.Devices) != 1 {
		t.Errorf("status %+v, %v; want one device", s, err)
	}
	r.handle("d1", protocol.TopicUsage, usage) // late
	if err := r.Remove(t.Context(), "d1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove again = %v, want ErrNotFound", err)
	}
	r.add("d1", nil) // the id can be given again
	if s, err := r.Status(t.Context(), "m", Query{}); err != nil || s.Total != 2 {
		t.Errorf("status %+v, %v; want two devices", s, err)
	}
}

// TestRemoveWaitsForAPlan: a device that a plan counts on stays until the plan
// is over.
func TestRemoveWaitsForAPlan(t *testing.T) {
	a := newAcre(t, 10)
	a.plan(healthOnly(2))
	a.minutes(1)
	seats := a.seats()
	member := seats[len(seats)-1].Device
	if err := a.Remove(t.Context(), member); !errors.Is(err, ErrMember) {
		t.Errorf("Remove of %s during a plan = %v, want ErrMember", member, err)
	}
	if _, err := a.Command(ann(t), "m", Abort); err != nil {
		t.Fatal(err)
	}
	if err := a.Remove(t.Context(), member); err != nil {
		t.Errorf("Remove of %s when it is over = %v", member, err)
	}
}
