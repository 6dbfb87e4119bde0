package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/sandpiper-edge/sandpiper/agent/link"
)

const (
	// outputsKept and outputBytesKept bound the outputs that wait for a connection.
	outputsKept     = 256
	outputBytesKept = 64 << 10
)

// An outbound is an output of a pipeline on its way. An urgent one says that an
// alarm changed, or an anomaly. A fleeting one is not kept: the next says it again.
type outbound struct {
	link.Message
	urgent, fleeting bool
}

func (o outbound) size() int { return len(o.Topic) + len(o.Payload) }

// keptOutputs are outputs that found no connection. Where they are too many, the
// oldest gives way, urgent ones last.
type keptOutputs struct {
	mu    sync.Mutex // guards what follows
	waits []outbound // oldest first
	bytes int
}

// add keeps o and returns how many had to go for it.
func (k *keptOutputs) add(o outbound) (gone int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waits = append(k.waits, o)
	k.bytes += o.size()
	for ; len(k.waits) > outputsKept || k.bytes > outputBytesKept; gone++ {
		i := max(0, slices.IndexFunc(k.waits, func(o outbound) bool { return !o.urgent }))
		k.bytes -= k.waits[i].size()
		k.waits = slices.Delete(k.waits, i, i+1)
	}
	return gone
}

// first is what is sent next: the oldest urgent one, or the oldest.
func (k *keptOutputs) first() (o outbound, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waits) == 0 {
		return o, false
	}
	return k.waits[k.next()], true
}

func (k *keptOutputs) next() int {
	return max(0, slices.IndexFunc(k.waits, func(o outbound) bool { return o.urgent }))
}

// sent removes what first returned; nothing is added meanwhile.
func (k *keptOutputs) sent() {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.next()
	k.bytes -= k.waits[i].size()
	k.waits = slices.Delete(k.waits, i, i+1)
}

// appendBinary appends the outputs for the next start: urgent in a byte, lengths
// of topic and payload in two each, little-endian, and both.
func (k *keptOutputs) appendBinary(b []byte) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.waits {
		urgent := byte(0)
		if o.urgent {
			urgent = 1
		}
		b = binary.LittleEndian.AppendUint16(append(b, urgent), uint16(len(o.Topic)))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(o.Payload)))
		b = append(append(b, o.Topic...), o.Payload...)
	}
	return b
}

// unmarshal takes over what appendBinary wrote.
func (k *keptOutputs) unmarshal(b []byte) error {
	for len(b) > 0 {
		if len(b) < 5 {
			return errors.New("outputs: end early")
		}
		o := outbound{urgent: b[0] == 1}
		topic, payload := int(binary.LittleEndian.Uint16(b[1:])), int(binary.LittleEndian.Uint16(b[3:]))
		if b = b[5:]; len(b) < topic+payload {
			return errors.New("outputs: end early")
		}
		o.Topic, o.Payload = string(b[:topic]), slices.Clone(b[topic:topic+payload])
		b = b[topic+payload:]
		k.add(o)
	}
	return nil
}

// connect says that there is a connection.
func (p *pipelines) connect() {
	select {
	case p.online <- struct{}{}:
	default:
	}
}

// tell sends o now, or keeps it until there is a connection.
func (p *pipelines) tell(ctx context.Context, o outbound) {
	p.tellKept(ctx)
	if _, waits := p.kept.first(); !waits {
		if _, err := p.agent.link.Send(o.Message); err == nil {
			return
		}
	}
	if o.fleeting {
		return
	}
	if gone := p.kept.add(o); gone > 0 {
		p.lost.Add(uint64(gone))
	}
}

// tellKept sends what waits, at QoS 1: each goes once the broker has it.
func (p *pipelines) tellKept(ctx context.Context) {
	for {
		o, ok := p.kept.first()
		if !ok || !p.agent.link.Up() {
			return
		}
		o.QoS = 1
		if err := p.agent.link.Publish(ctx, o.Message); err != nil {
			p.agent.cfg.Log.Debug("output not sent", "topic", o.Topic, "err", err)
			return
		}
		p.kept.sent()
	}
}
