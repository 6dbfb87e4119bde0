package store

import (
	"context"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// PutUsage stores a report of device. Its counters are cumulative since a start
// of the agent, so it takes the place of an older report of that start, and one
// that is not newer changes nothing: a report that comes twice counts once.
func (t Tx) PutUsage(ctx context.Context, device string, u protocol.Usage) error {
	r, err := t.tx.ExecContext(ctx, `INSERT INTO usage_reports VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET seq = excluded.seq, t = excluded.t WHERE excluded.seq > seq`, device, u.Boot, u.Seq, u.T)
	if err != nil {
		return mapError(err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return mapError(err)
	}
	for _, c := range u.Counts {
		_, err := t.tx.ExecContext(ctx, `INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			device, u.Boot, c.Model, c.User, c.Answered, c.Refused, c.Busy, c.Micros)
		if err != nil {
			return mapError(err)
		}
	}
	return nil
}

// Usage returns what device counted over all its starts, by model and user.
func (t Tx) Usage(ctx context.Context, device string) ([]protocol.UsageCount, error) {
	scan := func(row scanner) (c protocol.UsageCount, err error) {
		err = row.Scan(&c.Model, &c.User, &c.Answered, &c.Refused, &c.Busy, &c.Micros)
		return c, mapError(err)
	}
	return collect(ctx, t.tx, scan, `SELECT model, user, SUM(answered), SUM(refused), SUM(busy), SUM(us)
		FROM usage WHERE device = ? GROUP BY model, user ORDER BY model, user`, device)
}
