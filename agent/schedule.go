package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// errDeadline: the deadline of a want passed before its version was in place.
var errDeadline = errors.New("the deadline of the rollout passed")

// scheduleCheck is how often a device looks whether it may activate: a clock
// that is set right meanwhile, as at the first NTP answer, counts at once.
const scheduleCheck = 20 * time.Second

// A schedule bounds when a wanted version is activated; zero is always. It
// never touches a version that is in place, nor a withdrawal during a trial.
type schedule struct {
	NotBefore int64            `json:"not_before,omitempty"` // UTC ms
	Deadline  int64            `json:"deadline,omitempty"`   // UTC ms
	Window    *protocol.Window `json:"window,omitempty"`     // of the local day
}

func scheduleOf(w protocol.Want) schedule { return schedule{w.NotBefore, w.Deadline, w.Window} }

func (s schedule) equal(t schedule) bool {
	same := s.Window == t.Window || s.Window != nil && t.Window != nil && *s.Window == *t.Window
	return same && s.NotBefore == t.NotBefore && s.Deadline == t.Deadline
}

// open reports whether a version may be activated at now, whose location is
// where the device is. The error is errDeadline.
func (s schedule) open(now time.Time) (bool, error) {
	if s.Deadline > 0 && now.UnixMilli() > s.Deadline {
		return false, fmt.Errorf("%w: it was %s, it is %s", errDeadline,
			time.UnixMilli(s.Deadline).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return now.UnixMilli() >= s.NotBefore && inWindow(s.Window, now), nil
}

// inWindow reports whether now is in w. One that spans midnight belongs to the
// day on which it began; one that ends when it begins is the whole day.
func inWindow(w *protocol.Window, now time.Time) bool {
	if w == nil {
		return true
	}
	minute := uint16(now.Hour()*60 + now.Minute())
	day := now.Weekday()
	switch {
	case w.From == w.To:
	case w.From < w.To:
		if minute < w.From || minute >= w.To {
			return false
		}
	case minute < w.To:
		day = (day + 6) % 7
	case minute < w.From:
		return false
	}
	return w.Days == 0 || w.Days>>day&1 == 1
}

// clock is the device's, but never before a time that came signed.
func (a *Agent) clock() time.Time {
	now := a.wall()
	if trusted := time.UnixMilli(a.snapshot.Load().Time); now.Before(trusted) {
		return trusted
	}
	return now
}

// awaitTurn returns once s allows an activation of version, or somebody at the
// device asks for it, with errDeadline once it will
// not, or when ctx ends.
func (a *Agent) awaitTurn(ctx context.Context, model, version string, s schedule) error {
	open, err := s.open(a.clock())
	if open || err != nil {
		return err
	}
	now, done := a.turns.wait(model, version)
	a.announce()
	defer a.announce()
	defer done()
	tick := time.NewTicker(scheduleCheck)
	defer tick.Stop()
	for !open && err == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-now:
			return nil
		case <-tick.C:
			open, err = s.open(a.clock())
		}
	}
	return err
}
