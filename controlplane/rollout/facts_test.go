package rollout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/quality"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// judgedOne returns a device of a canary under way, and its report.
func judgedOne(t *testing.T) (*acre, *fake, protocol.Quality) {
	a := newAcre(t, 60)
	a.plan(canary(60, 30))
	a.minutes(3)
	i := slices.IndexFunc(a.devices, func(d *fake) bool { return d.have.Active == a.v[1] })
	d := a.devices[i]
	return a, d, d.sums[d.want.Judge.Stage]
}

func (a *acre) told(device string, stage uint32) []store.Pairs {
	a.t.Helper()
	var rows []store.Pairs
	err := a.store.View(a.t.Context(), func(tx store.Tx) (err error) {
		rows, err = tx.PairsOf(a.t.Context(), stage, device)
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return rows
}

func TestReportsThatCountForNothing(t *testing.T) {
	a, d, last := judgedOne(t)
	stage := last.Stage
	a.handle(d.id, protocol.TopicQuality, encode(t, last))
	before := a.told(d.id, stage)
	for _, tt := range []struct {
		name   string
		device string
		change func(q *protocol.Quality)
	}{
		{"the same twice", d.id, func(*protocol.Quality) {}},
		{"an older one", d.id, func(q *protocol.Quality) {
			q.Pairs, q.SumA, q.SumB, q.SquareA, q.SquareB, q.MaxA, q.MaxB = 1, 1, 1, 1, 1, 1, 1
		}},
		{"a candidate that nobody released", d.id, func(q *protocol.Quality) { q.B = [8]byte{9}; q.Pairs++ }},
		{"against a version that nobody released", d.id, func(q *protocol.Quality) { q.A = [8]byte{9}; q.Pairs++ }},
		{"a mean above the largest error", d.id, func(q *protocol.Quality) { q.Pairs++; q.SumB *= 1000 }},
		{"a largest error above the sum", d.id, func(q *protocol.Quality) { q.Pairs++; q.MaxA = float32(2 * q.SumA) }},
		{"squares too small for the sum", d.id, func(q *protocol.Quality) { q.Pairs++; q.SquareB = 0 }},
		{"squares too large for the sum", d.id, func(q *protocol.Quality) { q.Pairs++; q.SquareA = 1e9 }},
		{"errors of no pair", d.id, func(q *protocol.Quality) { q.Pairs = 0 }},
		{"fewer pairs than before", d.id, func(q *protocol.Quality) { q.Pairs-- }},
		{"no rollout's number", d.id, func(q *protocol.Quality) { q.Stage = 99 << 6; q.Pairs++ }},
		{"another stage", d.id, func(q *protocol.Quality) { q.Stage++; q.Pairs++ }},
		{"a device that is not judged", "d999", func(q *protocol.Quality) { q.Pairs++ }},
	} {
		q := last
		tt.change(&q)
		a.handle(tt.device, protocol.TopicQuality, encode(t, q))
		after := a.told(d.id, stage)
		if len(after) != 1 || string(after[0].Report) != string(before[0].Report) {
			t.Errorf("%s: stored are %d reports, the first another one: %v", tt.name, len(after), string(after[0].Report) != string(before[0].Report))
		}
	}
	a.handle(d.id, protocol.TopicQuality, []byte("no CBOR"))

	// What no device of this project encodes: a sum that is no number, or negative.
	for _, v := range []float64{math.NaN(), math.Inf(1), -1} {
		q := last
		q.Pairs++
		q.SumA = 1.0 / 3 // takes 8 bytes
		b := bytes.Replace(encode(t, q), float(q.SumA), float(v), 1)
		if bytes.Equal(b, encode(t, q)) {
			t.Fatal("no sum was replaced")
		}
		a.handle(d.id, protocol.TopicQuality, b)
		if after := a.told(d.id, stage); len(after) != 1 || string(after[0].Report) != string(before[0].Report) {
			t.Errorf("a sum of %v was stored", v)
		}
	}

	// Starts add up, and there is an end to them.
	for boot := range uint32(2 * maxBoots) {
		q := last
		q.Boot = 100 + boot
		a.handle(d.id, protocol.TopicQuality, encode(t, q))
	}
	if n := len(a.told(d.id, stage)); n != maxBoots {
		t.Errorf("%d starts are kept, want %d", n, maxBoots)
	}
	// After the end nothing counts.
	if _, err := a.Command(ann(t), "m", Abort); err != nil {
		t.Fatal(err)
	}
	a.minutes(1)
	last.Pairs++
	last.Boot = 7
	a.handle(d.id, protocol.TopicQuality, encode(t, last))
	if rows := a.told(d.id, stage); slices.ContainsFunc(rows, func(p store.Pairs) bool { return p.Boot == 7 }) {
		t.Error("a late report was stored")
	}
}

// float is a CBOR number of 8 bytes (RFC 8949 §3.3).
func float(v float64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0xfb}, math.Float64bits(v))
}

