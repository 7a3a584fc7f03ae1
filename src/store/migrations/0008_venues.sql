-- What was sold at a venue opens there only, so an account may have sessions at several. `value` is what was paid, in
-- msat, for the last `value_of` of it (in the metric's unit), and `mint` at whose price: empty where at several.
CREATE TABLE venue_sessions (
    account    INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    venue      TEXT    NOT NULL,
    metric     TEXT    NOT NULL,
    mac        TEXT    NOT NULL,
    allotment  INTEGER NOT NULL,
    used       INTEGER NOT NULL DEFAULT 0,
    started_ms INTEGER NOT NULL,
    ends_ms    INTEGER NOT NULL,
    revision   INTEGER NOT NULL DEFAULT 0,
    value      INTEGER NOT NULL DEFAULT 0,
    value_of   INTEGER NOT NULL DEFAULT 0,
    mint       TEXT,
    PRIMARY KEY (account, venue, metric)
) STRICT, WITHOUT ROWID;
INSERT INTO venue_sessions
    SELECT s.account, s.venue, s.metric, s.mac, s.allotment, s.used, s.started_ms, s.ends_ms, s.revision,
           COALESCE(paid.amount, 0) * 1000, s.allotment, NULL
    FROM sessions s LEFT JOIN (
        SELECT g.account, g.metric, SUM(g.amount) AS amount
        FROM grants g JOIN sessions t ON t.account = g.account AND t.metric = g.metric
        WHERE g.granted_ms >= t.started_ms GROUP BY g.account, g.metric
    ) paid ON paid.account = s.account AND paid.metric = s.metric;
DROP TABLE sessions;
ALTER TABLE venue_sessions RENAME TO sessions;
CREATE INDEX sessions_by_end ON sessions (ends_ms);
