//! A guest's requests, and the tokens that wait, go with its account.

use super::InvoiceEngine;
use crate::access::{Access, LinkedAccount, Place, TakenOver, TicketError};
use crate::config::Venue;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::sale::event::SaleEvent;
use crate::sale::price_list;
use crate::store::{Claim, MoveRules, Reference, ShownAt, StoreError};
use crate::task;
use crate::units::Millis;
use std::future::Future;

/// What a device shows to go on with an account.
#[derive(Clone)]
pub enum Shown {
    /// A ticket's text.
    Ticket(String),
    /// A card that was tapped, or a wallet that has logged in.
    Claim(Claim),
    /// The receipt of something that was paid for: it moves any number of times, to one device at a time.
    Payment(Reference),
}

impl InvoiceEngine {
    /// Takes the account of a ticket over for this caller at this venue, with its sessions and its requests. With
    /// `is_wish` what it has at other venues moves here even if the account is this caller's already, and nothing
    /// changes if that buys no step. A caller that stops waiting does not stop it.
    pub async fn take_over(
        &self,
        caller: &Caller,
        venue: &Venue,
        ticket: &str,
        is_wish: bool,
    ) -> Result<TakenOver, TicketError> {
        self.take(caller, venue, Shown::Ticket(ticket.to_owned()), is_wish, false).await
    }

    /// The same for anything that stands for an account. It counts as the guest's wish, and is refused if nothing is
    /// left.
    pub async fn attach(
        &self,
        caller: &Caller,
        venue: &Venue,
        shown: Shown,
    ) -> Result<TakenOver, TicketError> {
        self.take(caller, venue, shown, true, true).await
    }

    /// Lets a card or a wallet claim the account of this MAC; see [`Access::link`].
    pub async fn link(&self, mac: MacAddr, claim: Claim) -> Result<LinkedAccount, TicketError> {
        let engine = self.clone();
        to_its_end(async move {
            let moved = |gone: &[MacAddr]| engine.moved(gone, mac);
            engine.0.access.link(mac, claim, engine.move_rules(), moved).await
        })
        .await
    }

    async fn take(
        &self,
        caller: &Caller,
        venue: &Venue,
        shown: Shown,
        is_wish: bool,
        wants_something: bool,
    ) -> Result<TakenOver, TicketError> {
        let (engine, caller) = (self.clone(), caller.clone());
        let at = ShownAt { price: price_list(&self.0.config.borrow(), venue), is_wish };
        to_its_end(async move {
            let config = engine.0.config.borrow().clone();
            let devices = config.venues.iter().flat_map(|venue| venue.devices.clone()).collect();
            let rules = match &shown {
                Shown::Payment(_) => MoveRules { max_devices: 1, cooldown: Millis::ZERO },
                _ => engine.move_rules(),
            };
            let place = Place { devices, at, rules, wants_something };
            let moved = |gone: &[MacAddr]| engine.moved(gone, caller.mac);
            let access: &Access = &engine.0.access;
            match shown {
                Shown::Ticket(text) => access.take_over(&caller, place, &text, moved).await,
                Shown::Claim(claim) => access.take_over_claimed(&caller, place, claim, moved).await,
                Shown::Payment(paid) => access.take_over_paid(&caller, place, paid, moved).await,
            }
        })
        .await
    }

    fn move_rules(&self) -> MoveRules {
        self.0.config.borrow().auth.as_ref().map_or_else(MoveRules::default, |auth| MoveRules {
            max_devices: auth.max_devices,
            cooldown: auth.move_cooldown,
        })
    }

    /// What these devices have asked for belongs to `to` now.
    fn moved(&self, gone: &[MacAddr], to: MacAddr) {
        let table = self.table();
        let theirs = table.requests.values().filter(|request| gone.contains(&request.mac()));
        theirs.for_each(|request| request.move_to(to));
        drop(table);
        if !gone.is_empty() {
            self.0.listeners.tell(&SaleEvent::Gone { devices: gone, to });
        }
    }
}

/// A caller that stops waiting does not stop it.
async fn to_its_end<T: Send + 'static>(
    moving: impl Future<Output = Result<T, TicketError>> + Send + 'static,
) -> Result<T, TicketError> {
    task::start(moving).await.unwrap_or(Err(TicketError::Store(StoreError::Closed)))
}
