//! Accounts, grants and sessions: who has paid for how long.
//!
//! Paid time belongs to an account, which a MAC is attached to. A session only grows, by grants, and
//! ends at a service time; a grant after its end begins a new one.

use super::{time, Store, StoreError};
use crate::mac::MacAddr;
use crate::units::{Millis, Sats, UnixSeconds};
use rusqlite::{params, Connection, OptionalExtension, Row, Transaction};
use serde_json::{json, Value};

/// A payment to be turned into access. `reference` names the payment and counts once, ever.
#[derive(Clone, Debug)]
pub struct NewGrant {
    pub reference: String,
    pub mac: MacAddr,
    pub venue: String,
    pub amount: Sats,
    pub allotment: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    pub account: i64,
    pub mac: MacAddr,
    pub venue: String,
    /// Everything granted to this session.
    pub allotment: Millis,
    pub started: Millis,
    pub ends: Millis,
    /// Grows with every change, so that a reader knows which of two rows is the newer.
    pub revision: u32,
}

/// What was sold since a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sales {
    pub count: u32,
    pub amount: Sats,
    pub allotment: Millis,
}

impl NewGrant {
    /// As a column of a journal that grants later.
    pub(super) fn to_text(&self) -> String {
        json!({
            "reference": self.reference,
            "mac": self.mac.to_string(),
            "venue": self.venue,
            "amount": self.amount.0,
            "allotment": self.allotment.0,
        })
        .to_string()
    }

    pub(super) fn from_text(text: &str) -> Result<NewGrant, StoreError> {
        let unreadable = || StoreError::unreadable("access");
        let json: Value = serde_json::from_str(text).map_err(|_| unreadable())?;
        let field = |name: &str| json[name].as_str().ok_or_else(unreadable);
        let number = |name: &str| json[name].as_u64().ok_or_else(unreadable);
        Ok(NewGrant {
            reference: field("reference")?.to_owned(),
            mac: field("mac")?.parse().map_err(|_| unreadable())?,
            venue: field("venue")?.to_owned(),
            amount: Sats(number("amount")?),
            allotment: Millis(number("allotment")?),
        })
    }
}

impl Store {
    /// Grants access for a payment; the same reference again changes nothing and answers the session as it is.
    pub async fn grant(&self, grant: NewGrant) -> Result<SessionRow, StoreError> {
        let now = self.now();
        let wall = self.wall();
        self.write(move |tx| add_grant(tx, &grant, now, wall)).await
    }

    /// Ends the session of a MAC now. Answers the ended session, or nothing if none was running.
    pub async fn revoke(&self, mac: MacAddr) -> Result<Option<SessionRow>, StoreError> {
        let now = self.now();
        let moment = self.0.time.moment();
        self.write(move |tx| {
            // Or a reboot would begin before this end, and give the session its last seconds again.
            time::note(tx, &moment)?;
            let account = tx
                .query_row(
                    "UPDATE sessions SET ends_ms = ?2, revision = revision + 1 WHERE mac = ?1 AND ends_ms > ?2
                     RETURNING account",
                    params![mac.to_string(), now],
                    |row| row.get(0),
                )
                .optional()?;
            account.map_or(Ok(None), |account| session_by_account(tx, account))
        })
        .await
    }

    /// Sessions that end after `since`, soonest first.
    pub async fn sessions_ending_after(&self, since: Millis) -> Result<Vec<SessionRow>, StoreError> {
        self.read(move |db| {
            db.prepare(
                "SELECT account, mac, venue, allotment, started_ms, ends_ms, revision FROM sessions
                 WHERE ends_ms > ?1 ORDER BY ends_ms",
            )?
            .query_map([since], |row| Ok(session_of(row)))?
            .map(|session| session?)
            .collect()
        })
        .await
    }

    /// Payments since a wall time; what the operator gave away is not counted.
    pub async fn sales_since(&self, wall: UnixSeconds) -> Result<Sales, StoreError> {
        self.read(move |db| {
            Ok(db.query_row(
                "SELECT COUNT(*), COALESCE(SUM(amount), 0), COALESCE(SUM(allotment), 0) FROM grants
                 WHERE wall >= ?1 AND amount > 0",
                [wall],
                |row| Ok(Sales { count: row.get(0)?, amount: row.get(1)?, allotment: row.get(2)? }),
            )?)
        })
        .await
    }
}

pub(super) fn add_grant(
    tx: &Transaction,
    grant: &NewGrant,
    now: Millis,
    wall: UnixSeconds,
) -> Result<SessionRow, StoreError> {
    let mac = grant.mac.to_string();
    let account = account_of(tx, &mac, now)?;
    let new = tx.execute(
        "INSERT INTO grants (reference, account, mac, venue, amount, allotment, granted_ms, wall)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        params![grant.reference, account, mac, grant.venue, grant.amount, grant.allotment, now, wall],
    )?;
    if new == 1 {
        tx.execute(
            "INSERT INTO sessions (account, mac, venue, allotment, started_ms, ends_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5 + ?4)
             ON CONFLICT DO UPDATE SET mac = ?2, venue = ?3,
                 allotment = CASE WHEN ends_ms > ?5 THEN allotment + ?4 ELSE ?4 END,
                 started_ms = CASE WHEN ends_ms > ?5 THEN started_ms ELSE ?5 END,
                 ends_ms = MAX(ends_ms, ?5) + ?4, revision = revision + 1",
            params![account, mac, grant.venue, grant.allotment, now],
        )?;
    }
    session_by_account(tx, account)?.ok_or(StoreError::Gone)
}

fn account_of(tx: &Transaction, mac: &str, now: Millis) -> Result<i64, StoreError> {
    let known = tx
        .query_row("SELECT account FROM account_macs WHERE mac = ?1", [mac], |row| row.get(0))
        .optional()?;
    if let Some(account) = known {
        return Ok(account);
    }
    tx.execute("INSERT INTO accounts (created_ms) VALUES (?1)", [now])?;
    let account = tx.last_insert_rowid();
    tx.execute("INSERT INTO account_macs (mac, account) VALUES (?1, ?2)", params![mac, account])?;
    Ok(account)
}

pub(super) fn session_by_account(db: &Connection, account: i64) -> Result<Option<SessionRow>, StoreError> {
    db.query_row(
        "SELECT account, mac, venue, allotment, started_ms, ends_ms, revision FROM sessions WHERE account = ?1",
        [account],
        |row| Ok(session_of(row)),
    )
    .optional()?
    .transpose()
}

fn session_of(row: &Row) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        account: row.get(0)?,
        mac: row.get::<_, String>(1)?.parse().map_err(|_| StoreError::unreadable("mac"))?,
        venue: row.get(2)?,
        allotment: row.get(3)?,
        started: row.get(4)?,
        ends: row.get(5)?,
        revision: row.get(6)?,
    })
}
