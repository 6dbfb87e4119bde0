-- Tokens of the HTTP API, and who must approve and who approved a version.

-- +goose Up
CREATE TABLE api_tokens (
	name    TEXT    PRIMARY KEY,
	role    TEXT    NOT NULL CHECK (role IN ('viewer', 'releaser', 'admin')),
	token   BLOB    NOT NULL UNIQUE, -- SHA-256
	created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE protections (
	model     TEXT    PRIMARY KEY,
	approvals INTEGER NOT NULL CHECK (approvals > 0) -- by others than who rolls a version out
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
	model  TEXT    NOT NULL,
	number INTEGER NOT NULL,
	who    TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	PRIMARY KEY (model, number, who),
	FOREIGN KEY (model, number) REFERENCES versions (name, number)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE approvals;
DROP TABLE protections;
DROP TABLE api_tokens;
