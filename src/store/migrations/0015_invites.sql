-- Codes that let guests in. `hash` is a keyed hash of the code; the key is a file beside the store. `unit` is seconds, bytes
-- or sats. `changed_ms` is when it was made or used last.
CREATE TABLE invites (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    hash       TEXT    NOT NULL,
    unit       TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    uses_left  INTEGER NOT NULL,
    used       INTEGER NOT NULL,
    ends_ms    INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    note       TEXT    NOT NULL,
    created_by TEXT    NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, hash)
) STRICT, WITHOUT ROWID;
