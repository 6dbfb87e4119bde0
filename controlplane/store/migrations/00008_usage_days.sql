-- What devices counted, by the day on which the control plane heard of it: UTC,
-- YYYY-MM-DD. It stays when a device is removed.

-- +goose Up
CREATE TABLE usage_days (
	day      TEXT    NOT NULL,
	device   TEXT    NOT NULL,
	model    TEXT    NOT NULL,
	user     TEXT    NOT NULL,
	answered INTEGER NOT NULL,
	refused  INTEGER NOT NULL,
	busy     INTEGER NOT NULL,
	us       INTEGER NOT NULL, -- spent in the kernel
	PRIMARY KEY (day, device, model, user)
) STRICT, WITHOUT ROWID;
-- Of what was counted before, only the day of the last report is known.
INSERT INTO usage_days
	SELECT date(r.t / 1000, 'unixepoch'), u.device, u.model, u.user, sum(u.answered), sum(u.refused), sum(u.busy), sum(u.us)
	FROM usage u JOIN usage_reports r ON r.device = u.device AND r.boot = u.boot
	GROUP BY 1, 2, 3, 4;

-- +goose Down
DROP TABLE usage_days;
