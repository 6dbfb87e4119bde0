package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/broker"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Predict sends a request for a prediction to a device, as user cp, and
// returns its reply, both as sp1 has them: JSON or CBOR. An
// error reply is a reply. Errors: fleet.ErrNotFound, ErrOffline, ErrNoBroker,
// ErrTimeout, ErrTooLarge and protocol.ErrID.
func (c *ControlPlane) Predict(ctx context.Context, device, model string, payload []byte) ([]byte, error) {
	reply, err := c.predict(ctx, device, model, payload)
	if err != nil {
		return nil, fmt.Errorf("ask %s for a prediction of %s: %w", device, model, err)
	}
	return reply, nil
}

func (c *ControlPlane) predict(ctx context.Context, device, model string, payload []byte) ([]byte, error) {
	if err := errors.Join(protocol.CheckID(device), protocol.CheckID(model)); err != nil {
		return nil, err
	}
	if len(payload) > protocol.MaxPayload {
		return nil, fmt.Errorf("%w: %d bytes, a message has at most %d", ErrTooLarge, len(payload), protocol.MaxPayload)
	}
	d, err := c.Fleet.Device(ctx, device)
	if err != nil {
		return nil, err
	}
	if !c.Connected() {
		return nil, ErrNoBroker
	}
	switch {
	case d.Seen.IsZero():
		return nil, fmt.Errorf("%w: it has never connected", ErrOffline)
	case !d.Online:
		return nil, fmt.Errorf("%w: last heard of at %s", ErrOffline, d.Seen.Format(time.RFC3339))
	}
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.PredictTimeout)
		defer cancel()
	}
	corr, reply := c.replies.expect(device)
	defer c.replies.forget(device, corr)
	topic := protocol.PredictTopic(c.Fleet.Name(), device, model, fleet.ControlUser, corr)
	start := time.Now()
	err = (publisher{c}).Publish(ctx, topic, payload, false)
	if err == nil {
		select {
		case b := <-reply:
			return b, nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%w (%v)", ErrTimeout, time.Since(start).Round(time.Millisecond))
	}
	return nil, err
}

// replied hands a reply to the Predict that waits for it.
func (c *ControlPlane) replied(_ context.Context, m broker.Message) {
	if t, err := protocol.ParseTopic(m.Topic); err == nil {
		c.replies.deliver(t.Device, t.Corr, m.Payload)
	}
}

// replies matches replies to requests by device and correlation id.
type replies struct {
	mu      sync.Mutex // guards what follows
	prefix  string     // differs between processes
	n       uint64
	waiting map[[2]string]chan []byte
}

// expect returns an unused correlation id, and where its reply will come.
func (r *replies) expect(device string) (corr string, reply <-chan []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[[2]string]chan []byte{}
		r.prefix = fleet.NewToken()[:8] + "-"
	}
	r.n++
	corr = r.prefix + strconv.FormatUint(r.n, 36)
	c := make(chan []byte, 1)
	r.waiting[[2]string{device, corr}] = c
	return corr, c
}

func (r *replies) forget(device, corr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, [2]string{device, corr})
}

// deliver drops what nobody waits for, and a second reply.
func (r *replies) deliver(device, corr string, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.waiting[[2]string{device, corr}]; ok {
		select {
		case c <- payload:
		default:
		}
	}
}
