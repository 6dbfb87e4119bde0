-- What devices reported of themselves, in columns that filters can compare; NULL
-- where a device never reported. A device's slots are those of its last have.

-- +goose Up
ALTER TABLE devices ADD COLUMN agent TEXT;
ALTER TABLE devices ADD COLUMN kernel TEXT;
ALTER TABLE devices ADD COLUMN os TEXT;
ALTER TABLE devices ADD COLUMN arch TEXT;
ALTER TABLE devices ADD COLUMN free INTEGER;
ALTER TABLE devices ADD COLUMN boot INTEGER;
UPDATE devices SET
	agent = CAST(birth AS TEXT) ->> '$.agent', kernel = CAST(birth AS TEXT) ->> '$.kernel',
	os = CAST(birth AS TEXT) ->> '$.os', arch = CAST(birth AS TEXT) ->> '$.arch',
	free = CAST(birth AS TEXT) ->> '$.free_bytes', boot = CAST(birth AS TEXT) ->> '$.boot'
WHERE birth IS NOT NULL;

CREATE TABLE slots (
	device TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
	model  TEXT NOT NULL,
	slot   TEXT NOT NULL, -- active, previous, candidate, shadow, or failed: the last that did not make it
	digest BLOB NOT NULL,
	PRIMARY KEY (device, model, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO slots
SELECT d.id, m.key, s.column1, unhex(CASE s.column1 WHEN 'failed' THEN m.value ->> '$.failed.digest' ELSE m.value ->> ('$.' || s.column1) END)
FROM devices d, json_each(CAST(d.have AS TEXT), '$.models') m, (VALUES ('active'), ('previous'), ('candidate'), ('failed')) s
WHERE d.have IS NOT NULL AND CASE s.column1 WHEN 'failed' THEN m.value ->> '$.failed.digest' ELSE m.value ->> ('$.' || s.column1) END IS NOT NULL;

-- +goose Down
DROP TABLE slots;
ALTER TABLE devices DROP COLUMN boot;
ALTER TABLE devices DROP COLUMN free;
ALTER TABLE devices DROP COLUMN arch;
ALTER TABLE devices DROP COLUMN os;
ALTER TABLE devices DROP COLUMN kernel;
ALTER TABLE devices DROP COLUMN agent;
