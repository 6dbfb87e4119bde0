package agent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

func TestBudgetHoldsInAnyDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(store.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const limit, piece = 1 << 20, 32 << 10
		type taken struct{ at time.Time }
		var all []taken
		b := newBudget(limit, s)
		for step := range 4 * 24 * 6 { // four days, in steps of ten minutes
			for range 5 {
				if err := b.take(piece); err != nil {
					var used *errBudget
					if !errors.As(err, &used) || used.wait <= 0 || used.wait > 25*time.Hour {
						t.Fatalf("take = %v", err)
					}
					break
				}
				all = append(all, taken{time.Now()})
			}
			b.pass()
			if step%50 == 49 { // killed: nothing is said to it
				b = newBudget(limit, s)
			}
			time.Sleep(10 * time.Minute)
		}
		for i, last := range all {
			sum := int64(0)
			for _, x := range all[:i+1] {
				if last.at.Sub(x.at) < 24*time.Hour {
					sum += piece
				}
			}
			if sum > limit {
				t.Fatalf("%d bytes in the 24 hours before %v, want at most %d", sum, last.at, limit)
			}
		}
		if n := int64(len(all)) * piece; n < 2*limit || n > 4*limit {
			t.Errorf("%d bytes in four days, want what %d a day allows", n, limit)
		}
	})
}

// A kill between taking and using must not give the bytes back.
func TestBudgetSurvivesKillsBetweenDownloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(store.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		taken := 0
		for range 100 {
			if newBudget(1<<20, s).take(32<<10) == nil {
				taken += 32 << 10
			}
			time.Sleep(time.Second)
		}
		if taken > 1<<20 || taken < 128<<10 {
			t.Errorf("%d bytes by a process that is killed every second, want at most %d", taken, 1<<20)
		}
	})
}

// What was stored as about to be spent must not be spent a day later.
func TestBudgetOfAnotherTimeIsNotSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(store.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const limit = 1 << 20
		b := newBudget(limit, s)
		if err := b.take(1); err != nil { // and a lot with it
			t.Fatal(err)
		}
		sum := 0
		for _, wait := range []time.Duration{23 * time.Hour, 80 * time.Minute} {
			time.Sleep(wait)
			for b.take(4<<10) == nil {
				sum += 4 << 10
			}
		}
		if sum > limit || sum < limit-8<<10 {
			t.Errorf("%d bytes within 80 minutes, want nearly %d and no more", sum, limit)
		}
	})
}

// A broker that is silent for hours must not use up the day.
func TestBudgetIsNotSpentOnSilence(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.version(1)
		d := w.start(t.TempDir(), func(c *Config) { c.DailyBytes = MinDailyBytes })
		w.retain(protocol.DescriptorTopic("f", v.hash()), w.encode(artifact.Announce(v.envelope, v.transfer)))
		w.ask(w.want(v))
		pass(2 * time.Hour)
		w.publish(v)
		pass(10 * time.Minute)
		d.expect("idle active pump:v1 serving pump:v1")
	})
}

func TestUnusedBytesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(store.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b := newBudget(MinDailyBytes, s)
		for range 100 {
			if err := b.take(32 << 10); err != nil {
				t.Fatal(err)
			}
			b.giveBack(32 << 10)
		}
	})
}

// TestUsedUpBudgetWaitsAndSaysSoOnce installs 150 KB on 128 KB a day, an hour
// here, with restarts: the rest comes a day later, and predictions go on.
func TestUsedUpBudgetWaitsAndSaysSoOnce(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir, v1, v2 := t.TempDir(), w.version(1), w.big(2)
		w.installed(dir, v1).stop()
		start := func() *device {
			c := w.config(dir)
			c.DailyBytes = MinDailyBytes
			a, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			a.budget.day = time.Hour
			return w.run(a)
		}
		d := start()
		before := w.sent()
		w.rollOut(v2)
		const starts = 3
		for range starts {
			pass(15 * time.Minute)
			d.expect("fetching active pump:v1 serving pump:v1")
			d.answers(v1)
			if s := d.Status().Models["pump"]; !strings.Contains(s.Waiting, "131072 bytes for downloads of a day are used up") {
				t.Errorf("status says %q", s.Waiting)
			}
			d.stop()
			d = start()
		}
		if n := w.sent() - before; n > MinDailyBytes {
			t.Errorf("%d bytes of chunks in 45 minutes, want at most %d", n, MinDailyBytes)
		}
		if n := len(w.told("budget")); n < 1 || n > starts+1 {
			t.Errorf("said so %d times in %d starts", n, starts+1)
		}
		pass(time.Hour + budgetStep + time.Minute) // a day, as finely as it is measured, and the trial
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		d.answers(v2)
	})
}
