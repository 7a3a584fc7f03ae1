//! Session tickets: a guest who shows one goes on with what its account has; see `moves` for how.
//!
//! Refused: a ticket for which a device would have to go that is still there, since then the ticket was copied; and
//! guessing. The paying MAC can have a new ticket, which voids the old one.

use super::Access;
use crate::mac::MacAddr;
use crate::network::witness::Clash;
use crate::pace::Pace;
use crate::store::{AccountKey, AccountRow, StoreError, Ticket};
use crate::units::Millis;
use litemap::LiteMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Wrong tickets per MAC. Nobody can guess 128 random bits: this limits our work, and leaves room for typing errors.
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
    #[error("nothing is left to go on with")]
    NothingLeft,
    #[error("this account has as many wallets and cards as it may have")]
    TooManyClaims,
    #[error("what is left is worth less than the smallest step here; it stays where it was paid")]
    TooLittle,
    #[error("two devices use your network address; turn Wi-Fi off and on again")]
    Clash(#[from] Clash),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known about tickets besides the store.
pub(super) struct Tickets {
    table: Mutex<Table>,
    /// Moves go one at a time: what was looked at is still so when it is done.
    pub(super) moving: tokio::sync::Mutex<()>,
    /// Held from a move's commit until the table of sessions has it.
    pub(super) committing: tokio::sync::Mutex<()>,
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
        let (moving, committing) = Default::default();
        Tickets { table: Mutex::new(table), moving, committing }
    }
}

impl Tickets {
    pub fn remember(&self, mac: MacAddr, ticket: Ticket, now: Millis) {
        self.table().clear.insert(mac, (ticket, now));
    }

    /// This MAC's account is another one now, or none.
    pub fn drop_of(&self, mac: MacAddr) {
        self.table().clear.remove(&mac);
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
            (_, account) if account.devices.contains(&mac) => Ok(()),
            _ => Err(TicketError::Wrong),
        }
    }

    /// Whether this MAC may show something more; each time costs a look into the kernel.
    pub(super) fn may_show(&self, mac: MacAddr) -> Result<(), TicketError> {
        let (mut table, now) = (self.tickets.table(), self.store.now());
        match table.shown.admit(mac, now) {
            true => Ok(()),
            false => Err(TicketError::TooMany(table.shown.wait(mac, now))),
        }
    }

    /// The same for a move between venues.
    pub(super) fn may_wander(&self, mac: MacAddr) -> Result<(), TicketError> {
        let (mut table, now) = (self.tickets.table(), self.store.now());
        match table.moves.admit(mac, now) {
            true => Ok(()),
            false => Err(TicketError::TooMany(table.moves.wait(mac, now))),
        }
    }

    /// The ticket that this text is, and its account as this MAC sees it. A wrong one counts as a guess.
    pub(super) async fn read_ticket(
        &self,
        mac: MacAddr,
        text: &str,
    ) -> Result<(Ticket, AccountRow), TicketError> {
        let now = self.store.now();
        {
            let mut table = self.tickets.table();
            let wait = table.guesses.wait(mac, now).max(table.shown.wait(mac, now));
            if wait > Millis::ZERO {
                return Err(TicketError::TooMany(wait));
            }
            // Counted before it is looked up, so that attempts made at the same time are all counted.
            table.shown.admit(mac, now);
            table.guesses.admit(mac, now);
        }
        let ticket = text.parse::<Ticket>().map_err(|()| TicketError::Wrong)?;
        let account = self.store.account(&AccountKey::Ticket(ticket.clone()), mac).await?;
        let account = account.ok_or(TicketError::Wrong)?;
        self.tickets.table().guesses.take_back(mac);
        Ok((ticket, account))
    }
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
