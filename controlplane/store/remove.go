package store

import "context"

// LiveMember returns the model of a rollout by a plan that has device as a member
// and whose phase is none of the given, "" if there is none.
func (t Tx) LiveMember(ctx context.Context, device string, ended ...string) (model string, err error) {
	query, args := `SELECT coalesce(min(r.model), '') FROM members m JOIN rollouts r ON r.id = m.rollout WHERE m.device = ?`, []any{device}
	for _, phase := range ended {
		query += ` AND r.phase <> ?`
		args = append(args, phase)
	}
	err = t.tx.QueryRowContext(ctx, query, args...).Scan(&model)
	return model, mapError(err)
}

// DropDevice forgets a device and all that it reported, but what was counted by
// day and the record of changes: ErrNotFound if there is none. Its events and
// counters go too, since they are numbered by its starts, which begin anew if
// the id is given again. The id is among Uncleared from here on.
func (t Tx) DropDevice(ctx context.Context, id string) error {
	for _, table := range []string{"members", "trials", "pairs", "desired", "wants", "events", "usage", "usage_reports", "version_counts", "closed_starts", "inputs"} {
		if _, err := t.tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE device = ?`, id); err != nil {
			return mapError(err)
		}
	}
	res, err := t.tx.ExecContext(ctx, `DELETE FROM devices WHERE id = ?`, id) // labels and slots go with it
	if err := oneRow(res, err); err != nil {
		return err
	}
	return t.SetMeta(ctx, uncleared+id, []byte{})
}

// uncleared begins the key of the setting that a removed device leaves: no id has a
// slash, and '0' follows it in ASCII.
const uncleared = "uncleared/"

// Uncleared returns up to limit devices, in order, that were removed and whose topics
// the broker may still hold. An id that was given again since is one of them.
func (t Tx) Uncleared(ctx context.Context, limit int) ([]string, error) {
	return collect(ctx, t.tx, scanString, `SELECT substr(key, length(?1) + 1) FROM meta WHERE key > ?1 AND key < 'uncleared0' ORDER BY key LIMIT ?2`, uncleared, limit)
}

// SetCleared records that the topics of removed devices were cleared.
func (t Tx) SetCleared(ctx context.Context, devices []string) error {
	for _, id := range devices {
		if _, err := t.tx.ExecContext(ctx, `DELETE FROM meta WHERE key = ?`, uncleared+id); err != nil {
			return mapError(err)
		}
	}
	return nil
}

// SetDeviceToken replaces the hash of a device's token.
func (t Tx) SetDeviceToken(ctx context.Context, id string, hash []byte) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE devices SET token = ? WHERE id = ?`, hash, id)
	return oneRow(res, err)
}
