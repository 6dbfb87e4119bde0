package rollout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// A Report is one message from a device, as it came. Kind is one of
// protocol.TopicHave, TopicBirth, TopicUp, TopicEvent, TopicUsage and
// TopicQuality.
type Report struct {
	Device  string
	Kind    protocol.TopicKind
	Payload []byte
}

// Handle stores reports in the given order, in one transaction, and moves the
// states of rollouts with them. When it returns nil, all that could be read is
// on disk, and only then are events and usage acknowledged to their devices. A report
// that cannot be read, or of an unknown device, is dropped and logged.
func (r *Rollouts) Handle(ctx context.Context, reports ...Report) error {
	c := r.change(r.now())
	var acks []Report // payload: the encoded ack
	err := r.store.Update(ctx, func(tx store.Tx) error {
		for _, rep := range reports {
			ack, err := c.handle(ctx, tx, rep)
			var bad *badReport
			if errors.As(err, &bad) {
				r.log.Warn("report dropped", "device", rep.Device, "kind", rep.Kind.String(), "err", bad.err)
				continue
			}
			if err != nil {
				return err
			}
			if ack != nil {
				acks = append(acks, Report{Device: rep.Device, Payload: ack})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store %d reports: %w", len(reports), err)
	}
	r.publish(c.wants)
	var g errgroup.Group
	g.SetLimit(inFlight)
	for _, a := range acks {
		g.Go(func() error {
			// A device whose ack is lost sends the report again.
			if err := r.pub.Publish(ctx, protocol.AckTopic(r.fleet, a.Device), a.Payload, false); err != nil {
				r.log.Debug("ack not sent", "device", a.Device, "err", err)
			}
			return nil
		})
	}
	return g.Wait()
}

// A badReport is the sender's fault, and no reason to fail the others.
type badReport struct{ err error }

func (e *badReport) Error() string { return e.err.Error() }

func (c *change) handle(ctx context.Context, tx store.Tx, rep Report) (ack []byte, err error) {
	if err := tx.SetSeen(ctx, rep.Device, c.at); err != nil {
		if errors.Is(err, ErrNotFound) {
			err = &badReport{fmt.Errorf("device %q: %w", rep.Device, err)}
		}
		return nil, err
	}
	switch rep.Kind {
	case protocol.TopicUp:
		online, err := protocol.ParseUp(rep.Payload)
		if err != nil {
			return nil, &badReport{err}
		}
		return nil, tx.SetOnline(ctx, rep.Device, online)
	case protocol.TopicBirth:
		return nil, c.birth(ctx, tx, rep)
	case protocol.TopicHave:
		return nil, c.have(ctx, tx, rep)
	case protocol.TopicEvent:
		return c.event(ctx, tx, rep)
	case protocol.TopicUsage:
		return c.usage(ctx, tx, rep)
	case protocol.TopicQuality:
		return nil, c.pairs(ctx, tx, rep)
	}
	return nil, &badReport{fmt.Errorf("not a report: %s", rep.Kind)}
}

func (c *change) birth(ctx context.Context, tx store.Tx, rep Report) error {
	var b protocol.Birth
	if err := b.UnmarshalBinary(rep.Payload); err != nil {
		return &badReport{err}
	}
	if err := tx.SetBirth(ctx, rep.Device, store.Birth{
		Agent: b.Agent, Kernel: b.Kernel, OS: b.OS, Arch: b.Arch, FreeBytes: b.FreeBytes, Boot: b.Boot, Raw: rep.Payload,
	}); err != nil {
		return err
	}
	if b.Found(protocol.FindingRetained) {
		c.wants = append(c.wants, rep.Device) // its broker did not keep the want for it
	}
	joined, err := tx.Joined(ctx, rep.Device)
	if err != nil || joined || c.r.key == nil {
		return err
	}
	return c.join(ctx, tx, rep.Device)
}

// maxNumber is the largest epoch and rev that a device is believed: half of what the
// wire holds, so that the next want has a number above it, and those after that.
const maxNumber = protocol.MaxInteger / 2

func (c *change) have(ctx context.Context, tx store.Tx, rep Report) error {
	var h protocol.Have
	if err := h.UnmarshalBinary(rep.Payload); err != nil {
		return &badReport{err}
	}
	if h.Epoch > maxNumber || h.Rev > maxNumber {
		return &badReport{fmt.Errorf("want (%d, %d) leaves too few numbers above it", h.Epoch, h.Rev)}
	}
	old, err := tx.DeviceHave(ctx, rep.Device)
	if err != nil || bytes.Equal(old, rep.Payload) { // retained, told again at every connect
		return err
	}
	if err := tx.SetHave(ctx, rep.Device, rep.Payload, slots(h)); err != nil {
		return err
	}
	d, err := c.load(ctx, tx, rep.Device)
	if err != nil {
		return err
	}
	if err := c.recordHave(ctx, tx, d, old); err != nil {
		return err
	}
	for _, row := range d.rows {
		next := observe(row, h)
		if next.State == row.State && next.Code == row.Code && next.Message == row.Message {
			continue
		}
		next.Changed = c.at
		if err := tx.PutDesired(ctx, next); err != nil {
			return err
		}
		if err := c.follow(ctx, tx, next); err != nil {
			return err
		}
		c.log(row, next)
	}
	if newer(h.Epoch, h.Rev, d.want.Epoch, d.want.Rev) {
		return c.raise(ctx, tx, d)
	}
	return nil
}

// slots lists where a device has which version.
func slots(h protocol.Have) []store.Slot {
	var out []store.Slot
	for model, m := range h.Models {
		var shadow, failed protocol.Digest
		if s := m.Shadow; s != nil && s.Version != "" {
			shadow = s.Digest
		}
		if m.Failed != nil {
			failed = m.Failed.Digest
		}
		for slot, d := range map[string]protocol.Digest{
			store.SlotActive: m.Active, store.SlotPrevious: m.Previous, store.SlotCandidate: m.Candidate,
			store.SlotShadow: shadow, store.SlotFailed: failed,
		} {
			if !d.IsZero() {
				out = append(out, store.Slot{Model: model, Slot: slot, Digest: d})
			}
		}
	}
	return out
}

// raise answers a device that has verified a newer want than any we know of:
// this store was restored from a backup. What it says now must still win.
func (c *change) raise(ctx context.Context, tx store.Tx, d device) error {
	c.r.log.Warn("device has a newer want than this control plane; raising epoch",
		"device", d.id, "epoch", d.have.Epoch, "rev", d.have.Rev, "our_epoch", d.want.Epoch, "our_rev", d.want.Rev)
	d.want.Epoch, d.want.Rev = nextRev(d.want, d.have)
	return c.putWant(ctx, tx, d, "")
}

func (c *change) event(ctx context.Context, tx store.Tx, rep Report) (ack []byte, err error) {
	var e protocol.Event
	if err := e.UnmarshalBinary(rep.Payload); err != nil {
		return nil, &badReport{err}
	}
	added, err := tx.PutEvent(ctx, store.Event{
		Device: rep.Device, Boot: e.Boot, Seq: e.Seq, At: time.UnixMilli(e.T).UTC(), Received: c.at,
		Kind: e.Kind, Model: e.Model, Digest: e.Digest, Detail: e.Detail,
	})
	if err == nil && added {
		err = c.recordEvent(ctx, tx, rep.Device, e)
	}
	if err != nil {
		return nil, err
	}
	return protocol.Ack{Boot: e.Boot, Seq: e.Seq}.AppendBinary(nil)
}

func (c *change) usage(ctx context.Context, tx store.Tx, rep Report) (ack []byte, err error) {
	var u protocol.Usage
	if err := u.UnmarshalBinary(rep.Payload); err != nil {
		return nil, &badReport{err}
	}
	if err := c.served(ctx, tx, rep.Device, u); err != nil {
		return nil, err
	}
	if err := tx.PutUsage(ctx, rep.Device, u, c.at); err != nil {
		return nil, err
	}
	for _, in := range u.Inputs {
		if err := tx.PutInputs(ctx, rep.Device, u.Boot, u.T, in); err != nil {
			return nil, err
		}
	}
	return protocol.Ack{Boot: u.Boot, Seq: u.Seq, Usage: true}.AppendBinary(nil)
}

const (
	// maxServed is how many predictions of a version a device is believed a second:
	// ten times what the smallest models take.
	maxServed = 1e7
	// servedBefore is how long a device may have predicted before it was added, or
	// this clock have gone wrong since.
	servedBefore = 24 * time.Hour
)

// served refuses more predictions than a device can have made since it was added.
func (c *change) served(ctx context.Context, tx store.Tx, device string, u protocol.Usage) error {
	for _, v := range u.Versions {
		n := float64(v.Answered) + float64(v.Failed)
		if n <= maxServed*servedBefore.Seconds() {
			continue
		}
		d, err := tx.Device(ctx, device)
		if err != nil {
			return err
		}
		since := max(c.at.Sub(d.Created), 0)
		if most := maxServed * (since + servedBefore).Seconds(); n > most {
			return &badReport{fmt.Errorf("version %x of %s predicted %.3g times since a start, and a device added %s ago at most %.3g times", v.Version, v.Model, n, since.Round(time.Second), most)}
		}
	}
	return nil
}

func (c *change) log(was, is store.Desired) {
	log := c.r.log.With("device", is.Device, "model", is.Model, "digest", is.Digest.Short())
	if is.State == Failed {
		log.Warn("device failed on version", "code", is.Code, "message", is.Message)
		return
	}
	log.Debug("device moved", "from", was.State, "to", is.State)
}

// SetAllOffline forgets who is online, before a new connection tells.
func (r *Rollouts) SetAllOffline(ctx context.Context) error {
	return r.store.Update(ctx, func(tx store.Tx) error { return tx.SetAllOffline(ctx) })
}
