//! Moves what an account has to another device: after a change of the MAC address, or to the guest's next device. A ticket,
//! a linked card or the login of a linked wallet stands for the account. At another venue its value goes on, at the price
//! there.
//!
//! The order is always: commit, close, open. A device that goes is out of the gate before another comes in, and after a
//! crash in between the start closes first as well. Refused: a second move right after the first.

use super::tickets::TicketError;
use super::{Access, Session};
use crate::config::Metric;
use crate::mac::MacAddr;
use crate::network::gate::Station;
use crate::network::neighbours::Caller;
use crate::network::witness;
use crate::store::{
    making_room, AccountKey, AccountRow, Claim, Linked, MoveRules, Moved, NewDevice, Reference, SessionRow,
    ShownAt, StoreError, TakeOver, Ticket,
};
use crate::task;
use crate::units::{Allotment, Millis};
use std::time::Duration;
use tokio::sync::MutexGuard;

/// A MAC that was heard of within this time is still there.
const THERE: Millis = Millis::from_secs(30);
/// The longest wait for the gate. A gate that refuses is tried again, but no guest waits longer.
const OPENING: Duration = Duration::from_secs(3);
const GATE_RETRY: Duration = Duration::from_secs(1);

/// Where and how a device is to be attached.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the devices that have to go may be.
    pub devices: Vec<String>,
    pub at: ShownAt,
    pub rules: MoveRules,
    /// The move is refused if nothing is left.
    pub wants_something: bool,
}

/// The result of a right ticket, card or login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The devices that had to go; empty if the account is this caller's already.
    pub detached: Vec<MacAddr>,
    pub session: Option<Session>,
}

/// A claim that is linked to an account now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedAccount {
    /// The account's name.
    pub account: String,
    /// The devices that had to go.
    pub detached: Vec<MacAddr>,
}

/// An account as its guest is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belongings {
    /// The longest attached first.
    pub macs: Vec<MacAddr>,
    /// What is left at the guest's venue or, if that is nothing, at another one.
    pub remaining: Option<(Metric, Allotment)>,
}

impl Access {
    /// Moves the account that the ticket stands for to the caller's MAC. The device that makes room must be gone.
    /// `moved` is told the devices that have to go, right after the commit. To be awaited to its end, because the gate
    /// must follow.
    pub async fn take_over(
        &self,
        caller: &Caller,
        place: Place,
        text: &str,
        moved: impl FnOnce(&[MacAddr]),
    ) -> Result<TakenOver, TicketError> {
        let (ticket, _) = self.read_ticket(caller.mac, text).await?;
        let key = AccountKey::Ticket(ticket.clone());
        let taken = self.attach(caller, place, &key, moved).await?;
        self.tickets.remember(caller.mac, ticket, self.store.now());
        Ok(taken)
    }

    /// The same for the account that a card or a wallet claims, whether a device that has to go is there or not.
    pub async fn take_over_claimed(
        &self,
        caller: &Caller,
        place: Place,
        claim: Claim,
        moved: impl FnOnce(&[MacAddr]),
    ) -> Result<TakenOver, TicketError> {
        self.may_show(caller.mac)?;
        self.attach(caller, place, &AccountKey::Claim(claim), moved).await
    }

    /// The same for the account that something was paid for.
    pub async fn take_over_paid(
        &self,
        caller: &Caller,
        place: Place,
        paid: Reference,
        moved: impl FnOnce(&[MacAddr]),
    ) -> Result<TakenOver, TicketError> {
        self.may_show(caller.mac)?;
        self.attach(caller, place, &AccountKey::Payment(paid), moved).await
    }

