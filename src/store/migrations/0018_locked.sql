-- Ecash that is locked to a venue's key for a voucher. `lock` and `refund` are numbers of keys in key_versions, `outputs` the
-- blinded outputs sent for it, in the form in which an operation keeps them; `op` is the operation that makes it, or 0.
CREATE TABLE locked (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    batch      TEXT    NOT NULL,
    venue      TEXT    NOT NULL,
    mint       TEXT    NOT NULL,
    sats       INTEGER NOT NULL,
    lock       INTEGER NOT NULL,
    refund     INTEGER NOT NULL,
    locktime   INTEGER NOT NULL,
    op         INTEGER NOT NULL,
    outputs    TEXT    NOT NULL,
    ppk        INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    changed_at INTEGER NOT NULL,
    error_code TEXT,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX locked_by_batch ON locked (tenant, batch);
CREATE INDEX locked_by_state ON locked (state, locktime);
CREATE INDEX locked_by_op ON locked (op) WHERE op != 0;

-- Its proofs, and those of others' making that were taken here: each is taken once. `y` is what the mint knows it by; the
-- secret is derived again from `counter`.
CREATE TABLE locked_proofs (
    tenant  TEXT    NOT NULL,
    y       TEXT    NOT NULL,
    voucher TEXT    NOT NULL,
    keyset  TEXT    NOT NULL,
    counter INTEGER NOT NULL,
    sats    INTEGER NOT NULL,
    c       TEXT    NOT NULL,
    dleq    TEXT    NOT NULL,
    op      INTEGER NOT NULL,
    state   TEXT    NOT NULL,
    PRIMARY KEY (tenant, y)
) STRICT, WITHOUT ROWID;
CREATE INDEX locked_proofs_by_voucher ON locked_proofs (tenant, voucher);
CREATE INDEX locked_proofs_by_op ON locked_proofs (op) WHERE op != 0;

-- Batches that somebody else pays for, by one invoice each.
CREATE TABLE fundings (
    tenant     TEXT    NOT NULL,
    batch      TEXT    NOT NULL,
    mint       TEXT    NOT NULL,
    sats       INTEGER NOT NULL,
    lock       INTEGER NOT NULL,
    quote      TEXT    NOT NULL,
    invoice    TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, batch)
) STRICT, WITHOUT ROWID;
CREATE INDEX fundings_by_state ON fundings (state);

-- Tokens that were taken without their mint, and that it called spent later. `ended` is 0 until the session has been ended.
CREATE TABLE losses (
    tenant  TEXT    NOT NULL,
    op      INTEGER NOT NULL,
    mac     TEXT    NOT NULL,
    venue   TEXT    NOT NULL,
    sats    INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    ended   INTEGER NOT NULL,
    PRIMARY KEY (tenant, op)
) STRICT, WITHOUT ROWID;

-- The operation's guest has been let in already, without its mint.
ALTER TABLE wallet_ops ADD COLUMN granted INTEGER NOT NULL DEFAULT 0;
