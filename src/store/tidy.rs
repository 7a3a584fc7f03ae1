//! Forgetting: what is over leaves the store, sooner where space is short, and a MAC leaves with all that it had.
//!
//! A few rows at a time, each time in a transaction of its own: the log of one that removes thousands would need
//! more room than a flash that is short of it has, and guests would wait behind it. Only the daily look for idle
//! accounts reads a whole table.

use super::{Store, StoreError};
use crate::units::Millis;
use rusqlite::params_from_iter;

/// Rows that one transaction removes of a table, at most.
const AT_ONCE: usize = 128;

/// Since when (service time) records are kept.
#[derive(Clone, Copy, Debug)]
pub struct RecordsSince {
    /// Tokens that no guest has called safe.
    pub tokens: Millis,
    /// What was sold and is settled.
    pub settled: Millis,
    /// Requests that came to nothing.
    pub unpaid: Millis,
}

/// Requests of before ?2, and of before ?3 where tokens wait for their guest. What is watched, unclaimed, or not yet
/// among the takings stays.
const ENDED_REQUESTS: &str =
    "DELETE FROM requests WHERE id IN (SELECT id FROM requests r WHERE created_ms < ?2
    AND NOT EXISTS (SELECT 1 FROM parts WHERE request = r.id AND (state IN ('asking', 'unpaid', 'paid')
        OR (r.owner = 'house' AND (token IS NOT NULL OR sealed IS NOT NULL))
        OR (r.owner = 'guest' AND state = 'claimed' AND NOT acked AND r.created_ms >= ?3)))
    LIMIT ?1)";
const EXPIRED_REQUESTS: &str = "DELETE FROM requests WHERE id IN (SELECT request FROM parts e
    WHERE state = 'expired' AND (SELECT created_ms FROM requests WHERE id = e.request) < ?2
    AND NOT EXISTS (SELECT 1 FROM parts WHERE request = e.request AND state != 'expired') LIMIT ?1)";
const GRANTS: &str = "DELETE FROM grants WHERE reference IN
    (SELECT reference FROM grants WHERE granted_ms < ?2 LIMIT ?1)";
const OPERATIONS: &str = "DELETE FROM wallet_ops WHERE id IN
    (SELECT id FROM wallet_ops WHERE state IN ('done', 'failed') AND created_ms < ?2 LIMIT ?1)";

/// Accounts that hold nothing, with their MACs, tickets and ended sessions: no session since ?2, and no request.
const IDLE_ACCOUNTS: &str =
    "DELETE FROM accounts WHERE id IN (SELECT id FROM accounts a WHERE created_ms < ?2
    AND NOT EXISTS (SELECT 1 FROM sessions WHERE account = a.id AND ends_ms >= ?2)
    AND NOT EXISTS (SELECT 1 FROM account_macs m JOIN requests r ON r.mac = m.mac WHERE m.account = a.id)
    LIMIT ?1)";

/// Taps without a payment that ended before ?2.
const UNUSED_TAPS: &str = "DELETE FROM card_taps WHERE id IN
    (SELECT id FROM card_taps WHERE state = 'issued' AND ends_ms < ?2 LIMIT ?1)";
/// Payments that ended before ?2, and whose invoice cannot be paid any more at ?3.
const ENDED_TAPS: &str = "DELETE FROM card_taps WHERE id IN
    (SELECT id FROM card_taps WHERE state IN ('paid', 'failed') AND reserved_ms < ?2
     AND (due_ms IS NULL OR due_ms < ?3) LIMIT ?1)";

impl Store {
    /// Forgets what is over.
    pub async fn prune(&self, kept: RecordsSince) -> Result<(), StoreError> {
        self.remove(ENDED_REQUESTS, vec![kept.settled, kept.tokens]).await?;
        self.remove(EXPIRED_REQUESTS, vec![kept.unpaid]).await?;
        self.remove(GRANTS, vec![kept.settled]).await?;
        self.remove(OPERATIONS, vec![kept.settled]).await
    }

    /// Forgets the accounts that have had nothing here since then.
    pub async fn forget_idle(&self, since: Millis) -> Result<(), StoreError> {
        self.remove(IDLE_ACCOUNTS, vec![since]).await
    }

    /// Forgets taps without a payment from before `unused_since`, and payments that ended before `kept_since`.
    pub(super) async fn remove_taps(
        &self,
        unused_since: Millis,
        kept_since: Millis,
    ) -> Result<(), StoreError> {
        self.remove(UNUSED_TAPS, vec![unused_since]).await?;
        self.remove(ENDED_TAPS, vec![kept_since, self.now()]).await
    }

    async fn remove(&self, statement: &'static str, times: Vec<Millis>) -> Result<(), StoreError> {
        loop {
            let times = times.clone();
            let removed = self.write(move |tx| {
                let times = times.iter().map(|time| i64::try_from(time.0).unwrap_or(i64::MAX));
                let at_once = i64::try_from(AT_ONCE).unwrap_or(i64::MAX);
                let mut delete = tx.prepare_cached(statement)?;
                Ok(delete.execute(params_from_iter(std::iter::once(at_once).chain(times)))?)
            });
            if removed.await? < AT_ONCE {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 7] =
    [ENDED_REQUESTS, EXPIRED_REQUESTS, GRANTS, OPERATIONS, IDLE_ACCOUNTS, UNUSED_TAPS, ENDED_TAPS];
