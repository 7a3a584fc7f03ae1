-- What a repair has come to so far, ticket by ticket: one that was cut short goes on under the key of its request.
CREATE TABLE reconcile_steps (
    tenant  TEXT    NOT NULL,
    work    TEXT    NOT NULL,
    voucher TEXT    NOT NULL,
    class   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (tenant, work, voucher)
) STRICT, WITHOUT ROWID;
