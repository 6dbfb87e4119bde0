package rollout

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
)

func TestBrokerRestartIsNoSilence(t *testing.T) {
	a := newAcre(t, 60)
	a.broker.fail = errors.New("no broker")
	a.plan(canary(60, 40))
	if err := a.Advance(t.Context(), a.at); err == nil {
		t.Error("the transfers are taken for published")
	}
	if s := a.staged(); s.State.Phase != plan.Preparing {
		t.Errorf("phase is %s without a broker", s.State.Phase)
	}
	a.broker.fail = nil
	a.minutes(3)
	a.wantRunning(40, 0, 40)
	// In mid-stage it is away for an hour: Run calls nothing meanwhile.
	a.at = a.at.Add(time.Hour)
	if err := a.Advance(t.Context(), a.at); err != nil {
		t.Fatal(err)
	}
	s := a.staged()
	if s.State.Phase != plan.Running || s.State.Verdict.Silent != 0 || s.State.Ran > plan.Duration(7*time.Minute) {
		t.Errorf("%s, %d silent, after %s", s.State.Phase, s.State.Verdict.Silent, s.State.Ran)
	}
	a.until(plan.Running, 1, 20)
}

// TestRunLetsTimeGoOn: Run looks after a staged rollout by itself, but not while
// nobody can be heard.
func TestRunLetsTimeGoOn(t *testing.T) {
	newRig(t).versions(1) // the encoder is made once, and must not belong to the bubble
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "d1", "d2")
		r.versions(1)
		var heard atomic.Bool
		heard.Store(true)
		r.connected = heard.Load
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(10 * time.Second) // with nothing to look after
		all, _ := ParseTarget("all")
		planner, err := PlannerOf(healthOnly(1))
		if err != nil {
			t.Fatal(err)
		}
		d, err := r.Draft(t.Context(), "m:v1", all, planner)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.StartPlan(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		state := func() plan.State {
			s, err := r.Staged(t.Context(), "m")
			if err != nil {
				t.Fatal(err)
			}
			return s.State
		}
		looks := func() int { return state().Looks }
		time.Sleep(5*time.Minute + 30*time.Second)
		synctest.Wait()
		if n := looks(); n != 5 {
			t.Errorf("%d looks in five minutes, want 5", n)
		}
		heard.Store(false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := looks(); n != 5 {
			t.Errorf("%d looks, of which %d while nobody could be heard", n, n-5)
		}
		// Once they can be, they come back first.
		last := state().At
		heard.Store(true)
		r.Republish()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if at := state().At; !at.Equal(last) {
			t.Errorf("looked at %s, before devices could come back", at)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := looks(); n <= 5 {
			t.Errorf("%d looks when all are back, want more than 5", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestHeldForLongIsNoSilence: a device stops reporting by itself in the end, should
// nobody tell it otherwise; but it is told, for as long as a person takes.
func TestHeldForLongIsNoSilence(t *testing.T) {
	a := newAcre(t, 40)
	p := canary(40, 35)
	p.Deadline, p.Watch = plan.Duration(10*time.Minute), plan.Duration(time.Minute)
	p.Stages[0].Hold = true
	a.plan(p)
	a.until(plan.Held, 0, 10)
	a.minutes(int(2 * p.WithDefaults().Longest() / time.Minute))
	if s := a.staged(); s.State.Phase != plan.Held {
		t.Errorf("%s; want it held", s.Text)
	}
}
