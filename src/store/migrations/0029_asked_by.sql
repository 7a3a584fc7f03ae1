-- The id of the request that has ordered vouchers, for their history.
ALTER TABLE voucher_batches ADD COLUMN request_id TEXT NOT NULL DEFAULT '';
