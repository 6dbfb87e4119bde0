package controlplane

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// external runs a broker that keeps nothing between two runs, and returns where it
// is and how it is stopped.
func external(t *testing.T, listen string) (addr string, stop func()) {
	t.Helper()
	b, err := broker.New(broker.Config{Listen: listen, Fleet: DefaultFleet, Auth: func(username, _, _ string) (broker.Identity, bool) {
		kind, id, _ := strings.Cut(username, ".")
		return broker.Identity{Kind: kind[0], ID: id}, true
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("broker: %v", err)
		}
		b.Close()
	})
	t.Cleanup(stop)
	return b.Addr().String(), stop
}

// TestExternalBrokerRestarts: what it forgot is there again, and so is who is
// connected: a device that left meanwhile is not taken for online for ever.
func TestExternalBrokerRestarts(t *testing.T) {
	addr, stop := external(t, "127.0.0.1:0")
	c := open(t, Config{Dir: initDir(t), BrokerURL: "tcp://" + addr})
	name := c.Fleet.Name()
	v := addModel(t, c, 1)
	for _, id := range []string{"pump-1", "pump-2"} {
		if _, _, err := c.AddDevice(t.Context(), id, nil); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, c)
	join := func(id string) *device {
		d := connect(t, c, id, "")
		d.wait(d.Subscribe(protocol.WantTopic(name, id), 1, nil))
		d.publish(protocol.UpTopic(name, id), true, []byte(protocol.Online))
		until(t, id+" is online", func() bool { d, err := c.Fleet.Device(t.Context(), id); return err == nil && d.Online })
		return d
	}
	d := join("pump-1")
	join("pump-2")
	all, err := rollout.ParseTarget("all")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Rollout.Start(t.Context(), v.Ref(), all); err != nil {
		t.Fatal(err)
	}
	want := d.next(protocol.WantTopic(name, "pump-1"))

	stop()
	until(t, "the control plane misses it", func() bool { return !c.Connected() })
	external(t, addr)
	until(t, "it is back", c.Connected)
	d = join("pump-1")
	if again := d.next(protocol.WantTopic(name, "pump-1")); string(again) != string(want) {
		t.Error("the want is another one")
	}
	until(t, "the device that left is offline", func() bool { d, err := c.Fleet.Device(t.Context(), "pump-2"); return err == nil && !d.Online })
}
