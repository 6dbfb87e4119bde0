-- What was changed, by whom, and what devices reported to run: see package audit.

-- +goose Up
CREATE TABLE audit (
	seq      INTEGER PRIMARY KEY,
	received INTEGER NOT NULL,
	at       INTEGER NOT NULL,
	who      TEXT    NOT NULL,
	action   TEXT    NOT NULL,
	device   TEXT    NOT NULL,
	model    TEXT    NOT NULL,
	number   INTEGER NOT NULL,
	digest   BLOB,
	rollout  INTEGER NOT NULL,
	detail   TEXT    NOT NULL,
	hash     BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX audit_device ON audit (device, model, at) WHERE device <> '';
CREATE INDEX audit_rollout ON audit (rollout, seq) WHERE rollout <> 0 AND device = '';
CREATE INDEX audit_model ON audit (model, seq) WHERE model <> '';

-- +goose StatementBegin
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'the audit record is only added to'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'the audit record is only added to'); END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE audit;
