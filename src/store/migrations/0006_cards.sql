CREATE TABLE cards (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL,
    enabled     INTEGER NOT NULL,
    wiped       INTEGER NOT NULL DEFAULT 0,
    tx_max      INTEGER NOT NULL,
    day_max     INTEGER NOT NULL,
    uid_privacy INTEGER NOT NULL,
    created     INTEGER NOT NULL
) STRICT;

-- Every set of keys that was made for a card; only the newest pays. `code` is the SHA-256 of the one-time code
-- that hands them out, and NULL from then on. `counter` is the last one seen under these keys.
CREATE TABLE card_keys (
    card         INTEGER NOT NULL REFERENCES cards (id),
    version      INTEGER NOT NULL,
    sealed       BLOB    NOT NULL,
    code         BLOB    UNIQUE,
    code_ends_ms INTEGER NOT NULL,
    issued       INTEGER NOT NULL DEFAULT 0,
    uid          TEXT,
    counter      INTEGER NOT NULL DEFAULT -1,
    PRIMARY KEY (card, version)
) STRICT, WITHOUT ROWID;

-- What pays, or has paid: kept as long as a payment may have to be looked up there.
CREATE TABLE backends (
    id     INTEGER PRIMARY KEY,
    kind   TEXT NOT NULL,
    url    TEXT NOT NULL,
    pin    BLOB,
    sealed BLOB NOT NULL
) STRICT;

-- One row per accepted tap. It becomes a payment: issued -> reserved -> sent -> paid or failed. `k1` is a SHA-256.
CREATE TABLE card_taps (
    id           INTEGER PRIMARY KEY,
    card         INTEGER NOT NULL REFERENCES cards (id),
    k1           BLOB    NOT NULL UNIQUE,
    counter      INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    wall         INTEGER NOT NULL,
    ends_ms      INTEGER NOT NULL,
    invoice      TEXT,
    payment_hash BLOB,
    amount       INTEGER,
    fee_limit    INTEGER,
    reserved_ms  INTEGER,
    due_ms       INTEGER,
    backend      INTEGER REFERENCES backends (id),
    reference    TEXT,
    preimage     BLOB,
    fee          INTEGER,
    note         TEXT
) STRICT;
CREATE UNIQUE INDEX card_taps_once ON card_taps (payment_hash) WHERE state IN ('reserved', 'sent', 'paid');
CREATE INDEX card_taps_of_card ON card_taps (card, reserved_ms);
CREATE INDEX card_taps_open ON card_taps (state) WHERE state IN ('reserved', 'sent');
