-- What devices told of the errors of versions, and what that was at moments of a
-- rollout that is judged by differences in differences.

-- +goose Up
ALTER TABLE version_counts ADD COLUMN n INTEGER NOT NULL DEFAULT 0; -- outputs whose truth is known
ALTER TABLE version_counts ADD COLUMN e REAL NOT NULL DEFAULT 0;    -- the sum of their absolute errors

CREATE TABLE marks (
	rollout INTEGER NOT NULL REFERENCES rollouts (id),
	mark    INTEGER NOT NULL, -- from 1
	device  TEXT    NOT NULL,
	other_n INTEGER NOT NULL, -- of all versions but the rollout's
	other_e REAL    NOT NULL,
	n       INTEGER NOT NULL, -- of the rollout's
	e       REAL    NOT NULL,
	PRIMARY KEY (rollout, mark, device)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE marks;
ALTER TABLE version_counts DROP COLUMN e;
ALTER TABLE version_counts DROP COLUMN n;
