-- An account may have several devices, or none for a while: a device is a MAC that is attached to it, since then.
ALTER TABLE account_macs ADD COLUMN attached_ms INTEGER NOT NULL DEFAULT 0;
-- What others call it: 128 random bits, once something was linked to it. Most never need it.
ALTER TABLE accounts ADD COLUMN name TEXT;
ALTER TABLE accounts ADD COLUMN tenant TEXT NOT NULL DEFAULT 'local';
-- When a device was detached, since the last move; and when a link has last made one go, which is no move.
ALTER TABLE accounts ADD COLUMN left_ms INTEGER;
ALTER TABLE accounts ADD COLUMN merged_ms INTEGER;
CREATE UNIQUE INDEX accounts_by_name ON accounts (name);

-- Who may claim an account, beside its ticket: a wallet's key (`key`, in hex) or a card of ours (`card`, its number).
-- The statements on it go through the narrow door, see `door.rs`.
CREATE TABLE account_claims (
    id        TEXT    PRIMARY KEY,
    tenant    TEXT    NOT NULL,
    account   TEXT    NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    kind      TEXT    NOT NULL,
    subject   TEXT    NOT NULL,
    linked_ms INTEGER NOT NULL,
    UNIQUE (tenant, kind, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_claims_of_account ON account_claims (account);