    async fn attach(
        &self,
        caller: &Caller,
        place: Place,
        key: &AccountKey,
        moved: impl FnOnce(&[MacAddr]),
    ) -> Result<TakenOver, TicketError> {
        let (mac, Place { devices, at, rules, wants_something }) = (caller.mac, place);
        let venue = at.price.venue.clone();
        let by_ticket = matches!(key, AccountKey::Ticket(_));
        let _moving = self.tickets.moving.lock().await;
        let account = self.store.account(key, mac).await?;
        let account = account.ok_or(if by_ticket { TicketError::Wrong } else { TicketError::NothingLeft })?;
        if wants_something && !account.has_something(self.store.now()) {
            return Err(TicketError::NothingLeft);
        }
        if account.devices.contains(&mac) {
            if at.is_wish {
                self.bring(caller, key, at).await?;
            }
            return Ok(TakenOver { detached: Vec::new(), session: self.session(mac, &venue) });
        }
        let leaving = making_room(&account.devices, mac, rules.max_devices);
        let wait = account.stays(&leaving, rules, self.store.now());
        if wait > Millis::ZERO {
            return Err(TicketError::TooSoon(wait));
        }
        let must_be_gone = if by_ticket { leaving.clone() } else { Vec::new() };
        look_around(caller.clone(), devices, must_be_gone).await?;
        self.settle_for_a_move().await;
        let new = NewDevice { mac, leaving: leaving.clone(), at, rules };
        let committing = self.tickets.committing.lock().await;
        let now_is = done(self.store.attach(key, new).await?)?;
        log::info!("{mac} goes on with what an account has; it had {} other devices", account.devices.len());
        self.tickets.drop_of(mac);
        moved(&leaving);
        self.follow_move(committing, now_is, &leaving, mac).await;
        Ok(TakenOver { detached: leaving, session: self.session(mac, &venue) })
    }

    /// Detaches a device from the account that this stands for. What is left stays with the account: time runs on, bytes
    /// wait. It counts among what the caller has shown, not the device.
    pub async fn detach(&self, caller: MacAddr, key: &AccountKey, mac: MacAddr) -> Result<(), TicketError> {
        self.may_show(caller)?;
        let _moving = self.tickets.moving.lock().await;
        // Without this look, a refusal would write the meter down.
        let account = self.store.account(key, mac).await?;
        if !account.is_some_and(|account| account.devices.contains(&mac)) {
            return Err(TicketError::NothingLeft);
        }
        self.settle_for_a_move().await;
        let committing = self.tickets.committing.lock().await;
        let moved = self.store.detach(key, mac).await?.ok_or(TicketError::NothingLeft)?;
        log::info!("{mac} is detached from its account");
        self.follow_move(committing, moved, &[mac], mac).await;
        Ok(())
    }

    /// Lets a card or a wallet claim the account of this MAC. If it claims another one already, both become one.
    /// `moved` is told the devices that have to go, right after the commit. To be awaited to its end.
    pub async fn link(
        &self,
        mac: MacAddr,
        claim: Claim,
        rules: MoveRules,
        moved: impl FnOnce(&[MacAddr]),
    ) -> Result<LinkedAccount, TicketError> {
        let _moving = self.tickets.moving.lock().await;
        self.settle_for_a_move().await;
        let committing = self.tickets.committing.lock().await;
        match self.store.link(mac, claim, rules).await? {
            Linked::TooMany => Err(TicketError::TooManyClaims),
            Linked::NothingPaid => Err(TicketError::NothingPaid),
            Linked::TooSoon(wait) => Err(TicketError::TooSoon(wait)),
            Linked::Done { account, detached, moved: now_is } => {
                log::info!("{mac} has linked its account, which has {} devices", now_is.devices.len());
                moved(&detached);
                self.follow_move(committing, now_is, &detached, mac).await;
                Ok(LinkedAccount { account, detached })
            }
        }
    }

    /// The name of the account that this claims; `None` before something was linked.
    pub async fn claimed_account(&self, claim: &Claim) -> Result<Option<String>, StoreError> {
        self.store.claimed_account(claim).await
    }

    /// The devices of an account and what is left, to be shown to `mac` at a venue. `None` if there is no such account.
    pub async fn belongings(
        &self,
        key: &AccountKey,
        mac: MacAddr,
        venue: &str,
    ) -> Result<Option<Belongings>, StoreError> {
        let account = self.store.account(key, mac).await?;
        Ok(account.map(|AccountRow { devices, sessions, .. }| {
            let now = self.store.now();
            let live = |row: &SessionRow| {
                let known = self.sessions();
                let current = known.values().flatten().find(|known| known.is_same_session(row));
                self.view(current.unwrap_or(row))
            };
            let running: Vec<Session> =
                sessions.iter().filter(|row| row.ends > now).map(live).filter(Session::is_running).collect();
            let first = |here: bool| {
                let those = running.iter().filter(|session| !here || session.venue == venue);
                those.min_by_key(|session| session.metric == Metric::Bytes)
            };
            let remaining = first(true).or_else(|| first(false));
            let remaining = remaining.map(|session| (session.metric, session.remaining));
            Belongings { macs: devices, remaining }
        }))
    }

