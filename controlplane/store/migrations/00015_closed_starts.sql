-- Starts of agents that are over, and what they counted added up: see Tx.PutUsage.
-- The sums of version_counts are those rows that have no start, boot -1.

-- +goose Up
CREATE TABLE closed_starts (
	device TEXT    NOT NULL,
	first  INTEGER NOT NULL, -- of consecutive numbers
	last   INTEGER NOT NULL,
	PRIMARY KEY (device, first)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE closed_starts;
