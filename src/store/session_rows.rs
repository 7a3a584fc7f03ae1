//! A session as it stands in the store, and how it is read.

use super::values::{mac_of, money};
use super::worth::Worth;
use super::{StoreError, Ticket};
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis};
use rusqlite::{params, Connection, Row};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    pub account: i64,
    /// The device that it is read for; others of the account may have it too.
    pub mac: MacAddr,
    pub venue: String,
    pub metric: Metric,
    /// Everything granted to this session.
    pub allotment: Allotment,
    /// Bytes used when that was last written; zero for a session by time.
    pub used: Allotment,
    pub started: Millis,
    pub ends: Millis,
    /// Grows with every change, so that a reader knows which of two rows is the newer.
    pub revision: u32,
    /// Boxed: rows are handed about a lot, and few ask for it.
    pub worth: Box<Worth>,
    /// The account's ticket, where the grant that answers this row has made it. Never read back.
    pub ticket: Option<Ticket>,
}

impl SessionRow {
    /// Whether both are rows of one session, on any device, or of the sessions that followed each other on one account.
    pub fn is_same_session(&self, other: &SessionRow) -> bool {
        (self.account, self.metric, &self.venue) == (other.account, other.metric, &other.venue)
    }

    /// What is left of it, as far as its use is written down.
    pub(super) fn remaining(&self, now: Millis) -> Allotment {
        match self.metric {
            Metric::Milliseconds => self.ends.saturating_sub(now).into(),
            Metric::Bytes if self.ends > now => self.allotment.saturating_sub(self.used),
            Metric::Bytes => Allotment::ZERO,
        }
    }
}

/// Of a session `s` as the device `m` has it.
pub(super) const SESSION_COLUMNS: &str =
    "s.account, m.mac, s.venue, s.metric, s.allotment, s.used, s.started_ms,
    s.ends_ms, s.revision, s.value, s.value_of, s.mint, s.value_unit";

/// Sessions with the devices that have them: every one of the account's, but of bytes only the one in `sessions.mac`.
pub(super) const ON_DEVICES: &str = "sessions s JOIN account_macs m ON m.account = s.account
    AND (s.metric != 'bytes' OR m.mac = s.mac)";

/// An account's sessions, each once for every device that has it.
pub(super) fn sessions_on_devices(db: &Connection, account: i64) -> Result<Vec<SessionRow>, StoreError> {
    db.prepare_cached(&format!("SELECT {SESSION_COLUMNS} FROM {ON_DEVICES} WHERE s.account = ?1"))?
        .query_map([account], |row| Ok(session_of(row)))?
        .map(|session| session?)
        .collect()
}

/// An account's sessions, each once, as if this device had them.
pub(super) fn sessions_of_account(
    db: &Connection,
    account: i64,
    mac: &str,
) -> Result<Vec<SessionRow>, StoreError> {
    let all = "FROM sessions s, (SELECT ?2 AS mac) m WHERE s.account = ?1";
    db.prepare_cached(&format!("SELECT {SESSION_COLUMNS} {all}"))?
        .query_map(params![account, mac], |row| Ok(session_of(row)))?
        .map(|session| session?)
        .collect()
}

/// One of an account's sessions as if this device had it.
pub(super) fn session_by_account(
    db: &Connection,
    account: i64,
    venue: &str,
    metric: Metric,
    mac: &str,
) -> Result<Option<SessionRow>, StoreError> {
    let sessions = sessions_of_account(db, account, mac)?;
    Ok(sessions.into_iter().find(|row| row.venue == venue && row.metric == metric))
}

/// One of an account's sessions for each device that has it: first this one, then the others.
pub(super) fn session_on_devices(
    db: &Connection,
    account: i64,
    venue: &str,
    metric: Metric,
    first: &str,
) -> Result<Vec<SessionRow>, StoreError> {
    let is_it = "s.account = ?1 AND s.venue = ?2 AND s.metric = ?3 ORDER BY m.mac != ?4";
    db.prepare_cached(&format!("SELECT {SESSION_COLUMNS} FROM {ON_DEVICES} WHERE {is_it}"))?
        .query_map(params![account, venue, metric, first], |row| Ok(session_of(row)))?
        .map(|session| session?)
        .collect()
}

pub(super) fn session_of(row: &Row) -> Result<SessionRow, StoreError> {
    let mint: Option<String> = row.get(11)?;
    Ok(SessionRow {
        account: row.get(0)?,
        mac: mac_of(&row.get::<_, String>(1)?)?,
        venue: row.get(2)?,
        metric: row.get(3)?,
        allotment: row.get(4)?,
        used: row.get(5)?,
        started: row.get(6)?,
        ends: row.get(7)?,
        revision: row.get(8)?,
        worth: Box::new(Worth {
            value: money(row, 9, 12)?,
            of: row.get(10)?,
            mint: mint.and_then(|url| MintUrl::parse(&url).ok()),
        }),
        ticket: None,
    })
}
