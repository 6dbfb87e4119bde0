package store

import "context"

// Errors are what a device of a plan has told of the errors of the rollout's version
// and of all others of its model, over all its starts.
type Errors struct {
	Device string
	// Others and Own count outputs whose truth is known, and OthersSum and OwnSum
	// are the sums of their absolute errors.
	Others    uint64
	OthersSum float64
	Own       uint64
	OwnSum    float64
}

func scanErrors(row scanner) (e Errors, err error) {
	return e, mapError(row.Scan(&e.Device, &e.Others, &e.OthersSum, &e.Own, &e.OwnSum))
}

const sumErrors = `sum(iif(v.version <> ?1, v.n, 0)), total(iif(v.version <> ?1, v.e, 0)), sum(iif(v.version = ?1, v.n, 0)), total(iif(v.version = ?1, v.e, 0))
	FROM members m JOIN version_counts v ON v.device = m.device WHERE m.rollout = ?2 AND v.model = ?3 GROUP BY m.device`

// Errors returns what the devices of a plan told of their errors until now. Version is
// the beginning of the digest of the rollout's.
func (t Tx) Errors(ctx context.Context, rollout int64, model string, version [8]byte) ([]Errors, error) {
	return collect(ctx, t.tx, scanErrors, `SELECT m.device, `+sumErrors, version[:], rollout, model)
}

// PutMark remembers what Errors returns, under a number.
func (t Tx) PutMark(ctx context.Context, rollout int64, mark int, model string, version [8]byte) error {
	_, err := t.tx.ExecContext(ctx, `INSERT OR REPLACE INTO marks SELECT ?2, ?4, m.device, `+sumErrors, version[:], rollout, model, mark)
	return mapError(err)
}

// Marked returns what PutMark remembered, in no order.
func (t Tx) Marked(ctx context.Context, rollout int64, mark int) ([]Errors, error) {
	return collect(ctx, t.tx, scanErrors, `SELECT device, other_n, other_e, n, e FROM marks WHERE rollout = ? AND mark = ?`, rollout, mark)
}

// DropMarks forgets what PutMark remembered for a rollout.
func (t Tx) DropMarks(ctx context.Context, rollout int64) error {
	_, err := t.tx.ExecContext(ctx, `DELETE FROM marks WHERE rollout = ?`, rollout)
	return mapError(err)
}
