-- Of an immutable version the bytes may go: its weights are then '', as is the
-- payload of its full transfer.

-- +goose Up
DROP TRIGGER versions_immutable;
-- +goose StatementBegin
CREATE TRIGGER versions_immutable BEFORE UPDATE ON versions
WHEN (OLD.envelope IS NOT NULL AND NEW.envelope IS NOT OLD.envelope)
	OR NEW.name <> OLD.name OR NEW.number <> OLD.number OR NEW.digest <> OLD.digest
	OR NEW.task <> OLD.task OR NEW.created <> OLD.created OR NEW.payload <> OLD.payload
	OR NEW.hash <> OLD.hash OR (NEW.weights <> OLD.weights AND NEW.weights <> '') OR NEW.report <> OLD.report
BEGIN
	SELECT RAISE(ABORT, 'a version is immutable');
END;
-- +goose StatementEnd
CREATE INDEX transfers_payload ON transfers (payload);

-- +goose Down
DROP INDEX transfers_payload;
DROP TRIGGER versions_immutable;
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
