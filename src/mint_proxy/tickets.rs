//! The session ticket at the mint proxy: when it has to be shown, and the code of a refused one.

use super::error::{Code, ProxyError};
use super::MintProxy;
use crate::access::TicketError;
use crate::config::MintProxyAuth;
use crate::mac::MacAddr;
use crate::sale::SaleError;

impl MintProxy {
    /// Whether this MAC has to show its ticket here.
    pub async fn needs_ticket(&self, mac: MacAddr) -> bool {
        let is_asked_for = self.0.config.borrow().main.mint_proxy_auth == MintProxyAuth::Ticket;
        // A store that cannot be read sells nothing anyway.
        is_asked_for && self.0.access.has_ticket(mac).await.unwrap_or(true)
    }

    /// Refuses a MAC that has to show its ticket and has shown none, or a wrong one.
    pub async fn check_ticket(&self, mac: MacAddr, shown: Option<&str>) -> Result<(), ProxyError> {
        match shown {
            _ if !self.needs_ticket(mac).await => Ok(()),
            Some(ticket) => self.0.access.check_ticket(mac, ticket).await.map_err(|err| refused_ticket(&err)),
            None => Err(ticket_needed()),
        }
    }
}

pub(super) fn ticket_needed() -> ProxyError {
    ProxyError::new(Code::InvalidTicket, "this device has to show its session ticket first")
}

/// A refused ticket, as the guest is told.
pub fn refused_ticket(error: &TicketError) -> ProxyError {
    let code = match error {
        TicketError::Wrong => Code::InvalidTicket,
        TicketError::InUse(_) => Code::TicketInUse,
        TicketError::TooSoon(_) | TicketError::TooMany(_) | TicketError::TooManyClaims => Code::RateLimited,
        TicketError::NothingPaid | TicketError::NothingLeft => Code::RequestNotFound,
        TicketError::TooLittle => Code::TooLittle,
        TicketError::Clash(clash) => {
            log::warn!("a ticket is refused: {clash}");
            Code::AddressClash
        }
        TicketError::Store(error) => return SaleError::Closed(error.code()).into(),
    };
    ProxyError::new(code, error.to_string())
}
