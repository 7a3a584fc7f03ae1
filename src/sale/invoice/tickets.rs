//! The session ticket: a guest's requests, and the tokens that wait, go with its account.

use super::InvoiceEngine;
use crate::access::{TakenOver, TicketError};
use crate::config::Venue;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::sale::price_list;
use crate::store::{ShownAt, StoreError};
use crate::task;

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
        let (engine, caller, ticket) = (self.clone(), caller.clone(), ticket.to_owned());
        let at = ShownAt { price: price_list(&self.0.config.borrow(), venue), is_wish };
        let taking = task::start(async move {
            let config = engine.0.config.borrow().clone();
            let devices: Vec<_> = config.venues.iter().flat_map(|venue| venue.devices.clone()).collect();
            let moved = |from| engine.moved(from, caller.mac);
            engine.0.access.take_over(&caller, &devices, at, &ticket, moved).await
        });
        taking.await.unwrap_or(Err(TicketError::Store(StoreError::Closed)))
    }

    fn moved(&self, from: MacAddr, to: MacAddr) {
        let table = self.table();
        table
            .requests
            .values()
            .filter(|request| request.mac() == from)
            .for_each(|request| request.move_to(to));
    }
}
