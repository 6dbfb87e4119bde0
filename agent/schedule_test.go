package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

func TestWindowOfTheLocalDay(t *testing.T) {
	at := func(day int, clock string) time.Time { // 1 is a Sunday
		d, err := time.ParseInLocation("2006-01-02 15:04:05", "2026-11-0"+string(rune('0'+day))+" "+clock, time.FixedZone("there", -5*3600))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	night := &protocol.Window{From: 23 * 60, To: 4 * 60, Days: 1 << time.Friday}
	day := &protocol.Window{From: 60, To: 120}
	for _, c := range []struct {
		window *protocol.Window
		now    time.Time
		want   bool
	}{
		{nil, at(1, "00:00:00"), true},
		{day, at(1, "00:59:59"), false}, {day, at(1, "01:00:00"), true}, {day, at(2, "01:59:59"), true}, {day, at(1, "02:00:00"), false},
		{night, at(6, "22:59:59"), false}, {night, at(6, "23:00:00"), true}, {night, at(7, "03:59:59"), true}, {night, at(7, "04:00:00"), false},
		{night, at(6, "02:00:00"), false}, {night, at(7, "23:30:00"), false}, // began on Thursday, and on Saturday
		{&protocol.Window{From: 60, To: 60, Days: 1 << time.Sunday}, at(1, "23:00:00"), true},
		{&protocol.Window{From: 60, To: 60, Days: 1 << time.Sunday}, at(2, "00:00:00"), false},
	} {
		if got := inWindow(c.window, c.now); got != c.want {
			t.Errorf("%+v at %s: %t, want %t", c.window, c.now.Format("Mon 15:04:05"), got, c.want)
		}
	}
}

func TestScheduleOfAWant(t *testing.T) {
	now := time.UnixMilli(10_000)
	for _, c := range []struct {
		s    schedule
		open bool
		err  error
	}{
		{schedule{}, true, nil}, {schedule{NotBefore: 10_000}, true, nil}, {schedule{NotBefore: 10_001}, false, nil},
		{schedule{Deadline: 10_000}, true, nil}, {schedule{Deadline: 9_999}, false, errDeadline},
		{schedule{NotBefore: 20_000, Deadline: 9_999}, false, errDeadline},
	} {
		if open, err := c.s.open(now); open != c.open || !errors.Is(err, c.err) {
			t.Errorf("%+v: %t, %v, want %t, %v", c.s, open, err, c.open, c.err)
		}
	}
}

func TestActivationWaitsForItsTime(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir, v1, v2 := t.TempDir(), w.version(1), w.version(2)
		d := w.installed(dir, v1)
		w.publish(v2)
		want := w.want(v2)
		want.NotBefore = time.Now().Add(time.Hour).UnixMilli()
		w.ask(want)
		pass(50 * time.Minute)
		d.expect("fetching active pump:v1 serving pump:v1")
		d.answers(v1)
		d.stop()
		d = w.start(dir) // the schedule survives
		pass(9 * time.Minute)
		d.expect("fetching active pump:v1 serving pump:v1")
		pass(2 * time.Minute)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
	})
}

func TestDeadlineGivesUp(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2, v3 := w.version(1), w.version(2), w.version(3)
		d := w.installed(t.TempDir(), v1)
		want := w.want(v2) // not published: it cannot arrive
		want.Deadline = time.Now().Add(time.Hour).UnixMilli()
		w.ask(want)
		pass(50 * time.Minute)
		d.expect("fetching active pump:v1 serving pump:v1")
		pass(20 * time.Minute)
		d.expect("idle active pump:v1 serving pump:v1 failed deadline@2")
		w.publish(v3)
		want = w.want(v3) // at hand, but its window is elsewhere
		now := time.Now().Local()
		want.Window = &protocol.Window{From: uint16((now.Hour() + 3) % 24 * 60), To: uint16((now.Hour() + 4) % 24 * 60)}
		want.Deadline = now.Add(time.Hour).UnixMilli()
		w.ask(want)
		pass(50 * time.Minute)
		d.expect("fetching active pump:v1 serving pump:v1 failed deadline@2")
		pass(20 * time.Minute)
		d.expect("idle active pump:v1 serving pump:v1 failed deadline@3")
		d.answers(v1)
	})
}
