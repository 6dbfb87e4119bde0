package store

import (
	"context"
	"time"

	"github.com/sandpiper-edge/sandpiper/protocol"
)

// Kinds of rollouts.
const (
	KindStart    = "start"
	KindRollback = "rollback"
)

// A Rollout is one change of what devices should run.
type Rollout struct {
	ID      int64
	Kind    string
	Model   string
	Number  uint64          // version; 0 in a rollback
	Digest  protocol.Digest // zero in a rollback
	Target  string
	Created time.Time
	Phase   string // of its plan; "" without one
}

const rolloutColumns = `id, kind, model, number, digest, target, created, phase`

func scanRollout(row scanner) (Rollout, error) {
	var r Rollout
	var digest []byte
	var created int64
	if err := row.Scan(&r.ID, &r.Kind, &r.Model, &r.Number, &digest, &r.Target, &created, &r.Phase); err != nil {
		return r, mapError(err)
	}
	var err error
	r.Digest, err = scanDigest(digest)
	r.Created = fromMillis(created)
	return r, err
}

// PutRollout adds a rollout and returns its id, higher than all before.
func (t Tx) PutRollout(ctx context.Context, r Rollout) (int64, error) {
	res, err := t.tx.ExecContext(ctx, `INSERT INTO rollouts (kind, model, number, digest, target, created, phase) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		r.Kind, r.Model, r.Number, digestArg(r.Digest), r.Target, millis(r.Created), r.Phase)
	if err != nil {
		return 0, mapError(err)
	}
	return res.LastInsertId()
}

// Rollout returns the rollout with this id.
func (t Tx) Rollout(ctx context.Context, id int64) (Rollout, error) {
	return scanRollout(t.tx.QueryRowContext(ctx, `SELECT `+rolloutColumns+` FROM rollouts WHERE id = ?`, id))
}

// NewestRollout returns the last rollout of a model.
func (t Tx) NewestRollout(ctx context.Context, model string) (Rollout, error) {
	return scanRollout(t.tx.QueryRowContext(ctx, `SELECT `+rolloutColumns+` FROM rollouts WHERE model = ? ORDER BY id DESC LIMIT 1`, model))
}

// Rollouts returns all rollouts of a model, oldest first.
func (t Tx) Rollouts(ctx context.Context, model string) ([]Rollout, error) {
	return collect(ctx, t.tx, scanRollout, `SELECT `+rolloutColumns+` FROM rollouts WHERE model = ? ORDER BY id`, model)
}

// RolloutModels returns the models that have rollouts, in order.
func (t Tx) RolloutModels(ctx context.Context) ([]string, error) {
	return collect(ctx, t.tx, scanString, `SELECT DISTINCT model FROM rollouts ORDER BY model`)
}

// Counts returns how many devices of a rollout are in each state.
func (t Tx) Counts(ctx context.Context, rollout int64) (map[string]int, error) {
	type count struct {
		state string
		n     int
	}
	counts, err := collect(ctx, t.tx, func(row scanner) (c count, err error) {
		return c, row.Scan(&c.state, &c.n)
	}, `SELECT state, n FROM counts WHERE rollout = ?`, rollout)
	m := make(map[string]int, len(counts))
	for _, c := range counts {
		m[c.state] = c.n
	}
	return m, err
}
