-- What of vouchers is still to be told or done. The table was never used before; times of trying are by service time now, which
-- no change of the wall clock moves. `kind` is 'notice' (`about` is the voucher, `target` an address or empty for the configured
-- one, `work` what is told) or 'order' (`about` is the approval whose decision is to be carried out).
DROP INDEX voucher_jobs_by_due;
ALTER TABLE voucher_jobs DROP COLUMN due_at;
ALTER TABLE voucher_jobs ADD COLUMN due_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX voucher_jobs_by_due ON voucher_jobs (tenant, kind, state, due_ms);
CREATE INDEX voucher_jobs_by_about ON voucher_jobs (tenant, about);

-- Tenants whose vouchers are told of at the configured address where they name none of their own.
CREATE TABLE notice_defaults (
    tenant TEXT NOT NULL,
    PRIMARY KEY (tenant)
) STRICT, WITHOUT ROWID;

-- What was agreed to and not begun.
INSERT INTO voucher_jobs (tenant, id, kind, about, state, target, work, tries, due_ms, created_at, changed_at)
    SELECT tenant, id, 'order', id, 'open', '', '', 0, 0, created_at, created_at FROM approvals WHERE state = 'approved';
