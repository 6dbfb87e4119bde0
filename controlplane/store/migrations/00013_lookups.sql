-- Who released a version is found without passing every device that ran it, and
-- the devices that have a version without passing those that have another.

-- +goose Up
CREATE INDEX audit_version ON audit (model, number) WHERE device = '' AND model <> '';
CREATE INDEX slots_digest ON slots (digest, slot, device);

-- +goose Down
DROP INDEX slots_digest;
DROP INDEX audit_version;
