package agent

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// wantBeside asks for v, and for shadow beside it, by refs or its full transfer.
func (w *world) wantBeside(v, shadow version, refs ...protocol.TransferRef) protocol.Want {
	want := w.want(v)
	m := want.Models["pump"]
	if len(refs) == 0 {
		refs = []protocol.TransferRef{{Hash: shadow.hash(), Kind: protocol.KindFull, Size: shadow.transfer.Size}}
	}
	m.Shadow = &protocol.WantedVersion{Digest: shadow.digest(), Transfers: refs}
	want.Models["pump"] = m
	return want
}

// shadow is what the device reports of the shadow: in its status and upstream.
func (d *device) shadow() string {
	d.w.t.Helper()
	out := func(s *protocol.ShadowHave) string {
		switch {
		case s == nil:
			return "none"
		case s.Failed != nil:
			return s.Phase + " " + s.Failed.Code
		}
		return fmt.Sprintf("%s %s", s.Phase, s.Version)
	}
	got := out(d.Status().Models["pump"].Shadow)
	all := d.w.published(protocol.HaveTopic("f", "d1"))
	var h protocol.Have
	if err := h.UnmarshalBinary(all[len(all)-1]); err != nil {
		d.w.t.Fatal(err)
	}
	if said := out(h.Models["pump"].Shadow); said != got {
		d.w.t.Errorf("reported %s, status %s", said, got)
	}
	return got
}

func (d *device) expectShadow(want string) {
	d.w.t.Helper()
	if got := d.shadow(); got != want {
		d.w.t.Errorf("the shadow is %s; want %s", got, want)
	}
}

func (w *world) fetched() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chunkBytes
}

func TestShadowIsKeptAndActivatedWithoutATransfer(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2 := w.version(1), w.versionOf(2, tunedModel, keepable)
		d := w.installed(dir, v1)
		ref := w.update(v2, v1, artifact.PackDelta) // the full one is not even published
		w.ask(w.wantBeside(v1, v2, ref))
		settle()
		d.expect("idle active pump:v1 serving pump:v1")
		d.expectShadow("ready pump:v2")
		d.answers(v1)
		if told := w.told(toldShadow); len(told) != 1 || told[0][:5] != "delta" {
			t.Errorf("told %q, want that a delta was fetched", told)
		}
		d.stop()
		d = w.start(dir)
		d.expectShadow("ready pump:v2")
		bytes := w.fetched()
		w.ask(w.want(v2))
		settle()
		pass(trialTime)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		d.expectShadow("none")
		d.answers(v2)
		if told := w.told(toldActivated); w.fetched() != bytes || told[len(told)-1] != "from the cache" {
			t.Errorf("%d bytes for the activation, %q", w.fetched()-bytes, told)
		}
	})
}

func TestDroppedShadowLeavesTheCache(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2, v3 := w.version(1), w.version(2), w.version(3)
		d := w.installed(t.TempDir(), v1)
		w.publish(v2)
		w.publish(v3)
		for _, tc := range []struct {
			want   protocol.Want
			shadow string
			cached int
		}{
			{w.wantBeside(v1, v2), "ready pump:v2", 2},
			{w.wantBeside(v1, v3), "ready pump:v3", 2},
			{w.want(v1), "none", 1},
		} {
			w.ask(tc.want)
			settle()
			d.expectShadow(tc.shadow)
			if keys, err := d.cache.Slots(); err != nil || len(keys) != tc.cached {
				t.Errorf("shadow %s: %d versions cached, %v, want %d", tc.shadow, len(keys), err, tc.cached)
			}
		}
		d.expect("idle active pump:v1 serving pump:v1")
	})
}

func TestBadShadowIsAnEventAndNothingElse(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		good := w.version(3, func(r *artifact.Release) { r.Floor = 2 })
		d := w.installed(t.TempDir(), good)
		before := d.pump()
		for _, tc := range badArtifacts(w, good) {
			if tc.link == nil {
				tc.link = w.publish
			}
			tc.link(tc.v)
			w.ask(w.wantBeside(good, tc.v))
			settle()
			pass(10 * time.Minute)
			f := d.Status().Models["pump"].Shadow.Failed
			if f == nil || f.Rev != w.rev || f.Digest != tc.v.digest() || tc.code != "" && f.Code != tc.code {
				t.Errorf("%s: the shadow is %s, want failed %s", tc.name, d.shadow(), tc.code)
			} else if told := w.told(toldRefused); told[len(told)-1] != clip("as shadow: "+f.Code+": "+f.Message) {
				t.Errorf("%s: told %q", tc.name, told[len(told)-1])
			}
			d.expect(before)
			d.answers(good)
			w.unpublish(tc.v)
		}
		w.rollOut(w.version(4))
		settle()
		d.answers(w.version(4))
	})
}

