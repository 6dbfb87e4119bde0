package store

import (
	"context"
	"errors"
	"time"

	"github.com/sandpiper-edge/sandpiper/controlplane/audit"
)

// Audit appends an entry about what its transaction changes: by audit.Who of ctx
// unless Who says another. Seq and Hash are set here; Received if it is zero is now,
// and At if it is zero is Received.
func (t Tx) Audit(ctx context.Context, e audit.Entry) error {
	head, err := t.AuditHead(ctx)
	if err != nil {
		return err
	}
	e.Seq = head.Seq + 1
	if e.Received.IsZero() {
		e.Received = time.Now().UTC().Truncate(time.Millisecond)
	}
	if e.At.IsZero() {
		e.At = e.Received
	}
	if e.Who == "" {
		e.Who = audit.Who(ctx)
	}
	e.Hash = audit.Next(head.Hash, e)
	_, err = t.tx.ExecContext(ctx, `INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, e.Seq, millis(e.Received), millis(e.At),
		e.Who, e.Action, e.Device, e.Model, e.Number, digestArg(e.Digest), e.Rollout, e.Detail, e.Hash[:])
	return mapError(err)
}

const auditColumns = `seq, received, at, who, action, device, model, number, digest, rollout, detail, hash`

func scanAudit(row scanner) (audit.Entry, error) {
	var e audit.Entry
	var received, at int64
	var digest, hash []byte
	err := row.Scan(&e.Seq, &received, &at, &e.Who, &e.Action, &e.Device, &e.Model, &e.Number, &digest, &e.Rollout, &e.Detail, &hash)
	if err != nil {
		return e, mapError(err)
	}
	e.Received, e.At = time.UnixMilli(received).UTC(), time.UnixMilli(at).UTC()
	copy(e.Hash[:], hash)
	e.Digest, err = scanDigest(digest)
	return e, err
}

// AuditHead returns where the chain ends; zero without an entry.
func (t Tx) AuditHead(ctx context.Context) (audit.Head, error) {
	e, err := scanAudit(t.tx.QueryRowContext(ctx, `SELECT `+auditColumns+` FROM audit ORDER BY seq DESC LIMIT 1`))
	if errors.Is(err, ErrNotFound) {
		return audit.Head{}, nil
	}
	return audit.Head{Seq: e.Seq, Hash: e.Hash}, err
}

// AuditFrom returns up to limit entries after the given one, in order.
func (t Tx) AuditFrom(ctx context.Context, after uint64, limit int) ([]audit.Entry, error) {
	return collect(ctx, t.tx, scanAudit, `SELECT `+auditColumns+` FROM audit WHERE seq > ? ORDER BY seq LIMIT ?`, after, limit)
}

// AuditOf returns up to limit entries before the given one (0: from the end on),
// newest first, of a device and a model; "" stands for any.
func (t Tx) AuditOf(ctx context.Context, device, model string, before uint64, limit int) ([]audit.Entry, error) {
	where, args := "", []any{}
	for _, c := range []struct{ column, value string }{{"device", device}, {"model", model}} {
		if c.value != "" {
			where, args = where+c.column+" = ? AND "+c.column+" <> '' AND ", append(args, c.value)
		}
	}
	if before == 0 {
		before = 1<<63 - 1
	}
	return collect(ctx, t.tx, scanAudit, `SELECT `+auditColumns+` FROM audit WHERE `+where+`seq < ? ORDER BY seq DESC LIMIT ?`,
		append(args, before, limit)...)
}

// Activations returns what a device ran at a time and before, newest first, up to
// limit entries: of one model, or of all if it is "".
func (t Tx) Activations(ctx context.Context, device, model string, at time.Time, limit int) ([]audit.Entry, error) {
	where, args := "", []any{device}
	if model != "" {
		where, args = " AND model = ?", append(args, model)
	}
	return collect(ctx, t.tx, scanAudit, `SELECT `+auditColumns+` FROM audit WHERE device <> '' AND device = ?`+where+
		` AND action = ? AND at <= ? ORDER BY at DESC, seq DESC LIMIT ?`, append(args, audit.DeviceActive, millis(at), limit)...)
}

// NextActivation returns what a device ran after e; ErrNotFound if nothing.
func (t Tx) NextActivation(ctx context.Context, e audit.Entry) (audit.Entry, error) {
	return scanAudit(t.tx.QueryRowContext(ctx, `SELECT `+auditColumns+` FROM audit WHERE device <> '' AND device = ? AND model = ?
		AND action = ? AND (at, seq) > (?, ?) ORDER BY at, seq LIMIT 1`, e.Device, e.Model, audit.DeviceActive, millis(e.At), e.Seq))
}

// RolloutEntry returns the entry of a rollout's beginning, or ErrNotFound.
func (t Tx) RolloutEntry(ctx context.Context, rollout int64) (audit.Entry, error) {
	return scanAudit(t.tx.QueryRowContext(ctx, `SELECT `+auditColumns+` FROM audit WHERE rollout = ? AND rollout <> 0 AND device = ''
		ORDER BY seq LIMIT 1`, rollout))
}

// ActiveModels returns the models that a device ever reported to run, in order.
func (t Tx) ActiveModels(ctx context.Context, device string) ([]string, error) {
	return collect(ctx, t.tx, scanString, `SELECT DISTINCT model FROM audit WHERE device <> '' AND device = ? AND action = ? ORDER BY model`,
		device, audit.DeviceActive)
}

// Released returns the entry of a version's release signature, or of its coming
// into being if that is all there is; ErrNotFound.
func (t Tx) Released(ctx context.Context, model string, number uint64) (audit.Entry, error) {
	return scanAudit(t.tx.QueryRowContext(ctx, `SELECT `+auditColumns+` FROM audit WHERE model = ? AND model <> '' AND number = ? AND device = ''
		AND action IN (?, ?) ORDER BY action = ? DESC, seq LIMIT 1`, model, number, audit.ModelAdd, audit.ModelSign, audit.ModelSign))
}

// VerifyAudit checks the whole record, and against a head that was kept elsewhere
// unless that is zero. audit.ErrBroken names the entry.
func (s *Store) VerifyAudit(ctx context.Context, known audit.Head) (audit.Head, error) {
	return s.verify(ctx, audit.Verifier{Known: known}, 0)
}

// VerifyNewest checks the last n entries of the record, and believes those before.
// audit.ErrBroken names the entry.
func (s *Store) VerifyNewest(ctx context.Context, n uint64) (audit.Head, error) {
	var from audit.Head
	err := s.View(ctx, func(tx Tx) error {
		end, err := tx.AuditHead(ctx)
		if err != nil || end.Seq <= n {
			return err
		}
		before, err := tx.AuditFrom(ctx, end.Seq-n-1, 1)
		if err == nil {
			from = audit.Head{Seq: before[0].Seq, Hash: before[0].Hash}
		}
		return err
	})
	if err != nil {
		return audit.Head{}, err
	}
	return s.verify(ctx, audit.After(from), from.Seq)
}

// verify gives v the entries after the one with the number last.
func (s *Store) verify(ctx context.Context, v audit.Verifier, last uint64) (audit.Head, error) {
	const page = 10_000
	for {
		var entries []audit.Entry
		err := s.View(ctx, func(tx Tx) (err error) {
			entries, err = tx.AuditFrom(ctx, last, page)
			return err
		})
		if err != nil {
			return audit.Head{}, err
		}
		for _, e := range entries {
			if err := v.Check(e); err != nil {
				return audit.Head{}, err
			}
			last = e.Seq
		}
		if len(entries) < page {
			return v.End()
		}
	}
}
