package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

func dg(n byte) protocol.Digest { return protocol.Digest{31: n} }

func hv(n byte) held { return held{Digest: dg(n), Number: uint64(n), Floor: uint64(n) / 2} }

// wantOf asks for version n of m at rev.
func wantOf(rev uint64, n byte) event {
	return event{kind: evWanted, want: protocol.Want{
		Format: 1, Fleet: "f", Device: "d", Rev: rev, Issued: int64(1000 * rev),
		Models: map[string]protocol.ModelWant{"m": {Active: protocol.WantedVersion{Digest: dg(n)}}},
	}}
}

func on(k eventKind, n byte) event { return event{kind: k, model: "m", held: hv(n)} }

func bad(k eventKind, n byte, code string) event {
	return event{kind: k, model: "m", held: hv(n), code: code, message: "because"}
}

// brief writes a rollout in one line: phase want active/previous/older.
func brief(s state) string {
	r, ok := s.Models["m"]
	if !ok {
		return "none"
	}
	out := fmt.Sprintf("%s want %d: %d/%d/%d", r.Phase, r.Want.Digest[31], r.Active.Digest[31], r.Previous.Digest[31], r.Older.Digest[31])
	if r.Failed != nil {
		out += fmt.Sprintf(" failed %d@%d %s", r.Failed.Digest[31], r.Failed.Rev, r.Failed.Code)
	}
	if r.Hold != holdNone {
		out += " " + string(r.Hold)
	}
	return out
}

func briefEffects(es []effect) string {
	names := map[effectKind]string{doServe: "serve", doObtain: "obtain", doAbort: "abort", doTry: "try", doExport: "export", doReport: "report"}
	var out []string
	for _, e := range es {
		switch e.kind {
		case doTell:
			out = append(out, e.code)
		case doServe, doTry, doExport:
			out = append(out, fmt.Sprintf("%s %d", names[e.kind], e.held.Digest[31]))
		case doObtain:
			out = append(out, fmt.Sprintf("obtain %d", e.want.Digest[31]))
		case doShadow:
			out = append(out, fmt.Sprintf("shadow %d", e.want.Digest[31]))
		default:
			out = append(out, names[e.kind])
		}
	}
	return strings.Join(out, ", ")
}

