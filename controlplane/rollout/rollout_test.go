package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// A sent message, as the fake broker saw it.
type sent struct {
	topic   string
	payload []byte
	retain  bool
}

// broker is a fake Publisher: what it was sent, and what it retains.
type broker struct {
	mu       sync.Mutex
	sent     []sent
	retained map[string][]byte
	fail     error
	on       func(topic string)
}

func (b *broker) Publish(_ context.Context, topic string, payload []byte, retain bool) error {
	if b.on != nil {
		b.on(topic)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	b.sent = append(b.sent, sent{topic, payload, retain})
	switch {
	case retain && len(payload) == 0:
		delete(b.retained, topic)
	case retain:
		b.retained[topic] = payload
	}
	return nil
}

// topics returns and forgets what was sent.
func (b *broker) topics() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, s := range b.sent {
		out = append(out, s.topic)
	}
	b.sent = nil
	return out
}

// A rig is everything below a control plane's API, with a fake broker.
type rig struct {
	*Rollouts
	t      testing.TB
	dir    string
	store  *store.Store
	reg    *registry.Registry
	fleet  *fleet.Fleet
	keys   registrytest.Keys
	broker *broker
	have   map[string]protocol.Have // what devices last reported
}

func newRig(t testing.TB, devices ...string) *rig {
	t.Helper()
	r := openRig(t, t.TempDir())
	for _, d := range devices {
		r.add(d, nil)
	}
	return r
}

func openRig(t testing.TB, dir string) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, keys: registrytest.NewKeys(t, 1), broker: &broker{retained: map[string][]byte{}}, have: map[string]protocol.Have{}}
	r.store = registrytest.OpenStore(t, dir)
	r.reg = registrytest.Open(t, r.store, r.keys, r.keys.Release)
	var err error
	if r.fleet, err = fleet.New(r.store, registrytest.Fleet, "token"); err != nil {
		t.Fatal(err)
	}
	r.Rollouts, err = New(Config{
		Store: r.store, Registry: r.reg, Fleet: registrytest.Fleet, Key: r.keys.Rollout, Publisher: r.broker,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) add(device string, labels map[string]string) {
	r.t.Helper()
	if _, _, err := r.fleet.Add(r.t.Context(), device, labels); err != nil {
		r.t.Fatal(err)
	}
	if err := r.JoinNew(r.t.Context(), device); err != nil {
		r.t.Fatal(err)
	}
}

// versions adds n versions of model m and returns their digests, v1 first.
func (r *rig) versions(n int) []protocol.Digest {
	r.t.Helper()
	var out []protocol.Digest
	for seed := range n {
		out = append(out, registrytest.Add(r.t, r.reg, "m", uint64(seed)).Digest)
	}
	return out
}

func (r *rig) start(ref, target string) Started {
	r.t.Helper()
	t, err := ParseTarget(target)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := r.Start(r.t.Context(), ref, t)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) rollback(target string) Result {
	r.t.Helper()
	t, err := ParseTarget(target)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.Rollback(r.t.Context(), "m", t)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func (r *rig) handle(device string, kind protocol.TopicKind, payload []byte) {
	r.t.Helper()
	if err := r.Handle(r.t.Context(), Report{device, kind, payload}); err != nil {
		r.t.Fatal(err)
	}
}

// report sends a have of model m. Its (epoch, rev) is the want's, if it is zero.
func (r *rig) report(device string, h protocol.Have, m protocol.ModelHave) {
	r.t.Helper()
	h.Format = protocol.Format
	if h.Epoch == 0 && h.Rev == 0 {
		if w, ok := r.stored(device); ok {
			h.Epoch, h.Rev = w.Epoch, w.Rev
		}
	}
	if m.Phase == "" {
		m.Phase = protocol.PhaseIdle
	}
	if h.Models == nil {
		h.Models = map[string]protocol.ModelHave{"m": m}
	}
	b, err := h.AppendBinary(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.have[device] = h
	r.handle(device, protocol.TopicHave, b)
}

// stored returns a device's want from the store, verified as a device does.
func (r *rig) stored(device string) (protocol.Want, bool) {
	r.t.Helper()
	var row store.Want
	err := r.store.View(r.t.Context(), func(tx store.Tx) (err error) {
		row, err = tx.Want(r.t.Context(), device)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && row.Envelope == nil {
		return protocol.Want{Epoch: row.Epoch, Rev: row.Rev}, false
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return r.open(row.Envelope), true
}

func (r *rig) open(envelope []byte) protocol.Want {
	r.t.Helper()
	w, err := r.keys.Root.OpenWant(envelope)
	if err != nil {
		r.t.Fatal(err)
	}
	return *w
}

func (r *rig) wants(device string) protocol.Digest {
	r.t.Helper()
	w, _ := r.stored(device)
	return w.Models["m"].Active.Digest
}

func (r *rig) flush() {
	r.t.Helper()
	if err := r.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) status() Status {
	r.t.Helper()
	s, err := r.Status(r.t.Context(), "m", Query{})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// states is the status in one line: device:vN:state …
func (r *rig) states() string {
	r.t.Helper()
	var out []string
	counted := zeroCounts()
	s := r.status()
	for _, d := range s.Devices {
		counted[d.State]++
		out = append(out, fmt.Sprintf("%s:%s:%s", d.Device, strings.TrimPrefix(d.Ref, "m:"), d.State))
	}
	if d := cmp.Diff(counted, s.Counts); d != "" {
		r.t.Errorf("counters are not the devices' states (-counted +kept)\n%s", d)
	}
	return strings.Join(out, " ")
}

func (r *rig) expect(want string) {
	r.t.Helper()
	if got := r.states(); got != want {
		r.t.Errorf("states are %q, want %q", got, want)
	}
}

func TestStateFollowsWhatTheDeviceReports(t *testing.T) {
	v1, v2, other := protocol.Digest{1}, protocol.Digest{2}, protocol.Digest{9}
	row := store.Desired{Device: "d", Model: "m", Digest: v2, Previous: v1, Epoch: 1, Rev: 5}
	failure := func(d protocol.Digest, epoch, rev uint64) *protocol.Failure {
		return &protocol.Failure{Digest: d, Epoch: epoch, Rev: rev, Code: "crash", Message: "3 starts"}
	}
	for _, tt := range []struct {
		name       string
		epoch, rev uint64
		have       protocol.ModelHave
		want       string
	}{
		{"nothing", 0, 0, protocol.ModelHave{}, Pending},
		{"the old want", 1, 4, protocol.ModelHave{Active: v1, Phase: protocol.PhaseIdle}, Pending},
		{"fetching for the old want", 1, 4, protocol.ModelHave{Active: other, Phase: protocol.PhaseFetching}, Pending},
		{"read, not begun", 1, 5, protocol.ModelHave{Active: v1, Phase: protocol.PhaseIdle}, Pending},
		{"fetching", 1, 5, protocol.ModelHave{Active: v1, Phase: protocol.PhaseFetching}, Fetching},
		{"fetching for a newer want of another model", 1, 6, protocol.ModelHave{Active: v1, Phase: protocol.PhaseFetching}, Fetching},
		{"on trial", 1, 5, protocol.ModelHave{Active: v2, Previous: v1, Phase: protocol.PhaseTrying}, Trying},
		{"confirmed", 1, 5, protocol.ModelHave{Active: v2, Previous: v1, Phase: protocol.PhaseIdle}, Active},
		{"had it already", 0, 0, protocol.ModelHave{Active: v2, Phase: protocol.PhaseIdle}, Active},
		{"failed", 1, 5, protocol.ModelHave{Active: v1, Phase: protocol.PhaseIdle, Failed: failure(v2, 1, 5)}, Failed},
		{"failed, newer want since", 2, 1, protocol.ModelHave{Active: v1, Phase: protocol.PhaseIdle, Failed: failure(v2, 1, 5)}, Failed},
		{"failed before it was wanted anew", 1, 4, protocol.ModelHave{Active: v1, Phase: protocol.PhaseIdle, Failed: failure(v2, 1, 4)}, Pending},
		{"failed in an older epoch", 1, 5, protocol.ModelHave{Active: v1, Phase: protocol.PhaseIdle, Failed: failure(v2, 0, 9)}, Pending},
		{"another one failed", 1, 5, protocol.ModelHave{Active: v1, Phase: protocol.PhaseIdle, Failed: failure(other, 1, 5)}, Pending},
		{"tries again after failing", 1, 6, protocol.ModelHave{Active: v1, Phase: protocol.PhaseFetching, Failed: failure(v2, 1, 5)}, Fetching},
		{"works after failing", 1, 6, protocol.ModelHave{Active: v2, Phase: protocol.PhaseIdle, Failed: failure(v2, 1, 5)}, Active},
	} {
		got := observe(row, protocol.Have{Epoch: tt.epoch, Rev: tt.rev, Models: map[string]protocol.ModelHave{"m": tt.have}})
		if got.State != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got.State, tt.want)
		}
		if reason := got.Code != ""; reason != (tt.want == Failed) {
			t.Errorf("%s: %s with code %q", tt.name, got.State, got.Code)
		}
	}
}

func TestRolloutOfTwoVersionsAndBack(t *testing.T) {
	r := newRig(t, "d1", "d2")
	v := r.versions(2)
	r.start("m:v1", "all")
	r.expect("d1:v1:pending d2:v1:pending")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Phase: protocol.PhaseFetching})
	r.expect("d1:v1:fetching d2:v1:pending")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0], Phase: protocol.PhaseTrying})
	r.expect("d1:v1:trying d2:v1:pending")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
	r.report("d2", protocol.Have{}, protocol.ModelHave{Active: v[0]})
	r.expect("d1:v1:active d2:v1:active")

	r.start("m:v2", "d1")
	r.expect("d1:v2:pending d2:v1:active")
	r.start("m:v2", "all")
	r.expect("d1:v2:pending d2:v2:pending")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[1], Previous: v[0]})
	r.report("d2", protocol.Have{}, protocol.ModelHave{Active: v[0], Failed: &protocol.Failure{Digest: v[1], Rev: 2, Code: "crash", Message: "3 starts"}})
	r.expect("d1:v2:active d2:v2:failed")
	if d := r.status().Devices[1]; d.Code != "crash" || d.Message != "3 starts" {
		t.Errorf("d2 failed with %q, %q, want the device's reason", d.Code, d.Message)
	}

	res := r.rollback("all")
	if d := cmp.Diff([]string{"d1", "d2"}, res.Moved); d != "" || res.Err() != nil {
		t.Errorf("moved (-want +got)\n%s, %v", d, res.Err())
	}
	r.expect("d1:v1:pending d2:v1:active") // d2 had gone back by itself
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0], Previous: v[1]})
	r.expect("d1:v1:active d2:v1:active")
}

