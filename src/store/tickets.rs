//! Session tickets: an account is found by what the guest keeps, and moves to the MAC that shows it, and to the
//! venue where it is shown.
//!
//! Only a digest of the ticket is stored, so it cannot be shown again; a guest that lost it gets a new one. An
//! account has one MAC at a time. Everything that hangs on it moves in one commit: sessions, requests with their
//! tokens, and what the new MAC has paid itself is added. What was sold at other venues ends there in the same commit
//! that begins what its value buys here.

use super::accounts::{account_by_mac, account_of};
use super::grants::{add_grant, NewGrant};
use super::reference::Reference;
use super::session_rows::{session_by_account, sessions_of_account, SessionRow};
use super::ticket::Ticket;
use super::time::{self, Moment};
use super::values::mac_of;
use super::worth::{Moving, VenuePrice};
use super::{RequestId, Store, StoreError};
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis, Sats, UnixSeconds};
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
    /// The account has moved lately: wait this long.
    TooSoon(Millis),
    /// What is left of it, all at other venues, buys no whole step at this one.
    TooLittle,
}

/// Where a ticket is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownAt {
    pub price: VenuePrice,
    /// The guest wants to go on here: where that is not to be had, nothing changes at all.
    pub is_wish: bool,
}

/// When a write takes place.
struct Now {
    service: Millis,
    wall: UnixSeconds,
    moment: Moment,
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
            let mac = mac_of(&mac)?;
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

    /// Moves the account of a ticket with everything that it has from one MAC to another, and what it has at other
    /// venues to where the ticket is shown. What the other has paid itself is added; only this ticket stays valid.
    pub async fn take_over(
        &self,
        ticket: &Ticket,
        from: MacAddr,
        mac: MacAddr,
        at: ShownAt,
    ) -> Result<TakeOver, StoreError> {
        let (when, digest) = (self.moment_of_writing(), ticket.digest());
        self.write(move |tx| {
            let now = when.service;
            let (from, to) = (from.to_string(), mac.to_string());
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
            let mut sessions = sessions_of_account(tx, account)?;
            let other = account_by_mac(tx, &to)?;
            if let Some(other) = other {
                sessions.extend(sessions_of_account(tx, other)?);
            }
            let moving = at.price.moving(&sessions, now);
            if moving == Moving::TooLittle && at.is_wish {
                return Ok(TakeOver::TooLittle);
            }
            let left = tx.execute(
                "DELETE FROM account_macs WHERE mac = ?1 AND account = ?2",
                params![from, account],
            )?;
            if left != 1 {
                return Ok(TakeOver::Changed);
            }
            if let Some(other) = other {
                absorb(tx, account, other, now)?;
            }
            tx.execute("INSERT INTO account_macs (mac, account) VALUES (?1, ?2)", params![to, account])?;
            tx.execute("UPDATE accounts SET moved_ms = ?2 WHERE id = ?1", params![account, now])?;
            tx.execute("UPDATE requests SET mac = ?2 WHERE mac = ?1", params![from, to])?;
            tx.execute(
                "UPDATE sessions SET mac = ?2, revision = revision + 1 WHERE account = ?1",
                params![account, to],
            )?;
            bring(tx, account, mac, &at.price.venue, at.price.metric, moving, &when)?;
            sessions_of_account(tx, account).map(TakeOver::Done)
        })
        .await
    }

    /// Moves what the account of a ticket has at other venues to this one, where its own MAC shows it.
    pub async fn bring(
        &self,
        ticket: &Ticket,
        mac: MacAddr,
        price: VenuePrice,
    ) -> Result<TakeOver, StoreError> {
        let (when, digest) = (self.moment_of_writing(), ticket.digest());
        self.write(move |tx| {
            let account = tx
                .query_row(
                    "SELECT id FROM accounts JOIN account_macs ON id = account WHERE ticket = ?1 AND mac = ?2",
                    params![digest, mac.to_string()],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(account) = account else { return Ok(TakeOver::Changed) };
            let moving = price.moving(&sessions_of_account(tx, account)?, when.service);
            if moving == Moving::TooLittle {
                return Ok(TakeOver::TooLittle);
            }
            bring(tx, account, mac, &price.venue, price.metric, moving, &when)?;
            sessions_of_account(tx, account).map(TakeOver::Done)
        })
        .await
    }

    fn moment_of_writing(&self) -> Now {
        Now { service: self.now(), wall: self.wall(), moment: self.0.time.moment() }
    }
}

/// Ends an account's sessions at other venues, and grants what they are worth at this one.
fn bring(
    tx: &Transaction,
    account: i64,
    mac: MacAddr,
    venue: &str,
    metric: Metric,
    moving: Moving,
    when: &Now,
) -> Result<(), StoreError> {
    let Moving::Steps { from, allotment, value, mint } = moving else { return Ok(()) };
    // Or a reboot would begin before this end, and give the sessions their last seconds again.
    time::note(tx, &when.moment)?;
    for (venue, metric) in from {
        tx.execute(
            "UPDATE sessions SET ends_ms = ?4, revision = revision + 1
             WHERE account = ?1 AND venue = ?2 AND metric = ?3 AND ends_ms > ?4",
            params![account, venue, metric, when.service],
        )?;
    }
    let reference = Reference::Moved(RequestId::random()?);
    let venue = venue.to_owned();
    // No sale: it was counted when it was paid.
    let grant = NewGrant {
        reference,
        mac,
        venue,
        amount: Sats(0).into(),
        metric,
        allotment,
        value: value.into(),
        mint,
    };
    add_grant(tx, &grant, when.service, when.wall).map(drop)
}

fn stays(moved: Option<Millis>, now: Millis) -> Millis {
    moved.map_or(Millis::ZERO, |moved| moved.saturating_add(TAKE_OVER_EVERY).saturating_sub(now))
}

/// Adds what the account `other` has to `account`, and ends it.
fn absorb(tx: &Transaction, account: i64, other: i64, now: Millis) -> Result<(), StoreError> {
    for theirs in sessions_of_account(tx, other)? {
        match session_by_account(tx, account, &theirs.venue, theirs.metric)? {
            None => {
                tx.execute(
                    "UPDATE sessions SET account = ?1 WHERE account = ?2 AND venue = ?3 AND metric = ?4",
                    params![account, other, theirs.venue, theirs.metric],
                )?;
            }
            Some(ours) => {
                let sum = sum(&ours, &theirs, now);
                tx.execute(
                    "UPDATE sessions SET allotment = ?4, used = ?5, started_ms = ?6, ends_ms = ?7, revision = ?8,
                         value = ?9, value_of = ?10, mint = ?11
                     WHERE account = ?1 AND venue = ?2 AND metric = ?3",
                    params![
                        account,
                        sum.venue,
                        sum.metric,
                        sum.allotment,
                        sum.used,
                        sum.started,
                        sum.ends,
                        sum.revision,
                        sum.worth.value,
                        sum.worth.of,
                        sum.worth.mint.as_ref().map(MintUrl::as_str)
                    ],
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
    let runs = |row: &SessionRow| row.remaining(now) > Allotment::ZERO;
    let left = |row: &SessionRow| row.worth.left(row.remaining(now));
    // A holder of an older row of either sees that this one is newer.
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
            worth: Box::new(left(ours).plus(left(theirs))),
            ..ours.clone()
        },
    };
    SessionRow { revision, ..sum }
}
