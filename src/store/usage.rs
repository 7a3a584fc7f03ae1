//! Usage: how many bytes of the sessions by bytes are used.

use super::session_rows::{session_on_devices, SessionRow};
use super::{Store, StoreAnswer, StoreError};
use crate::config::Metric;
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
    pub fn used(&self, usage: Vec<UsageRow>) -> StoreAnswer<Vec<SessionRow>> {
        let now = self.now();
        self.write(move |tx| {
            note_usage(tx, &usage)?;
            let ended = tx
                .prepare(
                    "UPDATE sessions SET ends_ms = ?1, revision = revision + 1
                     WHERE metric = 'bytes' AND used >= allotment AND ends_ms > ?1 RETURNING account, venue, mac",
                )?
                .query_map([now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<Vec<(i64, String, String)>, _>>()?;
            let mut rows = Vec::new();
            for (account, venue, mac) in ended {
                rows.extend(session_on_devices(tx, account, &venue, Metric::Bytes, &mac)?);
            }
            Ok(rows)
        })
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