func TestStartTwiceIsOneStart(t *testing.T) {
	r := newRig(t, "d1", "d2")
	v := r.versions(2)
	first := r.start("m:v1", "all")
	if first.Devices != 2 || first.Changed != 2 {
		t.Errorf("first start = %+v, want 2 devices, 2 changed", first)
	}
	before, _ := r.stored("d1")
	again := r.start("m:v1", "all")
	if again.Rollout.ID != first.Rollout.ID || again.Changed != 0 {
		t.Errorf("second start = %+v, want the same rollout and no change", again)
	}
	if after, _ := r.stored("d1"); after.Rev != before.Rev {
		t.Errorf("second start took the want from rev %d to %d", before.Rev, after.Rev)
	}
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
	wider := r.start("m:v1", "d1,d2") // another target, nothing to change
	if wider.Rollout.ID == first.Rollout.ID || wider.Changed != 0 {
		t.Errorf("start of the same version for other devices = %+v, want a new rollout and no change", wider)
	}
	r.expect("d1:v1:active d2:v1:pending")
}

func TestStartAgainRetriesWhereItFailed(t *testing.T) {
	r := newRig(t, "d1", "d2", "d3", "d4")
	v := r.versions(2)
	r.start("m:v1", "all")
	for _, d := range []string{"d1", "d2", "d3"} {
		r.report(d, protocol.Have{}, protocol.ModelHave{Active: v[0]})
	}
	first := r.start("m:v2", "all")
	want2, _ := r.stored("d2")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0], Failed: &protocol.Failure{Digest: v[1], Rev: 2, Code: "crash"}})
	r.report("d2", protocol.Have{}, protocol.ModelHave{Active: v[0], Phase: protocol.PhaseFetching})
	r.report("d3", protocol.Have{}, protocol.ModelHave{Active: protocol.Digest{99}, Previous: v[1]}) // a file was installed
	r.expect("d1:v2:failed d2:v2:fetching d3:v2:pending d4:v2:pending")
	again := r.start("m:v2", "all")
	if again.Changed != 2 || again.Rollout.ID != first.Rollout.ID {
		t.Errorf("second start = %+v, want d1 and d3 changed in the same rollout", again)
	}
	for device, rev := range map[string]uint64{"d1": 3, "d2": want2.Rev, "d3": 3, "d4": 2} {
		if w, _ := r.stored(device); w.Rev != rev || w.Models["m"].Active.Digest != v[1] {
			t.Errorf("%s has want %+v, want rev %d for v2", device, w, rev)
		}
	}
	r.expect("d1:v2:pending d2:v2:fetching d3:v2:pending d4:v2:pending")
	r.start("m:v2", "all") // nothing to tell anybody
	if got, want := r.recorded(first.Rollout.ID), []string{"rollout.start all", "rollout.start all"}; !slices.Equal(got, want) {
		t.Errorf("recorded are %q, want %q", got, want)
	}
	if r.rollback("d1"); r.wants("d1") != v[0] {
		t.Error("the second start lost the version that d1 goes back to")
	}
}

