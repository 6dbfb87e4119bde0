package store

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// PutUsage stores a report of device. Its counters are cumulative since a start
// of the agent, so it takes the place of an older report of that start, and one
// that is not newer changes nothing: a report that comes twice counts once.
// What it adds is counted for the day of at. Starts that are over are closed:
// what comes of them again changes nothing either.
func (t Tx) PutUsage(ctx context.Context, device string, u protocol.Usage, at time.Time) error {
	newer, err := t.heard(ctx, device, u)
	if err != nil {
		return err
	}
	if newer {
		for _, c := range u.Counts {
			if err := t.addUsage(ctx, device, u.Boot, c, at); err != nil {
				return err
			}
			_, err := t.tx.ExecContext(ctx, `INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
				device, u.Boot, c.Model, c.User, c.Answered, c.Refused, c.Busy, c.Micros)
			if err != nil {
				return mapError(err)
			}
		}
		for _, c := range u.Versions {
			if err := t.putVersion(ctx, device, int64(u.Boot), c); err != nil {
				return err
			}
		}
	}
	return t.closeStarts(ctx, device, u.Boot)
}

// putVersion stores how a version did since a start of the agent.
func (t Tx) putVersion(ctx context.Context, device string, boot int64, c protocol.VersionCount) error {
	latency, err := json.Marshal(c.Latency)
	if err != nil {
		return err
	}
	_, err = t.tx.ExecContext(ctx, `INSERT OR REPLACE INTO version_counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		device, boot, c.Model, c.Version[:], c.Answered, c.Failed, string(latency), c.N, c.Sum)
	return mapError(err)
}

// addUsage adds to a day what c has more than the last report of the same start.
func (t Tx) addUsage(ctx context.Context, device string, boot uint64, c protocol.UsageCount, at time.Time) error {
	var old protocol.UsageCount
	err := mapError(t.tx.QueryRowContext(ctx, `SELECT answered, refused, busy, us FROM usage WHERE device = ? AND boot = ? AND model = ? AND user = ?`,
		device, boot, c.Model, c.User).Scan(&old.Answered, &old.Refused, &old.Busy, &old.Micros))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	more := func(now, before uint64) uint64 { return now - min(now, before) } // a device could count backwards
	_, err = t.tx.ExecContext(ctx, `INSERT INTO usage_days VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET answered = answered + excluded.answered, refused = refused + excluded.refused,
			busy = busy + excluded.busy, us = us + excluded.us`,
		at.UTC().Format(time.DateOnly), device, c.Model, c.User, more(c.Answered, old.Answered), more(c.Refused, old.Refused),
		more(c.Busy, old.Busy), more(c.Micros, old.Micros))
	return mapError(err)
}

// UsageColumns are what counted days can be summed by.
var UsageColumns = []string{"day", "device", "model", "user"}

// A UsageQuery sums counted days.
type UsageQuery struct {
	By                  []string // some of UsageColumns, the order of the rows too; none: one row
	From, To            string   // first and last day, YYYY-MM-DD; empty: no bound
	Device, Model, User string   // only of this one; empty: of all
	After               []string // key of the row before the first one, by By; nil: from the beginning
	Limit               int
}

// A UsageRow is a sum. Key has the values of UsageQuery.By.
type UsageRow struct {
	Key []string
	protocol.UsageCount
}

// SumUsage returns the sums that q asks for.
func (t Tx) SumUsage(ctx context.Context, q UsageQuery) ([]UsageRow, error) {
	where, args := []string{"1"}, []any{}
	bound := func(condition, value string) {
		if value != "" {
			where, args = append(where, condition), append(args, value)
		}
	}
	bound("day >= ?", q.From)
	bound("day <= ?", q.To)
	bound("device = ?", q.Device)
	bound("model = ?", q.Model)
	bound("user = ?", q.User)
	by := strings.Join(q.By, ", ") // names of columns
	if q.After != nil {
		where = append(where, "("+by+") > ("+strings.TrimSuffix(strings.Repeat("?, ", len(q.After)), ", ")+")")
		for _, v := range q.After {
			args = append(args, v)
		}
	}
	query := `SELECT sum(answered), sum(refused), sum(busy), sum(us)`
	for _, column := range q.By {
		query += ", " + column
	}
	query += ` FROM usage_days WHERE ` + strings.Join(where, " AND ")
	if by == "" {
		query += ` HAVING count(*) > 0` // no row, rather than one of nulls
	} else {
		query += ` GROUP BY ` + by + ` ORDER BY ` + by
	}
	scan := func(row scanner) (UsageRow, error) {
		r := UsageRow{Key: make([]string, len(q.By))}
		into := []any{&r.Answered, &r.Refused, &r.Busy, &r.Micros}
		for i := range r.Key {
			into = append(into, &r.Key[i])
		}
		return r, mapError(row.Scan(into...))
	}
	return collect(ctx, t.tx, scan, query+` LIMIT ?`, append(args, q.Limit)...)
}

// VersionCounts returns how the versions of a model did on the first devices of
// a plan, below so many: of each device and version one for each start of the agent that is
// open, and one for all that are closed.
func (t Tx) VersionCounts(ctx context.Context, rollout int64, model string, below int) ([]DeviceVersion, error) {
	return collect(ctx, t.tx, func(row scanner) (v DeviceVersion, err error) {
		var version, latency []byte
		if err := row.Scan(&v.Device, &v.Group, &version, &v.Answered, &v.Failed, &latency); err != nil {
			return v, mapError(err)
		}
		copy(v.Version[:], version)
		v.Model = model
		return v, json.Unmarshal(latency, &v.Latency)
	}, `SELECT m.device, m.grp, v.version, v.answered, v.failed, v.latency FROM members m JOIN version_counts v ON v.device = m.device
		WHERE m.rollout = ? AND m.n < ? AND m.role <> '' AND v.model = ?`, rollout, below, model)
}

// A DeviceVersion is how a version did on a device in some starts of its agent.
type DeviceVersion struct {
	Device, Group string
	protocol.VersionCount
}
