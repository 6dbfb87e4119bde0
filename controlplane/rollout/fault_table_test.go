package rollout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A world is an acre in which something is wrong.
type world struct {
	*acre
	store  *flaky
	mangle func([]Report) []Report // what becomes of a round of reports on the way; nil: nothing
	log    bytes.Buffer
}

// A flaky store fails some of its writes at the last moment.
type flaky struct {
	*store.Store
	fault func() error // nil: none
}

func (s *flaky) Update(ctx context.Context, f func(store.Tx) error) error {
	return s.Store.Update(ctx, func(tx store.Tx) error {
		err := f(tx)
		if err == nil && s.fault != nil {
			err = s.fault()
		}
		return err
	})
}

// TestFaultsInMidRollout carries out a rollout that is good, one whose version the
// devices refuse, and one whose version the check stops, and has something go wrong
// with each. All end as they do without it: the same devices have run the same
// versions in the same order, and the record says so.
func TestFaultsInMidRollout(t *testing.T) {
	rows := []struct {
		name string
		// do is what goes wrong before the given minute.
		do     func(w *world, minute int)
		judged int      // 1: also of one that is judged and stopped, 2: and of one that is judged and passes, which take longer
		says   []string // the log
	}{
		{"the clock jumps forward an hour", jump(time.Hour), 2, nil},
		{"the clock jumps forward ten years", jump(10 * 365 * 24 * time.Hour), 0, nil},
		{"the clock jumps back an hour", jump(-time.Hour), 0, nil},
		{"the clock jumps back ten years", jump(-10 * 365 * 24 * time.Hour), 2, nil},
		{"devices live in 1970 and in 2100", func(w *world, minute int) { w.mangle = w.clocks() }, 0, nil},
		{"every report comes twice", func(w *world, _ int) {
			w.mangle = func(rs []Report) []Report { return append(rs, rs...) }
		}, 1, nil},
		{"reports come again a minute late", func(w *world, _ int) { w.mangle = w.late(protocol.TopicQuality) }, 1, nil},
		{"reports of nobody", func(w *world, _ int) {
			w.mangle = func(rs []Report) []Report {
				for i := range rs {
					rs = append(rs, Report{"d999", rs[i].Kind, rs[i].Payload})
				}
				return rs
			}
		}, 0, []string{"report dropped", `device \"d999\": not found`}},
		{"reports that are none", func(w *world, _ int) {
			w.mangle = func(rs []Report) []Report {
				for _, kind := range []protocol.TopicKind{protocol.TopicHave, protocol.TopicBirth, protocol.TopicEvent, protocol.TopicUsage, protocol.TopicQuality, protocol.TopicUp} {
					rs = append(rs, Report{"d000", kind, []byte("\xff{")})
				}
				return rs
			}
		}, 0, []string{"report dropped", "device=d000 kind=have", "device=d000 kind=quality"}},
		{"the database is full now and then", failing(store.ErrFull), 1, nil},
		{"the database is locked now and then", failing(store.ErrBusy), 0, nil},
		{"the broker is away every other minute", func(w *world, minute int) {
			if w.broker.fail = nil; minute%2 == 1 {
				w.broker.fail = errors.New("no broker")
			}
		}, 0, nil},
		{"the broker forgets what it retained", func(w *world, minute int) {
			if minute%2 == 1 {
				w.broker.mu.Lock()
				clear(w.broker.retained)
				w.broker.mu.Unlock()
				w.Republish()
			}
		}, 1, nil},
		{"the control plane starts anew each minute", func(w *world, _ int) { w.again() }, 0, nil},
	}
	kinds := []struct {
		name   string
		judged int
		make   func(t *testing.T) *world
	}{
		{"good", 0, func(t *testing.T) *world { return newWorld(t, 10, healthOnly(3), 1, false) }},
		{"refused", 0, func(t *testing.T) *world { return newWorld(t, 10, healthOnly(3), 1, true) }},
		{"worse", 1, func(t *testing.T) *world { return newWorld(t, 60, canary(60, 40), 2, false) }},
		{"as good", 2, func(t *testing.T) *world { return newWorld(t, 60, canary(60, 40), 1, false) }},
	}
	for _, kind := range kinds {
		w := kind.make(t)
		undisturbed := w.ending(func(*world, int) {})
		if len(undisturbed) < 10 {
			t.Fatalf("%s, undisturbed: %q", kind.name, undisturbed)
		}
		for _, row := range rows {
			if kind.judged > row.judged {
				continue
			}
			t.Run(kind.name+"/"+row.name, func(t *testing.T) {
				t.Parallel() // most of their time is the disk's
				w := kind.make(t)
				got := w.ending(row.do)
				if diff := cmp.Diff(undisturbed, got); diff != "" {
					t.Errorf("it ended otherwise (- undisturbed, + here):\n%s", diff)
				}
				for _, text := range row.says {
					if !strings.Contains(w.log.String(), text) {
						t.Errorf("the log lacks %q:\n%.2000s", text, &w.log)
					}
				}
			})
		}
	}
}

