package controlplane

import (
	"errors"
	"testing"

	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// TestWithdrawnCredentials: the connection of a device that gets a new token or
// is removed ends, and the old token is refused at once.
func TestWithdrawnCredentials(t *testing.T) {
	c := open(t, Config{Dir: initDir(t)})
	_, first, err := c.AddDevice(t.Context(), "pump-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, c)
	refused := func(token string) {
		t.Helper()
		if _, ok := c.authenticate("d.pump-1", token, "d.pump-1"); ok {
			t.Error("a withdrawn token is good")
		}
	}
	d := connect(t, c, "pump-1", first)
	second, err := c.RenewToken(t.Context(), "pump-1")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "its connection ends with the new token", func() bool { return !d.IsConnectionOpen() })
	refused(first)
	d = connect(t, c, "pump-1", second)
	d.publish(protocol.HaveTopic(c.Fleet.Name(), "pump-1"), true, []byte(`{"format":1,"boot":1,"epoch":0,"rev":0,"t":1,"models":{}}`))
	until(t, "its report is stored", func() bool {
		d, err := c.Fleet.Device(t.Context(), "pump-1")
		return err == nil && d.Have != nil
	})
	if err := c.RemoveDevice(t.Context(), "pump-1"); err != nil {
		t.Fatal(err)
	}
	until(t, "its connection ends with it", func() bool { return !d.IsConnectionOpen() })
	refused(second)
	if _, err := c.Fleet.Device(t.Context(), "pump-1"); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("Device = %v, want ErrNotFound", err)
	}
	for _, err := range []error{c.RemoveDevice(t.Context(), "pump-1"), func() error { _, err := c.RenewToken(t.Context(), "pump-1"); return err }()} {
		if !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("of a device that is no more: %v, want ErrNotFound", err)
		}
	}
}
