package agent

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/kernel/predictor"
)

func TestPinHoldsAgainstTheControlPlane(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2, v3 := w.version(1), w.version(2), w.version(3)
		d := w.installed(dir, v1, v2)
		got, err := d.Pin(t.Context(), "pump:v1")
		if err != nil || got != (Placed{Name: "pump", Version: "pump:v1", Digest: v1.digest(), Hold: "pinned", Running: true}) {
			t.Fatalf("Pin = %+v, %v", got, err)
		}
		d.answers(v1)
		w.rollOut(v3)
		pass(time.Minute)
		d.expect("idle active pump:v1 serving pump:v1 previous pump:v2 failed pinned@3")
		h := w.lastHave().Models["pump"]
		if f := h.Failed; h.Hold != "pinned" || f == nil || f.Digest != v3.digest() || f.Code != "pinned" || !strings.Contains(f.Message, "pump:v1") {
			t.Errorf("reported: %+v, %+v", h, f)
		}
		d.stop()
		d = w.start(dir)
		pass(time.Minute)
		d.expect("idle active pump:v1 serving pump:v1 previous pump:v2 failed pinned@3")
		if _, err := d.Unpin(t.Context(), "pump"); err != nil {
			t.Fatal(err)
		}
		pass(trialTime)
		d.expect("idle active pump:v3 serving pump:v3 previous pump:v1")
		if h := w.lastHave().Models["pump"]; h.Hold != "" || h.Failed != nil {
			t.Errorf("reported: %+v", h)
		}
	})
}

func TestRollbackOnTheDeviceNeedsNoLink(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2 := w.version(1), w.version(2)
		w.installed(dir, v1, v2).stop()
		w.down.Store(true)
		d := w.start(dir)
		got, err := d.Rollback(t.Context(), "pump")
		if err != nil || got.Version != "pump:v1" || got.Hold != "rolled_back" {
			t.Fatalf("Rollback = %+v, %v", got, err)
		}
		d.answers(v1)
		if _, err := d.Rollback(t.Context(), "pump"); !errors.Is(err, ErrReturned) {
			t.Errorf("a second Rollback = %v, want ErrReturned", err)
		}
		w.down.Store(false)
		pass(5 * time.Minute)
		d.expect("idle active pump:v1 serving pump:v1 previous pump:v2 failed rolled_back@2")
		w.ask(w.want(v2)) // newer
		pass(trialTime)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
	})
}

func TestOwnerDecidesWhileNoAgentRuns(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2 := w.version(1), w.version(2)
		w.installed(dir, v1, v2).stop()
		a, err := New(w.config(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			ask  func() (Placed, error)
			want Placed
			err  error
		}{
			{func() (Placed, error) { return a.Rollback(t.Context(), "pump") }, Placed{Version: "pump:v1", Hold: "rolled_back"}, nil},
			{func() (Placed, error) { return a.Pin(t.Context(), "pump") }, Placed{Version: "pump:v1", Hold: "pinned"}, nil},
			{func() (Placed, error) { return a.Pin(t.Context(), "pump:v7") }, Placed{}, ErrNotHere},
			{func() (Placed, error) { return a.Pin(t.Context(), "pump:7") }, Placed{}, ErrNotHere},
			{func() (Placed, error) { return a.Unpin(t.Context(), "fan") }, Placed{}, ErrNotHere},
		} {
			got, err := tc.ask()
			if got.Version != tc.want.Version || got.Hold != tc.want.Hold || got.Running || !errors.Is(err, tc.err) {
				t.Errorf("%+v, %v; want %+v, %v", got, err, tc.want, tc.err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		d := w.start(dir)
		pass(time.Minute)
		d.expect("idle active pump:v1 serving pump:v1 previous pump:v2 failed pinned@2")
		d.answers(v1)
		if _, err := d.Install(t.Context(), bytes.NewReader(fileOf(w, w.version(3)))); err != nil {
			t.Fatal(err)
		}
		pass(trialTime)
		d.expect("idle active pump:v3 serving pump:v3 previous pump:v1")
		if h := d.Status().Models["pump"].Hold; h != "pinned" {
			t.Errorf("the file took the pin away: %q", h)
		}
	})
}

// TestSlowVersionEndsItsTrial takes times from a table: a real clock would
// stand still in the bubble, and be a matter of luck outside.
func TestSlowVersionEndsItsTrial(t *testing.T) {
	for _, tc := range []struct {
		name        string
		before, now time.Duration
		slowdown    float64
		slow        bool
	}{
		{"as fast", 2 * time.Millisecond, 2 * time.Millisecond, 0, false},
		{"8 times", 2 * time.Millisecond, 16 * time.Millisecond, 0, false},
		{"more", 2 * time.Millisecond, 17 * time.Millisecond, 0, true},
		{"more, within a millisecond", time.Microsecond, time.Millisecond, 0, false},
		{"a narrower bound", 2 * time.Millisecond, 5 * time.Millisecond, 2, true},
		{"no bound", time.Millisecond, time.Hour, -1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				dir := t.TempDir()
				v1, v2 := w.version(1), w.version(2)
				w.installed(dir, v1).stop()
				c := w.config(dir)
				c.MaxSlowdown = tc.slowdown
				a, err := New(c)
				if err != nil {
					t.Fatal(err)
				}
				runs := 0
				a.measure = func(p *predictor.Predictor) time.Duration {
					runs++
					delayed := time.Duration(runs%measureRuns) * time.Minute // all but the last of each; p is on trial, or the one before
					if a.models.get("pump").predictor == p {
						return tc.now + delayed
					}
					return tc.before + delayed
				}
				d := w.run(a)
				w.rollOut(v2)
				pass(trialTime)
				want := "idle active pump:v2 serving pump:v2 previous pump:v1"
				if tc.slow {
					want = "idle active pump:v1 serving pump:v1 failed slow@2"
				}
				d.expect(want)
				if f := w.lastHave().Models["pump"].Failed; tc.slow && (f == nil || f.Code != "slow" || !strings.Contains(f.Message, tc.before.String())) {
					t.Errorf("reported %+v", f)
				}
			})
		})
	}
}