// recorded is what the record says that was done about a rollout, oldest first: not
// what was seen.
func (r *rig) recorded(rollout int64) (out []string) {
	r.t.Helper()
	err := r.store.View(r.t.Context(), func(tx store.Tx) error {
		entries, err := tx.AuditFrom(r.t.Context(), 0, 10000)
		for _, e := range entries {
			if e.Rollout == rollout && e.Device == "" && e.Action != audit.RolloutLook {
				out = append(out, e.Action+" "+e.Detail)
			}
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func TestRevOnlyGrows(t *testing.T) {
	r := newRig(t, "d1")
	r.versions(3)
	registrytest.Add(t, r.reg, "other", 77)
	var last protocol.Want
	for i, ref := range []string{"m:v1", "m:v2", "other:v1", "m:v1", "m:v3"} {
		r.start(ref, "all")
		w, _ := r.stored("d1")
		if !w.Newer(last.Epoch, last.Rev) {
			t.Errorf("start %d (%s): want (%d, %d) is not above (%d, %d)", i, ref, w.Epoch, w.Rev, last.Epoch, last.Rev)
		}
		last = w
	}
	if got := slices.Sorted(maps.Keys(last.Models)); !slices.Equal(got, []string{"m", "other"}) {
		t.Errorf("want names %v, want m and other", got)
	}
	if refs := last.Models["m"].Active.Transfers; len(refs) != 1 || refs[0].Kind != protocol.KindFull || refs[0].Size == 0 {
		t.Errorf("transfers of m are %+v, want the full one", refs)
	}
}

func TestRollbackIsRefusedWithoutPrevious(t *testing.T) {
	r := newRig(t, "d1", "d2", "d3")
	v := r.versions(2)
	r.start("m:v1", "d1")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
	res := r.rollback("all") // d2 and d3 have no rollout: not even asked
	if len(res.Moved) != 0 || len(res.Refused) != 1 || res.Refused[0].Device != "d1" || res.Rollout != nil {
		t.Errorf("rollback of the first version = %+v, want d1 refused", res)
	}
	if err := res.Err(); !errors.Is(err, ErrNoPrevious) {
		t.Errorf("Err = %v, want ErrNoPrevious", err)
	}
	r.start("m:v2", "d1,d2")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[1], Previous: v[0]})
	r.report("d2", protocol.Have{}, protocol.ModelHave{Active: v[1]})
	res = r.rollback("d1,d2,d3")
	if !slices.Equal(res.Moved, []string{"d1"}) || len(res.Refused) != 2 {
		t.Errorf("rollback = %+v, want d1 moved, d2 and d3 refused", res)
	}
	r.expect("d1:v1:pending d2:v2:active")
	rev, _ := r.stored("d1")
	for range 2 { // a repeated rollback must not take the device forward again
		if res = r.rollback("d1"); len(res.Moved) != 0 || len(res.Refused) != 1 {
			t.Errorf("rollback again = %+v, want d1 refused", res)
		}
		r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0], Previous: v[1]})
	}
	if now, _ := r.stored("d1"); now.Rev != rev.Rev || r.wants("d1") != v[0] {
		t.Errorf("d1 wants %s at rev %d, want %s at rev %d", r.wants("d1").Short(), now.Rev, v[0].Short(), rev.Rev)
	}
	r.start("m:v2", "d1") // and forward again, and back again
	if res = r.rollback("d1"); len(res.Moved) != 1 || r.wants("d1") != v[0] {
		t.Errorf("rollback after a new start = %+v", res)
	}
}

// A device that was offline all the time must not come back to the bad version.
func TestRollbackOfAVersionThatNeverArrived(t *testing.T) {
	r := newRig(t, "d1")
	v := r.versions(2)
	r.start("m:v1", "all")
	r.start("m:v2", "all")
	if res := r.rollback("all"); len(res.Moved) != 1 || r.wants("d1") != v[0] {
		t.Errorf("rollback = %+v, d1 wants %s, want v1", res, r.wants("d1").Short())
	}
}

// What the device runs counts, not what was last wanted of it.
func TestRollbackGoesToWhatTheDeviceRan(t *testing.T) {
	r := newRig(t, "d1")
	v := r.versions(3)
	r.start("m:v1", "all")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
	r.start("m:v2", "all")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0], Failed: &protocol.Failure{Digest: v[1], Rev: 2, Code: "crash"}})
	r.start("m:v3", "all")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[2], Previous: v[0]})
	if r.rollback("all"); r.wants("d1") != v[0] {
		t.Errorf("d1 wants %s, want v1, which it ran before v3", r.wants("d1").Short())
	}
}

func TestRollbackToAVersionThatIsNotHere(t *testing.T) {
	r := newRig(t, "d1")
	v := r.versions(1)
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: protocol.Digest{99}}) // installed by hand
	r.start("m:v1", "all")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0], Previous: protocol.Digest{99}})
	res := r.rollback("all")
	if len(res.Refused) != 1 || !strings.Contains(res.Refused[0].Reason, "not in the registry") {
		t.Errorf("rollback = %+v, want d1 refused: not in the registry", res)
	}
}

