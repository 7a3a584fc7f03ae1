//! The session ticket at the mint proxy: a guest's requests, and the tokens that wait, go with its account.

use super::messages::{Code, ProxyError};
use super::{closed, delivery, MintProxy};
use crate::access::{price_list, Taken, TicketError};
use crate::config::{MintProxyAuth, Venue};
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::store::{ShownAt, StoreError};
use crate::task;

impl MintProxy {
    /// Takes the account of a ticket over for this caller at this venue, with its sessions and its requests. With
    /// `is_wish` what it has at other venues moves here even if the account is this caller's already, and nothing
    /// changes if that buys no step. A caller that stops waiting does not stop it.
    pub async fn take_over(
        &self,
        caller: &Caller,
        venue: &Venue,
        ticket: &str,
        is_wish: bool,
    ) -> Result<Taken, TicketError> {
        let (proxy, caller, ticket) = (self.clone(), caller.clone(), ticket.to_owned());
        let at = ShownAt { price: price_list(&self.0.config.borrow(), venue), is_wish };
        let taking = task::start(async move {
            let config = proxy.0.config.borrow().clone();
            let devices: Vec<_> = config.venues.iter().flat_map(|venue| venue.devices.clone()).collect();
            let moved = |from| proxy.moved(from, caller.mac);
            proxy.0.access.take_over(&caller, &devices, at, &ticket, moved).await
        });
        taking.await.unwrap_or(Err(TicketError::Store(StoreError::Closed)))
    }

    /// Pushes the tokens that wait for a guest to all its sockets.
    pub async fn deliver(&self, mac: MacAddr) {
        let waiting = self.undelivered(mac).await;
        for some in waiting.chunks(delivery::AT_A_TIME) {
            for message in self.delivery(some).await {
                self.sockets().tell(mac, None, &message);
            }
        }
    }

    /// Whether this MAC has to show its ticket here.
    pub async fn needs_ticket(&self, mac: MacAddr) -> bool {
        let is_asked_for = self.0.config.borrow().main.mint_proxy_auth == MintProxyAuth::Ticket;
        // A store that cannot be read answers nobody anyway.
        is_asked_for && self.0.store.has_ticket(mac).await.unwrap_or(true)
    }

    /// Refuses a MAC that has to show its ticket and has shown none, or a wrong one.
    pub async fn check_ticket(&self, mac: MacAddr, shown: Option<&str>) -> Result<(), ProxyError> {
        match shown {
            _ if !self.needs_ticket(mac).await => Ok(()),
            Some(ticket) => self.0.access.check_ticket(mac, ticket).await.map_err(|err| refused(&err)),
            None => Err(ticket_needed()),
        }
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

pub(super) fn ticket_needed() -> ProxyError {
    ProxyError::new(Code::InvalidTicket, "this device has to show its session ticket first")
}

/// A refused ticket, as the guest is told.
pub fn refused(error: &TicketError) -> ProxyError {
    let code = match error {
        TicketError::Wrong => Code::InvalidTicket,
        TicketError::InUse(_) => Code::TicketInUse,
        TicketError::TooSoon(_) | TicketError::TooMany(_) => Code::RateLimited,
        TicketError::NothingPaid => Code::RequestNotFound,
        TicketError::TooLittle => Code::TooLittle,
        TicketError::Clash(clash) => {
            log::warn!("a ticket is refused: {clash}");
            Code::AddressClash
        }
        TicketError::Store(error) => return closed(error),
    };
    ProxyError::new(code, error.to_string())
}