// newWorld returns devices on m:v1 for which m:v2 has begun to spread by p.
func newWorld(t *testing.T, devices int, p plan.Plan, ratio float64, refuse bool) *world {
	w := &world{acre: newAcre(t, devices)}
	w.store = &flaky{Store: w.acre.store}
	w.worse(ratio, everyOne)
	for _, d := range w.devices {
		d.refuses = refuse
	}
	p.Seed, p.Watch = 1, -1
	w.plan(p)
	w.again()
	return w
}

// again is another process on the same store.
func (w *world) again() {
	w.reborn()
	w.Rollouts.store, w.Rollouts.log = w.store, slog.New(slog.NewTextHandler(&w.log, nil))
	w.Republish()
}

// run lets time go on to the end, with do before each minute.
func (w *world) run(do func(w *world, minute int)) {
	w.t.Helper()
	for minute := 0; ; minute++ {
		if minute == 90 {
			w.t.Fatalf("it has not ended after %d minutes: %s\n%s", minute, w.staged().Text, strings.Join(w.staged().Log, "\n"))
		}
		do(w, minute)
		w.at = w.at.Add(time.Minute)
		w.round()
		w.try(func() error { return w.Advance(w.t.Context(), w.at) })
		w.round()
		if s := w.staged(); !s.State.Phase.Live() && s.Settled() && minute > 5 {
			break
		}
	}
	w.store.fault, w.broker.fail = nil, nil // and all is well again
	w.Republish()
	w.round()
}

// ending runs w and returns what there is to say about the end but times.
func (w *world) ending(do func(w *world, minute int)) (lines []string) {
	w.t.Helper()
	w.run(do)
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	s := w.staged()
	line("%s, stage %d, back %t, %d lost: %s", s.State.Phase, s.State.Stage, s.State.Back, s.State.LostN, s.State.Reason)
	for _, o := range s.State.History {
		line("%s came to %s: %s", o.Stage, o.Phase, o.Reason)
	}
	for _, d := range w.devices {
		want, _ := w.stored(d.id)
		if got := want.Models["m"].Active.Digest; got != d.have.Active && !d.refuses {
			w.t.Errorf("%s runs %s and shall run %s", d.id, d.have.Active.Short(), got.Short())
		}
		line("%s ran %v, recorded %v", d.id, short(d.ran), short(w.recorded(d.id)))
	}
	if _, err := w.acre.store.VerifyAudit(w.t.Context(), audit.Head{}); err != nil {
		w.t.Error(err)
	}
	return lines
}

// round lets each device read its want and report, as acre.live does, over a store
// that may fail.
func (w *world) round() {
	w.t.Helper()
	w.try(func() error { return w.Flush(w.t.Context()) })
	var reports []Report
	for _, d := range w.devices {
		reports = append(reports, d.live(w.acre)...)
	}
	if w.mangle != nil {
		reports = w.mangle(reports)
	}
	w.try(func() error { return w.Handle(w.t.Context(), reports...) })
}

// try does what is tried again where the store or the broker are to blame.
func (w *world) try(f func() error) {
	w.t.Helper()
	for range 100 {
		err := f()
		if err == nil || w.broker.fail != nil {
			return
		}
		if !errors.Is(err, store.ErrFull) && !errors.Is(err, store.ErrBusy) {
			w.t.Fatal(err)
		}
	}
	w.t.Fatal("the store has failed a hundred times")
}

