-- How a version did since a start of a device's agent, from its usage reports.

-- +goose Up
CREATE TABLE version_counts (
	device   TEXT    NOT NULL,
	boot     INTEGER NOT NULL,
	model    TEXT    NOT NULL,
	version  BLOB    NOT NULL, -- the first 8 bytes of the digest
	answered INTEGER NOT NULL,
	failed   INTEGER NOT NULL,
	latency  TEXT    NOT NULL, -- JSON: predictions by bucket
	PRIMARY KEY (device, boot, model, version)
) STRICT, WITHOUT ROWID;

-- A device that is removed leaves the counters of plans that have ended.
-- +goose StatementBegin
CREATE TRIGGER members_discounted AFTER DELETE ON members BEGIN
	UPDATE member_counts SET n = n - 1 WHERE rollout = OLD.rollout AND stage = OLD.stage AND state = OLD.state;
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER members_discounted;
DROP TABLE version_counts;
