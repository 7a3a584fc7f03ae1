//! Answers that are the same for every caller: files of the portal, the way to it, and what monitoring asks.

use super::answer::{self, Answer};
use super::entrance::{own_address, with_host, Entrance};
use super::refusals::error;
use super::Edge;
use crate::json::json;
use crate::portal;
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;

pub fn style(_: &Edge, _: &Entrance) -> Answer {
    answer::asset("text/css; charset=utf-8", portal::STYLE)
}

pub fn script(_: &Edge, _: &Entrance) -> Answer {
    answer::asset("text/javascript; charset=utf-8", portal::SCRIPT)
}

/// At the address that a refused form leaves in the browser.
pub fn form_again(_: &Edge, _: &Entrance) -> Answer {
    answer::redirect(StatusCode::SEE_OTHER, "/")
}

/// The whole answer to what nft has redirected from port 80: a way to the portal under our own address.
/// An OS that probes for a captive portal sees by it that there is one.
pub fn to_the_portal(edge: &Edge, at: &Entrance) -> Answer {
    let Some(own) = own_address(at.device(), at.local, at.peer) else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "no_address", "the router has no address here yet");
    };
    let mut answer = answer::redirect(StatusCode::FOUND, &with_host(own, edge.site.config().main.port));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

pub fn live(_: &Edge, _: &Entrance) -> Answer {
    answer::json(StatusCode::OK, &json!({"live": true}))
}

pub fn ready(edge: &Edge, _: &Entrance) -> Answer {
    let reasons = edge.site.not_ready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(status, &json!({"ready": reasons.is_empty(), "reasons": reasons}))
}

pub fn health(_: &Edge, _: &Entrance) -> Answer {
    answer::text(StatusCode::OK, "OK")
}

pub fn stats(edge: &Edge, _: &Entrance) -> Answer {
    let site = &edge.site;
    let stats = match &site.shop {
        Ok(shop) => {
            let (requests, unpaid) = shop.invoices.counts();
            json!({
                "sockets": shop.mint_proxy.sockets().count(),
                "connections": site.connections(),
                "requests": requests,
                "unpaid": unpaid,
                "sessions": shop.access.running().len(),
            })
        }
        Err(closed) => json!({"connections": site.connections(), "closed": closed.code}),
    };
    answer::json(StatusCode::OK, &stats)
}
