package agent

import (
	"encoding/binary"
	"fmt"
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

// Bounds of what is kept of starts before this one; the oldest gives way, and
// the control plane is told. Starts that answered nobody keep nothing.
const (
	maxEarlier      = 64
	maxEarlierBytes = 256 << 10
)

// usage counts requests by model and user since the start. It is written to
// flash and reported once a minute when it has changed, not per request. What
// was counted is kept, over restarts too, until the control plane has
// acknowledged it as stored.
type usage struct {
	mu       sync.Mutex // guards what follows
	boot     uint64
	seq      uint64 // of the last record
	counts   map[usageKey]protocol.UsageCount
	versions map[versionKey]*versionUse
	uses     uint64 // of versions, to know which was used longest ago
	dirty    bool
	current  []byte            // the last record of this start; nil before the first
	acked    uint64            // seq of the newest record of this start that was acknowledged
	earlier  []usageRecord     // of starts before, not acknowledged; oldest first
	inputs   inputs            // has a lock of its own
	sent     map[uint64]uint64 // by boot the seq that this connection carried; nil before it was announced
}

// A usageRecord is a start's last record, encoded.
type usageRecord struct {
	boot, seq uint64
	data      []byte
}

func newUsage() *usage {
	return &usage{counts: make(map[usageKey]protocol.UsageCount), versions: make(map[versionKey]*versionUse)}
}

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

// restore takes over what the starts before this one had stored. It returns
// the boots whose records were given up for lack of room.
func (u *usage) restore(boot uint64, stored []byte) (lost []uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.boot = boot
	total := 0
	for _, data := range splitRecords(stored) {
		var m protocol.Usage
		if m.UnmarshalBinary(data) == nil && m.Boot < boot {
			u.earlier = append(u.earlier, usageRecord{m.Boot, m.Seq, data})
			total += len(data)
		}
	}
	for len(u.earlier) > maxEarlier || total > maxEarlierBytes {
		lost = append(lost, u.earlier[0].boot)
		total -= len(u.earlier[0].data)
		u.earlier = u.earlier[1:]
	}
	return lost
}

// stored is what restore reads: each record behind its length.
func (u *usage) stored() []byte {
	var b []byte
	for _, r := range append(u.earlier[:len(u.earlier):len(u.earlier)], usageRecord{data: u.current}) {
		if len(r.data) > 0 {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(r.data))), r.data...)
		}
	}
	return b
}

// splitRecords stops at what is no record: it was written by another version.
func splitRecords(b []byte) (records [][]byte) {
	for len(b) >= 4 {
		n := binary.BigEndian.Uint32(b)
		if uint64(n) > uint64(len(b)-4) {
			break
		}
		records = append(records, b[4:4+n])
		b = b[4+n:]
	}
	return records
}

// record returns what is to be stored, nil if nothing was counted since the
// last call.
func (u *usage) record(now time.Time) ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.dirty {
		return nil, nil
	}
	m := protocol.Usage{Format: protocol.Format, Boot: u.boot, Seq: u.seq + 1, T: max(0, now.UnixMilli())}
	m.Counts = slices.SortedFunc(maps.Values(u.counts), func(x, y protocol.UsageCount) int {
		if c := strings.Compare(x.Model, y.Model); c != 0 {
			return c
		}
		return strings.Compare(x.User, y.User)
	})
	m.Versions = u.versionCounts()
	m.Inputs = u.inputs.due(now)
	b, err := m.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	u.dirty = false
	u.seq, u.current = m.Seq, b
	return u.stored(), nil
}

// unsent returns the records that are not acknowledged and that this
// connection has not carried.
func (u *usage) unsent() (out []usageRecord) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sent == nil {
		return nil
	}
	all := u.earlier[:len(u.earlier):len(u.earlier)]
	if u.seq > u.acked {
		all = append(all, usageRecord{u.boot, u.seq, u.current})
	}
	for _, r := range all {
		if at, sent := u.sent[r.boot]; !sent || at < r.seq {
			out = append(out, r)
		}
	}
	return out
}

func (u *usage) markSent(r usageRecord) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sent != nil {
		u.sent[r.boot] = r.seq
	}
}

// again makes everything unsent: somebody new listens.
func (u *usage) again() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = make(map[uint64]uint64)
}

// hold keeps everything until again: a new connection is being announced.
func (u *usage) hold() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = nil
}

// acknowledge forgets what the control plane has stored. It returns what is to
// be stored in place of that, nil if nothing changed.
func (u *usage) acknowledge(ack protocol.Ack) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	if ack.Boot == u.boot {
		u.acked = max(u.acked, min(ack.Seq, u.seq))
		return nil
	}
	n := len(u.earlier)
	u.earlier = slices.DeleteFunc(slices.Clone(u.earlier), func(r usageRecord) bool { return r.boot == ack.Boot && r.seq <= ack.Seq })
	if len(u.earlier) == n {
		return nil
	}
	return append([]byte{}, u.stored()...) // not nil, even when nothing is left
}

// flushUsage writes and reports the counters, if they have changed.
func (a *Agent) flushUsage() {
	b, err := a.usage.record(a.wall())
	if err != nil {
		a.cfg.Log.Error("encode usage", "err", err)
	}
	if b == nil {
		return
	}
	a.storeUsage(b)
	a.announce()
}

func (a *Agent) storeUsage(b []byte) {
	if err := a.cache.SetUsage(b); err != nil {
		a.setStorage(clip("write counters: " + err.Error()))
	}
}

// restoreUsage takes over the counters of starts before this one.
func (a *Agent) restoreUsage(boot uint64) {
	stored, err := a.cache.Usage()
	if err != nil {
		a.cfg.Log.Error("read counters", "err", err)
	}
	for _, lost := range a.usage.restore(boot, stored) {
		a.notices.add(a.notice("usage_lost", "", protocol.Digest{}, fmt.Sprintf("counters of start %d gave way to later ones", lost)))
	}
}
