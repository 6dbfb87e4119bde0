package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/store"
	"github.com/sandpiper-edge/sandpiper/kernel"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// keepable lets a device keep what it makes of an update.
func keepable(r *artifact.Release) { r.MaxTransfer = artifact.RawSize(r.MaxDecoded) }

// update makes v on top of base, publishes it and returns its reference.
func (w *world) update(v, base version, pack func(m, base *artifact.Model) (*artifact.Transfer, error)) protocol.TransferRef {
	w.t.Helper()
	t, err := pack(v.model, base.model)
	if err != nil {
		w.t.Fatal(err)
	}
	v.transfer = t
	w.publish(v)
	return protocol.TransferRef{Hash: t.Hash(), Kind: t.Kind, Size: t.Size, Base: t.Base}
}

// wantUpdates asks for v by updates or, last, by the full transfer.
func (w *world) wantUpdates(v version, updates ...protocol.TransferRef) {
	w.t.Helper()
	want := w.want(v)
	m := want.Models["pump"]
	m.Active.Transfers = append(slices.Clone(updates), m.Active.Transfers...)
	want.Models["pump"] = m
	w.ask(want)
}

// told returns the details of the events of a kind.
func (w *world) told(kind string) (details []string) {
	w.t.Helper()
	for _, b := range w.published(protocol.EventTopic("f", "d1")) {
		var e protocol.Event
		if err := e.UnmarshalBinary(b); err != nil {
			w.t.Fatal(err)
		}
		if e.Kind == kind {
			details = append(details, e.Detail)
		}
	}
	return details
}

func TestUpdatesFromTheCache(t *testing.T) {
	for _, c := range []struct {
		model *artifact.Model
		pack  func(m, base *artifact.Model) (*artifact.Transfer, error)
		kind  string
		most  int // bytes
	}{
		{tunedModel, artifact.PackDelta, protocol.KindDelta, 25_000},
		{headModel, artifact.PackHead, protocol.KindHead, 2_000},
	} {
		within(t, func(t *testing.T, w *world) {
			dir := t.TempDir()
			v1 := w.version(1)
			v2 := w.versionOf(2, c.model, keepable)
			d := w.installed(dir, v1)
			w.wantUpdates(v2, w.update(v2, v1, c.pack)) // the full one is not even published
			settle()
			pass(trialTime)
			d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
			d.answers(v2)
			tr, err := c.pack(v2.model, v1.model)
			if err != nil {
				t.Fatal(err)
			}
			bytes := len(w.encode(artifact.Announce(v2.envelope, tr)))
			if len(tr.Payload) > protocol.MaxInline {
				bytes += len(tr.Payload)
			}
			if told, want := w.told(toldActivated)[1], fmt.Sprintf("%s, %d bytes fetched", c.kind, bytes); told != want || bytes > c.most {
				t.Errorf("activated by %q, want %q and at most %d bytes", told, want, c.most)
			}
			// What is kept needs no base.
			d.stop()
			d = w.start(dir)
			d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
			if _, err := d.base("pump", v2.digest()); err != nil {
				t.Errorf("the version that came as a %s is no base: %v", c.kind, err)
			}
		})
	}
}

// A damagedCache returns the slot of one version with a bit flipped, as a
// database page that was written over.
type damagedCache struct {
	cache
	digest protocol.Digest
	after  int // whole so many times before
}

func (c *damagedCache) Slot(k store.Key) (store.Slot, error) {
	s, err := c.cache.Slot(k)
	if k.Digest == c.digest {
		if c.after--; c.after < 0 {
			s.Payload = slices.Clone(s.Payload)
			s.Payload[len(s.Payload)/2] ^= 1
		}
	}
	return s, err
}

