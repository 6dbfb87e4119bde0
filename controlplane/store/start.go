package store

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Rows of usage_reports, usage and version_counts are of starts of an agent that are
// open: more may come of them. One is closed when the last report of it is here, or
// too many later ones are open. Its counters are then part of the sums, its rows are
// gone, and closed_starts has its number, so that a report of it that comes again is
// known, and one of a start that was never heard of is not taken for one.
const (
	// openStarts is how many starts beside the reported one remain open: as many as
	// an agent keeps reports of (package agent, maxEarlier). More are there only if
	// last reports are missing.
	openStarts = 64
	// closedAtOnce bounds how many of those beyond are closed with a report.
	closedAtOnce = 2
	// noStart is the boot of the sums in version_counts. Boots are not negative.
	noStart = -1
	// maxCount bounds sums, as it bounds numbers on the wire.
	maxCount = 1 << 53
)

// heard remembers that u came, and returns whether it is newer than what came before
// of its start. None is once that is closed.
func (t Tx) heard(ctx context.Context, device string, u protocol.Usage) (newer bool, err error) {
	if u.Seq <= 1 {
		if err := t.beginAnew(ctx, device, u.Boot); err != nil {
			return false, err
		}
	}
	n, err := t.rows(ctx, `INSERT INTO usage_reports SELECT ?1, ?2, ?3, ?4
		WHERE NOT EXISTS (SELECT 1 FROM closed_starts WHERE device = ?1 AND first <= ?2 AND last >= ?2)
		ON CONFLICT DO UPDATE SET seq = excluded.seq, t = excluded.t WHERE excluded.seq > seq`, device, u.Boot, u.Seq, u.T)
	return n > 0, err
}

// beginAnew closes all starts of a device and forgets their numbers, if the start that
// it is in by its birth, and reports of for the first time, is closed: its numbers
// begin anew, since its data folder was lost.
func (t Tx) beginAnew(ctx context.Context, device string, boot uint64) error {
	n, err := t.rows(ctx, `DELETE FROM closed_starts WHERE device = ?1 AND EXISTS (SELECT 1 FROM closed_starts c JOIN devices d ON d.id = c.device
		WHERE c.device = ?1 AND c.first <= ?2 AND c.last >= ?2 AND d.boot = ?2)`, device, boot)
	if err != nil || n == 0 {
		return err
	}
	open, err := collect(ctx, t.tx, scanBoot, `SELECT boot FROM usage_reports WHERE device = ?`, device)
	if err != nil {
		return err
	}
	for _, boot := range open {
		if err := t.addUp(ctx, device, boot); err != nil {
			return err
		}
	}
	return nil
}

// closeStarts closes what is over after a report of device that is of a start. A start
// sends the last report of each before it, so one of an earlier start than that which
// the device is in, by its birth, is the last one.
func (t Tx) closeStarts(ctx context.Context, device string, boot uint64) error {
	over, err := collect(ctx, t.tx, scanBoot, `SELECT boot FROM usage_reports WHERE device = ?1 AND boot = ?2 AND boot < (SELECT boot FROM devices WHERE id = ?1)
		UNION ALL SELECT * FROM (SELECT boot FROM usage_reports WHERE device = ?1 AND boot <> ?2 ORDER BY boot DESC LIMIT ?3 OFFSET ?4)`,
		device, boot, closedAtOnce, openStarts)
	if err != nil {
		return err
	}
	for _, boot := range over {
		err := t.addUp(ctx, device, boot)
		for _, s := range []string{ // the row of the start before goes on, and that of the start after becomes part of it
			`INSERT OR REPLACE INTO closed_starts SELECT ?1,
				coalesce((SELECT first FROM closed_starts WHERE device = ?1 AND last = ?2 - 1), ?2),
				coalesce((SELECT last FROM closed_starts WHERE device = ?1 AND first = ?2 + 1), ?2)`,
			`DELETE FROM closed_starts WHERE device = ?1 AND first = ?2 + 1`,
		} {
			if err == nil {
				_, err = t.rows(ctx, s, device, boot)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addUp adds what a start of device counted to the sums, and forgets it. Its usage is
// in usage_days already.
func (t Tx) addUp(ctx context.Context, device string, boot uint64) error {
	counts, err := collect(ctx, t.tx, scanVersionCount, `SELECT `+versionCountColumns+` FROM version_counts WHERE device = ? AND boot = ?`, device, boot)
	if err != nil {
		return err
	}
	for _, c := range counts {
		sum, err := scanVersionCount(t.tx.QueryRowContext(ctx, `SELECT `+versionCountColumns+` FROM version_counts
			WHERE device = ? AND boot = ? AND model = ? AND version = ?`, device, noStart, c.Model, c.Version[:]))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		c.Answered, c.Failed, c.N = min(c.Answered+sum.Answered, maxCount), min(c.Failed+sum.Failed, maxCount), min(c.N+sum.N, maxCount)
		c.Sum += sum.Sum
		c.Latency = addLatency(c.Latency, sum.Latency)
		if err := t.putVersion(ctx, device, noStart, c); err != nil {
			return err
		}
	}
	for _, table := range []string{"version_counts", "usage", "usage_reports"} {
		if _, err := t.rows(ctx, `DELETE FROM `+table+` WHERE device = ? AND boot = ?`, device, boot); err != nil {
			return err
		}
	}
	return nil
}

func addLatency(x, y []uint64) []uint64 {
	if len(x) < len(y) {
		x, y = y, x
	}
	for i, n := range y {
		x[i] = min(x[i]+n, maxCount)
	}
	return x
}

const versionCountColumns = `model, version, answered, failed, latency, n, e`

func scanVersionCount(row scanner) (c protocol.VersionCount, err error) {
	var version, latency []byte
	if err := row.Scan(&c.Model, &version, &c.Answered, &c.Failed, &latency, &c.N, &c.Sum); err != nil {
		return c, mapError(err)
	}
	copy(c.Version[:], version)
	return c, json.Unmarshal(latency, &c.Latency)
}

func scanBoot(row scanner) (boot uint64, err error) { return boot, row.Scan(&boot) }

// rows returns how many rows a statement changed.
func (t Tx) rows(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, mapError(err)
	}
	n, err := r.RowsAffected()
	return n, mapError(err)
}