func TestStep(t *testing.T) {
	v1 := []event{wantOf(1, 1), on(evReady, 1), on(evLived, 1)}
	v2 := append(slices.Clone(v1), wantOf(2, 2), on(evReady, 2), on(evLived, 2))
	again := wantOf(1, 1) // that can be fetched once more
	again.want.Models["m"] = protocol.ModelWant{Active: protocol.WantedVersion{
		Digest: dg(1), Transfers: []protocol.TransferRef{{Hash: "h", Kind: protocol.KindFull, Size: 1}},
	}}
	held1 := []event{again, on(evReady, 1), on(evLived, 1)}
	damaged1 := append(slices.Clone(held1), bad(evDamaged, 1, ""))
	for _, tc := range []struct {
		name    string
		before  []event
		event   event
		state   string
		effects string
	}{
		{"first want", nil, wantOf(1, 1), "fetching want 1: 0/0/0", "obtain 1, report"},
		{"ready", []event{wantOf(1, 1)}, on(evReady, 1), "trying want 1: 1/0/0", "activated, serve 1, try 1, report"},
		{"lived", v1[:2], on(evLived, 1), "idle want 1: 1/0/0", "confirmed, export 1, report"},
		{"second want", v1, wantOf(2, 2), "fetching want 2: 1/0/0", "obtain 2, report"},
		{"second ready", append(slices.Clone(v1), wantOf(2, 2)), on(evReady, 2), "trying want 2: 2/1/0", "activated, serve 2, try 2, report"},
		{"third keeps the oldest until it lived", append(slices.Clone(v2), wantOf(3, 3)), on(evReady, 3), "trying want 3: 3/2/1", "activated, serve 3, try 3, report"},
		{"third lived", append(slices.Clone(v2), wantOf(3, 3), on(evReady, 3)), on(evLived, 3), "idle want 3: 3/2/0", "confirmed, export 3, report"},
		{"third broke", append(slices.Clone(v2), wantOf(3, 3), on(evReady, 3)), bad(evBroke, 3, "non_finite"), "idle want 3: 2/1/0 failed 3@3 non_finite", "report, rolled_back, serve 2, report"},
		{"refused keeps the old one", append(slices.Clone(v1), wantOf(2, 2)), bad(evRefused, 2, "unsigned"), "idle want 2: 1/0/0 failed 2@2 unsigned", "report, refused"},
		{"same rev again", append(slices.Clone(v1), wantOf(2, 2), bad(evRefused, 2, "unsigned")), wantOf(2, 2), "idle want 2: 1/0/0 failed 2@2 unsigned", ""},
		{"older rev", v2, wantOf(1, 1), "idle want 2: 2/1/0", ""},
		{"newer rev retries the failed", append(slices.Clone(v1), wantOf(2, 2), bad(evRefused, 2, "unsigned")), wantOf(3, 2), "fetching want 2: 1/0/0", "obtain 2, report"},
		{"same version at a newer rev", v2, wantOf(3, 2), "idle want 2: 2/1/0", "report"},
		{"newer want while fetching", []event{wantOf(1, 1)}, wantOf(2, 2), "fetching want 2: 0/0/0", "obtain 2, report"},
		{"back to the active one while fetching", append(slices.Clone(v1), wantOf(2, 2)), wantOf(3, 1), "idle want 1: 1/0/0", "abort, report"},
		{"late ready of a superseded version", []event{wantOf(1, 1), wantOf(2, 2)}, on(evReady, 1), "fetching want 2: 0/0/0", ""},
		{"late refusal of a superseded version", []event{wantOf(1, 1), wantOf(2, 2)}, bad(evRefused, 1, "corrupt"), "fetching want 2: 0/0/0", ""},
		{"rollback", v2, wantOf(3, 1), "fetching want 1: 2/1/0", "obtain 1, report"},
		{"rollback ready", append(slices.Clone(v2), wantOf(3, 1)), on(evReady, 1), "trying want 1: 1/2/0", "activated, serve 1, try 1, report"},
		{"newer want waits for the trial", append(slices.Clone(v1), wantOf(2, 2), on(evReady, 2)), wantOf(3, 3), "trying want 3: 2/1/0", "report"},
		{"and follows when it lived", append(slices.Clone(v1), wantOf(2, 2), on(evReady, 2), wantOf(3, 3)), on(evLived, 2), "fetching want 3: 2/1/0", "confirmed, export 2, report, obtain 3"},
		{"and follows when it broke", append(slices.Clone(v1), wantOf(2, 2), on(evReady, 2), wantOf(3, 3)), bad(evBroke, 2, "crash"), "fetching want 3: 1/0/0 failed 2@3 crash", "report, rolled_back, serve 1, report, obtain 3"},
		{"withdrawn during the trial", append(slices.Clone(v1), wantOf(2, 2), on(evReady, 2)), wantOf(3, 1), "idle want 1: 1/0/0", "serve 1, report, rolled_back, report"},
		{"first version broke", v1[:2], bad(evBroke, 1, "crash"), "idle want 1: 0/0/0 failed 1@1 crash", "report, rolled_back, serve 0, report"},
		{"broke after the trial", v2, bad(evBroke, 2, "non_finite"), "idle want 2: 2/1/0", ""},
		{"lived twice", v2, on(evLived, 2), "idle want 2: 2/1/0", ""},
		{"install", v2, on(evInstalled, 3), "trying want 3: 3/2/1", "activated, serve 3, try 3, report"},
		{"install of the active one", v2, on(evInstalled, 2), "idle want 2: 2/1/0", "report"},
		{"install on an empty device", nil, on(evInstalled, 3), "trying want 3: 3/0/0", "activated, serve 3, try 3, report"},
		{"install while fetching", append(slices.Clone(v1), wantOf(2, 2)), on(evInstalled, 3), "trying want 3: 3/1/0", "abort, activated, serve 3, try 3, report"},
		{"install during a trial", append(slices.Clone(v1), wantOf(2, 2), on(evReady, 2)), on(evInstalled, 3), "trying want 3: 3/1/0", "activated, serve 3, try 3, report"},
		{"install stays at the same rev", append(slices.Clone(v2), on(evInstalled, 3), on(evLived, 3)), wantOf(2, 2), "idle want 3: 3/2/0", ""},
		{"install yields to a newer rev", append(slices.Clone(v2), on(evInstalled, 3), on(evLived, 3)), wantOf(3, 2), "fetching want 2: 3/2/0", "obtain 2, report"},
		{"active slot lost", v2, bad(evLost, 2, ""), "fetching want 2: 1/0/0", "lost, serve 1, report, obtain 2"},
		{"previous slot lost", v2, bad(evLost, 1, ""), "idle want 2: 2/0/0", "lost, report"},
		{"restored from the copy", nil, on(evRestored, 1), "idle want 0: 1/0/0", "restored, serve 1, report"},
		{"restored over another", v2, on(evRestored, 1), "idle want 2: 2/1/0", ""},
		{"start while idle", v2, event{kind: evStarted}, "idle want 2: 2/1/0", "serve 2, export 2"},
		{"start while fetching", append(slices.Clone(v1), wantOf(2, 2)), event{kind: evStarted}, "fetching want 2: 1/0/0", "serve 1, obtain 2"},
		{"start while trying", v1[:2], event{kind: evStarted}, "trying want 1: 1/0/0", "serve 1, try 1"},
		{"third start while trying", append(slices.Clone(v1), wantOf(2, 2), on(evReady, 2), event{kind: evStarted}, event{kind: evStarted}), event{kind: evStarted},
			"idle want 2: 1/0/0 failed 2@2 crash", "report, rolled_back, serve 1, report"},
		{"active slot damaged", held1, bad(evDamaged, 1, ""), "fetching want 1: 1/0/0", "damaged, obtain 1, report"},
		{"and fetched again", damaged1, on(evReady, 1), "idle want 1: 1/0/0", "abort, export 1, report"},
		{"or not to be had", damaged1, bad(evRefused, 1, "not_after"), "idle want 1: 1/0/0", "refused"},
		{"damaged, and not what is wanted", append(slices.Clone(held1), on(evInstalled, 3), on(evLived, 3)), bad(evDamaged, 3, ""), "idle want 3: 3/1/0", "damaged"},
		{"damaged during its trial", held1[:2], bad(evDamaged, 1, ""), "trying want 1: 1/0/0", ""},
		{"foreign model", v2, event{kind: evReady, model: "other", held: hv(9)}, "idle want 2: 2/1/0", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s state
			for _, e := range tc.before {
				s, _ = step(s, e)
			}
			before, _ := s.encode()
			next, effects := step(s, tc.event)
			if got := brief(next); got != tc.state {
				t.Errorf("state %s, want %s", got, tc.state)
			}
			if got := briefEffects(effects); got != tc.effects {
				t.Errorf("effects %q, want %q", got, tc.effects)
			}
			if after, _ := s.encode(); string(after) != string(before) {
				t.Errorf("step changed its argument: %s, was %s", after, before)
			}
			again, effects := step(next, tc.event)
			if tc.event.kind == evWanted && (len(effects) > 0 || brief(again) != brief(next)) {
				t.Errorf("the same want again: %s, %s", brief(again), briefEffects(effects))
			}
		})
	}
}

