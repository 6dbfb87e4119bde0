-- Which values models were given on devices, as counts in the bins of their
-- reference, cumulative since a start of the agent: the newest report, and the one
-- that it is compared with. Counts are JSON arrays.

-- +goose Up
CREATE TABLE inputs (
	device  TEXT    NOT NULL,
	model   TEXT    NOT NULL,
	version BLOB    NOT NULL, -- model digest
	boot    INTEGER NOT NULL,
	t       INTEGER NOT NULL, -- the device's clock, as base_t
	counts  TEXT    NOT NULL,
	base_t  INTEGER NOT NULL, -- of the base, or of the first report
	base    TEXT    NOT NULL,
	PRIMARY KEY (device, model)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE inputs;
