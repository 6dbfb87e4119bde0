package agent

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// An outcome is how a request ended, for counting.
type outcome uint8

const (
	answered outcome = iota
	refused
	busy
)

// otherUser is who requests are counted for when the table is full.
const otherUser = "other"

type usageKey struct{ model, user string }

// usage counts requests by model and user since the start. It is written to
// flash and reported once a minute when it has changed, not per request.
type usage struct {
	mu      sync.Mutex // guards what follows
	boot    uint64
	counts  map[usageKey]protocol.UsageCount
	dirty   bool
	last    []byte // of the start before this one, until it was reported
	pending []byte // to be reported
}

func newUsage() *usage { return &usage{counts: make(map[usageKey]protocol.UsageCount)} }

// count adds one request. Models and users that are no ids are not counted:
// they came from no topic.
func (u *usage) count(model, user string, o outcome, took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	k := usageKey{model, user}
	c, known := u.counts[k]
	if !known {
		if protocol.CheckID(model) != nil {
			return
		}
		if len(u.counts) >= protocol.MaxCounts-1 {
			k = usageKey{otherUser, otherUser}
			c = u.counts[k]
		}
		c.Model, c.User = k.model, k.user
	}
	switch o {
	case answered:
		c.Answered++
		c.Micros += uint64(took.Microseconds())
	case refused:
		c.Refused++
	case busy:
		c.Busy++
	}
	u.counts[k] = c
	u.dirty = true
}

// predictions returns the number of answers of model since the start.
func (u *usage) predictions(model string) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	var n uint64
	for k, c := range u.counts {
		if k.model == model {
			n += c.Answered
		}
	}
	return n
}

// previous keeps what the start before this one counted, to be reported again:
// its last minute may not have been.
func (u *usage) previous(record []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last = record
}

// record returns the counters encoded, nil if they have not changed since the
// last call.
func (u *usage) record(now time.Time) ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.dirty {
		return nil, nil
	}
	m := protocol.Usage{Format: protocol.Format, Boot: u.boot, T: max(0, now.UnixMilli())}
	m.Counts = slices.SortedFunc(maps.Values(u.counts), func(x, y protocol.UsageCount) int {
		if c := strings.Compare(x.Model, y.Model); c != 0 {
			return c
		}
		return strings.Compare(x.User, y.User)
	})
	b, err := m.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	u.dirty = false
	u.pending = b
	return b, nil
}

// toReport returns the records to publish; reported gives them back as done.
func (u *usage) toReport() (records [][]byte, reported func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	last, pending := u.last, u.pending
	for _, b := range [][]byte{last, pending} {
		if b != nil {
			records = append(records, b)
		}
	}
	return records, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.last = nil
		if len(u.pending) > 0 && len(pending) > 0 && &u.pending[0] == &pending[0] {
			u.pending = nil
		}
	}
}

// flushUsage writes and reports the counters, if they have changed.
func (a *Agent) flushUsage() {
	b, err := a.usage.record(time.Now())
	if err != nil {
		a.cfg.Log.Error("encode usage", "err", err)
	}
	if b == nil {
		return
	}
	if err := a.cache.SetUsage(b); err != nil {
		a.setStorage(clip("write counters: " + err.Error()))
	}
	a.announce()
}