func TestStepRaisesFloorOnlyAtConfirm(t *testing.T) {
	s, _ := step(state{}, wantOf(1, 8))
	s, _ = step(s, on(evReady, 8))
	if f := s.Models["m"].Floor; f != 0 {
		t.Errorf("floor %d during the trial, want 0", f)
	}
	s, _ = step(s, on(evLived, 8))
	if f := s.Models["m"].Floor; f != 4 {
		t.Errorf("floor %d after confirm, want 4", f)
	}
}

// owner is what the device's owner asks for of m; n is the version to pin, 0:
// the one in place.
func owner(k eventKind, n byte) event {
	return event{kind: k, model: "m", held: held{Number: uint64(n)}}
}

func TestOwnerHoldsAModel(t *testing.T) {
	v2 := []event{wantOf(1, 1), on(evReady, 1), on(evLived, 1), wantOf(2, 2), on(evReady, 2), on(evLived, 2)}
	after := func(es ...event) []event { return append(slices.Clone(v2), es...) }
	trial := after(wantOf(3, 3), on(evReady, 3))
	pin, pin1, unpin, back := owner(evPinned, 0), owner(evPinned, 1), owner(evUnpinned, 0), owner(evReturned, 0)
	for _, tc := range []struct {
		name    string
		before  []event
		event   event
		state   string
		effects string
	}{
		{"pin", v2, pin, "idle want 2: 2/1/0 pinned", "pinned, report"},
		{"pin twice", after(pin), pin, "idle want 2: 2/1/0 pinned", ""},
		{"pin by number", v2, owner(evPinned, 2), "idle want 2: 2/1/0 pinned", "pinned, report"},
		{"pin the previous version", v2, pin1, "idle want 2: 1/2/0 pinned", "serve 1, export 1, pinned, report"},
		{"pin while fetching", after(wantOf(3, 3)), pin, "idle want 3: 2/1/0 pinned", "pinned, report, abort"},
		{"pin the version on trial", trial, pin, "trying want 3: 3/2/1 pinned", "pinned, report"},
		{"which lives", append(slices.Clone(trial), pin), on(evLived, 3), "idle want 3: 3/2/0 pinned", "confirmed, export 3, report"},
		{"which breaks", append(slices.Clone(trial), pin), bad(evBroke, 3, "slow"), "idle want 3: 2/1/0 failed 3@3 slow pinned", "report, rolled_back, serve 2, report"},
		{"pin the version before the trial", trial, owner(evPinned, 2), "idle want 3: 2/1/0 pinned", "serve 2, report, pinned, report"},
		{"want of a pinned model", after(pin), wantOf(3, 3), "idle want 3: 2/1/0 pinned", "report"},
		{"want that withdraws what is pinned on trial", append(slices.Clone(trial), pin), wantOf(4, 2), "trying want 2: 3/2/1 pinned", "report"},
		{"start of a pinned model", after(pin, wantOf(3, 3)), event{kind: evStarted}, "idle want 3: 2/1/0 pinned", "serve 2, export 2"},
		{"install on a pinned model", after(pin), on(evInstalled, 3), "trying want 3: 3/2/1 pinned", "activated, serve 3, try 3, report"},
		{"active slot of a pinned model lost", after(pin), bad(evLost, 2, ""), "idle want 2: 1/0/0 pinned", "lost, serve 1, report"},
		{"the last slot of a pinned model lost", after(pin, bad(evLost, 1, "")), bad(evLost, 2, ""), "fetching want 2: 0/0/0 pinned", "lost, serve 0, report, obtain 2"},
		{"unpin follows the want", after(pin, wantOf(3, 3)), unpin, "fetching want 3: 2/1/0", "unpinned, report, obtain 3"},
		{"unpin of what is wanted", after(pin), unpin, "idle want 2: 2/1/0", "unpinned, report"},
		{"unpin of what is not pinned", v2, unpin, "idle want 2: 2/1/0", ""},
		{"rollback", v2, back, "idle want 2: 1/2/0 rolled_back", "serve 1, export 1, rolled_back, report"},
		{"rollback twice", after(back), back, "idle want 2: 1/2/0 rolled_back", ""},
		{"rollback while fetching", after(wantOf(3, 3)), back, "idle want 3: 1/2/0 rolled_back", "serve 1, export 1, rolled_back, report, abort"},
		{"rollback during a trial", trial, back, "idle want 3: 2/1/0 rolled_back", "serve 2, report, rolled_back, report"},
		{"rollback of a pinned model", after(pin), back, "idle want 2: 1/2/0 pinned", "serve 1, export 1, rolled_back, report"},
		{"rollback stays at the same rev", after(back), wantOf(2, 2), "idle want 2: 1/2/0 rolled_back", ""},
		{"and over a restart", after(back), event{kind: evStarted}, "idle want 2: 1/2/0 rolled_back", "serve 1, export 1"},
		{"and yields to a newer want", after(back), wantOf(3, 2), "fetching want 2: 1/2/0", "obtain 2, report"},
		{"and to unpin", after(back), unpin, "fetching want 2: 1/2/0", "unpinned, report, obtain 2"},
		{"and to a file", after(back), on(evInstalled, 3), "trying want 3: 3/1/2", "activated, serve 3, try 3, report"},
		{"pin after a rollback", after(back), pin, "idle want 2: 1/2/0 pinned", "pinned, report"},
		{"late ready behind a pin", after(wantOf(3, 3), pin), on(evReady, 3), "idle want 3: 2/1/0 pinned", ""},
		{"pin of a version that is not here", v2, owner(evPinned, 9), "idle want 2: 2/1/0", ""},
		{"rollback without a previous version", v2[:3], back, "idle want 1: 1/0/0", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s state
			for _, e := range tc.before {
				s, _ = step(s, e)
			}
			next, effects := step(s, tc.event)
			if got := brief(next); got != tc.state {
				t.Errorf("state %s, want %s", got, tc.state)
			}
			if got := briefEffects(effects); got != tc.effects {
				t.Errorf("effects %q, want %q", got, tc.effects)
			}
		})
	}
}

