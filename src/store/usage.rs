//! Usage: how many bytes of the sessions by bytes are used.

use super::session_rows::{session_of, SessionRow, SESSION_COLUMNS};
use super::{Store, StoreError};
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis};
use rusqlite::{params, Transaction};

/// How many bytes of a session are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    pub account: i64,
    pub mac: MacAddr,
    pub venue: String,
    /// Names the session among the account's at this venue.
    pub started: Millis,
    pub used: Allotment,
}

impl Store {
    /// Writes down what was used, and ends the sessions of which nothing is left. Answers those that ended.
    pub async fn used(&self, usage: Vec<UsageRow>) -> Result<Vec<SessionRow>, StoreError> {
        let now = self.now();
        self.write(move |tx| {
            note_usage(tx, &usage)?;
            let sql = "UPDATE sessions SET ends_ms = ?1, revision = revision + 1
                       WHERE metric = 'bytes' AND used >= allotment AND ends_ms > ?1 RETURNING ";
            tx.prepare(&format!("{sql} {SESSION_COLUMNS}"))?
                .query_map([now], |row| Ok(session_of(row)))?
                .map(|session| session?)
                .collect()
        })
        .await
    }
}

/// What was used only grows, and a session that began later is not charged for an earlier one.
pub(super) fn note_usage(tx: &Transaction, usage: &[UsageRow]) -> Result<(), StoreError> {
    if usage.is_empty() {
        return Ok(());
    }
    let mut update = tx.prepare_cached(
        "UPDATE sessions SET used = MIN(allotment, MAX(used, ?3))
         WHERE account = ?1 AND venue = ?4 AND metric = 'bytes' AND started_ms = ?2",
    )?;
    for row in usage {
        update.execute(params![row.account, row.started, row.used, row.venue])?;
    }
    Ok(())
}