func TestStartRefuses(t *testing.T) {
	r := newRig(t, "pump-1")
	r.versions(1)
	unsigned := registrytest.Open(t, r.store, r.keys, nil)
	registrytest.Add(t, unsigned, "m", 50)
	for _, tt := range []struct {
		ref    string
		target Target
		want   error
		hint   string
	}{
		{"m:v2", Target{All: true}, ErrUnsigned, "m:v2"},
		{"m:v3", Target{All: true}, ErrNotFound, "m:v2"},
		{"n", Target{All: true}, ErrNotFound, "m"},
		{"m:v1", Target{Filter: "id=pump-9"}, ErrNoDevices, "pump-9"},
		{"m:v1", Target{Devices: []string{"pump-1", "pump-2"}}, ErrNotFound, `"pump-2": not found; did you mean "pump-1"?`},
		{"m:v1", Target{Devices: []string{"Pump"}}, ErrTarget, ""},
		{"m:v1", Target{Filter: "site"}, ErrTarget, ""},
		{"m:v1", Target{Filter: "kernal=generic"}, ErrTarget, `did you mean "kernel"?`},
		{"m:v1", Target{Filter: "model.n!=v1"}, ErrTarget, `there is no model "n"; did you mean "model.m"?`},
		{"m:v1", Target{}, ErrTarget, ""},
		{"m:v1", Target{All: true, Devices: []string{"pump-1"}}, ErrTarget, ""},
	} {
		_, err := r.Start(t.Context(), tt.ref, tt.target)
		if !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.hint) {
			t.Errorf("Start(%s, %v) = %v, want %v with %q", tt.ref, tt.target, err, tt.want, tt.hint)
		}
	}
	if _, err := r.Status(t.Context(), "m", Query{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Status after refused starts = %v, want ErrNotFound", err)
	}
	if _, err := r.Rollback(t.Context(), "m", Target{All: true}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Rollback without a rollout = %v, want ErrNotFound", err)
	}
	r.key = nil
	if _, err := r.Start(t.Context(), "m:v1", Target{All: true}); !errors.Is(err, ErrNoKey) {
		t.Errorf("Start without the rollout key = %v, want ErrNoKey", err)
	}
}

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		err     error
	}{
		{"all", "all", nil},
		{"site=oslo", "site=oslo", nil},
		{"b,a,b", "a,b", nil},
		{"a", "a", nil},
		{"", "", ErrTarget},
		{"a,", "", ErrTarget},
		{"a b", "", ErrTarget},
		{"a,site=oslo", "", ErrTarget},
		{"=x", "", ErrTarget},
		{"site=", "", ErrTarget},
	} {
		got, err := ParseTarget(tt.in)
		if !errors.Is(err, tt.err) || err == nil && got.String() != tt.out {
			t.Errorf("ParseTarget(%q) = %q, %v, want %q, %v", tt.in, got, err, tt.out, tt.err)
		}
	}
}

func TestNewDeviceJoinsTheNewestThatSelectsIt(t *testing.T) {
	r := newRig(t, "d1")
	r.add("o1", map[string]string{"site": "oslo"})
	v := r.versions(3)
	r.start("m:v1", "all")
	r.start("m:v2", "site=oslo")
	r.start("m:v3", "d1")
	r.add("d2", nil)
	r.add("o2", map[string]string{"site": "oslo"})
	r.expect("d1:v3:pending d2:v1:pending o1:v2:pending o2:v2:pending")
	if w, ok := r.stored("o2"); !ok || w.Models["m"].Active.Digest != v[1] {
		t.Errorf("o2's want is %+v, want v2", w)
	}
	r.rollback("site=oslo")
	r.add("o3", map[string]string{"site": "oslo"})
	r.add("d3", nil)
	if got := r.wants("o3"); got != v[0] {
		t.Errorf("a device that joins after the rollback wants %s, want v1", got.Short())
	}
	if got := r.wants("d3"); got != v[0] {
		t.Errorf("d3 wants %s, want v1", got.Short())
	}
	// A device of another site moves to oslo: what is newer for it there, it gets.
	r.start("m:v3", "site=oslo")
	if _, err := r.fleet.SetLabels(t.Context(), "d2", map[string]string{"site": "oslo"}); err != nil {
		t.Fatal(err)
	}
	if err := r.JoinNew(t.Context(), "d2"); err != nil {
		t.Fatal(err)
	}
	if got := r.wants("d2"); got != v[2] {
		t.Errorf("d2 in oslo wants %s, want v3", got.Short())
	}
	if err := r.JoinNew(t.Context(), "d9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("JoinNew of an unknown device = %v, want ErrNotFound", err)
	}
}

// The process died between adding a device and joining it.
func TestDeviceThatWasNotJoinedJoinsAtItsBirth(t *testing.T) {
	r := newRig(t, "d1")
	v := r.versions(1)
	r.start("m:v1", "all")
	if _, _, err := r.fleet.Add(t.Context(), "d2", nil); err != nil {
		t.Fatal(err)
	}
	birth, err := protocol.Birth{Format: protocol.Format, Boot: 1}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.handle("d2", protocol.TopicBirth, birth)
	if got := r.wants("d2"); got != v[0] {
		t.Errorf("d2 wants %s, want v1", got.Short())
	}
}

func TestDevicesJoinOnceThereIsARolloutKey(t *testing.T) {
	r := newRig(t)
	r.versions(1)
	r.add("d1", nil)
	r.start("m:v1", "all")
	if _, _, err := r.fleet.Add(t.Context(), "d2", nil); err != nil { // not joined
		t.Fatal(err)
	}
	key := r.Rollouts.key
	r.Rollouts.key = nil
	if err := r.joinAll(t.Context()); err != nil { // what Run begins with
		t.Errorf("joinAll = %v without a key, want it to wait for one", err)
	}
	birth, err := protocol.Birth{Format: protocol.Format, Boot: 7, Agent: "v1"}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.handle("d2", protocol.TopicBirth, birth)
	if d, err := r.fleet.Device(t.Context(), "d2"); err != nil || d.Birth == nil {
		t.Errorf("birth of d2 was not stored: %+v, %v", d, err)
	}
	r.Rollouts.key = key
	if err := r.joinAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.stored("d2"); !ok {
		t.Error("d2 wants nothing once the key is back")
	}
}

