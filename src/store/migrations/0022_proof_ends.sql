-- Until when (unix seconds) ecash of others' making could be taken without its mint, were it not here; 0: for ever.
ALTER TABLE locked_proofs ADD COLUMN ends_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX locked_proofs_by_end ON locked_proofs (tenant, ends_at) WHERE ends_at > 0;

-- What a shop has told of an order, found when the order is to be forgotten.
CREATE INDEX webhook_events_by_order ON webhook_events (tenant, order_id);
CREATE INDEX webhook_events_by_age ON webhook_events (tenant, processed_at);
CREATE INDEX voucher_orders_by_age ON voucher_orders (tenant, made_at);
