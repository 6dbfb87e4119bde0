package rollout

import (
	"errors"
	"maps"
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

// TestRemovedDeviceIsClearedAfterARestart: the process died after the removal, or
// while it cleared the topics.
func TestRemovedDeviceIsClearedAfterARestart(t *testing.T) {
	r := newRig(t, "d1", "d2", "d3")
	r.versions(1)
	r.start("m:v1", "all")
	r.flush()
	<-r.outbox.wake // of the start
	for _, id := range []string{"d1", "d3"} {
		if err := r.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.outbox.wake) == 0 {
		t.Error("a removal does not wake Run")
	}
	f := r.Rollouts.fleet
	gone := errors.New("connection lost")
	r.broker.on = func(topic string) {
		if topic == protocol.WantTopic(f, "d3") {
			r.broker.fail = gone
		}
	}
	if err := r.Flush(t.Context()); !errors.Is(err, gone) {
		t.Fatalf("Flush = %v, want %v", err, gone)
	}
	held := r.broker
	held.on, held.fail = nil, nil
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	again := openRig(t, r.dir)
	held.topics()
	again.broker, again.Rollouts.pub = held, held
	again.Republish() // what it does when it is connected
	again.flush()
	if held.retained[protocol.WantTopic(f, "d1")] != nil || held.retained[protocol.WantTopic(f, "d3")] != nil || held.retained[protocol.WantTopic(f, "d2")] == nil {
		t.Errorf("wants of devices that were removed are retained, or that of another is not: %q", slices.Sorted(maps.Keys(held.retained)))
	}
	held.topics()
	again.Republish()
	again.flush()
	if again := held.topics(); slices.Contains(again, protocol.WantTopic(f, "d1")) {
		t.Error("what was cleared is cleared at every connection")
	}
}

// TestIDGivenAgainIsClearedFirst: what the new device shall run is not taken away, and
// nothing of the old one is left.
func TestIDGivenAgainIsClearedFirst(t *testing.T) {
	r := newRig(t, "d1")
	v := r.versions(1)
	r.start("m:v1", "all")
	r.flush()
	have := protocol.HaveTopic(r.Rollouts.fleet, "d1")
	r.broker.retained[have] = []byte{1}
	if err := r.Remove(t.Context(), "d1"); err != nil {
		t.Fatal(err)
	}
	r.add("d1", nil)
	r.flush()
	b := r.broker.retained[protocol.WantTopic(r.Rollouts.fleet, "d1")]
	if b == nil || r.open(b).Models["m"].Active.Digest != v[0] {
		t.Error("the want of the new device is not retained")
	}
	if r.broker.retained[have] != nil {
		t.Error("the report of the old device is retained")
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
