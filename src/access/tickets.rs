//! A guest whose MAC address changed goes on with what was paid, by its session ticket; and so does a guest that is
//! at another venue now, with the value of what is left, at the price there.
//!
//! Refused: a ticket of an account whose MAC is still there, since then the ticket was copied; a second move right
//! after the first; and guessing. The paying MAC can have a new ticket, which voids the old one.

use super::{Access, Session};
use crate::mac::MacAddr;
use crate::network::gate::Station;
use crate::network::neighbours::Caller;
use crate::network::witness::{self, Clash};
use crate::pace::Pace;
use crate::store::{SessionRow, ShownAt, StoreError, TakeOver, Ticket};
use crate::task;
use crate::units::Millis;
use litemap::LiteMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A MAC that was heard of within this time is still there.
const THERE: Millis = Millis::from_secs(30);
/// The longest wait for the gate. A gate that refuses is tried again, but no guest waits longer.
const OPENING: Duration = Duration::from_secs(3);
/// Wrong tickets per MAC. With 128 random bits it is our work that is limited, and a guest's slips of the pen
/// must pass.
const GUESSES: (usize, Millis) = (10, Millis::from_secs(300));
/// Tickets shown per MAC, right ones too: each costs a look into the kernel.
const SHOWN: (usize, Millis) = (60, Millis::from_secs(60));
/// New tickets per MAC: each costs the flash a commit.
const RENEWALS: (usize, Millis) = (5, Millis::from_secs(300));
/// Moves of a MAC between venues: each costs the flash a commit, too.
const MOVES: (usize, Millis) = (5, Millis::from_secs(300));
/// How long a ticket of a guest without a session is remembered, to be shown.
const REMEMBERED: Millis = Millis::from_secs(3600);

/// Why a ticket is refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    #[error("this ticket is not valid")]
    Wrong,
    #[error("the device that paid is still in use here; turn its Wi-Fi off and try again after {}", seconds(.0))]
    InUse(Millis),
    #[error("this ticket was used a moment ago; try again after {}", seconds(.0))]
    TooSoon(Millis),
    #[error("too many tickets were tried; try again after {}", seconds(.0))]
    TooMany(Millis),
    #[error("this device has not paid here")]
    NothingPaid,
    #[error("what is left is worth less than the smallest step here; it stays where it was paid")]
    TooLittle,
    #[error("two devices use your network address; turn Wi-Fi off and on again")]
    Clash(#[from] Clash),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of a right ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// Whose MAC the account had before; `None` if it is this caller's already.
    pub from: Option<MacAddr>,
    pub session: Option<Session>,
}

/// What is known about tickets besides the store.
pub(super) struct Tickets {
    table: Mutex<Table>,
    /// Take-overs go one at a time: what was looked at is still so when it is done.
    moving: tokio::sync::Mutex<()>,
}

struct Table {
    /// Tickets in clear text that this run of the daemon has made or was shown, by their MAC: they can be shown
    /// to their guests again.
    clear: LiteMap<MacAddr, (Ticket, Millis)>,
    guesses: Pace,
    shown: Pace,
    renewals: Pace,
    moves: Pace,
}

impl Default for Tickets {
    fn default() -> Tickets {
        let pace = |(most, window)| Pace::new(most, window);
        let table = Table {
            clear: LiteMap::new(),
            guesses: pace(GUESSES),
            shown: pace(SHOWN),
            renewals: pace(RENEWALS),
            moves: pace(MOVES),
        };
        Tickets { table: Mutex::new(table), moving: tokio::sync::Mutex::default() }
    }
}

impl Tickets {
    pub fn remember(&self, mac: MacAddr, ticket: Ticket, now: Millis) {
        self.table().clear.insert(mac, (ticket, now));
    }

