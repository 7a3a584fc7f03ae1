-- Payments that programs of the operator's have ordered over gRPC, each once by its id; what they have asked for with it is kept,
-- so that the same question is told from another. `refunded` (sat) is what is, or is being, paid back.
CREATE TABLE grpc_payments (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    wallet       TEXT    NOT NULL,
    sats         INTEGER NOT NULL,
    invoice      TEXT    NOT NULL,
    payment_hash TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    message      TEXT    NOT NULL,
    refunded     INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX grpc_payments_by_hash ON grpc_payments (tenant, payment_hash) WHERE state != 'failed';
CREATE INDEX grpc_payments_by_age ON grpc_payments (tenant, at);
