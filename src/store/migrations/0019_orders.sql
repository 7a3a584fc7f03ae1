-- Orders that are paid in shillings, each a state machine. `phone` is the whole number, until the order is closed; `phone_hash`
-- a keyed hash of it, the key is a file beside the store. `token_hash` is of the path that Daraja calls, `asked` of what makes a
-- guest's question one and the same. `access` is what it buys. `heard_*` is what a callback has said, which is no proof.
-- `prompted_ms` is when a prompt was or may have been sent to the phone: 0 is never.
CREATE TABLE orders (
    tenant        TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    amount        INTEGER NOT NULL,
    unit          TEXT    NOT NULL,
    phone         TEXT    NOT NULL,
    phone_hash    TEXT    NOT NULL,
    phone_tail    TEXT    NOT NULL,
    mac           TEXT    NOT NULL,
    price         TEXT    NOT NULL,
    access        TEXT    NOT NULL,
    asked         TEXT    NOT NULL,
    token_hash    TEXT    NOT NULL,
    checkout      TEXT    NOT NULL,
    checkout_hash TEXT    NOT NULL,
    receipt       TEXT    NOT NULL,
    code          TEXT    NOT NULL,
    heard_code    TEXT    NOT NULL,
    heard_amount  INTEGER NOT NULL,
    heard_receipt TEXT    NOT NULL,
    prompted_ms   INTEGER NOT NULL,
    is_lost       INTEGER NOT NULL,
    created_ms    INTEGER NOT NULL,
    changed_ms    INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_by_phone ON orders (tenant, phone_hash, prompted_ms);
CREATE INDEX orders_by_mac ON orders (tenant, mac, created_ms);
CREATE UNIQUE INDEX orders_by_token ON orders (tenant, token_hash) WHERE token_hash != '';
CREATE UNIQUE INDEX orders_by_receipt ON orders (tenant, receipt) WHERE receipt != '';
CREATE UNIQUE INDEX orders_by_checkout ON orders (tenant, checkout_hash) WHERE checkout_hash != '';
CREATE UNIQUE INDEX orders_by_question ON orders (tenant, mac, asked) WHERE asked != '';

-- Every state that an order was in.
CREATE TABLE order_steps (
    tenant   TEXT    NOT NULL,
    order_id TEXT    NOT NULL,
    seq      INTEGER NOT NULL,
    state    TEXT    NOT NULL,
    code     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (tenant, order_id, seq)
) STRICT, WITHOUT ROWID;

-- Double entry: of each transaction, and of each unit in it, the sum is zero. What we own is positive.
CREATE TABLE ledger (
    tenant   TEXT    NOT NULL,
    txn      TEXT    NOT NULL,
    account  TEXT    NOT NULL,
    unit     TEXT    NOT NULL,
    delta    INTEGER NOT NULL,
    order_id TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (tenant, txn, account, unit)
) STRICT, WITHOUT ROWID;

-- Money that came in and belongs to no order.
CREATE TABLE suspense (
    tenant   TEXT    NOT NULL,
    receipt  TEXT    NOT NULL,
    amount   INTEGER NOT NULL,
    unit     TEXT    NOT NULL,
    order_id TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (tenant, receipt)
) STRICT, WITHOUT ROWID;

-- What is still to be done, whatever happens in between.
CREATE TABLE jobs (
    tenant     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    tries      INTEGER NOT NULL,
    due_ms     INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    error      TEXT    NOT NULL,
    PRIMARY KEY (tenant, kind, subject)
) STRICT, WITHOUT ROWID;
