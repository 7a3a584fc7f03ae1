//! The TollGate protocol's paths: what each answers.

use super::answer::{self, Answer};
use super::asker::Asker;
use super::bodies::{ReadBody, Text, Unread};
use super::entrance::{field, is_json, Entrance};
use super::refusals;
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::access::Session;
use crate::shop::{Shop, Site};
use crate::tollgate::{self, ln_invoice, session, Reply, ReplyBody, TollGate};
use hyper::header;
use hyper::StatusCode;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Twice the longest token that is read.
const KEPT_PAYMENT: usize = 128 * 1024;
/// Longer than a token of twenty proofs. Longer ones need a place: memory is scarce, and connections are many.
const SHORT_PAYMENT: usize = 8 * 1024;

pub fn preflight(_: &Edge, _: &Entrance) -> Answer {
    render(Reply::new(200, ReplyBody::Empty))
}

/// No path is posted to but those of the protocol.
pub fn nothing(_: &Edge, _: &Entrance) -> Answer {
    refusals::not_found("/")
}

/// Any other answer to `CONNECT` would be a tunnel.
pub fn no_tunnel(_: &Edge, _: &Entrance) -> Answer {
    refusals::method_not_allowed("/", ["GET", "POST", "OPTIONS"].into_iter())
}

/// To a page that may not read the protocol's answers.
pub fn foreign_page() -> Answer {
    render(ln_invoice::closed_invoice(true).with_status(403))
}

pub fn pay(edge: Arc<Edge>, asker: Asker, sent: Sent) -> Answering {
    Box::pin(async move { render(paid(&edge, &asker, sent).await) })
}

pub fn advertisement(edge: Arc<Edge>, asker: Asker, _: Sent) -> Answering {
    at_once(match tollgate(&edge.site) {
        Ok(tollgate) => tollgate.advertisement(&asker.config, &asker.venue),
        Err(closed) => closed,
    })
}

pub fn whoami(_: Arc<Edge>, asker: Asker, _: Sent) -> Answering {
    at_once(match asker.mac {
        Some(mac) => Reply::new(200, ReplyBody::Text(format!("mac={mac}"))),
        None => Reply::new(500, ReplyBody::Empty),
    })
}

pub fn usage(edge: Arc<Edge>, asker: Asker, _: Sent) -> Answering {
    let session = edge.site.shop.as_ref().ok().and_then(|shop| session_of(shop, &asker));
    at_once(Reply::new(200, ReplyBody::Text(session::usage(session.as_ref()))))
}

pub fn balance(edge: Arc<Edge>, asker: Asker, _: Sent) -> Answering {
    at_once(match &edge.site.shop {
        Ok(shop) => Reply::value(200, &session::balance(session_of(shop, &asker).as_ref())),
        Err(_) => Reply::value(500, &session::no_balance()),
    })
}

pub fn session_state(edge: Arc<Edge>, asker: Asker, _: Sent) -> Answering {
    at_once(match &edge.site.shop {
        Ok(shop) => {
            let of = |mac| shop.invoices.unfinished_access(mac, &asker.venue.id);
            let unfinished = asker.mac.and_then(of);
            let session = session_of(shop, &asker);
            Reply::value(200, &session::state(asker.mac, session.as_ref(), unfinished.as_deref()))
        }
        Err(closed) => tollgate::closed(closed.code),
    })
}

pub fn identity(edge: Arc<Edge>, _: Asker, _: Sent) -> Answering {
    at_once(match tollgate(&edge.site) {
        Ok(tollgate) => tollgate.identity(),
        Err(closed) => closed,
    })
}

pub fn new_invoice(edge: Arc<Edge>, asker: Asker, sent: Sent) -> Answering {
    Box::pin(async move {
        render(match (sent.text().await, tollgate(&edge.site)) {
            (Err(_), _) => ln_invoice::refused_invoice(400, "invalid request body"),
            (Ok(text), Ok(tollgate)) => tollgate.new_invoice(&asker.client(), &text).await,
            (Ok(_), Err(_)) => ln_invoice::closed_invoice(true),
        })
    })
}

pub fn invoice(edge: Arc<Edge>, asker: Asker, _: Sent) -> Answering {
    Box::pin(async move {
        render(match tollgate(&edge.site) {
            Ok(tollgate) => tollgate.invoice_status(&asker.client(), field(&asker.query, "quote")).await,
            Err(_) => ln_invoice::closed_invoice(false),
        })
    })
}

async fn paid(edge: &Edge, asker: &Asker, sent: Sent) -> Reply {
    let tollgate = match tollgate(&edge.site) {
        Ok(tollgate) => tollgate,
        Err(closed) => return closed,
    };
    if let Some(Err(wait)) = asker.mac.map(|mac| tollgate.may_pay(mac)) {
        return TollGate::too_fast(wait);
    }
    let mut place = None;
    let is_json = is_json(sent.headers());
    let unread = match payment(edge, sent, &mut place).await {
        Ok(Some(text)) => {
            let (text, _hold) = text.apart();
            return tollgate.pay(&asker.client(), Some(text)).await;
        }
        Ok(None) => tollgate.pay(&asker.client(), None).await,
        Err(Unread::TooLong | Unread::Broken) => {
            tollgate.unreadable(&asker.client(), "it is too large, or was not sent whole")
        }
        Err(Unread::Late) => tollgate.unreadable(&asker.client(), "it did not arrive"),
        Err(Unread::Crowded) => tollgate.crowded(&asker.client()),
    };
    // It may be a wallet's.
    match is_json {
        true => unread.with_error("the payment could not be read; nothing was taken"),
        false => unread,
    }
}

/// The body of a payment. Up to the limit it is read, but no longer kept than any token is (`None`). What is longer
/// than usual holds a place for as long as its caller keeps it.
async fn payment(
    edge: &Edge,
    sent: Sent,
    place: &mut Option<OwnedSemaphorePermit>,
) -> Result<Option<Text>, Unread> {
    let body = sent.read_if(|length| {
        if length > KEPT_PAYMENT {
            *place = None;
            return Ok(false);
        }
        if length > SHORT_PAYMENT && place.is_none() {
            let free = edge.long_payments.clone().try_acquire_owned();
            *place = Some(free.map_err(|_| Unread::Crowded)?);
        }
        Ok(true)
    });
    Ok(body.await?.map(ReadBody::into_text_lossy))
}

fn session_of(shop: &Shop, asker: &Asker) -> Option<Session> {
    shop.access.session(asker.mac?, &asker.venue.id)
}

fn tollgate(site: &Site) -> Result<&TollGate, Reply> {
    site.shop.as_ref().map(|shop| &shop.tollgate).map_err(|closed| tollgate::closed(closed.code))
}

fn at_once(reply: Reply) -> Answering {
    Box::pin(std::future::ready(render(reply)))
}

fn render(reply: Reply) -> Answer {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = match reply.body {
        ReplyBody::Empty => answer::empty(status),
        ReplyBody::Text(text) => answer::text(status, &text),
        ReplyBody::Json(json) => answer::ready_json(status, json),
    };
    if let Some(seconds) = reply.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}
