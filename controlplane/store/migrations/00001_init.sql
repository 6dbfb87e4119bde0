-- The first schema. Times are UTC milliseconds. Digests are 32 bytes. Numbers
-- that devices report are at most 2^53.

-- +goose Up

CREATE TABLE meta (
	key   TEXT PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A version is immutable; only its signature may be added, once.
CREATE TABLE versions (
	name     TEXT    NOT NULL,
	number   INTEGER NOT NULL CHECK (number > 0),
	digest   BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
	task     TEXT    NOT NULL,
	created  INTEGER NOT NULL,
	payload  BLOB    NOT NULL, -- the release, as it is or would be signed
	envelope BLOB,             -- the signed release
	hash     TEXT    NOT NULL, -- its full transfer
	weights  TEXT    NOT NULL, -- blob of the float32 weights, '' after an import
	report   TEXT    NOT NULL, -- JSON, '' after an import
	PRIMARY KEY (name, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE aliases (
	name   TEXT    NOT NULL,
	alias  TEXT    NOT NULL,
	number INTEGER NOT NULL,
	PRIMARY KEY (name, alias),
	FOREIGN KEY (name, number) REFERENCES versions (name, number)
) STRICT, WITHOUT ROWID;

-- One encoding of a model. The payload is a blob.
CREATE TABLE transfers (
	hash       TEXT    PRIMARY KEY,
	digest     BLOB    NOT NULL,
	kind       TEXT    NOT NULL,
	base       BLOB,
	size       INTEGER NOT NULL,
	descriptor BLOB    NOT NULL,
	payload    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX transfers_digest ON transfers (digest);

CREATE TABLE devices (
	id      TEXT    PRIMARY KEY,
	token   BLOB    NOT NULL, -- SHA-256
	created INTEGER NOT NULL,
	online  INTEGER NOT NULL DEFAULT 0,
	seen    INTEGER NOT NULL DEFAULT 0,
	joined  INTEGER NOT NULL DEFAULT 0, -- 0: the rollouts have not looked at it since it was added or relabelled
	birth   BLOB,
	have    BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_unjoined ON devices (id) WHERE joined = 0;

CREATE TABLE labels (
	device TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
	key    TEXT NOT NULL,
	value  TEXT NOT NULL,
	PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_value ON labels (key, value, device);

CREATE TABLE users (
	id      TEXT    PRIMARY KEY,
	token   BLOB    NOT NULL,
	created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rollouts (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	kind    TEXT    NOT NULL CHECK (kind IN ('start', 'rollback')),
	model   TEXT    NOT NULL,
	number  INTEGER NOT NULL, -- 0 in a rollback: each device has its own
	digest  BLOB,
	target  TEXT    NOT NULL,
	created INTEGER NOT NULL
) STRICT;
CREATE INDEX rollouts_model ON rollouts (model, id);

-- What a device should run, and how far it is.
CREATE TABLE desired (
	device   TEXT    NOT NULL REFERENCES devices (id),
	model    TEXT    NOT NULL,
	digest   BLOB    NOT NULL,
	previous BLOB,             -- where a rollback goes; NULL: nowhere
	rollout  INTEGER NOT NULL REFERENCES rollouts (id),
	epoch    INTEGER NOT NULL, -- of the want that first named digest
	rev      INTEGER NOT NULL,
	state    TEXT    NOT NULL,
	code     TEXT    NOT NULL DEFAULT '',
	message  TEXT    NOT NULL DEFAULT '',
	changed  INTEGER NOT NULL,
	PRIMARY KEY (device, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX desired_digest ON desired (digest);
CREATE INDEX desired_model ON desired (model, device);

-- Counters are kept by the database itself, so that they cannot disagree with
-- the rows they count whatever is written, and by whom.
CREATE TABLE counts (
	rollout INTEGER NOT NULL,
	state   TEXT    NOT NULL,
	n       INTEGER NOT NULL,
	PRIMARY KEY (rollout, state)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER desired_counted AFTER INSERT ON desired BEGIN
	INSERT INTO counts VALUES (NEW.rollout, NEW.state, 1)
		ON CONFLICT (rollout, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER desired_recounted AFTER UPDATE OF rollout, state ON desired
WHEN OLD.rollout <> NEW.rollout OR OLD.state <> NEW.state BEGIN
	UPDATE counts SET n = n - 1 WHERE rollout = OLD.rollout AND state = OLD.state;
	INSERT INTO counts VALUES (NEW.rollout, NEW.state, 1)
		ON CONFLICT (rollout, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER desired_discounted AFTER DELETE ON desired BEGIN
	UPDATE counts SET n = n - 1 WHERE rollout = OLD.rollout AND state = OLD.state;
END;
-- +goose StatementEnd

-- The signed desired state of a device, as published. (epoch, rev) only grows.
CREATE TABLE wants (
	device   TEXT    PRIMARY KEY REFERENCES devices (id),
	epoch    INTEGER NOT NULL,
	rev      INTEGER NOT NULL,
	envelope BLOB
) STRICT, WITHOUT ROWID;

-- Transfers whose topics the broker may hold. unwanted is when the last want
-- that named it went away, 0 while one does.
CREATE TABLE announced (
	hash     TEXT    PRIMARY KEY,
	chunks   INTEGER NOT NULL,
	unwanted INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
	device   TEXT    NOT NULL,
	boot     INTEGER NOT NULL,
	seq      INTEGER NOT NULL,
	t        INTEGER NOT NULL, -- the device's clock
	received INTEGER NOT NULL,
	kind     TEXT    NOT NULL,
	model    TEXT    NOT NULL,
	digest   BLOB,
	detail   TEXT    NOT NULL,
	PRIMARY KEY (device, boot, seq)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER versions_immutable BEFORE UPDATE ON versions
WHEN OLD.envelope IS NOT NULL
	OR NEW.name <> OLD.name OR NEW.number <> OLD.number OR NEW.digest <> OLD.digest
	OR NEW.task <> OLD.task OR NEW.created <> OLD.created OR NEW.payload <> OLD.payload
	OR NEW.hash <> OLD.hash OR NEW.weights <> OLD.weights OR NEW.report <> OLD.report
BEGIN
	SELECT RAISE(ABORT, 'a version is immutable');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER wants_monotonic BEFORE UPDATE ON wants
WHEN (NEW.epoch, NEW.rev) < (OLD.epoch, OLD.rev)
BEGIN
	SELECT RAISE(ABORT, 'a want cannot go back');
END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE events;
DROP TABLE announced;
DROP TABLE wants;
DROP TABLE desired;
DROP TABLE counts;
DROP TABLE rollouts;
DROP TABLE users;
DROP TABLE labels;
DROP TABLE devices;
DROP TABLE transfers;
DROP TABLE aliases;
DROP TABLE versions;
DROP TABLE meta;
