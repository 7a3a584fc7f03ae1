-- What a relay was called with. `token` is the last part of the path, `size` the bytes of `body`. A seq is never used again:
-- a router that comes back goes on behind the last one it has.
CREATE TABLE relay_events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    router  TEXT    NOT NULL,
    token   TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    size    INTEGER NOT NULL,
    came_ms INTEGER NOT NULL,
    wall    INTEGER NOT NULL
) STRICT;
CREATE INDEX relay_events_of ON relay_events (router, token);

-- Up to which event each router has collected.
CREATE TABLE relay_routers (
    router    TEXT PRIMARY KEY,
    collected INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Up to which event of a relay this router has collected.
CREATE TABLE relay_cursor (
    relay TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
