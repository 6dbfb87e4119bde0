package rollout

import (
	"context"
	"errors"
	"fmt"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
	"github.com/sandpiper-edge/sandpiper/protocol"
)

// ErrMember: the device is in a rollout by a plan that is under way.
var ErrMember = errors.New("in a rollout that is under way")

// Remove forgets a device: what it should run, what it reported, and who it is.
// Its topics at the broker are cleared. ErrNotFound, or ErrMember while a plan
// counts on it.
func (r *Rollouts) Remove(ctx context.Context, device string) error {
	err := r.store.Update(ctx, func(tx store.Tx) error {
		model, err := tx.LiveMember(ctx, device, ended...)
		if err != nil {
			return err
		}
		if model != "" {
			return fmt.Errorf("%w of %s; wait for its end, or abort it", ErrMember, model)
		}
		if err := tx.DropDevice(ctx, device); err != nil {
			return err
		}
		return tx.Audit(ctx, audit.Entry{Action: audit.DeviceRemove, Device: device})
	})
	if err != nil {
		return fmt.Errorf("remove device %s: %w", device, err)
	}
	r.outbox.signal()
	return nil
}

// clearRemoved clears the topics of the devices that were removed.
func (r *Rollouts) clearRemoved(ctx context.Context) error {
	for {
		var devices []string
		err := r.store.View(ctx, func(tx store.Tx) (err error) {
			devices, err = tx.Uncleared(ctx, flushPage)
			return err
		})
		if err != nil || len(devices) == 0 {
			return err
		}
		for _, id := range devices {
			if err := r.clearDevice(ctx, id); err != nil {
				return fmt.Errorf("clear topics of %s: %w", id, err)
			}
		}
		err = r.store.Update(ctx, func(tx store.Tx) error { return tx.SetCleared(ctx, devices) })
		if err != nil {
			return err
		}
	}
}

// clearDevice removes what the broker keeps of a device that is no more.
func (r *Rollouts) clearDevice(ctx context.Context, device string) error {
	for _, topic := range []string{
		protocol.WantTopic(r.fleet, device), protocol.HaveTopic(r.fleet, device),
		protocol.BirthTopic(r.fleet, device), protocol.UpTopic(r.fleet, device),
	} {
		if err := r.pub.Publish(ctx, topic, nil, true); err != nil {
			return err
		}
	}
	return nil
}
