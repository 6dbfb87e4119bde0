package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// shadowOf asks at rev for version n, and for version m beside it.
func shadowOf(rev uint64, n, m byte) event {
	e := wantOf(rev, n)
	e.want.Models["m"] = protocol.ModelWant{Active: protocol.WantedVersion{Digest: dg(n)}, Shadow: &protocol.WantedVersion{Digest: dg(m)}}
	return e
}

// briefShadow adds to brief the shadow that is wanted, and its slot.
func briefShadow(s state) string {
	r := s.Models["m"]
	out := fmt.Sprintf("%s shadow %d/%d", brief(s), r.Shadow.Digest[31], r.Beside.Digest[31])
	if r.ShadowFailed != nil {
		out += fmt.Sprintf(" failed %d@%d %s", r.ShadowFailed.Digest[31], r.ShadowFailed.Rev, r.ShadowFailed.Code)
	}
	return out
}

func TestStepOfShadows(t *testing.T) {
	v1 := []event{wantOf(1, 1), on(evReady, 1), on(evLived, 1)}
	then := func(before []event, more ...event) []event { return append(slices.Clone(before), more...) }
	fetching := then(v1, shadowOf(2, 1, 2))
	ready := then(fetching, on(evShadowReady, 2))
	promoted := then(ready, wantOf(3, 2))
	windowed := wantOf(3, 2)
	windowed.want.NotBefore = 99
	for _, tc := range []struct {
		name    string
		before  []event
		event   event
		state   string
		effects string
	}{
		{"wanted", v1, shadowOf(2, 1, 2), "idle want 1: 1/0/0 shadow 2/0", "shadow 2, report"},
		{"ready", fetching, on(evShadowReady, 2), "idle want 1: 1/0/0 shadow 2/2", "shadow, report"},
		{"ready twice", ready, on(evShadowReady, 2), "idle want 1: 1/0/0 shadow 2/2", ""},
		{"another one is ready", fetching, on(evShadowReady, 3), "idle want 1: 1/0/0 shadow 2/0", ""},
		{"refused", fetching, bad(evShadowRefused, 2, "golden"), "idle want 1: 1/0/0 shadow 2/0 failed 2@2 golden", "refused, report"},
		{"refused twice", then(fetching, bad(evShadowRefused, 2, "golden")), bad(evShadowRefused, 2, "golden"), "idle want 1: 1/0/0 shadow 2/0 failed 2@2 golden", ""},
		{"refused, and a start", then(fetching, bad(evShadowRefused, 2, "golden")), event{kind: evStarted}, "idle want 1: 1/0/0 shadow 2/0 failed 2@2 golden", "serve 1, export 1"},
		{"refused, and wanted anew", then(fetching, bad(evShadowRefused, 2, "golden")), shadowOf(3, 1, 2), "idle want 1: 1/0/0 shadow 2/0", "shadow 2, report"},
		{"a late refusal", ready, bad(evShadowRefused, 2, "golden"), "idle want 1: 1/0/0 shadow 2/2", ""},
		{"same want at a newer rev", ready, shadowOf(3, 1, 2), "idle want 1: 1/0/0 shadow 2/2", "report"},
		{"same want while fetching", fetching, shadowOf(3, 1, 2), "idle want 1: 1/0/0 shadow 2/0", "shadow 2, report"},
		{"another shadow while fetching", fetching, shadowOf(3, 1, 3), "idle want 1: 1/0/0 shadow 3/0", "abort, shadow 3, report"},
		{"another shadow", ready, shadowOf(3, 1, 3), "idle want 1: 1/0/0 shadow 3/0", "shadow 3, report"},
		{"of what is active", v1, shadowOf(2, 1, 1), "idle want 1: 1/0/0 shadow 0/0", "report"},
		{"behind the active one", nil, shadowOf(1, 1, 2), "fetching want 1: 0/0/0 shadow 2/0", "obtain 1, report"},
		{"when that lived", []event{shadowOf(1, 1, 2), on(evReady, 1)}, on(evLived, 1), "idle want 1: 1/0/0 shadow 2/0", "confirmed, export 1, report, shadow 2"},
		{"when that broke", then(v1, shadowOf(2, 3, 4), on(evReady, 3)), bad(evBroke, 3, "crash"), "idle want 3: 1/0/0 failed 3@2 crash shadow 4/0", "report, rolled_back, serve 1, report, shadow 4"},
		{"when that was refused", then(v1, shadowOf(2, 3, 4)), bad(evRefused, 3, "unsigned"), "idle want 3: 1/0/0 failed 3@2 unsigned shadow 4/0", "report, refused, shadow 4"},
		{"stays for a new active one", ready, shadowOf(3, 4, 2), "fetching want 4: 1/0/0 shadow 2/2", "obtain 4, report"},
		{"dropped", ready, wantOf(3, 1), "idle want 1: 1/0/0 shadow 0/0", "report"},
		{"dropped while fetching", fetching, wantOf(3, 1), "idle want 1: 1/0/0 shadow 0/0", "abort, report"},
		{"dropped after it failed", then(fetching, bad(evShadowRefused, 2, "golden")), wantOf(3, 1), "idle want 1: 1/0/0 shadow 0/0", "report"},
		{"the model is no longer wanted", ready, event{kind: evWanted, want: protocol.Want{Rev: 3}}, "idle want 0: 1/0/0 shadow 0/0", "report"},
		{"promoted", ready, wantOf(3, 2), "fetching want 2: 1/0/0 shadow 0/2", "obtain 2, report"},
		{"and activated", promoted, on(evReady, 2), "trying want 2: 2/1/0 shadow 0/0", "activated, serve 2, try 2, report"},
		{"promoted, then not", promoted, wantOf(4, 1), "idle want 1: 1/0/0 shadow 0/0", "abort, report"},
		{"promoted, then a shadow again", promoted, shadowOf(4, 1, 2), "idle want 1: 1/0/0 shadow 2/2", "abort, report"},
		{"promoted, and another shadow", ready, shadowOf(3, 2, 3), "fetching want 2: 1/0/0 shadow 3/2", "obtain 2, report"},
		{"promoted while fetching", fetching, windowed, "fetching want 2: 1/0/0 shadow 0/0", "obtain 2, report"},
		{"and ready: its hour is awaited", then(fetching, windowed), on(evShadowReady, 2), "fetching want 2: 1/0/0 shadow 0/2", "abort, obtain 2"},
		{"or refused: it gets its own attempt", then(fetching, windowed), bad(evShadowRefused, 2, "golden"), "fetching want 2: 1/0/0 shadow 0/0", "abort, obtain 2"},
		{"withdrawn into the shadow", then(promoted, on(evReady, 2)), shadowOf(4, 1, 2), "idle want 1: 1/0/0 shadow 2/2", "serve 1, report, rolled_back, report"},
		{"rolled back into the shadow", then(promoted, on(evReady, 2), on(evLived, 2), shadowOf(4, 1, 2), on(evReady, 1)), on(evLived, 1), "idle want 1: 1/2/0 shadow 2/0", "confirmed, export 1, report, shadow 2"},
		{"the owner goes back to it", then(promoted, on(evReady, 2), on(evLived, 2), shadowOf(4, 2, 1), on(evShadowReady, 1)), owner(evReturned, 0), "idle want 2: 1/2/0 rolled_back shadow 1/0", "serve 1, export 1, rolled_back, report"},
		{"installed from a file", ready, on(evInstalled, 2), "trying want 2: 2/1/0 shadow 2/0", "activated, serve 2, try 2, report"},
		{"beside an installed one", ready, on(evInstalled, 3), "trying want 3: 3/1/0 shadow 2/2", "activated, serve 3, try 3, report"},
		{"ready during a trial", then(fetching, on(evInstalled, 3)), on(evShadowReady, 2), "trying want 3: 3/1/0 shadow 2/2", "shadow, report"},
		{"slot lost", ready, bad(evLost, 2, ""), "idle want 1: 1/0/0 shadow 2/0", "lost, report, shadow 2"},
		{"active slot lost", ready, bad(evLost, 1, ""), "fetching want 1: 0/0/0 shadow 2/2", "lost, serve 0, report, obtain 1"},
		{"start", ready, event{kind: evStarted}, "idle want 1: 1/0/0 shadow 2/2", "serve 1, export 1"},
		{"start while fetching", fetching, event{kind: evStarted}, "idle want 1: 1/0/0 shadow 2/0", "serve 1, export 1, shadow 2"},
		{"a newer version while fetching", fetching, wantOf(3, 3), "fetching want 3: 1/0/0 shadow 0/0", "abort, obtain 3, report"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s state
			for _, e := range tc.before {
				s, _ = step(s, e)
			}
			next, effects := step(s, tc.event)
			if got := briefShadow(next); got != tc.state {
				t.Errorf("state %s, want %s", got, tc.state)
			}
			if got := briefEffects(effects); got != tc.effects {
				t.Errorf("effects %q, want %q", got, tc.effects)
			}
		})
	}
}

