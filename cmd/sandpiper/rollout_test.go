package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
)

func TestStatusShowsTheDevicesToLookAt(t *testing.T) {
	s := rollout.Status{Model: "m", Counts: rollout.Counts{}, Total: 60}
	for i := range s.Total {
		d := rollout.DeviceStatus{Device: fmt.Sprintf("d%02d", i), State: rollout.Active}
		switch i {
		case 58:
			d.State = rollout.Pending
		case 59:
			d.State = rollout.Failed
		}
		s.Devices = append(s.Devices, d)
	}
	draw := func(everyDevice bool) (text string, devices []string) {
		g := &grid{}
		drawStatus(g, s, everyDevice)
		text = string(g.render())
		for _, line := range strings.Split(text, "\n") {
			if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "d") && name != "device" {
				devices = append(devices, name)
			}
		}
		return text, devices
	}
	text, devices := draw(false)
	if len(devices) != shownDevices || devices[0] != "d59" || devices[1] != "d58" || devices[2] != "d00" || !strings.Contains(text, "and 10 more") {
		t.Errorf("%d devices, %v: want those that failed and those on their way first\n%s", len(devices), devices, text)
	}
	if text, devices := draw(true); len(devices) != 60 || devices[0] != "d00" || strings.Contains(text, "more") {
		t.Errorf("every device: %v", devices)
	}
	s.Devices = nil
	if text, _ := draw(false); strings.Contains(text, "wanted") {
		t.Errorf("a heading above no device:\n%s", text)
	}
}

// TestThroughRestarts: a control plane that is away for a while is waited for, and
// said to be away once; one that never answered is not.
func TestThroughRestarts(t *testing.T) {
	var said strings.Builder
	a := &app{stderr: &said}
	away := fmt.Errorf("%w: away", api.ErrUnreachable)
	calls := 0
	follow := func(results ...error) func(func()) error {
		calls = 0
		return func(answered func()) error {
			err := results[calls]
			if calls++; err == nil || calls == 1 {
				answered()
			}
			return err
		}
	}
	if err := a.throughRestarts(t.Context(), 1, follow(away, away, away, nil)); err != nil || calls != 4 || strings.Count(said.String(), "away") != 1 {
		t.Errorf("%v after %d calls, said %q", err, calls, &said)
	}
	if err := a.throughRestarts(t.Context(), 1, follow(away, errRefused)); !errors.Is(err, errRefused) {
		t.Errorf("%v, want what it said when it was back", err)
	}
	never := func(func()) error { calls++; return away }
	if calls = 0; !errors.Is(a.throughRestarts(t.Context(), 1, never), api.ErrUnreachable) || calls != 1 {
		t.Errorf("%d calls of one that never answered", calls)
	}
	ctx, left := context.WithCancel(t.Context())
	left()
	if err := a.throughRestarts(ctx, time.Hour, follow(away)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v once somebody leaves", err)
	}
}

// TestWatchWritesWhatIsNew: one that is connected again is told a state that it may
// have written.
func TestWatchWritesWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connections := 0
		server := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			state := `{"total":1,"counts":{"active":0}}`
			if connections++; connections == 3 {
				state = `{"total":1,"counts":{"active":1}}`
			}
			fmt.Fprintf(w, "event: status\ndata: %s\n\n", state)
		})
		var written, said strings.Builder
		a := &app{stdout: &written, stderr: &said}
		if err := a.watchRollout(t.Context(), api.NewLocalClient(server), "m"); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(written.String(), "\n"); connections != 3 || n != 2 {
			t.Errorf("%d lines over %d connections, want 2 over 3:\n%s", n, connections, &written)
		}
	})
}

func TestChange(t *testing.T) {
	for _, tt := range []struct {
		ratio    float64
		decimals int
		want     string
	}{
		{1.2, 0, "+20 %"}, {1.2345, 1, "+23.4 %"}, {0.9, 0, "-10 %"},
		{0.9996, 0, "0 %"}, {1.0004, 0, "0 %"}, {0.9999, 1, "0.0 %"}, {1.002, 1, "+0.2 %"}, {1.1, 0, "+10 %"},
	} {
		if got := change(tt.ratio, tt.decimals); got != tt.want {
			t.Errorf("change(%g, %d) = %q, want %q", tt.ratio, tt.decimals, got, tt.want)
		}
	}
}
