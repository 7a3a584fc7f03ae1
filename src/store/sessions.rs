//! Sessions: what an account has paid for, and how long it lasts.
//!
//! An account has at most one running session of each metric at each venue. A session only grows, by grants, and ends
//! at a service time; a grant after its end begins a new one. One by bytes also ends when it is used up (see `usage`),
//! and else a year after its last grant.

use super::grants::NewGrant;
use super::session_rows::{session_by_account, session_of, SessionRow, SESSION_COLUMNS};
use super::worth::Worth;
use super::{time, Store, StoreError};
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::units::{Millis, Unit};
use rusqlite::{params, Transaction};

/// How long paid bytes wait to be used.
const BYTES_KEPT: Millis = Millis::from_secs(365 * 86_400);

impl Store {
    /// Ends the sessions of a MAC now, those of one venue or all. Answers those that were running.
    pub async fn revoke(&self, mac: MacAddr, venue: Option<String>) -> Result<Vec<SessionRow>, StoreError> {
        let now = self.now();
        let moment = self.0.time.moment();
        self.write(move |tx| {
            // Or a reboot would begin before this end, and give the session its last seconds again.
            time::note(tx, &moment)?;
            let sql = "UPDATE sessions SET ends_ms = ?2, revision = revision + 1
                       WHERE mac = ?1 AND ends_ms > ?2 AND (?3 IS NULL OR venue = ?3) RETURNING ";
            tx.prepare(&format!("{sql} {SESSION_COLUMNS}"))?
                .query_map(params![mac.to_string(), now, venue], |row| Ok(session_of(row)))?
                .map(|session| session?)
                .collect()
        })
        .await
    }

    /// Sessions that end after `since`, soonest first.
    pub async fn sessions_ending_after(&self, since: Millis) -> Result<Vec<SessionRow>, StoreError> {
        self.read(move |db| {
            db.prepare(&format!(
                "SELECT {SESSION_COLUMNS} FROM sessions WHERE ends_ms > ?1 ORDER BY ends_ms"
            ))?
            .query_map([since], |row| Ok(session_of(row)))?
            .map(|session| session?)
            .collect()
        })
        .await
    }
}

/// Adds a grant to the account's session of its venue and metric, or begins one.
pub(super) fn extend_session(
    tx: &Transaction,
    account: i64,
    grant: &NewGrant,
    now: Millis,
) -> Result<(), StoreError> {
    let lasts = match grant.metric {
        Metric::Milliseconds => Millis(grant.allotment.0),
        Metric::Bytes => BYTES_KEPT,
    };
    let before = session_by_account(tx, account, &grant.venue, grant.metric)?;
    let left = before.map(|row| row.worth.left(row.remaining(now))).unwrap_or_default();
    let value = grant.value.to_msats().unwrap_or_default();
    let worth = left.plus(Worth { value, of: grant.allotment, mint: grant.mint.clone() });
    tx.execute(
        "INSERT INTO sessions
             (account, metric, mac, venue, allotment, started_ms, ends_ms, value, value_of, mint, value_unit)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6 + ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT DO UPDATE SET mac = ?3, value = ?8, value_of = ?9, mint = ?10,
             allotment = CASE WHEN ends_ms > ?6 THEN allotment + ?5 ELSE ?5 END,
             used = CASE WHEN ends_ms > ?6 THEN used ELSE 0 END,
             started_ms = CASE WHEN ends_ms > ?6 THEN started_ms ELSE ?6 END,
             ends_ms = CASE WHEN metric = 'bytes' THEN ?6 ELSE MAX(ends_ms, ?6) END + ?7,
             revision = revision + 1",
        params![
            account,
            grant.metric,
            grant.mac.to_string(),
            grant.venue,
            grant.allotment,
            now,
            lasts,
            worth.value,
            worth.of,
            worth.mint.as_ref().map(MintUrl::as_str),
            Unit::Msat
        ],
    )?;
    Ok(())
}
