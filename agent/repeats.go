package agent

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

const (
	// repeatTime is how long the same request gets the same answer.
	repeatTime = time.Minute
	// Bounds of what is kept for that; the oldest gives way.
	maxRepeats     = 1024
	maxRepeatBytes = 256 << 10
)

// A repeatKey is the identity of a request: who asked what, under which
// correlation id. The payload is part of it because simple clients use one id
// for every request, and two different windows are two requests; a QoS 1
// duplicate has the same bytes.
type repeatKey struct {
	model, user, corr string
	payload           uint64
}

type repeat struct {
	key   repeatKey
	reply []byte
	until time.Time
}

// repeats is the cache of answers that makes a request safe to send twice.
type repeats struct {
	seed maphash.Seed

	mu    sync.Mutex // guards what follows
	byKey map[repeatKey][]byte
	order []repeat // oldest first
	bytes int
}

func newRepeats() *repeats {
	return &repeats{seed: maphash.MakeSeed(), byKey: make(map[repeatKey][]byte)}
}

func (r *repeats) key(t protocol.Topic, payload []byte) repeatKey {
	return repeatKey{t.Model, t.User, t.Corr, maphash.Bytes(r.seed, payload)}
}

func (r *repeats) get(k repeatKey, now time.Time) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	b, ok := r.byKey[k]
	return b, ok
}

func (r *repeats) put(k repeatKey, reply []byte, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	if _, known := r.byKey[k]; known {
		return
	}
	for len(r.order) > 0 && (len(r.order) >= maxRepeats || r.bytes+len(reply) > maxRepeatBytes) {
		r.forgetOldest()
	}
	if len(reply) > maxRepeatBytes {
		return
	}
	r.byKey[k] = reply
	r.order = append(r.order, repeat{k, reply, now.Add(repeatTime)})
	r.bytes += len(reply)
}

func (r *repeats) expire(now time.Time) {
	for len(r.order) > 0 && !now.Before(r.order[0].until) {
		r.forgetOldest()
	}
}

func (r *repeats) forgetOldest() {
	oldest := r.order[0]
	r.order = r.order[1:]
	delete(r.byKey, oldest.key)
	r.bytes -= len(oldest.reply)
}
