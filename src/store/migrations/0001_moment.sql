CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE moment (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    boot         TEXT NOT NULL,
    monotonic_ms INTEGER NOT NULL,
    service_ms   INTEGER NOT NULL,
    wall_floor   INTEGER NOT NULL
) STRICT;
