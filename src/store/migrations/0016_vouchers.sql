-- Vouchers: codes that are sold, or made on the operator's own promise, and are redeemed once. All times that end in `_at`
-- are unix seconds of the store's wall clock. Ids are UUIDs in lower case. Every key begins with the tenant.

-- What was ordered together.
CREATE TABLE voucher_batches (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    venue      TEXT    NOT NULL,
    product    TEXT    NOT NULL,
    funding    TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    face_sat   INTEGER NOT NULL,
    mint       TEXT,
    quote      TEXT,
    invoice    TEXT,
    pay_until  INTEGER,
    note       TEXT    NOT NULL,
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    error_code TEXT,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- One row for each code. `hash` is a keyed hash of it and `sealed` (hex) the code itself, readable with the key only, which is
-- a file beside the store; `sealed` goes when the voucher cannot be used any more. `key_no` says which key. `unit` is seconds,
-- bytes or sats; `face_sat` what it cost when it was made. `product` and `owner` are a shop's words for it.
CREATE TABLE vouchers (
    tenant      TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    batch       TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    hash        TEXT    NOT NULL,
    sealed      TEXT,
    key_no      INTEGER NOT NULL,
    venue       TEXT    NOT NULL,
    product     TEXT    NOT NULL,
    owner       TEXT    NOT NULL,
    unit        TEXT    NOT NULL,
    amount      INTEGER NOT NULL,
    face_sat    INTEGER NOT NULL,
    funding     TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    note        TEXT    NOT NULL,
    label       TEXT    NOT NULL,
    notify      TEXT    NOT NULL,
    created_by  TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    redeemed_at INTEGER,
    redeemed_by TEXT,
    error_code  TEXT,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX vouchers_by_batch ON vouchers (tenant, batch, position);
CREATE INDEX vouchers_by_age ON vouchers (tenant, created_at, id);
CREATE INDEX vouchers_by_state ON vouchers (tenant, state, expires_at);

-- What became of a voucher, step by step.
CREATE TABLE voucher_history (
    tenant     TEXT    NOT NULL,
    voucher    TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    was        TEXT    NOT NULL,
    became     TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    who        TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    PRIMARY KEY (tenant, voucher, seq)
) STRICT, WITHOUT ROWID;

-- How many were made of a product.
CREATE TABLE voucher_series (
    tenant  TEXT    NOT NULL,
    product TEXT    NOT NULL,
    made    INTEGER NOT NULL,
    PRIMARY KEY (tenant, product)
) STRICT, WITHOUT ROWID;

-- A shop's orders: each is of the same tickets whenever it comes.
CREATE TABLE voucher_orders (
    tenant      TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    batch       TEXT    NOT NULL,
    made_at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- What was answered under an Idempotency-Key, or how far it has come. `answer` is sealed (hex) where it holds codes.
CREATE TABLE idempotency_keys (
    tenant      TEXT    NOT NULL,
    principal   TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    step        TEXT    NOT NULL,
    work        TEXT    NOT NULL,
    status      INTEGER,
    answer      TEXT,
    made_at     INTEGER NOT NULL,
    ends_at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, principal, method, path, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (tenant, ends_at);

-- Nonces of signed requests that were taken.
CREATE TABLE hmac_nonces (
    tenant  TEXT    NOT NULL,
    key_id  TEXT    NOT NULL,
    nonce   TEXT    NOT NULL,
    ends_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, key_id, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX hmac_nonces_by_end ON hmac_nonces (tenant, ends_at);

-- Events that a shop has told of, each once.
CREATE TABLE webhook_events (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    fingerprint  TEXT    NOT NULL,
    order_id     TEXT    NOT NULL,
    batch        TEXT    NOT NULL,
    answer       TEXT    NOT NULL,
    processed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- Work that goes on after its request was answered, and what is to be told to others: tried until it is done or dead.
CREATE TABLE voucher_jobs (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    about      TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    work       TEXT    NOT NULL,
    tries      INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    error_code TEXT,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX voucher_jobs_by_due ON voucher_jobs (tenant, state, due_at);

-- What waits for the votes of others, and their votes.
CREATE TABLE approvals (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    principal    TEXT    NOT NULL,
    request_hash TEXT    NOT NULL,
    work         TEXT    NOT NULL,
    required     INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    decided_at   INTEGER,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE approval_votes (
    tenant   TEXT    NOT NULL,
    approval TEXT    NOT NULL,
    voter    TEXT    NOT NULL,
    vote     TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (tenant, approval, voter)
) STRICT, WITHOUT ROWID;

-- What was spent in a window of time; who: an operator, or all of the tenant. And limits that were raised by votes.
CREATE TABLE spending (
    tenant  TEXT    NOT NULL,
    who     TEXT    NOT NULL,
    span    TEXT    NOT NULL,
    starts  INTEGER NOT NULL,
    spent   INTEGER NOT NULL,
    PRIMARY KEY (tenant, who, span, starts)
) STRICT, WITHOUT ROWID;
CREATE TABLE spending_limits (
    tenant     TEXT    NOT NULL,
    who        TEXT    NOT NULL,
    span       TEXT    NOT NULL,
    most       INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, who, span)
) STRICT, WITHOUT ROWID;

-- What a comparison with the mint has found.
CREATE TABLE reconcile_reports (
    tenant        TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    venue         TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    made_at       INTEGER NOT NULL,
    checked       INTEGER NOT NULL,
    confirmed     INTEGER NOT NULL,
    not_found     INTEGER NOT NULL,
    pending       INTEGER NOT NULL,
    errors        INTEGER NOT NULL,
    discrepancies INTEGER NOT NULL,
    report        TEXT    NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX reconcile_reports_by_venue ON reconcile_reports (tenant, venue, made_at);

-- Keys that were used, and which of them counts: the keys themselves are in the sealed key file.
CREATE TABLE key_versions (
    tenant     TEXT    NOT NULL,
    class      TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    public     TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    made_at    INTEGER NOT NULL,
    retired_at INTEGER,
    PRIMARY KEY (tenant, class, owner, number)
) STRICT, WITHOUT ROWID;