func TestWhatSpeaksAgainstTheOwner(t *testing.T) {
	var s state
	for _, e := range []event{wantOf(1, 1), on(evReady, 1), on(evLived, 1), wantOf(2, 2), on(evReady, 2), on(evLived, 2)} {
		s, _ = step(s, e)
	}
	below := s.with("m", func(r rollout) rollout { r.Floor = 2; return r }(s.Models["m"]))
	returned, _ := step(s, owner(evReturned, 0))
	for _, tc := range []struct {
		name  string
		state state
		event event
		want  error
		text  string
	}{
		{"another model", s, event{kind: evPinned, model: "n"}, ErrNotHere, "model n"},
		{"another version", s, owner(evPinned, 9), ErrNotHere, "m:v9: not on this device, which has m:v2 and m:v1; install it"},
		{"nothing before", state{}.with("m", rollout{Phase: idle, Active: hv(1)}), owner(evReturned, 0), ErrNotHere, "before m:v1"},
		{"nothing at all", state{}.with("m", rollout{Phase: fetching}), owner(evPinned, 0), ErrNotHere, "m"},
		{"pin below the floor", below, owner(evPinned, 1), ErrFloor, "m:v1: below the security floor, m:v2"},
		{"rollback below the floor", below, owner(evReturned, 0), ErrFloor, "m:v1"},
		{"rollback twice", returned, owner(evReturned, 0), ErrReturned, "m:v1 is in place; unpin m"},
		{"fine", below, owner(evPinned, 2), nil, ""},
	} {
		err := objection(tc.state, tc.event)
		if !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v with %q", tc.name, err, tc.want, tc.text)
		}
		if _, effects := step(tc.state, tc.event); err != nil && len(effects) > 0 {
			t.Errorf("%s: done all the same: %s", tc.name, briefEffects(effects))
		}
	}
}