// TestShadowPromotedWhileItIsFetched: the download goes on, the bytes are paid
// for once, and the activation waits for its hour.
func TestShadowPromotedWhileItIsFetched(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.installed(t.TempDir(), v1)
		before := w.fetched()
		w.publish(v2)
		w.retain(protocol.ChunkTopic("f", v2.hash(), 1), nil) // the second chunk does not come
		w.ask(w.wantBeside(v1, v2))
		pass(time.Second)
		d.expectShadow("fetching ")
		want := w.want(v2)
		want.NotBefore = time.Now().Add(time.Hour).UnixMilli()
		w.ask(want)
		pass(time.Second)
		d.expect("fetching active pump:v1 serving pump:v1")
		w.publish(v2)
		pass(10 * time.Minute)
		d.expect("fetching active pump:v1 serving pump:v1") // it is here, and its hour has not come
		if got, whole := w.fetched()-before, int64(v2.transfer.Size); got > whole+protocol.ChunkSize {
			t.Errorf("%d bytes fetched for a version of %d", got, whole)
		}
		pass(time.Hour)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
	})
}

// TestLargeShadowIsResumed: what is on disk of it outlives the process.
func TestLargeShadowIsResumed(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, big := w.version(1), w.versionOf(2, bigModels[0])
		d := w.installed(dir, v1)
		before := w.fetched()
		w.publish(big)
		w.retain(protocol.ChunkTopic("f", big.hash(), 4), nil) // the last chunk does not come
		w.ask(w.wantBeside(v1, big))
		pass(time.Second)
		d.stop()
		w.publish(big)
		d = w.start(dir)
		pass(time.Minute)
		d.expectShadow("ready pump:v2")
		if got, whole := w.fetched()-before, int64(big.transfer.Size); got > whole+2*protocol.ChunkSize {
			t.Errorf("%d bytes fetched for a version of %d", got, whole)
		}
	})
}

func TestStuckShadowDoesNotBlockANewerWant(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2, v3 := w.version(1), w.version(2), w.version(3)
		d := w.installed(t.TempDir(), v1)
		w.ask(w.wantBeside(v1, v2)) // nothing is published
		pass(2 * time.Minute)
		d.expectShadow("fetching ")
		if why := d.Status().Models["pump"].Waiting; why == "" {
			t.Error("the status does not say why the shadow is not there")
		}
		w.rollOut(v3)
		settle()
		pass(trialTime)
		d.expect("idle active pump:v3 serving pump:v3 previous pump:v1")
		w.publish(v2)
		w.ask(w.wantBeside(v3, v2))
		settle()
		d.expectShadow("ready pump:v2")
		// A rollback finds the version of before although a shadow was kept.
		w.ask(w.want(v1))
		settle()
		pass(trialTime)
		d.expect("idle active pump:v1 serving pump:v1 previous pump:v3")
	})
}

func TestShadowThatDoesNotFitTheQuota(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		d := w.start(t.TempDir(), func(c *Config) { c.QuotaBytes = 192 << 10 })
		w.rollOut(v1)
		settle()
		pass(trialTime)
		w.publish(v2)
		w.ask(w.wantBeside(v1, v2))
		settle()
		d.expectShadow("failed no_space")
		d.expect("idle active pump:v1 serving pump:v1")
		d.answers(v1)
	})
}

// TestPowerCutAtEveryTransactionOfAShadow replays from each transaction on: the
// device ends with the wanted versions, and with no other in its cache.
func TestPowerCutAtEveryTransactionOfAShadow(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.version(2)
		dir, root := t.TempDir(), t.TempDir()
		var cuts []string
		a, err := New(w.config(dir))
		if err != nil {
			t.Fatal(err)
		}
		a.cache = &tracedCache{cache: a.cache, dir: dir, copies: func(dir string) {
			to := fmt.Sprintf("%s/%d", root, len(cuts))
			copyDir(t, dir, to)
			cuts = append(cuts, to)
		}}
		d := w.run(a)
		w.publish(v2)
		w.rollOut(v1)
		pass(trialTime)
		for _, want := range []protocol.Want{w.wantBeside(v1, v2), w.want(v2), w.wantBeside(v1, v2)} {
			w.ask(want)
			settle()
			pass(trialTime)
		}
		d.expect("idle active pump:v1 serving pump:v1 previous pump:v2")
		d.expectShadow("ready pump:v2")
		d.stop()
		for i, dir := range cuts {
			d := w.start(dir)
			pass(2 * trialTime)
			if s := d.Status().Models["pump"]; s.Version != v1.release.String() || s.Phase != protocol.PhaseIdle || d.shadow() != "ready pump:v2" {
				t.Errorf("cut %d ended on %s, shadow %s", i, d.pump(), d.shadow())
			}
			keys, err := d.cache.Slots()
			if err != nil || len(keys) != 2 || slices.ContainsFunc(keys, func(k store.Key) bool { return k.Digest != v1.digest() && k.Digest != v2.digest() }) {
				t.Errorf("cut %d: cached %v, %v", i, keys, err)
			}
			d.answers(v1)
			d.stop()
		}
	})
}