    /// Drops those of guests who are gone.
    pub fn forget(&self, has_session: impl Fn(MacAddr) -> bool, now: Millis) {
        let is_kept = |mac, made: Millis| has_session(mac) || made.saturating_add(REMEMBERED) > now;
        self.table().clear.retain(|mac, (_, made)| is_kept(*mac, *made));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Access {
    /// The ticket of this MAC's account, as far as it is known in clear text: after a restart only once it was
    /// shown or made again.
    pub fn ticket(&self, mac: MacAddr) -> Option<Ticket> {
        self.tickets.table().clear.get(&mac).map(|(ticket, _)| ticket.clone())
    }

    /// A new ticket for a MAC that has paid; the old one is void.
    pub async fn renew_ticket(&self, mac: MacAddr) -> Result<Ticket, TicketError> {
        let now = self.store.now();
        {
            let mut table = self.tickets.table();
            if !table.renewals.admit(mac, now) {
                return Err(TicketError::TooMany(table.renewals.wait(mac, now)));
            }
        }
        let ticket = self.store.renew_ticket(mac).await?.ok_or(TicketError::NothingPaid)?;
        self.tickets.remember(mac, ticket.clone(), now);
        Ok(ticket)
    }

    /// Whether this is the ticket of this MAC's account.
    pub async fn has_ticket(&self, mac: MacAddr) -> Result<bool, StoreError> {
        self.store.has_ticket(mac).await
    }

    pub async fn check_ticket(&self, mac: MacAddr, text: &str) -> Result<(), TicketError> {
        match self.read_ticket(mac, text).await? {
            (_, holder) if holder == mac => Ok(()),
            _ => Err(TicketError::Wrong),
        }
    }

    /// Moves the account that the ticket stands for to the caller's MAC, and what it has at other venues to the one
    /// where the caller is: the old one is closed, then the new one opened. An account that is the caller's already
    /// changes its venue only on its wish. `devices` are where the old MAC may be; `moved` is told it right after the
    /// commit. To be awaited to its end, because the gate must follow.
    pub async fn take_over(
        &self,
        caller: &Caller,
        devices: &[String],
        at: ShownAt,
        text: &str,
        moved: impl FnOnce(MacAddr),
    ) -> Result<TakenOver, TicketError> {
        let mac = caller.mac;
        let (ticket, _) = self.read_ticket(mac, text).await?;
        let moving = self.tickets.moving.lock().await;
        let Some((holder, wait)) = self.store.ticket_holder(&ticket).await? else {
            return Err(TicketError::Wrong);
        };
        let venue = at.price.venue.clone();
        if holder == mac {
            if at.is_wish {
                self.bring(caller, &ticket, at).await?;
            }
            self.tickets.remember(mac, ticket, self.store.now());
            return Ok(TakenOver { from: None, session: self.session(mac, &venue) });
        }
        if wait > Millis::ZERO {
            return Err(TicketError::TooSoon(wait));
        }
        look_around(caller.clone(), devices.to_vec(), holder).await?;
        self.settle_for_a_move().await;
        let rows = done(self.store.take_over(&ticket, holder, mac, at).await?)?;
        log::info!("{mac} has shown the ticket of {holder} and takes its place");
        self.tickets.table().clear.remove(&holder);
        self.tickets.remember(mac, ticket, self.store.now());
        let mut closing = self.stations(holder);
        closing.extend(self.graces.end(holder, None).map(|venue| Station { mac: holder, venue }));
        // Of what it had itself, some may have moved here.
        closing.extend(self.stations(mac));
        self.replace(&[holder, mac], &rows);
        moved(holder);
        self.reopen(closing, rows).await;
        drop(moving);
        Ok(TakenOver { from: Some(holder), session: self.session(mac, &venue) })
    }

    /// Moves what this caller's account has at other venues to the one where it is.
    async fn bring(&self, caller: &Caller, ticket: &Ticket, at: ShownAt) -> Result<(), TicketError> {
        let mac = caller.mac;
        let elsewhere = |station: &Station| station.venue != at.price.venue;
        let closing: Vec<Station> = self.stations(mac).into_iter().filter(elsewhere).collect();
        if closing.is_empty() {
            return Ok(());
        }
        {
            let (mut table, now) = (self.tickets.table(), self.store.now());
            if !table.moves.admit(mac, now) {
                return Err(TicketError::TooMany(table.moves.wait(mac, now)));
            }
        }
        let asked = caller.clone();
        let confirmed = task::blocking(move || witness::confirm(&asked)).await;
        confirmed.map_err(|_| StoreError::Closed)??;
        self.settle_for_a_move().await;
        let venue = at.price.venue.clone();
        let rows = done(self.store.bring(ticket, mac, at.price).await?)?;
        log::info!("{mac} has shown its ticket at {venue} and goes on there");
        self.replace(&[mac], &rows);
        self.reopen(closing, rows).await;
        Ok(())
    }

    /// Writes down what was used up to this moment: the remainder is about to become value elsewhere, and bytes that the
    /// last count does not know would be had twice. The kernel is asked again rather than closed first, because a move
    /// may still be refused, and closing would have cut the guest's connections for nothing. What passes while the move
    /// is committed is the guest's.
    async fn settle_for_a_move(&self) {
        self.gatekeeper().count_now().await;
        self.write_usage_now();
    }

    /// Closes all of these that have nothing any more, then opens what runs.
    async fn reopen(&self, stations: Vec<Station>, rows: Vec<SessionRow>) {
        for station in stations {
            if self.has_running(&station) {
                continue;
            }
            let text = format!("{} at {}", station.mac, station.venue);
            if let Err(err) = self.gatekeeper().close(station).await {
                log::error!("{text} has nothing any more, but the gate could not be closed yet: {err}");
            }
        }
        let access = self.clone();
        let opening = task::spawn(async move {
            for row in rows {
                access.open_for(row).await;
            }
        });
        let _ = tokio::time::timeout(OPENING, opening).await;
    }

    /// The ticket that this text is, and the MAC that holds it. A wrong one counts as a guess.
    async fn read_ticket(&self, mac: MacAddr, text: &str) -> Result<(Ticket, MacAddr), TicketError> {
        let now = self.store.now();
        {
            let mut table = self.tickets.table();
            let wait = table.guesses.wait(mac, now).max(table.shown.wait(mac, now));
            if wait > Millis::ZERO {
                return Err(TicketError::TooMany(wait));
            }
            // Counted before it is looked up, so that many at once are no more than many.
            table.shown.admit(mac, now);
            table.guesses.admit(mac, now);
        }
        let ticket = text.parse::<Ticket>().map_err(|()| TicketError::Wrong)?;
        let holder = self.store.ticket_holder(&ticket).await?;
        let (holder, _) = holder.ok_or(TicketError::Wrong)?;
        self.tickets.table().guesses.take_back(mac);
        Ok((ticket, holder))
    }
}

fn done(outcome: TakeOver) -> Result<Vec<SessionRow>, TicketError> {
    match outcome {
        TakeOver::Done(rows) => Ok(rows),
        TakeOver::Changed => Err(TicketError::Wrong),
        TakeOver::TooSoon(wait) => Err(TicketError::TooSoon(wait)),
        TakeOver::TooLittle => Err(TicketError::TooLittle),
    }
}

/// Whether the holder has left, and the caller is who it seems to be.
async fn look_around(caller: Caller, devices: Vec<String>, holder: MacAddr) -> Result<(), TicketError> {
    let looked = task::blocking(move || match witness::last_sign(&devices, holder) {
        Some(ago) if ago < THERE => Err(TicketError::InUse(THERE.saturating_sub(ago))),
        _ => witness::confirm(&caller).map_err(TicketError::Clash),
    });
    looked.await.unwrap_or(Err(TicketError::InUse(THERE)))
}

/// For people: `1 second`, `30 seconds`.
fn seconds(wait: &Millis) -> String {
    match wait.as_secs_ceil() {
        1 => "1 second".to_owned(),
        more => format!("{more} seconds"),
    }
}

impl TicketError {
    /// How long until it makes sense to try again.
    pub fn wait(&self) -> Option<Millis> {
        match self {
            TicketError::InUse(wait) | TicketError::TooSoon(wait) | TicketError::TooMany(wait) => Some(*wait),
            _ => None,
        }
    }
}