func TestHigherRevThanOursRaisesEpoch(t *testing.T) {
	r := newRig(t, "d1", "d2")
	v := r.versions(2)
	r.start("m:v1", "all")
	r.flush()
	r.broker.topics()
	// As after restoring a backup: the device has verified (0, 7).
	r.report("d1", protocol.Have{Epoch: 0, Rev: 7}, protocol.ModelHave{Active: v[1]})
	w, _ := r.stored("d1")
	if w.Epoch != 1 || w.Rev <= 7 || w.Models["m"].Active.Digest != v[0] {
		t.Errorf("want is (%d, %d) for %s, want epoch 1, rev above 7, v1", w.Epoch, w.Rev, w.Models["m"].Active.Digest.Short())
	}
	r.flush()
	if got := r.broker.topics(); !slices.Equal(got, []string{protocol.WantTopic(registrytest.Fleet, "d1")}) {
		t.Errorf("published %v, want d1's want again", got)
	}
	r.expect("d1:v1:pending d2:v1:pending")
	r.report("d1", protocol.Have{Epoch: w.Epoch, Rev: w.Rev}, protocol.ModelHave{Active: v[0], Previous: v[1]})
	if again, _ := r.stored("d1"); again.Epoch != w.Epoch || again.Rev != w.Rev {
		t.Errorf("an up-to-date report took the want to (%d, %d)", again.Epoch, again.Rev)
	}
	r.start("m:v2", "all")
	if next, _ := r.stored("d1"); !next.Newer(w.Epoch, w.Rev) {
		t.Errorf("the next want is (%d, %d), not above (%d, %d)", next.Epoch, next.Rev, w.Epoch, w.Rev)
	}
	// A device with no rollout here: its number is remembered for the first.
	r.add("d3", nil) // joins, so its own model first
	r.report("d2", protocol.Have{Epoch: 3, Rev: 1 << 51}, protocol.ModelHave{Active: v[0]})
	if w, _ := r.stored("d2"); w.Epoch != 4 {
		t.Errorf("d2's want has epoch %d, want 4", w.Epoch)
	}
	// Numbers that leave none above them are reported, not followed, and no obstacle
	// to what comes.
	for _, h := range []protocol.Have{{Epoch: 1<<53 - 1, Rev: 1}, {Epoch: 9, Rev: 1<<53 - 2}} {
		r.report("d3", h, protocol.ModelHave{Active: v[1]})
	}
	r.start("m:v1", "all")
	r.start("m:v2", "all")
	if w, _ := r.stored("d3"); w.Epoch != 0 || w.Models["m"].Active.Digest != v[1] {
		t.Errorf("d3's want is (%d, %d) for %s, want epoch 0 and v2", w.Epoch, w.Rev, w.Models["m"].Active.Digest.Short())
	}
}

