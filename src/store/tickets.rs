//! Session tickets: an account is found by what the guest keeps, and moves to the MAC that shows it.
//!
//! Only a digest of the ticket is stored, so nobody can be told it again; who has lost it gets a new one. An
//! account has one MAC at a time. Everything that hangs on it moves in one commit: sessions, requests with their
//! tokens, and what the new MAC has paid itself is added.

use super::sessions::{account_of, session_by_account, sessions_of_account, SessionRow};
use super::ticket::Ticket;
use super::{Store, StoreError};
use crate::config::Metric;
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis};
use rusqlite::{params, OptionalExtension, Transaction};

/// An account moves this often at most, or two devices could use one purchase by turns.
pub const TAKE_OVER_EVERY: Millis = Millis::from_secs(60);

/// What became of an attempt to take an account over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// It has moved; its sessions as they are now.
    Done(Vec<SessionRow>),
    /// The ticket is not valid (any more), or another MAC was quicker.
    Changed,
    /// The account has moved lately: wait so long.
    TooSoon(Millis),
}

impl Store {
    /// The MAC whose account the ticket stands for, and how long the account has to stay with it.
    pub async fn ticket_holder(&self, ticket: &Ticket) -> Result<Option<(MacAddr, Millis)>, StoreError> {
        let (now, digest) = (self.now(), ticket.digest());
        self.read(move |tx| {
            let holder = tx
                .query_row(
                    "SELECT mac, moved_ms FROM account_macs JOIN accounts ON id = account WHERE ticket = ?1",
                    [digest],
                    |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<Millis>>(1)?)),
                )
                .optional()?;
            let Some((mac, moved)) = holder else { return Ok(None) };
            let mac = mac.parse().map_err(|_| StoreError::unreadable("mac"))?;
            Ok(Some((mac, stays(moved, now))))
        })
        .await
    }

    /// Whether the account of this MAC has a ticket.
    pub async fn has_ticket(&self, mac: MacAddr) -> Result<bool, StoreError> {
        self.read(move |tx| {
            let mut known = tx.prepare_cached(
                "SELECT 1 FROM account_macs JOIN accounts ON id = account WHERE mac = ?1 AND ticket IS NOT NULL",
            )?;
            Ok(known.exists([mac.to_string()])?)
        })
        .await
    }

    /// A new ticket for a MAC that has paid, for access or for tokens; an earlier one is void. Nothing for a MAC
    /// that has not.
    pub async fn renew_ticket(&self, mac: MacAddr) -> Result<Option<Ticket>, StoreError> {
        let now = self.now();
        let ticket = Ticket::random()?;
        self.write(move |tx| {
            let mac = mac.to_string();
            let has_paid = tx
                .prepare(
                    "SELECT 1 FROM account_macs WHERE mac = ?1 UNION ALL
                     SELECT 1 FROM requests JOIN parts ON request = requests.id
                     WHERE mac = ?1 AND state IN ('paid', 'claimed')",
                )?
                .exists([&mac])?;
            if !has_paid {
                return Ok(None);
            }
            let account = account_of(tx, &mac, now)?;
            tx.execute("UPDATE accounts SET ticket = ?2 WHERE id = ?1", params![account, ticket.digest()])?;
            Ok(Some(ticket))
        })
        .await
    }

    /// Moves the account of a ticket with everything that it has from one MAC to another. What the other has
    /// paid itself is added; only this ticket stays valid.
    pub async fn take_over(
        &self,
        ticket: &Ticket,
        from: MacAddr,
        to: MacAddr,
    ) -> Result<TakeOver, StoreError> {
        let (now, digest) = (self.now(), ticket.digest());
        self.write(move |tx| {
            let (from, to) = (from.to_string(), to.to_string());
            let account: Option<(i64, Option<Millis>)> = tx
                .query_row(
                    "SELECT id, moved_ms FROM accounts JOIN account_macs ON id = account
                     WHERE ticket = ?1 AND mac = ?2",
                    params![digest, from],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let Some((account, moved)) = account else { return Ok(TakeOver::Changed) };
            let stays = stays(moved, now);
            if stays > Millis::ZERO {
                return Ok(TakeOver::TooSoon(stays));
            }
            let left = tx.execute(
                "DELETE FROM account_macs WHERE mac = ?1 AND account = ?2",
                params![from, account],
            )?;
            if left != 1 {
                return Ok(TakeOver::Changed);
            }
            absorb(tx, account, &to, now)?;
            tx.execute("INSERT INTO account_macs (mac, account) VALUES (?1, ?2)", params![to, account])?;
            tx.execute("UPDATE accounts SET moved_ms = ?2 WHERE id = ?1", params![account, now])?;
            tx.execute("UPDATE requests SET mac = ?2 WHERE mac = ?1", params![from, to])?;
            tx.execute(
                "UPDATE sessions SET mac = ?2, revision = revision + 1 WHERE account = ?1",
                params![account, to],
            )?;
            sessions_of_account(tx, account).map(TakeOver::Done)
        })
        .await
    }
}

fn stays(moved: Option<Millis>, now: Millis) -> Millis {
    moved.map_or(Millis::ZERO, |moved| moved.saturating_add(TAKE_OVER_EVERY).saturating_sub(now))
}

/// Adds what the MAC `of` has paid to `account`, and ends the account it had.
fn absorb(tx: &Transaction, account: i64, of: &str, now: Millis) -> Result<(), StoreError> {
    let other: Option<i64> =
        tx.query_row("SELECT account FROM account_macs WHERE mac = ?1", [of], |row| row.get(0)).optional()?;
    let Some(other) = other else { return Ok(()) };
    for theirs in sessions_of_account(tx, other)? {
        match session_by_account(tx, account, theirs.metric)? {
            None => {
                tx.execute(
                    "UPDATE sessions SET account = ?1 WHERE account = ?2 AND metric = ?3",
                    params![account, other, theirs.metric],
                )?;
            }
            Some(ours) => {
                let sum = sum(&ours, &theirs, now);
                tx.execute(
                    "UPDATE sessions SET allotment = ?3, used = ?4, started_ms = ?5, ends_ms = ?6, revision = ?7
                     WHERE account = ?1 AND metric = ?2",
                    params![account, sum.metric, sum.allotment, sum.used, sum.started, sum.ends, sum.revision],
                )?;
            }
        }
    }
    tx.execute("UPDATE grants SET account = ?1 WHERE account = ?2", params![account, other])?;
    // With it go its MAC and the sessions that were added.
    tx.execute("DELETE FROM accounts WHERE id = ?1", [other])?;
    Ok(())
}

/// One session with what both have left.
fn sum(ours: &SessionRow, theirs: &SessionRow, now: Millis) -> SessionRow {
    let runs = |row: &SessionRow| row.ends > now && (row.metric, row.used) < (row.metric, row.allotment);
    // Whoever still holds an older row of either sees that this one is newer.
    let revision = ours.revision.max(theirs.revision).saturating_add(1);
    let sum = match (runs(ours), runs(theirs)) {
        (_, false) => ours.clone(),
        (false, true) => theirs.clone(),
        (true, true) => SessionRow {
            allotment: Allotment(ours.allotment.0.saturating_add(theirs.allotment.0)),
            used: Allotment(ours.used.0.saturating_add(theirs.used.0)),
            ends: match ours.metric {
                Metric::Milliseconds => ours.ends.saturating_add(theirs.ends.saturating_sub(now)),
                Metric::Bytes => ours.ends.max(theirs.ends),
            },
            ..ours.clone()
        },
    };
    SessionRow { revision, ..sum }
}
