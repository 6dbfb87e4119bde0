package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// inputsSpan is how old the report is at least that a newer one is compared with, once
// there is one as old.
const inputsSpan = 24 * time.Hour

// Inputs are the values that a version was given on a device in about the last day,
// or since it answers there: counts in the bins of its reference.
type Inputs struct {
	Device  string
	Model   string
	Version protocol.Digest
	Since   time.Time // by the device's clock
	T       time.Time // of the newest report, likewise
	Counts  []uint64
}

// PutInputs stores a report of device, made at its time at. One of the same start and
// version is newer than what there is, since its counters are cumulative; what there
// is becomes the report that others are compared with, once that is a day old. One of
// an earlier start changes nothing.
func (t Tx) PutInputs(ctx context.Context, device string, boot uint64, at int64, c protocol.InputCount) error {
	counts, err := json.Marshal(c.Bins)
	if err != nil {
		return err
	}
	baseT, base := at, "[]"
	var version []byte
	var oldBoot uint64
	var oldT, oldBaseT int64
	var oldCounts, oldBase string
	err = mapError(t.tx.QueryRowContext(ctx, `SELECT version, boot, t, counts, base_t, base FROM inputs WHERE device = ? AND model = ?`, device, c.Model).
		Scan(&version, &oldBoot, &oldT, &oldCounts, &oldBaseT, &oldBase))
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	case oldBoot > boot:
		return nil
	case oldBoot == boot && string(version) == string(c.Version[:]):
		if baseT, base = oldBaseT, oldBase; at-oldBaseT >= inputsSpan.Milliseconds() {
			baseT, base = oldT, oldCounts
		}
	}
	_, err = t.tx.ExecContext(ctx, `INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		device, c.Model, c.Version[:], boot, at, string(counts), baseT, base)
	return mapError(err)
}

// Inputs returns what the models of device were given, by model.
func (t Tx) Inputs(ctx context.Context, device string) ([]Inputs, error) {
	return collect(ctx, t.tx, scanInputs, `SELECT device, `+inputColumns+` FROM inputs WHERE device = ? ORDER BY model`, device)
}

// InputsUnder returns what a version of a model was given on the devices of a plan
// below the given place that shall run it.
func (t Tx) InputsUnder(ctx context.Context, rollout int64, model string, version protocol.Digest, below int) ([]Inputs, error) {
	return collect(ctx, t.tx, scanInputs, `SELECT m.device, `+inputColumns+` FROM members m JOIN inputs i ON i.device = m.device AND i.model = ?
		WHERE m.rollout = ? AND m.n < ? AND m.role = 'active' AND i.version = ?`, model, rollout, below, version[:])
}

const inputColumns = `model, version, t, counts, base_t, base`

func scanInputs(row scanner) (in Inputs, err error) {
	var version []byte
	var since, at int64
	var counts, base string
	if err := row.Scan(&in.Device, &in.Model, &version, &at, &counts, &since, &base); err != nil {
		return in, mapError(err)
	}
	copy(in.Version[:], version)
	in.Since, in.T = time.UnixMilli(since).UTC(), time.UnixMilli(at).UTC()
	var before []uint64
	if err := errors.Join(json.Unmarshal([]byte(counts), &in.Counts), json.Unmarshal([]byte(base), &before)); err != nil {
		return in, fmt.Errorf("inputs of %s on %s: %w", in.Model, in.Device, err)
	}
	for i, n := range before {
		if i < len(in.Counts) {
			in.Counts[i] -= min(n, in.Counts[i])
		}
	}
	return in, nil
}