// TestRestartAtEveryStepOfShadows is TestRestartAtEveryStep with versions beside
// the active one: it expects both where the want says.
func TestRestartAtEveryStepOfShadows(t *testing.T) {
	script := []event{shadowOf(1, 1, 2), shadowOf(2, 2, 3), wantOf(3, 1), shadowOf(4, 1, 2), shadowOf(5, 4, 2), wantOf(6, 2)}
	for cutAt := range 40 {
		var s state
		n := 0
		cut := func() bool { n++; return n == cutAt+1 }
		for _, want := range script {
			queue, effects := []event{want}, []effect(nil)
			for {
				var stopped bool
				if s, stopped = play(s, queue, effects, cut); !stopped {
					break
				}
				b, err := s.encode()
				if err != nil {
					t.Fatal(err)
				}
				if s, err = decodeState(b); err != nil {
					t.Fatalf("cut %d: %v", cutAt, err)
				}
				s, effects = step(s, event{kind: evStarted})
				queue = []event{want}
			}
			r, m := s.Models["m"], want.want.Models["m"]
			var shadow protocol.Digest
			if m.Shadow != nil {
				shadow = m.Shadow.Digest
			}
			if r.Phase != idle || r.Active.Digest != m.Active.Digest || r.Beside.Digest != shadow || r.Shadow.Digest != shadow {
				t.Fatalf("cut %d: ended in %s, want %d and %d beside it", cutAt, briefShadow(s), m.Active.Digest[31], shadow[31])
			}
		}
	}
}

