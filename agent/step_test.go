package agent

import (
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
// stored form, gives the retained want again, and expects the wanted version.
func TestRestartAtEveryStep(t *testing.T) {
	script := []event{wantOf(1, 1), wantOf(2, 2), wantOf(3, 1), wantOf(4, 4), wantOf(5, 5)}
	for cutAt := range 40 {
		var s state
		n, cuts := 0, 0
		cut := func() bool { n++; return n == cutAt+1 }
		for _, want := range script {
			queue, effects := []event{want}, []effect(nil)
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
				queue = []event{want} // the broker delivers the retained want again
			}
			r := s.Models["m"]
			wanted := want.want.Models["m"].Active.Digest
			if r.Phase != idle || r.Active.Digest != wanted {
				t.Fatalf("cut %d: ended in %s, want version %d", cutAt, brief(s), wanted[31])
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
				bad(evBroke, n, "crash"), on(evInstalled, n), {kind: evStarted},
			}[rng.IntN(7)]
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
