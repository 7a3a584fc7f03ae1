//! The TollGate v1 protocol: what existing clients (the captive portal site, the Android app, other routers)
//! ask of a router, in their words. HTTP-01 to HTTP-03, TIP-01, TIP-02, and `/ln-invoice`.
//!
//! Words only: it knows no HTTP beyond a status and a body, and leaves money to the engines of `sale`. Whom an answer is
//! about is decided by the caller, never by what is in a request.

mod advertisement;
mod event;
mod identity;
pub mod ln_invoice;
mod notice;
mod payment;
pub mod session;

#[cfg(test)]
pub(crate) use payment::fuzz_body;

use crate::config::Venue;
use crate::ecash::Mints;
use crate::json::json;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::sale::invoice::InvoiceEngine;
use crate::sale::token::TokenEngine;
use crate::sale::Terms;
use crate::store::Store;
use event::{Event, Tags};
use identity::Identity;
use litemap::LiteMap;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// Events that are kept signed; more than venues and codes give.
const MAX_KEPT: usize = 64;

#[derive(Clone)]
pub struct TollGate(Arc<SharedTollGate>);

struct SharedTollGate {
    store: Store,
    terms: Terms,
    invoices: InvoiceEngine,
    tokens: TokenEngine,
    mints: Mints,
    /// Or the code that says why there is no key: then nothing can be signed, and nothing is sold here.
    identity: Result<Identity, &'static str>,
    /// What was signed last for each name. A router signs slowly, and all guests ask for the same.
    signed: Mutex<LiteMap<String, (Tags, String)>>,
}

/// The client of a request.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    pub venue: &'a Venue,
    /// Unknown where the neighbour table does not have the asking address.
    pub mac: Option<MacAddr>,
    /// Where the client is; unknown for one that a program on this router asks for.
    pub caller: Option<&'a Caller>,
    /// No page of another site reads the answer: a ticket is worth what is left of the session.
    pub may_see_ticket: bool,
}

/// An answer, as HTTP will send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: ReplyBody,
    /// Seconds.
    pub retry_after: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    Empty,
    Text(String),
    Json(String),
}

impl TollGate {
    /// Loads the key, or makes it at the first start. Without it the rest goes on.
    pub async fn start(
        store: Store,
        terms: Terms,
        (invoices, tokens): (InvoiceEngine, TokenEngine),
        mints: Mints,
    ) -> TollGate {
        let identity = Identity::load(&store).await.map_err(|err| {
            log::error!("TollGate clients cannot be served: {}: {err}", err.code());
            err.code()
        });
        let signed = Mutex::default();
        TollGate(Arc::new(SharedTollGate { store, terms, invoices, tokens, mints, identity, signed }))
    }

    /// What keeps TollGate clients from being served, for the operator.
    pub fn trouble(&self) -> Option<String> {
        let code = self.0.identity.as_ref().err()?;
        Some(format!("{code}: the key that signs for TollGate clients cannot be used; they are not served"))
    }

    /// The key that it is known by, in hex; empty where it cannot be used.
    pub fn public(&self) -> &str {
        self.0.identity.as_ref().map_or("", |identity| &identity.public)
    }

    /// The body of `GET /identity`.
    pub fn identity(&self) -> Reply {
        match &self.0.identity {
            Ok(identity) => Reply::value(200, &identity.shown),
            Err(code) => closed(code),
        }
    }

    fn sign(&self, kind: u32, tags: &Tags, content: &str) -> Result<String, &'static str> {
        let identity = self.0.identity.as_ref().map_err(|code| *code)?;
        let event = Event { kind, created_at: self.0.store.wall(), tags, content };
        event.sign(&identity.key, &identity.public).ok_or("INTERNAL_ERROR")
    }

    /// Signs under a name; the same tags again are answered with the same event.
    fn sign_once(&self, name: &str, kind: u32, tags: Tags, content: &str) -> Result<String, &'static str> {
        let mut signed = self.0.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, event)) = signed.get(name).filter(|(known, _)| *known == tags) {
            return Ok(event.clone());
        }
        let event = self.sign(kind, &tags, content)?;
        if signed.len() >= MAX_KEPT {
            signed.clear();
        }
        signed.insert(name.to_owned(), (tags, event.clone()));
        Ok(event)
    }
}

impl Reply {
    pub fn new(status: u16, body: ReplyBody) -> Reply {
        Reply { status, body, retry_after: None }
    }

    pub fn with_status(self, status: u16) -> Reply {
        Reply { status, ..self }
    }

    pub fn value(status: u16, value: &Value) -> Reply {
        Reply::new(status, ReplyBody::Json(format!("{value}\n")))
    }

    /// With the reason where wallets look for it (NUT-18), beside what is there.
    pub fn with_error(self, message: &str) -> Reply {
        let ReplyBody::Json(text) = &self.body else { return self };
        let mut body: Value = serde_json::from_str(text).unwrap_or_default();
        if let Some(fields) = body.as_object_mut() {
            fields.insert("error".to_owned(), message.into());
        }
        Reply { body: ReplyBody::Json(format!("{body}\n")), ..self }
    }

    /// A signed event, or why it could not be signed.
    fn event(status: u16, event: Result<String, &'static str>) -> Reply {
        match event {
            Ok(event) => Reply::new(status, ReplyBody::Json(event)),
            Err(code) => closed(code),
        }
    }
}

/// The answer to what needs the store or the key, while they cannot be used.
pub fn closed(code: &str) -> Reply {
    let message = "this router cannot sell at the moment; please tell the operator";
    Reply::value(503, &json!({"type": "error", "code": code, "message": message, "error": message}))
}
