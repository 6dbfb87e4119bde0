package rollout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/registry/registrytest"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// get is what a device asks for.
func (r *rig) get(device string, g protocol.Get) {
	r.t.Helper()
	b, err := g.AppendBinary(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Ask(device, b)
}

// answers answers what is due at now.
func (r *rig) answers(now time.Time) (errs []error) {
	r.t.Helper()
	var last kept
	for {
		a, ok, _ := r.asks.take(now)
		if !ok {
			return errs
		}
		if err := r.answer(r.t.Context(), a, &last); err != nil {
			errs = append(errs, err)
		}
	}
}

// wantedHash is the transfer of the version with digest d.
func (r *rig) hash(d protocol.Digest) (string, *artifact.Transfer) {
	r.t.Helper()
	t, err := r.reg.Transfer(r.t.Context(), d)
	if err != nil {
		r.t.Fatal(err)
	}
	return t.Hash(), t
}

func TestGetIsAnsweredWithWhatTheWantNames(t *testing.T) {
	r := newRig(t, "d1", "d2")
	v := r.versions(2)
	r.start("m:v1", "d1")
	hash, tr := r.hash(v[0])
	other, _ := r.hash(v[1])
	r.broker.topics()
	now := time.Now().Add(time.Hour)

	r.get("d1", protocol.Get{Hash: hash, Bitmap: []byte{}})
	r.get("d1", protocol.Ask(hash, 0))
	if errs := r.answers(now); len(errs) > 0 {
		t.Fatal(errs)
	}
	r.broker.mu.Lock()
	sent := r.broker.sent
	r.broker.mu.Unlock()
	if len(sent) != 2 || sent[0].topic != protocol.BlockDescriptorTopic(registrytest.Fleet, "d1", hash) ||
		sent[1].topic != protocol.BlockTopic(registrytest.Fleet, "d1", hash, 0) || sent[0].retain || sent[1].retain {
		t.Fatalf("sent %v", r.broker.topics())
	}
	var m artifact.Announcement
	if err := m.UnmarshalBinary(sent[0].payload); err != nil || m.Descriptor.Hash() != hash {
		t.Errorf("announcement: %v", err)
	}
	if !bytes.Equal(sent[1].payload, tr.Chunk(0)) {
		t.Error("the chunk is not raw")
	}
	r.broker.topics()

	r.get("d1", protocol.Ask(other, 0))                                         // of another version
	r.get("d2", protocol.Ask(hash, 0))                                          // nothing is wanted of it
	r.get("d3", protocol.Ask(hash, 0))                                          // nobody knows it
	r.get("d1", protocol.Get{Hash: hash, Bitmap: bytes.Repeat([]byte{255}, 9)}) // more than there is
	r.Ask("d1", []byte("no get"))
	errs := r.answers(now.Add(time.Hour))
	for _, err := range errs {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("refused with %v, want ErrNotFound", err)
		}
	}
	if topics := r.broker.topics(); len(errs) != 3 || len(topics) != len(tr.Chunks) {
		t.Errorf("%d refused, sent %v", len(errs), topics)
	}
}

// One device that asks without end gets its rate and no more, and keeps no
// other waiting.
func TestGreedyDeviceKeepsNoneWaiting(t *testing.T) {
	var q asks
	q.init()
	start := time.Now()
	served := map[string]int{}
	const seconds = 2
	for at := range seconds * 1000 { // milliseconds
		now := start.Add(time.Duration(at) * time.Millisecond)
		for range 10 {
			q.put("greedy", protocol.Get{}, now)
		}
		if at%100 == 0 {
			if !q.put("modest", protocol.Get{}, now) {
				t.Fatalf("no room for the modest device after %d ms", at)
			}
		}
		for {
			a, ok, _ := q.take(now)
			if !ok {
				break
			}
			if a.device == "modest" && a.due.After(now) {
				t.Errorf("the modest device waits until %v", a.due.Sub(now))
			}
			served[a.device]++
		}
	}
	if n := served["greedy"]; n > seconds*64+1 || n < seconds*60 {
		t.Errorf("the greedy device got %d answers in %d s, want 64 a second", n, seconds)
	}
	if served["modest"] != seconds*10 {
		t.Errorf("the modest device got %d answers of %d", served["modest"], seconds*10)
	}
}

func TestAsksAreBounded(t *testing.T) {
	var q asks
	q.init()
	now := time.Now()
	for i := range 3 * maxAsks {
		q.put(fmt.Sprint("d", i), protocol.Get{}, now)
	}
	if len(q.waiting) != maxAsks {
		t.Errorf("%d wait, want at most %d", len(q.waiting), maxAsks)
	}
	for {
		if _, ok, _ := q.take(now); !ok {
			break
		}
	}
	q.take(now.Add(time.Second))
	if len(q.next) != 0 {
		t.Errorf("%d devices are remembered for nothing", len(q.next))
	}
}

func TestAnswerRunsUntilItsContextEnds(t *testing.T) {
	r := newRig(t, "d1")
	v := r.versions(1)
	r.start("m:v1", "d1")
	hash, _ := r.hash(v[0])
	got := make(chan string, 100)
	r.broker.on = func(topic string) { got <- topic }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Answer(ctx) }()
	for range 6 {
		r.get("d1", protocol.Ask(hash, 0))
		if topic := <-got; topic != protocol.BlockTopic(registrytest.Fleet, "d1", hash, 0) {
			t.Errorf("answered on %s", topic)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Answer = %v", err)
	}
}

// A device whose broker keeps nothing finds its want only when it is sent.
func TestWantIsSentAgainWithoutRetainedMessages(t *testing.T) {
	r := newRig(t, "d1")
	r.versions(1)
	r.start("m:v1", "d1")
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	birth := func(findings ...protocol.Finding) []string {
		t.Helper()
		r.broker.topics()
		b, err := protocol.Birth{Format: 1, Boot: 1, T: 1, Findings: findings}.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Handle(t.Context(), Report{Device: "d1", Kind: protocol.TopicBirth, Payload: b}); err != nil {
			t.Fatal(err)
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r.broker.topics()
	}
	if topics := birth(); len(topics) != 0 {
		t.Errorf("sent %v to a device that finds its want", topics)
	}
	want := protocol.WantTopic(registrytest.Fleet, "d1")
	if topics := birth(protocol.Finding{Code: protocol.FindingRetained, Text: "x"}); len(topics) != 1 || topics[0] != want {
		t.Errorf("sent %v, want %s", topics, want)
	}
}