func TestUpdatesThatCannotBeUsed(t *testing.T) {
	damaged := func(after int) func(*device, version) {
		return func(d *device, v1 version) { d.cache = &damagedCache{d.cache, v1.digest(), after} }
	}
	for _, c := range []struct {
		name   string
		change func(w *world, d *device, v1, v2 version, ref *protocol.TransferRef)
		code   string // of the refusal where nothing but updates is fetched
	}{
		{"base that is not here", func(_ *world, _ *device, _, _ version, ref *protocol.TransferRef) {
			other := *ref.Base
			other[0]++
			ref.Base = &other
		}, "no_transfer"},
		{"damaged base", func(_ *world, d *device, v1, _ version, _ *protocol.TransferRef) { damaged(0)(d, v1) }, "no_transfer"},
		{"base damaged during the download", func(_ *world, d *device, v1, _ version, _ *protocol.TransferRef) { damaged(1)(d, v1) }, "base"},
		{"another base than the want says", func(w *world, _ *device, v1, v2 version, ref *protocol.TransferRef) {
			other := w.update(v2, w.version(3), artifact.PackDelta)
			ref.Hash = other.Hash
		}, "base"},
		{"chunks that are damaged", func(w *world, _ *device, _, _ version, ref *protocol.TransferRef) {
			w.retain(protocol.ChunkTopic("f", ref.Hash, 0), make([]byte, 10))
		}, "truncated"},
		{"descriptor of another transfer", func(w *world, _ *device, _, v2 version, ref *protocol.TransferRef) {
			w.retain(protocol.DescriptorTopic("f", ref.Hash), w.encode(artifact.Announce(v2.envelope, v2.transfer)))
		}, "corrupt"},
		{"silent topic", func(w *world, _ *device, _, _ version, ref *protocol.TransferRef) {
			ref.Hash = strings.Repeat("0", 32)
		}, ""}, // waited for: it may be published yet
	} {
		for _, fallback := range []string{FallbackFull, FallbackNever} {
			t.Run(c.name+" "+fallback, func(t *testing.T) {
				within(t, func(t *testing.T, w *world) {
					v1, v2 := w.version(1), w.versionOf(2, tunedModel, keepable)
					dir := t.TempDir()
					w.installed(dir, v1).stop()
					a, err := New(w.config(dir))
					if err != nil {
						t.Fatal(err)
					}
					a.cfg.Fallback = fallback
					d := w.run(a)
					ref := w.update(v2, v1, artifact.PackDelta)
					c.change(w, d, v1, v2, &ref)
					w.publish(v2)
					w.wantUpdates(v2, ref)
					pass(10 * time.Minute)
					switch {
					case fallback == FallbackFull:
						d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
						d.answers(v2)
						if told := w.told(toldActivated); !strings.HasPrefix(told[1], "full, ") {
							t.Errorf("activated by %q, want the full transfer", told[1])
						}
					case c.code == "":
						d.expect("fetching active pump:v1 serving pump:v1")
					default:
						d.expect("idle active pump:v1 serving pump:v1 failed " + c.code + "@2")
						d.answers(v1)
					}
				})
			})
		}
	}
}

// TestUpdateThatCannotBeKept: a release whose caps are those of its full
// transfer leaves no room to keep a model without coding it.
func TestUpdateThatCannotBeKept(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.versionOf(2, tunedModel)
		d := w.installed(t.TempDir(), v1)
		w.publish(v2)
		w.wantUpdates(v2, w.update(v2, v1, artifact.PackDelta))
		settle()
		pass(trialTime)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		if told := w.told(toldActivated); !strings.HasPrefix(told[1], "full, ") {
			t.Errorf("activated by %q, want the full transfer", told[1])
		}
	})
}

// TestBadModelIsNotFetchedTwice: what is wrong with the version itself is wrong
// with each of its transfers.
func TestBadModelIsNotFetchedTwice(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		bad := *tunedModel
		bad.Golden.Outputs = slices.Clone(bad.Golden.Outputs)
		bad.Golden.Outputs[0]++
		v1, v2 := w.version(1), w.versionOf(2, &bad, keepable)
		d := w.installed(t.TempDir(), v1)
		w.wantUpdates(v2, w.update(v2, v1, artifact.PackDelta)) // the full one is not there: asking for it would take long
		settle()
		d.expect("idle active pump:v1 serving pump:v1 failed golden@2")
	})
}

func TestFallbackIsChecked(t *testing.T) {
	w := newWorld(t)
	c := w.config(t.TempDir())
	c.Fallback = "sometimes"
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), `fallback "sometimes", want full or never`) {
		t.Errorf("New = %v", err)
	}
}

// TestAFileWithAnUpdate: an update is no file to install from; the error says
// which version it starts from.
func TestAFileWithAnUpdate(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v1, v2 := w.version(1), w.versionOf(2, tunedModel, keepable)
		d := w.installed(t.TempDir(), v1)
		delta, err := artifact.PackDelta(v2.model, v1.model)
		if err != nil {
			t.Fatal(err)
		}
		var file strings.Builder
		if err := artifact.WriteFile(&file, v2.envelope, delta); err != nil {
			t.Fatal(err)
		}
		_, err = d.Install(t.Context(), strings.NewReader(file.String()))
		if !Refused(err) || !errors.Is(err, artifact.ErrBase) || !strings.Contains(err.Error(), v1.digest().Short()) {
			t.Errorf("Install = %v, want ErrBase with %s", err, v1.digest().Short())
		}
	})
}

// TestLargeUpdate: one that is fetched into a file is no file to keep.
func TestLargeUpdate(t *testing.T) {
	models := make([]*artifact.Model, 2)
	for i := range models {
		var err error
		if models[i], err = testModel(1, 400, func(w *kernel.Weights) { move(w, 9, 0.02*float32(i), 0) }); err != nil {
			t.Fatal(err)
		}
	}
	within(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		v1, v2 := w.versionOf(1, models[0], keepable), w.versionOf(2, models[1], keepable)
		d := w.installed(dir, v1)
		ref := w.update(v2, v1, artifact.PackDelta)
		if ref.Size <= store.MaxInBucket {
			t.Fatalf("the delta has %d bytes, which are fetched into memory", ref.Size)
		}
		w.wantUpdates(v2, ref)
		settle()
		pass(trialTime)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		d.stop()
		d = w.start(dir)
		d.expect("idle active pump:v2 serving pump:v2 previous pump:v1")
		d.answers(v2)
		if parts, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(parts) > 0 {
			t.Errorf("the download is still there: %v, %v", parts, err)
		}
	})
}