// play runs the environment of one device to its end: what the agent obtains
// comes, and what it tries lives. It stops before an event when cut says so.
func play(s state, queue []event, effects []effect, cut func() bool) (state, bool) {
	for {
		for _, e := range effects {
			switch e.kind {
			case doObtain:
				queue = append(queue, event{kind: evReady, model: e.model, held: hv(e.want.Digest[31])})
			case doShadow:
				queue = append(queue, event{kind: evShadowReady, model: e.model, held: hv(e.want.Digest[31])})
			case doTry:
				queue = append(queue, event{kind: evLived, model: e.model, held: e.held})
			}
		}
		if len(queue) == 0 {
			return s, false
		}
		if cut() {
			return s, true
		}
		s, effects = step(s, queue[0])
		queue = queue[1:]
	}
}

// TestRestartAtEveryStep cuts the script before every event, restarts from the
// stored form, gives the retained want and what the owner asked for again, and
// expects the version that should be in place.
func TestRestartAtEveryStep(t *testing.T) {
	script := []struct {
		event   event
		version byte
		hold    hold
	}{
		{wantOf(1, 1), 1, ""}, {wantOf(2, 2), 2, ""}, {wantOf(3, 1), 1, ""}, {wantOf(4, 4), 4, ""}, {wantOf(5, 5), 5, ""},
		{owner(evReturned, 0), 4, holdReturned}, {wantOf(6, 6), 6, ""}, {owner(evPinned, 0), 6, holdPinned}, {wantOf(7, 7), 6, holdPinned},
		{owner(evPinned, 4), 4, holdPinned}, {wantOf(8, 8), 4, holdPinned}, {owner(evUnpinned, 0), 8, ""}, {owner(evReturned, 0), 4, holdReturned},
		{owner(evUnpinned, 0), 8, ""},
	}
	for cutAt := range 60 {
		var s state
		var want event // the newest one, which the broker keeps
		n, cuts := 0, 0
		cut := func() bool { n++; return n == cutAt+1 }
		for _, line := range script {
			if line.event.kind == evWanted {
				want = line.event
			}
			queue, effects := []event{line.event}, []effect(nil)
			for {
				var stopped bool
				if s, stopped = play(s, queue, effects, cut); !stopped {
					break
				}
				cuts++
				b, err := s.encode()
				if err != nil {
					t.Fatal(err)
				}
				stored, err := decodeState(b)
				if err != nil {
					t.Fatalf("cut %d: %v", cutAt, err)
				}
				if diff := cmp.Diff(brief(s), brief(stored)); diff != "" {
					t.Fatalf("cut %d: the stored form differs: %s", cutAt, diff)
				}
				s, effects = step(stored, event{kind: evStarted})
				queue = []event{want, line.event}
			}
			if r := s.Models["m"]; r.Phase != idle || r.Active.Digest != dg(line.version) || r.Hold != line.hold {
				t.Fatalf("cut %d: ended in %s, want version %d %s", cutAt, brief(s), line.version, line.hold)
			}
		}
		if cuts == 0 && cutAt < len(script) {
			t.Errorf("cut %d never happened", cutAt)
		}
	}
}