// TestUsageIsCountedOnce sends reports twice, late and out of order.
func TestUsageIsCountedOnce(t *testing.T) {
	r := newRig(t, "d1")
	report := func(boot, seq, answered uint64) []byte {
		b, err := protocol.Usage{Format: 1, Boot: boot, Seq: seq, Counts: []protocol.UsageCount{
			{Model: "m", User: "ann", Answered: answered, Refused: 1, Micros: 10 * answered}, {Model: "m", User: "bob", Busy: answered},
		}}.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, b := range [][]byte{report(1, 1, 3), report(1, 2, 5), report(1, 2, 5), report(1, 1, 3), report(2, 1, 2)} {
		r.handle("d1", protocol.TopicUsage, b)
	}
	var got []store.UsageRow
	err := r.store.View(t.Context(), func(tx store.Tx) (err error) {
		got, err = tx.SumUsage(t.Context(), store.UsageQuery{By: []string{"device", "user"}, Limit: 10})
		return err
	})
	want := []store.UsageRow{
		{Key: []string{"d1", "ann"}, UsageCount: protocol.UsageCount{Answered: 7, Refused: 2, Micros: 70}},
		{Key: []string{"d1", "bob"}, UsageCount: protocol.UsageCount{Busy: 7}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("usage (-want +got), %v:\n%s", err, diff)
	}
	var ack protocol.Ack
	last := r.broker.sent[len(r.broker.sent)-1]
	if err := ack.UnmarshalBinary(last.payload); err != nil || ack != (protocol.Ack{Boot: 2, Seq: 1, Usage: true}) || len(r.broker.sent) != 5 {
		t.Errorf("%d acks, the last %+v, %v", len(r.broker.sent), ack, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the store fails
	if err := r.Handle(ctx, Report{"d1", protocol.TopicUsage, report(3, 1, 1)}); err == nil || len(r.broker.sent) != 5 {
		t.Errorf("Handle on a failing store = %v with %d acks, want an error and none", err, len(r.broker.sent)-5)
	}
}

func TestEventIsAcknowledgedOnceStored(t *testing.T) {
	r := newRig(t, "d1")
	e := protocol.Event{Boot: 2, Seq: 9, T: 1000, Kind: "activated", Model: "m", Digest: protocol.Digest{1}, Detail: "v1"}
	payload, err := e.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	stored := func() (n int) {
		err := r.store.View(context.Background(), func(tx store.Tx) error {
			events, err := tx.Events(context.Background(), "d1", 10)
			n = len(events)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return n
	}
	acks := 0
	r.broker.on = func(topic string) {
		acks++
		if n := stored(); n != 1 || topic != protocol.AckTopic(registrytest.Fleet, "d1") {
			t.Errorf("%s published with %d events stored, want the ack with 1", topic, n)
		}
	}
	r.handle("d1", protocol.TopicEvent, payload)
	r.handle("d1", protocol.TopicEvent, payload) // the ack was lost: told again, acknowledged again, stored once
	if acks != 2 {
		t.Errorf("%d acks, want 2", acks)
	}
	var ack protocol.Ack
	if err := ack.UnmarshalBinary(r.broker.sent[0].payload); err != nil || ack != (protocol.Ack{Boot: 2, Seq: 9}) || r.broker.sent[0].retain {
		t.Errorf("ack = %+v, %v", ack, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the store fails
	if err := r.Handle(ctx, Report{"d1", protocol.TopicEvent, payload}); err == nil || acks != 2 {
		t.Errorf("Handle on a failing store = %v with %d acks, want an error and none", err, acks-2)
	}
}

func TestBadReportsHarmNobodyElse(t *testing.T) {
	r := newRig(t, "d1", "d2")
	v := r.versions(1)
	r.start("m:v1", "all")
	w, _ := r.stored("d2")
	good, err := protocol.Have{Format: 1, Epoch: w.Epoch, Rev: w.Rev, Models: map[string]protocol.ModelHave{"m": {Active: v[0], Phase: protocol.PhaseIdle}}}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Handle(t.Context(),
		Report{"d1", protocol.TopicHave, []byte("{")},
		Report{"d1", protocol.TopicHave, []byte(`{"format":1,"models":{"M":{}}}`)},
		Report{"d1", protocol.TopicBirth, nil},
		Report{"d1", protocol.TopicUp, []byte("maybe")},
		Report{"d1", protocol.TopicEvent, []byte{0xff}},
		Report{"d1", protocol.TopicUsage, []byte{0xff}},
		Report{"d1", protocol.TopicWant, []byte{1}},
		Report{"d9", protocol.TopicUp, []byte(protocol.Online)},
		Report{"d2", protocol.TopicHave, good},
		Report{"d2", protocol.TopicUp, []byte(protocol.Online)},
	)
	if err != nil {
		t.Fatal(err)
	}
	r.expect("d1:v1:pending d2:v1:active")
	for id, want := range map[string]bool{"d1": false, "d2": true} {
		if d, err := r.fleet.Device(t.Context(), id); err != nil || d.Online != want || d.Seen.IsZero() {
			t.Errorf("%s: online %v, seen %v, %v, want online %v", id, d.Online, d.Seen, err, want)
		}
	}
	if err := r.SetAllOffline(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, online, err := r.fleet.Count(t.Context()); err != nil || online != 0 {
		t.Errorf("%d online after SetAllOffline, %v", online, err)
	}
}

func TestTransferIsPublishedBeforeTheWantThatNamesIt(t *testing.T) {
	r := newRig(t, "d1", "d2")
	m, _ := registrytest.Model(t, 128, 1) // two chunks and more
	v, err := r.reg.Add(t.Context(), "m", m, nil, registry.Info{})
	if err != nil {
		t.Fatal(err)
	}
	r.start("m:v1", "all")
	r.broker.fail = errors.New("gone")
	if err := r.Flush(t.Context()); err == nil {
		t.Error("Flush without a broker = nil")
	}
	r.broker.fail = nil
	r.flush()
	const F = registrytest.Fleet
	want := []string{}
	_, tr, err := r.reg.Announcement(t.Context(), v.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.Chunks) < 2 {
		t.Fatalf("%d chunks, want several", len(tr.Chunks))
	}
	for n := range tr.Chunks {
		want = append(want, protocol.ChunkTopic(F, v.Hash, n))
	}
	want = append(want, protocol.DescriptorTopic(F, v.Hash), protocol.WantTopic(F, "d1"), protocol.WantTopic(F, "d2"))
	published := func() []string {
		topics := r.broker.topics()
		slices.Sort(topics[max(len(topics)-2, 0):]) // wants do not wait for one another
		return topics
	}
	if d := cmp.Diff(want, published()); d != "" {
		t.Errorf("published (-want +got)\n%s", d)
	}
	r.flush()
	if got := r.broker.topics(); got != nil {
		t.Errorf("published %v with nothing new", got)
	}
	// What is retained is all that a device needs.
	var a artifact.Announcement
	if err := a.UnmarshalBinary(r.broker.retained[protocol.DescriptorTopic(F, v.Hash)]); err != nil {
		t.Fatal(err)
	}
	release, err := r.keys.Root.OpenRelease(a.Release)
	if err != nil {
		t.Fatal(err)
	}
	var payload []byte
	for n := range a.Descriptor.Chunks {
		payload = append(payload, r.broker.retained[protocol.ChunkTopic(F, v.Hash, n)]...)
	}
	if _, err := artifact.Unpack(a.Descriptor, payload, nil, release); err != nil {
		t.Errorf("what is retained does not unpack: %v", err)
	}
	w := r.open(r.broker.retained[protocol.WantTopic(F, "d1")])
	if w.Device != "d1" || w.Fleet != F || w.Models["m"].Active.Transfers[0].Hash != v.Hash {
		t.Errorf("want of d1 is %+v", w)
	}
	r.Republish() // the broker lost everything
	r.flush()
	if d := cmp.Diff(want, published()); d != "" {
		t.Errorf("published after a reconnect (-want +got)\n%s", d)
	}
}

// TestDamagedTransferStopsNoWant: who has the version, and who wants another, is told
// all the same.
func TestDamagedTransferStopsNoWant(t *testing.T) {
	r := newRig(t, "d1", "d2")
	r.versions(2)
	r.start("m:v1", "d1")
	r.start("m:v2", "d2")
	w, _ := r.stored("d1")
	hash := w.Models["m"].Active.Transfers[0].Hash
	err := r.store.View(t.Context(), func(tx store.Tx) error {
		row, err := tx.Transfer(t.Context(), hash)
		if err != nil {
			return err
		}
		files, err := filepath.Glob(filepath.Join(r.dir, "*", "*", row.Payload))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("files %v, %w", files, err)
		}
		return os.WriteFile(files[0], []byte("damaged"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	r.flush()
	for device, want := range map[string]bool{"d1": false, "d2": true} {
		b := r.broker.retained[protocol.WantTopic(registrytest.Fleet, device)]
		if b == nil {
			t.Errorf("the want of %s is not published", device)
			continue
		}
		hash := r.open(b).Models["m"].Active.Transfers[0].Hash
		if _, got := r.broker.retained[protocol.DescriptorTopic(registrytest.Fleet, hash)]; got != want {
			t.Errorf("the transfer of %s is published: %t, want %t", device, got, want)
		}
	}
}

// retrained adds three versions of m, each from the one before: the last layer
// alone is new in v3.
func (r *rig) retrained() []protocol.Digest {
	r.t.Helper()
	w := registrytest.Weights(32, 1)
	var out []protocol.Digest
	for i := range 3 {
		if i > 0 {
			w = registrytest.Retrained(w, uint64(i), i == 2)
		}
		v, err := r.reg.Add(r.t.Context(), "m", registrytest.ModelOf(r.t, w), nil, registry.Info{})
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, v.Digest)
	}
	return out
}

// offered returns the kinds that the want of a device names for m, smallest first.
func (r *rig) offered(device string) (kinds []string) {
	r.t.Helper()
	w, _ := r.stored(device)
	for i, ref := range w.Models["m"].Active.Transfers {
		kinds = append(kinds, ref.Kind)
		if i > 0 && ref.Size < w.Models["m"].Active.Transfers[i-1].Size {
			r.t.Errorf("%s: transfers are not in the order of their size", device)
		}
	}
	return kinds
}

func TestStartOffersUpdatesFromWhatDevicesHave(t *testing.T) {
	r := newRig(t, "d1", "d2", "d3", "d4")
	v := r.retrained()
	strange := protocol.Digest{0xee}
	r.start("m:v1", "all")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
	r.report("d2", protocol.Have{}, protocol.ModelHave{Active: strange, Previous: v[0]})
	r.report("d3", protocol.Have{}, protocol.ModelHave{Active: strange})
	r.start("m:v2", "all")
	check := func(when string, want map[string][]string) {
		t.Helper()
		got := map[string][]string{}
		for device := range want {
			got[device] = r.offered(device)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: offered (-want +got)\n%s", when, d)
		}
	}
	// d2 has v1 too, d3 another file, d4 nothing.
	check("v2", map[string][]string{"d1": {"delta", "full"}, "d2": {"delta", "full"}, "d3": {"full"}, "d4": {"full"}})
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[1], Previous: v[0]})
	r.start("m:v3", "all")
	check("v3", map[string][]string{"d1": {"head", "full"}, "d2": {"full"}, "d4": {"full"}}) // few run v1 now: none
	r.rollback("d1")
	check("back to v2, which d1 has", map[string][]string{"d1": {"full"}})
	s, err := r.Status(t.Context(), "m", Query{})
	if err != nil {
		t.Fatal(err)
	}
	full, err := r.reg.ByDigest(t.Context(), v[2])
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Devices[0]; d.Transfer != "cache" || d.Bytes != 0 {
		t.Errorf("d1 fetches %d bytes, %s, and has the version", d.Bytes, d.Transfer)
	}
	if d := s.Devices[1]; d.Transfer != protocol.KindFull || d.Bytes != int64(full.Bytes) {
		t.Errorf("d2 fetches %d bytes, %s, want all %d", d.Bytes, d.Transfer, full.Bytes)
	}
}

func TestStatusSaysWhatADeviceFetches(t *testing.T) {
	r := newRig(t, "d1")
	strange := protocol.Digest{0xee}
	v := r.retrained()
	r.start("m:v1", "all")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
	r.start("m:v2", "all")
	s, err := r.Status(t.Context(), "m", Query{})
	if err != nil {
		t.Fatal(err)
	}
	w, _ := r.stored("d1")
	ref := w.Models["m"].Active.Transfers[0]
	if d := s.Devices[0]; d.Transfer != protocol.KindDelta || d.Bytes != int64(ref.Size) {
		t.Errorf("d1 fetches %d bytes, %s, its want says %+v", d.Bytes, d.Transfer, ref)
	}
	after := func(what string, want string) {
		t.Helper()
		if s, err = r.Status(t.Context(), "m", Query{}); err != nil {
			t.Fatal(err)
		}
		if got := s.Devices[0].Transfer; got != want {
			t.Errorf("%s, d1 gets it by %s, want %s", what, got, want)
		}
	}
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[1], Previous: v[0]})
	after("once it runs v2", protocol.KindDelta)
	r.rollback("all")
	after("back to v1", "cache")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0], Previous: v[1]})
	r.start("m:v2", "all")
	after("v2 again", "cache")
	r.start("m:v3", "all")
	after("v3", protocol.KindDelta)
	r.rollback("all")
	r.report("d1", protocol.Have{Epoch: 9, Rev: 9}, protocol.ModelHave{Active: v[0], Previous: v[1]}) // asks for a newer want
	after("told anew of v2", "cache")
	r.report("d1", protocol.Have{}, protocol.ModelHave{Active: strange})
	r.start("m:v3", "all")
	r.report("d1", protocol.Have{Epoch: 99, Rev: 9}, protocol.ModelHave{Active: v[2], Previous: strange})
	after("told anew of what it fetched", protocol.KindFull)
}

// TestBasesAreBounded: updates are made from the versions that most devices run.
func TestBasesAreBounded(t *testing.T) {
	const versions = maxBases + 2
	r := newRig(t)
	w := registrytest.Weights(32, 1)
	var all []protocol.Digest
	for i := range versions + 1 {
		v, err := r.reg.Add(t.Context(), "m", registrytest.ModelOf(t, w), nil, registry.Info{})
		if err != nil {
			t.Fatal(err)
		}
		all, w = append(all, v.Digest), registrytest.Retrained(w, uint64(i), false)
	}
	for i, base := range all[:versions] {
		for n := range i + 1 { // one more of each version than of the one before
			id := fmt.Sprintf("d%d-%d", i, n)
			r.add(id, nil)
			r.report(id, protocol.Have{}, protocol.ModelHave{Active: base})
		}
	}
	r.start(fmt.Sprintf("m:v%d", versions+1), "all")
	list, err := r.reg.Transfers(t.Context(), all[versions])
	if err != nil {
		t.Fatal(err)
	}
	bases := map[string]bool{}
	for _, tr := range list {
		bases[tr.From] = true
	}
	if d := cmp.Diff(map[string]bool{"": true, "m:v3": true, "m:v4": true, "m:v5": true, "m:v6": true}, bases); d != "" {
		t.Errorf("updates are from (-want +got)\n%s", d)
	}
}

// TestDevicesJoinOnceTheStoreCanBeWritten: Run goes on meanwhile.
func TestDevicesJoinOnceTheStoreCanBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "d1")
		r.versions(1)
		r.start("m:v1", "all")
		if _, _, err := r.fleet.Add(t.Context(), "d2", nil); err != nil { // not joined
			t.Fatal(err)
		}
		writes := 0
		r.Rollouts.store = &flaky{r.store, func() error {
			if writes++; writes == 1 {
				return store.ErrFull
			}
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		r.Republish()
		synctest.Wait()
		if _, ok := r.stored("d2"); ok || !slices.Contains(r.broker.topics(), protocol.WantTopic(registrytest.Fleet, "d1")) {
			t.Error("what d1 wants is not published while d2 cannot join")
		}
		time.Sleep(2 * retryAfter)
		if _, ok := r.stored("d2"); !ok {
			t.Error("d2 wants nothing once the store can be written")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestUpdatesArePublishedAndCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "d1", "d2")
		v := r.retrained()
		registrytest.Add(t, r.reg, "other", 77)
		r.start("m:v1", "all")
		r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
		r.start("m:v2", "all")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		r.Republish()
		synctest.Wait()
		w, _ := r.stored("d1")
		held := map[string]bool{}
		look := func() {
			r.broker.mu.Lock()
			defer r.broker.mu.Unlock()
			for _, ref := range w.Models["m"].Active.Transfers {
				_, ok := r.broker.retained[protocol.DescriptorTopic(registrytest.Fleet, ref.Hash)]
				held[ref.Kind] = ok
			}
		}
		if look(); !held["delta"] || !held["full"] {
			t.Errorf("published: %v, want both", held)
		}
		time.Sleep(2 * time.Hour)
		if look(); !held["delta"] {
			t.Error("the delta was cleared while the want of d1 names it")
		}
		// The next want of d1 names it no more: the device has v2.
		r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[1], Previous: v[0]})
		r.start("other:v1", "all")
		time.Sleep(2 * time.Hour)
		if look(); held["delta"] || !held["full"] {
			t.Errorf("after the grace period: %v, want the full transfer alone", held)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestUnwantedTransferIsClearedAfterItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "d1")
		v := r.versions(2)
		r.start("m:v1", "all")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		hash := func(d protocol.Digest) string {
			ver, err := r.reg.ByDigest(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			return protocol.DescriptorTopic(registrytest.Fleet, ver.Hash)
		}
		held := func(d protocol.Digest) bool {
			r.broker.mu.Lock()
			defer r.broker.mu.Unlock()
			_, ok := r.broker.retained[hash(d)]
			return ok
		}
		if !held(v[0]) {
			t.Error("v1 was not published by Run")
		}
		time.Sleep(2 * time.Hour)
		if !held(v[0]) {
			t.Error("v1 was cleared while a device wants it")
		}
		r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]})
		r.start("m:v2", "all")
		time.Sleep(55 * time.Minute)
		if !held(v[0]) || !held(v[1]) {
			t.Errorf("within the grace period: v1 held %v, v2 held %v", held(v[0]), held(v[1]))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if held(v[0]) || !held(v[1]) {
			t.Errorf("after it: v1 held %v, v2 held %v", held(v[0]), held(v[1]))
		}
		r.rollback("all")
		synctest.Wait()
		if !held(v[0]) {
			t.Error("v1 was not published again when it was wanted again")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// TestRunRetriesUntilTheBrokerTakesIt: also where other things fall due before the
// retry.
func TestRunRetriesUntilTheBrokerTakesIt(t *testing.T) {
	for _, tt := range []struct{ begin, away time.Duration }{{0, 10 * time.Second}, {sweepEvery - retryAfter/2, 0}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, "d1")
			r.versions(1)
			r.broker.fail = errors.New("gone")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- r.Run(ctx) }()
			time.Sleep(tt.begin)
			r.start("m:v1", "all")
			time.Sleep(tt.away)
			synctest.Wait() // it was tried once at least
			r.broker.mu.Lock()
			r.broker.fail = nil
			r.broker.mu.Unlock()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := r.broker.topics(); len(got) == 0 || got[len(got)-1] != protocol.WantTopic(registrytest.Fleet, "d1") {
				t.Errorf("begun after %s, away for %s: published %v, want the want in the end", tt.begin, tt.away, got)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

// After each acknowledged step, a control plane on a copy of the files, as a
// kill leaves them, has the same wants and states.
func TestEveryStepIsFoundAfterACrash(t *testing.T) {
	r := newRig(t, "d1", "d2")
	v := r.versions(2)
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"start", func() { r.start("m:v1", "all") }},
		{"have", func() { r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0]}) }},
		{"start v2", func() { r.start("m:v2", "all") }},
		{"failure", func() {
			r.report("d1", protocol.Have{}, protocol.ModelHave{Active: v[0], Failed: &protocol.Failure{Digest: v[1], Rev: 2, Code: "crash"}})
		}},
		{"rollback", func() { r.rollback("d1") }},
		{"new device", func() { r.add("d3", nil) }},
		{"epoch", func() { r.report("d2", protocol.Have{Rev: 50}, protocol.ModelHave{Active: v[0]}) }},
	} {
		step.do()
		after := openRig(t, killed(t, r.dir))
		if d := cmp.Diff(r.status(), after.status()); d != "" {
			t.Errorf("killed after %s: status (-before +after)\n%s", step.name, d)
		}
		for _, id := range []string{"d1", "d2", "d3"} {
			a, _ := r.stored(id)
			b, _ := after.stored(id)
			if d := cmp.Diff(a, b); d != "" {
				t.Errorf("killed after %s: want of %s (-before +after)\n%s", step.name, id, d)
			}
		}
		after.Republish()
		after.flush()
		if got := after.open(after.broker.retained[protocol.WantTopic(registrytest.Fleet, "d1")]); got.Models["m"].Active.Digest != r.wants("d1") {
			t.Errorf("killed after %s: published %s for d1", step.name, got.Models["m"].Active.Digest.Short())
		}
	}
}

