package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/agent/link"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

const (
	// probeEvery is how often a new connection is probed: what a broker does
	// changes when it is configured or replaced, and a probe costs bytes.
	probeEvery = 24 * time.Hour
	// probeTimeout is how long a probe waits for what should come at once.
	probeTimeout = 10 * time.Second
	// A broker that waits for the acknowledgement of a small segment before it
	// sends the next, as mosquitto does with set_tcp_nodelay false, is held up
	// by the 40 ms in which Linux puts that off (Nagle, RFC 896; RFC 1122
	// §4.2.3.2). Each of delayProbes must be longer than delayFloor.
	delayProbes = 3
	delayFloor  = 25 * time.Millisecond
)

// Findings in words: what does not work, what that means, and what to do.
const (
	noRetained  = "the broker hands on no retained messages; chunks and wants are asked for from the control plane instead, which must be online; allow retained messages if it is yours"
	noWildcard  = "the broker hands on no retained messages for wildcards; this device needs none of those, other clients may"
	noChunks    = "a message of 32 KB, a chunk of a model, does not come through the broker; no update over 8 KB can be fetched until its limits of packet and message size are raised"
	delayed     = "the broker holds small messages back for %d ms; replies are that much later; switch Nagle's algorithm off there (mosquitto: set_tcp_nodelay true)"
	notListened = "%v; this device does not hear of updates, or of requests over MQTT; let it subscribe to its own topics (docs/protocol.md)"
)

// A network is what the device found out about its broker. The zero network
// has found nothing wrong.
type network struct {
	mu       sync.Mutex // guards what follows
	findings []protocol.Finding
	probed   time.Time // its monotonic part; zero: never
	sized    bool      // the size of messages was probed
	silent   bool      // retained messages do not come, whatever the reason
}

// list returns the findings.
func (n *network) list() []protocol.Finding {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.findings)
}

// set replaces the finding of a code, an empty text removes it, and reports
// whether that is new.
func (n *network) set(code, text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.findings, func(f protocol.Finding) bool { return f.Code == code })
	switch {
	case i >= 0 && n.findings[i].Text == text, i < 0 && text == "":
		return false
	case text == "":
		n.findings = slices.Delete(n.findings, i, i+1)
	case i >= 0:
		n.findings[i].Text = text
	default:
		n.findings = append(n.findings, protocol.Finding{Code: code, Text: text})
	}
	return true
}

// asks reports whether the control plane is to be asked before the broker.
func (n *network) asks() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.silent || slices.ContainsFunc(n.findings, func(f protocol.Finding) bool { return f.Code == protocol.FindingRetained })
}

// due reports whether a connection is to be probed now.
func (n *network) due() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.probed.IsZero() && time.Since(n.probed) < probeEvery {
		return false
	}
	n.probed = time.Now()
	n.silent, n.sized = false, false
	return true
}

// found records a finding and says a new one once.
func (a *Agent) found(code, text string) {
	text = clip(text)
	if a.network.set(code, text) && text != "" {
		a.cfg.Log.Warn("found about the broker", "what", code, "finding", text)
	}
}

// probe finds out what the broker of a new connection does. All of it is under
// 2 KB: what the device itself has retained comes back, and three small messages
// to itself are timed. A part that fails says nothing.
func (a *Agent) probe(ctx context.Context) {
	if !a.network.due() {
		return
	}
	before := a.network.list()
	a.probeRetained(ctx)
	a.probeDelay(ctx)
	if after := a.network.list(); !slices.Equal(before, after) && ctx.Err() == nil {
		if err := a.publishBirth(ctx); err != nil {
			a.cfg.Log.Debug("publish birth", "err", err)
		}
	}
}

// probeRetained subscribes to the device's presence, which is retained: by its
// exact topic, and by the wildcard for all topics of the device, which brings
// its three or four other retained messages once more. (A filter UP/# would
// bring presence alone, MQTT 3.1.1 §4.7.1.2, but mochi-mqtt does not know that.)
func (a *Agent) probeRetained(ctx context.Context) {
	up := protocol.UpTopic(a.cfg.Fleet, a.cfg.Device)
	all := strings.TrimSuffix(up, "up") + "+"
	for _, p := range []struct{ filter, code, text string }{
		{up, protocol.FindingRetained, noRetained},
		{all, protocol.FindingWildcard, noWildcard},
	} {
		_, err := a.subscribed(ctx, up, probeTimeout, p.filter, nil)
		switch {
		case err == nil:
			a.found(p.code, "")
		case errors.Is(err, errSilent):
			a.found(p.code, p.text)
		case errors.Is(err, link.ErrRefused):
			a.found(p.code, p.text+"; it refuses the subscription "+p.filter)
		default:
			return // the connection went
		}
	}
}

