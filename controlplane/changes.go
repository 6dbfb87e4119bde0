package controlplane

import (
	"context"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
	"github.com/sandpiper-edge/sandpiper/controlplane/recording"
	"github.com/sandpiper-edge/sandpiper/controlplane/store"
)

// Runs, searches and data sets are folders, and no rows of the store. A change of
// them is recorded once it is made; who asked for it hears of it after both.

func (c *ControlPlane) recorded(ctx context.Context, e audit.Entry) error {
	return c.store.Update(ctx, func(tx store.Tx) error { return tx.Audit(ctx, e) })
}

// RemoveRun removes a training run that is not under way. Errors: of run.Runs.
func (c *ControlPlane) RemoveRun(ctx context.Context, id string) error {
	r, _ := c.Runs.Show(id) // one that is damaged can be removed too
	if err := c.Runs.Remove(id); err != nil {
		return err
	}
	return c.recorded(ctx, audit.Entry{Action: audit.RunRemove, Model: r.Model, Detail: id})
}

// RemoveTuning removes a search that is not under way, with its data. Errors: of
// tune.Tunings.
func (c *ControlPlane) RemoveTuning(ctx context.Context, id string) error {
	s, _ := c.Tunings.Show(id) // one that is damaged can be removed too
	if err := c.Tunings.Remove(id); err != nil {
		return err
	}
	return c.recorded(ctx, audit.Entry{Action: audit.TuningRemove, Model: s.Model, Detail: id})
}

// StartRecording records the samples that match filter into the data set of that
// name, until it is stopped or, where d is above 0, for so long. ErrFilter for other
// topics.
func (c *ControlPlane) StartRecording(ctx context.Context, name, filter string, d time.Duration, maxBytes int64) (recording.Set, error) {
	if err := checkFilter(c.Fleet.Name(), filter); err != nil {
		return recording.Set{}, err
	}
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d).UTC()
	}
	s, err := c.Sets.Start(name, filter, until, maxBytes)
	if err != nil {
		return s, err
	}
	detail := fmt.Sprintf("%s from %s", name, filter)
	if d > 0 {
		detail += fmt.Sprintf(" for %s", d)
	}
	return s, c.recorded(ctx, audit.Entry{Action: audit.DataRecord, Detail: detail})
}

// StopRecording stops recording into a data set. recording.ErrNotFound.
func (c *ControlPlane) StopRecording(ctx context.Context, name string) (recording.Set, error) {
	before, err := c.Sets.Show(name)
	if err != nil {
		return before, err
	}
	s, err := c.Sets.Stop(name)
	if err != nil || before.State != recording.Recording {
		return s, err
	}
	return s, c.recorded(ctx, audit.Entry{Action: audit.DataStop, Detail: name})
}

// RemoveSet stops recording into a data set and removes it. recording.ErrNotFound.
func (c *ControlPlane) RemoveSet(ctx context.Context, name string) error {
	if err := c.Sets.Remove(name); err != nil {
		return err
	}
	return c.recorded(ctx, audit.Entry{Action: audit.DataRemove, Detail: name})
}
