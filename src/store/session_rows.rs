//! A session as it stands in the store, and how it is read.

use super::values::{mac_of, money};
use super::worth::Worth;
use super::{StoreError, Ticket};
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis};
use rusqlite::{params, Connection, OptionalExtension, Row};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    pub account: i64,
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
    /// Whether both are rows of one session, or of the sessions that followed each other on one account.
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

pub(super) const SESSION_COLUMNS: &str =
    "account, mac, venue, metric, allotment, used, started_ms, ends_ms, revision, value, value_of, mint, value_unit";

pub(super) fn sessions_of_account(db: &Connection, account: i64) -> Result<Vec<SessionRow>, StoreError> {
    db.prepare(&format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE account = ?1"))?
        .query_map([account], |row| Ok(session_of(row)))?
        .map(|session| session?)
        .collect()
}

pub(super) fn session_by_account(
    db: &Connection,
    account: i64,
    venue: &str,
    metric: Metric,
) -> Result<Option<SessionRow>, StoreError> {
    db.query_row(
        &format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE account = ?1 AND venue = ?2 AND metric = ?3"),
        params![account, venue, metric],
        |row| Ok(session_of(row)),
    )
    .optional()?
    .transpose()
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
