-- What is held for accounts of the wallet API, each by its wallet's key. `msat` may be spent; `held_msat` is reserved by moves
-- that are not over.
CREATE TABLE balances (
    tenant    TEXT    NOT NULL,
    account   TEXT    NOT NULL,
    msat      INTEGER NOT NULL,
    held_msat INTEGER NOT NULL,
    PRIMARY KEY (tenant, account)
) STRICT, WITHOUT ROWID;

-- Every change of a balance, once by its reference. `is_debit`: it takes from the balance. A debit is `held`, and then `done`, at
-- `cost`, or `returned`; a credit is done at once. `detail` is what its kind keeps of it, as JSON.
CREATE TABLE balance_moves (
    tenant    TEXT    NOT NULL,
    reference TEXT    NOT NULL,
    seq       INTEGER NOT NULL,
    account   TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    is_debit  INTEGER NOT NULL,
    state     TEXT    NOT NULL,
    msat      INTEGER NOT NULL,
    cost      INTEGER NOT NULL,
    detail    TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (tenant, reference)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX balance_moves_by_seq ON balance_moves (tenant, seq);
CREATE INDEX balance_moves_of_account ON balance_moves (tenant, account, seq);
CREATE INDEX balance_moves_held ON balance_moves (tenant, seq) WHERE state = 'held';

-- Invoices that credit a balance once they are paid. `outputs` is what the balances' seed makes of it.
CREATE TABLE topups (
    tenant       TEXT    NOT NULL,
    payment_hash TEXT    NOT NULL,
    account      TEXT    NOT NULL,
    mint         TEXT    NOT NULL,
    sats         INTEGER NOT NULL,
    memo         TEXT    NOT NULL,
    lock         INTEGER NOT NULL,
    quote        TEXT    NOT NULL,
    invoice      TEXT    NOT NULL,
    outputs      TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    expires_at   INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (tenant, payment_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX topups_of_account ON topups (tenant, account, at);
CREATE INDEX topups_open ON topups (tenant) WHERE state = 'open';

-- What an order of shillings adds to a balance, at the rate that was frozen in it.
CREATE TABLE buys (
    tenant    TEXT    NOT NULL,
    order_id  TEXT    NOT NULL,
    account   TEXT    NOT NULL,
    msat      INTEGER NOT NULL,
    rate      INTEGER NOT NULL,
    spread_bp INTEGER NOT NULL,
    PRIMARY KEY (tenant, order_id)
) STRICT, WITHOUT ROWID;
