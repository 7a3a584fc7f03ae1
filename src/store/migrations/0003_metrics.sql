-- What is sold has a metric; an account may have a session of each. `used` counts bytes.
ALTER TABLE parts ADD COLUMN metric TEXT NOT NULL DEFAULT 'milliseconds';
ALTER TABLE grants ADD COLUMN metric TEXT NOT NULL DEFAULT 'milliseconds';

CREATE TABLE metered_sessions (
    account    INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    metric     TEXT    NOT NULL,
    mac        TEXT    NOT NULL,
    venue      TEXT    NOT NULL,
    allotment  INTEGER NOT NULL,
    used       INTEGER NOT NULL DEFAULT 0,
    started_ms INTEGER NOT NULL,
    ends_ms    INTEGER NOT NULL,
    revision   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account, metric)
) STRICT, WITHOUT ROWID;
INSERT INTO metered_sessions
    SELECT account, 'milliseconds', mac, venue, allotment, 0, started_ms, ends_ms, revision FROM sessions;
DROP TABLE sessions;
ALTER TABLE metered_sessions RENAME TO sessions;
CREATE INDEX sessions_by_end ON sessions (ends_ms);
