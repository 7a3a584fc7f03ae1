//! The mint proxy: what a client may say about invoices and what it is answered, by WebSocket or REST.
//!
//! Words and sockets only. A request belongs to the MAC that made it and is `request_not_found` for every other one;
//! what becomes of it, and of the money, is the business of `sale::invoice`.

mod error;
mod messages;
mod sockets;
mod tickets;
mod vouchers;

pub use error::{Code, ProxyError};
#[cfg(test)]
pub(crate) use messages::fuzz_message;
pub use messages::{auth_ok, new_ticket, parse_ask, shown_ticket, without_ticket, MAX_MESSAGE};
pub use sockets::{Conversation, Trust};
pub use tickets::refused_ticket;

use crate::access::Access;
use crate::config::Config;
use crate::config::Venue;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::sale::invoice::{Ask, InvoiceEngine, Opened, Request, HELD_AT_A_TIME};
use crate::sale::{SaleError, SaleEvent};
use crate::store::RequestId;
use crate::vouchers::MintDesk;
use serde_json::Value;
use sockets::Sockets;
use std::sync::Arc;
use tokio::sync::watch;
use vouchers::VoucherWatches;

/// Clones share the sockets.
#[derive(Clone)]
pub struct MintProxy(Arc<SharedProxy>);

struct SharedProxy {
    invoices: InvoiceEngine,
    access: Access,
    config: watch::Receiver<Arc<Config>>,
    sockets: Arc<Sockets>,
    desk: MintDesk,
    /// Who is told of changes of vouchers.
    vouchers: VoucherWatches,
}

impl MintProxy {
    /// Listens to the engine from now on, and tells the guests' sockets what it hears.
    pub fn new(
        invoices: InvoiceEngine,
        access: Access,
        config: watch::Receiver<Arc<Config>>,
        desk: MintDesk,
    ) -> MintProxy {
        let sockets = Arc::new(Sockets::default());
        let (told, of) = (sockets.clone(), access.clone());
        invoices.listen(move |event| tell(&told, &of, event));
        let vouchers = VoucherWatches::default();
        MintProxy(Arc::new(SharedProxy { invoices, access, config, sockets, desk, vouchers }))
    }

    /// Opens a request for this caller, or finds the identical one that is still unpaid; returns when the invoices are
    /// there.
    pub async fn open(&self, caller: &Caller, venue: &Venue, ask: Ask) -> Result<Opened, ProxyError> {
        let begun = self.0.invoices.begin(caller, venue, ask)?;
        let id = begun.request.id.clone();
        self.0.invoices.opened(begun).await.map_err(|error| ProxyError::from(error).about(&id))
    }

    /// A request of this MAC, for a client that may ask at any pace.
    pub async fn status_asked(&self, mac: MacAddr, id: &RequestId) -> Result<Arc<Request>, ProxyError> {
        self.0.invoices.status_asked(mac, id).await.map_err(|error| told_about(error, id))
    }

    /// The guest says that the tokens are safe: those of one part, or all that are here.
    pub async fn ack(&self, mac: MacAddr, id: &RequestId, position: Option<u32>) -> Result<(), ProxyError> {
        self.0.invoices.ack(mac, id, position).await.map_err(|error| told_about(error, id))
    }

    /// The one object that the REST fallback answers about a request.
    pub fn answer(&self, request: &Request) -> Value {
        messages::answer(request, &self.0.access)
    }

    /// Pushes the tokens that wait for a guest to all its sockets.
    pub async fn deliver(&self, mac: MacAddr) {
        let waiting = self.0.invoices.undelivered(mac).await;
        for some in waiting.chunks(HELD_AT_A_TIME) {
            for held in self.0.invoices.held_tokens(some).await {
                if let Some(message) = self.delivery(&held) {
                    self.0.sockets.tell(mac, None, &message);
                }
            }
        }
    }

    pub fn sockets(&self) -> &Sockets {
        &self.0.sockets
    }
}

/// A shop that is closed is so for every request.
fn told_about(error: SaleError, id: &RequestId) -> ProxyError {
    match error {
        SaleError::Closed(_) => error.into(),
        error => ProxyError::from(error).about(id),
    }
}

fn tell(sockets: &Sockets, access: &Access, event: &SaleEvent<'_>) {
    match event {
        SaleEvent::Invoiced(request) => {
            for message in messages::of_request(request, access) {
                sockets.tell(request.mac(), Some(&request.id), &message);
            }
        }
        SaleEvent::Moved { request, part, from } => {
            let before = messages::of_part(request, part, from, access);
            let message = messages::of_part(request, part, &part.progress(), access);
            if message != before {
                sockets.tell(request.mac(), Some(&request.id), &message);
            }
        }
        // Its requests are told of where they are now.
        SaleEvent::Gone { .. } => {}
        SaleEvent::ClaimRefused(request) => {
            sockets.tell(request.mac(), Some(&request.id), &messages::claim_failed(request));
        }
    }
}
