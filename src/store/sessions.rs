//! Accounts, grants and sessions: who has paid for how long.
//!
//! What is paid belongs to an account, which a MAC is attached to. An account has at most one running session
//! of each metric at each venue. A session only grows, by grants, and ends at a service time; a grant after its
//! end begins a new one. One by bytes also ends when it is used up, and else a year after its last grant.

use super::worth::Worth;
use super::{time, Store, StoreError, Ticket};
use crate::config::{Metric, MintUrl};
use crate::json::json;
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis, Sats, UnixSeconds};
use rusqlite::{params, Connection, OptionalExtension, Row, Transaction};
use serde_json::Value;

/// How long paid bytes wait to be used.
const BYTES_KEPT: Millis = Millis::from_secs(365 * 86_400);

/// By so much (seconds) the wall clock may have been set back since a sale without it being left out of the day's.
const SLACK: u64 = 3600;

/// A payment to be turned into access. `reference` names the payment and counts once, ever.
#[derive(Clone, Debug)]
pub struct NewGrant {
    pub reference: String,
    pub mac: MacAddr,
    pub venue: String,
    pub amount: Sats,
    pub metric: Metric,
    pub allotment: Allotment,
    /// What the allotment costs: the amount but for a rest that bought nothing.
    pub value: Sats,
    /// At whose price.
    pub mint: Option<MintUrl>,
}

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

/// What was sold since a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sales {
    pub count: u32,
    pub amount: Sats,
    pub time: Millis,
    /// Bytes.
    pub data: Allotment,
}

impl NewGrant {
    /// As a column of a journal that grants later.
    pub(super) fn to_text(&self) -> String {
        json!({
            "reference": self.reference,
            "mac": self.mac.to_string(),
            "venue": self.venue,
            "amount": self.amount.0,
            "metric": self.metric.as_str(),
            "allotment": self.allotment.0,
            "value": self.value.0,
            "mint": self.mint.as_ref().map(MintUrl::as_str),
        })
        .to_string()
    }

