package store

import "context"

// A Fault is a device that a rollout by a plan names.
type Fault struct {
	Rollout       int64
	Device        string
	Look          int
	Loss, Check   string
	Figure, Bound float64
	Message       string
}

// PutFault adds a fault, unless the rollout names the device already.
func (t Tx) PutFault(ctx context.Context, f Fault) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO faults VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		f.Rollout, f.Device, f.Look, f.Loss, f.Check, f.Figure, f.Bound, f.Message)
	return mapError(err)
}

// Faults returns up to limit faults of a rollout, by device, after the given one.
func (t Tx) Faults(ctx context.Context, rollout int64, after string, limit int) ([]Fault, error) {
	return collect(ctx, t.tx, func(row scanner) (f Fault, err error) {
		return f, mapError(row.Scan(&f.Rollout, &f.Device, &f.Look, &f.Loss, &f.Check, &f.Figure, &f.Bound, &f.Message))
	}, `SELECT rollout, device, look, loss, chk, figure, bound, message FROM faults WHERE rollout = ? AND device > ? ORDER BY device LIMIT ?`, rollout, after, limit)
}
