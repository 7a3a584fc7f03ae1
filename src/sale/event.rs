//! The events of an engine. The engine does not know its listeners, and never waits for them.

use super::invoice::{Part, Progress, Request};
use crate::mac::MacAddr;
use std::sync::{PoisonError, RwLock};

/// Something that guests should hear of. It is committed already.
pub enum SaleEvent<'a> {
    /// The invoices of a new request are here.
    Invoiced(&'a Request),
    /// A part of a request has come further than `from`.
    Moved { request: &'a Request, part: &'a Part, from: Progress },
    /// The mint has the payment of a request and refuses to hand out its tokens; it is asked again.
    ClaimRefused(&'a Request),
    /// These devices had to go: what they had is at `to` now.
    Gone { devices: &'a [MacAddr], to: MacAddr },
}

type Listener = Box<dyn Fn(&SaleEvent<'_>) + Send + Sync>;

/// Who listens to an engine. A listener is called where the event happens, so it only puts it down and returns.
#[derive(Default)]
pub struct SaleListeners(RwLock<Vec<Listener>>);

impl SaleListeners {
    pub fn add(&self, listener: impl Fn(&SaleEvent<'_>) + Send + Sync + 'static) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    pub fn tell(&self, event: &SaleEvent<'_>) {
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().for_each(|listener| listener(event));
    }
}
