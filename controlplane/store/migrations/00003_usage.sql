-- What devices counted, by start of their agents: of each start the report with
-- the highest seq, whose counters are cumulative.

-- +goose Up
CREATE TABLE usage_reports (
	device TEXT    NOT NULL,
	boot   INTEGER NOT NULL,
	seq    INTEGER NOT NULL,
	t      INTEGER NOT NULL, -- the device's clock
	PRIMARY KEY (device, boot)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage (
	device   TEXT    NOT NULL,
	boot     INTEGER NOT NULL,
	model    TEXT    NOT NULL,
	user     TEXT    NOT NULL,
	answered INTEGER NOT NULL,
	refused  INTEGER NOT NULL,
	busy     INTEGER NOT NULL,
	us       INTEGER NOT NULL, -- spent in the kernel
	PRIMARY KEY (device, boot, model, user)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE usage;
DROP TABLE usage_reports;
