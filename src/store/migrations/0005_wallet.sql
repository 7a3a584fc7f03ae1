-- The takings as ecash. A proof's secret is derived from the takings' seed, so only its counter is kept.
CREATE TABLE wallet_keysets (
    id     INTEGER PRIMARY KEY,
    mint   TEXT NOT NULL,
    keyset TEXT NOT NULL,
    unit   TEXT NOT NULL,
    UNIQUE (mint, keyset)
) STRICT;

-- `op` is the operation that holds the proof; without one it may be spent. A proof that was spent is deleted.
CREATE TABLE proofs (
    keyset  INTEGER NOT NULL REFERENCES wallet_keysets (id),
    counter INTEGER NOT NULL,
    amount  INTEGER NOT NULL,
    c       BLOB    NOT NULL,
    op      INTEGER REFERENCES wallet_ops (id),
    PRIMARY KEY (keyset, counter)
) STRICT, WITHOUT ROWID;
CREATE INDEX proofs_held ON proofs (op) WHERE op IS NOT NULL;

-- The journal of calls that move money. `token` is what a guest gave, until it is ours; `outputs` the blinded
-- outputs sent for it, a line 'keyset counter amount,amount' each, the newest last; `access` the grant it pays for.
CREATE TABLE wallet_ops (
    id         INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    mint       TEXT    NOT NULL,
    reference  TEXT    UNIQUE,
    amount     INTEGER NOT NULL,
    token      TEXT,
    outputs    TEXT    NOT NULL,
    quote      TEXT,
    access     TEXT,
    result     TEXT,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX wallet_ops_open ON wallet_ops (kind) WHERE state IN ('open', 'cancelling');
