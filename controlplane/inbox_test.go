package controlplane

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// One device may send events as large as the broker lets through, faster than
// they can be stored.
func TestInboxIsBoundedInBytes(t *testing.T) {
	var b inbox
	b.init()
	event := rollout.Report{Device: "a", Kind: protocol.TopicEvent, Payload: make([]byte, protocol.MaxPayload)}
	n := 0
	for b.put(event) {
		if n++; n > maxReports {
			t.Fatal("takes events without end")
		}
	}
	if most := maxReportBytes / protocol.MaxPayload; n != most {
		t.Errorf("took %d events, want %d", n, most)
	}
	if b.put(rollout.Report{Device: "a", Kind: protocol.TopicHave, Payload: []byte("{}")}) {
		t.Error("took a report over the bound")
	}
	for len(b.take()) > 0 {
	}
	if b.bytes != 0 {
		t.Errorf("%d bytes left in an empty inbox", b.bytes)
	}
	if !b.put(event) {
		t.Error("refused an event with room for it")
	}
}

// TestInboxKeepsBirthsInOrder: what a device told before a start is stored before that
// start is known.
func TestInboxKeepsBirthsInOrder(t *testing.T) {
	var b inbox
	b.init()
	told := []rollout.Report{
		{Device: "a", Kind: protocol.TopicBirth, Payload: []byte("start 1")},
		{Device: "a", Kind: protocol.TopicUsage, Payload: []byte("of start 1")},
		{Device: "a", Kind: protocol.TopicBirth, Payload: []byte("start 2")},
		{Device: "a", Kind: protocol.TopicUsage, Payload: []byte("of start 1, the last")},
	}
	for _, r := range told {
		if !b.put(r) {
			t.Fatalf("refused %q", r.Payload)
		}
	}
	if diff := cmp.Diff(told, b.take()); diff != "" {
		t.Errorf("took (-want +got):\n%s", diff)
	}
}

func TestInboxKeepsTheLatestState(t *testing.T) {
	var b inbox
	b.init()
	have := rollout.Report{Device: "a", Kind: protocol.TopicHave}
	for _, payload := range []string{"first", "the second", "last"} {
		have.Payload = []byte(payload)
		if !b.put(have) {
			t.Fatalf("refused %q", payload)
		}
	}
	if b.bytes != len("last") {
		t.Errorf("counts %d bytes, want %d", b.bytes, len("last"))
	}
	if batch := b.take(); len(batch) != 1 || string(batch[0].Payload) != "last" {
		t.Errorf("took %v, want the last report alone", batch)
	}
}

// TestWhenWritable: it waits for a store that is full or locked, for no other reason,
// and no longer than it may.
func TestWhenWritable(t *testing.T) {
	other := errors.New("another reason")
	for _, c := range []struct {
		name  string
		fails []error // one after the other, then nothing fails
		want  error
		waits int
	}{
		{"at once", nil, nil, 0},
		{"locked", []error{fmt.Errorf("presence: %w", store.ErrBusy)}, nil, 1},
		{"full, then locked", []error{store.ErrFull, store.ErrBusy, store.ErrBusy}, nil, 3},
		{"damaged", []error{store.ErrCorrupt}, store.ErrCorrupt, 0},
		{"locked, and then another reason", []error{store.ErrBusy, other}, other, 1},
		{"locked for ever", make([]error, 100), context.DeadlineExceeded, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 9*storeRetry+time.Millisecond)
				defer cancel()
				n, waits := 0, 0
				err := whenWritable(ctx, func(context.Context) error {
					if n++; n > len(c.fails) {
						return nil
					}
					if c.fails[n-1] == nil {
						return store.ErrBusy
					}
					return c.fails[n-1]
				}, func(error) { waits++ })
				if !errors.Is(err, c.want) || waits != c.waits {
					t.Errorf("%v after %d waits, want %v after %d", err, waits, c.want, c.waits)
				}
			})
		})
	}
}
