//! The mint proxy: what a client may say about invoices and what it is answered, by WebSocket or REST.
//!
//! Words and sockets only. A request belongs to the MAC that made it and is `request_not_found` for every other one;
//! what becomes of it, and of the money, is the business of `sale::invoice`.

mod messages;
mod sockets;
mod tickets;

pub use messages::{auth_ok, new_ticket, parse_ask, shown_ticket, without_ticket, MAX_MESSAGE};
pub use sockets::{Conversation, Trust};
pub use tickets::refused as ticket_refused;

use crate::access::Access;
use crate::config::Config;
use crate::mac::MacAddr;
use crate::sale::invoice::{InvoiceEngine, Request, HELD_AT_A_TIME};
use crate::sale::SaleEvent;
use serde_json::Value;
use sockets::Sockets;
use std::sync::Arc;
use tokio::sync::watch;

/// Clones share the sockets.
#[derive(Clone)]
pub struct MintProxy(Arc<SharedProxy>);

struct SharedProxy {
    invoices: InvoiceEngine,
    access: Access,
    config: watch::Receiver<Arc<Config>>,
    sockets: Arc<Sockets>,
}

impl MintProxy {
    /// Listens to the engine from now on, and tells the guests' sockets what it hears.
    pub fn new(invoices: InvoiceEngine, access: Access, config: watch::Receiver<Arc<Config>>) -> MintProxy {
        let sockets = Arc::new(Sockets::default());
        let (told, of) = (sockets.clone(), access.clone());
        invoices.listen(move |event| tell(&told, &of, event));
        MintProxy(Arc::new(SharedProxy { invoices, access, config, sockets }))
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
        SaleEvent::ClaimRefused(request) => {
            sockets.tell(request.mac(), Some(&request.id), &messages::claim_failed(request));
        }
    }
}