// TestRandomEventsOfShadows: whatever comes, what answers is what would answer
// if no shadow had ever been wanted.
func TestRandomEventsOfShadows(t *testing.T) {
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, seed))
	for run := range 300 {
		var s, plain state
		for i := range 60 {
			n, m := byte(1+rng.IntN(4)), byte(1+rng.IntN(4))
			rev := uint64(rng.IntN(20))
			e := []event{
				shadowOf(rev, n, m), wantOf(rev, n), on(evReady, n), bad(evRefused, n, "corrupt"), on(evLived, n), bad(evBroke, n, "crash"),
				on(evInstalled, n), {kind: evStarted}, on(evShadowReady, n), bad(evShadowRefused, n, "golden"),
				on(evPinned, n), {kind: evUnpinned, model: "m"}, {kind: evReturned, model: "m"},
			}[rng.IntN(13)]
			without := e
			if e.kind == evWanted {
				without = wantOf(rev, n)
			}
			was := s
			var effects []effect
			s, effects = step(s, e)
			if e.kind != evShadowReady && e.kind != evShadowRefused {
				plain, _ = step(plain, without)
			}
			context := fmt.Sprintf("seed %d run %d event %d: %s + %d(%d) → %s", seed, run, i, briefShadow(was), e.kind, n, briefShadow(s))
			if got, want := brief(s), brief(plain); got != want {
				t.Fatalf("%s: without shadows %s", context, want)
			}
			r := s.Models["m"]
			if b := r.Beside.Digest; !r.Beside.none() && (b == r.Active.Digest || b != r.Shadow.Digest && b != r.Want.Digest) {
				t.Fatalf("%s: what is in the candidate's slot is of no use", context)
			}
			if r.Phase == idle && r.shadowMissing() && was.Models["m"].Phase != idle && !slices.ContainsFunc(effects, func(e effect) bool { return e.kind == doShadow }) {
				t.Fatalf("%s: nobody goes after the shadow", context)
			}
		}
	}
}
