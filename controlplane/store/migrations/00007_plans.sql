-- Rollouts that spread by a plan. The plan and what is remembered of it are JSON
-- of package plan; what its devices were told, and how far they are, are rows.

-- +goose Up
ALTER TABLE rollouts ADD COLUMN phase TEXT NOT NULL DEFAULT ''; -- '' for one without a plan
CREATE INDEX rollouts_planned ON rollouts (id) WHERE phase <> '';

CREATE TABLE plans (
	rollout INTEGER PRIMARY KEY REFERENCES rollouts (id),
	plan    TEXT NOT NULL,
	state   TEXT NOT NULL
) STRICT;

-- The devices of a plan, in the order in which they get the version.
CREATE TABLE members (
	rollout INTEGER NOT NULL REFERENCES rollouts (id),
	n       INTEGER NOT NULL, -- from 0
	device  TEXT    NOT NULL REFERENCES devices (id),
	grp     TEXT    NOT NULL,
	stage   INTEGER NOT NULL, -- the first in which it runs the version
	role    TEXT    NOT NULL DEFAULT '', -- what it was told last
	judge   INTEGER NOT NULL DEFAULT 0,  -- under which number it was told to report
	told    INTEGER NOT NULL DEFAULT 0,  -- when
	boot    INTEGER NOT NULL DEFAULT 0,  -- the device's then
	lost    TEXT    NOT NULL DEFAULT '', -- why it failed by itself
	todo    INTEGER NOT NULL DEFAULT 0,  -- 1: what it is to do may have changed
	state   TEXT    NOT NULL DEFAULT 'waiting',
	PRIMARY KEY (rollout, n)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX members_device ON members (device, rollout);
CREATE INDEX members_todo ON members (rollout, n) WHERE todo = 1;

CREATE TABLE member_counts (
	rollout INTEGER NOT NULL,
	stage   INTEGER NOT NULL,
	state   TEXT    NOT NULL,
	n       INTEGER NOT NULL,
	PRIMARY KEY (rollout, stage, state)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER members_counted AFTER INSERT ON members BEGIN
	INSERT INTO member_counts VALUES (NEW.rollout, NEW.stage, NEW.state, 1)
		ON CONFLICT DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER members_recounted AFTER UPDATE OF state ON members
WHEN OLD.state <> NEW.state BEGIN
	UPDATE member_counts SET n = n - 1 WHERE rollout = OLD.rollout AND stage = OLD.stage AND state = OLD.state;
	INSERT INTO member_counts VALUES (NEW.rollout, NEW.stage, NEW.state, 1)
		ON CONFLICT DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd

-- What the want of a device says beside the versions it runs.
CREATE TABLE trials (
	device   TEXT    NOT NULL REFERENCES devices (id),
	model    TEXT    NOT NULL,
	rollout  INTEGER NOT NULL REFERENCES rollouts (id),
	shadow   BLOB,             -- digest; NULL: none
	judge    INTEGER NOT NULL, -- 0: it reports no pairs
	every_s  INTEGER NOT NULL,
	until    INTEGER NOT NULL,
	jitter_s INTEGER NOT NULL,
	win      TEXT    NOT NULL, -- of the device's day, '' for all of it
	PRIMARY KEY (device, model)
) STRICT, WITHOUT ROWID;

-- Of each start of a device the report of pairs that says most.
CREATE TABLE pairs (
	judge  INTEGER NOT NULL,
	device TEXT    NOT NULL,
	boot   INTEGER NOT NULL,
	heard  INTEGER NOT NULL, -- when the last one came, whatever it said
	report BLOB    NOT NULL,
	PRIMARY KEY (judge, device, boot)
) STRICT, WITHOUT ROWID;

CREATE TABLE looks (
	rollout INTEGER NOT NULL REFERENCES rollouts (id),
	look    INTEGER NOT NULL,
	at      INTEGER NOT NULL,
	record  TEXT    NOT NULL, -- JSON
	PRIMARY KEY (rollout, look)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE looks;
DROP TABLE pairs;
DROP TABLE trials;
DROP TABLE member_counts;
DROP TABLE members;
DROP TABLE plans;
DROP INDEX rollouts_planned;
ALTER TABLE rollouts DROP COLUMN phase;
