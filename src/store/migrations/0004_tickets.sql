-- Who shows an account's ticket may go on with what it has paid. `ticket` is a digest; `moved_ms` is when that was
-- last done.
ALTER TABLE accounts ADD COLUMN ticket BLOB;
ALTER TABLE accounts ADD COLUMN moved_ms INTEGER;
CREATE UNIQUE INDEX accounts_by_ticket ON accounts (ticket) WHERE ticket IS NOT NULL;
