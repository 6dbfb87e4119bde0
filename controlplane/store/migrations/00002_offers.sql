-- A want offers at most one update, a transfer with a base, for each model:
-- the hash of it, '' for none. Every device with the same want is offered the
-- full transfer, so that is not written down.

-- +goose Up
ALTER TABLE desired ADD COLUMN offer TEXT NOT NULL DEFAULT '';
CREATE INDEX desired_offer ON desired (offer) WHERE offer <> '';

-- +goose Down
DROP INDEX desired_offer;
ALTER TABLE desired DROP COLUMN offer;
