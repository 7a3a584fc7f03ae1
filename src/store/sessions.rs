//! Sessions: what an account has paid for, and how long it lasts.
//!
//! An account has at most one running session of each metric at each venue. A session only grows, by grants, and ends
//! at a service time; a grant after its end begins a new one. One by bytes also ends when it is used up (see `usage`),
//! and else a year after its last grant.

use super::accounts::account_by_mac;
use super::grants::NewGrant;
use super::session_rows::{
    session_by_account, session_of, session_on_devices, SessionRow, ON_DEVICES, SESSION_COLUMNS,
};
use super::worth::Worth;
use super::{time, Store, StoreAnswer, StoreError};
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::units::{Millis, Unit};
use rusqlite::{params, Transaction};

/// How long paid bytes wait to be used.
const BYTES_KEPT: Millis = Millis::from_secs(365 * 86_400);

impl Store {
    /// Ends the sessions of a MAC's account now, those of one venue or all. Answers those that were running, for each
    /// device that had them.
    pub fn revoke(&self, mac: MacAddr, venue: Option<String>) -> StoreAnswer<Vec<SessionRow>> {
        let now = self.now();
        let moment = self.0.time.moment();
        self.write(move |tx| {
            let mac = mac.to_string();
            let Some(account) = account_by_mac(tx, &mac)? else { return Ok(Vec::new()) };
            let ended = tx
                .prepare(
                    "UPDATE sessions SET ends_ms = ?2, revision = revision + 1
                     WHERE account = ?1 AND ends_ms > ?2 AND (?3 IS NULL OR venue = ?3) RETURNING venue, metric",
                )?
                .query_map(params![account, now, venue], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<Vec<(String, Metric)>, _>>()?;
            if !ended.is_empty() {
                // Or a reboot would begin before this end, and give the session its last seconds again.
                time::note(tx, &moment)?;
            }
            let mut rows = Vec::new();
            for (venue, metric) in ended {
                rows.extend(session_on_devices(tx, account, &venue, metric, &mac)?);
            }
            Ok(rows)
        })
    }

    /// Sessions that end after `since`, soonest first, each for every device that has it.
    pub fn sessions_ending_after(&self, since: Millis) -> StoreAnswer<Vec<SessionRow>> {
        self.read(move |db| {
            db.prepare(&format!(
                "SELECT {SESSION_COLUMNS} FROM {ON_DEVICES} WHERE s.ends_ms > ?1 ORDER BY s.ends_ms"
            ))?
            .query_map([since], |row| Ok(session_of(row)))?
            .map(|session| session?)
            .collect()
        })
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
    let mac = grant.mac.to_string();
    let before = session_by_account(tx, account, &grant.venue, grant.metric, &mac)?;
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
            mac,
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