// recorded is what the record says that a device ran, oldest entry first.
func (w *world) recorded(device string) (out []protocol.Digest) {
	w.t.Helper()
	err := w.acre.store.View(w.t.Context(), func(tx store.Tx) error {
		entries, err := tx.AuditOf(w.t.Context(), device, "m", 0, 1000)
		for _, e := range slices.Backward(entries) {
			if e.Action == audit.DeviceActive {
				out = append(out, e.Digest)
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func short(ds []protocol.Digest) (out []string) {
	for _, d := range ds {
		out = append(out, d.Short())
	}
	return out
}

// jump moves the control plane's clock in the second minute, once.
func jump(by time.Duration) func(*world, int) {
	return func(w *world, minute int) {
		if minute == 2 {
			w.at = w.at.Add(by)
		}
	}
}

// failing has two of three writes fail.
func failing(err error) func(*world, int) {
	n := 0
	return func(w *world, _ int) {
		w.store.fault = func() error {
			if n++; n%3 > 0 {
				return err
			}
			return nil
		}
	}
}

// clocks sets what devices say the time is.
func (w *world) clocks() func([]Report) []Report {
	return func(rs []Report) []Report {
		for i, r := range rs {
			var h protocol.Have
			if r.Kind == protocol.TopicHave && h.UnmarshalBinary(r.Payload) == nil {
				h.T = []int64{0, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}[i%2]
				rs[i].Payload = encode(w.acre.t, h)
			}
		}
		return rs
	}
}

// late has reports of a kind come once more with those of the next round.
func (w *world) late(kind protocol.TopicKind) func([]Report) []Report {
	var before []Report
	return func(rs []Report) []Report {
		again := before
		before = slices.DeleteFunc(slices.Clone(rs), func(r Report) bool { return r.Kind != kind })
		return append(rs, again...)
	}
}

// TestSilenceIsSeenAfterTheClockWasSetBack: what a device was told by a clock that was
// years ahead does not excuse it for years.
func TestSilenceIsSeenAfterTheClockWasSetBack(t *testing.T) {
	a := newAcre(t, 60)
	p := canary(60, 40)
	p.Seed = 1
	a.plan(p)
	a.minutes(3)
	a.at = a.at.AddDate(-10, 0, 0)
	a.minutes(2)
	for _, d := range a.devices {
		d.falls = true
	}
	if s := a.until(plan.Stopped, 1, 15); s.State.Verdict.Silent != 40 {
		t.Errorf("%d silent, want 40: %s", s.State.Verdict.Silent, s.Text)
	}
}

// TestVersionThatNobodyReleased: a device that runs what this control plane never
// had is recorded with it, is not taken for one that runs the candidate, and is lost
// when its stage ends.
func TestVersionThatNobodyReleased(t *testing.T) {
	p := healthOnly(4)
	p.Seed, p.Stages[0].Deadline = 1, plan.Duration(10*time.Minute)
	half := 0.5
	for i := range p.Stages {
		p.Stages[i].Checks.MaxFailed = &half
	}
	w := newWorld(t, 10, p, 1, false)
	foreign, id := protocol.Digest{9}, w.seats()[1].Device
	w.mangle = func(rs []Report) []Report {
		for i, r := range rs {
			var h protocol.Have
			if r.Device == id && r.Kind == protocol.TopicHave && h.UnmarshalBinary(r.Payload) == nil {
				m := h.Models["m"]
				m.Active, m.Version = foreign, "m:v77"
				h.Models["m"] = m
				rs[i].Payload = encode(t, h)
			}
		}
		return rs
	}
	w.run(func(*world, int) {})
	s := w.staged()
	if s.State.Phase != plan.Done || s.Log[0] != "PASSED stage canary after 10m: 3 of 4 run it at the deadline." || s.State.LostN != 1 || s.State.Lost[0].Device != id {
		t.Errorf("%s, lost %v: %q", s.State.Phase, s.State.Lost, s.Log)
	}
	if ran := w.recorded(id); !slices.Contains(ran, foreign) || slices.Contains(ran, w.v[1]) {
		t.Errorf("recorded are %v, want %s and not %s", short(ran), foreign.Short(), w.v[1].Short())
	}
	if active, _, _ := w.running(); active != 9 {
		t.Errorf("%d devices run the candidate, want 9", active)
	}
}