func encode(t testing.TB, m interface {
	AppendBinary([]byte) ([]byte, error)
}) []byte {
	t.Helper()
	b, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhenADeviceIsLost(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := &change{at: at}
	p := planned{plan: plan.CanaryFirst(1000).WithDefaults()}
	p.state = plan.New(p.plan, 1, 1000, "ann", at.Add(-time.Hour))
	told, fresh := at.Add(-30*time.Minute), at.Add(-time.Hour)
	for _, tt := range []struct {
		name  string
		seat  func(*store.Seat)
		sums  quality.Sums
		heard time.Time
		fresh time.Time
		want  quality.Loss
	}{
		{"heard just now", nil, quality.Sums{}, at, fresh, ""},
		{"three intervals ago", nil, quality.Sums{}, at.Add(-3 * time.Minute), fresh, ""},
		{"longer ago", nil, quality.Sums{}, at.Add(-3*time.Minute - time.Second), fresh, quality.Silent},
		{"never", nil, quality.Sums{}, time.Time{}, fresh, quality.Silent},
		{"never, and told just now", func(s *store.Seat) { s.Told = at.Add(-3 * time.Minute) }, quality.Sums{}, time.Time{}, fresh, ""},
		{"nobody could be heard", nil, quality.Sums{}, at.Add(-20 * time.Minute), at.Add(-2 * time.Minute), ""},
		{"heard in a future that was not", nil, quality.Sums{}, at.Add(time.Hour), fresh, quality.Silent},
		{"numbers that are none", nil, quality.Sums{BadB: 3, BadA: 2}, at, fresh, quality.NonFinite},
		{"what neither could say", nil, quality.Sums{BadB: 3, BadA: 3}, at, fresh, ""},
		{"crashes", func(s *store.Seat) { s.Now = s.Boot + plan.Crashes }, quality.Sums{}, at, fresh, quality.Crashed},
		{"a restart", func(s *store.Seat) { s.Now = s.Boot + 1 }, quality.Sums{}, at, fresh, ""},
		{"it refused the version", func(s *store.Seat) { s.State = Failed }, quality.Sums{}, at, fresh, quality.Refused},
		{"it failed before", func(s *store.Seat) { s.Lost = "silent" }, quality.Sums{}, at, fresh, quality.Silent},
	} {
		s := store.Seat{Member: store.Member{Told: told, Boot: 4, Role: string(plan.Active), State: Active}, Now: 4}
		if tt.seat != nil {
			tt.seat(&s)
		}
		if got := c.loss(p, s, tt.sums, c.last(p, s, tt.heard, tt.fresh)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	// One that waits for its window is not missed.
	for _, tt := range []struct {
		window string
		days   int
		want   quality.Loss
	}{{"01:00-05:00", 1, ""}, {"01:00-05:00", 2, quality.Silent}, {"01:00-05:00 sat,sun", 5, ""}, {"01:00-05:00 sat,sun", 7, quality.Silent}} {
		p.plan.Window = new(plan.Window)
		if err := p.plan.Window.UnmarshalText([]byte(tt.window)); err != nil {
			t.Fatal(err)
		}
		s := store.Seat{Member: store.Member{Told: at.AddDate(0, 0, -tt.days), Role: string(plan.Active), State: Pending}}
		if got := c.loss(p, s, quality.Sums{}, c.last(p, s, time.Time{}, at.AddDate(0, 0, -10))); got != tt.want {
			t.Errorf("told %d days ago, %s: %q, want %q", tt.days, tt.window, got, tt.want)
		}
	}
}

// TestTwoModelsOnTheSameDevices: a device reports pairs of one model at a time,
// that of the older rollout, and the other one does not take it for silent.
func TestTwoModelsOnTheSameDevices(t *testing.T) {
	a := newAcre(t, 40)
	a.other()
	p := canary(40, 30)
	p.Every = plan.Duration(10 * time.Minute) // nobody counts as silent here
	a.plan(p)
	if err := a.Advance(t.Context(), a.at); err != nil {
		t.Fatal(err)
	}
	a.planTo("other:v2", "all", canary(40, 30))
	a.at = a.at.Add(time.Minute)
	if err := a.Advance(t.Context(), a.at); err != nil {
		t.Fatal(err)
	}
	both, judged := 0, map[string]int{}
	for _, d := range a.devices {
		w, _ := a.stored(d.id)
		if w.Judge != nil {
			judged[w.Judge.Model]++
		}
		if w.Models["m"].Active.Digest == a.v[1] && w.Models["other"].Active.Digest == a.digest("other:v2") {
			both++
			if w.Judge.Model != "m" {
				t.Errorf("%s, in both, is judged for %s", d.id, w.Judge.Model)
			}
		}
	}
	// The devices that are free are drawn first.
	if both != 20 || judged["m"] != 30 || judged["other"] != 10 {
		t.Errorf("%d in both, judged for %v; want 20, and 30 and 10", both, judged)
	}
	other := func(minutes int) Staged {
		for range minutes {
			a.at = a.at.Add(time.Minute)
			if err := a.Advance(t.Context(), a.at); err != nil {
				t.Fatal(err)
			}
		}
		s, err := a.Staged(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := other(1)
	if v := s.State.Verdict; v == nil || v.Assigned != 30-both {
		t.Errorf("the other rollout judges %+v, want %d devices", v, 30-both)
	}
	says := "20 of its devices are judged for rollout 3 of m until that ends."
	if !strings.Contains(s.Text, says) {
		t.Errorf("text is %q, want one with %q", s.Text, says)
	}
	// It waits for them until its deadline; the first rollout ends before.
	if s = other(20); s.State.Phase != plan.Running {
		t.Errorf("%s: %s", s.State.Phase, s.Text)
	}
	if _, err := a.Command(ann(t), "m", Abort); err != nil {
		t.Fatal(err)
	}
	if s = other(1); s.State.Busy != nil || s.State.Verdict != nil && s.State.Verdict.Assigned != 30 {
		t.Errorf("once the first has ended: %+v, %s", s.State.Busy, s.Text)
	}
}

func TestLatencyAndErrorRateStop(t *testing.T) {
	limit := func(v float64) *float64 { return &v }
	for _, tt := range []struct {
		name   string
		checks plan.Checks
		bad    int    // devices of the 30 that it shows on
		slow   uint64 // µs of the candidate there; that in place takes 100
		failed uint64 // of 100
		often  uint64 // as many times as elsewhere
		text   string // "": it goes on
		figure float64
	}{
		{"as fast", plan.Checks{MaxLatency: limit(1.5)}, 0, 100, 0, 1, "", 0},
		{"slower", plan.Checks{MaxLatency: limit(1.5)}, 30, 400, 0, 1, "latency p99: 4, limit 1.5", 4},
		{"slower on some", plan.Checks{MaxLatency: limit(1.5)}, 3, 400, 0, 1, "latency p99: 4, limit 1.5", 4},
		{"slower on one", plan.Checks{MaxLatency: limit(1.5)}, 1, 1e6, 0, 1e9, "", 0},
		{"slower but on one", plan.Checks{MaxLatency: limit(1.5)}, 29, 400, 0, 1, "latency p99: 4, limit 1.5", 4},
		{"fails", plan.Checks{MaxErrorRate: limit(0.01)}, 30, 100, 5, 1, "error rate: 5 %, limit 1 %", 0.05},
		{"fails seldom", plan.Checks{MaxErrorRate: limit(0.1)}, 30, 100, 5, 1, "", 0},
		{"fails on one", plan.Checks{MaxErrorRate: limit(0.01)}, 1, 100, 100, 1e9, "", 0},
		{"fails but on one", plan.Checks{MaxErrorRate: limit(0.01)}, 29, 100, 5, 1, "error rate: 4.83 %, limit 1 %", 0.05},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAcre(t, 60)
			p := canary(60, 30)
			p.Stages[0].Checks = tt.checks
			a.plan(p)
			a.minutes(1)
			bad := tt.bad
			for _, d := range a.devices {
				if d.have.Active != a.v[1] {
					continue
				}
				us, failed, n := uint64(100), uint64(0), uint64(1)
				if bad > 0 {
					us, failed, n = tt.slow, tt.failed, tt.often
				} else if tt.bad == 29 {
					n = 1e9 // the one that knows nothing of it
				}
				bad--
				count := func(v protocol.Digest, us, failed uint64) protocol.VersionCount {
					c := protocol.VersionCount{Model: "m", Version: [8]byte(v[:8]), Answered: n * (100 - failed), Failed: n * failed}
					if c.Answered > 0 {
						c.Latency = make([]uint64, protocol.LatencyBucket(us)+1)
						c.Latency[len(c.Latency)-1] = c.Answered
					}
					return c
				}
				u := protocol.Usage{Format: 1, Boot: 1, Seq: 1, T: a.at.UnixMilli(), Versions: []protocol.VersionCount{count(a.v[0], 100, 0), count(a.v[1], us, failed)}}
				a.handle(d.id, protocol.TopicUsage, encode(t, u))
			}
			if tt.text == "" {
				a.until(plan.Running, 1, 40)
				return
			}
			s := a.until(plan.Stopped, 0, 5)
			if !strings.Contains(s.Text, tt.text) {
				t.Errorf("text is %q, want one with %q", s.Text, tt.text)
			}
			check, _, _ := strings.Cut(tt.text, ":")
			for _, f := range s.State.Worst {
				if f.Check != check || f.Figure != tt.figure {
					t.Errorf("at fault is %+v, want %v of %s", f, tt.figure, check)
				}
			}
			if s.State.WorstN != tt.bad || len(s.State.Worst) != tt.bad || len(a.faults(s.Rollout.ID, 100)) != tt.bad {
				t.Errorf("%d at fault, want %d", s.State.WorstN, tt.bad)
			}
			a.minutes(1)
			a.wantRunning(0, 0, 30)
		})
	}
}

func TestCountsThatCannotBeAreRefused(t *testing.T) {
	a := newAcre(t, 1)
	var log bytes.Buffer
	a.Rollouts.log = slog.New(slog.NewTextHandler(&log, nil))
	var d store.Device
	err := a.store.View(t.Context(), func(tx store.Tx) (err error) {
		d, err = tx.Device(t.Context(), a.devices[0].id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const day = 86_400 * maxServed
	for i, tt := range []struct {
		after            time.Duration // since it was added
		answered, failed uint64
		ok               bool
	}{
		{0, day, 0, true},
		{0, day, 1, false},
		{0, 1, day, false},
		{24 * time.Hour, 2 * day, 0, true},
		{24 * time.Hour, day, day + 1, false},
		{-24 * time.Hour, day, 0, true}, // the clock was set back
		{-24 * time.Hour, day, 1, false},
	} {
		log.Reset()
		a.at = d.Created.Add(tt.after)
		u := protocol.Usage{Format: 1, Boot: uint64(i + 1), Seq: 1, T: a.at.UnixMilli(),
			Counts:   []protocol.UsageCount{{Model: "m", User: fmt.Sprint("u", i), Answered: 1}},
			Versions: []protocol.VersionCount{{Model: "m", Version: [8]byte{1}, Answered: tt.answered, Failed: tt.failed}}}
		a.handle(d.ID, protocol.TopicUsage, encode(t, u))
		var rows []store.UsageRow
		err := a.store.View(t.Context(), func(tx store.Tx) (err error) {
			rows, err = tx.SumUsage(t.Context(), store.UsageQuery{User: fmt.Sprint("u", i), Limit: 1})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		said := strings.Contains(log.String(), "report dropped") && strings.Contains(log.String(), "version 0100000000000000 of m predicted")
		if (len(rows) == 1) != tt.ok || said == tt.ok {
			t.Errorf("%d and %d after %s: stored %v, want %v; the log: %s", tt.answered, tt.failed, tt.after, len(rows) == 1, tt.ok, &log)
		}
	}
}

func TestRestartsStop(t *testing.T) {
	a := newAcre(t, 10)
	p := healthOnly(2)
	none := 0.0
	p.Stages[0].Checks.MaxRestarted = &none
	a.plan(p)
	a.minutes(1)
	i := slices.IndexFunc(a.devices, func(d *fake) bool { return d.have.Active == a.v[1] })
	b := protocol.Birth{Format: 1, Boot: plan.Crashes, T: a.at.UnixMilli()}
	a.handle(a.devices[i].id, protocol.TopicBirth, encode(t, b))
	s := a.until(plan.Stopped, 0, 5)
	if want := "restarts: 50 %, limit 0 %"; !strings.Contains(s.Text, want) {
		t.Errorf("text is %q, want one with %q", s.Text, want)
	}
	if w := s.State.Worst; len(w) != 1 || w[0].Device != a.devices[i].id || w[0].Check != plan.CheckRestarts || w[0].Figure != plan.Crashes {
		t.Errorf("at fault is %+v, want %s alone", w, a.devices[i].id)
	}
	a.minutes(1)
	a.wantRunning(0, 0, 2)
}

// TestDevicesWithoutAVersionToCompareAreNotJudged: they get the version, and
// their saying nothing is no silence.
func TestDevicesWithoutAVersionToCompareAreNotJudged(t *testing.T) {
	a := newAcre(t, 40)
	for i := range 30 {
		a.add(fmt.Sprintf("new%02d", i), nil)
	}
	a.plan(plan.Plan{Stages: []plan.Stage{
		{Devices: plan.Amount{Count: 60}}, // more than there are with another version
		{Devices: plan.Amount{Percent: 100}},
	}})
	a.minutes(4)
	v := a.staged().State.Verdict
	if v == nil || v.Assigned != 40 {
		t.Errorf("judged are %+v, want the 40 devices that ran another version", v)
	}
	a.until(plan.Running, 1, 30)
}

// TestDevicesOutsideOfRolloutsAreNotShadowed: what they run was installed from a file,
// so there is no want of theirs that a shadow could be added to.
func TestDevicesOutsideOfRolloutsAreNotShadowed(t *testing.T) {
	a := newAcre(t, 40)
	for i := range 30 {
		id := fmt.Sprintf("file%02d", i)
		err := a.store.Update(t.Context(), func(tx store.Tx) error {
			return errors.Join(tx.PutDevice(t.Context(), store.Device{ID: id, Token: []byte{1}, Created: a.at}), tx.SetJoined(t.Context(), id))
		})
		if err != nil {
			t.Fatal(err)
		}
		a.report(id, protocol.Have{}, protocol.ModelHave{Active: a.v[0]})
		a.handle(id, protocol.TopicUp, []byte(protocol.Online))
	}
	a.plan(plan.Plan{Stages: []plan.Stage{{Shadow: true, Devices: plan.Amount{Percent: 100}}, {Devices: plan.Amount{Percent: 100}}}})
	if s := a.until(plan.Running, 1, 10); s.State.History[0].Verdict.Assigned != 40 {
		t.Errorf("%+v; want 40 devices judged", s.State.History[0].Verdict)
	}
}