    pub(super) fn from_text(text: &str) -> Result<NewGrant, StoreError> {
        let unreadable = || StoreError::unreadable("access");
        let json: Value = serde_json::from_str(text).map_err(|_| unreadable())?;
        let field = |name: &str| json[name].as_str().ok_or_else(unreadable);
        let number = |name: &str| json[name].as_u64().ok_or_else(unreadable);
        let amount = Sats(number("amount")?);
        Ok(NewGrant {
            reference: field("reference")?.to_owned(),
            mac: field("mac")?.parse().map_err(|_| unreadable())?,
            venue: field("venue")?.to_owned(),
            amount,
            metric: Metric::parse(field("metric")?).ok_or_else(unreadable)?,
            allotment: Allotment(number("allotment")?),
            // Earlier versions did not write these.
            value: json["value"].as_u64().map_or(amount, Sats),
            mint: json["mint"].as_str().and_then(|url| MintUrl::parse(url).ok()),
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

    /// Ends the sessions of a MAC now, those of one venue or all. Answers those that were running.
    pub async fn revoke(&self, mac: MacAddr, venue: Option<String>) -> Result<Vec<SessionRow>, StoreError> {
        let now = self.now();
        let moment = self.0.time.moment();
        self.write(move |tx| {
            // Or a reboot would begin before this end, and give the session its last seconds again.
            time::note(tx, &moment)?;
            let sql = "UPDATE sessions SET ends_ms = ?2, revision = revision + 1
                       WHERE mac = ?1 AND ends_ms > ?2 AND (?3 IS NULL OR venue = ?3) RETURNING ";
            tx.prepare(&format!("{sql} {COLUMNS}"))?
                .query_map(params![mac.to_string(), now, venue], |row| Ok(session_of(row)))?
                .map(|session| session?)
                .collect()
        })
        .await
    }

    /// Writes down what was used, and ends the sessions of which nothing is left. Answers those that ended.
    pub async fn used(&self, usage: Vec<UsageRow>) -> Result<Vec<SessionRow>, StoreError> {
        let now = self.now();
        self.write(move |tx| {
            note_usage(tx, &usage)?;
            let sql = "UPDATE sessions SET ends_ms = ?1, revision = revision + 1
                       WHERE metric = 'bytes' AND used >= allotment AND ends_ms > ?1 RETURNING ";
            tx.prepare(&format!("{sql} {COLUMNS}"))?
                .query_map([now], |row| Ok(session_of(row)))?
                .map(|session| session?)
                .collect()
        })
        .await
    }

    /// Sessions that end after `since`, soonest first.
    pub async fn sessions_ending_after(&self, since: Millis) -> Result<Vec<SessionRow>, StoreError> {
        self.read(move |db| {
            db.prepare(&format!("SELECT {COLUMNS} FROM sessions WHERE ends_ms > ?1 ORDER BY ends_ms"))?
                .query_map([since], |row| Ok(session_of(row)))?
                .map(|session| session?)
                .collect()
        })
        .await
    }

    /// Payments since a wall time; what the operator gave away is not counted.
    pub async fn sales_since(&self, wall: UnixSeconds) -> Result<Sales, StoreError> {
        // Service time is never ahead of the wall clock: what is that old by the one is so by the other.
        let age = Millis::from_secs(self.wall().0.saturating_sub(wall.0).saturating_add(SLACK));
        let since = self.now().saturating_sub(age);
        self.read(move |db| {
            Ok(db.query_row(
                "SELECT COUNT(*), COALESCE(SUM(amount), 0),
                        COALESCE(SUM(allotment) FILTER (WHERE metric = 'milliseconds'), 0),
                        COALESCE(SUM(allotment) FILTER (WHERE metric = 'bytes'), 0)
                 FROM grants WHERE granted_ms >= ?1 AND wall >= ?2 AND amount > 0",
                params![since, wall],
                |row| {
                    Ok(Sales {
                        count: row.get(0)?,
                        amount: row.get(1)?,
                        time: row.get(2)?,
                        data: row.get(3)?,
                    })
                },
            )?)
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

pub(super) fn add_grant(
    tx: &Transaction,
    grant: &NewGrant,
    now: Millis,
    wall: UnixSeconds,
) -> Result<SessionRow, StoreError> {
    let mac = grant.mac.to_string();
    let account = account_of(tx, &mac, now)?;
    let new = tx.execute(
        "INSERT INTO grants (reference, account, mac, venue, amount, metric, allotment, granted_ms, wall)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        params![
            grant.reference,
            account,
            mac,
            grant.venue,
            grant.amount,
            grant.metric,
            grant.allotment,
            now,
            wall
        ],
    )?;
    if new == 1 {
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
                 (account, metric, mac, venue, allotment, started_ms, ends_ms, value, value_of, mint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6 + ?7, ?8, ?9, ?10)
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
                worth.mint.as_ref().map(MintUrl::as_str)
            ],
        )?;
    }
    let mut session = session_by_account(tx, account, &grant.venue, grant.metric)?.ok_or(StoreError::Gone)?;
    // What the operator gives away reaches nobody who could keep a ticket.
    if new == 1 && grant.amount > Sats(0) {
        session.ticket = first_ticket(tx, account)?;
    }
    Ok(session)
}

/// The session that this payment went into, as it is now; nothing where the payment was never granted.
pub(super) fn granted_session(db: &Connection, reference: &str) -> Result<Option<SessionRow>, StoreError> {
    let granted = db
        .query_row("SELECT account, venue, metric FROM grants WHERE reference = ?1", [reference], |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((account, venue, metric)) = granted else { return Ok(None) };
    session_by_account(db, account, &venue, metric)
}

/// A ticket for an account that has none.
fn first_ticket(tx: &Transaction, account: i64) -> Result<Option<Ticket>, StoreError> {
    let ticket = Ticket::random()?;
    let made = tx.execute(
        "UPDATE accounts SET ticket = ?2 WHERE id = ?1 AND ticket IS NULL",
        params![account, ticket.digest()],
    )?;
    Ok((made == 1).then_some(ticket))
}

pub(super) fn account_of(tx: &Transaction, mac: &str, now: Millis) -> Result<i64, StoreError> {
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

const COLUMNS: &str =
    "account, mac, venue, metric, allotment, used, started_ms, ends_ms, revision, value, value_of, mint";

pub(super) fn sessions_of_account(db: &Connection, account: i64) -> Result<Vec<SessionRow>, StoreError> {
    db.prepare(&format!("SELECT {COLUMNS} FROM sessions WHERE account = ?1"))?
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
        &format!("SELECT {COLUMNS} FROM sessions WHERE account = ?1 AND venue = ?2 AND metric = ?3"),
        params![account, venue, metric],
        |row| Ok(session_of(row)),
    )
    .optional()?
    .transpose()
}

fn session_of(row: &Row) -> Result<SessionRow, StoreError> {
    let mint: Option<String> = row.get(11)?;
    Ok(SessionRow {
        account: row.get(0)?,
        mac: row.get::<_, String>(1)?.parse().map_err(|_| StoreError::unreadable("mac"))?,
        venue: row.get(2)?,
        metric: row.get(3)?,
        allotment: row.get(4)?,
        used: row.get(5)?,
        started: row.get(6)?,
        ends: row.get(7)?,
        revision: row.get(8)?,
        worth: Box::new(Worth {
            value: row.get(9)?,
            of: row.get(10)?,
            mint: mint.and_then(|url| MintUrl::parse(&url).ok()),
        }),
        ticket: None,
    })
}