// probeDelay measures how long after the acknowledgement of a message to itself
// that message comes back: the broker sends both at once.
func (a *Agent) probeDelay(ctx context.Context) {
	topic := protocol.ProbeTopic(a.cfg.Fleet, a.cfg.Device)
	shortest := probeTimeout
	for range delayProbes {
		var acked time.Time
		_, err := a.subscribed(ctx, topic, probeTimeout, topic, func(ctx context.Context) error {
			err := a.link.Publish(ctx, link.Message{Topic: topic, Payload: []byte("probe"), QoS: 1})
			acked = time.Now()
			return err
		})
		if err != nil {
			return
		}
		shortest = min(shortest, time.Since(acked))
	}
	if shortest < delayFloor {
		a.found(protocol.FindingDelay, "")
		return
	}
	a.found(protocol.FindingDelay, fmt.Sprintf(delayed, shortest.Milliseconds()))
}

// probeSize sends itself a message of the size of a chunk, once: 64 KB is much
// on a metered link, so it is for when chunks do not come, and counts as they do.
func (a *Agent) probeSize(ctx context.Context) {
	a.network.mu.Lock()
	again := a.network.sized
	a.network.sized = true
	a.network.mu.Unlock()
	if again || a.budget.take(protocol.ChunkSize) != nil {
		return
	}
	topic := protocol.ProbeTopic(a.cfg.Fleet, a.cfg.Device)
	_, err := a.subscribed(ctx, topic, chunkTimeout, topic, func(ctx context.Context) error {
		return a.link.Publish(ctx, link.Message{Topic: topic, Payload: bytes.Repeat([]byte("p"), protocol.ChunkSize), QoS: 1})
	})
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		a.found(protocol.FindingPayload, "")
	default: // a broker that ends the connection is one that does not carry it, too
		a.found(protocol.FindingPayload, noChunks)
		_ = a.publishBirth(ctx) // if there is no connection any more, the next one does
	}
}

// refused words the filters that the broker refuses.
func (a *Agent) refused(err error) {
	a.found(protocol.FindingRefused, fmt.Sprintf(notListened, err))
}

// subscribed subscribes to filter, runs then, waits for a message on topic, and
// unsubscribes. The error wraps errSilent if none comes in time.
func (a *Agent) subscribed(ctx context.Context, topic string, limit time.Duration, filter string, then func(context.Context) error) ([]byte, error) {
	arrived := a.mail.expect(topic)
	defer a.mail.forget(topic, arrived)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: %w", topic, errSilent))
	defer cancel()
	if err := a.link.Subscribe(ctx, 1, filter); err != nil {
		return nil, err
	}
	defer a.link.Forget(filter)
	if then != nil {
		if err := then(ctx); err != nil {
			return nil, err
		}
	}
	select {
	case b := <-arrived:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// retained gets the message that the broker keeps on an exact topic.
func (a *Agent) retained(ctx context.Context, topic string) ([]byte, error) {
	return a.subscribed(ctx, topic, chunkTimeout, topic, nil)
}

// asked gets what the control plane answers to a get.
func (a *Agent) asked(ctx context.Context, topic string, get protocol.Get) ([]byte, error) {
	b, err := get.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return a.subscribed(ctx, topic, chunkTimeout, topic, func(ctx context.Context) error {
		return a.link.Publish(ctx, link.Message{Topic: protocol.GetTopic(a.cfg.Fleet, a.cfg.Device), Payload: b, QoS: 1})
	})
}

// transferred gets one message of a transfer, chunk n or, for -1, its
// announcement: from the broker, which keeps one for all devices, or else from
// the control plane, which sends it for this one. Where the broker was found to
// keep none it is asked second; what worked is tried first the next time.
func (a *Agent) transferred(ctx context.Context, hash string, n int) ([]byte, error) {
	f, d := a.cfg.Fleet, a.cfg.Device
	topic, block, get := protocol.DescriptorTopic(f, hash), protocol.BlockDescriptorTopic(f, d, hash), protocol.Get{Hash: hash, Bitmap: []byte{}}
	if n >= 0 {
		topic, block, get = protocol.ChunkTopic(f, hash, n), protocol.BlockTopic(f, d, hash, n), protocol.Ask(hash, n)
	}
	ask := a.network.asks()
	for try := 0; ; try++ {
		var b []byte
		var err error
		if ask {
			b, err = a.asked(ctx, block, get)
		} else {
			b, err = a.retained(ctx, topic)
		}
		if err == nil {
			a.network.worked(ask)
			return b, nil
		}
		if try > 0 || ctx.Err() != nil || !errors.Is(err, errSilent) && !errors.Is(err, link.ErrRefused) {
			if n >= 0 && errors.Is(err, errSilent) {
				a.probeSize(ctx)
			}
			return nil, err
		}
		ask = !ask
	}
}

// worked notes which way a transfer came.
func (n *network) worked(asked bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = asked
}