    /// The current row of a session; `None` if the device has lost it to another one. To be called while nothing moves.
    pub(super) async fn as_it_is_now(&self, row: &SessionRow) -> Option<SessionRow> {
        let current = self.store.sessions_of_device(row.mac).await.unwrap_or_default();
        let ticket: Option<Ticket> = row.ticket.clone();
        let is_it = |now: &SessionRow| now.venue == row.venue && now.metric == row.metric;
        current.into_iter().find(is_it).map(|now| SessionRow { ticket, ..now })
    }

    /// Moves what this caller's account has at other venues to the one where it is.
    async fn bring(&self, caller: &Caller, key: &AccountKey, at: ShownAt) -> Result<(), TicketError> {
        let mac = caller.mac;
        if self.stations(mac).iter().all(|station| station.venue == at.price.venue) {
            return Ok(());
        }
        self.may_wander(mac)?;
        look_around(caller.clone(), Vec::new(), Vec::new()).await?;
        self.settle_for_a_move().await;
        let venue = at.price.venue.clone();
        let committing = self.tickets.committing.lock().await;
        let moved = done(self.store.bring(key, mac, at.price).await?)?;
        log::info!("{mac} has come to {venue} and goes on there");
        self.follow_move(committing, moved, &[], mac).await;
        Ok(())
    }

    /// Writes down what was used up to this moment: the remainder is about to become value elsewhere, and bytes that the
    /// last count does not know would be had twice. The kernel is asked again rather than closed first, because a move
    /// may still be refused, and closing would have cut the guest's connections for nothing. What passes while the move
    /// is committed is the guest's.
    pub(super) async fn settle_for_a_move(&self) {
        self.gatekeeper().count_now().await;
        self.write_usage_now();
    }

    /// Brings table and gate in line with what was just committed: closes the stations that have nothing any more, then
    /// opens those that have something, `newest` last. The gate may be late: it is opened for what the table has by then.
    pub(super) async fn follow_move(
        &self,
        committing: MutexGuard<'_, ()>,
        moved: Moved,
        gone: &[MacAddr],
        newest: MacAddr,
    ) {
        let Moved { devices, mut rows } = moved;
        let mut closing: Vec<Station> = devices.iter().flat_map(|mac| self.stations(*mac)).collect();
        for mac in gone {
            self.tickets.drop_of(*mac);
            closing.extend(self.graces.end(*mac, None).map(|venue| Station { mac: *mac, venue }));
        }
        let now = self.store.now();
        self.moved().extend(devices.iter().map(|mac| (*mac, now)));
        self.replace(&devices, &rows);
        drop(committing);
        rows.sort_by_key(|row| row.mac == newest);
        let access = self.clone();
        let following = task::spawn(async move {
            for station in closing {
                access.close_surely(station).await;
            }
            for row in rows {
                access.open_for(row).await;
            }
        });
        let _ = tokio::time::timeout(OPENING, following).await;
    }

    /// Closes a station until it is closed, unless it has something again.
    pub(super) async fn close_surely(&self, station: Station) {
        while !self.has_running(&station) {
            let text = format!("{} at {}", station.mac, station.venue);
            match self.gatekeeper().close(station.clone()).await {
                Ok(()) => return,
                Err(err) => {
                    log::error!("{text} has nothing any more, but the gate could not be closed yet: {err}");
                    tokio::time::sleep(GATE_RETRY).await;
                }
            }
        }
    }
}

fn done(outcome: TakeOver) -> Result<Moved, TicketError> {
    match outcome {
        TakeOver::Done(moved) => Ok(moved),
        TakeOver::Changed => Err(TicketError::Wrong),
        TakeOver::TooSoon(wait) => Err(TicketError::TooSoon(wait)),
        TakeOver::TooLittle => Err(TicketError::TooLittle),
    }
}

/// Whether these devices have left, and the caller's address is its own.
async fn look_around(caller: Caller, devices: Vec<String>, gone: Vec<MacAddr>) -> Result<(), TicketError> {
    let looked = task::blocking(move || {
        let last = gone.into_iter().filter_map(|mac| witness::last_sign(&devices, mac)).min();
        match last {
            Some(ago) if ago < THERE => Err(TicketError::InUse(THERE.saturating_sub(ago))),
            _ => witness::confirm(&caller).map_err(TicketError::Clash),
        }
    });
    looked.await.unwrap_or(Err(TicketError::InUse(THERE)))
}
