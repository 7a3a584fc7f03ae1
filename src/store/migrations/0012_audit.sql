-- Who did what, when, with which result. `hash` is of the row, with `prev`: the hash of the row before it. `count` is how
-- often it happened: a flood of refusals is one row.
CREATE TABLE audit (
    tenant TEXT    NOT NULL,
    seq    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    who    TEXT    NOT NULL,
    role   TEXT    NOT NULL,
    what   TEXT    NOT NULL,
    target TEXT    NOT NULL,
    result TEXT    NOT NULL,
    count  INTEGER NOT NULL,
    prev   TEXT    NOT NULL,
    hash   TEXT    NOT NULL,
    PRIMARY KEY (tenant, seq)
) STRICT, WITHOUT ROWID;

-- Both ends of each chain: the last row that was dropped, and the last that was written.
CREATE TABLE audit_ends (
    tenant       TEXT    NOT NULL PRIMARY KEY,
    dropped      INTEGER NOT NULL,
    dropped_hash TEXT    NOT NULL,
    last         INTEGER NOT NULL,
    last_hash    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