// TestRandomEvents holds the invariants against any order of events.
func TestRandomEvents(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, seed))
	for run := range 300 {
		var s state
		var confirmed bool
		for i := range 60 {
			n := byte(1 + rng.IntN(4))
			e := []event{
				wantOf(uint64(rng.IntN(20)), n), on(evReady, n), bad(evRefused, n, "corrupt"), on(evLived, n),
				bad(evBroke, n, "crash"), on(evInstalled, n), {kind: evStarted}, bad(evBroke, n, "slow"),
				owner(evPinned, n), owner(evPinned, 0), owner(evUnpinned, 0), owner(evReturned, 0),
			}[rng.IntN(12)]
			was := s
			var effects []effect
			s, effects = step(s, e)
			r, old := s.Models["m"], was.Models["m"]
			context := fmt.Sprintf("seed %d run %d event %d: %s + %d(%d) → %s", seed, run, i, brief(was), e.kind, n, brief(s))
			if r.Phase == trying && r.Active.none() {
				t.Fatalf("%s: nothing on trial", context)
			}
			if r.Phase != trying && !r.Older.none() {
				t.Fatalf("%s: a third version kept without a trial", context)
			}
			if a := r.Active.Digest; !r.Active.none() && (a == r.Previous.Digest || a == r.Older.Digest) {
				t.Fatalf("%s: one version in two slots", context)
			}
			if confirmed = confirmed || r.Phase == idle && !r.Active.none(); confirmed && r.Active.none() {
				t.Fatalf("%s: nothing answers", context)
			}
			if old.Hold == holdPinned && old.Phase == idle && r.Active != old.Active && e.kind != evInstalled && e.kind != evPinned && e.kind != evReturned {
				t.Fatalf("%s: a pinned version is gone", context)
			}
			if (e.kind == evPinned || e.kind == evReturned) && r.Active != old.Active && r.Active.Number < r.Floor {
				t.Fatalf("%s: the owner is below the floor", context)
			}
			if r.Floor < old.Floor || newer(was.Epoch, was.Rev, s.Epoch, s.Rev) {
				t.Fatalf("%s: floor or rev went back", context)
			}
			if old.Active.Digest != r.Active.Digest && !slices.ContainsFunc(effects, func(e effect) bool {
				return e.kind == doServe && e.held.Digest == r.Active.Digest
			}) {
				t.Fatalf("%s: the new version is not served", context)
			}
		}
	}
}
