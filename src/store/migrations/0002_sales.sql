-- Every *_ms column is service time, see time.rs.

-- Derivation counters, one per seed and keyset; keyset 'lock' counts the NUT-20 lock keys.
CREATE TABLE counters (
    owner  TEXT    NOT NULL,
    keyset TEXT    NOT NULL,
    next   INTEGER NOT NULL,
    PRIMARY KEY (owner, keyset)
) STRICT, WITHOUT ROWID;

-- What a guest asked for: one request, paid by one invoice per part.
CREATE TABLE requests (
    id         TEXT    PRIMARY KEY,
    mac        TEXT    NOT NULL,
    venue      TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_of_mac ON requests (mac, created_ms);

CREATE TABLE parts (
    id         INTEGER PRIMARY KEY,
    request    TEXT    NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    mint       TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    allotment  INTEGER NOT NULL,
    lock_index INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    quote      TEXT,
    invoice    TEXT,
    expires_at INTEGER,
    due_ms     INTEGER,
    token      TEXT,
    acked      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (request, position),
    UNIQUE (mint, quote)
) STRICT;
CREATE INDEX parts_open ON parts (state) WHERE state IN ('asking', 'unpaid', 'paid');

-- The blinded outputs a part may have been minted with: enough to derive them again (NUT-13).
CREATE TABLE claims (
    id      INTEGER PRIMARY KEY,
    part    INTEGER NOT NULL REFERENCES parts (id) ON DELETE CASCADE,
    keyset  TEXT    NOT NULL,
    counter INTEGER NOT NULL,
    amounts TEXT    NOT NULL
) STRICT;
CREATE INDEX claims_of_part ON claims (part);

CREATE TABLE accounts (
    id         INTEGER PRIMARY KEY,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE account_macs (
    mac     TEXT    PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- One row per payment that was turned into access; `reference` is what makes it count once.
CREATE TABLE grants (
    reference  TEXT    PRIMARY KEY,
    account    INTEGER NOT NULL,
    mac        TEXT    NOT NULL,
    venue      TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    allotment  INTEGER NOT NULL,
    granted_ms INTEGER NOT NULL,
    wall       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_wall ON grants (wall);

CREATE TABLE sessions (
    account    INTEGER PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    mac        TEXT    NOT NULL,
    venue      TEXT    NOT NULL,
    allotment  INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    ends_ms    INTEGER NOT NULL,
    revision   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX sessions_by_end ON sessions (ends_ms);