// killed copies a store as it is on disk now.
func killed(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "blobs"), os.DirFS(filepath.Join(dir, "blobs"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"control.db", "control.db-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestStatusPagesAndProgress(t *testing.T) {
	r := newRig(t, "d1", "d2", "d3")
	r.versions(2)
	r.start("m:v1", "all")
	r.start("m:v2", "d1")
	var got []string
	q := Query{Limit: 2}
	for {
		s, err := r.Status(t.Context(), "m", q)
		if err != nil {
			t.Fatal(err)
		}
		if s.Total != 3 || s.Counts[Pending] != 3 || len(s.Rollouts) != 2 || s.Rollouts[0].Counts[Pending] != 1 || s.Rollouts[1].Counts[Pending] != 2 {
			t.Errorf("status = %+v", s)
		}
		for _, d := range s.Devices {
			got = append(got, d.Device)
		}
		if q.After = s.Next; q.After == "" {
			break
		}
	}
	if !slices.Equal(got, []string{"d1", "d2", "d3"}) {
		t.Errorf("pages hold %v", got)
	}
	if names, err := r.Models(t.Context()); err != nil || !slices.Equal(names, []string{"m"}) {
		t.Errorf("Models = %v, %v", names, err)
	}
}

// Everything at once; the counters and the last wants must still add up.
func TestConcurrentUse(t *testing.T) {
	r := newRig(t, "d0", "d1", "d2", "d3")
	v := r.versions(2)
	r.start("m:v1", "all")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	var wg sync.WaitGroup
	for i := range 4 {
		id := fmt.Sprint("d", i)
		wg.Go(func() {
			for n := range 10 {
				h := protocol.Have{Format: 1, T: int64(n), Models: map[string]protocol.ModelHave{"m": {Active: v[n%2], Phase: protocol.PhaseIdle}}}
				b, err := h.AppendBinary(nil)
				if err == nil {
					err = r.Handle(context.Background(), Report{id, protocol.TopicHave, b})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for n := range 6 {
			if _, err := r.Start(context.Background(), fmt.Sprint("m:v", 1+n%2), Target{All: true}); err != nil {
				t.Error(err)
			}
			r.Republish()
		}
	})
	wg.Go(func() {
		for range 20 {
			if _, err := r.Status(context.Background(), "m", Query{}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.flush()
	r.expect(r.states())
	for i := range 4 {
		id := fmt.Sprint("d", i)
		w, _ := r.stored(id)
		if got := r.open(r.broker.retained[protocol.WantTopic(registrytest.Fleet, id)]); got.Rev != w.Rev {
			t.Errorf("%s: retained want has rev %d, stored %d", id, got.Rev, w.Rev)
		}
	}
}
