package fleet

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/filter"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

const controlToken = "0123456789abcdef0123456789abcdef"

func newFleet(t *testing.T) (*Fleet, *store.Store) {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	f, err := New(s, "default", controlToken)
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

func add(t *testing.T, f *Fleet, id string, labels map[string]string) string {
	t.Helper()
	_, token, err := f.Add(t.Context(), id, labels)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestAuthenticate(t *testing.T) {
	f, _ := newFleet(t)
	device := add(t, f, "pump-1", nil)
	other := add(t, f, "pump-2", nil)
	_, user, err := f.AddUser(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, token string
		want        Identity
	}{
		{"d.pump-1", device, Identity{'d', "pump-1"}},
		{"u.ann", user, Identity{'u', "ann"}},
		{"c.default", controlToken, Identity{'c', "default"}},
		{"d.pump-1", other, Identity{}},
		{"d.pump-1", "", Identity{}},
		{"d.pump-1", strings.ToUpper(device), Identity{}},
		{"u.pump-1", device, Identity{}},
		{"d.ann", user, Identity{}},
		{"pump-1", device, Identity{}},
		{"d.pump-9", device, Identity{}},
		{"d.pump-9", "", Identity{}},
		{"x.pump-1", device, Identity{}},
		{"c.other", controlToken, Identity{}},
		{"c.default", device, Identity{}},
		{"u.cp", controlToken, Identity{}},
		{"", "", Identity{}},
		{".", "", Identity{}},
	} {
		got, err := f.Authenticate(t.Context(), tt.name, tt.token)
		if got != tt.want || (err == nil) != (tt.want != Identity{}) || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("Authenticate(%q, %q) = %v, %v, want %v", tt.name, tt.token, got, err, tt.want)
		}
		if err == nil && got.String() != tt.name {
			t.Errorf("identity of %s is written %s", tt.name, got)
		}
	}
}

func TestTokensAreNotStored(t *testing.T) {
	f, s := newFleet(t)
	token := add(t, f, "pump-1", nil)
	if len(token) != 32 {
		t.Errorf("token has %d digits, want 32: 128 bits", len(token))
	}
	err := s.View(t.Context(), func(tx store.Tx) error {
		stored, err := tx.DeviceToken(t.Context(), "pump-1")
		if len(stored) != 32 || strings.Contains(fmt.Sprintf("%s %x", stored, stored), token) {
			t.Errorf("stored %x for token %s, want a SHA-256", stored, token)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAddRefuses(t *testing.T) {
	f, _ := newFleet(t)
	add(t, f, "pump-1", nil)
	many := map[string]string{}
	for i := range MaxLabels + 1 {
		many[fmt.Sprint("k", i)] = "v"
	}
	for _, tt := range []struct {
		id     string
		labels map[string]string
		want   error
	}{
		{"pump-1", nil, ErrExists},
		{"all", nil, ErrReserved},
		{"", nil, protocol.ErrID},
		{"Pump", nil, protocol.ErrID},
		{"pump.1", nil, protocol.ErrID},
		{"pump/1", nil, protocol.ErrID},
		{"+", nil, protocol.ErrID},
		{"pump,1", nil, protocol.ErrID},
		{strings.Repeat("a", 49), nil, protocol.ErrID},
		{"pump-2", map[string]string{"": "x"}, ErrLabel},
		{"pump-2", map[string]string{"Site": "x"}, ErrLabel},
		{"pump-2", map[string]string{"site": ""}, ErrLabel},
		{"pump-2", map[string]string{"site": "a b"}, ErrLabel},
		{"pump-2", map[string]string{"site": "a,b"}, ErrLabel},
		{"pump-2", map[string]string{"site": "a=b"}, ErrLabel},
		{"pump-2", map[string]string{"site": strings.Repeat("x", 65)}, ErrLabel},
		{"pump-2", many, ErrLabel},
	} {
		if _, token, err := f.Add(t.Context(), tt.id, tt.labels); !errors.Is(err, tt.want) || token != "" {
			t.Errorf("Add(%q, %v) = %q, %v, want %v", tt.id, tt.labels, token, err, tt.want)
		}
	}
	for id, want := range map[string]error{"cp": ErrReserved, "a b": protocol.ErrID} {
		if _, _, err := f.AddUser(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("AddUser(%q) = %v, want %v", id, err, want)
		}
	}
	if _, _, err := f.AddUser(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.AddUser(t.Context(), "ann"); !errors.Is(err, ErrExists) {
		t.Errorf("AddUser twice = %v, want ErrExists", err)
	}
}

func TestListInPagesByFilter(t *testing.T) {
	f, _ := newFleet(t)
	for i := range 7 {
		add(t, f, fmt.Sprint("pump-", i), map[string]string{"site": []string{"oslo", "bergen"}[i%2]})
	}
	var got []string
	q := Query{Filter: "site=oslo", Limit: 3}
	for pages := 0; ; pages++ {
		p, err := f.List(t.Context(), q)
		if err != nil || pages > 3 {
			t.Fatal(err, pages)
		}
		for _, d := range p.Devices {
			got = append(got, d.ID)
			if d.Labels["site"] != "oslo" {
				t.Errorf("%s has labels %v", d.ID, d.Labels)
			}
		}
		if q.After = p.Next; q.After == "" {
			break
		}
	}
	if d := cmp.Diff([]string{"pump-0", "pump-2", "pump-4", "pump-6"}, got); d != "" {
		t.Errorf("site=oslo (-want +got)\n%s", d)
	}
	for _, bad := range []string{"site", "=oslo", "site=", "site=a,b", "sight=oslo", "model.pump!=v1"} {
		if _, err := f.List(t.Context(), Query{Filter: bad}); !errors.Is(err, filter.ErrFilter) {
			t.Errorf("List(%q) = %v, want ErrFilter", bad, err)
		}
	}
}

func TestRelabel(t *testing.T) {
	f, _ := newFleet(t)
	add(t, f, "pump-1", map[string]string{"site": "oslo", "line": "a"})
	d, err := f.SetLabels(t.Context(), "pump-1", map[string]string{"site": "bergen"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"site": "bergen"}, d.Labels); diff != "" {
		t.Errorf("labels (-want +got)\n%s", diff)
	}
	if _, err := f.SetLabels(t.Context(), "pump-2", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("SetLabels of an unknown device = %v, want ErrNotFound", err)
	}
}

func TestUnknownDeviceSuggestsTheNearest(t *testing.T) {
	f, _ := newFleet(t)
	add(t, f, "pump-1", nil)
	_, err := f.Device(t.Context(), "pmup-1")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `did you mean "pump-1"?`) {
		t.Errorf("Device(pmup-1) = %v, want ErrNotFound and pump-1", err)
	}
	if _, err := f.Device(t.Context(), "boiler"); !errors.Is(err, ErrNotFound) || strings.Contains(err.Error(), "mean") {
		t.Errorf("Device(boiler) = %v, want ErrNotFound and no suggestion", err)
	}
}
