-- The devices that a staged rollout names: what a check found on each, with its
-- figure and bound. They stay when the device goes.

-- +goose Up
CREATE TABLE faults (
	rollout INTEGER NOT NULL REFERENCES rollouts (id),
	device  TEXT    NOT NULL,
	look    INTEGER NOT NULL, -- that found it
	loss    TEXT    NOT NULL, -- how it failed by itself; '' for one that did not
	chk     TEXT    NOT NULL,
	figure  REAL    NOT NULL,
	bound   REAL    NOT NULL,
	message TEXT    NOT NULL,
	PRIMARY KEY (rollout, device)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE faults;
