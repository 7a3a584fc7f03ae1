-- What is paid out in shillings for what an account has: to a phone, as airtime, or to a paybill. `account` is whose balance pays.
-- `phone` and `bill` are whole until it is over; `phone_hash` as in orders. `asked` is what makes a question one and the same.
-- `originator` is our id of it at Daraja, the same at every try; `conversation` what others call it. `is_lost`: an answer was lost, so
-- it may be done. `sent_ms` is when it was sent first: 0 is never. `wallet` is what the money comes by where it is no balance.
CREATE TABLE payouts (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    account      TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    via          TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    kes          INTEGER NOT NULL,
    msat         INTEGER NOT NULL,
    rate         INTEGER NOT NULL,
    spread_bp    INTEGER NOT NULL,
    phone        TEXT    NOT NULL,
    phone_hash   TEXT    NOT NULL,
    phone_tail   TEXT    NOT NULL,
    paybill      TEXT    NOT NULL,
    bill         TEXT    NOT NULL,
    wallet       TEXT    NOT NULL,
    asked        TEXT    NOT NULL,
    question     TEXT    NOT NULL,
    originator   TEXT    NOT NULL,
    conversation TEXT    NOT NULL,
    receipt      TEXT    NOT NULL,
    code         TEXT    NOT NULL,
    is_lost      INTEGER NOT NULL,
    sent_ms      INTEGER NOT NULL,
    created_ms   INTEGER NOT NULL,
    changed_ms   INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX payouts_by_age ON payouts (tenant, at);
CREATE UNIQUE INDEX payouts_by_question ON payouts (tenant, account, asked) WHERE asked != '';
CREATE UNIQUE INDEX payouts_by_receipt ON payouts (tenant, receipt) WHERE receipt != '';

-- The random ends of the paths that Daraja calls for a payout. `what`: its `result`, that its time is over (`timeout`), its
-- `status`.
CREATE TABLE payout_tokens (
    tenant     TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    payout     TEXT NOT NULL,
    what       TEXT NOT NULL,
    PRIMARY KEY (tenant, token_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX payout_tokens_of ON payout_tokens (tenant, payout);
